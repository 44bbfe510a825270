//! A collection of random vectors to measure searches with: a real catalogue in a folder of its own, searched as any other.

mod made;

use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;

use super::Watch;
use super::search::{Query, SearchOutcome, SearchRequest, search};
use crate::error::{Error, Result};
use crate::index::calibration::{ImageCalibration, dot};
use crate::index::{
    Catalogue, Content, FileOutcome, FileRecord, Filter, Part, Ranked, Role, SetInfo, SetKey, VectorCache,
};
use made::Draws;
pub use made::Made;

/// Best rows that are asked for and compared.
pub const TOP: usize = 50;
/// Different queries.
pub const QUERIES: usize = 40;

/// Rows that are made and stored at once.
const BATCH: usize = 4096;
/// Files in a folder.
const FILES: usize = 1000;
/// Bytes of each file.
const FILE: &[u8] = b"x";

/// A catalogue of random unit vectors, and what an exact ranking of them is. The folder goes when this is dropped.
#[derive(Debug)]
pub struct SearchBench {
    folder: PathBuf,
    catalogue: Catalogue,
    set: SetInfo,
    cache: VectorCache,
    queries: Vec<Vec<f32>>,
    /// For each query the best rows, from unrounded vectors.
    truth: Vec<Vec<usize>>,
    /// Seconds that the vector file and the list of files took to write, from the filled database.
    pub build_s: f64,
    /// Seconds that the graph took; 0 without one.
    pub link_s: f64,
    /// Searches compare with every vector, also where there is a graph.
    pub exact: bool,
    made: Made,
}

impl SearchBench {
    /// Makes a catalogue of `vectors` vectors of `dim` numbers in a new folder under `parent`.
    ///
    /// # Errors
    /// The disk or the database fails; the caller cancelled.
    pub fn build(vectors: usize, dim: usize, made: Made, parent: &Path, watch: &Watch<'_>) -> Result<Self> {
        let folder = parent.join(format!("clip-aware-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        // Paths are compared by bytes: a link on the way to the folder must not be in them.
        let folder = folder.canonicalize().map_err(Error::io("resolve", &folder))?;
        let catalogue = Catalogue::open(&folder.join("data"))?;
        let key = SetKey {
            model: "bench".into(),
            revision: "1".into(),
            precision: "f32".into(),
            dim,
            preprocessing: "none".into(),
        };
        let set = catalogue.ensure_set(&key)?;
        let queries: Vec<Vec<f32>> = (0..QUERIES).map(|query| made.query(dim, u64::MAX - query as u64)).collect();
        let mut bench = Self {
            folder,
            catalogue,
            set,
            cache: VectorCache::default(),
            queries,
            truth: Vec::new(),
            build_s: 0.0,
            link_s: 0.0,
            exact: false,
            made,
        };
        bench.lay_out_files(vectors)?;
        bench.fill(vectors, watch)?;
        let started = Instant::now();
        VectorCache::refresh(&bench.catalogue, &bench.set)?;
        bench.build_s = started.elapsed().as_secs_f64();
        if made == Made::OfThings {
            let started = Instant::now();
            VectorCache::link(&bench.catalogue, &bench.set, 0, &mut |_, _| watch.check().is_ok())?;
            watch.check()?;
            bench.link_s = started.elapsed().as_secs_f64();
        }
        Ok(bench)
    }

    /// Folders of files, so that hits are there. One folder of real files under many names serves where links can be had.
    fn lay_out_files(&self, vectors: usize) -> Result<()> {
        let fill = |folder: &Path, files: usize| {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            (0..files).try_for_each(|file| {
                let path = folder.join(file_name(file));
                std::fs::write(&path, FILE).map_err(Error::io("write", &path))
            })
        };
        let real = self.folder.join("files");
        fill(&real, vectors.min(FILES))?;
        for number in 0..vectors.div_ceil(FILES) {
            let folder = self.photos().join(folder_name(number));
            std::fs::create_dir_all(self.photos()).map_err(Error::io("create", &self.photos()))?;
            #[cfg(unix)]
            std::os::unix::fs::symlink(&real, &folder).map_err(Error::io("link", &folder))?;
            #[cfg(not(unix))]
            fill(&folder, FILES.min(vectors - number * FILES))?;
        }
        Ok(())
    }

    fn photos(&self) -> PathBuf {
        self.folder.join("photos")
    }

    /// Stores the vectors as an index run does, and finds out what the exact answers are.
    fn fill(&mut self, vectors: usize, watch: &Watch<'_>) -> Result<()> {
        let photos = self.photos();
        let mut best: Vec<Vec<(f32, usize)>> = vec![Vec::new(); QUERIES];
        for first in (0..vectors).step_by(BATCH) {
            watch.check()?;
            let numbers = first..vectors.min(first + BATCH);
            let (made, dim) = (self.made, self.set.key.dim);
            let records: Vec<FileRecord> = numbers.into_par_iter().map(|row| record(&photos, made, dim, row)).collect();
            best.par_iter_mut().zip(&self.queries).for_each(|(best, query)| {
                best.extend(records.iter().enumerate().map(|(row, record)| (score(record, query), first + row)));
                best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
                best.truncate(TOP);
            });
            self.catalogue.write_batch(&self.set, &records)?;
        }
        self.truth = best.into_iter().map(|best| best.into_iter().map(|(_, row)| row).collect()).collect();
        self.set = self.catalogue.find_set(&self.set.key)?.unwrap_or_else(|| self.set.clone());
        Ok(())
    }

    /// One search as a caller's, without the model: what is in reach, the scan, the ranking, the files of the hits.
    /// `query` counts round.
    ///
    /// # Errors
    /// The database fails.
    pub fn search(&self, query: usize, filter: &Filter) -> Result<SearchOutcome> {
        search(&self.catalogue, &self.cache, &self.set, &self.request(query, filter))
    }

    /// The same search with nothing open: what a new process does.
    ///
    /// # Errors
    /// The database fails.
    pub fn first_search(&self, query: usize) -> Result<SearchOutcome> {
        let catalogue = Catalogue::open(self.catalogue.data_dir())?;
        let set = catalogue.find_set(&self.set.key)?.unwrap_or_else(|| self.set.clone());
        search(&catalogue, &VectorCache::default(), &set, &self.request(query, &self.everything()))
    }

    /// The scan and the ranking alone, with `parts` queries at once, over all rows.
    ///
    /// # Errors
    /// The database fails.
    pub fn rank(&self, query: usize, parts: usize) -> Result<Vec<Ranked>> {
        let view = self.cache.view(&self.catalogue, &self.set)?;
        let reach = view.reach(&self.everything());
        let texts = (0..parts).filter_map(|part| self.queries.get((query + part) % QUERIES));
        let parts: Vec<Part<'_>> = texts.map(|vector| Part { vector, role: Role::Text { weight: 1.0 } }).collect();
        let vectors = view.vectors();
        let ranking = if self.exact { vectors.rank(&parts) } else { vectors.rank_by_graph(&parts) };
        Ok(ranking.best(&reach.rows, TOP))
    }

    /// Everything under the folder of photos, as a search in a root.
    pub fn everything(&self) -> Filter {
        Filter { under: vec![self.photos()], ..Filter::default() }
    }

    /// About one row in `part`, by the pictures' widths.
    pub fn one_in(&self, part: u32) -> Filter {
        Filter { max_width: Some(WIDTHS / part), ..self.everything() }
    }

    fn request(&self, query: usize, filter: &Filter) -> SearchRequest {
        let text = self.queries.get(query % QUERIES).cloned().unwrap_or_default();
        SearchRequest {
            query: Query { texts: vec![(text, 1.0)], ..Query::default() },
            filter: filter.clone(),
            top_k: TOP,
            min_relevance: Some(0.0),
            group_duplicates: false,
            exact: self.exact,
        }
    }

    /// Share of the rows which an exact search under a filter finds that this one finds, over all queries.
    ///
    /// # Errors
    /// The database fails.
    pub fn recall_under(&mut self, filter: &Filter) -> Result<f64> {
        let (mut found, mut all) = (0, 0);
        for query in 0..QUERIES {
            let exact = self.exact;
            self.exact = true;
            let truth = self.search(query, filter);
            self.exact = exact;
            let hits = self.search(query, filter)?.hits;
            let truth = truth?.hits;
            found += truth.iter().filter(|hit| hits.iter().any(|other| other.file.path == hit.file.path)).count();
            all += truth.len();
        }
        Ok(found as f64 / f64::max(all as f64, 1.0))
    }

    /// Share of the exact best `top` rows that searches find, over all queries.
    ///
    /// # Errors
    /// The database fails.
    pub fn recall(&self, top: usize) -> Result<f64> {
        let (mut found, mut all) = (0, 0);
        for (query, truth) in self.truth.iter().enumerate() {
            let truth = truth.get(..top).unwrap_or(truth);
            let hits = self.search(query, &self.everything())?.hits;
            let rows: Vec<Option<usize>> = hits.iter().take(top).map(|hit| number_of(&hit.file.path)).collect();
            found += truth.iter().filter(|row| rows.contains(&Some(**row))).count();
            all += truth.len();
        }
        Ok(found as f64 / f64::max(all as f64, 1.0))
    }

    /// Bytes of the vector file and the list of files.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn file_bytes(&self) -> Result<u64> {
        let folder = self.catalogue.data_dir();
        let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
        let mapped = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "bin"));
        Ok(mapped.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum())
    }
}

impl Drop for SearchBench {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// Memory of this process that is in use now, mapped files included, bytes; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn file_name(file: usize) -> String {
    format!("{file:03}.jpg")
}

fn folder_name(folder: usize) -> String {
    format!("{folder:06}")
}

/// The row of a path.
fn number_of(path: &Path) -> Option<usize> {
    let file: usize = path.file_stem()?.to_str()?.parse().ok()?;
    let folder: usize = path.parent()?.file_name()?.to_str()?.parse().ok()?;
    Some(folder * FILES + file)
}

/// Pictures are 1 to so many pixels wide, as often as the other.
const WIDTHS: u32 = 1000;

fn record(photos: &Path, made: Made, dim: usize, row: usize) -> FileRecord {
    let mut hash = [0; 32];
    for (slot, byte) in hash.iter_mut().zip((row as u64).to_be_bytes()) {
        *slot = byte;
    }
    let mut draws = Draws::seeded(!(row as u64) ^ 0x5bd1_e995);
    // Levels and spreads that differ between images, as those of real ones do.
    let spread = (dim as f32).sqrt().recip();
    let calibration =
        ImageCalibration { mean: 0.3 * spread * draws.normal(), spread: spread * (1.0 + 0.1 * draws.uniform()) };
    let content = Content {
        hash,
        width: 1 + (draws.next() % u64::from(WIDTHS)) as u32,
        height: 600,
        format: "jpeg".into(),
        taken_at: None,
        look: draws.next(),
    };
    FileRecord {
        path: photos.join(folder_name(row / FILES)).join(file_name(row % FILES)),
        size: FILE.len() as u64,
        mtime_ns: 0,
        outcome: FileOutcome::Embedded { content, vector: made.photo(dim, row as u64), calibration },
    }
}

/// What a search ranks by, from unrounded numbers.
fn score(record: &FileRecord, query: &[f32]) -> f32 {
    match &record.outcome {
        FileOutcome::Embedded { vector, calibration, .. } => calibration.normalise(dot(vector, query)),
        _ => f32::NEG_INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn searches_find_the_exact_best_and_the_folder_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = AtomicBool::new(false);
        let watch = Watch { progress: &|_| {}, cancel: &cancel };
        // More rows than are all computed exactly, so that the high plane is what decides.
        let bench = SearchBench::build(20_000, 64, Made::AtRandom, dir.path(), &watch).unwrap();
        assert!(bench.recall(10).unwrap() >= 0.999 && bench.recall(TOP).unwrap() >= 0.999);
        let outcome = bench.search(3, &bench.everything()).unwrap();
        assert_eq!((outcome.hits.len(), outcome.indexed, outcome.considered), (TOP, 20_000, 20_000));
        assert_eq!(outcome.hits, bench.first_search(3).unwrap().hits);
        let some = bench.search(3, &bench.one_in(100)).unwrap();
        assert!((100..400).contains(&some.considered) && some.hits.iter().all(|hit| hit.file.width <= 10));
        assert_eq!(bench.rank(3, 3).unwrap().len(), TOP);
        drop(bench);
        let mut linked = SearchBench::build(20_000, 64, Made::OfThings, dir.path(), &watch).unwrap();
        let half = linked.one_in(2);
        assert!(
            linked.link_s > 0.0 && linked.recall(10).unwrap() >= 0.95 && linked.recall_under(&half).unwrap() >= 0.95
        );
        drop(linked);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        let cancelled = SearchBench::build(10, 8, Made::AtRandom, dir.path(), &watch).unwrap_err();
        assert!(matches!(cancelled, Error::Cancelled));
    }
}

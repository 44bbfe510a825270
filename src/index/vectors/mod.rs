//! The vectors of one set, ready to be scanned: a memory-mapped file plus what was added since it was written.

mod file;
mod fixed;
mod graph;
mod kernel;
mod ranking;
mod rows;
mod rowset;
mod sweep;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rusqlite::params;

use super::calibration::ImageCalibration;
use super::catalogue::Catalogue;
use super::places::{Places, View};
use super::sets::SetInfo;
use crate::error::Result;
pub(super) use file::file_of;
use file::{Stamp, VectorFile};
use graph::GraphFile;
pub(super) use graph::links_of;
pub use ranking::{Ranked, Ranking};
use rows::{RowBuffer, Rows};
pub use rowset::RowSet;
pub use sweep::{Part, Role};

/// Rows that may lie beside the file before it is written again; rewriting on every batch would make searching during
/// an index run slow.
const TAIL_LIMIT: usize = 4096;
/// New rows are linked when they are more than this share of the linked ones: until then all of them are looked at, which
/// takes less than the walk.
const UNLINKED_SHARE: usize = 64;

/// Keeps what was searched last open between searches: a set's vectors, the files that show its pictures.
#[derive(Debug, Default)]
pub struct VectorCache {
    vectors: Mutex<Option<Arc<Vectors>>>,
    view: Mutex<Option<Arc<View>>>,
}

impl VectorCache {
    /// The vectors of a set as they are now. The file is written anew, from the database, when it is missing, torn, out of
    /// date, or of another set; where it cannot be written, the vectors are read into memory.
    ///
    /// # Errors
    /// The database fails.
    pub fn vectors(&self, catalogue: &Catalogue, set: &SetInfo) -> Result<Arc<Vectors>> {
        let mut open = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(catalogue, set.id)?;
        let written = written_at(&links_of(catalogue.data_dir(), set.id));
        if let Some(vectors) = open.as_ref().filter(|vectors| vectors.stamp == now && vectors.links_written == written)
        {
            return Ok(Arc::clone(vectors));
        }
        let held = open.as_deref().filter(|vectors| vectors.stamp.set == set.id);
        let vectors = Arc::new(Vectors::load(catalogue, set, now, held, TAIL_LIMIT)?);
        *open = Some(Arc::clone(&vectors));
        Ok(vectors)
    }

    /// The vectors of a set and the files that show its pictures, as they are now.
    ///
    /// # Errors
    /// The database fails.
    pub fn view(&self, catalogue: &Catalogue, set: &SetInfo) -> Result<Arc<View>> {
        let vectors = self.vectors(catalogue, set)?;
        let mut open = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let held = open.as_ref().map(|view| Arc::clone(view.places()));
        let places = Places::now(catalogue, held)?;
        if let Some(view) = open.as_ref().filter(|view| view.is_of(&vectors, &places)) {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(View::new(vectors, places));
        *open = Some(Arc::clone(&view));
        Ok(view)
    }

    /// Writes the files of a set when they are not up to date, so that the next search need not.
    ///
    /// # Errors
    /// The database fails.
    pub fn refresh(catalogue: &Catalogue, set: &SetInfo) -> Result<()> {
        let now = stamp(catalogue, set.id)?;
        Vectors::load(catalogue, set, now, None, 0)?;
        Places::refresh(catalogue)
    }

    /// Links the rows of a set of `least` or more into a graph, or the new ones of it when they are many, so that searches
    /// need not read them all. `report` is told how many of how many are linked, and says whether to go on; a graph that was
    /// stopped is not kept.
    ///
    /// # Errors
    /// The database fails.
    pub fn link(
        catalogue: &Catalogue,
        set: &SetInfo,
        least: usize,
        report: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<()> {
        let now = stamp(catalogue, set.id)?;
        if catalogue.find_set(&set.key)?.is_none_or(|set| set.vectors < least as u64) {
            return Ok(());
        }
        let vectors = Vectors::load(catalogue, set, now, None, 0)?;
        let linked = vectors.links.as_deref().map_or(0, GraphFile::len);
        let unlinked = vectors.len().saturating_sub(linked);
        if linked == 0 || unlinked > linked / UNLINKED_SHARE {
            let path = links_of(catalogue.data_dir(), set.id);
            GraphFile::build(&path, &vectors.base, vectors.links.as_deref(), report);
        }
        Ok(())
    }
}

/// All vectors of a set at one moment.
#[derive(Debug)]
pub struct Vectors {
    stamp: Stamp,
    base: Arc<VectorFile>,
    /// Rows newer than the file.
    tail: RowBuffer,
    /// The graph of the file's rows, or of the first of them.
    links: Option<Arc<GraphFile>>,
    /// When the graph's file was written.
    links_written: Option<SystemTime>,
}

impl Vectors {
    fn load(catalogue: &Catalogue, set: &SetInfo, now: Stamp, held: Option<&Self>, tail_limit: usize) -> Result<Self> {
        let path = file_of(catalogue.data_dir(), set.id);
        let fits = |file: &Arc<VectorFile>| file.stamp().can_grow_to(&now) && file.dim() == set.key.dim;
        let known = held.map(|held| Arc::clone(&held.base)).filter(fits);
        let base = known.or_else(|| VectorFile::open(&path).map(Arc::new).filter(fits));
        let tail =
            base.as_ref().map(|base| read_tail(catalogue, set, base, now.last_vector, tail_limit)).transpose()?;
        let (base, tail) = match base.zip(tail.flatten()) {
            Some(both) => both,
            None => (Arc::new(VectorFile::build(&path, catalogue, set, now)?), RowBuffer::default()),
        };
        let path = links_of(catalogue.data_dir(), set.id);
        let links_written = written_at(&path);
        let same = held.filter(|held| Arc::ptr_eq(&held.base, &base) && held.links_written == links_written);
        let links = match same {
            Some(held) => held.links.clone(),
            None => GraphFile::open(&path, &base).map(Arc::new),
        };
        Ok(Self { stamp: now, base, tail, links, links_written })
    }

    /// The file's rows, then those beside it; without the parts that have none.
    fn segments(&self) -> impl Iterator<Item = Rows<'_>> {
        let base = self.base.rows();
        let tail = self.tail.rows(base.centre);
        [base, tail].into_iter().filter(|rows| rows.len() > 0)
    }

    /// The segment of a row, and its number there.
    fn place(&self, row: usize) -> (Rows<'_>, usize) {
        let base = self.base.rows();
        match row.checked_sub(base.len()) {
            None => (base, row),
            Some(row) => (self.tail.rows(base.centre), row),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.base.rows().len() + self.tail.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row of a picture, if it has one.
    pub fn row_of(&self, content: i64) -> Option<usize> {
        // The file is sorted by picture; the tail is short and in the order of arrival.
        let base = self.base.rows().contents;
        // Pictures are numbered as they come, so a row's number tells where its picture stands unless some were removed.
        let guess = base.first().and_then(|first| usize::try_from(content.checked_sub(*first)?).ok());
        if let Some(guess) = guess.filter(|guess| base.get(*guess) == Some(&content)) {
            return Some(guess);
        }
        let tail = self.tail.rows(&[]).contents;
        let in_tail = || tail.iter().position(|c| *c == content).map(|row| row + base.len());
        base.binary_search(&content).ok().or_else(in_tail)
    }

    /// The picture of a row.
    pub fn content(&self, row: usize) -> Option<i64> {
        let (rows, row) = self.place(row);
        rows.contents.get(row).copied()
    }

    /// How a row's picture scores against neutral texts.
    pub fn calibration(&self, row: usize) -> Option<ImageCalibration> {
        let (rows, row) = self.place(row);
        rows.calibration(row)
    }

    /// A row's vector. Shape: `[dim]`.
    pub fn vector(&self, row: usize) -> Option<Vec<f32>> {
        let (rows, row) = self.place(row);
        let mut vector = vec![0.0; rows.centre.len()];
        rows.read(row, &mut vector).then_some(vector)
    }
}

/// The vectors that are newer than the file; `None` when they are more than `limit`.
fn read_tail(
    catalogue: &Catalogue,
    set: &SetInfo,
    base: &VectorFile,
    to: i64,
    limit: usize,
) -> Result<Option<RowBuffer>> {
    let mut tail = RowBuffer::default();
    let after = base.stamp().last_vector;
    if after == to {
        return Ok(Some(tail));
    }
    let failed = catalogue.failed();
    let sql = "SELECT content_id, mean, spread, vector FROM vector
               WHERE set_id = ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4";
    let mut statement = catalogue.connection.prepare_cached(sql).map_err(&failed)?;
    let mut rows = statement.query(params![set.id, after, to, limit as i64 + 1]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let mean = row.get(1).map_err(&failed)?;
        let calibration = ImageCalibration { mean, spread: row.get(2).map_err(&failed)? };
        let vector = row.get_ref(3).map_err(&failed)?.as_blob().unwrap_or_default();
        tail.push(row.get(0).map_err(&failed)?, calibration, vector, set.key.dim);
    }
    if tail.len() > limit {
        return Ok(None);
    }
    tail.encode(base.rows().centre);
    Ok(Some(tail))
}

/// When a file was written; `None` where there is none.
fn written_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The state of a set in the database.
fn stamp(catalogue: &Catalogue, set: i64) -> Result<Stamp> {
    let sql = "SELECT token, epoch, COALESCE((SELECT MAX(id) FROM vector WHERE set_id = ?1), 0)
               FROM vector_set WHERE id = ?1";
    let mut statement = catalogue.connection.prepare_cached(sql).map_err(catalogue.failed())?;
    statement
        .query_row([set], |row| Ok(Stamp { token: row.get(0)?, set, epoch: row.get(1)?, last_vector: row.get(2)? }))
        .map_err(catalogue.failed())
}

/// Removes what a killed process left half written.
pub(super) fn remove_leftovers(data_dir: &Path) {
    const OLD: std::time::Duration = std::time::Duration::from_secs(3600);
    let Ok(entries) = std::fs::read_dir(data_dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let ours = [b"vectors-".as_slice(), b"places"].iter().any(|ours| name.as_encoded_bytes().starts_with(ours));
        let leftover = ours && path.extension().is_some_and(|extension| extension == "new");
        let old = entry.metadata().ok().and_then(|m| m.modified().ok()).and_then(|t| t.elapsed().ok());
        if leftover && old.is_some_and(|age| age > OLD) {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;

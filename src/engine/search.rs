//! Ranked images for a text, an image, or both.

mod duplicates;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;

use image::RgbImage;

use super::embedder::ImageTextEmbedder;
use crate::error::{Error, Result};
use crate::index::calibration::{DEFAULT_MIN_RELEVANCE, dot, relevance, same_picture};
use crate::index::{Catalogue, FileRow, Filter, Part, Ranked, Role, SetInfo, VectorCache, Vectors};
use crate::pixels::Whole;
pub use duplicates::{DuplicateGroup, duplicate_groups};

/// What is looked for, as vectors. Shapes: each `[dim]`, unit length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// Texts that hits should fit, each with its weight.
    pub texts: Vec<(Vec<f32>, f32)>,
    /// Images that hits should look like, each with its weight.
    pub images: Vec<(Vec<f32>, f32)>,
    /// Texts that hits should not fit.
    pub minus: Vec<Vec<f32>>,
}

impl Query {
    /// Embeds the parts of a query, all with weight 1.
    ///
    /// # Errors
    /// The model fails.
    pub fn embed(
        embedder: &dyn ImageTextEmbedder,
        texts: &[String],
        images: &[RgbImage],
        minus: &[String],
    ) -> Result<Self> {
        let all: Vec<String> = texts.iter().chain(minus).cloned().collect();
        let mut texts_and_minus = if all.is_empty() { Vec::new() } else { embedder.encode_texts(&all)? };
        let minus = texts_and_minus.split_off(texts.len().min(texts_and_minus.len()));
        let inputs: Vec<Vec<f32>> = images.iter().map(|image| embedder.prepare(image, Whole::of(image))).collect();
        let images = if inputs.is_empty() { Vec::new() } else { embedder.encode_images(&inputs)? };
        let weigh = |vectors: Vec<Vec<f32>>| vectors.into_iter().map(|vector| (vector, 1.0)).collect();
        Ok(Self { texts: weigh(texts_and_minus), images: weigh(images), minus })
    }
}

/// A search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    /// What is looked for.
    pub query: Query,
    /// Where, and among which images. Its `under` must be the allowed roots when the caller names no folder.
    pub filter: Filter,
    /// Most hits.
    pub top_k: usize,
    /// Hits below are left out; `None` for [`DEFAULT_MIN_RELEVANCE`], 0 for none left out.
    pub min_relevance: Option<f32>,
    /// Nearly equal pictures become one hit.
    pub group_duplicates: bool,
    /// Compare with every vector, even where a graph would lead to most of the best in less time.
    pub exact: bool,
}

/// One hit.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The file; of equal ones the first by path.
    pub file: FileRow,
    /// Cosine with the query, the weighted mean over its texts and images; comparable within one query only.
    pub score: f32,
    /// Probability that it shows what was asked, 0 to 1.
    pub relevance: f32,
    /// Other files with the same or nearly the same picture that pass the filter too.
    pub duplicates: Vec<PathBuf>,
    /// The file was changed since it was indexed: the hit may no longer be right.
    pub changed: bool,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchOutcome {
    /// Best first.
    pub hits: Vec<Hit>,
    /// The relevance limit that was applied.
    pub min_relevance: f32,
    /// Files with a vector in the folders that were searched.
    pub indexed: u64,
    /// Files without a vector there: no readable image, or not yet embedded with this model.
    pub skipped: u64,
    /// Different pictures that passed the filter.
    pub considered: u64,
    /// Files that would be hits but are gone; another index run forgets them.
    pub vanished: u64,
    /// Nothing but such files, [`GONE_IN_A_ROW`] pictures: the search ended there, and worse ones were not looked at.
    pub gave_up: bool,
    /// Relevance of the best picture that passed the filter, whether or not it reached the limit.
    pub best_relevance: Option<f32>,
}

/// So many pictures one after the other whose files are gone end a search: a drive is missing, or a folder has moved, and
/// looking for each of a million files takes many seconds. A deleted album of thousands is still searched past.
const GONE_IN_A_ROW: usize = 5_000;

/// Ranks the indexed images of one vector set. Every vector is compared, unless the set has a graph and the caller does not
/// ask for all. Equal relevance is ordered by score, then by path.
///
/// # Errors
/// The query is empty or of another length than the set's vectors; nothing is indexed there; the database fails.
pub fn search(
    catalogue: &Catalogue,
    cache: &VectorCache,
    set: &SetInfo,
    request: &SearchRequest,
) -> Result<SearchOutcome> {
    search_past(GONE_IN_A_ROW, catalogue, cache, set, request)
}

/// As [`search`]; `gone`: so many missing pictures in a row end it.
fn search_past(
    gone: usize,
    catalogue: &Catalogue,
    cache: &VectorCache,
    set: &SetInfo,
    request: &SearchRequest,
) -> Result<SearchOutcome> {
    check(&request.query, set)?;
    let view = cache.view(catalogue, set)?;
    let reach = view.reach(&request.filter);
    if reach.indexed == 0 {
        let under = match request.filter.under.as_slice() {
            [folder] => Some(folder.clone()),
            _ => None,
        };
        return Err(Error::NothingIndexed { under });
    }
    let mut hits = Hits {
        catalogue,
        vectors: view.vectors(),
        request,
        pictures: Vec::new(),
        behind: 0,
        gone: 0,
        most_gone: gone,
        outcome: SearchOutcome {
            min_relevance: request.min_relevance.unwrap_or(DEFAULT_MIN_RELEVANCE),
            indexed: reach.indexed,
            skipped: reach.skipped,
            considered: reach.rows.len() as u64,
            ..SearchOutcome::default()
        },
    };
    let (vectors, parts) = (view.vectors(), parts(&request.query));
    let ranking = if request.exact { vectors.rank(&parts) } else { vectors.rank_by_graph(&parts) };
    let _snapshot = catalogue.snapshot()?;
    // Mostly enough: files that vanished and copies need more.
    let mut wanted = request.top_k + if request.group_duplicates { 2 * LOOK_BEHIND } else { LOOK_BEHIND };
    // A wider walk may find a row that a narrower one missed, among those that were taken.
    let mut taken = HashSet::new();
    loop {
        let best = ranking.best(&reach.rows, wanted);
        if taken.is_empty() {
            hits.outcome.best_relevance = best.first().map(|first| relevance(first.standardised));
        }
        let fresh: Vec<Ranked> = best.iter().filter(|ranked| taken.insert(ranked.row)).copied().collect();
        if hits.take(&fresh)? || best.len() < wanted {
            return Ok(hits.finish());
        }
        wanted = wanted.saturating_mul(4);
    }
}

/// A query's parts, in the order of their weights.
fn parts(query: &Query) -> Vec<Part<'_>> {
    let texts = query.texts.iter().map(|(vector, weight)| Part { vector, role: Role::Text { weight: *weight } });
    let images = query.images.iter().map(|(vector, weight)| Part { vector, role: Role::Image { weight: *weight } });
    let minus = query.minus.iter().map(|vector| Part { vector, role: Role::Minus });
    texts.chain(images).chain(minus).collect()
}

fn check(query: &Query, set: &SetInfo) -> Result<()> {
    if query.texts.is_empty() && query.images.is_empty() {
        return Err(Error::Argument {
            name: "query",
            reason: "or `image` is needed: there is nothing to look for".into(),
        });
    }
    let weighted = query.texts.iter().chain(&query.images);
    let mut vectors = weighted.clone().map(|(vector, _)| vector).chain(&query.minus);
    if let Some(wrong) = vectors.find(|vector| vector.len() != set.key.dim) {
        let (found, expected) = (wrong.len(), set.key.dim);
        let reason = format!("was embedded to {found} numbers, the index of {} holds {expected}", set.key.model);
        return Err(Error::Argument { name: "query", reason });
    }
    if weighted.clone().any(|(_, weight)| !weight.is_finite() || *weight <= 0.0) {
        return Err(Error::Argument {
            name: "weight",
            reason: "must be a positive number; use `minus` to exclude".into(),
        });
    }
    Ok(())
}

/// Copies of a hit stand right behind it; further than this behind the last hit nobody looks for them.
const LOOK_BEHIND: usize = 50;

/// Turns the best rows into hits, as many as were asked for.
struct Hits<'a> {
    catalogue: &'a Catalogue,
    vectors: &'a Vectors,
    request: &'a SearchRequest,
    /// Vector and look of each hit's picture, where copies are looked for.
    pictures: Vec<(Vec<f32>, u64)>,
    /// Rows that were looked at behind the last hit.
    behind: usize,
    /// Rows since the last one with a file that is there.
    gone: usize,
    /// As many end the search.
    most_gone: usize,
    outcome: SearchOutcome,
}

impl Hits<'_> {
    /// Takes the next best rows; whether no more are needed.
    fn take(&mut self, rows: &[Ranked]) -> Result<bool> {
        for row in rows {
            let full = self.outcome.hits.len() >= self.request.top_k;
            let done = full && (!self.request.group_duplicates || self.behind >= LOOK_BEHIND);
            if done || relevance(row.standardised) < self.outcome.min_relevance {
                return Ok(true);
            }
            if self.gone >= self.most_gone {
                self.outcome.gave_up = true;
                return Ok(true);
            }
            self.behind += usize::from(full);
            let (hits, vanished) = (self.outcome.hits.len(), self.outcome.vanished);
            self.take_row(row, full)?;
            let is_gone = self.outcome.vanished > vanished && self.outcome.hits.len() == hits;
            self.gone = if is_gone { self.gone + 1 } else { 0 };
        }
        Ok(false)
    }

    fn take_row(&mut self, row: &Ranked, full: bool) -> Result<()> {
        let known = self.catalogue.files_of(row.content)?;
        let Some(look) = known.first().map(|file| file.look) else { return Ok(()) };
        let (score, relevance) = (row.cosine, relevance(row.standardised));
        if !self.request.group_duplicates {
            let files = present_files(known, &self.request.filter, &mut self.outcome.vanished).into_iter();
            let hit = |(file, changed)| Hit { file, score, relevance, duplicates: Vec::new(), changed };
            self.outcome.hits.extend(files.map(hit));
            return Ok(());
        }
        let Some(vector) = self.vectors.vector(row.row) else { return Ok(()) };
        let same = |(other, other_look): &(Vec<f32>, u64)| same_picture(dot(other, &vector), *other_look, look);
        let twin = self.pictures.iter().position(same);
        if twin.is_none() && full {
            return Ok(());
        }
        let mut files = present_files(known, &self.request.filter, &mut self.outcome.vanished).into_iter();
        if let Some(hit) = twin.and_then(|twin| self.outcome.hits.get_mut(twin)) {
            hit.duplicates.extend(files.map(|(file, _)| file.path));
        } else if let Some((file, changed)) = files.next() {
            let duplicates = files.map(|(file, _)| file.path).collect();
            self.outcome.hits.push(Hit { file, score, relevance, duplicates, changed });
            self.pictures.push((vector, look));
        }
        Ok(())
    }

    fn finish(mut self) -> SearchOutcome {
        // Pictures of the same standing: by path.
        let order = |a: &Hit, b: &Hit| {
            b.relevance
                .total_cmp(&a.relevance)
                .then(b.score.total_cmp(&a.score))
                .then_with(|| a.file.path.cmp(&b.file.path))
        };
        self.outcome.hits.sort_by(order);
        self.outcome.hits.truncate(self.request.top_k);
        self.outcome
    }
}

/// The files of a picture that pass the filter and are there, each with whether it was changed; counts the others.
fn present_files(known: Vec<FileRow>, filter: &Filter, vanished: &mut u64) -> Vec<(FileRow, bool)> {
    let mut files = Vec::new();
    for file in known.into_iter().filter(|file| filter.admits(file)) {
        match presence(&file) {
            Presence::Gone => *vanished += 1,
            there => files.push((file, there == Presence::Changed)),
        }
    }
    files
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Changed,
    Gone,
}

/// Whether a file is still there, and as large as it was.
fn presence(file: &FileRow) -> Presence {
    match std::fs::metadata(&file.path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == file.size => Presence::There,
        Ok(_) => Presence::Changed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Presence::Gone,
        // A folder that may not be read now says nothing about the file.
        Err(_) => Presence::There,
    }
}

//! Ranked images for a text, an image, or both.

mod duplicates;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use image::RgbImage;

use super::embedder::ImageTextEmbedder;
use crate::error::{Error, Result};
use crate::index::calibration::{DEFAULT_MIN_RELEVANCE, QueryCalibration, dot, relevance, same_picture};
use crate::index::{Catalogue, FileRow, Filter, SetInfo, VectorCache, Vectors};
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
    /// Relevance of the best picture that passed the filter, whether or not it reached the limit.
    pub best_relevance: Option<f32>,
}

/// Ranks the indexed images of one vector set. Exact: every vector is compared. Equal relevance is ordered by score,
/// then by path.
///
/// # Errors
/// The query is empty or of another length than the set's vectors; nothing is indexed there; the database fails.
pub fn search(
    catalogue: &Catalogue,
    cache: &VectorCache,
    set: &SetInfo,
    request: &SearchRequest,
) -> Result<SearchOutcome> {
    check(&request.query, set)?;
    let vectors = cache.vectors(catalogue, set)?;
    let reach = catalogue.reach(&request.filter)?;
    let rows_of = |contents: &[i64]| contents.iter().filter_map(|content| vectors.row_of(*content)).collect::<Vec<_>>();
    let indexed = rows_of(&reach.pictures).len() as u64;
    if indexed == 0 {
        let under = match request.filter.under.as_slice() {
            [folder] => Some(folder.clone()),
            _ => None,
        };
        return Err(Error::NothingIndexed { under });
    }
    let min_relevance = request.min_relevance.unwrap_or(DEFAULT_MIN_RELEVANCE);
    let mut outcome = SearchOutcome {
        min_relevance,
        indexed,
        skipped: reach.refused + reach.pictures.len() as u64 - indexed,
        ..SearchOutcome::default()
    };
    let mut order = rows_of(&reach.contents);
    order.sort_unstable();
    order.dedup();
    outcome.considered = order.len() as u64;
    let scored = score(&vectors, &request.query);
    let key = |row: &usize| scored.get(*row).copied().unwrap_or_default();
    // The picture's id makes the order total before paths are known.
    order.sort_unstable_by(|a, b| key(b).compare(key(a)).then_with(|| vectors.content(*a).cmp(&vectors.content(*b))));
    outcome.best_relevance = order.first().map(|row| relevance(key(row).standardised));
    collect(catalogue, &vectors, request, &order, &scored, &mut outcome)?;
    Ok(outcome)
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

/// A row's standing.
#[derive(Debug, Clone, Copy, Default)]
struct Scored {
    standardised: f32,
    cosine: f32,
}

impl Scored {
    fn compare(self, other: Self) -> std::cmp::Ordering {
        self.standardised.total_cmp(&other.standardised).then(self.cosine.total_cmp(&other.cosine))
    }
}

/// Scores every row. Texts, images and exclusions have cosines on different scales (an image is closer to any other image
/// than to any text), so each part is standardised by itself before they are joined.
fn score(vectors: &Vectors, query: &Query) -> Vec<Scored> {
    let parts: Vec<Vec<f32>> =
        query.texts.iter().chain(&query.images).map(|(vector, _)| vector).chain(&query.minus).cloned().collect();
    let cosines = vectors.scores(&parts);
    let weights = query.texts.iter().chain(&query.images).map(|(_, weight)| *weight);
    let total: f32 = weights.clone().sum();
    let mut scored = vec![Scored::default(); vectors.len()];
    for (part, cosines) in cosines.iter().enumerate() {
        let is_image = (query.texts.len()..query.texts.len() + query.images.len()).contains(&part);
        let standardised = if is_image { standardise_image(cosines) } else { standardise_text(vectors, cosines) };
        let weight = weights.clone().nth(part).map(|weight| weight / total);
        for ((row, value), cosine) in scored.iter_mut().zip(standardised).zip(cosines) {
            match weight {
                Some(weight) => {
                    row.standardised += weight * value;
                    row.cosine += weight * cosine;
                }
                // Only what an image has of the excluded thing counts against it; to lack it more than others is no merit.
                None => row.standardised -= value.max(0.0),
            }
        }
    }
    scored
}

fn standardise_text(vectors: &Vectors, cosines: &[f32]) -> Vec<f32> {
    let normalise =
        |(row, cosine): (usize, &f32)| vectors.calibration(row).map_or(0.0, |image| image.normalise(*cosine));
    let normalised: Vec<f32> = cosines.iter().enumerate().map(normalise).collect();
    let query = QueryCalibration::for_text(&normalised);
    normalised.into_iter().map(|score| query.standardise(score)).collect()
}

fn standardise_image(cosines: &[f32]) -> Vec<f32> {
    let query = QueryCalibration::for_image(cosines);
    cosines.iter().map(|cosine| query.standardise(*cosine)).collect()
}

/// Turns the best rows into hits, as many as were asked for.
fn collect(
    catalogue: &Catalogue,
    vectors: &Vectors,
    request: &SearchRequest,
    order: &[usize],
    scored: &[Scored],
    outcome: &mut SearchOutcome,
) -> Result<()> {
    // Copies of a hit stand right behind it; further than this behind the last hit nobody looks for them.
    const LOOK_BEHIND: usize = 50;
    let mut pictures: Vec<(Vec<f32>, u64)> = Vec::new();
    let mut behind = 0;
    for row in order {
        let Some(standing) = scored.get(*row) else { continue };
        let relevance = relevance(standing.standardised);
        let full = outcome.hits.len() >= request.top_k;
        if relevance < outcome.min_relevance || (full && (!request.group_duplicates || behind >= LOOK_BEHIND)) {
            break;
        }
        behind += usize::from(full);
        let (Some(content), Some(vector)) = (vectors.content(*row), vectors.vector(*row)) else { continue };
        let known = catalogue.files_of(content)?;
        let Some(look) = known.first().map(|file| file.look) else { continue };
        let twin = pictures
            .iter()
            .position(|(other, other_look)| same_picture(dot(other, &vector), *other_look, look))
            .filter(|_| request.group_duplicates);
        if twin.is_none() && full {
            continue;
        }
        let files = present_files(known, &request.filter, &mut outcome.vanished);
        if let Some(hit) = twin.and_then(|twin| outcome.hits.get_mut(twin)) {
            hit.duplicates.extend(files.into_iter().map(|(file, _)| file.path));
            continue;
        }
        let mut files = files.into_iter();
        if request.group_duplicates {
            let Some((file, changed)) = files.next() else { continue };
            let duplicates = files.map(|(file, _)| file.path).collect();
            outcome.hits.push(Hit { file, score: standing.cosine, relevance, duplicates, changed });
            pictures.push((vector, look));
        } else {
            outcome.hits.extend(files.map(|(file, changed)| Hit {
                file,
                score: standing.cosine,
                relevance,
                duplicates: Vec::new(),
                changed,
            }));
        }
    }
    // Pictures of the same standing: by path.
    let order = |a: &Hit, b: &Hit| {
        b.relevance
            .total_cmp(&a.relevance)
            .then(b.score.total_cmp(&a.score))
            .then_with(|| a.file.path.cmp(&b.file.path))
    };
    outcome.hits.sort_by(order);
    outcome.hits.truncate(request.top_k);
    Ok(())
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

//! The vectors of one set, ready to be scanned: a memory-mapped file plus what was added since it was written.

mod file;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use rusqlite::{Params, params};

use super::calibration::{ImageCalibration, dot};
use super::catalogue::Catalogue;
use super::sets::SetInfo;
use crate::error::Result;
pub(super) use file::file_of;
use file::{Stamp, VectorFile};

/// Rows that may lie beside the file before it is written again; rewriting on every batch would make searching during
/// an index run slow.
const TAIL_LIMIT: usize = 4096;

/// Keeps the vectors of the set that was used last open between searches.
#[derive(Debug, Default)]
pub struct VectorCache {
    open: Mutex<Option<Arc<Vectors>>>,
}

impl VectorCache {
    /// The vectors of a set as they are now. The file is written anew, from the database, when it is missing, torn, out of
    /// date, or of another set; where it cannot be written, the vectors are read into memory.
    ///
    /// # Errors
    /// The database fails.
    pub fn vectors(&self, catalogue: &Catalogue, set: &SetInfo) -> Result<Arc<Vectors>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(catalogue, set.id)?;
        if let Some(vectors) = open.as_ref().filter(|vectors| vectors.stamp == now) {
            return Ok(Arc::clone(vectors));
        }
        let held = open.as_ref().filter(|vectors| vectors.stamp.set == set.id).map(|vectors| Arc::clone(&vectors.base));
        let vectors = Arc::new(Vectors::load(catalogue, set, now, held, TAIL_LIMIT)?);
        *open = Some(Arc::clone(&vectors));
        Ok(vectors)
    }

    /// Writes the vector file of a set when it is not up to date, so that the next search need not.
    ///
    /// # Errors
    /// The database fails.
    pub fn refresh(catalogue: &Catalogue, set: &SetInfo) -> Result<()> {
        let now = stamp(catalogue, set.id)?;
        Vectors::load(catalogue, set, now, None, 0).map(drop)
    }
}

/// All vectors of a set at one moment.
#[derive(Debug)]
pub struct Vectors {
    stamp: Stamp,
    base: Arc<VectorFile>,
    tail: Tail,
}

/// Rows newer than the file.
#[derive(Debug, Default)]
struct Tail {
    contents: Vec<i64>,
    calibrations: Vec<[f32; 2]>,
    vectors: Vec<f16>,
}

impl Vectors {
    fn load(
        catalogue: &Catalogue,
        set: &SetInfo,
        now: Stamp,
        held: Option<Arc<VectorFile>>,
        tail_limit: usize,
    ) -> Result<Self> {
        let path = file_of(catalogue.data_dir(), set.id);
        let fits = |file: &Arc<VectorFile>| file.stamp().can_grow_to(&now) && file.dim() == set.key.dim;
        let base = held.filter(fits).or_else(|| VectorFile::open(&path).map(Arc::new).filter(fits));
        if let Some(base) = base {
            let tail = Tail::read(catalogue, set, base.stamp().last_vector, now.last_vector, tail_limit)?;
            if let Some(tail) = tail {
                return Ok(Self { stamp: now, base, tail });
            }
        }
        let base = Arc::new(VectorFile::build(&path, catalogue, set, now)?);
        Ok(Self { stamp: now, base, tail: Tail::default() })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.base.contents().len() + self.tail.contents.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The picture of each row, in the order of [`Vectors::scores`].
    pub fn contents(&self) -> impl Iterator<Item = i64> + '_ {
        self.base.contents().iter().chain(&self.tail.contents).copied()
    }

    /// The rows of pictures, for those which have one.
    pub fn row_of(&self, content: i64) -> Option<usize> {
        // The file is sorted by picture; the tail is short and in the order of arrival.
        let base = self.base.contents();
        let in_tail = || self.tail.contents.iter().position(|c| *c == content).map(|row| row + base.len());
        base.binary_search(&content).ok().or_else(in_tail)
    }

    /// The picture of a row.
    pub fn content(&self, row: usize) -> Option<i64> {
        let base = self.base.contents();
        base.get(row).or_else(|| self.tail.contents.get(row.checked_sub(base.len())?)).copied()
    }

    /// How a row's picture scores against neutral texts.
    pub fn calibration(&self, row: usize) -> Option<ImageCalibration> {
        let base = self.base.calibrations();
        let found = base.get(row).or_else(|| self.tail.calibrations.get(row.checked_sub(base.len())?));
        found.map(|[mean, spread]| ImageCalibration { mean: *mean, spread: *spread })
    }

    /// A row's vector. Shape: `[dim]`.
    pub fn vector(&self, row: usize) -> Option<Vec<f32>> {
        self.halves(row).map(HalfFloatSliceExt::to_f32_vec)
    }

    fn halves(&self, row: usize) -> Option<&[f16]> {
        let (dim, base) = (self.base.dim(), self.base.contents().len());
        match row.checked_sub(base) {
            None => self.base.vectors().get(row * dim..(row + 1) * dim),
            Some(row) => self.tail.vectors.get(row * dim..(row + 1) * dim),
        }
    }

    /// Cosine of every row with every query, exactly, on all cores. Shapes: each query `[dim]`, unit length -> for each
    /// query `[len]`.
    pub fn scores(&self, queries: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let dim = self.base.dim().max(1);
        let parts = [self.base.vectors(), self.tail.vectors.as_slice()];
        let mut all: Vec<Vec<f32>> = queries.iter().map(|_| Vec::with_capacity(self.len())).collect();
        for part in parts {
            // One conversion of a row to f32 serves all queries.
            const ROWS: usize = 1024;
            let blocks: Vec<Vec<f32>> =
                part.par_chunks(ROWS * dim).map(|block| score_block(block, queries, dim)).collect();
            for block in blocks {
                let rows = block.len() / queries.len().max(1);
                for (scores, of_query) in all.iter_mut().zip(block.chunks(rows.max(1))) {
                    scores.extend_from_slice(of_query);
                }
            }
        }
        all
    }
}

/// Cosines of a block of rows, all of the first query first.
fn score_block(block: &[f16], queries: &[Vec<f32>], dim: usize) -> Vec<f32> {
    let rows = block.len() / dim;
    let mut scores = vec![0.0; rows * queries.len()];
    let mut row_values = vec![0.0; dim];
    for (row, halves) in block.chunks_exact(dim).enumerate() {
        halves.convert_to_f32_slice(&mut row_values);
        for (index, query) in queries.iter().enumerate() {
            if let Some(score) = scores.get_mut(index * rows + row) {
                *score = dot(&row_values, query);
            }
        }
    }
    scores
}

impl Tail {
    /// The vectors with ids in `(after, to]`; `None` when they are more than `limit`.
    fn read(catalogue: &Catalogue, set: &SetInfo, after: i64, to: i64, limit: usize) -> Result<Option<Self>> {
        if after == to {
            return Ok(Some(Self::default()));
        }
        let sql = "SELECT content_id, mean, spread, vector FROM vector
                   WHERE set_id = ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4";
        let tail = Self::query(catalogue, set, sql, params![set.id, after, to, limit as i64 + 1])?;
        Ok((tail.contents.len() <= limit).then_some(tail))
    }

    /// The whole set, sorted by picture.
    fn read_sorted(catalogue: &Catalogue, set: &SetInfo, to: i64) -> Result<Self> {
        Self::query(catalogue, set, file::ROWS, params![set.id, to])
    }

    fn query(catalogue: &Catalogue, set: &SetInfo, sql: &str, values: impl Params) -> Result<Self> {
        let failed = catalogue.failed();
        let mut tail = Self::default();
        let mut statement = catalogue.connection.prepare_cached(sql).map_err(&failed)?;
        let mut rows = statement.query(values).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let vector: Vec<u8> = row.get(3).map_err(&failed)?;
            tail.contents.push(row.get(0).map_err(&failed)?);
            tail.calibrations.push([row.get(1).map_err(&failed)?, row.get(2).map_err(&failed)?]);
            let halves = vector.as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair));
            tail.vectors.extend(halves.chain(std::iter::repeat(f16::ZERO)).take(set.key.dim));
        }
        Ok(tail)
    }
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
        let ours = entry.file_name().as_encoded_bytes().starts_with(b"vectors-");
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

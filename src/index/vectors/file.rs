//! The vector file: the rows of a set in fixed point, sorted by picture ([`CacheFile`] says how it is kept whole).
//!
//! Its magic names the format: files of an older one are not believed and are written again.

use std::path::{Path, PathBuf};

use rusqlite::params;

use super::fixed::padded;
use super::rows::{Extent, RowBuffer, Rows, halves_to_floats};
use crate::error::Result;
use crate::index::cachefile::{CacheFile, Plan, Sink, bytes_of};
use crate::index::calibration::ImageCalibration;
use crate::index::{Catalogue, SetInfo};

/// Format 1 held half floats; 2 holds two planes of eight bits.
const MAGIC: [u8; 8] = *b"CAVEC\0\0\x02";

const HIGH: usize = 0;
const LOW: usize = 1;
const STEPS: usize = 2;
const RESIDUALS: usize = 3;
const MEANS: usize = 4;
const SPREADS: usize = 5;
const CONTENTS: usize = 6;
const CENTRE: usize = 7;
const EXTENT: usize = 8;

/// Rows that are encoded at once while the file is written.
const BLOCK: usize = 2048;
/// Rows whose mean stands for the collection's; it need not be exact, only near.
const CENTRE_SAMPLE: i64 = 4096;

/// The state of a set that a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Random, by set.
    pub(super) token: i64,
    /// The set.
    pub(super) set: i64,
    /// Its count of changes and removals.
    pub(super) epoch: i64,
    /// The newest vector.
    pub(super) last_vector: i64,
}

impl Stamp {
    /// Whether only additions lie between this state and a later one.
    pub(super) fn can_grow_to(&self, later: &Self) -> bool {
        (self.token, self.set, self.epoch) == (later.token, later.set, later.epoch)
            && self.last_vector <= later.last_vector
    }
}

/// Where the vector file of a set lies.
pub(crate) fn file_of(data_dir: &Path, set: i64) -> PathBuf {
    data_dir.join(format!("vectors-{set}.bin"))
}

/// An open vector file, or its contents in memory.
#[derive(Debug)]
pub(super) struct VectorFile {
    stamp: Stamp,
    file: CacheFile,
}

impl VectorFile {
    /// Opens a file if it is whole.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = CacheFile::open(path, MAGIC)?;
        let [token, set, epoch, last_vector, rows, dim, ..] = *file.fields();
        let stamp =
            Stamp { token: token as i64, set: set as i64, epoch: epoch as i64, last_vector: last_vector as i64 };
        let opened = Self { stamp, file };
        let (parts, dim) = (opened.rows(), usize::try_from(dim).ok()?);
        let planes = usize::try_from(rows).ok()?.checked_mul(padded(dim))?;
        let lengths = [parts.steps, parts.residuals, parts.means, parts.spreads].map(<[f32]>::len);
        let whole = lengths == [parts.len(); 4]
            && opened.file.section::<f32>(EXTENT).len() == 3
            && parts.high.len() == planes
            && parts.low.len() == planes;
        (whole && parts.len() as u64 == rows && parts.centre.len() == dim).then_some(opened)
    }

    /// Reads a set from the database and writes its file; keeps it in memory when it cannot be written.
    ///
    /// # Errors
    /// The database fails.
    pub(super) fn build(path: &Path, catalogue: &Catalogue, set: &SetInfo, stamp: Stamp) -> Result<Self> {
        super::remove_leftovers(catalogue.data_dir());
        let read = || -> Result<Self, FillError> {
            // One view of the database, so that the rows that are counted are those that are read.
            let _view = catalogue.connection.unchecked_transaction()?;
            let values = params![set.id, stamp.last_vector];
            let rows: i64 = catalogue.connection.query_row(COUNT, values, |row| row.get(0))?;
            let rows = usize::try_from(rows).unwrap_or(0);
            let centre = centre(catalogue, set, stamp, rows)?;
            let plan = plan(stamp, rows, set.key.dim);
            let fill = |sink: &mut dyn Sink| fill(sink, catalogue, set, stamp, &centre);
            let file = CacheFile::build(path, plan, fill, |error| matches!(error, FillError::Io(_)))?;
            Ok(Self { stamp, file })
        };
        read().map_err(|error| match error {
            FillError::Io(source) => crate::error::Error::io("write", path)(source),
            FillError::Database(source) => catalogue.failed()(source),
        })
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Numbers in a vector.
    pub(super) fn dim(&self) -> usize {
        self.file.section::<f32>(CENTRE).len()
    }

    /// The rows, ascending by picture.
    pub(super) fn rows(&self) -> Rows<'_> {
        let file = &self.file;
        Rows {
            centre: file.section(CENTRE),
            high: file.section(HIGH),
            low: file.section(LOW),
            steps: file.section(STEPS),
            residuals: file.section(RESIDUALS),
            means: file.section(MEANS),
            spreads: file.section(SPREADS),
            contents: file.section(CONTENTS),
            extent: match *file.section(EXTENT) {
                [longest, residual, spread] => Extent { longest, residual, spread },
                _ => Extent::default(),
            },
        }
    }
}

enum FillError {
    Io(std::io::Error),
    Database(rusqlite::Error),
}

impl From<std::io::Error> for FillError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rusqlite::Error> for FillError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn plan(stamp: Stamp, rows: usize, dim: usize) -> Plan {
    let stamped = [stamp.token, stamp.set, stamp.epoch, stamp.last_vector].map(|number| number as u64);
    let mut fields = [0; 8];
    for (field, number) in fields.iter_mut().zip(stamped.into_iter().chain([rows as u64, dim as u64])) {
        *field = number;
    }
    let (plane, of_row) = (rows.saturating_mul(padded(dim)), rows * 4);
    let sections = [plane, plane, of_row, of_row, of_row, of_row, rows * 8, dim * 4, 12, 0];
    Plan { magic: MAGIC, fields, sections }
}

/// The mean of some of a set's vectors, spread over it. Shape: `[dim]`.
fn centre(catalogue: &Catalogue, set: &SetInfo, stamp: Stamp, rows: usize) -> rusqlite::Result<Vec<f32>> {
    let sql = "SELECT vector FROM vector WHERE set_id = ?1 AND id <= ?2 AND id % ?3 = 0";
    let dim = set.key.dim;
    let (mut sums, mut vector, mut count) = (vec![0.0_f64; dim], vec![0.0; dim], 0.0);
    let mut statement = catalogue.connection.prepare_cached(sql)?;
    let every = (rows as i64 / CENTRE_SAMPLE).max(1);
    let mut found = statement.query(params![set.id, stamp.last_vector, every])?;
    while let Some(row) = found.next()? {
        vector.fill(0.0);
        halves_to_floats(row.get_ref(0)?.as_blob().unwrap_or_default(), &mut vector);
        if vector.iter().all(|value| value.is_finite()) {
            count += 1.0;
            for (sum, value) in sums.iter_mut().zip(&vector) {
                *sum += f64::from(*value);
            }
        }
    }
    Ok(sums.into_iter().map(|sum| (sum / f64::max(count, 1.0)) as f32).collect())
}

/// Reads the rows and hands them on, block by block.
fn fill(
    sink: &mut dyn Sink,
    catalogue: &Catalogue,
    set: &SetInfo,
    stamp: Stamp,
    centre: &[f32],
) -> Result<(), FillError> {
    let dim = set.key.dim;
    let (mut done, mut extent) = (0, Extent::default());
    let mut put = |block: &mut RowBuffer| -> Result<(), FillError> {
        block.encode(centre);
        let rows = block.rows(centre);
        sink.put(HIGH, done * padded(dim), bytes_of(rows.high))?;
        sink.put(LOW, done * padded(dim), bytes_of(rows.low))?;
        for (section, numbers) in
            [(STEPS, rows.steps), (RESIDUALS, rows.residuals), (MEANS, rows.means), (SPREADS, rows.spreads)]
        {
            sink.put(section, done * 4, bytes_of(numbers))?;
        }
        sink.put(CONTENTS, done * 8, bytes_of(rows.contents))?;
        extent = extent.with(rows.extent);
        done += rows.len();
        Ok(())
    };
    let mut block = RowBuffer::default();
    let mut statement = catalogue.connection.prepare_cached(ROWS)?;
    let mut rows = statement.query(params![set.id, stamp.last_vector])?;
    while let Some(row) = rows.next()? {
        let calibration = ImageCalibration { mean: row.get(1)?, spread: row.get(2)? };
        block.push(row.get(0)?, calibration, row.get_ref(3)?.as_blob().unwrap_or_default(), dim);
        if block.len() == BLOCK {
            put(&mut block)?;
            block = RowBuffer::default();
        }
    }
    put(&mut block)?;
    sink.put(CENTRE, 0, bytes_of(centre))?;
    sink.put(EXTENT, 0, bytes_of(&[extent.longest, extent.residual, extent.spread]))?;
    Ok(())
}

const COUNT: &str = "SELECT COUNT(*) FROM vector WHERE set_id = ?1 AND id <= ?2";

/// A set's vectors in the order of their pictures.
const ROWS: &str = "SELECT content_id, mean, spread, vector FROM vector
    WHERE set_id = ?1 AND id <= ?2 ORDER BY content_id";

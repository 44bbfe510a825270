//! The vector file: a header, then the vectors, the pictures they are of, and their calibrations, as the machine's
//! memory holds them.
//!
//! A file is written under another name, synced and renamed, so it is there whole or not at all, and a reader which has the
//! old one mapped keeps it. It is believed only when its header, its length and its sum are right and its stamp fits the
//! database; anything else means that it is written again.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use half::f16;
use half::slice::HalfBitsSliceExt;
use memmap2::Mmap;
use rusqlite::params;

use super::Tail;
use crate::error::Result;
use crate::index::{Catalogue, SetInfo};

/// Names the layout and, as a number in memory order, the byte order.
const MAGIC: u64 = u64::from_be_bytes(*b"CAVEC\0\0\x01");
const HEADER_BYTES: usize = 128;
/// Numbers in the header, eight bytes each, the check over them last.
const FIELDS: usize = 9;

/// With the process id, makes the name of a file that is being written unique.
static COUNT: AtomicU64 = AtomicU64::new(0);

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
    dim: usize,
    rows: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Mapped(Mmap),
    Memory(Tail),
}

impl VectorFile {
    /// Opens a file if it is whole.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: files of this name are never changed once they have it, only replaced by renaming.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let mut fields = [0_u64; FIELDS];
        for (field, bytes) in fields.iter_mut().zip(map.get(..FIELDS * 8)?.as_chunks::<8>().0) {
            *field = u64::from_ne_bytes(*bytes);
        }
        let [magic, token, set, epoch, last_vector, rows, dim, body_sum, check] = fields;
        let (rows, dim) = (usize::try_from(rows).ok()?, usize::try_from(dim).ok()?);
        if magic != MAGIC || check != sum(map.get(..(FIELDS - 1) * 8)?) {
            return None;
        }
        let stamp =
            Stamp { token: token as i64, set: set as i64, epoch: epoch as i64, last_vector: last_vector as i64 };
        let length = rows.checked_mul(dim)?.checked_mul(2)?.checked_next_multiple_of(8)?.checked_add(rows * 16)?;
        let body = map.get(HEADER_BYTES..)?;
        if body.len() != length || sum(body) != body_sum {
            return None;
        }
        Some(Self { stamp, dim, rows, body: Body::Mapped(map) })
    }

    /// Reads a set from the database and writes its file; keeps it in memory when it cannot be written.
    ///
    /// # Errors
    /// The database fails.
    pub(super) fn build(path: &Path, catalogue: &Catalogue, set: &SetInfo, stamp: Stamp) -> Result<Self> {
        super::remove_leftovers(catalogue.data_dir());
        let name = format!("{}-{}.new", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let new = path.with_extension(name);
        let written = write(&new, catalogue, set, stamp);
        let renamed = match written {
            Ok(()) => std::fs::rename(&new, path),
            Err(WriteError::Io(error)) => Err(error),
            Err(WriteError::Database(error)) => {
                let _ = std::fs::remove_file(&new);
                return Err(catalogue.failed()(error));
            }
        };
        if let Err(error) = renamed {
            tracing::warn!("cannot write {}: {error}; the vectors are read into memory", path.display());
            let _ = std::fs::remove_file(&new);
        } else if let Some(file) = Self::open(path).filter(|file| file.stamp == stamp) {
            return Ok(file);
        }
        let body = Tail::read_sorted(catalogue, set, stamp.last_vector)?;
        Ok(Self { stamp, dim: set.key.dim, rows: body.contents.len(), body: Body::Memory(body) })
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Shape: `[rows * dim]`.
    pub(super) fn vectors(&self) -> &[f16] {
        match &self.body {
            Body::Memory(tail) => &tail.vectors,
            Body::Mapped(map) => numbers::<u16>(map, 0, self.rows * self.dim).reinterpret_cast(),
        }
    }

    /// Ids of the pictures, ascending. Shape: `[rows]`.
    pub(super) fn contents(&self) -> &[i64] {
        match &self.body {
            Body::Memory(tail) => &tail.contents,
            Body::Mapped(map) => numbers(map, self.contents_offset(), self.rows),
        }
    }

    /// Mean and spread over the null texts. Shape: `[rows, 2]`.
    pub(super) fn calibrations(&self) -> &[[f32; 2]] {
        match &self.body {
            Body::Memory(tail) => &tail.calibrations,
            Body::Mapped(map) => numbers(map, self.contents_offset() + self.rows * 8, self.rows),
        }
    }

    fn contents_offset(&self) -> usize {
        (self.rows * self.dim * 2).next_multiple_of(8)
    }
}

/// Types of which every bit pattern is a value.
trait Plain: Copy {}
impl Plain for u16 {}
impl Plain for i64 {}
impl Plain for [f32; 2] {}

/// Numbers in the body of a file, whose length was checked on opening.
fn numbers<T: Plain>(map: &Mmap, offset: usize, count: usize) -> &[T] {
    let from = HEADER_BYTES + offset;
    let bytes = map.get(from..from + count * size_of::<T>()).unwrap_or_default();
    // SAFETY: every bit pattern is a `T`. A map begins at a page and the offsets are multiples of 8, so nothing is cut off.
    let (_, numbers, _) = unsafe { bytes.align_to::<T>() };
    numbers
}

enum WriteError {
    Io(std::io::Error),
    Database(rusqlite::Error),
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn write(path: &Path, catalogue: &Catalogue, set: &SetInfo, stamp: Stamp) -> Result<(), WriteError> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    writer.write_all(&[0; HEADER_BYTES])?;
    let row_bytes = set.key.dim * 2;
    let (mut contents, mut calibrations) = (Vec::<i64>::new(), Vec::<[f32; 2]>::new());
    let mut statement = catalogue.connection.prepare_cached(ROWS)?;
    let mut rows = statement.query(params![set.id, stamp.last_vector])?;
    while let Some(row) = rows.next()? {
        contents.push(row.get(0)?);
        calibrations.push([row.get(1)?, row.get(2)?]);
        let vector = row.get_ref(3)?.as_blob().unwrap_or_default();
        let mut halves = vector.as_chunks::<2>().0.iter().flat_map(|pair| u16::from_le_bytes(*pair).to_ne_bytes());
        let values: Vec<u8> = halves.by_ref().chain(std::iter::repeat(0)).take(row_bytes).collect();
        writer.write_all(&values)?;
    }
    let vectors_bytes = contents.len() * row_bytes;
    writer.write_all(&[0; 8][..vectors_bytes.next_multiple_of(8) - vectors_bytes])?;
    for content in &contents {
        writer.write_all(&content.to_ne_bytes())?;
    }
    for value in calibrations.iter().flatten() {
        writer.write_all(&value.to_ne_bytes())?;
    }
    let mut file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    // SAFETY: nobody else knows this file's name, which holds the process id and a count.
    let body_sum = sum(unsafe { Mmap::map(&file) }?.get(HEADER_BYTES..).unwrap_or_default());
    let fields = [
        MAGIC,
        stamp.token as u64,
        stamp.set as u64,
        stamp.epoch as u64,
        stamp.last_vector as u64,
        contents.len() as u64,
        set.key.dim as u64,
        body_sum,
    ];
    let mut header: Vec<u8> = fields.iter().flat_map(|field| field.to_ne_bytes()).collect();
    header.extend(sum(&header).to_ne_bytes());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)?;
    file.sync_all()?;
    Ok(())
}

/// A set's vectors in the order of their pictures.
pub(super) const ROWS: &str = "SELECT content_id, mean, spread, vector FROM vector
    WHERE set_id = ?1 AND id <= ?2 ORDER BY content_id";

/// Tells a torn or overwritten file, at the speed of memory; no defence against intent.
fn sum(bytes: &[u8]) -> u64 {
    const LANES: usize = 4;
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes = [bytes.len() as u64; LANES];
    let (blocks, rest) = bytes.as_chunks::<{ LANES * 8 }>();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = (*lane ^ u64::from_ne_bytes(*word)).wrapping_mul(FACTOR).rotate_left(29);
        }
    }
    let tail = rest.iter().fold(0_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(FACTOR));
    lanes.iter().fold(tail, |sum, lane| (sum ^ lane).wrapping_mul(FACTOR).rotate_left(31))
}

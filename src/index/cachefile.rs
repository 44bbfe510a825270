//! Files that copy what the database knows into arrays which can be mapped: a header, then sections of numbers, as the
//! machine's memory holds them.
//!
//! A file is written under another name and renamed, so it is there whole or not at all, and a reader which has the old one
//! mapped keeps it. It is believed only when its header, its length and its sum are right; anything else means that it is
//! written again. Where no file can be written, the same bytes lie in memory.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Mmap, MmapMut};
use rayon::prelude::*;

/// Every section begins at a multiple of this, so that numbers of every type and whole cache lines are aligned.
const ALIGNMENT: usize = 64;
const HEADER_BYTES: usize = 256;
/// Numbers that a kind of file keeps for itself, and sections; both at most.
const FIELDS: usize = 8;
const SECTIONS: usize = 10;
/// Magic, length of the whole, fields, section lengths, sum of the body, sum of the header.
const HEADER_NUMBERS: usize = HEADER_BYTES / 8;
const BODY_SUM: usize = HEADER_NUMBERS - 2;
const HEADER_SUM: usize = HEADER_NUMBERS - 1;

/// With the process id, makes the name of a file that is being written unique.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Types of which every bit pattern is a value.
pub(super) trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for i8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for i64 {}
impl Plain for f32 {}

/// What a file holds: its kind and format, numbers of its own, and how many bytes each section has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Names the kind and the format.
    pub(super) magic: [u8; 8],
    /// Numbers of its own.
    pub(super) fields: [u64; FIELDS],
    /// Bytes of each section.
    pub(super) sections: [usize; SECTIONS],
}

impl Plan {
    /// Where each section lies, and the length of the whole; `None` when that is no length.
    fn layout(&self) -> Option<([Range<usize>; SECTIONS], usize)> {
        let mut ranges: [Range<usize>; SECTIONS] = std::array::from_fn(|_| 0..0);
        let mut at = HEADER_BYTES;
        for (range, bytes) in ranges.iter_mut().zip(self.sections) {
            *range = at..at.checked_add(bytes)?;
            at = range.end.checked_next_multiple_of(ALIGNMENT)?;
        }
        Some((ranges, at))
    }

    fn header(&self, length: usize, body_sum: u64) -> Vec<u8> {
        let mut numbers = [0_u64; HEADER_NUMBERS];
        // In memory order, so that a file of a machine with the other byte order is not believed.
        let own = [u64::from_be_bytes(self.magic), length as u64];
        let all = own.into_iter().chain(self.fields).chain(self.sections.map(|bytes| bytes as u64));
        for (number, value) in numbers.iter_mut().zip(all) {
            *number = value;
        }
        numbers[BODY_SUM] = body_sum;
        let mut bytes: Vec<u8> = numbers.iter().take(HEADER_SUM).flat_map(|number| number.to_ne_bytes()).collect();
        bytes.extend(sum(&bytes).to_ne_bytes());
        bytes
    }
}

/// Takes the bytes of the sections, in any order.
pub(super) trait Sink {
    /// Stores bytes at an offset of a section.
    ///
    /// # Errors
    /// They cannot be written.
    fn put(&mut self, section: usize, offset: usize, bytes: &[u8]) -> std::io::Result<()>;
}

/// The sections of a file under its temporary name.
struct OnDisk {
    file: File,
    ranges: [Range<usize>; SECTIONS],
}

impl Sink for OnDisk {
    fn put(&mut self, section: usize, offset: usize, bytes: &[u8]) -> std::io::Result<()> {
        let range = self.ranges.get(section).ok_or(std::io::ErrorKind::InvalidInput)?;
        self.file.seek(SeekFrom::Start((range.start + offset) as u64))?;
        self.file.write_all(bytes)
    }
}

/// The sections in memory.
struct InMemory {
    map: MmapMut,
    ranges: [Range<usize>; SECTIONS],
}

impl Sink for InMemory {
    fn put(&mut self, section: usize, offset: usize, bytes: &[u8]) -> std::io::Result<()> {
        let start = self.ranges.get(section).map(|range| range.start + offset);
        let place = start.and_then(|start| self.map.get_mut(start..start + bytes.len()));
        place.ok_or(std::io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// An open file, or its bytes in memory.
#[derive(Debug)]
pub(super) struct CacheFile {
    plan: Plan,
    ranges: [Range<usize>; SECTIONS],
    map: Mmap,
}

impl CacheFile {
    /// Opens a file if it is whole and of this kind.
    pub(super) fn open(path: &Path, magic: [u8; 8]) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: files of this name are never changed once they have it, only replaced by renaming.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let mut numbers = [0_u64; HEADER_NUMBERS];
        for (number, bytes) in numbers.iter_mut().zip(map.get(..HEADER_BYTES)?.as_chunks::<8>().0) {
            *number = u64::from_ne_bytes(*bytes);
        }
        let mut plan = Plan { magic, fields: [0; FIELDS], sections: [0; SECTIONS] };
        let (fields, sections) = numbers.get(2..)?.split_at(FIELDS);
        plan.fields.copy_from_slice(fields);
        for (bytes, number) in plan.sections.iter_mut().zip(sections) {
            *bytes = usize::try_from(*number).ok()?;
        }
        let right = numbers[0] == u64::from_be_bytes(magic) && numbers[HEADER_SUM] == sum(map.get(..HEADER_SUM * 8)?);
        let (ranges, length) = plan.layout().filter(|_| right)?;
        if map.len() != length || numbers[1] != length as u64 || body_sum(map.get(HEADER_BYTES..)?) != numbers[BODY_SUM]
        {
            return None;
        }
        Some(Self { plan, ranges, map })
    }

    /// Writes a file, and opens it; keeps the bytes in memory when it cannot be written. `fill` is called for each try.
    ///
    /// # Errors
    /// `fill` fails for another reason than the disk.
    pub(super) fn build<E: From<std::io::Error>>(
        path: &Path,
        plan: Plan,
        fill: impl Fn(&mut dyn Sink) -> Result<(), E>,
        is_io: impl Fn(&E) -> bool,
    ) -> Result<Self, E> {
        let name = format!("{}-{}.new", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let new = path.with_extension(name);
        let written = write(&new, &plan, &fill).and_then(|()| Ok(std::fs::rename(&new, path)?));
        match written {
            Ok(()) => {
                if let Some(file) = Self::open(path, plan.magic).filter(|file| file.plan == plan) {
                    return Ok(file);
                }
            }
            Err(error) => {
                let _ = std::fs::remove_file(&new);
                if !is_io(&error) {
                    return Err(error);
                }
                tracing::warn!("cannot write {}; what it would hold is kept in memory", path.display());
            }
        }
        let (ranges, length) = plan.layout().ok_or(std::io::Error::from(std::io::ErrorKind::OutOfMemory))?;
        Self::in_memory(plan, ranges, length, fill)
    }

    /// The bytes that a file would have, in memory alone.
    ///
    /// # Errors
    /// `fill` fails.
    pub(super) fn keep<E: From<std::io::Error>>(
        plan: Plan,
        fill: impl Fn(&mut dyn Sink) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (ranges, length) = plan.layout().ok_or(std::io::Error::from(std::io::ErrorKind::OutOfMemory))?;
        Self::in_memory(plan, ranges, length, fill)
    }

    fn in_memory<E: From<std::io::Error>>(
        plan: Plan,
        ranges: [Range<usize>; SECTIONS],
        length: usize,
        fill: impl Fn(&mut dyn Sink) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut sink = InMemory { map: MmapMut::map_anon(length)?, ranges };
        fill(&mut sink)?;
        Ok(Self { plan, ranges: sink.ranges, map: sink.map.make_read_only()? })
    }

    /// The numbers that its kind keeps for itself.
    pub(super) fn fields(&self) -> &[u64; FIELDS] {
        &self.plan.fields
    }

    /// The numbers of a section; empty when there is no such section.
    pub(super) fn section<T: Plain>(&self, section: usize) -> &[T] {
        let bytes = self.ranges.get(section).and_then(|range| self.map.get(range.clone())).unwrap_or_default();
        // SAFETY: every bit pattern is a `T`. A map begins at a page and sections at multiples of 64 bytes, so nothing is cut
        // off in front.
        let (_, numbers, _) = unsafe { bytes.align_to::<T>() };
        numbers
    }
}

fn write<E: From<std::io::Error>>(
    new: &Path,
    plan: &Plan,
    fill: impl Fn(&mut dyn Sink) -> Result<(), E>,
) -> Result<(), E> {
    let (ranges, length) = plan.layout().ok_or(std::io::Error::from(std::io::ErrorKind::StorageFull))?;
    let file = File::options().read(true).write(true).create(true).truncate(true).open(new)?;
    file.set_len(length as u64)?;
    let mut sink = OnDisk { file, ranges };
    fill(&mut sink)?;
    let mut file = sink.file;
    // SAFETY: nobody else knows this file's name, which holds the process id and a count.
    let sum = body_sum(unsafe { Mmap::map(&file) }?.get(HEADER_BYTES..).unwrap_or_default());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&plan.header(length, sum))?;
    file.sync_all()?;
    Ok(())
}

/// Numbers as bytes in memory order.
pub(super) fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: plain numbers have no padding, and a byte needs no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// Tells other numbers by, as a file's own sum does.
pub(super) fn sum_of<T: Plain>(numbers: &[T]) -> u64 {
    body_sum(bytes_of(numbers))
}

/// The sum of a body, on all cores: half a gigabyte is read before the first search.
fn body_sum(body: &[u8]) -> u64 {
    const PIECE: usize = 1 << 20;
    let pieces: Vec<u8> = body.par_chunks(PIECE).map(sum).flat_map_iter(u64::to_ne_bytes).collect();
    sum(&pieces)
}

/// Tells a torn or overwritten file, at the speed of memory; no defence against intent.
fn sum(bytes: &[u8]) -> u64 {
    const LANES: usize = 8;
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

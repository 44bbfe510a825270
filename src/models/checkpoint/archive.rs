//! The zip archives that torch keeps a pickle and the numbers in, since its version 1.6; `TorchScript`'s too.
//!
//! Nothing in them is compressed, so that every storage is a part of the file.
//!
//! Source: PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3; torch 2.15, `caffe2/serialize/inline_container.cc`.

use std::collections::HashMap;
use std::ops::Range;

/// How a file begins.
pub(super) const BEGIN: &[u8] = b"PK\x03\x04";
/// The pickle, in the archive's only folder.
const PICKLE: &str = "/data.pkl";

/// Where an archive's members lie.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    members: HashMap<&'a str, Member>,
    folder: &'a str,
}

#[derive(Debug)]
struct Member {
    /// Its bytes in the file as they are.
    range: Range<usize>,
    is_plain: bool,
}

impl<'a> Archive<'a> {
    /// Reads the directory at the end of the file.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let directory = directory(bytes).ok_or("the directory at its end is missing: it is cut off")?;
        let mut members = HashMap::new();
        let mut rest = directory;
        while rest.starts_with(b"PK\x01\x02") {
            let (name, member, length) = member(bytes, rest).ok_or("its directory is damaged")?;
            members.insert(name, member);
            rest = rest.get(length..).unwrap_or_default();
        }
        let pickles = members.keys().filter_map(|name| name.strip_suffix(PICKLE));
        let folder =
            pickles.min_by_key(|folder| folder.len()).ok_or("it is a zip archive that torch has not written")?;
        let archive = Self { members, folder };
        // Written since torch 2.1; before, always in the machine's own order.
        if archive.member("/byteorder").is_ok_and(|order| bytes.get(order) == Some(b"big")) {
            return Err("its numbers are big-endian".to_owned());
        }
        Ok(archive)
    }

    /// Where the pickle lies.
    ///
    /// # Errors
    /// It is compressed.
    pub fn pickle(&self) -> Result<Range<usize>, String> {
        self.member(PICKLE)
    }

    /// Where a storage lies.
    ///
    /// # Errors
    /// It is not there, or compressed.
    pub fn storage(&self, key: &str) -> Result<Range<usize>, String> {
        self.member(&format!("/data/{key}"))
    }

    fn member(&self, name: &str) -> Result<Range<usize>, String> {
        let name = format!("{}{name}", self.folder);
        match self.members.get(name.as_str()) {
            Some(Member { range, is_plain: true }) => Ok(range.clone()),
            Some(_) => Err(format!("{name} in it is compressed: save it again with torch.save")),
            None => Err(format!("{name} is not in it")),
        }
    }
}

/// The list of all members.
fn directory(bytes: &[u8]) -> Option<&[u8]> {
    /// Bytes of its fixed part; a comment may follow.
    const END: usize = 22;
    const LONGEST: usize = END + u16::MAX as usize;
    let tail = bytes.get(bytes.len().saturating_sub(LONGEST)..)?;
    let at = bytes.len() - tail.len() + memchr::memmem::rfind(tail, b"PK\x05\x06")?;
    let end = bytes.get(at..)?;
    if end.len() != END + usize::from(u16_at(end, 20)?) {
        return None;
    }
    let (mut size, mut offset) = (u64::from(u32_at(end, 12)?), u64::from(u32_at(end, 16)?));
    // Archives of more than 4 GiB, and all that torch's own writer makes, say it again in more bytes.
    if let Some(locator) = at.checked_sub(20).and_then(|at| bytes.get(at..)).filter(|at| at.starts_with(b"PK\x06\x07"))
    {
        let long = bytes.get(usize::try_from(u64_at(locator, 8)?).ok()?..)?;
        if !long.starts_with(b"PK\x06\x06") {
            return None;
        }
        (size, offset) = (u64_at(long, 40)?, u64_at(long, 48)?);
    }
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

/// The first member of a directory, and the length of what is said about it.
fn member<'a>(bytes: &[u8], entry: &'a [u8]) -> Option<(&'a str, Member, usize)> {
    const FIXED: usize = 46;
    const LOCAL: usize = 30;
    let lengths = [28, 30, 32].map(|at| u16_at(entry, at).map(usize::from));
    let [name, extra, comment] = [lengths[0]?, lengths[1]?, lengths[2]?];
    let (flags, method) = (u16_at(entry, 8)?, u16_at(entry, 10)?);
    let mut sizes = [24, 20, 42].map(|at| u32_at(entry, at).map(u64::from));
    let mut long = long_sizes(entry.get(FIXED + name..FIXED + name + extra)?);
    for size in sizes.iter_mut().filter(|size| **size == Some(u64::from(u32::MAX))) {
        *size = long.split_at_checked(8).and_then(|(first, rest)| {
            long = rest;
            u64_at(first, 0)
        });
    }
    let [length, stored, offset] = [sizes[0]?, sizes[1]?, sizes[2]?].map(usize::try_from);
    let (length, stored) = (length.ok()?, stored.ok()?);
    let local = bytes.get(offset.ok()?..).filter(|local| local.starts_with(BEGIN))?;
    let before = LOCAL + usize::from(u16_at(local, 26)?) + usize::from(u16_at(local, 28)?);
    local.get(before..before.checked_add(stored)?)?;
    let start = bytes.len() - local.len() + before;
    let is_plain = method == 0 && flags & 1 == 0 && length == stored;
    let name_bytes = entry.get(FIXED..FIXED + name)?;
    let member = Member { range: start..start + stored, is_plain };
    Some((std::str::from_utf8(name_bytes).ok()?, member, FIXED + name + extra + comment))
}

/// The numbers of eight bytes for those that have no room in four: original size, stored size, place.
fn long_sizes(extra: &[u8]) -> &[u8] {
    let mut rest = extra;
    while let (Some(id), Some(length)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let end = 4 + usize::from(length);
        if id == 1 {
            return rest.get(4..end).unwrap_or_default();
        }
        rest = rest.get(end..).unwrap_or_default();
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_le_bytes(*two))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

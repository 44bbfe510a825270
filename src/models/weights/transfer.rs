//! Fetching one blob: resumed where it broke off, checked against its hash, put in place in one step.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::cache::incomplete;
use super::checksum::Checksum;
use super::exchange::Answer;
use super::hub::{Failure, Hub, Metadata};
use crate::error::{Error, Result};

/// Which file of which commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    /// `owner/name`.
    pub(super) repository: &'a str,
    /// Full hash.
    pub(super) commit: &'a str,
    /// Name in the repository.
    pub(super) file: &'a str,
    /// Longest file that is taken.
    pub(super) max_bytes: u64,
}

impl Origin<'_> {
    /// Refuses a file whose announced or arrived length passes the limit.
    fn check_length(&self, length: u64) -> Result<()> {
        if length <= self.max_bytes {
            return Ok(());
        }
        let reason = format!("is longer than the {} bytes that are read of it", self.max_bytes);
        Err(Error::ModelFile { model: self.repository.to_owned(), file: self.file.to_owned(), reason })
    }
}

/// Fetches what is missing of a blob. `report` gets the bytes that are there. Returns the bytes that were transferred.
///
/// The caller holds the blob's lock. A blob that arrives damaged is fetched once more from its beginning, since the
/// damage may lie in a part from an earlier run.
///
/// # Errors
/// [`Error::Checksum`], the hub's and the disk's errors, [`Error::Cancelled`].
pub(super) fn fetch(
    hub: &Hub<'_>,
    origin: Origin<'_>,
    metadata: &Metadata,
    blob: &Path,
    report: &mut dyn FnMut(u64),
) -> Result<u64> {
    origin.check_length(metadata.size.unwrap_or(0))?;
    let mut partial = Partial::open(incomplete(blob), metadata.size)?;
    let mut transferred = 0;
    let mut damaged_before = false;
    loop {
        report(partial.length);
        let what = format!("{}/{}", origin.repository, origin.file);
        hub.persist(&what, || partial.receive(hub, origin, report, &mut transferred))?;
        let Some(reason) = partial.damage(hub, metadata)? else { break };
        partial.truncate()?;
        if damaged_before {
            drop(partial.file);
            std::fs::remove_file(&partial.path).map_err(Error::io("remove", &partial.path))?;
            return Err(Error::Checksum { file: what, reason });
        }
        tracing::warn!(file = what, reason, "arrived damaged; fetching it again");
        damaged_before = true;
    }
    // Renamed only after the bytes are on the disk: a power cut must not leave a whole name on half a file.
    partial.file.sync_all().map_err(Error::io("write", &partial.path))?;
    std::fs::rename(&partial.path, blob).map_err(Error::io("write", blob))?;
    Ok(transferred)
}

/// A blob that is being collected.
struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
    /// Its length when whole, if the server told.
    size: Option<u64>,
    /// The end of the body was reached; with a known size, all bytes are there.
    whole: bool,
}

impl Partial {
    fn open(path: PathBuf, size: Option<u64>) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(Error::io("write", &path))?;
        let length = file.seek(SeekFrom::End(0)).map_err(Error::io("read", &path))?;
        let mut partial = Self { path, file, length, size, whole: false };
        // Without a size nothing tells whether a part is the beginning of this file.
        if size.is_none_or(|size| length > size) {
            partial.truncate()?;
        }
        Ok(partial)
    }

    fn truncate(&mut self) -> Result<()> {
        self.whole = false;
        self.length = 0;
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(Error::io("write", &self.path))
    }

    /// One attempt to get the rest.
    fn receive(
        &mut self,
        hub: &Hub<'_>,
        origin: Origin<'_>,
        report: &mut dyn FnMut(u64),
        transferred: &mut u64,
    ) -> Result<(), Failure> {
        if self.size == Some(self.length) {
            self.whole = true;
            return Ok(());
        }
        let mut answer = hub.open(origin.repository, origin.commit, origin.file, self.length)?;
        self.check_range(&answer)?;
        while let Some(bytes) = answer.next()? {
            self.file.write_all(&bytes).map_err(Error::io("write", &self.path))?;
            self.length += bytes.len() as u64;
            origin.check_length(self.length)?;
            *transferred += bytes.len() as u64;
            hub.progressed();
            report(self.length);
            if self.size.is_some_and(|size| self.length >= size) {
                break;
            }
        }
        match self.size {
            Some(size) if self.length < size => {
                Err(Failure::passing(format!("the connection closed after {} of {size} bytes", self.length)))
            }
            _ => {
                self.whole = true;
                Ok(())
            }
        }
    }

    /// Whether the answer goes on where this file ends; starts anew where it does not.
    fn check_range(&mut self, answer: &Answer<'_>) -> Result<(), Failure> {
        let length = answer.header("content-length").and_then(|text| text.trim().parse::<u64>().ok());
        match answer.status() {
            206 => {
                // `bytes 100-199/200`: first byte, last byte, length of the whole file.
                let range = answer.header("content-range").unwrap_or_default().trim_start_matches("bytes").trim();
                let (span, total) = range.split_once('/').unwrap_or_default();
                let first = span.split_once('-').and_then(|(first, _)| first.parse::<u64>().ok());
                let same_file = total == "*" || total.parse::<u64>().ok() == self.size;
                if first != Some(self.length) || !same_file {
                    let reason = format!("asked for bytes from {} on, got `{range}`", self.length);
                    self.truncate()?;
                    return Err(Failure::passing(reason));
                }
            }
            416 => {
                self.truncate()?;
                return Err(Failure::passing("the server has no bytes where this download broke off"));
            }
            // The server ignores ranges.
            _ if self.length > 0 => self.truncate()?,
            _ => {}
        }
        match (self.size, length) {
            (Some(size), Some(length)) if self.length.saturating_add(length) != size => Err(Failure::passing(format!(
                "{size} bytes were announced, the answer holds {} of them from byte {} on",
                length, self.length
            ))),
            _ => Ok(()),
        }
    }

    /// What is wrong with the whole file, if anything.
    fn damage(&self, hub: &Hub<'_>, metadata: &Metadata) -> Result<Option<String>> {
        debug_assert!(self.whole, "checked before it was whole");
        if let Some(size) = self.size.filter(|size| *size != self.length) {
            return Ok(Some(format!("{} bytes arrived, {size} were announced", self.length)));
        }
        let Some(checksum) = Checksum::from_etag(&metadata.etag) else {
            tracing::warn!(etag = metadata.etag, "the server's etag is no hash: only the length was checked");
            return Ok(None);
        };
        let found = checksum.of(&self.path, hub.cancel())?;
        Ok((found != checksum.expected())
            .then(|| format!("its {} is {found}, {} was promised", checksum.name(), checksum.expected())))
    }
}

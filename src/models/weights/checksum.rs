//! Comparing a file with what the hub promised: the etag of a file is its hash.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Read at once; a cancellation is seen between two of these.
const BLOCK: usize = 1 << 20;

/// The hash that an etag carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Large files (git LFS): SHA-256 of the contents, 64 hexadecimal digits.
    Sha256(String),
    /// Small files: git's object id, SHA-1 of `blob <length>\0` and the contents, 40 hexadecimal digits.
    GitBlob(String),
}

impl Checksum {
    /// Reads an etag without its quotes. `None` for an etag that is no hash, as some mirrors send.
    pub(crate) fn from_etag(etag: &str) -> Option<Self> {
        if !etag.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        match etag.len() {
            64 => Some(Self::Sha256(etag.to_ascii_lowercase())),
            40 => Some(Self::GitBlob(etag.to_ascii_lowercase())),
            _ => None,
        }
    }

    /// The promised hash, hexadecimal.
    pub(crate) fn expected(&self) -> &str {
        match self {
            Self::Sha256(hash) | Self::GitBlob(hash) => hash,
        }
    }

    /// `sha256` or `git sha1`, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitBlob(_) => "git sha1",
        }
    }

    /// The hash that the file really has, hexadecimal.
    ///
    /// # Errors
    /// The file cannot be read, or the caller cancelled.
    pub(crate) fn of(&self, path: &Path, cancel: &AtomicBool) -> Result<String> {
        match self {
            Self::Sha256(_) => digest(Sha256::new(), path, cancel),
            Self::GitBlob(_) => {
                let length = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
                digest(Sha1::new_with_prefix(format!("blob {length}\0")), path, cancel)
            }
        }
    }
}

fn digest<D: Digest>(mut hash: D, path: &Path, cancel: &AtomicBool) -> Result<String> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut reader = BufReader::with_capacity(BLOCK, file);
    let mut block = vec![0_u8; BLOCK];
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match reader.read(&mut block).map_err(Error::io("read", path))? {
            0 => break,
            n => hash.update(block.get(..n).unwrap_or_default()),
        }
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_agree_with_git_and_sha256sum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello\n").unwrap();
        let of = |etag: &str| Checksum::from_etag(etag).unwrap().of(file.path(), &AtomicBool::new(false)).unwrap();
        // `git hash-object` and `sha256sum` of a file that holds "hello\n".
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(of(git), git);
        assert_eq!(of(sha256), sha256);
    }

    #[test]
    fn only_hashes_are_taken_for_hashes() {
        assert_eq!(Checksum::from_etag("d41d8cd98f00b204e9800998ecf8427e"), None);
        assert_eq!(Checksum::from_etag(&"g".repeat(64)), None);
        assert!(matches!(Checksum::from_etag(&"A".repeat(64)), Some(Checksum::Sha256(h)) if h == "a".repeat(64)));
    }

    #[test]
    fn cancelling_stops_the_hashing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let checksum = Checksum::GitBlob("0".repeat(40));
        assert!(matches!(checksum.of(file.path(), &AtomicBool::new(true)), Err(Error::Cancelled)));
    }
}

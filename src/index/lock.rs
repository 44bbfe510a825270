//! One run per folder at a time, across processes.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

/// Held while a folder is being indexed. The system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock of a folder, or says at once that another holder has it: an agent gets an answer rather than a
    /// call that hangs, and two runs over one folder would only do the same work twice.
    ///
    /// # Errors
    /// [`Error::IndexBusy`]; the data folder cannot be written.
    pub fn take(data_dir: &Path, folder: &Path) -> Result<Self> {
        let locks = data_dir.join("locks");
        std::fs::create_dir_all(&locks).map_err(Error::io("create", &locks))?;
        let name = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
        let path = locks.join(format!("{}.lock", name.get(..16).unwrap_or("folder")));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::IndexBusy { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_holder_is_told_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::take(dir.path(), Path::new("/photos")).unwrap();
        let second = FolderLock::take(dir.path(), Path::new("/photos"));
        assert!(matches!(second, Err(Error::IndexBusy { .. })));
        FolderLock::take(dir.path(), Path::new("/other")).unwrap();
        drop(first);
        FolderLock::take(dir.path(), Path::new("/photos")).unwrap();
    }
}

//! Is there room for a download?

use std::path::Path;

use crate::error::{Error, Result};

/// Left free beside the download itself, bytes.
const RESERVE: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// Refuses a download of `needed` bytes that does not fit below `folder`, which must exist.
///
/// # Errors
/// [`Error::DiskFull`]. Where the system does not tell the free space, nothing is refused.
pub(super) fn check(what: &str, folder: &Path, needed: u64) -> Result<()> {
    match free(folder) {
        Some(free) if needed > 0 && free < needed.saturating_add(RESERVE) => Err(Error::DiskFull {
            what: what.to_owned(),
            path: folder.to_path_buf(),
            needed_mib: needed.saturating_add(RESERVE).div_ceil(MIB),
            free_mib: free / MIB,
        }),
        _ => Ok(()),
    }
}

/// Bytes that this user may still write on the disk that holds `folder`.
#[cfg(unix)]
fn free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    // Some network and overlay file systems report no block size at all: that is no answer, not a full disk.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Not asked on this platform.
#[cfg(not(unix))]
fn free(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_no_disk_holds_and_lets_small_files_through() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check("model.safetensors", folder.path(), 0).is_ok());
        let refused = check("model.safetensors", folder.path(), 1 << 60).unwrap_err();
        let Error::DiskFull { needed_mib, free_mib, .. } = refused else { panic!("{refused}") };
        assert!(needed_mib > free_mib);
        assert_eq!(needed_mib, (1 << 40) + 64);
    }
}

//! Paths as the database stores them: bytes, so that a name which is no UTF-8 survives, and so that everything under
//! a folder is one range of the path index.

use std::path::{MAIN_SEPARATOR, Path, PathBuf};

/// The bytes of a path; `None` on a system whose paths are not bytes, for a name that is no Unicode.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have names without a form")]
pub(super) fn to_bytes(path: &Path) -> Option<&[u8]> {
    use std::os::unix::ffi::OsStrExt;
    Some(path.as_os_str().as_bytes())
}

/// The bytes of a path; `None` on a system whose paths are not bytes, for a name that is no Unicode.
#[cfg(not(unix))]
pub(super) fn to_bytes(path: &Path) -> Option<&[u8]> {
    path.to_str().map(str::as_bytes)
}

/// The path of stored bytes.
#[cfg(unix)]
pub(super) fn from_bytes(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The path of stored bytes.
#[cfg(not(unix))]
pub(super) fn from_bytes(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

/// `[from, to)`: the stored paths under a folder, the folder itself not among them.
pub(super) fn range_under(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut from = to_bytes(folder).map(<[u8]>::to_vec).unwrap_or_default();
    let separator = MAIN_SEPARATOR as u8;
    if from.last() != Some(&separator) {
        from.push(separator);
    }
    let mut to = from.clone();
    // The separator is not 0xff, so its successor is one byte too.
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_folder_and_not_its_neighbours() {
        for folder in ["/a/b", "/a/b/", "/"] {
            let (from, to) = range_under(Path::new(folder));
            let inside = |path: &str| (from.as_slice()..to.as_slice()).contains(&path.as_bytes());
            assert!(inside("/a/b/c.jpg") && inside("/a/b/d/e.jpg"));
            assert_eq!(inside("/a/bc.jpg"), folder == "/");
            assert!(!inside(folder.trim_end_matches('/')));
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_utf8_survive() {
        let bytes = b"/a/\xff\xfe.jpg".to_vec();
        assert_eq!(to_bytes(&from_bytes(bytes.clone())), Some(bytes.as_slice()));
    }
}

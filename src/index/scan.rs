//! Walking a folder: which files can be images, each with its size and time, without reading what is known.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{DirEntry, FileType, Metadata};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use super::paths::to_bytes;
use crate::error::{Error, Result};

/// What a scan may do.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions<'a> {
    /// Links are followed only to what lies inside one of these; absolute and resolved.
    pub roots: &'a [PathBuf],
    /// Ends the scan early when set.
    pub cancel: &'a AtomicBool,
}

/// A file that can be an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path under the scanned folder (a link's own path, not its target's).
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Time of modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// It is an image by its name, in a format that is not read here (camera raw, say).
    pub unreadable_format: bool,
}

/// What a scan met besides the files that it reported.
#[derive(Debug, Clone, Default)]
pub struct ScanSummary {
    /// Directory entries of the folder itself, of any kind.
    pub top_entries: u64,
    /// Folders that could not be read, with the reason.
    pub unread: Vec<(PathBuf, String)>,
    /// Links that lead out of the roots or nowhere, and names that cannot be stored, with the reason.
    pub passed_over: Vec<(PathBuf, String)>,
    /// The scan was cancelled and is not complete.
    pub cancelled: bool,
}

/// Extensions of formats that are read here.
const IMAGES: &[&str] = &[
    "jpg", "jpeg", "jpe", "jfif", "jif", "jfi", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "heic",
    "heif", "hif", "avif",
];

/// Extensions of images that are not read here: they become rows with a reason, so that nobody wonders where they are.
const OTHER_IMAGES: &[&str] = &[
    "jxl", "jp2", "j2k", "jpx", "psd", "xcf", "svg", "raw", "dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf",
    "pef", "srw", "tga", "exr", "hdr", "ico", "pnm", "ppm", "pgm", "pbm", "qoi",
];

/// Folders that hold thumbnails, deleted files or other people's packages. Hidden ones (`.git`, `.Trash`) are skipped by
/// their dot.
const SKIPPED_FOLDERS: &[&str] = &["node_modules", "@eadir", "#recycle", "$recycle.bin", "__macosx", "lost+found"];

/// Walks a folder and reports each file that can be an image. Memory grows with the number of folders, not of files.
///
/// Every real folder is visited once, and links after the folders, so a loop of links ends and a file inside the scanned
/// folder is met under its own path rather than under a link's.
///
/// # Errors
/// The folder itself is missing, is none or cannot be read; whatever `report` returns.
pub fn scan(
    folder: &Path,
    options: ScanOptions<'_>,
    report: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<ScanSummary> {
    let real = folder.canonicalize().map_err(Error::io("open", folder))?;
    if !real.is_dir() {
        return Err(Error::NotAFolder { path: folder.to_owned() });
    }
    let mut walk = Walk {
        root: real.clone(),
        options,
        visited: HashSet::new(),
        folders: vec![(folder.to_owned(), real)],
        links: Vec::new(),
        summary: ScanSummary::default(),
        report,
    };
    walk.run()?;
    Ok(walk.summary)
}

struct Walk<'a> {
    /// The scanned folder, resolved.
    root: PathBuf,
    options: ScanOptions<'a>,
    /// Resolved paths of the folders that were read.
    visited: HashSet<PathBuf>,
    /// Folders to read: path as reported, path resolved.
    folders: Vec<(PathBuf, PathBuf)>,
    /// Links to look at once the folders are done.
    links: Vec<PathBuf>,
    summary: ScanSummary,
    report: &'a mut dyn FnMut(Found) -> Result<()>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            while let Some((path, real)) = self.folders.pop() {
                let top = self.visited.is_empty();
                if !self.visited.insert(real.clone()) {
                    continue;
                }
                match self.read_folder(&path, &real, top) {
                    Err(error) if top => return Err(error),
                    Err(Error::Io { path, source, .. }) => self.summary.unread.push((path, source.to_string())),
                    // A folder that vanished meanwhile is no failure: its files are gone too.
                    Err(Error::NotFound { .. }) => {}
                    done => done?,
                }
                if self.summary.cancelled {
                    return Ok(());
                }
            }
            let Some(link) = self.links.pop() else { return Ok(()) };
            self.follow(link)?;
        }
    }

    fn read_folder(&mut self, folder: &Path, real: &Path, top: bool) -> Result<()> {
        for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
            if self.options.cancel.load(Ordering::Relaxed) {
                self.summary.cancelled = true;
                return Ok(());
            }
            // An entry that cannot be read hides others too: the folder counts as unread, so nothing is forgotten.
            let entry = entry.map_err(Error::io("read", folder))?;
            self.summary.top_entries += u64::from(top);
            let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else { continue };
            if !is_hidden(&name) {
                self.look_at(&entry, kind, &name, real)?;
            }
        }
        Ok(())
    }

    fn look_at(&mut self, entry: &DirEntry, kind: FileType, name: &OsStr, real: &Path) -> Result<()> {
        if kind.is_symlink() {
            self.links.push(entry.path());
        } else if kind.is_dir() {
            if !is_skipped_folder(name) {
                self.folders.push((entry.path(), real.join(name)));
            }
        } else if kind.is_file()
            && let Some(class) = classify_name(name)
        {
            // Pipes, sockets and devices never get here: opening one could wait for ever.
            match entry.metadata() {
                Ok(metadata) => self.file(entry.path(), &metadata, class)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => self.summary.unread.push((entry.path(), error.to_string())),
            }
        }
        Ok(())
    }

    fn follow(&mut self, link: PathBuf) -> Result<()> {
        let Ok(target) = link.canonicalize() else {
            if link.file_name().and_then(classify_name).is_some_and(|class| class != Name::Unknown) {
                self.summary.passed_over.push((link, "a link that leads nowhere".into()));
            }
            return Ok(());
        };
        if target.starts_with(&self.root) {
            return Ok(()); // Met, or skipped, under its own path.
        }
        let Ok(metadata) = target.metadata() else { return Ok(()) };
        let class = link.file_name().and_then(classify_name);
        let wanted = metadata.is_dir() || (metadata.is_file() && class.is_some_and(|class| class != Name::Unknown));
        if !wanted || link.file_name().is_some_and(is_skipped_folder) {
            return Ok(());
        }
        if !self.options.roots.iter().any(|root| target.starts_with(root)) {
            self.summary.passed_over.push((link, "a link that leads outside the allowed roots".into()));
        } else if metadata.is_dir() {
            self.folders.push((link, target));
        } else if let Some(class) = class {
            self.file(link, &metadata, class)?;
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, metadata: &Metadata, class: Name) -> Result<()> {
        if class == Name::Unknown && !begins_like_an_image(&path) {
            return Ok(());
        }
        if to_bytes(&path).is_none() {
            self.summary.passed_over.push((path, "its name is no Unicode".into()));
            return Ok(());
        }
        let found = Found {
            size: metadata.len(),
            mtime_ns: mtime_ns(metadata),
            unreadable_format: class == Name::OtherImage,
            path,
        };
        (self.report)(found)
    }
}

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Image,
    OtherImage,
    /// No extension: its first bytes decide.
    Unknown,
}

/// `None` for a name that is no image's.
fn classify_name(name: &OsStr) -> Option<Name> {
    let Some(extension) = Path::new(name).extension() else { return Some(Name::Unknown) };
    let extension = extension.to_str()?.to_ascii_lowercase();
    if IMAGES.contains(&extension.as_str()) {
        Some(Name::Image)
    } else {
        OTHER_IMAGES.contains(&extension.as_str()).then_some(Name::OtherImage)
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

fn is_skipped_folder(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| SKIPPED_FOLDERS.contains(&name.to_ascii_lowercase().as_str()))
}

fn begins_like_an_image(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::with_capacity(16);
    let read = std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    let iso_media = start.get(4..8) == Some(b"ftyp".as_slice());
    let heif = matches!(
        start.get(8..12),
        Some(b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"mif1" | b"msf1" | b"avif" | b"avis")
    );
    read.is_ok()
        && ([b"\xff\xd8\xff".as_slice(), b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*"]
            .iter()
            .any(|magic| start.starts_with(magic))
            || (start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP".as_slice()))
            || (iso_media && heif))
}

pub(super) fn mtime_ns(metadata: &Metadata) -> i64 {
    let Ok(modified) = metadata.modified() else { return 0 };
    match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and more bytes";

    fn make(dir: &Path, files: &[&str]) {
        for file in files {
            let path = dir.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, PNG).unwrap();
        }
    }

    fn names(folder: &Path, roots: &[PathBuf]) -> (Vec<String>, ScanSummary) {
        let cancel = AtomicBool::new(false);
        let mut found = Vec::new();
        let summary = scan(folder, ScanOptions { roots, cancel: &cancel }, &mut |file| {
            found.push(file.path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            Ok(())
        });
        found.sort();
        (found, summary.unwrap())
    }

    #[test]
    fn finds_images_by_name_or_first_bytes_and_skips_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = ["IMG_0001.HEIC", "a/b/c.JPeG", "bare", "d.jfif", "e.cr2"];
        make(dir.path(), &wanted);
        make(dir.path(), &["f.txt", ".hidden.jpg", ".git/g.png", "node_modules/x/h.png", "@eaDir/i.jpg", "._a.jpg"]);
        std::fs::write(dir.path().join("README"), "words").unwrap();
        std::fs::create_dir(dir.path().join("folder.jpg")).unwrap();
        assert_eq!(names(dir.path(), &[]).0, wanted);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_inside_the_roots_only_and_loops_end() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        make(&base, &["photos/a.png", "photos/sub/b.png", "shared/c.png", "shared/deep/d.png", "secret/e.png"]);
        let photos = base.join("photos");
        symlink(&photos, photos.join("sub/loop")).unwrap();
        symlink(&base, photos.join("up")).unwrap();
        symlink(photos.join("a.png"), photos.join("again.png")).unwrap();
        symlink(base.join("shared/c.png"), photos.join("c-link.png")).unwrap();
        symlink(base.join("shared/deep"), photos.join("deep")).unwrap();
        symlink(base.join("secret/e.png"), photos.join("e-link.png")).unwrap();
        symlink(base.join("nowhere.png"), photos.join("dead.png")).unwrap();
        let (found, summary) = names(&photos, &[photos.clone(), base.join("shared")]);
        assert_eq!(found, ["a.png", "c-link.png", "deep/d.png", "sub/b.png"]);
        let mut passed: Vec<_> = summary.passed_over.iter().map(|(p, _)| p.file_name().unwrap()).collect();
        passed.sort();
        assert_eq!(passed, ["dead.png", "e-link.png", "up"]);
        // With everything allowed, the link upwards is walked once and ends.
        let (found, _) = names(&photos, std::slice::from_ref(&base));
        assert!(found.contains(&"up/secret/e.png".to_owned()) && found.len() < 12, "{found:?}");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_not_opened_and_odd_names_survive() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let pipe = std::ffi::CString::new(dir.path().join("pipe.jpg").as_os_str().as_bytes()).unwrap();
        // SAFETY: a valid, terminated path.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        std::fs::write(dir.path().join(OsStr::from_bytes(b"\xff.png")), PNG).unwrap();
        let cancel = AtomicBool::new(false);
        let mut found = Vec::new();
        scan(dir.path(), ScanOptions { roots: &[], cancel: &cancel }, &mut |file| {
            found.push(file.path);
            Ok(())
        })
        .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file_name().unwrap().as_bytes(), b"\xff.png");
    }

    #[test]
    fn a_missing_folder_and_a_file_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), &["a.png"]);
        let cancel = AtomicBool::new(false);
        let options = ScanOptions { roots: &[], cancel: &cancel };
        let missing = scan(&dir.path().join("b"), options, &mut |_| Ok(()));
        assert!(matches!(missing, Err(Error::NotFound { .. })));
        assert!(matches!(scan(&dir.path().join("a.png"), options, &mut |_| Ok(())), Err(Error::NotAFolder { .. })));
    }

    #[test]
    fn a_set_flag_ends_the_scan() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), &["a.png", "b.png"]);
        let cancel = AtomicBool::new(true);
        let summary = scan(dir.path(), ScanOptions { roots: &[], cancel: &cancel }, &mut |_| Ok(())).unwrap();
        assert!(summary.cancelled);
    }
}

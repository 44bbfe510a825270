//! Which pictures a search may answer with, and the files that show them.

use std::path::{Path, PathBuf};

use super::catalogue::Catalogue;
use super::paths::{from_bytes, range_under};
use crate::error::Result;

/// Limits on the images that a search may return; the default lets everything through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Only files under one of these; empty for anywhere. Absolute, resolved.
    pub under: Vec<PathBuf>,
    /// Taken (else modified) at or after, seconds since 1970.
    pub from: Option<i64>,
    /// Taken (else modified) before, seconds since 1970.
    pub until: Option<i64>,
    /// Least width, pixels.
    pub min_width: Option<u32>,
    /// Greatest width, pixels.
    pub max_width: Option<u32>,
    /// Least height, pixels.
    pub min_height: Option<u32>,
    /// Greatest height, pixels.
    pub max_height: Option<u32>,
    /// Smallest file, bytes.
    pub min_bytes: Option<u64>,
    /// Largest file, bytes.
    pub max_bytes: Option<u64>,
    /// Lower-case format names (`jpeg`, `png`); empty for all.
    pub formats: Vec<String>,
}

/// A file that shows a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Its path.
    pub path: PathBuf,
    /// Bytes, when it was indexed.
    pub size: u64,
    /// Time of modification when it was indexed, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Format, lower case.
    pub format: String,
    /// When it was taken, seconds since 1970.
    pub taken_at: Option<i64>,
    /// Its difference hash.
    pub look: u64,
}

impl FileRow {
    /// When it was taken, else modified; seconds since 1970.
    pub fn date(&self) -> i64 {
        date(self.taken_at, self.mtime_ns)
    }
}

/// When a file was taken, else modified; seconds since 1970.
pub(super) fn date(taken_at: Option<i64>, mtime_ns: i64) -> i64 {
    taken_at.unwrap_or(mtime_ns.div_euclid(1_000_000_000))
}

/// What a filter looks at, apart from the path and the format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Bytes.
    pub(super) size: u64,
    /// See [`FileRow::date`].
    pub(super) date: i64,
    /// Pixels across.
    pub(super) width: u32,
    /// Pixels down.
    pub(super) height: u32,
}

impl Filter {
    /// Whether a file passes.
    pub fn admits(&self, file: &FileRow) -> bool {
        let facts = Facts { size: file.size, date: file.date(), width: file.width, height: file.height };
        self.is_under(&file.path) && self.admits_facts(&facts) && self.admits_format(&file.format)
    }

    /// Whether a file passes, but for its place and its format.
    pub(super) fn admits_facts(&self, file: &Facts) -> bool {
        let within = |value: u64, least: Option<u64>, most: Option<u64>| {
            least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most)
        };
        within(u64::from(file.width), self.min_width.map(u64::from), self.max_width.map(u64::from))
            && within(u64::from(file.height), self.min_height.map(u64::from), self.max_height.map(u64::from))
            && within(file.size, self.min_bytes, self.max_bytes)
            && self.from.is_none_or(|from| file.date >= from)
            && self.until.is_none_or(|until| file.date < until)
    }

    /// Whether files of a format pass.
    pub(super) fn admits_format(&self, format: &str) -> bool {
        self.formats.is_empty() || self.formats.iter().any(|admitted| admitted == format)
    }

    fn is_under(&self, path: &Path) -> bool {
        self.under.is_empty() || self.under.iter().any(|folder| path.starts_with(folder))
    }

    /// Whether it looks at more than the place.
    pub(super) fn looks_at_files(&self) -> bool {
        *self != Self { under: self.under.clone(), ..Self::default() }
    }

    /// The ranges of stored paths, without the folders that lie in others of the list.
    pub(super) fn ranges(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        if self.under.is_empty() {
            return vec![(Vec::new(), vec![0xff; 8])];
        }
        let mut folders: Vec<&PathBuf> = self.under.iter().collect();
        folders.sort();
        folders.dedup();
        let outer = |folder: &&&PathBuf| !self.under.iter().any(|o| o != **folder && folder.starts_with(o));
        folders.iter().filter(outer).map(|folder| range_under(folder)).collect()
    }
}

const FILE_COLUMNS: &str = "path, size, mtime_ns, width, height, format, taken_at, look";

impl Catalogue {
    /// The files that show a picture, in the order of their paths.
    ///
    /// # Errors
    /// The database fails.
    pub fn files_of(&self, content: i64) -> Result<Vec<FileRow>> {
        let failed = self.failed();
        let sql = format!(
            "SELECT {FILE_COLUMNS} FROM file JOIN content ON content.id = content_id WHERE content_id = ?1 ORDER BY path"
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        let rows = statement.query_map([content], |row| read_file(row, 0)).and_then(Iterator::collect);
        rows.map_err(&failed)
    }
}

/// A file from the columns of [`FILE_COLUMNS`], the first of which is `at`.
fn read_file(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<FileRow> {
    Ok(FileRow {
        path: from_bytes(row.get(at)?),
        size: u64::try_from(row.get::<_, i64>(at + 1)?).unwrap_or(0),
        mtime_ns: row.get(at + 2)?,
        width: row.get(at + 3)?,
        height: row.get(at + 4)?,
        format: row.get(at + 5)?,
        taken_at: row.get(at + 6)?,
        look: row.get::<_, i64>(at + 7)? as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> FileRow {
        FileRow {
            path: "/photos/a.jpg".into(),
            size: 1000,
            mtime_ns: 5_000_000_000,
            width: 640,
            height: 480,
            format: "jpeg".into(),
            taken_at: None,
            look: 0,
        }
    }

    #[test]
    fn each_limit_admits_and_refuses() {
        let all = Filter::default();
        let cases: [(Filter, Filter); 6] = [
            (
                Filter { under: vec!["/photos".into()], ..all.clone() },
                Filter { under: vec!["/ph".into()], ..all.clone() },
            ),
            (Filter { from: Some(5), ..all.clone() }, Filter { from: Some(6), ..all.clone() }),
            (Filter { until: Some(6), ..all.clone() }, Filter { until: Some(5), ..all.clone() }),
            (Filter { min_width: Some(640), ..all.clone() }, Filter { max_height: Some(479), ..all.clone() }),
            (Filter { max_bytes: Some(1000), ..all.clone() }, Filter { min_bytes: Some(1001), ..all.clone() }),
            (
                Filter { formats: vec!["png".into(), "jpeg".into()], ..all.clone() },
                Filter { formats: vec!["png".into()], ..all.clone() },
            ),
        ];
        assert!(all.admits(&file()));
        for (passes, fails) in cases {
            assert!(passes.admits(&file()), "{passes:?}");
            assert!(!fails.admits(&file()), "{fails:?}");
        }
    }

    #[test]
    fn the_date_is_when_it_was_taken_else_modified() {
        assert_eq!(file().date(), 5);
        assert_eq!(FileRow { taken_at: Some(-7), ..file() }.date(), -7);
        assert_eq!(FileRow { mtime_ns: -1, ..file() }.date(), -1);
    }

    #[test]
    fn nested_folders_are_read_once() {
        let under = vec!["/a/b".into(), "/a".into(), "/a".into(), "/c".into()];
        assert_eq!(Filter { under, ..Filter::default() }.ranges().len(), 2);
    }
}

//! What the index holds, for summaries and the status resource.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::params;

use super::catalogue::Catalogue;
use super::paths::{from_bytes, range_under};
use super::sets::SetInfo;
use crate::error::Result;

/// A run over a folder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunRecord {
    /// When it ended, seconds since 1970.
    pub at: i64,
    /// How long it took.
    pub seconds: f64,
    /// Files that could be images.
    pub found: u64,
    /// It was neither cancelled nor cut short.
    pub complete: bool,
}

/// How much of a folder can be searched, and why not all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Files known under the folder.
    pub files: u64,
    /// Files whose picture has a vector in the set.
    pub indexed: u64,
    /// Files that are pictures but have no vector in the set: the model was changed, or the run was cut short.
    pub waiting: u64,
    /// Files that are no readable picture.
    pub refused: u64,
    /// Some of those, with the reason, in the order of their paths.
    pub reasons: Vec<(PathBuf, String)>,
}

/// One indexed folder.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderStatus {
    /// Its path.
    pub path: PathBuf,
    /// Whether it can be read now; a removable disk may be away.
    pub available: bool,
    /// Its last run.
    pub last_run: Option<RunRecord>,
    /// For each vector set, by its id.
    pub coverage: BTreeMap<i64, Coverage>,
}

/// Everything that the index can say about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexStatus {
    /// The database file.
    pub file: PathBuf,
    /// Bytes on disk, vector files included.
    pub bytes: u64,
    /// Vector sets.
    pub sets: Vec<SetInfo>,
    /// Folders.
    pub folders: Vec<FolderStatus>,
    /// Files known.
    pub files: u64,
    /// Different pictures known.
    pub pictures: u64,
}

/// Reasons that a status lists for each folder.
const REASONS_LISTED: usize = 20;

impl Catalogue {
    /// What can be searched under a folder (`None`: anywhere) with a vector set (`None`: with no model yet), with up to
    /// `reasons` files that cannot.
    ///
    /// # Errors
    /// The database fails.
    pub fn coverage(&self, under: Option<&Path>, set: Option<&SetInfo>, reasons: usize) -> Result<Coverage> {
        let failed = self.failed();
        let (from, to) = under.map_or((Vec::new(), vec![0xff; 8]), range_under);
        let set = set.map(|set| set.id);
        let counts = "SELECT COUNT(*), COUNT(reason), COUNT(CASE WHEN EXISTS
                          (SELECT 1 FROM vector WHERE set_id = ?3 AND vector.content_id = file.content_id) THEN 1 END)
                      FROM file WHERE path >= ?1 AND path < ?2";
        let mut statement = self.connection.prepare_cached(counts).map_err(&failed)?;
        let (files, refused, indexed): (i64, i64, i64) = statement
            .query_row(params![from, to, set], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(&failed)?;
        let why = "SELECT path, reason FROM file WHERE reason IS NOT NULL AND path >= ?1 AND path < ?2
                   ORDER BY path LIMIT ?3";
        let mut statement = self.connection.prepare_cached(why).map_err(&failed)?;
        let rows = statement
            .query_map(params![from, to, reasons as i64], |row| Ok((from_bytes(row.get(0)?), row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(&failed)?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Coverage {
            files: count(files),
            indexed: count(indexed),
            waiting: count(files - refused - indexed),
            refused: count(refused),
            reasons: rows,
        })
    }

    /// The state of the index.
    ///
    /// # Errors
    /// The database fails.
    pub fn status(&self) -> Result<IndexStatus> {
        let sets = self.sets()?;
        let mut folders = Vec::new();
        for (path, last_run) in self.folders()? {
            let mut coverage = BTreeMap::new();
            for set in &sets {
                coverage.insert(set.id, self.coverage(Some(&path), Some(set), REASONS_LISTED)?);
            }
            folders.push(FolderStatus { available: path.is_dir(), path, last_run, coverage });
        }
        let count = |sql: &str| {
            let counted = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            counted.map(|n| u64::try_from(n).unwrap_or(0)).map_err(self.failed())
        };
        Ok(IndexStatus {
            file: self.file().to_owned(),
            bytes: bytes_in(self.data_dir()),
            files: count("SELECT COUNT(*) FROM file")?,
            pictures: count("SELECT COUNT(*) FROM content")?,
            sets,
            folders,
        })
    }
}

/// Size of the index's own files: the data folder is flat but for its locks.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|m| m.len())
        .sum()
}

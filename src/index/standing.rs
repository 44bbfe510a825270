//! What the index knows of one file: the first question when a search does not find a picture.

use std::path::Path;

use rusqlite::{OptionalExtension, params};

use super::catalogue::Catalogue;
use super::paths::to_bytes;
use super::scan::mtime_ns;
use super::sets::SetInfo;
use crate::error::{Error, Result};

/// What the index knows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No index run has met it.
    Unknown,
    /// Its picture has a vector in the set, and the file is as it was then; holds the picture's id.
    Current(i64),
    /// It was changed since it was indexed.
    Changed,
    /// It is known, but has no vector of this model.
    NoVector,
    /// It was refused, with the reason.
    Refused(String),
}

impl Catalogue {
    /// What is known of a file, with regard to one vector set.
    ///
    /// # Errors
    /// The file cannot be looked at; the database fails.
    pub fn standing(&self, path: &Path, set: &SetInfo) -> Result<Standing> {
        let metadata = std::fs::metadata(path).map_err(Error::io("look at", path))?;
        let sql = "SELECT size = ?2 AND mtime_ns = ?3, reason, content_id,
                       EXISTS (SELECT 1 FROM vector WHERE set_id = ?4 AND vector.content_id = file.content_id)
                   FROM file WHERE path = ?1";
        let size = i64::try_from(metadata.len()).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql).map_err(self.failed())?;
        let found = statement
            .query_row(params![to_bytes(path), size, mtime_ns(&metadata), set.id], |row| {
                let (same, reason): (bool, Option<String>) = (row.get(0)?, row.get(1)?);
                let content: Option<i64> = row.get(2)?;
                Ok(match (same, reason, content) {
                    (false, ..) => Standing::Changed,
                    (true, Some(reason), _) => Standing::Refused(reason),
                    (true, None, Some(content)) if row.get(3)? => Standing::Current(content),
                    (true, None, _) => Standing::NoVector,
                })
            })
            .optional()
            .map_err(self.failed())?;
        Ok(found.unwrap_or(Standing::Unknown))
    }
}

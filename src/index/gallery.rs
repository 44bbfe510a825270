//! The pictures under a folder with their vectors: for comparing with each of them, rather than searching.

use std::path::{Path, PathBuf};

use rusqlite::params;

use super::catalogue::Catalogue;
use super::paths::{from_bytes, range_under};
use super::sets::{SetInfo, unpack};
use crate::error::Result;

/// A file with the vector of its picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its path.
    pub path: PathBuf,
    /// The picture: files with the same bytes have the same.
    pub content: i64,
    /// Shape: `[dim]`, unit length but for the rounding of storing it.
    pub vector: Vec<f32>,
}

impl Catalogue {
    /// The files under a folder that have a vector in a set, in the order of their paths, and no more than `most` of them.
    ///
    /// # Errors
    /// The database fails.
    pub fn examples_under(&self, set: &SetInfo, folder: &Path, most: usize) -> Result<Vec<Example>> {
        let failed = self.failed();
        let (from, to) = range_under(folder);
        let sql = "SELECT path, file.content_id, vector FROM file JOIN vector ON vector.content_id = file.content_id
                   WHERE set_id = ?1 AND path >= ?2 AND path < ?3 ORDER BY path LIMIT ?4";
        let mut statement = self.connection.prepare_cached(sql).map_err(&failed)?;
        let rows = statement.query_map(params![set.id, from, to, most as i64], |row| {
            let vector: Vec<u8> = row.get(2)?;
            Ok(Example { path: from_bytes(row.get(0)?), content: row.get(1)?, vector: unpack(&vector) })
        });
        rows.and_then(Iterator::collect).map_err(&failed)
    }
}

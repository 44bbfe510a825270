//! Files and pictures: what is known of a path, storing a batch, forgetting what vanished.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use super::calibration::ImageCalibration;
use super::catalogue::{Catalogue, now};
use super::paths::{from_bytes, range_under, to_bytes};
use super::sets::{SetInfo, pack};
use super::status::RunRecord;
use crate::error::{Error, Result};

/// A picture, whatever its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// BLAKE3 of the file's bytes.
    pub hash: [u8; 32],
    /// Pixels across, upright.
    pub width: u32,
    /// Pixels down, upright.
    pub height: u32,
    /// Sniffed format, lower case.
    pub format: String,
    /// When it was taken, seconds since 1970.
    pub taken_at: Option<i64>,
    /// Its difference hash: pictures that look the same differ in few bits.
    pub look: u64,
}

/// What is known of a file that a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Triage {
    /// Not in the catalogue.
    New,
    /// Its size or time differs, or its picture has no vector in this set, or another decoder refused it.
    Stale,
    /// Its picture has a vector; holds the row.
    Unchanged(i64),
    /// It was refused and is the same still; holds the row and the reason.
    Refused(i64, String),
}

/// A file to be stored.
#[derive(Debug, Clone)]
pub struct FileRecord {
    /// Absolute path.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Time of modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// What became of it.
    pub outcome: FileOutcome,
}

/// What became of a file.
#[derive(Debug, Clone)]
pub enum FileOutcome {
    /// A new picture with its vector.
    Embedded {
        /// The picture.
        content: Content,
        /// Shape: `[dim]`, unit length.
        vector: Vec<f32>,
        /// Against the set's null texts.
        calibration: ImageCalibration,
    },
    /// A picture that the catalogue has a vector of: a copy, or a moved file.
    Known {
        /// BLAKE3 of the file's bytes.
        hash: [u8; 32],
    },
    /// No picture.
    Refused {
        /// Why.
        reason: String,
        /// Names the decoder and its limits: another one tries again.
        decoder: String,
    },
}

/// A row that a batch wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub file: i64,
    /// The picture, unless refused.
    pub content: Option<i64>,
}

/// What a batch did for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A path that was not there before.
    Added(Row),
    /// A known path with another picture than before.
    Updated(Row),
    /// A known path with the same picture: only its time changed, or it got a vector of another model.
    Same(Row),
    /// Nothing: the picture that it is a copy of is not there (any more); the next run reads it.
    Missing,
}

impl Catalogue {
    /// What is known of a path, by size and time alone; the file is not read.
    ///
    /// # Errors
    /// The database fails.
    pub fn triage(&self, path: &Path, size: u64, mtime_ns: i64, set: &SetInfo, decoder: &str) -> Result<Triage> {
        let sql = "SELECT id, size = ?2 AND mtime_ns = ?3, reason, decoder IS ?4,
                       EXISTS (SELECT 1 FROM vector WHERE set_id = ?5 AND vector.content_id = file.content_id)
                   FROM file WHERE path = ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(self.failed())?;
        let found = statement
            .query_row(params![to_bytes(path), size as i64, mtime_ns, decoder, set.id], |row| {
                let (id, same): (i64, bool) = (row.get(0)?, row.get(1)?);
                let reason: Option<String> = row.get(2)?;
                Ok(match reason {
                    _ if !same => Triage::Stale,
                    Some(reason) if row.get(3)? => Triage::Refused(id, reason),
                    None if row.get(4)? => Triage::Unchanged(id),
                    _ => Triage::Stale,
                })
            })
            .optional()
            .map_err(self.failed())?;
        Ok(found.unwrap_or(Triage::New))
    }

    /// Whether a picture has a vector in this set.
    ///
    /// # Errors
    /// The database fails.
    pub fn has_vector(&self, hash: &[u8; 32], set: &SetInfo) -> Result<bool> {
        let sql = "SELECT 1 FROM content JOIN vector ON content_id = content.id WHERE hash = ?1 AND set_id = ?2";
        let mut statement = self.connection.prepare_cached(sql).map_err(self.failed())?;
        statement.exists(params![hash, set.id]).map_err(self.failed())
    }

    /// The id of the newest file row: rows above it were written after this call.
    ///
    /// # Errors
    /// The database fails.
    pub fn newest_file(&self) -> Result<i64> {
        let sql = "SELECT COALESCE(MAX(id), 0) FROM file";
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(self.failed())
    }

    /// Stores a batch in one transaction: after a crash it is there whole or not at all. The result is in the order of the
    /// records.
    ///
    /// # Errors
    /// The database fails (a full disk, say); nothing of the batch is stored then.
    pub fn write_batch(&mut self, set: &SetInfo, records: &[FileRecord]) -> Result<Vec<Written>> {
        let failed = self.failed();
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let written: rusqlite::Result<Vec<_>> = records.iter().map(|record| write_record(&step, set, record)).collect();
        let written = written.map_err(&failed)?;
        step.commit().map_err(&failed)?;
        Ok(written)
    }

    /// Forgets the files of a folder that a complete scan did not meet (`met`: ids of file rows). Kept are rows newer
    /// than `newest` (a run over a nested folder may have added them meanwhile) and everything under `unread` folders.
    /// Returns how many were removed, and how many of those had their picture turn up among `arrived`: they were moved.
    ///
    /// # Errors
    /// The database fails.
    pub fn remove_unmet(
        &mut self,
        folder: &Path,
        met: &HashSet<i64>,
        newest: i64,
        unread: &[PathBuf],
        arrived: &HashSet<i64>,
    ) -> Result<(u64, u64)> {
        let failed = self.failed();
        let (from, to) = range_under(folder);
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let mut gone: Vec<(i64, Option<i64>)> = Vec::new();
        {
            let sql = "SELECT id, content_id, path FROM file WHERE path >= ?1 AND path < ?2 AND id <= ?3";
            let mut statement = step.prepare(sql).map_err(&failed)?;
            let mut rows = statement.query(params![from, to, newest]).map_err(&failed)?;
            while let Some(row) = rows.next().map_err(&failed)? {
                let id: i64 = row.get(0).map_err(&failed)?;
                if met.contains(&id) {
                    continue;
                }
                let path = from_bytes(row.get(2).map_err(&failed)?);
                if !unread.iter().any(|folder| path.starts_with(folder)) {
                    gone.push((id, row.get(1).map_err(&failed)?));
                }
            }
            let mut delete = step.prepare("DELETE FROM file WHERE id = ?1").map_err(&failed)?;
            for (id, _) in &gone {
                delete.execute([id]).map_err(&failed)?;
            }
        }
        step.commit().map_err(&failed)?;
        let moved: HashSet<i64> =
            gone.iter().filter_map(|(_, content)| *content).filter(|c| arrived.contains(c)).collect();
        Ok((gone.len() as u64, moved.len() as u64))
    }

    /// Whether any file under the folder is in the catalogue.
    ///
    /// # Errors
    /// The database fails.
    pub fn knows_files_under(&self, folder: &Path) -> Result<bool> {
        let (from, to) = range_under(folder);
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM file WHERE path >= ?1 AND path < ?2")
            .map_err(self.failed())?;
        statement.exists(params![from, to]).map_err(self.failed())
    }

    /// Notes a run over a folder.
    ///
    /// # Errors
    /// The database fails.
    pub fn note_run(&self, folder: &Path, seconds: f64, found: u64, complete: bool) -> Result<()> {
        let sql = "INSERT INTO folder (path, last_run_at, last_seconds, last_found, last_complete)
                   VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (path) DO UPDATE SET last_run_at = excluded.last_run_at,
                       last_seconds = excluded.last_seconds, last_found = excluded.last_found,
                       last_complete = excluded.last_complete";
        let values = params![to_bytes(folder), now(), seconds, found as i64, complete];
        self.connection.execute(sql, values).map(drop).map_err(self.failed())
    }

    /// The folders that were indexed, each with its last run, in the order of their paths.
    ///
    /// # Errors
    /// The database fails.
    pub fn folders(&self) -> Result<Vec<(PathBuf, Option<RunRecord>)>> {
        let failed = self.failed();
        let sql = "SELECT path, last_run_at, last_seconds, last_found, last_complete FROM folder ORDER BY path";
        let mut statement = self.connection.prepare_cached(sql).map_err(&failed)?;
        let rows = statement.query_map([], |row| {
            let at: Option<i64> = row.get(1)?;
            let run = at.map(|at| {
                Ok::<_, rusqlite::Error>(RunRecord {
                    at,
                    seconds: row.get(2)?,
                    found: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
                    complete: row.get(4)?,
                })
            });
            Ok((from_bytes(row.get(0)?), run.transpose()?))
        });
        rows.and_then(Iterator::collect).map_err(&failed)
    }

    /// Forgets a folder and its files, nested indexed folders excepted. Vectors stay until [`Catalogue::prune`].
    /// Returns the number of files forgotten.
    ///
    /// # Errors
    /// The folder was never indexed; the database fails.
    pub fn remove_folder(&mut self, folder: &Path) -> Result<u64> {
        let failed = self.failed();
        let others: Vec<PathBuf> = self.folders()?.into_iter().map(|(path, _)| path).filter(|p| p != folder).collect();
        if self.connection.execute("DELETE FROM folder WHERE path = ?1", [to_bytes(folder)]).map_err(&failed)? == 0 {
            return Err(Error::NothingIndexed { under: Some(folder.to_owned()) });
        }
        if others.iter().any(|other| folder.starts_with(other)) {
            return Ok(0); // An indexed folder above still claims the files.
        }
        let nothing = HashSet::new();
        let (removed, _) = self.remove_unmet(folder, &nothing, i64::MAX, &others, &nothing)?;
        Ok(removed)
    }
}

/// Writes one record. A path that cannot be stored is passed over.
fn write_record(step: &Transaction<'_>, set: &SetInfo, record: &FileRecord) -> rusqlite::Result<Written> {
    let path = to_bytes(&record.path);
    let old: Option<(i64, Option<i64>)> = step
        .prepare_cached("SELECT id, content_id FROM file WHERE path = ?1")?
        .query_row([path], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (content, reason, decoder) = match &record.outcome {
        FileOutcome::Embedded { content, vector, calibration } => {
            let id = write_content(step, content)?;
            // Another process may have embedded the same picture meanwhile: the first vector stays.
            step.prepare_cached(
                "INSERT OR IGNORE INTO vector (set_id, content_id, mean, spread, vector) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![set.id, id, calibration.mean, calibration.spread, pack(vector)])?;
            (Some(id), None, None)
        }
        FileOutcome::Known { hash } => {
            let id = step
                .prepare_cached(
                    "SELECT content.id FROM content JOIN vector ON content_id = content.id
                     WHERE hash = ?1 AND set_id = ?2",
                )?
                .query_row(params![hash, set.id], |row| row.get(0))
                .optional()?;
            let Some(id) = id else { return Ok(Written::Missing) };
            (Some(id), None, None)
        }
        FileOutcome::Refused { reason, decoder } => (None, Some(reason), Some(decoder)),
    };
    let file = step
        .prepare_cached(
            "INSERT INTO file (path, size, mtime_ns, content_id, reason, decoder) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (path) DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns,
                 content_id = excluded.content_id, reason = excluded.reason, decoder = excluded.decoder
             RETURNING id",
        )?
        .query_row(params![path, record.size as i64, record.mtime_ns, content, reason, decoder], |row| row.get(0))?;
    let row = Row { file, content };
    Ok(match old {
        None => Written::Added(row),
        Some((_, before)) if before == content => Written::Same(row),
        Some(_) => Written::Updated(row),
    })
}

fn write_content(step: &Transaction<'_>, content: &Content) -> rusqlite::Result<i64> {
    // The update keeps what a newer decoder learnt (a date, say) and makes RETURNING answer for a known picture too.
    step.prepare_cached(
        "INSERT INTO content (hash, width, height, format, taken_at, look) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (hash) DO UPDATE SET width = excluded.width, height = excluded.height,
             format = excluded.format, taken_at = excluded.taken_at, look = excluded.look
         RETURNING id",
    )?
    .query_row(
        params![content.hash, content.width, content.height, content.format, content.taken_at, content.look as i64],
        |row| row.get(0),
    )
}

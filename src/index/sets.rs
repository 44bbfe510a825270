//! Vector sets: one per model, revision, precision and preprocessing; and the null texts that calibrate each.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rusqlite::{OptionalExtension, Row as SqlRow, TransactionBehavior, params};

use super::calibration::ImageCalibration;
use super::catalogue::{Catalogue, now};
use crate::error::Result;

/// What makes two vectors comparable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetKey {
    /// The model's id.
    pub model: String,
    /// Its revision.
    pub revision: String,
    /// `f32`, `bf16`, `int8`.
    pub precision: String,
    /// Length of the vectors.
    pub dim: usize,
    /// Names the input pipeline.
    pub preprocessing: String,
}

/// A vector set of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetInfo {
    /// Its row.
    pub id: i64,
    /// What it holds.
    pub key: SetKey,
    /// Grows whenever vectors are changed or removed.
    pub epoch: i64,
    /// Number of vectors; pictures, not files.
    pub vectors: u64,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Its model reads texts: it was calibrated against neutral ones.
    pub reads_texts: bool,
}

const SET_COLUMNS: &str = "id, model, revision, precision, dim, preprocessing, epoch, created_at,
    (SELECT vectors FROM vector_count WHERE set_id = vector_set.id), COALESCE(LENGTH(null_vectors), 0) > 0";

impl Catalogue {
    /// All vector sets, oldest first.
    ///
    /// # Errors
    /// The database fails.
    pub fn sets(&self) -> Result<Vec<SetInfo>> {
        let failed = self.failed();
        let sql = format!("SELECT {SET_COLUMNS} FROM vector_set ORDER BY id");
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        let rows = statement.query_map([], read_set).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// The set of this model, if anything was ever indexed with it.
    ///
    /// # Errors
    /// The database fails.
    pub fn find_set(&self, key: &SetKey) -> Result<Option<SetInfo>> {
        let sql = format!(
            "SELECT {SET_COLUMNS} FROM vector_set
             WHERE model = ?1 AND revision = ?2 AND precision = ?3 AND dim = ?4 AND preprocessing = ?5"
        );
        let values = params![key.model, key.revision, key.precision, key.dim as i64, key.preprocessing];
        let mut statement = self.connection.prepare_cached(&sql).map_err(self.failed())?;
        statement.query_row(values, read_set).optional().map_err(self.failed())
    }

    /// The set of this model, made when it is not there yet. Sets of other models stay as they are.
    ///
    /// # Errors
    /// The database fails.
    pub fn ensure_set(&self, key: &SetKey) -> Result<SetInfo> {
        if let Some(set) = self.find_set(key)? {
            return Ok(set);
        }
        let values = params![key.model, key.revision, key.precision, key.dim as i64, key.preprocessing, now()];
        let sql = "INSERT OR IGNORE INTO vector_set (model, revision, precision, dim, preprocessing, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.connection.execute(sql, values).map_err(self.failed())?;
        self.find_set(key)?.ok_or_else(|| self.failed()(rusqlite::Error::QueryReturnedNoRows))
    }

    /// Removes a set with its vectors and its vector file, and pictures that no file and no set needs any more.
    /// Returns the number of vectors removed.
    ///
    /// # Errors
    /// The database fails.
    pub fn remove_set(&mut self, id: i64) -> Result<u64> {
        let failed = self.failed();
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let removed = step.execute("DELETE FROM vector WHERE set_id = ?1", [id]).map_err(&failed)?;
        step.execute("DELETE FROM vector_set WHERE id = ?1", [id]).map_err(&failed)?;
        step.execute(UNUSED_CONTENT, []).map_err(&failed)?;
        step.commit().map_err(&failed)?;
        // The file is a cache under an id that is never used again; one that cannot be removed only takes room.
        let _ = std::fs::remove_file(super::vectors::file_of(self.data_dir(), id));
        let _ = std::fs::remove_file(super::vectors::links_of(self.data_dir(), id));
        Ok(removed as u64)
    }

    /// Removes the vectors of pictures that no file shows any more. They are kept otherwise, so that a photo that was
    /// moved to a folder which is indexed later costs no embedding. Returns their number.
    ///
    /// # Errors
    /// The database fails.
    pub fn prune(&mut self) -> Result<u64> {
        let failed = self.failed();
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let orphan = "NOT EXISTS (SELECT 1 FROM file WHERE file.content_id = vector.content_id)";
        let touched = format!(
            "UPDATE vector_set SET epoch = epoch + 1 WHERE EXISTS
            (SELECT 1 FROM vector WHERE set_id = vector_set.id AND {orphan})"
        );
        step.execute(&touched, []).map_err(&failed)?;
        let removed = step.execute(&format!("DELETE FROM vector WHERE {orphan}"), []).map_err(&failed)?;
        step.execute(UNUSED_CONTENT, []).map_err(&failed)?;
        step.commit().map_err(&failed)?;
        Ok(removed as u64)
    }

    /// The null-text vectors of a set, when they were made from the list with this fingerprint.
    /// Shape: each `[dim]`, unit length.
    ///
    /// # Errors
    /// The database fails.
    pub fn null_vectors(&self, set: &SetInfo, fingerprint: &str) -> Result<Option<Vec<Vec<f32>>>> {
        let sql = "SELECT null_vectors FROM vector_set WHERE id = ?1 AND null_fingerprint = ?2";
        let blob: Option<Vec<u8>> = self
            .connection
            .query_row(sql, params![set.id, fingerprint], |row| row.get(0))
            .optional()
            .map_err(self.failed())?;
        Ok(blob.map(|blob| unpack(&blob).chunks(set.key.dim.max(1)).map(<[f32]>::to_vec).collect()))
    }

    /// Stores the null-text vectors of a set and calibrates the vectors that it already holds against them.
    ///
    /// # Errors
    /// The database fails.
    pub fn store_null_vectors(&mut self, set: &SetInfo, fingerprint: &str, nulls: &[Vec<f32>]) -> Result<()> {
        let failed = self.failed();
        let blob: Vec<u8> = nulls.iter().flat_map(|null| pack(null)).collect();
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let sql = "UPDATE vector_set SET null_fingerprint = ?2, null_vectors = ?3, epoch = epoch + 1 WHERE id = ?1";
        step.execute(sql, params![set.id, fingerprint, blob]).map_err(&failed)?;
        {
            let mut read =
                step.prepare("SELECT id, vector FROM vector WHERE set_id = ?1 AND id > ?2 ORDER BY id LIMIT 512");
            let read = read.as_mut().map_err(|_| failed(rusqlite::Error::InvalidQuery))?;
            let mut write = step.prepare("UPDATE vector SET mean = ?2, spread = ?3 WHERE id = ?1").map_err(&failed)?;
            let mut last = 0_i64;
            loop {
                let page: Vec<(i64, Vec<u8>)> = read
                    .query_map([set.id, last], |row| Ok((row.get(0)?, row.get(1)?)))
                    .and_then(Iterator::collect)
                    .map_err(&failed)?;
                let Some((end, _)) = page.last() else { break };
                last = *end;
                for (id, vector) in page {
                    let calibration = ImageCalibration::measure(&unpack(&vector), nulls);
                    write.execute(params![id, calibration.mean, calibration.spread]).map_err(&failed)?;
                }
            }
        }
        step.commit().map_err(&failed)
    }
}

/// Deletes pictures without a file and without a vector.
const UNUSED_CONTENT: &str = "DELETE FROM content
    WHERE NOT EXISTS (SELECT 1 FROM file WHERE file.content_id = content.id)
    AND NOT EXISTS (SELECT 1 FROM vector WHERE vector.content_id = content.id)";

fn read_set(row: &SqlRow<'_>) -> rusqlite::Result<SetInfo> {
    Ok(SetInfo {
        id: row.get(0)?,
        key: SetKey {
            model: row.get(1)?,
            revision: row.get(2)?,
            precision: row.get(3)?,
            dim: usize::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
            preprocessing: row.get(5)?,
        },
        epoch: row.get(6)?,
        created_at: row.get(7)?,
        vectors: row.get::<_, Option<i64>>(8)?.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        reads_texts: row.get(9)?,
    })
}

/// Little-endian half floats: half the disk and half the memory traffic of a scan. The rounding moves a cosine of unit
/// vectors by about 1e-5, far below the steps between results.
pub(super) fn pack(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
}

/// The inverse of [`pack`].
pub(super) fn unpack(bytes: &[u8]) -> Vec<f32> {
    let halves: Vec<f16> = bytes.as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair)).collect();
    halves.to_f32_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_keeps_three_digits() {
        let vector: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).sin() * 0.1).collect();
        for (a, b) in vector.iter().zip(unpack(&pack(&vector))) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn another_revision_is_another_set() {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(dir.path()).unwrap();
        let key = SetKey {
            model: "m".into(),
            revision: "1".into(),
            precision: "f32".into(),
            dim: 4,
            preprocessing: "p".into(),
        };
        let first = catalogue.ensure_set(&key).unwrap();
        assert_eq!(catalogue.ensure_set(&key).unwrap(), first);
        let second = catalogue.ensure_set(&SetKey { revision: "2".into(), ..key }).unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(catalogue.sets().unwrap(), vec![first, second]);
    }
}

//! What detectors found in pictures, kept by the picture's content: a repeated count costs a look-up.

use rusqlite::{OptionalExtension, params};

use super::catalogue::{Catalogue, now};
use crate::error::Result;

/// Something that a detector found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoredBox {
    /// Left, top, right, bottom in pixels.
    pub bounds: [f32; 4],
    /// The detector's score.
    pub score: f32,
    /// Position in the detector's labels.
    pub class: u32,
}

/// All that a detector found in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDetections {
    /// Width of the upright picture, pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Best first.
    pub boxes: Vec<StoredBox>,
}

/// Bytes of a packed box: six little-endian numbers.
const BOX_BYTES: usize = 24;

impl Catalogue {
    /// What a detector found in a picture before. `hash` is the BLAKE3 of the file; `detector` names the detector, its
    /// revision, and how it was run.
    ///
    /// # Errors
    /// The database fails.
    pub fn stored_detections(&self, hash: &[u8; 32], detector: &str) -> Result<Option<StoredDetections>> {
        let sql = "SELECT width, height, boxes FROM detection WHERE hash = ?1 AND detector = ?2";
        let mut statement = self.connection.prepare_cached(sql).map_err(self.failed())?;
        let found = statement.query_row(params![hash, detector], |row| {
            let packed: Vec<u8> = row.get(2)?;
            Ok(StoredDetections { width: row.get(0)?, height: row.get(1)?, boxes: unpack(&packed) })
        });
        found.optional().map_err(self.failed())
    }

    /// Keeps what a detector found.
    ///
    /// # Errors
    /// The database fails.
    pub fn store_detections(&self, hash: &[u8; 32], detector: &str, found: &StoredDetections) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO detection (hash, detector, width, height, found_at, boxes)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut statement = self.connection.prepare_cached(sql).map_err(self.failed())?;
        let values = params![hash, detector, found.width, found.height, now(), pack(&found.boxes)];
        statement.execute(values).map(drop).map_err(self.failed())
    }
}

fn pack(boxes: &[StoredBox]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(boxes.len() * BOX_BYTES);
    for one in boxes {
        one.bounds.iter().chain([&one.score]).for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes.extend(one.class.to_le_bytes());
    }
    bytes
}

fn unpack(bytes: &[u8]) -> Vec<StoredBox> {
    let boxes = bytes.as_chunks::<BOX_BYTES>().0.iter().filter_map(|packed| {
        let mut numbers = packed.as_chunks::<4>().0.iter();
        let mut next = || numbers.next().map(|four| f32::from_le_bytes(*four));
        let (bounds, score) = ([next()?, next()?, next()?, next()?], next()?);
        Some(StoredBox { bounds, score, class: u32::from_le_bytes(*numbers.next()?) })
    });
    boxes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_comes_back_for_this_picture_and_this_detector_only() {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(dir.path()).unwrap();
        let one = StoredBox { bounds: [0.5, 1.0, 20.25, 3e4], score: 0.75, class: 79 };
        let found = StoredDetections { width: 640, height: 480, boxes: vec![one, StoredBox { class: 0, ..one }] };
        catalogue.store_detections(&[1; 32], "nano 1", &found).unwrap();
        catalogue.store_detections(&[1; 32], "nano 1", &found).unwrap();
        assert_eq!(catalogue.stored_detections(&[1; 32], "nano 1").unwrap(), Some(found));
        assert_eq!(catalogue.stored_detections(&[2; 32], "nano 1").unwrap(), None);
        assert_eq!(catalogue.stored_detections(&[1; 32], "nano 2").unwrap(), None);
        let nothing = StoredDetections { width: 1, height: 1, boxes: Vec::new() };
        catalogue.store_detections(&[3; 32], "nano 1", &nothing).unwrap();
        assert_eq!(catalogue.stored_detections(&[3; 32], "nano 1").unwrap(), Some(nothing));
    }
}

//! Contact sheets of hits: pictures where looking beats reading.

use std::path::Path;

use crate::error::{Error, Result};
use crate::pixels::{self, DecodeLimits, Tile};

/// Tiles in a row of a sheet.
const COLUMNS: u32 = 5;

/// Writes one sheet of `(path, caption)` tiles. A picture that cannot be read any more is left out.
///
/// # Errors
/// The file cannot be written.
pub fn hits(title: &str, hits: &[(String, String)], limits: &DecodeLimits, out: &Path) -> Result<()> {
    let tiles = tiles(hits.iter().map(|(path, caption)| (path.as_str(), caption.clone())), limits);
    let columns = COLUMNS.min(u32::try_from(tiles.len()).unwrap_or(COLUMNS)).max(1);
    save(&pixels::contact_sheet(title, &tiles, columns), out)
}

/// Writes one sheet with a row of hits for each query.
///
/// # Errors
/// The file cannot be written.
pub fn rows(rows: &[(String, Vec<String>)], limits: &DecodeLimits, out: &Path) -> Result<()> {
    let columns = rows.iter().map(|(_, hits)| hits.len()).max().unwrap_or(1).max(1);
    let mut all = Vec::new();
    for (query, hits) in rows {
        let captions = hits.iter().enumerate().map(|(i, path)| {
            let caption = if i == 0 { format!("\"{query}\"") } else { format!("{}", i + 1) };
            (path.as_str(), caption)
        });
        all.extend(tiles(captions, limits));
    }
    save(&pixels::contact_sheet("clip-aware demo: one search in each row, best first", &all, columns as u32), out)
}

fn tiles<'a>(hits: impl Iterator<Item = (&'a str, String)>, limits: &DecodeLimits) -> Vec<Tile> {
    hits.filter_map(|(path, caption)| match pixels::decode_file(Path::new(path), limits) {
        Ok(picture) => Some(Tile { rgb: picture.rgb, caption }),
        Err(error) => {
            tracing::warn!("left out of the sheet: {error}");
            None
        }
    })
    .collect()
}

fn save(sheet: &image::RgbImage, out: &Path) -> Result<()> {
    sheet
        .save_with_format(out, image::ImageFormat::Png)
        .map_err(|error| Error::io("write", out)(std::io::Error::other(error)))
}

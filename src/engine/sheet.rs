//! Contact sheets of hits: pictures where looking beats reading.

use std::path::Path;

use crate::error::{Error, Result};
use crate::pixels::{self, DecodeLimits, Tile};

/// Type and data of the PNG text chunk that marks our sheets.
const MARK: &[u8] = b"tEXtSoftware\0clip-aware contact sheet";
/// Bytes of a file in which the mark is looked for.
const MARK_WITHIN: usize = 256;
/// Tiles in a row of a sheet.
const COLUMNS: u32 = 5;

/// Refuses a target that could be one of the user's photos: anything that does not end in `.png`, and a PNG that is there
/// already but is no sheet of ours.
///
/// # Errors
/// The target is refused, or its folder is missing.
pub fn check_target(out: &Path) -> Result<()> {
    let refuse = |reason: String| Err(Error::Argument { name: "--sheet", reason });
    if !out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return refuse(format!("writes a PNG: end its name in .png, not `{}`", out.display()));
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Error::NotAFolder { path: folder.to_path_buf() });
    }
    match std::fs::read(out) {
        Ok(bytes) if !bytes.windows(MARK.len()).take(MARK_WITHIN).any(|window| window == MARK) => {
            refuse(format!("would replace {}, which is no contact sheet: choose another name", out.display()))
        }
        _ => Ok(()),
    }
}

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

/// Writes the PNG with a text chunk behind its header, by which [`check_target`] knows it again.
///
/// # Errors
/// The file cannot be written.
pub fn save(sheet: &image::RgbImage, out: &Path) -> Result<()> {
    /// Signature and IHDR of every PNG.
    const HEAD: usize = 8 + 25;
    let mut png = pixels::encode_png(sheet)?;
    let mut chunk = (MARK.len() as u32 - 4).to_be_bytes().to_vec();
    chunk.extend_from_slice(MARK);
    chunk.extend_from_slice(&crc32(MARK).to_be_bytes());
    let at = HEAD.min(png.len());
    png.splice(at..at, chunk);
    std::fs::write(out, png).map_err(Error::io("write", out))
}

/// CRC of a PNG chunk's type and data (PNG specification, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::{check_target, save};

    #[test]
    fn a_sheet_replaces_a_sheet_but_never_a_photo() {
        let dir = tempfile::tempdir().unwrap();
        let picture = image::RgbImage::from_pixel(40, 30, image::Rgb([9, 8, 7]));
        let (photo, sheet) = (dir.path().join("photo.png"), dir.path().join("sheet.png"));
        picture.save(&photo).unwrap();
        assert!(check_target(&photo).unwrap_err().to_string().contains("no contact sheet"));
        assert!(check_target(&dir.path().join("photo.jpg")).unwrap_err().to_string().contains(".png"));
        assert!(check_target(&dir.path().join("absent/sheet.png")).is_err());
        check_target(&sheet).unwrap();
        save(&picture, &sheet).unwrap();
        check_target(&sheet).unwrap();
        assert_eq!(image::open(&sheet).unwrap().into_rgb8(), picture);
    }
}

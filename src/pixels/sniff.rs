//! Which format a file's first bytes are; file names are not trusted.

use image::ImageFormat;

/// A format that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// JPEG, by its own decoder.
    Jpeg,
    /// HEIC, by its own decoder.
    Heic,
    /// AVIF, by its own decoder.
    #[cfg(feature = "avif")]
    Avif,
    /// One that the `image` crate reads.
    Raster(ImageFormat),
}

impl Format {
    /// Lower-case name, as the index records it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Heic => "heic",
            #[cfg(feature = "avif")]
            Self::Avif => "avif",
            Self::Raster(ImageFormat::Png) => "png",
            Self::Raster(ImageFormat::WebP) => "webp",
            Self::Raster(ImageFormat::Gif) => "gif",
            Self::Raster(ImageFormat::Bmp) => "bmp",
            Self::Raster(_) => "tiff",
        }
    }
}

/// The format of some bytes, or in words what they seem to be.
pub(super) fn sniff(bytes: &[u8]) -> Result<Format, String> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\xff\xd8\xff") {
        Ok(Format::Jpeg)
    } else if starts(b"\x89PNG\r\n\x1a\n") {
        Ok(Format::Raster(ImageFormat::Png))
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Ok(Format::Raster(ImageFormat::WebP))
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Ok(Format::Raster(ImageFormat::Gif))
    } else if is_bmp(bytes) {
        Ok(Format::Raster(ImageFormat::Bmp))
    } else if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
        Ok(Format::Raster(ImageFormat::Tiff))
    } else if bytes.get(4..8) == Some(b"ftyp") {
        sniff_iso_media(bytes)
    } else {
        Err(describe(bytes))
    }
}

/// "BM" alone starts many a text, so the size of the second header is looked at as well.
fn is_bmp(bytes: &[u8]) -> bool {
    let header_bytes = bytes.get(14..18).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    bytes.starts_with(b"BM") && matches!(header_bytes, Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

/// HEIC, AVIF and films share one container; the brands in its first box tell them apart.
fn sniff_iso_media(bytes: &[u8]) -> Result<Format, String> {
    const HEVC_BRANDS: [&[u8]; 6] = [b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2"];
    let box_end = bytes.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
    let brands = bytes.get(8..box_end.clamp(12, 512).min(bytes.len())).unwrap_or_default();
    let mut brands = brands.chunks_exact(4);
    let major = brands.next().unwrap_or_default();
    if major == b"avif" || major == b"avis" || brands.clone().any(|brand| brand == b"avif") {
        return avif();
    }
    if HEVC_BRANDS.contains(&major) || brands.any(|brand| HEVC_BRANDS.contains(&brand)) {
        return Ok(Format::Heic);
    }
    Err(match major {
        b"crx " => "a camera raw file: convert it to JPEG or TIFF".into(),
        b"hevc" | b"hevx" | b"msf1" => "a HEIF image sequence without a still picture".into(),
        _ => "a film or another media file".into(),
    })
}

#[cfg(feature = "avif")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature it is an error")]
fn avif() -> Result<Format, String> {
    Ok(Format::Avif)
}

#[cfg(not(feature = "avif"))]
fn avif() -> Result<Format, String> {
    Err("AVIF, which this build does not decode: build with `cargo install --features avif`, or convert it to JPEG"
        .into())
}

/// What else it could be, for the message.
fn describe(bytes: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 14] = [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"%PDF", "a PDF document"),
        (b"8BPS", "a Photoshop document"),
        (b"\0\0\x01\0", "an icon file"),
        (b"\x76\x2f\x31\x01", "OpenEXR"),
        (b"qoif", "QOI"),
        (b"DDS ", "a DirectDraw surface"),
        (b"PK\x03\x04", "a ZIP archive or an office document"),
        (b"\x1f\x8b", "gzip data"),
        (b"\x1aE\xdf\xa3", "a film"),
        (b"FUJIFILM", "a camera raw file"),
    ];
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*name).into();
    }
    let start = bytes.get(..bytes.len().min(512)).unwrap_or_default();
    if start.iter().all(|&byte| byte == 0) {
        return "nothing but zero bytes".into();
    }
    // A multi-byte character may be cut at the end of the part that is looked at.
    let text = match std::str::from_utf8(start) {
        Ok(text) => Some(text),
        Err(cut) if cut.error_len().is_none() => std::str::from_utf8(&start[..cut.valid_up_to()]).ok(),
        Err(_) => None,
    };
    match text.map(str::trim_start) {
        Some(text) if text.contains("<svg") => "SVG: convert it to PNG".into(),
        Some(text) if text.starts_with('<') => "HTML or XML text".into(),
        Some(text) if !text.contains('\0') => "text".into(),
        _ => "unknown binary data".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_starts_like_a_bitmap_is_text() {
        assert_eq!(sniff(b"BMW drove past the house, twice").unwrap_err(), "text");
    }

    #[test]
    fn brands_decide_inside_the_shared_container() {
        assert_eq!(sniff(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic").unwrap(), Format::Heic);
        let avif = sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf");
        assert!(match avif {
            Ok(format) => cfg!(feature = "avif") && format.name() == "avif",
            Err(found) => !cfg!(feature = "avif") && found.starts_with("AVIF") && found.contains("--features avif"),
        });
        assert!(sniff(b"\0\0\0\x14ftypisom\0\0\0\0mp42").unwrap_err().contains("film"));
        assert!(sniff(b"\xff\xff\xff\xffftyp").is_err());
    }

    #[test]
    fn other_files_are_named_for_the_message() {
        for (bytes, found) in [
            (&b"%PDF-1.7"[..], "a PDF document"),
            (b"<?xml version='1.0'?><svg/>", "SVG: convert it to PNG"),
            (b"\0\0\0\0\0\0\0\0", "nothing but zero bytes"),
            (b"\x80\x81\x82\x83", "unknown binary data"),
            ("\u{e9}t\u{e9}".as_bytes(), "text"),
        ] {
            assert_eq!(sniff(bytes).unwrap_err(), found);
        }
    }
}

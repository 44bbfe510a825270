//! AVIF: a HEIF container with AV1 pictures in it (feature `avif`; ARCHITECTURE.md says why it is off by default).
//!
//! `heifer` reads the container, `re_rav1d` the AV1 frames; colours are worked out here as libyuv does it below Pillow:
//! deep samples lose their low bits first, subsampled chroma is smoothed (3:1 in each direction), the matrix has six bits.

mod colour;

use std::ops::Range;

use heifer::heifer_isobmff::HeifFile;
use heifer::heifer_isobmff::boxes::{ColorInfo, Grid, Property};
use image::{DynamicImage, RgbImage};
use re_rav1d::pixel::{MatrixCoefficients, YUVRange};
use re_rav1d::{Decoder, PixelLayout, PlanarImageComponent, Settings};

use super::decode::{DecodeLimits, Refusal};
use super::exif::{self, Exif};
use super::raster;

/// A still picture is one frame; layered ones have up to four. More would be work without a picture to show for it.
const MOST_FRAMES: usize = 4;
const ALPHA: [&str; 2] = ["urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", "urn:mpeg:hevc:2015:auxid:1"];

fn broken(reason: &str) -> Refusal {
    Refusal::Broken(reason.into())
}

fn unsupported(what: &str) -> Refusal {
    Refusal::Unsupported(format!("AVIF with {what}"))
}

fn parse(bytes: &[u8]) -> Result<HeifFile<'_>, Refusal> {
    Ok(HeifFile::parse(bytes).map_err(heifer::Error::from)?)
}

/// The size that the container states for one item, before it is turned.
fn stored_size(file: &HeifFile<'_>, id: u32) -> Result<(u32, u32), Refusal> {
    let size = file.image_size(id).map_err(heifer::Error::from)?;
    size.filter(|size| size.0 > 0 && size.1 > 0).ok_or_else(|| broken("its picture has no size"))
}

fn properties<'f>(file: &'f HeifFile<'_>, id: u32) -> Result<impl Iterator<Item = &'f Property>, Refusal> {
    Ok(file.item_properties(id).map_err(heifer::Error::from)?)
}

/// Width and height, upright.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Refusal> {
    let file = parse(bytes)?;
    let id = file.primary_id;
    let (width, height) = stored_size(&file, id)?;
    let turns =
        properties(&file, id)?.filter(|p| matches!(p, Property::Rotation(quarters) if quarters % 2 == 1)).count();
    Ok(if turns % 2 == 1 { (height, width) } else { (width, height) })
}

/// The date. The container's rotation and mirroring win over EXIF's orientation, as they do for Pillow.
pub(super) fn exif(bytes: &[u8]) -> Exif {
    let tiff = HeifFile::parse(bytes).ok().and_then(|file| file.exif(file.primary_id).ok().flatten());
    tiff.map_or(Exif::NONE, |tiff| Exif { taken_at: exif::read_raw(tiff).taken_at, ..Exif::NONE })
}

/// Bytes that [`decode`] holds at its peak: the decoder's frame with its notes and a second frame where film grain is
/// laid on, the planes that are copied out of it, then the RGB; transparency and a turn add theirs.
pub(super) fn peak_bytes(bytes: &[u8]) -> Result<u64, Refusal> {
    let file = parse(bytes)?;
    let id = file.primary_id;
    let (width, height) = stored_size(&file, id)?;
    let pixels = u64::from(width) * u64::from(height);
    let tile = match file.item(id).map_err(heifer::Error::from)?.item_type.0 {
        kind if kind == *b"grid" => file.referenced_items(id, b"dimg").first().copied(),
        _ => Some(id),
    };
    let tile = tile.ok_or_else(|| broken("its grid has no tiles"))?;
    let tile_pixels = stored_size(&file, tile).map(|(w, h)| u64::from(w) * u64::from(h))?;
    let (deep, half_samples) = coded_form(&file, tile)?;
    let turned = properties(&file, id)?.any(|p| matches!(p, Property::Rotation(1..) | Property::Mirror(_)));
    let alpha = alpha_of(&file)?.is_some();
    // Twice the samples a pixel, so that 4:2:0 (one and a half) stays whole.
    let planes = pixels * half_samples / 2;
    let frame = tile_pixels * half_samples / 2 * if deep { 2 } else { 1 };
    let while_decoding = planes + 2 * frame + tile_pixels;
    let after = planes + 3 * pixels + if alpha { 8 * pixels } else { 0 };
    let turning = if turned { 7 * pixels } else { 0 };
    Ok(while_decoding.max(after).max(turning) + if alpha { pixels } else { 0 })
}

/// From `av1C`: whether samples have more than eight bits, and twice the number of samples a pixel.
fn coded_form(file: &HeifFile<'_>, id: u32) -> Result<(bool, u64), Refusal> {
    let config = properties(file, id)?.find_map(|property| match property {
        Property::Unknown(kind, content) if kind.0 == *b"av1C" => content.get(2).copied(),
        _ => None,
    });
    let flags = config.ok_or_else(|| broken("its picture has no av1C box"))?;
    let half_samples = match (flags & 0x10 != 0, flags & 0x08 != 0, flags & 0x04 != 0) {
        (true, ..) => 2,
        (_, true, true) => 3,
        (_, true, false) => 4,
        _ => 6,
    };
    Ok((flags & 0x40 != 0, half_samples))
}

/// The item that holds the transparency of the primary one.
fn alpha_of(file: &HeifFile<'_>) -> Result<Option<u32>, Refusal> {
    for id in file.referencing_items(file.primary_id, b"auxl") {
        if properties(file, id)?.any(|p| matches!(p, Property::AuxiliaryType(kind) if ALPHA.contains(&kind.as_str()))) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The pixels, upright.
pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, Refusal> {
    let file = parse(bytes)?;
    let id = file.primary_id;
    check_understood(&file, id)?;
    let picture = read_planes(&file, id, limits)?;
    let (width, height) = (picture.width, picture.height);
    let mut rgb = picture.to_rgb()?;
    drop(picture);
    if let Some(alpha) = alpha_of(&file)? {
        if !file.referenced_items(id, b"prem").is_empty() {
            return Err(unsupported("colours multiplied by their transparency"));
        }
        let mask = read_planes(&file, alpha, limits)?;
        if (mask.width, mask.height) != (width, height) {
            return Err(broken("its transparency has another size than its picture"));
        }
        if !mask.full_range {
            return Err(unsupported("transparency in limited range"));
        }
        let pixels = rgb.as_chunks().0.iter().zip(&mask.samples[0]);
        let rgba: Vec<u8> = pixels.flat_map(|(&[r, g, b], &alpha)| [r, g, b, alpha]).collect();
        rgb = raster::over_white(&rgba);
    }
    let mut upright = DynamicImage::ImageRgb8(raster::rgb_image(width, height, rgb)?);
    for property in properties(&file, id)? {
        match property {
            // The container counts anti-clockwise.
            Property::Rotation(1) => upright = upright.rotate270(),
            Property::Rotation(2) => upright = upright.rotate180(),
            Property::Rotation(3) => upright = upright.rotate90(),
            Property::Mirror(true) => upright = upright.flipv(),
            Property::Mirror(false) => upright = upright.fliph(),
            _ => {}
        }
    }
    Ok(upright.into_rgb8())
}

/// A property that a reader must understand to show the picture rightly is understood, or the picture is refused.
fn check_understood(file: &HeifFile<'_>, id: u32) -> Result<(), Refusal> {
    for association in &file.item(id).map_err(heifer::Error::from)?.properties {
        let property = usize::from(association.index).checked_sub(1).and_then(|index| file.properties.get(index));
        match property {
            Some(Property::CleanAperture { .. }) => return Err(unsupported("a crop (clap)")),
            Some(Property::Unknown(kind, _)) if association.essential && kind.0 != *b"av1C" => {
                return Err(unsupported(&format!("the property {}", kind.0.escape_ascii())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Luma and chroma of a picture, eight bits each; no chroma for grey ones.
struct Planes {
    width: u32,
    height: u32,
    /// By how many bits chroma's columns and rows are fewer than luma's.
    shift: (u32, u32),
    samples: [Vec<u8>; 3],
    matrix: u16,
    full_range: bool,
}

impl Planes {
    /// Columns and rows of one plane.
    fn extent(&self, plane: usize) -> (usize, usize) {
        let (x, y) = if plane == 0 { (0, 0) } else { self.shift };
        ((self.width as usize + ((1 << x) >> 1)) >> x, (self.height as usize + ((1 << y) >> 1)) >> y)
    }

    /// How many planes hold samples.
    fn used(&self) -> Range<usize> {
        0..if self.samples[1].is_empty() { 1 } else { 3 }
    }
}

/// Decodes one item, a coded picture or a grid of such.
fn read_planes(file: &HeifFile<'_>, id: u32, limits: &DecodeLimits) -> Result<Planes, Refusal> {
    let (width, height) = stored_size(file, id)?;
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(Refusal::TooLarge(format!("a part of {width}x{height} pixels")));
    }
    let mut planes = match file.item(id).map_err(heifer::Error::from)?.item_type.0 {
        kind if kind == *b"av01" => read_coded(file, id)?,
        kind if kind == *b"grid" => read_grid(file, id, (width, height))?,
        kind => return Err(unsupported(&format!("a picture of kind {}", kind.escape_ascii()))),
    };
    for property in properties(file, id)? {
        if let Property::Color(ColorInfo::Nclx { matrix, full_range, .. }) = property {
            (planes.matrix, planes.full_range) = (*matrix, *full_range);
        }
    }
    Ok(planes)
}

fn read_grid(file: &HeifFile<'_>, id: u32, size: (u32, u32)) -> Result<Planes, Refusal> {
    let Grid { rows, columns, output_width, output_height } = file.grid(id).map_err(heifer::Error::from)?;
    let tiles = file.referenced_items(id, b"dimg");
    let (first, count) = (tiles.first(), usize::from(rows) * usize::from(columns));
    let Some(&first) = first.filter(|_| tiles.len() == count && size == (output_width, output_height)) else {
        return Err(broken("its grid does not fit its tiles"));
    };
    let tile = stored_size(file, first)?;
    let fits = |tile: u32, count: u16, whole: u32| {
        let (tile, count, whole) = (u64::from(tile), u64::from(count), u64::from(whole));
        tile * count >= whole && tile * (count - 1) < whole
    };
    if !fits(tile.0, columns, size.0) || !fits(tile.1, rows, size.1) {
        return Err(broken("its grid does not fit its tiles"));
    }
    let mut whole: Option<Planes> = None;
    for (index, &id) in tiles.iter().enumerate() {
        check_understood(file, id)?;
        if stored_size(file, id)? != tile || file.item(id).map_err(heifer::Error::from)?.item_type.0 != *b"av01" {
            return Err(broken("its grid has tiles of several sizes"));
        }
        let part = read_coded(file, id)?;
        if (tile.0 & ((1 << part.shift.0) - 1), tile.1 & ((1 << part.shift.1) - 1)) != (0, 0) {
            return Err(unsupported("a grid of odd tiles with subsampled chroma"));
        }
        let canvas = whole.get_or_insert_with(|| {
            let mut canvas = Planes { width: size.0, height: size.1, samples: [const { Vec::new() }; 3], ..part };
            for plane in part.used() {
                let (columns, rows) = canvas.extent(plane);
                canvas.samples[plane] = vec![0; columns * rows];
            }
            canvas
        });
        if (part.shift, part.used(), part.matrix) != (canvas.shift, canvas.used(), canvas.matrix) {
            return Err(broken("its grid has tiles of several forms"));
        }
        let (column, row) = (index % usize::from(columns), index / usize::from(columns));
        for plane in part.used() {
            let (part_width, part_height) = part.extent(plane);
            let (width, height) = canvas.extent(plane);
            let (left, top) = (column * part_width, row * part_height);
            let wanted = part_width.min(width.saturating_sub(left));
            let lines = canvas.samples[plane].chunks_exact_mut(width).skip(top).take(part_height.min(height));
            for (to, from) in lines.zip(part.samples[plane].chunks_exact(part_width)) {
                if let (Some(to), Some(from)) = (to.get_mut(left..left + wanted), from.get(..wanted)) {
                    to.copy_from_slice(from);
                }
            }
        }
    }
    whole.ok_or_else(|| broken("its grid has no tiles"))
}

/// Decodes one AV1 picture; deep samples keep their eight high bits.
fn read_coded(file: &HeifFile<'_>, id: u32) -> Result<Planes, Refusal> {
    let (width, height) = stored_size(file, id)?;
    let data = file.item_data(id).map_err(heifer::Error::from)?.into_owned();
    if data.is_empty() {
        return Err(broken("its picture has no data"));
    }
    check_frames(&data)?;
    let frame = read_frame(data, width, height)?;
    if (frame.width(), frame.height()) != (width, height) {
        return Err(Refusal::Broken(format!(
            "{width}x{height} pixels announced, {}x{} coded",
            frame.width(),
            frame.height()
        )));
    }
    let shift = match frame.pixel_layout() {
        PixelLayout::I420 => (1, 1),
        PixelLayout::I422 => (1, 0),
        PixelLayout::I400 | PixelLayout::I444 => (0, 0),
    };
    let matrix = match frame.matrix_coefficients() {
        MatrixCoefficients::Identity => 0,
        MatrixCoefficients::BT709 => 1,
        MatrixCoefficients::Unspecified => 2,
        MatrixCoefficients::BT470BG => 6,
        MatrixCoefficients::BT2020NonConstantLuminance => 9,
        // Any that is refused later.
        _ => u16::MAX,
    };
    let full_range = frame.color_range() == YUVRange::Full;
    let bits = frame.bits_per_component().map_or(8, |bits| bits.0);
    let mut planes = Planes { width, height, shift, samples: [const { Vec::new() }; 3], matrix, full_range };
    let components = [PlanarImageComponent::Y, PlanarImageComponent::U, PlanarImageComponent::V];
    let used = if frame.pixel_layout() == PixelLayout::I400 { 1 } else { 3 };
    for (plane, component) in components.into_iter().enumerate().take(used) {
        let (columns, rows) = planes.extent(plane);
        let stride = frame.stride(component) as usize;
        let plane_bytes = frame.plane(component);
        let samples = &mut planes.samples[plane];
        samples.reserve_exact(columns * rows);
        for line in plane_bytes.chunks(stride.max(1)).take(rows) {
            if bits == 8 {
                samples.extend(line.iter().take(columns));
            } else {
                let deep = line.as_chunks().0.iter().take(columns);
                samples.extend(deep.map(|&pair| (u16::from_ne_bytes(pair) >> (bits - 8)) as u8));
            }
        }
        if samples.len() != columns * rows {
            return Err(broken("its decoder returned too few samples"));
        }
    }
    Ok(planes)
}

/// One thread, since files are decoded side by side already, and no frame larger than announced.
fn read_frame(data: Vec<u8>, width: u32, height: u32) -> Result<re_rav1d::Picture, Refusal> {
    let fault = |error: re_rav1d::Error| match error {
        re_rav1d::Error::UnsupportedBitstream => unsupported("an AV1 stream of an unknown form"),
        other => Refusal::Broken(format!("its AV1 data are damaged ({other})")),
    };
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(width.saturating_mul(height));
    let mut decoder = Decoder::with_settings(&settings).map_err(fault)?;
    let mut sent = decoder.send_data(data, None, None, None);
    // Each round consumes data or ends; the bound is for a decoder that does neither.
    for _ in 0..=2 * MOST_FRAMES {
        match decoder.get_picture() {
            Ok(frame) => return Ok(frame),
            Err(re_rav1d::Error::Again) => {}
            Err(other) => return Err(fault(other)),
        }
        match sent {
            Ok(()) => break,
            Err(re_rav1d::Error::Again) => sent = decoder.send_pending_data(),
            Err(other) => return Err(fault(other)),
        }
    }
    Err(broken("its AV1 data end before a picture"))
}

/// Counts the frames of AV1 data (section 5.3 of the AV1 specification: a header, a size, a payload, again and again).
fn check_frames(data: &[u8]) -> Result<(), Refusal> {
    const FRAME_HEADER: u8 = 3;
    const FRAME: u8 = 6;
    let (mut rest, mut frames) = (data, 0);
    while let Some((&header, after)) = rest.split_first() {
        frames += usize::from(matches!(header >> 3 & 15, FRAME_HEADER | FRAME));
        let mut after = after.get(usize::from(header >> 2 & 1)..).unwrap_or_default();
        // Without a size it is the last one.
        let mut size = if header & 2 == 0 { after.len() as u64 } else { 0 };
        if header & 2 != 0 {
            for place in 0..8 {
                let Some((&byte, next)) = after.split_first() else { break };
                after = next;
                size |= u64::from(byte & 127) << (7 * place);
                if byte & 128 == 0 {
                    break;
                }
            }
        }
        rest = usize::try_from(size)
            .ok()
            .and_then(|size| after.get(size..))
            .ok_or_else(|| broken("the file is truncated"))?;
    }
    if frames > MOST_FRAMES { Err(unsupported("several frames in one picture")) } else { Ok(()) }
}

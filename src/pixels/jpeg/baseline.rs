//! An own decoder for ordinary photos (baseline, Y Cb Cr, one scan), for processors with AVX2.
//!
//! Indexing spends its processor time on the model and on this, and the library takes longer for both: over the photos of
//! `../shared/photos` 1.2 times as long, for 12 megapixels at a quarter 1.45 times. Its result is the same to the last bit
//! (the tests of `jpeg` compare them, at every scale). Whatever is unusual, or damaged in a way that shows, gives `None`,
//! and the library decodes it.

mod colour;
mod frame;
mod huffman;
mod idct;

use image::RgbImage;

use self::colour::STEP;
use self::frame::{Component, Frame};
use self::huffman::{Bits, Segments};

/// One component's samples. Rows are padded to whole coded units and to [`STEP`].
struct Plane {
    samples: Vec<u8>,
    stride: usize,
    /// Samples on a side of a block: 8 at full size.
    side: usize,
    /// What of it shows.
    width: usize,
    height: usize,
}

impl Plane {
    fn row(&self, row: usize) -> &[u8] {
        let start = row.min(self.height - 1) * self.stride;
        &self.samples[start..start + self.stride]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn put(&mut self, at: usize, block: &[i16; 64], flat: bool) {
        match self.side {
            8 if !flat => self.store(at, idct::whole(block)),
            4 if !flat => self.store(at, idct::half(block)),
            2 if !flat => self.store(at, idct::quarter(block)),
            8 => self.store(at, [[idct::flat(block[0]); 8]; 8]),
            4 => self.store(at, [[idct::flat(block[0]); 4]; 4]),
            2 => self.store(at, [[idct::flat(block[0]); 2]; 2]),
            _ => self.store(at, [[idct::flat(block[0])]]),
        }
    }

    #[inline]
    fn store<const SIDE: usize>(&mut self, at: usize, rows: [[u8; SIDE]; SIDE]) {
        let place = &mut self.samples[at..at + (SIDE - 1) * self.stride + SIDE];
        for (line, row) in place.chunks_mut(self.stride).zip(rows) {
            line[..SIDE].copy_from_slice(&row);
        }
    }
}

/// Decodes with `side` samples in place of the 8 on a side of each block: 8, 4, 2 or 1. `None`: this is not for here.
pub(super) fn decode(bytes: &[u8], side: usize) -> Option<RgbImage> {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2")) {
        return None;
    }
    let frame = Frame::read(bytes)?;
    let segments = Segments::read(frame.scan)?;
    // SAFETY: the processor has these instructions.
    unsafe { decode_segments(&frame, &segments, side) }
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn decode_segments(frame: &Frame<'_>, segments: &Segments, side: usize) -> Option<RgbImage> {
    let mut planes = planes(frame, side)?;
    fill(frame, segments, &mut planes)?;
    let [luma, ..] = &planes;
    RgbImage::from_raw(luma.width as u32, luma.height as u32, convert(&planes))
}

/// Minimum coded units across and down.
fn units(frame: &Frame<'_>) -> (usize, usize) {
    let [luma, ..] = &frame.components;
    (frame.width.div_ceil(8 * luma.across), frame.height.div_ceil(8 * luma.down))
}

fn planes(frame: &Frame<'_>, side: usize) -> Option<[Plane; 3]> {
    let [luma, ..] = &frame.components;
    let (across, down) = units(frame);
    let plane = |component: &Component, side: usize| {
        let stride = (across * component.across * side).next_multiple_of(STEP);
        let shown = |length: usize, most: usize, own: usize| (length * own * side).div_ceil(8 * most);
        Plane {
            samples: vec![0; stride * down * component.down * side],
            stride,
            side,
            width: shown(frame.width, luma.across, component.across),
            height: shown(frame.height, luma.down, component.down),
        }
    };
    // Where luma is reduced, chroma that is halved both ways is reduced half as much instead of enlarged afterwards.
    let chroma_side = if luma.across == 2 && luma.down == 2 { (2 * side).min(8) } else { side };
    let [y, cb, cr] =
        [(0, side), (1, chroma_side), (2, chroma_side)].map(|(n, side)| plane(&frame.components[n], side));
    // Enlarged chroma: narrow pictures, and single samples a block, follow other rules.
    if cb.width < y.width && (cb.width < 3 || side == 1) {
        return None;
    }
    Some([y, cb, cr])
}

/// Decodes all blocks into the planes.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn fill(frame: &Frame<'_>, segments: &Segments, planes: &mut [Plane; 3]) -> Option<()> {
    let (across, down) = units(frame);
    let interval = if frame.restart_interval == 0 { across * down } else { frame.restart_interval };
    if segments.count() != (across * down).div_ceil(interval) {
        return None;
    }
    let mut bits = Bits::new(&[]);
    let (mut dc, mut block) = ([0_i32; 3], [0_i16; 64]);
    for unit in 0..across * down {
        if unit % interval == 0 {
            // Less than a byte may be left over.
            if !(0..8).contains(&bits.left()) {
                return None;
            }
            bits = segments.get(unit / interval)?;
            dc = [0; 3];
        }
        let (column, row) = (unit % across, unit / across);
        for ((component, plane), dc) in frame.components.iter().zip(planes.iter_mut()).zip(&mut dc) {
            for y in 0..component.down {
                for x in 0..component.across {
                    *dc += component.dc.difference(&mut bits)?;
                    block[0] = dc.wrapping_mul(component.steps[0]) as i16;
                    let any = component.ac.coefficients(&mut bits, &component.steps, &mut block)?;
                    let line = (row * component.down + y) * plane.side;
                    plane.put(line * plane.stride + (column * component.across + x) * plane.side, &block, !any);
                    if any {
                        block = [0; 64];
                    }
                }
            }
        }
        if column == 0 && bits.left() < 0 {
            return None;
        }
    }
    (bits.left() >= 0).then_some(())
}

/// The planes to RGB.
#[inline]
#[target_feature(enable = "avx2")]
fn convert([y, cb, cr]: &[Plane; 3]) -> Vec<u8> {
    let padded = y.width.next_multiple_of(STEP);
    // A row's padding lies where the next row's first samples come.
    let mut rgb = vec![0; 3 * (y.width * y.height + padded - y.width)];
    let mut wide = [vec![0; padded + 2 * STEP], vec![0; padded + 2 * STEP]];
    let mut sums = vec![0; cb.width];
    let doubled = (cb.width < y.width, cb.height < y.height);
    for row in 0..y.height {
        for (wide, chroma) in wide.iter_mut().zip([cb, cr]) {
            match doubled {
                (true, true) => {
                    let near = row / 2;
                    let far = if row % 2 == 0 { near.saturating_sub(1) } else { near + 1 };
                    let row = |at: usize| &chroma.row(at)[..chroma.width];
                    colour::widen_between(row(near), row(far), &mut sums, wide);
                }
                (true, false) => colour::widen(&chroma.row(row)[..chroma.width], wide),
                _ => {}
            }
        }
        let [wide_cb, wide_cr] = &wide;
        let (cb, cr) = if doubled.0 { (&wide_cb[..], &wide_cr[..]) } else { (cb.row(row), cr.row(row)) };
        let start = 3 * row * y.width;
        colour::to_rgb(&y.row(row)[..padded], &cb[..padded], &cr[..padded], &mut rgb[start..start + 3 * padded]);
    }
    rgb.truncate(3 * y.width * y.height);
    rgb
}

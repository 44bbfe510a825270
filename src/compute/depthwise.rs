//! Depthwise convolution: each channel with a kernel of its own, many channels at once.

// As in `activation`: loop bodies must end up inside the function that names the vectors.
#![allow(clippy::inline_always)]

use rayon::prelude::*;

use super::activation::multiply_add;
use super::buffers::Apart;
use super::conv::ConvShape;
use super::product::{Epilogue, finish_rows};
use super::simd::in_widest;

/// Channels whose sums stay in registers, for [`TOGETHER`] pixels.
const LANES: usize = 16;
/// Neighbouring pixels that share what is read of the weights.
const TOGETHER: usize = 4;

/// One image and its kernels.
pub(super) struct Depthwise<'a> {
    pub(super) shape: &'a ConvShape,
    /// Shape: `[h, w, channels]`.
    pub(super) input: &'a [f32],
    pub(super) height: usize,
    pub(super) width: usize,
    /// Shape: `[kernel, kernel, channels]`.
    pub(super) weight: &'a [f32],
}

impl Depthwise<'_> {
    /// Shape: `out` `[h', w', channels]`, the epilogue's residual as `out`.
    pub(super) fn convolve(&self, epilogue: &Epilogue<'_>, out: &mut [f32]) {
        let (channels, width) = (self.shape.outputs, self.shape.output(self.width));
        let lines = self.shape.output(self.height);
        assert!(
            out.len() >= lines * width * channels
                && self.input.len() >= self.height * self.width * channels
                && self.weight.len() == self.shape.kernel * self.shape.kernel * channels,
            "a depthwise convolution's shapes do not fit"
        );
        let place = Apart::new(out);
        (0..lines).into_par_iter().for_each(|y| {
            // SAFETY: a line of the output, which no other task has.
            let line = unsafe { std::slice::from_raw_parts_mut(place.at(y * width * channels), width * channels) };
            one_line(self, y, line);
            // SAFETY: as above.
            unsafe { finish_rows(epilogue, place.at(0), channels, y * width..(y + 1) * width, 0..channels) };
        });
    }

    /// Lines and columns of the kernel that lie in the image, for an output line or column.
    fn taps(&self, at: usize, side: usize) -> std::ops::Range<usize> {
        let ConvShape { kernel, stride, padding, dilation, .. } = *self.shape;
        let first = padding.saturating_sub(at * stride).div_ceil(dilation).min(kernel);
        let past = (side + padding).saturating_sub(at * stride).div_ceil(dilation).min(kernel);
        first..past.max(first)
    }
}

in_widest! {
    /// The sums of one line of the output. Shape: `out` `[w', channels]`.
    fn one_line(conv: &Depthwise<'_>, y: usize, out: &mut [f32]) = line_body
}

#[inline(always)]
fn line_body<const FUSED: bool>(conv: &Depthwise<'_>, y: usize, out: &mut [f32]) {
    let ConvShape { outputs: channels, stride, padding, kernel, .. } = *conv.shape;
    let lines = conv.taps(y, conv.height);
    let width = out.len() / channels.max(1);
    // Where no tap of a column falls outside.
    let inner = |x: usize| x < width && conv.taps(x, conv.width) == (0..kernel);
    let mut x = 0;
    while x < width {
        let together = inner(x) && inner(x + TOGETHER - 1);
        let count = if together { TOGETHER } else { 1 };
        let columns = if together { 0..kernel } else { conv.taps(x, conv.width) };
        let Some(pixels) = out.get_mut(x * channels..(x + count) * channels) else { return };
        let place = Place { y, x, lines: lines.clone(), columns, stride, padding };
        let whole = channels / LANES * LANES;
        for channel in (0..whole).step_by(LANES) {
            if together {
                block::<FUSED, TOGETHER>(conv, &place, channel, pixels);
            } else {
                block::<FUSED, 1>(conv, &place, channel, pixels);
            }
        }
        for channel in whole..channels {
            for pixel in 0..count {
                pixels[pixel * channels + channel] = conv.sum(&place, pixel, channel);
            }
        }
        x += count;
    }
}

/// Some pixels of an output line that see the same taps.
struct Place {
    y: usize,
    x: usize,
    lines: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    stride: usize,
    padding: usize,
}

impl Depthwise<'_> {
    /// The first channel that a tap sees for a pixel.
    #[inline(always)]
    fn source(&self, place: &Place, pixel: usize, dy: usize, dx: usize) -> usize {
        let dilation = self.shape.dilation;
        let y = place.y * place.stride + dy * dilation - place.padding;
        let x = (place.x + pixel) * place.stride + dx * dilation - place.padding;
        (y * self.width + x) * self.shape.outputs
    }

    /// One channel of one pixel.
    fn sum(&self, place: &Place, pixel: usize, channel: usize) -> f32 {
        let ConvShape { kernel, outputs: channels, .. } = *self.shape;
        let mut sum = 0.0;
        for dy in place.lines.clone() {
            for dx in place.columns.clone() {
                let value = self.input.get(self.source(place, pixel, dy, dx) + channel).copied().unwrap_or(0.0);
                sum += value * self.weight.get((dy * kernel + dx) * channels + channel).copied().unwrap_or(0.0);
            }
        }
        sum
    }
}

/// [`LANES`] channels of some pixels. Shape: `out` `[PIXELS, channels]`.
#[inline(always)]
fn block<const FUSED: bool, const PIXELS: usize>(conv: &Depthwise<'_>, place: &Place, channel: usize, out: &mut [f32]) {
    let ConvShape { kernel, outputs: channels, .. } = *conv.shape;
    let mut sums = [[0.0_f32; LANES]; PIXELS];
    for dy in place.lines.clone() {
        for dx in place.columns.clone() {
            let weight = (dy * kernel + dx) * channels + channel;
            let Some(weight) = conv.weight.get(weight..).and_then(|rest| rest.first_chunk::<LANES>()) else { return };
            let source = conv.source(place, 0, dy, dx) + channel;
            for (pixel, sums) in sums.iter_mut().enumerate() {
                let from = source + pixel * place.stride * channels;
                let Some(values) = conv.input.get(from..).and_then(|rest| rest.first_chunk::<LANES>()) else { return };
                for lane in 0..LANES {
                    sums[lane] = multiply_add::<FUSED>(weight[lane], values[lane], sums[lane]);
                }
            }
        }
    }
    for (pixel, sums) in sums.iter().enumerate() {
        if let Some(out) = out.get_mut(pixel * channels + channel..).and_then(|rest| rest.first_chunk_mut::<LANES>()) {
            *out = *sums;
        }
    }
}

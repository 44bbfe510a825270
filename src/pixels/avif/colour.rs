//! Luma and chroma to RGB, as libyuv does it for libavif.

use super::{Planes, Refusal, broken, unsupported};

/// One matrix in libyuv's fixed point: six bits after the point, luma's factor with sixteen more.
struct Matrix {
    luma: i32,
    offset: i32,
    blue_of_u: i32,
    green_of_u: i32,
    green_of_v: i32,
    red_of_v: i32,
}

impl Matrix {
    /// From the weights of red and blue in luma (ITU-T H.273, table 4).
    fn new(red: f64, blue: f64, full_range: bool) -> Self {
        let green = 1.0 - red - blue;
        // libyuv's own factors: 1.164 and not 255/219, and 128 at most for blue, which its 8-bit products can hold.
        let (luma, offset, chroma) = if full_range { (16_320, 32, 1.0) } else { (18_997, -1160, 255.0 / 224.0) };
        let factor = |value: f64| (value * chroma * 64.0).round() as i32;
        Self {
            luma,
            offset,
            blue_of_u: factor(2.0 * (1.0 - blue)).min(128),
            green_of_u: factor(2.0 * (1.0 - blue) * blue / green),
            green_of_v: factor(2.0 * (1.0 - red) * red / green),
            red_of_v: factor(2.0 * (1.0 - red)),
        }
    }

    fn rgb(&self, luma: u8, u: u8, v: u8) -> [u8; 3] {
        // 0x101 spreads eight bits over sixteen.
        let grey = ((i32::from(luma) * 0x101 * self.luma) >> 16) + self.offset;
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let sums = [self.red_of_v * v, -self.green_of_u * u - self.green_of_v * v, self.blue_of_u * u];
        sums.map(|sum| ((grey + sum) >> 6).clamp(0, 255) as u8)
    }
}

impl Planes {
    /// Interleaved RGB.
    pub(super) fn to_rgb(&self) -> Result<Vec<u8>, Refusal> {
        let grey = self.samples[1].is_empty();
        let (red, blue) = match self.matrix {
            0 if grey => (0.299, 0.114),
            0 if self.shift != (0, 0) => return Err(broken("RGB with subsampled chroma")),
            0 if !self.full_range => return Err(unsupported("RGB in limited range")),
            0 => return Ok(self.interleave()),
            1 => (0.2126, 0.0722),
            // Unspecified is taken for BT.601, as libavif does.
            2 | 5 | 6 => (0.299, 0.114),
            9 => (0.2627, 0.0593),
            other => return Err(unsupported(&format!("matrix coefficients {other}"))),
        };
        let matrix = Matrix::new(red, blue, self.full_range);
        let width = self.width as usize;
        let mut rgb = Vec::with_capacity(3 * width * self.height as usize);
        let mut lines = [vec![128; width], vec![128; width]];
        for (y, luma) in self.samples[0].chunks_exact(width).enumerate() {
            if !grey {
                for (line, plane) in lines.iter_mut().zip([1, 2]) {
                    self.smooth_row(plane, y, line)?;
                }
            }
            let [u, v] = &lines;
            rgb.extend(luma.iter().zip(u.iter().zip(v)).flat_map(|(&luma, (&u, &v))| matrix.rgb(luma, u, v)));
        }
        Ok(rgb)
    }

    /// Matrix "identity": the planes are green, blue, red.
    fn interleave(&self) -> Vec<u8> {
        let [green, blue, red] = &self.samples;
        red.iter().zip(green.iter().zip(blue)).flat_map(|(&r, (&g, &b))| [r, g, b]).collect()
    }

    /// Row `y` of a chroma plane at luma's size: three parts of the nearest sample and one of the next, in each direction.
    fn smooth_row(&self, plane: usize, y: usize, line: &mut [u8]) -> Result<(), Refusal> {
        let (columns, rows) = self.extent(plane);
        let row = |index: usize| {
            let start = index.min(rows - 1) * columns;
            self.samples[plane].get(start..start + columns).ok_or_else(|| broken("its chroma ends early"))
        };
        let last = line.len() - 1;
        let near = row(y >> self.shift.1)?;
        // Upwards for even rows, downwards for odd ones; the first and the last have no neighbour.
        let next = match (self.shift.1, y % 2) {
            (0, _) => near,
            (_, 0) => row((y / 2).saturating_sub(1))?,
            _ => row(y / 2 + 1)?,
        };
        if self.shift.0 == 0 {
            line.copy_from_slice(near);
            return Ok(());
        }
        for (x, sample) in line.iter_mut().enumerate() {
            let here = x / 2;
            // libyuv repeats the last sample, also where the width is odd.
            let beside = if x == last {
                here
            } else if x % 2 == 0 {
                here.saturating_sub(1)
            } else {
                here + 1
            };
            let at = |row: &[u8], x: usize| u32::from(row.get(x.min(columns - 1)).copied().unwrap_or(128));
            let (a, b) = (3 * at(near, here) + at(near, beside), 3 * at(next, here) + at(next, beside));
            *sample = if self.shift.1 == 0 { (a + 2) >> 2 } else { (3 * a + b + 8) >> 4 } as u8;
        }
        Ok(())
    }
}

//! Backgrounds: quiet, little saturated, and light unless a scene allows dark ones, so that every colour stands out.

use super::random::Random;

/// Kind of a background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// One colour.
    Plain,
    /// From one colour to another along a line.
    Gradient,
    /// Bands of two close colours.
    Striped,
    /// Soft clouds between two close colours, with grain.
    Noisy,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Gradient, Self::Striped, Self::Noisy];

    /// As captions say it: `striped`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gradient => "gradient",
            Self::Striped => "striped",
            Self::Noisy => "noisy",
        }
    }
}

/// What lies behind the objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// Its kind.
    pub pattern: Pattern,
    /// Whether it is dark.
    pub dark: bool,
    /// The two colours it is made of, sRGB 0 to 255.
    colours: [[f32; 3]; 2],
    /// Direction of a gradient or across stripes, a unit vector.
    direction: [f32; 2],
    /// Stripes, or cells of noise, along one side.
    frequency: f32,
    /// Seed of the noise.
    seed: u64,
}

impl Background {
    /// A random background; dark ones only where they may be.
    pub fn random(may_be_dark: bool, random: &mut Random) -> Self {
        let dark = random.chance(0.15) && may_be_dark;
        let pattern = random.pick(&Pattern::ALL);
        let (lightness, saturation) = if dark {
            (random.between(0.14, 0.24), random.between(0.0, 0.2))
        } else if random.chance(0.2) {
            (random.between(0.68, 0.80), random.between(0.0, 0.12))
        } else {
            (random.between(0.84, 0.96), random.between(0.0, 0.3))
        };
        let hue = random.between(0.0, 1.0);
        let change = match pattern {
            Pattern::Plain => 0.0,
            Pattern::Gradient => random.between(0.06, 0.13),
            Pattern::Striped | Pattern::Noisy => random.between(0.04, 0.09),
        };
        let other = if dark { lightness + change } else { lightness - change };
        let angle = random.between(0.0, std::f32::consts::TAU);
        Self {
            pattern,
            dark,
            colours: [srgb(hue, saturation, lightness), srgb(hue + random.between(-0.08, 0.08), saturation, other)],
            direction: [angle.cos(), angle.sin()],
            frequency: random.between(4.0, 9.0),
            seed: random.bits(),
        }
    }

    /// The colour at a point in unit coordinates, sRGB 0 to 255; `pixel` is the size of a pixel there, for smooth
    /// edges.
    pub(super) fn at(&self, x: f32, y: f32, pixel: f32) -> [u8; 3] {
        let along = (x - 0.5) * self.direction[0] + (y - 0.5) * self.direction[1];
        let share = match self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Gradient => along / std::f32::consts::SQRT_2 + 0.5,
            Pattern::Striped => {
                // Distance to the next edge in pixels, cut to one pixel: an anti-aliased square wave.
                let phase = (along * self.frequency).rem_euclid(1.0);
                let distance = (0.25 - (phase - 0.5).abs()) / (self.frequency * pixel);
                (distance + 0.5).clamp(0.0, 1.0)
            }
            Pattern::Noisy => {
                let clouds = value_noise(self.seed, x * self.frequency, y * self.frequency);
                let grain = value_noise(self.seed ^ 1, x * 96.0, y * 96.0);
                0.75 * clouds + 0.25 * grain
            }
        };
        let [from, to] = self.colours;
        [0, 1, 2].map(|i: usize| nearest(from[i] + (to[i] - from[i]) * share))
    }
}

/// The nearest level, the upper one of two. `f32::round` would be a call: the instruction is newer than what builds are for.
fn nearest(value: f32) -> u8 {
    let value = value.clamp(0.0, 255.0);
    let below = value as u8;
    below + u8::from(value - f32::from(below) >= 0.5)
}

/// Smooth noise in 0 to 1: random values at the integer points, smoothstep between them.
fn value_noise(seed: u64, x: f32, y: f32) -> f32 {
    let corner = |dx: f32, dy: f32| {
        let cell = ((x.floor() + dx) as u64) << 32 | (y.floor() + dy) as u64;
        Random::new(seed ^ cell.wrapping_mul(0x9e37_79b9_7f4a_7c15)).between(0.0, 1.0)
    };
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (right, down) = (smooth(x - x.floor()), smooth(y - y.floor()));
    let mix = |from: f32, to: f32, share: f32| from + (to - from) * share;
    mix(mix(corner(0.0, 0.0), corner(1.0, 0.0), right), mix(corner(0.0, 1.0), corner(1.0, 1.0), right), down)
}

/// HSL in 0 to 1 to sRGB in 0 to 255.
///
/// Source: CSS Color Module Level 4, section 7 ("Converting HSL Colors to sRGB").
fn srgb(hue: f32, saturation: f32, lightness: f32) -> [f32; 3] {
    let amplitude = saturation * lightness.min(1.0 - lightness);
    [0.0, 8.0, 4.0].map(|offset| {
        let k = (offset + hue.rem_euclid(1.0) * 12.0) % 12.0;
        255.0 * (lightness - amplitude * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_rounded_as_numbers_are() {
        for step in -300..2900 {
            let value = step as f32 * 0.1 + 0.05;
            assert_eq!(nearest(value), value.round().clamp(0.0, 255.0) as u8, "{value}");
        }
        assert_eq!([0.5, 1.5, 254.5, 0.499_999_97].map(nearest), [1, 2, 255, 0]);
    }
}

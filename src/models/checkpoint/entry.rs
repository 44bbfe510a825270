//! Where a tensor lies in a file, and its numbers as `f32`.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The formats of weights; everything else is [`Number::Other`], with the name that messages show.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Number {
    F16,
    Bf16,
    F32,
    F64,
    Other(String),
}

impl Number {
    /// Bytes.
    fn width(&self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(_) => 0,
        }
    }
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct Entry {
    pub(super) file: usize,
    /// Its first number, in bytes from the start of the file.
    pub(super) start: usize,
    pub(super) number: Number,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// From one number to the next along each dimension, in numbers.
    pub(super) strides: Vec<usize>,
}

/// The strides of numbers without gaps, the last dimension side by side.
pub(super) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides: Vec<usize> = shape
        .iter()
        .rev()
        .scan(1_usize, |step, side| {
            let stride = *step;
            *step = step.saturating_mul(*side);
            Some(stride)
        })
        .collect();
    strides.reverse();
    strides
}

impl Entry {
    /// The name of a number format that no weight can have.
    pub fn not_a_float(&self) -> Option<&str> {
        match &self.number {
            Number::Other(name) => Some(name),
            _ => None,
        }
    }

    /// Whether its numbers lie in their order without gaps.
    pub fn is_row_major(&self) -> bool {
        let expected = row_major(&self.shape);
        let steps = self.strides.iter().zip(&expected).zip(&self.shape);
        steps.into_iter().all(|((stride, expected), side)| *side <= 1 || stride == expected)
    }

    /// Part `index` of `count` equal ones along the first dimension; itself where that is not possible.
    pub(super) fn part(&self, index: usize, count: usize) -> Self {
        let (Some(rows), Some(stride)) = (self.shape.first(), self.strides.first()) else { return self.clone() };
        if !rows.is_multiple_of(count) {
            return self.clone();
        }
        let rows = rows / count;
        let mut part = self.clone();
        part.start += index * rows * stride * self.number.width();
        if let Some(first) = part.shape.first_mut() {
            *first = rows;
        }
        part
    }

    /// Of a matrix `[a, b]` the matrix `[b, a]`.
    pub(super) fn transposed(mut self) -> Self {
        if self.shape.len() == 2 {
            self.shape.reverse();
            self.strides.reverse();
        }
        self
    }

    /// Appends all numbers, the last dimension side by side. What is beyond the file is left out: entries are checked when
    /// they are made.
    pub(super) fn append(&self, file: &[u8], values: &mut Vec<f32>) {
        let count = self.shape.iter().product::<usize>();
        let bytes =
            |numbers: usize| file.get(self.start..self.start + numbers * self.number.width()).unwrap_or_default();
        if self.is_row_major() {
            widen(bytes(count), &self.number, values);
            return;
        }
        let (Some((&side, outer)), Some(&stride)) = (self.shape.split_last(), self.strides.last()) else { return };
        if count == 0 {
            return;
        }
        let last: usize = self.shape.iter().zip(&self.strides).map(|(side, stride)| (side - 1) * stride).sum();
        let mut numbers = Vec::with_capacity(last + 1);
        widen(bytes(last + 1), &self.number, &mut numbers);
        // One line along the last dimension after the other.
        for line in 0..count / side {
            let mut rest = line;
            let mut at = 0;
            for (side, stride) in outer.iter().zip(&self.strides).rev() {
                at += rest % side * stride;
                rest /= side;
            }
            values.extend((0..side).filter_map(|index| numbers.get(at + index * stride)));
        }
    }

    /// Appends one row of a matrix whose rows have no gaps; nothing when there is none.
    pub(super) fn append_row(&self, file: &[u8], row: usize, values: &mut Vec<f32>) {
        let [rows, size] = *self.shape.as_slice() else { return };
        if row < rows {
            let bytes = size * self.number.width();
            let start = self.start + row * bytes;
            widen(file.get(start..start + bytes).unwrap_or_default(), &self.number, values);
        }
    }
}

/// Little-endian numbers, at any alignment.
fn widen(bytes: &[u8], number: &Number, values: &mut Vec<f32>) {
    /// Bytes that are widened at once: they stay in the processor's cache.
    const BLOCK: usize = 1 << 15;
    match number {
        Number::F32 => values.extend(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four))),
        Number::F64 => values.extend(bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32)),
        Number::F16 => {
            for block in bytes.chunks(BLOCK) {
                let halves: Vec<f16> = block.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two)).collect();
                let start = values.len();
                values.resize(start + halves.len(), 0.0);
                halves.convert_to_f32_slice(&mut values[start..]);
            }
        }
        Number::Bf16 => values.extend(bytes.as_chunks().0.iter().map(|&two| bf16::from_le_bytes(two).to_f32())),
        Number::Other(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_format_is_widened_exactly() {
        let numbers = [0.0f32, -1.5, 0.25, 3.0, -65504.0];
        let widened = |number: Number, bytes: Vec<u8>| {
            // One byte in front, so that nothing is aligned.
            let shifted = [&[7u8], bytes.as_slice()].concat();
            let mut values = vec![9.0];
            widen(&shifted[1..], &number, &mut values);
            values
        };
        let expected = [&[9.0][..], &numbers].concat();
        let bytes = |f: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|&x| f(x)).collect::<Vec<u8>>();
        assert_eq!(widened(Number::F32, bytes(&|x| x.to_le_bytes().to_vec())), expected);
        assert_eq!(widened(Number::F64, bytes(&|x| f64::from(x).to_le_bytes().to_vec())), expected);
        assert_eq!(widened(Number::F16, bytes(&|x| f16::from_f32(x).to_le_bytes().to_vec())), expected);
        let rounded: Vec<f32> = expected.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
        assert_eq!(widened(Number::Bf16, bytes(&|x| bf16::from_f32(x).to_le_bytes().to_vec())), rounded);
    }

    #[test]
    fn numbers_in_any_order_come_out_in_rows() {
        let file: Vec<u8> = (0..26).flat_map(|n| (n as f32).to_le_bytes()).collect();
        let values = |entry: &Entry| {
            let mut values = Vec::new();
            entry.append(&file, &mut values);
            values
        };
        let shape = vec![4, 3, 2];
        let rows = Entry { file: 0, start: 8, number: Number::F32, strides: row_major(&shape), shape };
        assert_eq!((rows.strides.as_slice(), rows.is_row_major()), (&[6, 2, 1][..], true));
        assert_eq!(values(&rows), (2..26).map(|n| n as f32).collect::<Vec<f32>>());
        // As torch's channels_last keeps `[4, 2, 3]`.
        let turned = Entry { shape: vec![4, 2, 3], strides: vec![6, 1, 2], ..rows.clone() };
        assert_eq!(values(&turned)[..8], [2.0, 4.0, 6.0, 3.0, 5.0, 7.0, 8.0, 10.0]);
        let half = rows.part(1, 2);
        assert_eq!((half.shape.as_slice(), values(&half)[0]), (&[2, 3, 2][..], 14.0));
        assert_eq!(rows.part(1, 3), rows, "4 rows have no third");
        let matrix = Entry { shape: vec![2, 3], strides: vec![3, 1], ..rows.clone() }.transposed();
        assert_eq!((matrix.shape.as_slice(), values(&matrix)), (&[3, 2][..], vec![2.0, 5.0, 3.0, 6.0, 4.0, 7.0]));
        let mut row = Vec::new();
        Entry { shape: vec![8, 3], strides: vec![3, 1], ..rows }.append_row(&file, 7, &mut row);
        assert_eq!(row, [23.0, 24.0, 25.0]);
    }
}

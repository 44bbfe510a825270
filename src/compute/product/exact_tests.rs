//! Whole numbers whose products every format holds exactly: a kernel that mixes up lanes, rows, groups or blocks, or whose
//! instruction saturates, is off by more than rounding. tools/emulate runs these where no processor has the instructions.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// All kernels of this processor but those that clip weights, and those that are emulated.
fn exact_kernels() -> Vec<&'static Kernel> {
    let mut all = kernels();
    all.extend([&emulated::BF16, &emulated::INT8]);
    all.retain(|kernel| kernel.most == 0);
    all
}

/// The least and the largest activation, and the largest weight, for which a level is worth 1.
fn extremes(number: Number) -> (i32, i32, i32) {
    match number {
        Number::F32 | Number::Int16 => (-2047, 2047, 2047),
        Number::Bf16 => (-128, 128, 128),
        Number::Int8 => (-128, 127, 127),
    }
}

fn floats(values: &[i32]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// Products of whole numbers, for each row and output.
fn sums(x: &[i32], w: &[i32], inputs: usize) -> Vec<i64> {
    let dot = |x: &[i32], w: &[i32]| x.iter().zip(w).map(|(x, w)| i64::from(*x) * i64::from(*w)).sum();
    x.chunks(inputs).flat_map(|x| w.chunks(inputs).map(move |w| dot(x, w))).collect()
}

fn run(kernel: &'static Kernel, x: &[i32], w: &[i32], inputs: usize) -> Vec<f32> {
    let (rows, outputs) = (x.len() / inputs, w.len() / inputs);
    let weights = Weights::pack(kernel, outputs, inputs, &floats(w));
    let mut out = vec![f32::NAN; rows * outputs];
    multiply(Matrix::new(&floats(x), inputs), None, &weights, &Epilogue::default(), &mut out);
    out
}

#[test]
fn whole_numbers_multiply_exactly_in_every_shape() {
    for kernel in exact_kernels() {
        let (least, most, weight) = extremes(kernel.number);
        let mut shapes: Vec<(usize, usize, usize)> =
            (1..=50).map(|rows| (rows, [3, 5, 38, 67][rows % 4], [1, 3, 17, 65, 33][rows % 5])).collect();
        // Blocks of the full size, of about half of it, and three of them.
        let block = kernel.block;
        shapes.extend([
            (7, block, 19),
            (13, block + 3, kernel.columns + 1),
            (26, 3 * block - 5, 2 * kernel.columns - 1),
        ]);
        for (rows, inputs, outputs) in shapes {
            let mut random = StdRng::seed_from_u64((rows * inputs + outputs) as u64);
            let mut small = |len: usize| -> Vec<i32> { (0..len).map(|_| random.random_range(-7..=7)).collect() };
            let (mut x, mut w) = (small(rows * inputs), small(outputs * inputs));
            // Each block of each row and output reaches the extremes, in places of its own, so that its scale is 1.
            let block = kernel.block_of(inputs);
            for x in x.chunks_mut(inputs).flat_map(|row| row.chunks_mut(block)) {
                x[..2].copy_from_slice(&[most, least]);
            }
            for (output, w) in w.chunks_mut(inputs).enumerate() {
                for w in w.chunks_mut(block) {
                    w[2] = if output % 2 == 0 { weight } else { -weight };
                }
            }
            let out = run(kernel, &x, &w, inputs);
            for (at, (found, expected)) in out.iter().zip(sums(&x, &w, inputs)).enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                assert!(
                    (f64::from(*found) - expected as f64).abs() < 1e-6,
                    "{} {rows}x{inputs}x{outputs} at {row}, {output}: {found}, not {expected}",
                    kernel.name
                );
            }
        }
    }
}

#[test]
fn nothing_saturates_where_every_number_is_an_extreme() {
    for kernel in exact_kernels() {
        let (least, most, weight) = extremes(kernel.number);
        let (rows, outputs) = (8, kernel.columns + 3);
        for inputs in [kernel.block, 2 * kernel.block + 6] {
            let mut random = StdRng::seed_from_u64(inputs as u64);
            // The first row and the first two outputs have one sign: the largest sums that there are, both ways.
            let block = kernel.block_of(inputs);
            let mut x: Vec<i32> =
                (0..rows * inputs).map(|at| if at < inputs || random.random() { most } else { least }).collect();
            // So that a level is worth 1.
            x.chunks_mut(inputs).flat_map(|row| row.chunks_mut(block)).for_each(|x| x[0] = least);
            let w: Vec<i32> = (0..outputs * inputs)
                .map(|at| match at / inputs {
                    0 => weight,
                    1 => -weight,
                    _ if random.random() => weight,
                    _ => -weight,
                })
                .collect();
            let out = run(kernel, &x, &w, inputs);
            let bound = 1e-5 * f64::from(most) * f64::from(weight) * inputs as f64;
            for (at, (found, expected)) in out.iter().zip(sums(&x, &w, inputs)).enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                assert!(
                    (f64::from(*found) - expected as f64).abs() <= bound,
                    "{} {inputs} at {row}, {output}: {found}, not {expected}",
                    kernel.name
                );
            }
        }
    }
}

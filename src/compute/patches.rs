//! Images to rows of patch pixels, which makes the patch embedding a matrix product.

use candle_core::{DType, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Backend, gpu, tensor};
use crate::error::{Error, Result};

/// As [`unfold_patches`], where the backend computes: on a GPU written once in its own number format.
///
/// Shapes: each image `[channels, height, width]` flattened, `size` its height and width -> `[images, rows * columns, channels *
/// patch * patch]`, as many as whole patches fit.
///
/// # Errors
/// The device has no room.
pub fn patch_rows(
    images: &[&[f32]],
    channels: usize,
    size: (usize, usize),
    patch: usize,
    backend: &Backend,
) -> Result<Tensor> {
    let shape = [images.len(), (size.0 / patch) * (size.1 / patch), channels * patch * patch];
    let fill = |rows: &mut [u16]| {
        let convert: fn(&mut [u16], &[f32]) = match backend.dtype() {
            DType::F16 => |target, source| bytemuck::cast_slice_mut::<_, f16>(target).convert_from_f32_slice(source),
            _ => |target, source| bytemuck::cast_slice_mut::<_, bf16>(target).convert_from_f32_slice(source),
        };
        unfold(images, channels, size, patch, rows, convert);
    };
    match gpu::upload(&shape, backend, fill).map_err(Error::tensor("image upload"))? {
        Some(rows) => Ok(rows),
        None => tensor(unfold_patches(images, channels, size, patch), &shape, backend),
    }
}

/// Lays every patch of every image out as one row: a convolution whose stride is its kernel is exactly the product of
/// these rows with the flattened kernels. Pixels right of and below the last whole patch are left out, as the
/// convolution does (`SigLIP` so400m: 384 pixels, patches of 14).
///
/// Shapes: each image `[channels, height, width]` flattened, `size` its height and width -> `[images * rows * columns, channels *
/// patch * patch]` flattened; patches in reading order, inside a patch channel, row, column.
pub fn unfold_patches(images: &[&[f32]], channels: usize, size: (usize, usize), patch: usize) -> Vec<f32> {
    let row_len = channels * patch * patch;
    let mut rows = vec![0.0; images.len() * (size.0 / patch) * (size.1 / patch) * row_len];
    unfold(images, channels, size, patch, &mut rows, <[f32]>::copy_from_slice);
    rows
}

/// As [`unfold_patches`], into numbers of another format.
fn unfold<T: Copy + Send>(
    images: &[&[f32]],
    channels: usize,
    (height, width): (usize, usize),
    patch: usize,
    rows: &mut [T],
    convert: impl Fn(&mut [T], &[f32]) + Sync,
) {
    let columns = width / patch;
    let row_len = channels * patch * patch;
    if rows.is_empty() {
        return;
    }
    rows.par_chunks_mut((height / patch) * columns * row_len).zip(images).for_each(|(rows, image)| {
        for (index, row) in rows.chunks_mut(row_len).enumerate() {
            let (top, left) = (index / columns * patch, index % columns * patch);
            // One run of `patch` pixels for every channel and line.
            for (run, target) in row.chunks_mut(patch).enumerate() {
                let (channel, line) = (run / patch, run % patch);
                let start = (channel * height + top + line) * width + left;
                if let Some(source) = image.get(start..start + patch) {
                    convert(target, source);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_in_reading_order_and_the_rest_is_left_out() {
        // Two channels of 5 x 5, patches of 2: the last row and column belong to no patch.
        let image: Vec<f32> = (0..50u8).map(f32::from).collect();
        let rows = unfold_patches(&[&image, &image], 2, (5, 5), 2);
        assert_eq!(rows.len(), 2 * 4 * 8);
        assert_eq!(rows[..8], [0., 1., 5., 6., 25., 26., 30., 31.]);
        assert_eq!(rows[8..16], [2., 3., 7., 8., 27., 28., 32., 33.]);
        assert_eq!(rows[24..32], [12., 13., 17., 18., 37., 38., 42., 43.]);
        assert_eq!(rows[32..], rows[..32]);
        assert!(unfold_patches(&[], 3, (4, 4), 2).is_empty());
        // What a GPU is sent: the same in 16 bits.
        let mut sent = vec![0_u16; rows.len()];
        unfold(&[&image, &image], 2, (5, 5), 2, &mut sent, |target, source| {
            bytemuck::cast_slice_mut::<_, bf16>(target).convert_from_f32_slice(source);
        });
        assert!(
            bytemuck::cast_slice::<_, bf16>(&sent)
                .iter()
                .zip(&rows)
                .all(|(sent, row)| sent.to_f32().to_bits() == row.to_bits())
        );
    }

    #[test]
    fn an_oblong_image_has_other_rows_than_columns() {
        // Three lines of five: one row of two patches.
        let image: Vec<f32> = (0..15u8).map(f32::from).collect();
        assert_eq!(unfold_patches(&[&image], 1, (3, 5), 2), [0., 1., 5., 6., 2., 3., 7., 8.]);
        assert_eq!(unfold_patches(&[&image], 1, (5, 3), 2), [0., 1., 3., 4., 6., 7., 9., 10.]);
    }

    #[test]
    fn rows_of_patches_go_where_the_backend_computes() {
        let image: Vec<f32> = (0..48u8).map(f32::from).collect();
        let rows = patch_rows(&[&image, &image], 3, (4, 4), 2, &Backend::cpu()).unwrap();
        assert_eq!(rows.dims(), [2, 4, 12]);
        assert_eq!(
            rows.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            unfold_patches(&[&image, &image], 3, (4, 4), 2)
        );
    }
}

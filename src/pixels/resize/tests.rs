//! The rules of Pillow's resizing, and that every instruction set gives the same samples.

use super::*;

fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(width, height, |_, _| {
        image::Rgb([(); 3].map(|()| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    })
}

#[test]
fn a_window_is_the_same_part_of_the_whole() {
    for (width, height) in [(40, 30), (90, 20), (20, 90), (61, 47)] {
        for filter in (0..6).filter_map(Resample::from_pillow) {
            let whole = resize(&noise(61, 47), width, height, filter);
            let window = Window { left: 7, top: 3, width: 11, height: 15 };
            let part = resize_window(&noise(61, 47), width, height, window, filter);
            let expected = image::imageops::crop_imm(&whole, 7, 3, 11, 15).to_image();
            assert!(part == expected, "{width}x{height} {filter:?}");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_instruction_set_gives_the_same_samples() {
    if !avx2::available() {
        return;
    }
    let sizes = [(61, 47, 29, 17), (7, 5, 23, 31), (200, 3, 11, 2), (1, 1, 9, 9), (640, 9, 17, 3), (33, 70, 33, 9)];
    for ((width, height, new_width, new_height), filter) in
        sizes.into_iter().flat_map(|sizes| (0..6).filter_map(Resample::from_pillow).map(move |filter| (sizes, filter)))
    {
        let picture = noise(width, height);
        // One column more than there are: what is outside has no weights.
        let columns = Axis::new(width, f64::from(width), new_width, 1..new_width + 1, filter);
        let rows = Axis::new(height, f64::from(height), new_height, 1..new_height + 1, filter);
        let (across, stride) = (0..width as usize, width as usize * CHANNELS);
        let source = Plane { samples: picture.as_raw(), stride, columns: across.clone(), first_row: 0 };
        let used = rows.used();
        // SAFETY: asked for above.
        let (fast, fast_rows) = unsafe {
            (avx2::filter_columns(&source, used.clone(), &columns), avx2::filter_rows(&source, across.clone(), &rows))
        };
        let plain = filter_columns_portable(&source, used, &columns);
        assert!(fast.rows().eq(plain.rows()), "{width} to {new_width} columns, {filter:?}");
        let plain = filter_rows_portable(&source, across, &rows);
        assert!(fast_rows.rows().eq(plain.rows()), "{height} to {new_height} rows, {filter:?}");
    }
}

#[test]
fn what_lies_outside_is_black() {
    let window = Window { left: 8, top: 0, width: 4, height: 12 };
    let part = resize_window(&RgbImage::from_pixel(5, 5, image::Rgb([90; 3])), 10, 10, window, Resample::Bicubic);
    let lit = |x, y| part.get_pixel(x, y).0 == [90; 3];
    assert!(lit(0, 0) && lit(1, 9));
    assert!(part.enumerate_pixels().all(|(x, y, pixel)| (x < 2 && y < 10) || pixel.0 == [0; 3]));
}

#[test]
fn the_same_size_is_the_same_picture() {
    let picture = noise(13, 9);
    for filter in (0..6).filter_map(Resample::from_pillow) {
        assert!(resize(&picture, 13, 9, filter) == picture, "{filter:?}");
    }
}

#[test]
fn nothing_in_or_nothing_out_is_no_panic() {
    assert_eq!(resize(&RgbImage::new(0, 0), 3, 2, Resample::Bicubic), RgbImage::new(3, 2));
    assert_eq!(resize(&noise(3, 2), 0, 5, Resample::Lanczos).dimensions(), (0, 5));
    assert_eq!(resize(&noise(3, 2), 1, 0, Resample::Nearest).dimensions(), (1, 0));
}

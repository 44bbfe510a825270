//! The starter model's towers; full-size ones are timed by `clip-aware bench encode` and `tools/bench_compare.py`.

use clip_aware::compute::Backend;
use clip_aware::config::{DeviceChoice, PrecisionChoice};
use clip_aware::models::Encoder;
use clip_aware::models::starter::starter_files;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

fn starter() -> Encoder {
    Encoder::load(&starter_files(), &Backend::new(DeviceChoice::Cpu, PrecisionChoice::Auto).unwrap()).unwrap()
}

#[divan::bench(args = [1, 16])]
fn images(bencher: Bencher, batch: usize) {
    let encoder = starter();
    let (height, width) = encoder.preprocessor().size();
    let pixels = vec![vec![0.1; 3 * height * width]; batch];
    bencher.counter(ItemsCount::new(batch)).bench(|| black_box(encoder.encode_images(&pixels).unwrap()));
}

#[divan::bench(args = [1, 16])]
fn texts(bencher: Bencher, batch: usize) {
    let encoder = starter();
    let texts = vec!["a red circle left of a blue star".to_owned(); batch];
    bencher.counter(ItemsCount::new(batch)).bench(|| black_box(encoder.encode_texts(&texts).unwrap()));
}

#[divan::bench]
fn load() -> Encoder {
    starter()
}

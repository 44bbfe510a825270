//! Searches of a catalogue of random vectors, through the whole of `engine::search`.

use std::sync::atomic::AtomicBool;

use clip_aware::engine::Watch;
use clip_aware::engine::search_bench::{Made, SearchBench};
use divan::{Bencher, black_box};

/// Small enough to be made at every run; `clip-aware bench search --vectors 1000000` measures large ones.
const VECTORS: usize = 20_000;

fn catalogue(folder: &tempfile::TempDir) -> SearchBench {
    let cancel = AtomicBool::new(false);
    let watch = Watch { progress: &|_| (), cancel: &cancel };
    SearchBench::build(VECTORS, 512, Made::AtRandom, folder.path(), &watch).unwrap()
}

#[divan::bench]
fn whole(bencher: Bencher) {
    let folder = tempfile::tempdir().unwrap();
    let bench = catalogue(&folder);
    let everything = bench.everything();
    bencher.bench_local(|| black_box(bench.search(0, &everything).unwrap()));
}

#[divan::bench(args = [2, 100])]
fn filtered(bencher: Bencher, one_in: u32) {
    let folder = tempfile::tempdir().unwrap();
    let bench = catalogue(&folder);
    let filter = bench.one_in(one_in);
    bencher.bench_local(|| black_box(bench.search(0, &filter).unwrap()));
}

/// The scan and the ranking alone, with one query and with three at once.
#[divan::bench(args = [1, 3])]
fn rank(bencher: Bencher, queries: usize) {
    let folder = tempfile::tempdir().unwrap();
    let bench = catalogue(&folder);
    bencher.bench_local(|| black_box(bench.rank(0, queries).unwrap()));
}

//! What a request is, by its words.

use clip_aware::knowledge::router::route;
use divan::{Bencher, black_box};

#[divan::bench(args = ["a dog in the snow", "how many red chairs are left of the table in ./hall.jpg, without the broken ones?"])]
fn request(bencher: Bencher, text: &str) {
    bencher.bench(|| black_box(route(black_box(text))));
}

#[divan::bench]
fn two_thousand_characters(bencher: Bencher) {
    let text = "find photos of two brown horses next to a fence and a barn ".repeat(34);
    bencher.bench(|| black_box(route(black_box(&text))));
}

//! `DINOv2`: encoders of images only, for telling individuals and near kinds apart by example.
//!
//! Commits of the variants without registers: as named in public code. Parameters: the reference's own count.

use super::{Architecture, Entry};

const fn dinov2(
    name: &'static str,
    hub_id: &'static str,
    revision: Option<&'static str>,
    (parameters_million, download_mib, dim): (u32, u32, usize),
    good_for: &'static str,
) -> Entry {
    Entry {
        name,
        aliases: &[],
        hub_id,
        revision,
        architecture: Architecture::Dinov2,
        licence: "Apache-2.0",
        parameters_million,
        download_mib,
        dim,
        image_size: 224,
        context_length: 0,
        good_for,
        languages: "none: images only",
        accuracy: &[],
    }
}

const SMALL: (u32, u32, usize) = (22, 84, 384);
const BASE: (u32, u32, usize) = (87, 331, 768);
const LARGE: (u32, u32, usize) = (304, 1161, 1024);

pub(super) const DINOV2: [Entry; 6] = [
    dinov2(
        "dinov2-small",
        "facebook/dinov2-small",
        Some("ed25f3a31f01632728cabb09d1542f84ab7b0056"),
        SMALL,
        "identify on a CPU: the same individual, near kinds, by your own examples",
    ),
    dinov2(
        "dinov2-base",
        "facebook/dinov2-base",
        Some("f9e44c814b77203eaa57a6bdbbd535f21ede1415"),
        BASE,
        "identify: finer than small, at about four times its cost",
    ),
    dinov2(
        "dinov2-large",
        "facebook/dinov2-large",
        Some("47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"),
        LARGE,
        "identify with a GPU, or for a few pictures",
    ),
    dinov2(
        "dinov2-with-registers-small",
        "facebook/dinov2-with-registers-small",
        None,
        SMALL,
        "as dinov2-small; attention without stray patches",
    ),
    dinov2(
        "dinov2-with-registers-base",
        "facebook/dinov2-with-registers-base",
        None,
        BASE,
        "as dinov2-base; attention without stray patches",
    ),
    dinov2(
        "dinov2-with-registers-large",
        "facebook/dinov2-with-registers-large",
        None,
        LARGE,
        "as dinov2-large; attention without stray patches",
    ),
];

//! Sets `cfg(shared)` when the folder of real photos, models and vectors lies beside the checkout, so that the tests
//! which need it are reported as ignored, not as passed, where it is absent.

use std::path::PathBuf;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(shared)");
    println!("cargo::rerun-if-env-changed=CLIP_AWARE_SHARED");
    let shared = std::env::var_os("CLIP_AWARE_SHARED").map_or_else(
        || PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../shared"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", shared.join("README.md").display());
    if shared.join("README.md").is_file() {
        println!("cargo::rustc-cfg=shared");
    }
}

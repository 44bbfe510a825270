//! Speed of the parts, from a matrix product to a search: `cargo bench`, or `cargo bench -- products` for one of them.
//!
//! Whole programs beside their peers, and two commits beside each other, are measured by the scripts that benches/README.md
//! names. Without `--bench`, as `cargo test --benches` runs it, everything runs once and nothing is timed.

mod pixels;
mod products;
mod routing;
mod search;
mod towers;

fn main() {
    divan::main();
}

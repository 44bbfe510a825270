//! What a search multiplies rows with.

#[path = "../../../../src/index/vectors/kernel.rs"]
pub mod kernel;

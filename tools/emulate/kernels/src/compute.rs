//! What layers multiply and finish rows with.

#[path = "../../../../src/compute/activation.rs"]
pub mod activation;
#[path = "../../../../src/compute/buffers.rs"]
pub mod buffers;
#[path = "../../../../src/compute/norm.rs"]
pub mod norm;
#[path = "../../../../src/compute/product/mod.rs"]
pub mod product;
#[path = "../../../../src/compute/simd.rs"]
pub mod simd;

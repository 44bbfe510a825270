//! clip-aware: image tools for coding agents which know their limits.
//!
//! A tour in reading order; each room imports only the rooms above it (ARCHITECTURE.md, checked by
//! `tests/it/architecture.rs`):
//!
//! 1. [`error`] and [`config`]: what can go wrong, and what was asked for.
//! 2. [`pixels`]: files to RGB, PIL-equal resizing, model input, contact sheets, boxes drawn, rendered scenes; [`geometry`] holds
//!    the boxes.
//! 3. [`compute`]: the device and the precision that the models run on.
//! 4. [`models`]: one file per architecture, the registry, weights from the hub or a folder.
//! 5. [`index`]: the SQLite catalogue, the vector cache, folder scans, calibration.
//! 6. [`knowledge`]: what is known of CLIP's limits, as pure functions of the request.
//! 7. [`engine`]: the use cases: ingest, search, classify, detect, demo.
//! 8. [`wire`]: request and response types shared by the server and `--json`.
//! 9. [`mcp`] and [`cli`]: the two faces.

pub mod cli;
pub mod compute;
pub mod config;
pub mod engine;
pub mod error;
pub mod geometry;
pub mod index;
pub mod knowledge;
pub mod mcp;
pub mod models;
pub mod pixels;
pub mod wire;

pub use error::{Error, Result};

//! What is known of CLIP's limits, as pure functions of the request's text; no model, no network.

pub mod detectors;
pub mod documents;
pub mod front_matter;
pub mod language;
pub mod task;

//! What is known of CLIP's limits, as pure functions of the request's text; no model, no network.

pub mod language;
pub mod objects;
pub mod task;

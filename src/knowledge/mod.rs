//! What is known of CLIP's limits, as pure functions of the request's text; no model, no network.
//!
//! [`facts`] is the one table of numbers, each with its [`sources`] entry; [`topics`] says what fails, why, how to notice
//! it and what to use instead ([`systems`], as far as this build has it: [`tools`]). [`documents`] are the texts that the
//! binary carries.

pub mod counterfactual;
pub mod detectors;
pub mod documents;
pub mod facts;
pub mod front_matter;
pub mod general;
pub mod language;
pub mod sources;
pub mod systems;
pub mod task;
pub mod tools;
pub mod topics;

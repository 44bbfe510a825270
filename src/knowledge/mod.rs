//! What is known of CLIP's limits, as pure functions of the request's text; no model, no network.
//!
//! [`facts`] is the one table of numbers, each with its [`sources`] entry; [`topics`] says what fails, why, how to notice
//! it and what to use instead ([`systems`], as far as this build has it: [`tools`]). [`documents`] are the texts that the
//! binary carries.
//!
//! [`router`] decides which [`task`] a request is, from its [`words`] and what its [`phrase`]s say; [`plan`] turns that
//! into the next call. [`claims`] are what a text says of a picture, one by one, and [`attributes`] what a thing could be instead.

pub mod attributes;
pub mod claims;
pub mod counterfactual;
pub mod detectors;
pub mod documents;
pub mod facts;
pub mod front_matter;
pub mod general;
pub mod language;
pub mod objects;
pub mod phrase;
pub mod plan;
pub mod router;
pub mod sources;
pub mod stature;
pub mod systems;
pub mod task;
pub mod tools;
pub mod topics;
pub mod words;

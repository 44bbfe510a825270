//! What an architecture is to the rest of the program: a way to recognise its checkpoints, and a [`Network`].

use std::sync::Arc;

use image::RgbImage;

use super::settings::Settings;
use super::{Detection, DetectorFiles};
use crate::compute::Backend;
use crate::error::Result;
use crate::geometry::XyxyPx;
use crate::models::checkpoint::Checkpoint;

/// How a detector takes pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// The longer side that pictures are scaled to at most, pixels.
    pub input_side: u32,
    /// Least side of an object, in pixels of the input, that is found reliably: one cell of the finest map.
    pub finest_cell: u32,
    /// The longer side for a second, closer look at a whole picture; none where another size is foreign to the network.
    pub second_side: Option<u32>,
}

/// How many of a detector's boxes are counted when the caller names no threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Counting {
    /// As many as all boxes of a class say together, after looking several times: its constants were chosen for this
    /// architecture.
    Calibrated,
    /// Those from this score on, after one look.
    Threshold(f32),
    /// Those from this score on, after one look; scores are no probabilities and are not to be added up.
    Uncalibrated(f32),
}

/// An output of a network, as published tests show it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The reference's name.
    pub name: &'static str,
    /// Length of a row.
    pub width: usize,
    /// Rows one after the other.
    pub values: Vec<f32>,
}

/// A loaded network of some architecture.
pub(in crate::models) trait Network: std::fmt::Debug + Send + Sync {
    /// Classes that it tells apart, unnamed ones included; "no object" is none of them.
    fn classes(&self) -> usize;

    /// How it takes pictures.
    fn geometry(&self) -> Geometry;

    /// Pixels of the input per pixel of a picture of this size.
    fn scale(&self, width: u32, height: u32) -> f32 {
        self.geometry().input_side as f32 / width.max(height).max(1) as f32
    }

    /// What its scores mean for counts.
    fn counting(&self) -> Counting;

    /// Of a network that finds what it is told in words, or shown.
    fn open_vocabulary(&self) -> Option<&dyn OpenVocabulary> {
        None
    }

    /// Does what is needed once before pictures are looked at; where several threads look at once, that each would do.
    ///
    /// # Errors
    /// A tensor operation failed.
    fn ready(&self) -> Result<()> {
        Ok(())
    }

    /// Finds the things in an upright picture, best first, those with at least the score `floor`; `side` is that of
    /// [`Geometry`]. [`Detection::class`] is below [`Network::classes`].
    ///
    /// # Errors
    /// A tensor operation failed.
    fn detect(&self, picture: &RgbImage, floor: f32, side: u32) -> Result<Vec<Detection>>;

    /// The outputs that published tests speak of; none by default.
    ///
    /// # Errors
    /// A tensor operation failed.
    fn stages(&self, _picture: &RgbImage) -> Result<Vec<Stage>> {
        Ok(Vec::new())
    }

    /// Runs on a grey picture, for benchmarks; returns the number of raw predictions.
    ///
    /// # Errors
    /// A tensor operation failed.
    fn run_neutral(&self) -> Result<usize>;
}

/// A network whose classes are the caller's: in words, or shown.
pub(in crate::models) trait OpenVocabulary {
    /// The same network with these things as its classes.
    ///
    /// # Errors
    /// A thing cannot be read; a tensor operation failed.
    fn asked(&self, things: &[String]) -> Result<Arc<dyn Network>>;

    /// The same network with one class: things like the one in an upright picture, or in a part of it, pixels. The picture is
    /// looked at when the first other one is.
    fn like(&self, picture: RgbImage, bounds: Option<XyxyPx>) -> Arc<dyn Network>;
}

/// What a network is built from.
#[derive(Clone, Copy)]
pub(in crate::models) struct Parts<'a> {
    pub(in crate::models) files: &'a DetectorFiles,
    pub(in crate::models) checkpoint: &'a Arc<Checkpoint>,
    pub(in crate::models) settings: &'a Settings,
    pub(in crate::models) backend: &'a Backend,
}

/// How an architecture is recognised and built.
pub(super) struct Architecture {
    /// `model_type` in `config.json`, and the name in messages.
    pub(super) name: &'static str,
    /// By its tensors.
    pub(super) recognises: fn(&Checkpoint) -> bool,
    /// Checks every expected tensor by name and shape, then builds it.
    pub(super) load: fn(&Parts<'_>) -> Result<Box<dyn Network>>,
}

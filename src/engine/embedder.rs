//! What ingest and search need of a model; a seam, so that they can be tested without one.

use image::RgbImage;

use crate::error::Result;
use crate::index::SetKey;
use crate::models::Encoder;
use crate::pixels::{Enough, Whole};

/// Turns images and texts into vectors of one space.
pub trait ImageTextEmbedder: Send + Sync {
    /// Names the model.
    fn id(&self) -> &str;

    /// Names its state: a hub commit, a content hash.
    fn revision(&self) -> &str;

    /// The number format it runs in, which shows in the vectors: `f32`, `bf16`, `int8`.
    fn precision(&self) -> &str;

    /// Length of the vectors.
    fn dim(&self) -> usize;

    /// Names the input pipeline; vectors made with another one are not comparable.
    fn preprocessing(&self) -> String;

    /// From which size on an image may be decoded smaller than stored; `None`: never.
    fn enough(&self) -> Option<Enough> {
        None
    }

    /// Brings an image into the model's input; `whole` is what it was decoded from. Shape: `[3, h, w]`, flattened. Runs on
    /// worker threads.
    fn prepare(&self, image: &RgbImage, whole: Whole) -> Vec<f32>;

    /// Embeds prepared images. Shape: each `[dim]`, unit length.
    ///
    /// # Errors
    /// The model fails.
    fn encode_images(&self, prepared: &[Vec<f32>]) -> Result<Vec<Vec<f32>>>;

    /// Embeds texts. Shape: each `[dim]`, unit length.
    ///
    /// # Errors
    /// The model fails.
    fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>>;

    /// The vector set that its vectors belong to.
    fn set_key(&self) -> SetKey {
        SetKey {
            model: self.id().to_owned(),
            revision: self.revision().to_owned(),
            precision: self.precision().to_owned(),
            dim: self.dim(),
            preprocessing: self.preprocessing(),
        }
    }
}

impl ImageTextEmbedder for Encoder {
    fn id(&self) -> &str {
        self.id()
    }

    fn revision(&self) -> &str {
        self.revision()
    }

    fn precision(&self) -> &str {
        self.backend().precision
    }

    fn dim(&self) -> usize {
        self.dim()
    }

    fn preprocessing(&self) -> String {
        self.preprocessor().fingerprint().to_owned()
    }

    fn enough(&self) -> Option<Enough> {
        self.preprocessor().enough()
    }

    fn prepare(&self, image: &RgbImage, whole: Whole) -> Vec<f32> {
        self.preprocessor().apply_reduced(image, whole)
    }

    fn encode_images(&self, prepared: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        self.encode_images(prepared)
    }

    fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        self.encode_texts(texts)
    }
}

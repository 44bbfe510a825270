//! Captions scored by dense cosine similarity maps, where the caller has the authors' network.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Engine, Watch};
use crate::error::Result;
use crate::models::{Dcsm, Encoder};

/// What the authors' networks are made for, by the tokens of an image: `openai/clip-vit-base-patch16`, and the larger one of
/// their training code.
const MADE_FOR: [(usize, &str); 2] = [(197, "clip-vit-b16"), (257, "clip-vit-l14")];

/// The loaded network, none before the first use.
#[derive(Debug, Default)]
pub(super) struct Network(Mutex<Option<Arc<Dcsm>>>);

/// What the network makes of captions.
#[derive(Debug)]
pub struct Dense {
    /// The network's file.
    pub network: String,
    /// The image-text model whose tokens it is given.
    pub encoder: String,
    /// Of each caption, to be compared with each other only.
    pub scores: Vec<f32>,
}

impl Engine {
    /// Scores captions of a picture; `None` where the caller named no network. The network is given the tokens of `encoder` where
    /// that makes as many as it takes, else those of the model in the registry that does.
    ///
    /// # Errors
    /// The network's file or the model it is made for cannot be loaded; the image cannot be read; the caller cancelled.
    pub fn dense_scores(
        &self,
        image: &str,
        captions: &[String],
        encoder: &Arc<Encoder>,
        watch: &Watch<'_>,
    ) -> Result<Option<Dense>> {
        let Some(network) = self.dcsm()? else { return Ok(None) };
        let fits = encoder.image_tokens() == Some(network.image_tokens());
        let made_for = MADE_FOR.iter().find(|(tokens, _)| !fits && *tokens == network.image_tokens());
        let encoder = match made_for {
            Some((_, name)) => self.encoder(name, watch)?,
            None => Arc::clone(encoder),
        };
        watch.check()?;
        let (_, picture) = self.read_image(image)?;
        let scores = network.scores(&encoder, &encoder.preprocessor().apply(&picture.rgb), captions)?;
        Ok(Some(Dense { network: network.id().to_owned(), encoder: encoder.id().to_owned(), scores }))
    }

    /// Loads the network, or returns the loaded one. One caller loads while others wait.
    fn dcsm(&self) -> Result<Option<Arc<Dcsm>>> {
        let Some(path) = &self.config.dcsm else { return Ok(None) };
        let mut kept = self.dense.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = Some(Arc::new(Dcsm::load(path)?));
        }
        Ok(kept.clone())
    }
}

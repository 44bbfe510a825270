//! A loaded encoder: the towers, or the one of a model that reads no text, and the image pipeline in front of them.

use super::{ModelFiles, Scoring, Towers, open_clip};
use crate::compute::Backend;
use crate::error::{Error, Result};
use crate::pixels::Preprocessor;

/// A loaded encoder of any supported architecture.
#[derive(Debug)]
pub struct Encoder {
    id: String,
    revision: String,
    towers: Towers,
    preprocessor: Preprocessor,
}

/// Published files have under 1 KB.
pub(super) const MAX_PREPROCESSOR_BYTES: u64 = 1 << 20;

impl Encoder {
    /// Checks every expected tensor by name and shape, then builds both towers.
    ///
    /// # Errors
    /// [`Error::Tensors`] lists what is missing or has another shape; [`Error::ModelFile`] for a broken or unknown config,
    /// and for an image pipeline whose output the model does not take.
    pub fn load(files: &ModelFiles, backend: &Backend) -> Result<Self> {
        let json = files.preprocessor.read_text(MAX_PREPROCESSOR_BYTES, &files.id)?;
        let preprocessor = Preprocessor::from_json(&Self::preprocessor_json(json, files)?, &files.id)?;
        let towers = Towers::load_for(files, Some(preprocessor.size()), backend)?;
        let ((high, wide), (height, width)) = (towers.image_size(), preprocessor.size());
        if (height, width) != (high, wide) {
            return Err(Error::ModelFile {
                model: files.id.clone(),
                file: files.preprocessor.name(),
                reason: format!("makes images of {width} x {height} pixels, the model takes {wide} x {high}"),
            });
        }
        Ok(Self { id: files.id.clone(), revision: files.revision.clone(), towers, preprocessor })
    }

    /// `preprocessor_config.json`, also where `open_clip_config.json` says what it would.
    fn preprocessor_json(json: String, files: &ModelFiles) -> Result<String> {
        let file = serde_json::from_str(&json).ok();
        match file.as_ref().and_then(open_clip::preprocessor) {
            None => Ok(json),
            Some(made) => made.map(|made| made.to_string()).map_err(|reason| Error::ModelFile {
                model: files.id.clone(),
                file: files.preprocessor.name(),
                reason,
            }),
        }
    }

    /// As in [`ModelFiles::id`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As in [`ModelFiles::revision`].
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What the model runs on.
    pub fn backend(&self) -> &Backend {
        self.towers.backend()
    }

    /// Length of the vectors.
    pub fn dim(&self) -> usize {
        self.towers.dim()
    }

    /// The input pipeline for images.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Whether it embeds texts too.
    pub fn reads_texts(&self) -> bool {
        self.towers.reads_texts()
    }

    /// Whether its images are crops of faces, aligned as its checkpoint was trained.
    pub fn takes_aligned_faces(&self) -> bool {
        self.towers.takes_aligned_faces()
    }

    /// Softmax or sigmoid, with the checkpoint's own scale.
    ///
    /// # Errors
    /// [`Error::ReadsNoTexts`].
    pub fn scoring(&self) -> Result<Scoring> {
        self.towers.scoring()
    }

    /// Tokens of an image where there are dense features: the class token and the patches.
    pub fn image_tokens(&self) -> Option<usize> {
        self.towers.image_tokens()
    }

    /// Embeds preprocessed images. Shapes: each `[3, h, w]` flattened -> each `[dim]`, unit length.
    ///
    /// # Errors
    /// An image has another size or numbers that are not finite; a tensor operation failed.
    pub fn encode_images(&self, pixels: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        self.towers.encode_images(pixels)
    }

    /// Dense features of a preprocessed image: the class token, then its patches from left to right and top to bottom. Shapes:
    /// `[3, h, w]` flattened -> `[1 + patches][dim]`, unit length.
    ///
    /// # Errors
    /// As [`Encoder::encode_images`]; the architecture has no such features.
    pub fn encode_patches(&self, pixels: &[f32]) -> Result<Vec<Vec<f32>>> {
        self.towers.encode_patches(pixels)
    }

    /// Dense features of texts: every token, texts cut or filled up to `len` of them. Shape: each `[len][dim]`, unit length.
    ///
    /// # Errors
    /// As [`Encoder::encode_texts`]; the architecture has no such features, or takes fewer tokens.
    pub fn encode_text_tokens(&self, texts: &[String], len: usize) -> Result<Vec<Vec<Vec<f32>>>> {
        self.towers.encode_text_tokens(texts, len)
    }

    /// Embeds texts, truncated at the context length as the reference does. Shape: each `[dim]`, unit length.
    ///
    /// # Errors
    /// A text cannot be tokenized, or a tensor operation failed; [`Error::ReadsNoTexts`].
    pub fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        self.towers.encode_texts(texts)
    }

    /// Number of tokens of a text, begin and end tokens included, before truncation; and the context length.
    ///
    /// # Errors
    /// The text cannot be tokenized.
    pub fn token_count(&self, text: &str) -> Result<(usize, usize)> {
        Ok((self.towers.tokenize(text)?.full_len, self.towers.context_length()))
    }
}

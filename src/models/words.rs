//! What a model's texts are cut with, checked against the tower that reads them.

use super::ModelFiles;
use super::config::{ModelConfig, Pooling, TextConfig};
use super::tokenizer::{Dialect, OPENAI_TOKENS, Tokenizer, Tokens, is_openai};
use crate::error::{Error, Result};

/// A tokenizer, and the config of the tower behind it.
#[derive(Debug)]
pub(super) struct Words {
    pub tokenizer: Tokenizer,
    pub config: TextConfig,
}

impl Words {
    /// # Errors
    /// [`Error::ModelFile`] for a tokenizer that is missing or broken.
    pub fn load(files: &ModelFiles, config: &TextConfig, dialect: Dialect) -> Result<Self> {
        let missing = || refused(files, "is needed to read texts, and is not there".to_owned());
        let blob = files.tokenizer.as_ref().ok_or_else(missing)?;
        let tokenizer = Tokenizer::load(blob, config.max_position_embeddings, dialect, &files.id)?;
        Ok(Self { tokenizer, config: config.clone() })
    }

    /// A text as the ids that the model sees.
    ///
    /// # Errors
    /// As [`super::Towers::tokenize`].
    pub fn tokenize(&self, text: &str) -> Result<Tokens> {
        let tokens = self.tokenizer.encode(text)?;
        match tokens.ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            Some(id) => Err(Error::Tokenizer {
                reason: format!("the tokenizer gives id {id}, the model has {} tokens", self.config.vocab_size),
            }),
            None => Ok(tokens),
        }
    }

    /// A tokenizer of another model would give vectors that mean nothing, without any error.
    pub fn check(&self, config: &ModelConfig, files: &ModelFiles) -> Result<()> {
        let refused = |reason| refused(files, reason);
        if files.tokenizer.as_ref().is_some_and(is_openai) && self.config.vocab_size != OPENAI_TOKENS {
            return Err(refused(format!(
                "has {OPENAI_TOKENS} tokens, the model {}: its own tokenizer.json has to lie beside it",
                self.config.vocab_size
            )));
        }
        let empty = self.tokenizer.encode("")?.ids;
        let outside = self.tokenizer.pad().max(empty.iter().copied().max().unwrap_or(0));
        if outside as usize >= self.config.vocab_size {
            return Err(refused(format!("uses id {outside}, the model has {} tokens", self.config.vocab_size)));
        }
        match config {
            ModelConfig::Clip(clip) => match clip.pooling {
                Pooling::First(eos) if !empty.contains(&eos) => {
                    Err(refused(format!("does not end texts with id {eos}, the eos_token_id of config.json")))
                }
                _ if empty.is_empty() => Err(refused("puts no begin and end tokens around texts".to_owned())),
                Pooling::HighestId if empty.iter().any(|&id| id as usize + 1 == self.config.vocab_size) => Ok(()),
                Pooling::HighestId => {
                    // The reference pools there all the same, and so does this.
                    tracing::warn!(
                        model = files.id,
                        "config.json has eos_token_id 2, which pools texts at their highest token id; here that is not the end token"
                    );
                    Ok(())
                }
                Pooling::First(_) => Ok(()),
            },
            ModelConfig::Siglip(_) | ModelConfig::Dinov2(_) | ModelConfig::Iresnet(_) => Ok(()),
        }
    }
}

fn refused(files: &ModelFiles, reason: String) -> Error {
    let file = files.tokenizer.as_ref().map_or_else(|| "tokenizer.json".to_owned(), super::Blob::name);
    Error::ModelFile { model: files.id.clone(), file, reason }
}

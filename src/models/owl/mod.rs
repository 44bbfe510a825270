//! OWL-ViT and `OWLv2`: detectors that find what they are told in words. CLIP's towers; every patch of the picture has a vector to
//! compare with texts, and a box.
//!
//! Source: Minderer et al. 2022, arXiv:2205.06230, and 2023, arXiv:2306.09683; transformers 5.24, `modeling_owlvit.py` and
//! `modeling_owlv2.py`. Checkpoints: the hub's.

mod example;
mod heads;
mod input;
mod prompt;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};
use image::RgbImage;

use self::example::Example;
use self::heads::{Heads, Read, flat};
use self::input::Input;
use super::checkpoint::Checkpoint;
use super::clip::{TextTower, VisionTransformer};
use super::config::{OwlConfig, Pooling};
use super::detector::{Counting, Detection, Geometry, Network, OpenVocabulary, Parts, Settings, Stage};
use super::reader::{self, Reader};
use super::tokenizer::{Dialect, Tokenizer};
use super::transformer::Stages;
use crate::compute::{Backend, LayerNorm};
use crate::error::{Error, Result};
use crate::geometry::XyxyPx;

/// Score from which on a box is counted where none is named: the default of the reference's post-processing, and what its
/// examples use. It is not calibrated: what a score means differs from word to word, and no photos with real weights stand
/// behind this number here. Another one would be a guess of ours; counts at higher scores are answered beside it.
const COUNTED: f32 = 0.1;
/// The same where an example is shown: what the reference's examples use, OWL-ViT's first, `OWLv2`'s second.
const COUNTED_LIKE: [f32; 2] = [0.6, 0.9];

/// What was read off the pictures seen last is kept up to so many numbers (64 MiB): another question about the same picture then
/// costs a matrix product.
const KEPT_NUMBERS: usize = 16 << 20;

/// The network, with or without a question.
#[derive(Debug)]
pub(super) struct Owl {
    core: Arc<Core>,
    question: Option<Question>,
}

/// What is asked for.
#[derive(Debug)]
enum Question {
    /// Unit vectors of texts, on the CPU. Shape: `[queries, dim]`.
    Words(Tensor),
    /// Things like the one in a picture.
    Like(Example),
}

/// What every question shares.
#[derive(Debug)]
struct Core {
    backend: Backend,
    config: OwlConfig,
    tokenizer: Tokenizer,
    input: Input,
    text: TextTower,
    vision: VisionTransformer,
    layer_norm: LayerNorm,
    heads: Heads,
    /// The pictures seen last, the latest at the end.
    seen: Mutex<Seen>,
}

type Seen = VecDeque<(blake3::Hash, Arc<Read>)>;

impl Owl {
    /// Whether a checkpoint is an `OWLv2`.
    pub(super) fn recognises_v2(checkpoint: &Checkpoint) -> bool {
        checkpoint.get("owlv2.text_projection.weight").is_some()
    }

    /// Whether a checkpoint is an OWL-ViT.
    pub(super) fn recognises_vit(checkpoint: &Checkpoint) -> bool {
        checkpoint.get("owlvit.text_projection.weight").is_some()
    }

    /// Builds the network.
    ///
    /// # Errors
    /// A config, preprocessor or tokenizer that is missing or not read here; a tensor is missing or has another shape: all of
    /// them are listed.
    pub(super) fn load(parts: &Parts<'_>) -> Result<Box<dyn Network>> {
        Self::build(parts).map(|network| Box::new(network) as Box<dyn Network>)
    }

    fn build(parts: &Parts<'_>) -> Result<Self> {
        let Parts { files, checkpoint, backend, .. } = *parts;
        let refused = |reason: &str| Settings::refused(files, reason.to_owned());
        let blob = files.config.as_ref().ok_or_else(|| refused("is an OWL without a config.json beside it"))?;
        let config = OwlConfig::read(blob, &files.id)?;
        let missing = "reads words and has no tokenizer.json (or vocab.json with merges.txt) beside it";
        let tokenizer = files.tokenizer.as_ref().ok_or_else(|| refused(missing))?;
        let context = config.text.max_position_embeddings;
        let tokenizer = Tokenizer::load(tokenizer, context, Dialect::Clip, &files.id)?;
        let input = Input::of(files, &config)?;
        let weights = reader::load(checkpoint, backend, &files.id, |r| Weights::new(r, &config))?;
        let Weights { text, vision, layer_norm, heads } = weights;
        let seen = Mutex::new(VecDeque::new());
        let backend = backend.clone();
        let core = Core { backend, config, tokenizer, input, text, vision, layer_norm, heads, seen };
        Ok(Self { core: Arc::new(core), question: None })
    }

    /// Unit vectors of what is asked for, on the CPU. Shape: -> `[queries, dim]`.
    fn queries(&self) -> Result<Option<&Tensor>> {
        Ok(match &self.question {
            None => None,
            Some(Question::Words(queries)) => Some(queries),
            Some(Question::Like(example)) => Some(&example.seen(&self.core)?.query),
        })
    }
}

/// What is read from the checkpoint.
struct Weights {
    text: TextTower,
    vision: VisionTransformer,
    layer_norm: LayerNorm,
    heads: Heads,
}

impl Weights {
    fn new(reader: &Reader<'_>, config: &OwlConfig) -> Result<Self> {
        let towers = reader.at(if config.is_v2 { "owlv2" } else { "owlvit" });
        let vision = &config.vision;
        let (size, eps) = (vision.tower.hidden_size, vision.tower.layer_norm_eps);
        Ok(Self {
            text: TextTower::new(&towers, &config.text, config.projection_dim, Pooling::HighestId)?,
            vision: VisionTransformer::new(&towers.at("vision_model"), vision, "pre_layernorm")?,
            layer_norm: reader.layer_norm("layer_norm", size, eps)?,
            heads: Heads::new(reader, config)?,
        })
    }
}

impl Core {
    /// Unit vectors of texts. Shape: -> `[texts, dim]`, on the CPU.
    fn queries(&self, ids: &[&[u32]], stages: &mut Stages) -> Result<Tensor> {
        let features = rayon::scope(|_| self.text.features(ids, stages))?;
        let (texts, dim) = features.dims2().map_err(Error::tensor("text vectors"))?;
        let mut rows = flat(&features)?;
        for row in rows.chunks_mut(dim.max(1)) {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            for x in row.iter_mut() {
                *x /= length;
            }
        }
        Tensor::from_vec(rows, (texts, dim), &Device::Cpu).map_err(Error::tensor("text vectors"))
    }

    /// The ids of a prompt.
    fn tokenize(&self, prompt: &str) -> Result<Vec<u32>> {
        let tokens = self.tokenizer.encode(prompt)?;
        let most = self.tokenizer.context_length();
        if tokens.full_len > most {
            let reason = format!("are too long: `{prompt}` has {} tokens, the detector reads {most}", tokens.full_len);
            return Err(Error::Argument { name: "targets", reason });
        }
        let vocabulary = self.config.text.vocab_size;
        match tokens.ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(Error::Tokenizer {
                reason: format!("the tokenizer gives id {id}, the model has {vocabulary} tokens"),
            }),
            None => Ok(tokens.ids),
        }
    }

    /// What each patch shows, merged with what the whole picture does. Shapes: each `[3, side, side]` flattened ->
    /// `[batch, patches, size]`.
    fn features(&self, images: &[&[f32]], stages: &mut Stages) -> Result<Tensor> {
        let tokens = rayon::scope(|_| self.vision.tokens(images, &self.backend, stages))?; // [batch, 1 + patches, size]
        let merged = || {
            let patches = tokens.dim(1)? - 1;
            tokens.narrow(1, 1, patches)?.broadcast_mul(&tokens.narrow(1, 0, 1)?)?.contiguous()
        };
        let features = self.layer_norm.forward(&merged().map_err(Error::tensor("patches"))?)?;
        stages.note(|| "image_embeds".to_owned(), &features);
        Ok(features)
    }

    /// What is read off each picture of a batch.
    fn read(&self, images: &[&[f32]], stages: &mut Stages) -> Result<Vec<Read>> {
        let features = self.features(images, stages)?;
        let one = |n| features.narrow(0, n, 1).and_then(|one| one.contiguous()).map_err(Error::tensor("patches"));
        (0..images.len()).map(|n| self.heads.forward(&one(n)?)).collect()
    }

    /// What is read off a picture, from memory where it was seen before.
    fn look(&self, picture: &RgbImage) -> Result<Arc<Read>> {
        let hash = hash(picture);
        if let Some((_, read)) = self.kept().iter().find(|(other, _)| *other == hash) {
            return Ok(Arc::clone(read));
        }
        let mut read = self.read(&[&self.input.apply(picture)], &mut Stages::off())?;
        let read = read.pop().ok_or_else(|| Error::Argument { name: "picture", reason: "gave nothing".into() })?;
        let read = Arc::new(read);
        self.keep(hash, &read);
        Ok(read)
    }

    fn kept(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was read off a picture; what was read longest ago makes room.
    fn keep(&self, hash: blake3::Hash, read: &Arc<Read>) {
        let numbers = (self.config.vision.num_patches() * self.config.projection_dim).max(1);
        let mut kept = self.kept();
        if !kept.iter().any(|(other, _)| *other == hash) {
            kept.push_back((hash, Arc::clone(read)));
        }
        while kept.len() > (KEPT_NUMBERS / numbers).max(1) {
            kept.pop_front();
        }
    }

    /// Pixels that boxes are shares of, across and down: of a picture that is padded, those of the square.
    fn frame(&self, (width, height): (u32, u32)) -> (f32, f32) {
        let (width, height) = (width as f32, height as f32);
        if self.config.is_v2 { (width.max(height), width.max(height)) } else { (width, height) }
    }
}

/// Of a picture's size and pixels.
fn hash(picture: &RgbImage) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    hash.update(&picture.width().to_le_bytes());
    hash.update(picture.as_raw());
    hash.finalize()
}

impl OpenVocabulary for Owl {
    fn asked(&self, things: &[String]) -> Result<Arc<dyn Network>> {
        let ids: Vec<Vec<u32>> =
            things.iter().map(|thing| self.core.tokenize(&prompt::of(thing))).collect::<Result<_>>()?;
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let queries = self.core.queries(&ids, &mut Stages::off())?;
        Ok(Arc::new(Self { core: Arc::clone(&self.core), question: Some(Question::Words(queries)) }))
    }

    fn like(&self, picture: RgbImage, bounds: Option<XyxyPx>) -> Arc<dyn Network> {
        let question = Some(Question::Like(Example::new(picture, bounds)));
        Arc::new(Self { core: Arc::clone(&self.core), question })
    }
}

impl Network for Owl {
    fn classes(&self) -> usize {
        match &self.question {
            None => 0,
            Some(Question::Words(queries)) => queries.dim(0).unwrap_or(0),
            Some(Question::Like(_)) => 1,
        }
    }

    fn geometry(&self) -> Geometry {
        let vision = &self.core.config.vision;
        Geometry {
            input_side: vision.image_size as u32,
            finest_cell: vision.patch_size as u32,
            // Its positions belong to one size.
            second_side: None,
        }
    }

    fn counting(&self) -> Counting {
        let [vit, v2] = COUNTED_LIKE;
        Counting::Uncalibrated(match &self.question {
            Some(Question::Like(_)) => {
                if self.core.config.is_v2 {
                    v2
                } else {
                    vit
                }
            }
            _ => COUNTED,
        })
    }

    fn open_vocabulary(&self) -> Option<&dyn OpenVocabulary> {
        Some(self)
    }

    fn ready(&self) -> Result<()> {
        self.queries().map(|_| ())
    }

    fn detect(&self, picture: &RgbImage, floor: f32, _side: u32) -> Result<Vec<Detection>> {
        let Some(queries) = self.queries()? else {
            let reason = "are needed: this detector finds what it is told, and has no list of its own".to_owned();
            return Err(Error::Argument { name: "targets", reason });
        };
        let read = self.core.look(picture)?;
        let suppressed = matches!(self.question, Some(Question::Like(_)));
        read.detections(queries, picture.dimensions(), self.core.frame(picture.dimensions()), floor, suppressed)
    }

    fn stages(&self, picture: &RgbImage) -> Result<Vec<Stage>> {
        let features = self.core.features(&[&self.core.input.apply(picture)], &mut Stages::off())?;
        let read = self.core.heads.forward(&features)?;
        let dim = self.core.config.projection_dim;
        let mut stages = vec![
            Stage { name: "image_embeds", width: self.core.config.vision.tower.hidden_size, values: flat(&features)? },
            Stage { name: "class_embeds", width: dim, values: flat(&read.class_embeds)? },
        ];
        if let Some(queries) = self.queries()? {
            let name = if let Some(Question::Like(example)) = &self.question {
                let patch = example.seen(&self.core)?.patch as f32;
                stages.push(Stage { name: "query_patch", width: 1, values: vec![patch] });
                "query_embeds"
            } else {
                "text_embeds"
            };
            stages.push(Stage { name, width: dim, values: flat(queries)? });
            stages.push(Stage { name: "logits", width: self.classes(), values: read.logits(queries)? });
        }
        if let Some(values) = self.core.heads.objectness(&features)? {
            stages.push(Stage { name: "objectness_logits", width: 1, values });
        }
        stages.push(Stage { name: "pred_boxes", width: 4, values: read.boxes });
        Ok(stages)
    }

    fn run_neutral(&self) -> Result<usize> {
        let (height, width) = self.core.input.size();
        let grey = vec![0.0; 3 * height * width];
        Ok(self.core.read(&[&grey], &mut Stages::off())?.iter().map(|one| one.boxes.len() / 4).sum())
    }
}

//! Encoders of images, most of them of texts too, and object detectors: architectures, the registry, weights, the tokenizer.
//!
//! [`Encoder::load`] reads `config.json` (`config`; `open_clip` and `shapes` make one where there is none), checks and copies the
//! checkpoint (`checkpoint`, `reader`), and builds one of the architectures (`clip`, `siglip`, `dinov2`, `iresnet`) from the
//! shared layers (`transformer`). [`Detector::load`] does the same for detectors (`yolox`; `detr` and
//! `rtdetr` on `resnet` and `positioned`; `faster_rcnn` on `resnet`; `owl` on the towers of `clip`), [`Classifier::load`]
//! for networks with labels of their own (`resnet`, `convnext`, `dinov2`'s transformer as a `ViT`).

pub mod baseline;
mod blob;
mod checkpoint;
mod classifier;
mod clip;
pub mod coco;
mod config;
mod convnext;
mod dcsm;
mod detector;
mod detr;
mod dinov2;
mod encoder;
mod faster_rcnn;
mod iresnet;
mod open_clip;
mod owl;
mod positioned;
mod reader;
pub mod registry;
mod resnet;
mod rtdetr;
mod shapes;
mod siglip;
pub mod starter;
mod tokenizer;
mod towers;
mod transformer;
pub mod verify;
pub mod weights;
mod words;
mod yolox;

pub use blob::{Blob, Bytes};
pub use classifier::Classifier;
pub use dcsm::Dcsm;
pub use detector::{Counting, Detection, Detector, DetectorFiles, Geometry, Stage};
pub use encoder::Encoder;
pub use tokenizer::{Tokens, openai_tokenizer};
pub use towers::{Scoring, Towers};

/// A model whose files are all at hand, in Hugging Face or `open_clip` layout; of a single file of weights, with the rest put
/// together.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Registry name, hub id, path of a folder or file, or `starter`; what the index records.
    pub id: String,
    /// Hub commit, or for a folder or file a content hash of its config and the sizes and times of its weights.
    pub revision: String,
    /// `config.json`, or `open_clip_config.json`.
    pub config: Blob,
    /// `preprocessor_config.json`, or `open_clip_config.json`.
    pub preprocessor: Blob,
    /// `tokenizer.json`; where there is none, `vocab.json` with a `merges.txt` beside it, or [`openai_tokenizer`]. None for a
    /// model that reads no text.
    pub tokenizer: Option<Blob>,
    /// `model.safetensors`, or the shards that `model.safetensors.index.json` names, or `pytorch_model.bin`; the like
    /// of `open_clip`.
    pub weights: Vec<Blob>,
}

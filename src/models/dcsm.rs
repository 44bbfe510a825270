//! Dense cosine similarity maps: a small network that scores an image and a caption from the cosines of all image tokens to all
//! text tokens, where CLIP keeps one of each.
//!
//! It comes as a file of its authors', and works on the CLIP that it was trained with.
//!
//! Source: Kang et al. 2025, "Is CLIP ideal? No. Can we fix it? Yes!", arXiv 2503.08723, section 5; `Raphoo/DCSM_Ideal_CLIP`,
//! `src/evaluating/eval_simple.py` and `src/util/models_and_dataloaders.py`.

use std::path::Path;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::reader::{self, Reader};
use super::{Blob, Encoder};
use crate::compute::{Activation, Backend, ConvShape, Linear, PixelConv, PixelMap, chain};
use crate::error::{Error, Result};

/// Words whose column of the map is learned, in the order of its table and of insertion: CLIP hardly tells them apart.
const WORDS: [&str; 11] = ["above", "below", "left", "right", "small", "big", "not", "no", "without", "but", "absent"];
/// The table of their columns. Shape: `[WORDS.len(), image tokens]`.
const TABLE: &str = "external_logic_token_embeddings.weight";
/// All tensors.
const TENSORS: [&str; 9] = [
    "conv1.weight",
    "conv1.bias",
    "conv2.weight",
    "conv2.bias",
    "fc1.weight",
    "fc1.bias",
    "fc2.weight",
    "fc2.bias",
    TABLE,
];
/// Published files have some 12 MB.
const MOST_HIDDEN: usize = 1 << 14;

/// The network.
#[derive(Debug)]
pub struct Dcsm {
    id: String,
    conv1: PixelConv,
    conv2: PixelConv,
    fc1: Linear,
    fc2: Linear,
    /// One column for each of [`WORDS`]. Shape: `[WORDS.len()][image tokens]`.
    columns: Vec<Vec<f32>>,
    text_tokens: usize,
}

impl Dcsm {
    /// Reads the authors' file.
    ///
    /// # Errors
    /// [`Error::ModelFile`]: it is not such a file; [`Error::Tensors`]: tensors are missing or do not fit together.
    pub fn load(path: &Path) -> Result<Self> {
        let id = path.display().to_string();
        let file = Blob::File(path.to_owned());
        let checkpoint = Arc::new(Checkpoint::open_weights(&id, std::slice::from_ref(&file))?);
        let side = |name: &str, at: usize| checkpoint.get(name).and_then(|entry| entry.shape.get(at)).copied();
        let sides = (side("conv1.weight", 0), side("fc1.weight", 0), side("fc1.weight", 1), side(TABLE, 1));
        let refused =
            |reason: &str| Error::ModelFile { model: id.clone(), file: file.name(), reason: reason.to_owned() };
        let (Some(channels), Some(hidden), Some(numbers), Some(image_tokens)) = sides else {
            return Err(refused(
                "is no scoring network of dense cosine similarity maps: it lacks conv1, fc1 or the words",
            ));
        };
        let per_text_token = channels.checked_mul(image_tokens).filter(|product| *product > 0);
        let text_tokens =
            per_text_token.filter(|product| numbers % product == 0).map_or(0, |product| numbers / product);
        if text_tokens == 0 || hidden > MOST_HIDDEN {
            return Err(refused("has layers whose sizes do not fit together"));
        }
        // A rectifier makes zeros of what is no number, and every caption would have the same score.
        let finite = |name: &&str| {
            let mut values = Vec::new();
            checkpoint.get(name).into_iter().for_each(|entry| checkpoint.append(entry, &mut values));
            values.iter().all(|value| value.is_finite())
        };
        if !TENSORS.iter().all(finite) {
            return Err(refused("has weights that are not finite; it is damaged"));
        }
        let sizes = Sizes { channels, hidden, image_tokens, text_tokens };
        // A few million products: not worth a trip to another device, or fewer bits.
        reader::load(&checkpoint, &Backend::cpu(), &id, |reader| Self::read(reader, sizes, &id))
    }

    fn read(reader: &Reader<'_>, sizes: Sizes, id: &str) -> Result<Self> {
        let Sizes { channels, hidden, image_tokens, text_tokens } = sizes;
        let fc1 = reader.at("fc1");
        let weight = fc1.values("weight", &[hidden, channels * image_tokens * text_tokens])?;
        let bias = fc1.values("bias", &[hidden])?;
        let weight = pixels_first(&weight, channels, image_tokens * text_tokens);
        let table = reader.values(TABLE, &[WORDS.len(), image_tokens])?;
        Ok(Self {
            id: id.to_owned(),
            conv1: reader.pixel_conv("conv1", ConvShape::new(1, channels, 3, 1))?,
            conv2: reader.pixel_conv("conv2", ConvShape::new(channels, channels, 3, 1))?,
            fc1: reader.linear_from(hidden, channels * image_tokens * text_tokens, weight, Some(bias))?,
            fc2: reader.linear("fc2", 1, hidden)?,
            columns: table.chunks(image_tokens).map(<[f32]>::to_vec).collect(),
            text_tokens,
        })
    }

    /// The file.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Tokens that its CLIP makes of an image, the class token among them: 197 for ViT-B/16 at 224 pixels.
    pub fn image_tokens(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// The score of each caption, in no unit: only to be compared with each other, since the maps of one call are
    /// standardized together. Shape: `pixels` `[3, size, size]` flattened, of the encoder's preprocessor.
    ///
    /// # Errors
    /// The encoder is no CLIP, or makes another number of tokens; a caption cannot be tokenized.
    pub fn scores(&self, encoder: &Encoder, pixels: &[f32], captions: &[String]) -> Result<Vec<f32>> {
        let image = encoder.encode_patches(pixels)?; // [image tokens][dim]
        if image.len() != self.image_tokens() {
            let reason = format!(
                "is made for a CLIP of {} tokens an image, {} makes {}",
                self.image_tokens(),
                encoder.id(),
                image.len()
            );
            return Err(Error::ModelFile { model: encoder.id().to_owned(), file: self.id.clone(), reason });
        }
        let texts = encoder.encode_text_tokens(captions, self.text_tokens)?; // [captions][text tokens][dim]
        let mut maps: Vec<Vec<f32>> =
            texts.iter().zip(captions).map(|(text, caption)| self.map(&image, text, caption)).collect();
        standardize(&mut maps);
        self.network(&maps)
    }

    /// Cosines, with the columns of the special words set in. Shapes: `[image tokens][dim]`, `[text tokens][dim]` ->
    /// `[image tokens, text tokens]` flattened.
    fn map(&self, image: &[Vec<f32>], text: &[Vec<f32>], caption: &str) -> Vec<f32> {
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let mut rows: Vec<Vec<f32>> =
            image.iter().map(|image| text.iter().map(|text| cosine(image, text)).collect()).collect();
        // PARITY: the reference looks for whole words between spaces, and sets a word's column in at its number among the
        // words, which is one or more before its tokens.
        let words: Vec<&str> = caption.split(' ').collect();
        for (special, column) in WORDS.iter().zip(&self.columns) {
            let Some(at) = words.iter().position(|word| word == special).filter(|at| *at < self.text_tokens) else {
                continue;
            };
            for (row, value) in rows.iter_mut().zip(column) {
                row.insert(at, *value);
                row.truncate(self.text_tokens);
            }
        }
        rows.concat()
    }

    /// Shape: each `[image tokens, text tokens]` flattened -> `[maps]`.
    fn network(&self, maps: &[Vec<f32>]) -> Result<Vec<f32>> {
        let (height, width) = (self.image_tokens(), self.text_tokens);
        let line = |line: usize, pixels: &mut [f32]| {
            let row = maps.get(line / height).and_then(|map| map.chunks(width).nth(line % height));
            pixels.copy_from_slice(row.unwrap_or_default());
        };
        let x = PixelMap::from_lines([maps.len(), height, width, 1], &Backend::cpu(), line)?; // [maps, image, text, 1]
        let x = self.conv1.forward(&x, Some(Activation::Relu))?; // [maps, image, text, channels]
        let x = self.conv2.forward(&x, Some(Activation::Relu))?; // [maps, image, text, channels]
        let x = x.to_tensor()?.flatten_from(1).map_err(Error::tensor("dense map"))?; // [maps, image * text * channels]
        let x = chain(&x).linear(&self.fc1).activation(Activation::Relu).linear(&self.fc2).run()?; // [maps, 1]
        x.flatten_all().and_then(|x| x.to_vec1()).map_err(Error::tensor("dense map"))
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    channels: usize,
    hidden: usize,
    image_tokens: usize,
    text_tokens: usize,
}

/// The weights of a layer over `[channels, pixels]` as one over `[pixels, channels]`.
fn pixels_first(weight: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(weight.len());
    for row in weight.chunks(channels * pixels) {
        for pixel in 0..pixels {
            turned.extend(row.iter().skip(pixel).step_by(pixels));
        }
    }
    turned
}

/// All numbers together to mean 0 and (unbiased) deviation 1.
fn standardize(maps: &mut [Vec<f32>]) {
    let count = maps.iter().map(Vec::len).sum::<usize>() as f64;
    let mean = maps.iter().flatten().map(|x| f64::from(*x)).sum::<f64>() / count;
    let squares = maps.iter().flatten().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
    let deviation = (squares / (count - 1.0)).sqrt();
    for value in maps.iter_mut().flatten() {
        *value = ((f64::from(*value) - mean) / deviation) as f32;
    }
}

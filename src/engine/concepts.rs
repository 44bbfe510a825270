//! What a picture is made of in a model's eyes: its vector as a sparse mix of words, and which of them speak for a query.

use std::path::Path;

use super::encoders::null_texts;
use super::search::Hit;
use super::{Engine, Watch};
use crate::error::Result;
use crate::index::calibration::dot;
use crate::index::concepts::{Concepts, PENALTY, mean};
use crate::index::{Catalogue, SetInfo, Standing};
use crate::models::{Encoder, coco, starter};

/// Images whose mean stands for all images; more change it little.
const REFERENCES: usize = 400;
/// With fewer images their mean is rather one of them than what images have in common.
pub const FEWEST_IMAGES: usize = 20;
/// Concepts that are told.
const TOLD: usize = 6;
/// Texts that are nearer are one concept to the model.
const SAME_TEXT: f32 = 0.999_99;

/// A word and its part in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Concept {
    /// The word.
    pub text: String,
    /// Its weight in the mix.
    pub weight: f32,
    /// Cosine of the word and the query, less what all words have in common; 0 without a query.
    pub fits: f32,
}

/// The words that pictures are told in, and what images have in common.
#[derive(Debug)]
pub struct Vocabulary {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
    concepts: Concepts,
    mean_text: Vec<f32>,
    mean_image: Vec<f32>,
}

impl Engine {
    /// The neutral texts, COCO's classes, and `also`, with the mean of the set's images; `None` where these are too few.
    ///
    /// # Errors
    /// The model fails; the index cannot be read; the caller cancelled.
    pub fn vocabulary(
        &self,
        (catalogue, set): (&Catalogue, &SetInfo),
        encoder: &Encoder,
        also: &[String],
        watch: &Watch<'_>,
    ) -> Result<Option<Vocabulary>> {
        let indexed = self.vectors.vectors(catalogue, set)?;
        if indexed.len() < FEWEST_IMAGES {
            return Ok(None);
        }
        let step = indexed.len().div_ceil(REFERENCES).max(1);
        let images: Vec<Vec<f32>> = (0..indexed.len()).step_by(step).filter_map(|row| indexed.vector(row)).collect();
        let neutral = null_texts(encoder);
        let known = self.null_vectors(encoder, watch)?;
        // A small vocabulary cannot tell all neutral texts apart, and has vectors for those only that it can.
        let (mut texts, mut vectors) = if known.len() == neutral.len() {
            (neutral, known)
        } else {
            (neutral.clone(), encoder.encode_texts(&neutral)?)
        };
        let mut more: Vec<String> = also.to_vec();
        if encoder.id() != starter::ID {
            more.extend(coco::NAMES.map(str::to_owned));
        }
        for some in more.chunks(16) {
            watch.check()?;
            vectors.extend(encoder.encode_texts(some)?);
            texts.extend(some.iter().cloned());
        }
        Ok(Some(Vocabulary::new(texts, vectors, &images)))
    }

    /// The words of each hit of a search by words, where its vector is at hand. Shape: `query` `[dim]`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn hit_concepts(
        &self,
        (catalogue, set): (&Catalogue, &SetInfo),
        vocabulary: &Vocabulary,
        hits: &[Hit],
        query: Option<&[f32]>,
    ) -> Result<Vec<Vec<Concept>>> {
        let vectors = self.vectors.vectors(catalogue, set)?;
        let of = |path: &Path| {
            let Standing::Current(content) = catalogue.standing(path, set)? else { return Ok(Vec::new()) };
            let vector = vectors.row_of(content).and_then(|row| vectors.vector(row));
            Ok(vector.map(|vector| vocabulary.tell(&vector, query)).unwrap_or_default())
        };
        hits.iter().map(|hit| of(&hit.file.path)).collect()
    }
}

impl Vocabulary {
    /// Texts that mean the same to the model are one. Shapes: each `[dim]`, unit length.
    fn new(texts: Vec<String>, vectors: Vec<Vec<f32>>, images: &[Vec<f32>]) -> Self {
        let mut kept: Vec<(String, Vec<f32>)> = Vec::with_capacity(texts.len());
        for (text, vector) in texts.into_iter().zip(vectors) {
            let word = bare(&text);
            if !kept.iter().any(|(known, other)| *known == word || dot(other, &vector) > SAME_TEXT) {
                kept.push((word, vector));
            }
        }
        let (texts, vectors): (Vec<String>, Vec<Vec<f32>>) = kept.into_iter().unzip();
        Self { concepts: Concepts::new(&vectors), mean_text: mean(&vectors), mean_image: mean(images), texts, vectors }
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The words that a picture is made of, the weightiest first. Shapes: `[dim]`, unit length.
    pub fn tell(&self, image: &[f32], query: Option<&[f32]>) -> Vec<Concept> {
        let mix = self.concepts.mix(image, &self.mean_image, PENALTY);
        let told = mix.weights.into_iter().take(TOLD).filter_map(|(at, weight)| {
            let fits = query.zip(self.vectors.get(at)).map_or(0.0, |(query, vector)| self.likeness(query, vector));
            Some(Concept { text: self.texts.get(at)?.clone(), weight, fits })
        });
        told.collect()
    }

    /// Cosine of two texts, less what all of them have in common.
    fn likeness(&self, one: &[f32], other: &[f32]) -> f32 {
        let moved = |vector: &[f32]| -> Vec<f32> { vector.iter().zip(&self.mean_text).map(|(v, m)| v - m).collect() };
        let (one, other) = (moved(one), moved(other));
        let length = (dot(&one, &one) * dot(&other, &other)).sqrt();
        if length > 0.0 { dot(&one, &other) / length } else { 0.0 }
    }
}

/// A text without its carrier: "a photo of a kettle" is about a kettle.
fn bare(text: &str) -> String {
    let rest = text.strip_prefix("a photo of ").unwrap_or(text);
    let rest = ["a ", "an ", "the "].iter().find_map(|article| rest.strip_prefix(article)).unwrap_or(rest);
    rest.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_told_in_words_and_equal_words_are_one() {
        let axis = |at: usize| (0..4).map(|i| if i == at { 1.0 } else { 0.1 }).collect::<Vec<f32>>();
        let unit = |v: Vec<f32>| {
            let length = dot(&v, &v).sqrt();
            v.into_iter().map(|x| x / length).collect::<Vec<f32>>()
        };
        let texts = ["a photo of a kettle", "kettle", "a dog", "an owl", "the sea", "sea"].map(str::to_owned).to_vec();
        let vectors: Vec<Vec<f32>> = [0, 0, 1, 2, 3, 3].map(|at| unit(axis(at))).to_vec();
        let images: Vec<Vec<f32>> = (0..4).map(|at| unit(axis(at))).collect();
        let vocabulary = Vocabulary::new(texts, vectors, &images);
        assert_eq!((vocabulary.len(), vocabulary.is_empty()), (4, false));
        let told = vocabulary.tell(&images[1], Some(&images[1]));
        assert_eq!(told[0].text, "dog");
        assert!(told[0].weight > 0.5 && told[0].fits > 0.99, "{told:?}");
    }
}

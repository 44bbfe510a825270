//! Which caption is true of a picture: each taken apart into claims that are checked one by one, beside what the image-text
//! model alone makes of the whole sentence.

use std::sync::Arc;

use image::RgbImage;

use super::{Phrase, together};
use crate::engine::encoders::bad_argument;
use crate::engine::{Engine, Watch};
use crate::error::Result;
use crate::index::calibration::dot;
use crate::knowledge::claims;
use crate::models::{Detector, Encoder, Scoring};

/// Captions of one request; each costs a pass of the text tower and some lookups.
pub const MOST_CAPTIONS: usize = 64;
/// Most characters of a caption.
const MOST_CHARACTERS: usize = 1000;
/// Scores that differ by less say nothing of which caption is true.
const TIE: f32 = 0.02;

/// A caption, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Matched {
    /// The caption.
    pub text: String,
    /// Probability that everything that was checked holds, 0 to 1.
    pub score: f32,
    /// Cosine of picture and caption by the image-text model alone.
    pub clip_score: f32,
    /// The image-text model's choice among the captions: its softmax.
    pub clip_share: f32,
    /// The score of a network of dense cosine similarity maps, to be compared with the other captions' only.
    pub dense_score: Option<f32>,
    /// Its claims.
    pub phrases: Vec<Phrase>,
}

/// What tells the best caption from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// The checks.
    Checks,
    /// The checks do not tell them apart; a network of dense cosine similarity maps does.
    Dcsm,
    /// The checks do not tell them apart; the image-text model chose.
    Clip,
}

/// Captions of a picture, checked.
#[derive(Debug)]
pub struct Matching {
    /// Path (or URL) of the picture.
    pub name: String,
    /// In the order given.
    pub captions: Vec<Matched>,
    /// Position of the one that fits best.
    pub best: usize,
    /// Position of the one that the image-text model alone would choose.
    pub clip_best: usize,
    /// What decided between the best two.
    pub decided_by: Decider,
    /// The image-text model.
    pub model: String,
    /// The detector, if there is one.
    pub detector: Option<String>,
    /// The network of dense cosine similarity maps and the model whose tokens it is given, if there is one.
    pub dense: Option<(String, String)>,
    /// Labels of the detector, for the phrases' boxes.
    pub labels: Vec<String>,
    /// Why there is no detector.
    pub without: Option<String>,
}

impl Engine {
    /// Checks captions against a picture.
    ///
    /// # Errors
    /// No captions, too many, an empty one; the image cannot be read; a model cannot be loaded; the caller cancelled.
    pub fn match_captions(&self, image: &str, captions: &[String], watch: &Watch<'_>) -> Result<Matching> {
        if captions.is_empty() || captions.len() > MOST_CAPTIONS {
            return bad_argument(
                "captions",
                format!("holds {} captions; 1 to {MOST_CAPTIONS} are possible", captions.len()),
            );
        }
        if captions.iter().any(|caption| caption.trim().is_empty()) {
            return bad_argument("captions", "has an empty one: write a sentence about the picture");
        }
        if captions.iter().any(|caption| caption.chars().count() > MOST_CHARACTERS) {
            return bad_argument("captions", format!("has one of more than {MOST_CHARACTERS} characters"));
        }
        let sight = self.sight(image, watch)?;
        let texts: Vec<_> = captions.iter().map(|caption| claims::read(caption)).collect();
        let checker = self.checker(&texts, Some(sight.encoder.clone()), watch)?;
        watch.check()?;
        let phrases = checker.file(self, image, Some(&sight.vector), watch)?;
        let dense = self.dense_scores(image, captions, &sight.encoder, watch)?;
        let mut captions = beside_clip(&sight.encoder, &sight.vector, captions, phrases)?;
        for (caption, score) in captions.iter_mut().zip(dense.iter().flat_map(|dense| &dense.scores)) {
            caption.dense_score = Some(*score);
        }
        let (best, decided_by) = choose(&captions);
        let clip: Vec<f32> = captions.iter().map(|one| one.clip_score).collect();
        Ok(Matching {
            name: sight.path,
            best,
            clip_best: first_greatest(&clip),
            decided_by,
            captions,
            dense: dense.map(|dense| (dense.network, dense.encoder)),
            model: sight.encoder.id().to_owned(),
            detector: checker.detector().map(|detector| detector.id().to_owned()),
            labels: checker.detector().map(|detector| detector.labels().to_vec()).unwrap_or_default(),
            without: checker.without().map(str::to_owned),
        })
    }
}

/// Position of the caption that fits a picture in memory best, as [`Engine::match_captions`] chooses it. `vector`: the picture's,
/// by the same encoder. Shape: `[dim]`, unit length.
///
/// # Errors
/// A model fails; the caller cancelled.
pub fn best_caption(
    engine: &Engine,
    (detector, encoder): (&Arc<Detector>, &Arc<Encoder>),
    picture: &RgbImage,
    vector: &[f32],
    captions: &[String],
    watch: &Watch<'_>,
) -> Result<usize> {
    let texts: Vec<_> = captions.iter().map(|caption| claims::read(caption)).collect();
    let checker = engine.checker_with(&texts, Some(Arc::clone(detector)), Some(Arc::clone(encoder)), watch)?;
    let phrases = checker.picture(picture, Some(vector), watch)?;
    Ok(choose(&beside_clip(encoder, vector, captions, phrases)?).0)
}

/// Each caption's phrases with what the image-text model makes of the whole sentence. Shape: `vector` `[dim]`.
fn beside_clip(
    encoder: &Encoder,
    vector: &[f32],
    captions: &[String],
    phrases: Vec<Vec<Phrase>>,
) -> Result<Vec<Matched>> {
    let cosines: Vec<f32> = encoder.encode_texts(captions)?.iter().map(|text| dot(text, vector)).collect();
    let (Scoring::Softmax { scale } | Scoring::Sigmoid { scale, .. }) = encoder.scoring()?;
    let shares = softmax(&cosines, scale);
    let matched = captions.iter().zip(phrases).zip(cosines.iter().zip(shares));
    let matched = matched.map(|((text, phrases), (clip_score, clip_share))| Matched {
        text: text.trim().to_owned(),
        score: together(&phrases),
        clip_score: *clip_score,
        clip_share,
        dense_score: None,
        phrases,
    });
    Ok(matched.collect())
}

/// The caption with the best score; among those that the checks do not tell apart from it the one that the network of dense maps
/// prefers, or, without one, the image-text model; and which of them was needed.
pub(super) fn choose(captions: &[Matched]) -> (usize, Decider) {
    let most = captions.iter().map(|one| one.score).fold(0.0, f32::max);
    let is_equal = |one: &Matched| one.score >= most - TIE * most;
    let preferred = |one: &Matched| if is_equal(one) { one.dense_score.unwrap_or(one.clip_score) } else { f32::MIN };
    let preferences: Vec<f32> = captions.iter().map(preferred).collect();
    let decider = match captions.iter().filter(|one| is_equal(one)).count() {
        0 | 1 => Decider::Checks,
        _ if captions.iter().all(|one| one.dense_score.is_some()) => Decider::Dcsm,
        _ => Decider::Clip,
    };
    (first_greatest(&preferences), decider)
}

fn first_greatest(values: &[f32]) -> usize {
    let at = |index: usize| values.get(index).copied().unwrap_or(f32::MIN);
    (0..values.len()).rev().max_by(|a, b| at(*a).total_cmp(&at(*b))).unwrap_or_default()
}

fn softmax(cosines: &[f32], scale: f32) -> Vec<f32> {
    let most = cosines.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f32> = cosines.iter().map(|cosine| (scale * (cosine - most)).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(score: f32, clip_score: f32) -> Matched {
        Matched { text: String::new(), score, clip_score, clip_share: 0.0, dense_score: None, phrases: Vec::new() }
    }

    #[test]
    fn checks_decide_and_clip_only_where_they_do_not() {
        assert_eq!(choose(&[caption(0.2, 0.9), caption(0.8, 0.1)]), (1, Decider::Checks));
        assert_eq!(choose(&[caption(0.80, 0.3), caption(0.79, 0.4), caption(0.1, 0.9)]), (1, Decider::Clip));
        assert_eq!(choose(&[caption(1.0, 0.3), caption(1.0, 0.3)]), (0, Decider::Clip));
        assert_eq!(choose(&[caption(0.0, 0.3)]), (0, Decider::Checks));
    }

    #[test]
    fn dense_maps_decide_before_clip_where_the_checks_do_not() {
        let dense = |score, clip, dense| Matched { dense_score: Some(dense), ..caption(score, clip) };
        assert_eq!(choose(&[dense(0.8, 0.4, -7.0), dense(0.8, 0.3, -2.0), dense(0.1, 0.5, 3.0)]), (1, Decider::Dcsm));
        assert_eq!(choose(&[dense(0.2, 0.4, 9.0), dense(0.8, 0.3, -2.0)]), (1, Decider::Checks));
    }

    #[test]
    fn shares_add_up() {
        let shares = softmax(&[0.2, 0.3, 0.25], 100.0);
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6 && shares[1] > 0.99);
    }
}

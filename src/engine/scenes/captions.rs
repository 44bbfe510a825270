//! The questions that CLIP fails at, put to `match_captions`: the texts of a question as captions, checked phrase by phrase.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Accuracy, Question, SIDE};
use crate::engine::compose::best_caption;
use crate::engine::encoders::encode_pictures;
use crate::engine::{Engine, Watch};
use crate::error::Result;
use crate::models::{Detector, Encoder};

/// How many questions are answered rightly, each text a caption.
///
/// # Errors
/// A model fails; the caller cancelled.
pub fn right_captions(
    engine: &Engine,
    models: (&Arc<Detector>, &Arc<Encoder>),
    questions: &[Question],
    watch: &Watch<'_>,
) -> Result<Accuracy> {
    let answers: Vec<usize> = questions
        .par_iter()
        .map(|question| {
            let picture = question.scene.render(SIDE);
            let vector =
                encode_pictures(models.1, std::slice::from_ref(&picture))?.into_iter().next().unwrap_or_default();
            best_caption(engine, models, &picture, &vector, &question.choices, watch)
        })
        .collect::<Result<_>>()?;
    let right = questions.iter().zip(&answers).filter(|(question, answer)| question.answer == **answer).count();
    let chance: f32 = questions.iter().map(|question| 1.0 / question.choices.len().max(1) as f32).sum();
    Ok(Accuracy { right, of: questions.len(), chance: chance / questions.len().max(1) as f32 })
}

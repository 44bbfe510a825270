//! The parts of a request that moved a decision: each feature's share of the label's score is laid on the tokens it came
//! from, and the tokens that carry most of it are the evidence. Nothing else is consulted, so evidence cannot disagree
//! with the decision.

use super::features::{Feature, WHOLE};
use super::label::Label;
use super::model::{Model, OUTPUTS};
use crate::knowledge::words::{Kind, Token};

/// A part of the request.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
    /// The label it speaks for.
    pub label: Label,
    /// Its share of the label's score, 0 to 1.
    pub share: f32,
}

/// Most spans named per label.
const MOST_SPANS: usize = 3;
/// A token belongs to a span from this share of the strongest token on.
const OF_STRONGEST: f32 = 0.3;

/// Evidence for a label, strongest first; `primary` says which of the model's two outputs decided.
pub fn of_label(
    model: &Model<'_>,
    tokens: &[Token],
    features: &[Feature],
    label: Label,
    primary: bool,
) -> Vec<Evidence> {
    let mut scores = vec![0.0_f32; tokens.len()];
    for feature in features.iter().filter(|feature| feature.first != WHOLE) {
        let Some(weights) = model.weights_of(feature) else { continue };
        let share = contribution(model, weights, label, primary) * feature.value;
        let (first, last) = (usize::from(feature.first), usize::from(feature.last));
        let Some(covered) = scores.get_mut(first..=last.min(tokens.len().saturating_sub(1))) else { continue };
        let each = share / covered.len().max(1) as f32;
        for score in covered {
            *score += each;
        }
    }
    spans(tokens, &scores, label)
}

/// What one feature adds to a label, against what it adds to the labels on average: a word that speaks for all labels
/// speaks for none.
fn contribution(model: &Model<'_>, weights: impl Iterator<Item = f32>, label: Label, primary: bool) -> f32 {
    let wanted = if primary { label.index() } else { Label::COUNT + label.index() };
    let mut own = 0.0;
    let mut sum = 0.0;
    for (output, (weight, scale)) in weights.zip(model.scales).enumerate().take(OUTPUTS) {
        let value = weight * scale;
        if output == wanted {
            own = value;
        }
        if output < Label::COUNT {
            sum += value;
        }
    }
    if primary { own - sum / Label::COUNT as f32 } else { own }
}

fn spans(tokens: &[Token], scores: &[f32], label: Label) -> Vec<Evidence> {
    let strongest = scores.iter().copied().fold(0.0_f32, f32::max);
    let total: f32 = scores.iter().filter(|score| **score > 0.0).sum();
    if strongest <= 0.0 {
        return Vec::new();
    }
    let mut found: Vec<Evidence> = Vec::new();
    let mut open = false;
    for (token, score) in tokens.iter().zip(scores) {
        let strong = *score >= strongest * OF_STRONGEST;
        match found.last_mut() {
            Some(last) if strong && open => {
                last.end = token.end;
                last.share += score / total;
            }
            _ if strong && token.kind != Kind::Sign => {
                found.push(Evidence { start: token.start, end: token.end, label, share: score / total });
            }
            _ => {}
        }
        open = strong && (open || token.kind != Kind::Sign);
    }
    found.sort_by(|a, b| b.share.total_cmp(&a.share));
    found.truncate(MOST_SPANS);
    found
}

//! Which task is a request? A linear model over words, letters and sentence shape decides; the parts of the request that
//! moved its decision are its evidence.

mod evidence;
pub mod features;
mod label;
pub mod model;

pub use evidence::Evidence;
pub use label::Label;
pub use model::Model;

use std::sync::OnceLock;

use super::words::tokenize;

/// A further label is named from this probability on.
const LABEL_FROM: f32 = 0.5;

/// What the router thinks of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The main task.
    pub primary: Label,
    /// All tasks, the main one first.
    pub labels: Vec<Label>,
    /// Probability of the main one, calibrated.
    pub confidence: f32,
    /// Probability of each label to be the main one, in [`Label::ALL`]'s order.
    pub primary_probabilities: [f32; Label::COUNT],
    /// Probability of each label to apply, in the same order.
    pub label_probabilities: [f32; Label::COUNT],
}

/// A decision and its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Routed {
    /// What was decided.
    pub decision: Decision,
    /// The parts of the request that moved each label of the decision, strongest first within a label.
    pub evidence: Vec<Evidence>,
}

/// Decides with the shipped model, and says which parts of the request moved each label.
pub fn route(request: &str) -> Routed {
    let tokens = tokenize(request);
    let features = features::extract(&tokens);
    let decision = decide_tokens(shipped(), &features);
    let evidence = decision
        .labels
        .iter()
        .flat_map(|label| evidence::of_label(shipped(), &tokens, &features, *label, *label == decision.primary))
        .collect();
    Routed { decision, evidence }
}

/// The parts of a request that speak for a label, whether or not it was decided for.
pub fn evidence_for(request: &str, label: Label) -> Vec<Evidence> {
    let tokens = tokenize(request);
    evidence::of_label(shipped(), &tokens, &features::extract(&tokens), label, true)
}

fn shipped() -> &'static Model<'static> {
    static MODEL: OnceLock<Model<'static>> = OnceLock::new();
    MODEL.get_or_init(Model::shipped)
}

/// Decides with a model.
pub fn decide(model: &Model<'_>, request: &str) -> Decision {
    let tokens = tokenize(request);
    decide_tokens(model, &features::extract(&tokens))
}

fn decide_tokens(model: &Model<'_>, features: &[features::Feature]) -> Decision {
    let outputs = model.outputs(features);
    let (primary, set) = outputs.split_at(Label::COUNT);
    let most = primary.iter().copied().fold(f32::MIN, f32::max);
    let mut primary_probabilities = [0.0; Label::COUNT];
    for (probability, output) in primary_probabilities.iter_mut().zip(primary) {
        *probability = ((output - most) / model.temperature).exp();
    }
    let total: f32 = primary_probabilities.iter().sum();
    for probability in &mut primary_probabilities {
        *probability /= total;
    }
    let mut label_probabilities = [0.0; Label::COUNT];
    for (probability, output) in label_probabilities.iter_mut().zip(set) {
        *probability = 1.0 / (1.0 + (-output).exp());
    }
    let at = |label: &Label, table: &[f32; Label::COUNT]| table.get(label.index()).copied().unwrap_or(0.0);
    let primary = Label::ALL
        .into_iter()
        .max_by(|a, b| at(a, &primary_probabilities).total_cmp(&at(b, &primary_probabilities)))
        .unwrap_or(Label::SemanticSearch);
    let mut others: Vec<Label> = Label::ALL
        .into_iter()
        .filter(|label| *label != primary && at(label, &label_probabilities) >= LABEL_FROM)
        .collect();
    others.sort_by(|a, b| at(b, &label_probabilities).total_cmp(&at(a, &label_probabilities)));
    let labels = std::iter::once(primary).chain(others).collect();
    Decision {
        primary,
        labels,
        confidence: at(&primary, &primary_probabilities),
        primary_probabilities,
        label_probabilities,
    }
}

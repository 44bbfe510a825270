//! What a classifier calls pictures: one of its own labels, whatever they show.

use super::{Candidate, Identified};
use crate::error::Result;
use crate::models::{Classifier, registry};
use crate::pixels::Picture;

/// How the reference calls a class that nobody named.
const UNNAMED: &str = "LABEL_";

/// The most probable labels of a picture, at most `top`.
pub(super) fn named(classifier: &Classifier, picture: &Picture, top: usize) -> Result<Identified> {
    let input = classifier.preprocessor().apply(&picture.rgb);
    let probabilities = classifier.probabilities(&[input])?.pop().unwrap_or_default();
    let mut order: Vec<(&String, f32)> = classifier.labels().iter().zip(probabilities).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let candidates = order
        .into_iter()
        .take(top)
        .map(|(label, confidence)| Candidate { label: label.clone(), confidence, nearest: Vec::new() })
        .collect();
    Ok(Identified { candidates, unknown: false, own: false, unaligned: false })
}

/// What to keep in mind about any classifier.
pub(super) fn notes(classifier: &Classifier) -> Vec<String> {
    let known = registry::find_classifier(classifier.id()).map_or("", |entry| entry.labels);
    let of = if known.is_empty() { String::new() } else { format!(" ({known})") };
    let mut notes = vec![format!(
        "a classifier always names one of its {} labels{of}, also where a picture shows none of them; its probabilities say \
         nothing there. A gallery of your own examples can answer \"unknown\"",
        classifier.labels().len()
    )];
    if classifier.labels().iter().all(|label| label.starts_with(UNNAMED)) {
        notes.push("its config.json gives its classes numbers and no names: id2label there would name them".to_owned());
    }
    notes
}

//! What a `config.json` calls the outputs of a network.

use std::collections::BTreeMap;

/// The names of an `id2label` in the order of their numbers.
///
/// # Errors
/// A number is left out.
pub(in crate::models) fn in_order(labels: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    (0..labels.len())
        .map(|number| labels.get(&number.to_string()).cloned().ok_or(format!("has id2label without {number}")))
        .collect()
}

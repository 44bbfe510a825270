//! Scores a model: primary accuracy, macro F1, suitable-or-not accuracy, calibration.

use std::collections::BTreeMap;
use std::path::Path;

use clip_aware::knowledge::router::{Label, Model, decide};

use crate::corpus::Sample;

/// Reads `{"query","labels","lang","source"}` lines.
///
/// # Errors
/// The file cannot be read, or a line is not such an object.
pub fn read_jsonl(path: &Path) -> Result<Vec<(String, Sample)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let labels: Vec<Label> = value["labels"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|label| Label::from_name(label.as_str()?))
                .collect();
            let sample = Sample { text: text("query"), labels, language: text("lang"), wrap: false, by_hand: true };
            if sample.labels.is_empty() { Err(format!("no labels: {line}")) } else { Ok((text("source"), sample)) }
        })
        .collect()
}

/// All, hand-made ones, the rest, other languages, and each source.
pub fn groups(samples: Vec<(String, Sample)>) -> BTreeMap<String, Vec<Sample>> {
    let mut groups: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for (source, sample) in samples {
        let mut put = |name: String| groups.entry(name).or_default().push(sample.clone());
        put("- all".into());
        if source == "handmade" {
            put("- handmade".into());
        }
        if sample.language != "en" {
            put("- not English".into());
        }
        put(source);
    }
    groups
}

/// Prints one line of figures, and some mistakes.
pub fn report(name: &str, samples: &[Sample], model: &Model<'_>, errors: usize) {
    let mut right = 0;
    let mut right_suit = 0;
    let mut per_label = [[0_usize; 3]; Label::COUNT];
    let mut set = [[0_usize; 3]; Label::COUNT];
    let mut gap = 0.0_f64;
    let mut mistakes = Vec::new();
    for sample in samples {
        let decision = decide(model, &sample.text);
        let (gold, said) = (sample.labels[0], decision.primary);
        gap += f64::from(decision.confidence) - f64::from(u8::from(gold == said));
        right += usize::from(gold == said);
        right_suit += usize::from(gold.clip_suitable() == said.clip_suitable());
        if gold == said {
            per_label[gold.index()][0] += 1;
        } else {
            per_label[said.index()][1] += 1;
            per_label[gold.index()][2] += 1;
            mistakes.push((gold, said, decision.confidence, &sample.text));
        }
        for label in Label::ALL {
            let (g, s) = (sample.labels.contains(&label), decision.labels.contains(&label));
            set[label.index()][0] += usize::from(g && s);
            set[label.index()][1] += usize::from(!g && s);
            set[label.index()][2] += usize::from(g && !s);
        }
    }
    let n = samples.len().max(1) as f64;
    let macro_f1 = |table: &[[usize; 3]; Label::COUNT]| {
        let f1: Vec<f64> = table
            .iter()
            .filter(|[tp, _, missed]| tp + missed > 0)
            .map(|[tp, fp, missed]| 2.0 * *tp as f64 / (2 * tp + fp + missed).max(1) as f64)
            .collect();
        f1.iter().sum::<f64>() / f1.len().max(1) as f64
    };
    println!(
        "{name}: n {} accuracy {:.3} macro-F1 {:.3} suitable-or-not {:.3} label-set macro-F1 {:.3} confidence gap {:+.3}",
        samples.len(),
        right as f64 / n,
        macro_f1(&per_label),
        right_suit as f64 / n,
        macro_f1(&set),
        gap / n
    );
    mistakes.sort_by(|a, b| b.2.total_cmp(&a.2));
    for (gold, said, confidence, text) in mistakes.into_iter().take(errors) {
        println!("    {:13.13} <- {:13.13} {confidence:.2}  {text}", gold.name(), said.name());
    }
}

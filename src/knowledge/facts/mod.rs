//! The one table of numbers about CLIP's limits and strengths. `explain_limitation`, the notes of a search, the tables
//! in references/ and README.md all read it, so they cannot disagree. No number is in it without its source.

mod table;

use serde::Serialize;

use super::sources::Source;
use super::topics::Topic;
pub use table::ALL;

/// What a fact's values measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Percent of the cases, 0 to 100.
    Percent,
    /// Percentage points gained.
    PercentagePoints,
    /// Cosine of two vectors.
    Cosine,
    /// Average precision, 0 to 1.
    AveragePrecision,
    /// F1, 0 to 1.
    F1,
    /// Standard deviations over neutral texts.
    Sigma,
    /// No number: a statement of a paper.
    None,
}

impl Unit {
    /// `%` and the like, as written behind a number.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Percent => " %",
            Self::PercentagePoints => " points",
            Self::Sigma => " sigma",
            Self::Cosine | Self::AveragePrecision | Self::F1 | Self::None => "",
        }
    }
}

/// How the number got here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Read in the named source (its abstract, table or README).
    Read,
    /// Measured by this project on real vectors; the source names the test that repeats it.
    Measured,
}

/// One number and what it is of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Value {
    /// What was measured: a model, a case.
    pub of: &'static str,
    /// The number, in the fact's unit.
    pub value: f64,
}

/// One fact: a sentence, the numbers in it, and where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fact {
    /// Its name in this table.
    pub id: &'static str,
    /// The topic that it belongs to first; other topics may cite it.
    pub topic: Topic,
    /// The fact in one sentence; holds every number of `values` as written there.
    pub statement: &'static str,
    /// The numbers.
    pub values: &'static [Value],
    /// Their unit.
    pub unit: Unit,
    /// Data set and, where it is one only, the model.
    pub measured_on: &'static str,
    /// Where it was published.
    pub source: &'static Source,
    /// How it got here.
    pub provenance: Provenance,
}

/// The fact with this id.
pub fn find(id: &str) -> Option<&'static Fact> {
    ALL.iter().find(|fact| fact.id == id)
}

/// The facts of a topic, in the order of the table: the most telling one first.
pub fn of(topic: Topic) -> impl Iterator<Item = &'static Fact> {
    ALL.iter().filter(move |fact| fact.topic == topic)
}

impl Fact {
    /// The number of one case.
    pub fn value(&self, of: &str) -> Option<f64> {
        self.values.iter().find(|value| value.of == of).map(|value| value.value)
    }

    /// The first case and the source: `CLIP ViT-B/32 31.67 % on CountBench, Paiss et al. 2023, arXiv 2302.12066`; a fact
    /// without numbers as it stands.
    pub fn in_short(&self) -> String {
        match self.values.first() {
            Some(Value { of, value }) => {
                format!("{of} {value}{} on {}, {}", self.unit.sign(), self.measured_on, self.source.short())
            }
            None => format!("{}, {}", self.statement, self.source.short()),
        }
    }

    /// The statement with its source: `... (Paiss et al. 2023, arXiv 2302.12066)`.
    pub fn cited(&self) -> String {
        format!("{} ({})", self.statement, self.source.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::sources;

    #[test]
    fn ids_are_unique_and_every_fact_is_complete() {
        for (at, fact) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|other| other.id != fact.id), "{} is there twice", fact.id);
            assert!(!fact.measured_on.is_empty() && !fact.statement.ends_with('.'), "{}", fact.id);
            assert_eq!(fact.values.is_empty(), fact.unit == Unit::None, "{}", fact.id);
            assert!(sources::all().contains(&fact.source), "{}", fact.id);
            assert_eq!(fact.provenance == Provenance::Measured, fact.source == &sources::MEASURED, "{}", fact.id);
        }
    }

    #[test]
    fn a_statement_holds_its_numbers_and_no_others() {
        for fact in ALL {
            for value in fact.values {
                let written = format!("{}", value.value);
                assert!(
                    numbers(fact.statement).iter().any(|found| found.parse() == Ok(value.value)),
                    "{}: {written} is not in its statement",
                    fact.id
                );
            }
            for number in numbers(fact.statement).iter().filter(|number| number.contains('.')) {
                let known = fact.values.iter().any(|value| number.parse() == Ok(value.value));
                assert!(known, "{}: {number} is not among its values", fact.id);
            }
        }
    }

    #[test]
    fn percentages_and_cosines_are_in_range() {
        for fact in ALL {
            let range = match fact.unit {
                Unit::Percent | Unit::PercentagePoints => 0.0..=100.0,
                Unit::Cosine => -1.0..=1.0,
                Unit::Sigma => 0.0..=10.0,
                _ => 0.0..=1.0,
            };
            assert!(fact.values.iter().all(|value| range.contains(&value.value)), "{}", fact.id);
        }
    }

    fn numbers(text: &str) -> Vec<String> {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .map(|part| part.trim_end_matches('.').to_owned())
            .filter(|part| !part.is_empty())
            .collect()
    }
}

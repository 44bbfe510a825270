//! Verified search: an image-text model brings candidates for what it can see, and what it cannot (numbers, places, absence,
//! whose colour) is checked on the best of them, which decides their order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::compose::{Checker, Phrase, together};
use super::search::Hit;
use super::{Engine, Progress, Watch};
use crate::error::{Error, Result};
use crate::knowledge::claims::{self, Claim, Claims};
use crate::knowledge::language::other_than_english;
use crate::knowledge::plan;
use crate::knowledge::task::Task;
use crate::models::Encoder;

/// A hit that is surer than this has what was asked.
pub const SURE: f32 = 0.9;
/// A hit from this probability on passes.
pub const PASSES: f32 = 0.5;

/// How much is spent on checking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Candidates that are looked at, best first.
    pub best: usize,
    /// No further one is begun after this time.
    pub budget: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self { best: 50, budget: Duration::from_secs(30) }
    }
}

/// What a request claims that an image-text model does not see, and what it can be asked instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// All of its claims.
    pub claims: Claims,
    /// What candidates are looked for by; `None` when nothing is left that can be seen.
    pub visible: Option<String>,
    /// What must be absent, for a soft exclusion.
    pub minus: Option<String>,
}

/// Reads a request whose task is one of those that an image-text model cannot do; `None` where nothing can be checked.
pub fn wish(request: &str, tasks: &[Task]) -> Option<Wish> {
    let beyond = [Task::Counting, Task::Spatial, Task::Compositional, Task::Negation];
    if !tasks.iter().any(|task| beyond.contains(task)) || other_than_english(request).is_some() {
        return None;
    }
    let claims = claims::read(&plan::frame(request).core);
    if !claims.beyond_clip() {
        return None;
    }
    let gone: Vec<String> = claims
        .claims
        .iter()
        .filter_map(|claim| match claim {
            Claim::Absent(thing) => Some(claims.name(*thing)),
            _ => None,
        })
        .collect();
    let minus = (!gone.is_empty()).then(|| gone.join(", "));
    Some(Wish { visible: claims.visible_text(), minus, claims })
}

/// A hit, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The hit.
    pub hit: Hit,
    /// What was checked; empty for a hit that was not looked at.
    pub phrases: Vec<Phrase>,
    /// Probability that all of it holds; `None` where nothing was checked.
    pub probability: Option<f32>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Hits that were looked at.
    pub looked: usize,
    /// Those that pass.
    pub passed: usize,
    /// Claims that nothing here can see.
    pub unchecked: Vec<String>,
    /// Claims that were checked.
    pub checked: Vec<String>,
    /// The detector.
    pub detector: Option<String>,
    /// Why there is none.
    pub without: Option<String>,
    /// The time was used up before all candidates were looked at.
    pub out_of_time: bool,
    /// There were enough sure ones before that.
    pub enough: bool,
}

impl Engine {
    /// What looks for a wish's claims in pictures.
    ///
    /// # Errors
    /// As [`Engine::checker`].
    pub fn wish_checker(&self, wish: &Wish, encoder: &Arc<Encoder>, watch: &Watch<'_>) -> Result<Checker> {
        self.checker(std::slice::from_ref(&wish.claims), Some(Arc::clone(encoder)), watch)
    }

    /// Looks at the best hits and puts them in order: what passes by probability, then the rest as it was ranked. A hit whose
    /// file cannot be read stays where it was, unchecked.
    ///
    /// # Errors
    /// A model fails; the caller cancelled.
    pub fn verify_hits(
        &self,
        checker: &Checker,
        hits: Vec<Hit>,
        top_k: usize,
        effort: Effort,
        watch: &Watch<'_>,
    ) -> Result<(Vec<Checked>, Report)> {
        let mut report = Report {
            detector: checker.detector().map(|detector| detector.id().to_owned()),
            without: checker.without().map(str::to_owned),
            ..Report::default()
        };
        let started = Instant::now();
        let total = hits.len().min(effort.best);
        let mut checked: Vec<Checked> = Vec::with_capacity(hits.len());
        let mut rest = hits.into_iter();
        let mut sure = 0;
        while checked.len() < total && !report.out_of_time && !report.enough {
            let size = self.config.threads.max(1).min(total - checked.len());
            let batch: Vec<Hit> = rest.by_ref().take(size).collect();
            watch.check()?;
            let looked: Vec<Result<Vec<Phrase>>> =
                batch.par_iter().map(|hit| self.phrases_of(checker, hit, watch)).collect();
            for (hit, phrases) in batch.into_iter().zip(looked) {
                let phrases = match phrases {
                    Ok(phrases) => phrases,
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    Err(error) => {
                        tracing::warn!("{}: not checked: {error}", hit.file.path.display());
                        Vec::new()
                    }
                };
                let probability = phrases.iter().any(|phrase| phrase.probability.is_some()).then(|| together(&phrases));
                sure += usize::from(probability.is_some_and(|p| p >= SURE));
                report.passed += usize::from(probability.is_some_and(|p| p >= PASSES));
                checked.push(Checked { hit, phrases, probability });
            }
            let done = checked.len();
            (watch.progress)(Progress {
                phase: "verify",
                done: done as u64,
                total: Some(total as u64),
                message: format!("{} of {done} pass", report.passed),
            });
            report.enough = sure >= top_k && done < total;
            report.out_of_time = !report.enough && started.elapsed() > effort.budget && done < total;
        }
        report.looked = checked.len();
        sum_up(&checked, &mut report);
        checked.sort_by(order);
        checked.extend(rest.map(|hit| Checked { hit, phrases: Vec::new(), probability: None }));
        Ok((checked, report))
    }

    fn phrases_of(&self, checker: &Checker, hit: &Hit, watch: &Watch<'_>) -> Result<Vec<Phrase>> {
        let path = hit.file.path.to_string_lossy();
        Ok(checker.file(self, &path, None, watch)?.into_iter().next().unwrap_or_default())
    }
}

/// What passes comes first; among equals the image-text model's ranking stays.
fn order(a: &Checked, b: &Checked) -> std::cmp::Ordering {
    let standing = |one: &Checked| one.probability.map_or(PASSES, |p| p);
    standing(b).total_cmp(&standing(a)).then(b.hit.relevance.total_cmp(&a.hit.relevance))
}

/// Which claims were checked on some hit, and which on none.
fn sum_up(checked: &[Checked], report: &mut Report) {
    for phrase in checked.iter().flat_map(|one| &one.phrases) {
        if phrase.probability.is_some() && !report.checked.contains(&phrase.text) {
            report.checked.push(phrase.text.clone());
        }
    }
    for phrase in checked.iter().flat_map(|one| &one.phrases) {
        if !report.checked.contains(&phrase.text) && !report.unchecked.contains(&phrase.text) {
            report.unchecked.push(phrase.text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Task, wish};

    #[test]
    fn a_wish_is_what_can_be_seen_and_what_has_to_be_checked() {
        let read = |text: &str, task| wish(text, &[task]);
        let dogs = read("find photos of three dogs on a beach", Task::Counting).unwrap();
        assert_eq!((dogs.visible.as_deref(), dogs.minus), (Some("dogs on a beach"), None));
        let street = read("a street without cars", Task::Negation).unwrap();
        assert_eq!((street.visible.as_deref(), street.minus.as_deref()), (Some("a street"), Some("car")));
        assert_eq!(read("no people", Task::Negation).unwrap().visible, None);
        assert_eq!(read("a red car", Task::Compositional), None, "one thing has nothing to be bound wrongly");
        assert_eq!(read("three dogs", Task::SemanticSearch), None, "the router decides");
        assert_eq!(read("ein Hund ohne Leine auf der Straße", Task::Negation), None);
    }
}

//! What was found about two things, in a sentence.

use crate::engine::relate::{HOLDS, Pair, Related, Side, Verdict};
use crate::geometry::relations::{Judged, Relation};

/// What subject and object are called.
pub(super) struct Names<'a> {
    /// Class, and the caller's words where they pick one of several.
    sides: [(&'a str, Option<&'a str>); 2],
    counts: [usize; 2],
}

impl<'a> Names<'a> {
    pub(super) fn new(related: &Related, [subject, object]: [(&'a String, &'a String); 2]) -> Self {
        let name = |side: &Side, (label, words): (&'a String, &'a String)| {
            let words = words.trim();
            let picked = side.wanted.pick.map(|_| words.strip_prefix("the ").unwrap_or(words));
            (label.as_str(), picked)
        };
        Self {
            sides: [name(&related.subject, subject), name(&related.object, object)],
            counts: [related.subject.found.len(), related.object.found.len()],
        }
    }

    /// "the cup", or "cup 2" of several.
    fn of(&self, [at, place]: [usize; 2]) -> String {
        let (label, picked) = self.sides.get(at).copied().unwrap_or_default();
        match (picked, self.counts.get(at)) {
            (Some(picked), _) => format!("the {picked}"),
            (None, Some(1)) => format!("the {label}"),
            _ => format!("{label} {}", place + 1),
        }
    }

    fn subject(&self, pair: &Pair) -> String {
        self.of([0, pair.subject])
    }

    fn object(&self, pair: &Pair) -> String {
        self.of([1, pair.object])
    }
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Yes => "yes",
        Verdict::No => "no",
        Verdict::Undecided => "cannot decide",
    }
}

/// The relations of a pair that hold, with their probabilities.
pub(super) fn held(pair: &Pair) -> Vec<(Relation, f32)> {
    let sure =
        |(relation, judged): &(Relation, Judged)| judged.probability().filter(|p| *p >= HOLDS).map(|p| (*relation, p));
    pair.judged.iter().filter_map(sure).collect()
}

/// The answer.
pub(super) fn answer(related: &Related, names: &Names<'_>, asked: Option<Relation>) -> String {
    if let Some(why) = missing(related, names) {
        return format!("cannot decide: {why}");
    }
    let Some(pair) = related.pairs.first() else { return "cannot decide: there is no pair".into() };
    match (asked, related.verdict) {
        (Some(relation), Some(Verdict::Yes)) => {
            let of = if related.pairs_total > 1 {
                format!(" (the surest of {} pairs)", related.pairs_total)
            } else {
                String::new()
            };
            format!("yes: {}{of}", sentence(names, pair, &[relation]))
        }
        (Some(_), Some(Verdict::No)) => {
            let held = told(pair);
            let instead = if held.is_empty() { String::new() } else { format!(": {}", sentence(names, pair, &held)) };
            format!("no{instead}")
        }
        (Some(relation), _) => format!("cannot decide: {}", doubt(related, relation)),
        (None, _) if related.pairs.iter().all(|pair| held(pair).is_empty()) => {
            "cannot decide: every relation is at its limit".into()
        }
        (None, _) if related.pairs_total == 1 => sentence(names, pair, &told(pair)),
        (None, _) => summary(related, names, pair),
    }
}

/// What is said of a pair: all that holds, but for what a better word says.
fn told(pair: &Pair) -> Vec<Relation> {
    let all: Vec<Relation> = held(pair).into_iter().map(|(relation, _)| relation).collect();
    let attached =
        [Relation::On, Relation::Inside, Relation::Supports, Relation::Contains, Relation::InFrontOf, Relation::Behind];
    let better = all.iter().any(|relation| attached.contains(relation));
    let said = |relation: &Relation| !(better && matches!(relation, Relation::Overlapping));
    all.into_iter().filter(said).collect()
}

/// "the cup is left of and next to the laptop".
fn sentence(names: &Names<'_>, pair: &Pair, relations: &[Relation]) -> String {
    let (subject, object) = (names.subject(pair), names.object(pair));
    let verbs: Vec<&str> = relations.iter().filter(|relation| is_verb(**relation)).map(|r| r.words()).collect();
    let places: Vec<String> = relations.iter().filter(|relation| !is_verb(**relation)).map(|r| phrase(*r)).collect();
    let parts = [
        (!verbs.is_empty()).then(|| format!("{} {object}", verbs.join(" and "))),
        (!places.is_empty()).then(|| format!("is {} {object}", listed(&places))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        format!("nothing is sure of {subject} and {object}")
    } else {
        format!("{subject} {}", parts.join(" and "))
    }
}

/// Of several pairs: how many there are of each kind, what holds in how many, and the surest one.
fn summary(related: &Related, names: &Names<'_>, surest: &Pair) -> String {
    let count = |relation: Relation| {
        related.pairs.iter().filter(|pair| pair.probability(relation).is_some_and(|p| p >= HOLDS)).count()
    };
    let held: Vec<String> = Relation::ALL
        .into_iter()
        .map(|relation| (relation, count(relation)))
        .filter(|(_, count)| *count > 0)
        .map(|(relation, count)| format!("{} in {count}", relation.words()))
        .collect();
    let pairs = match (related.pairs.len(), related.pairs_total) {
        (told, all) if told < all => format!("the {told} surest of {all} pairs"),
        (_, all) => format!("{all} pairs"),
    };
    format!("of {pairs}: {}; surest boxes: {}", held.join(", "), sentence(names, surest, &told(surest)))
}

/// Why there is no pair.
fn missing(related: &Related, names: &Names<'_>) -> Option<String> {
    let sides = [&related.subject, &related.object];
    let absent: Vec<String> = sides
        .iter()
        .zip(names.sides)
        .filter(|(side, _)| side.found.is_empty())
        .map(|(side, (label, _))| match side.doubtful.first() {
            Some(best) => {
                format!("no {label} was found (the best candidate scores {:.2}, which is not enough)", best.score)
            }
            None => format!("no {label} was found"),
        })
        .collect();
    if !absent.is_empty() {
        let mut absent = absent;
        absent.dedup();
        return Some(absent.join(" and "));
    }
    (related.pairs_total == 0)
        .then(|| format!("only one {} was found, and subject and object are the same", names.sides[0].0))
}

/// Why the relation that was asked for is open.
fn doubt(related: &Related, relation: Relation) -> String {
    let reasons = related.pairs.iter().filter_map(|pair| {
        pair.judged.iter().find(|(other, _)| *other == relation).and_then(|(_, judged)| match judged {
            Judged::Undecided(reason) => Some((*reason).to_owned()),
            Judged::Probability(p) if *p > 1.0 - HOLDS && *p < HOLDS => {
                Some(format!("whether it is {} is at the limit, with a probability of {p:.2}", phrase(relation)))
            }
            Judged::Probability(_) => None,
        })
    });
    reasons.into_iter().next().unwrap_or_else(|| "boxes do not tell".into())
}

fn is_verb(relation: Relation) -> bool {
    matches!(relation, Relation::Contains | Relation::Supports)
}

fn phrase(relation: Relation) -> String {
    let tail = match relation {
        Relation::Larger | Relation::Smaller | Relation::Nearer | Relation::Farther => " than",
        _ => "",
    };
    format!("{}{tail}", relation.words())
}

/// "a", "a and b", "a, b and c".
fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

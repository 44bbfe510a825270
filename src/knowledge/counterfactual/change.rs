//! The changes, one function each; an empty list when there is nothing to change.

use super::phrase::{Phrase, Span};
use super::words;
use super::{Change, Contrast, Counterfactual};

type Made = Vec<(Change, String)>;

/// Relations between two things and their opposites; longer ones first.
const RELATIONS: &[(&[&str], &str)] = &[
    (&["to", "the", "left", "of"], "to the right of"),
    (&["to", "the", "right", "of"], "to the left of"),
    (&["on", "the", "left", "of"], "on the right of"),
    (&["on", "the", "right", "of"], "on the left of"),
    (&["left", "of"], "right of"),
    (&["right", "of"], "left of"),
    (&["on", "top", "of"], "underneath"),
    (&["in", "front", "of"], "behind"),
    (&["behind"], "in front of"),
    (&["above"], "below"),
    (&["below"], "above"),
    (&["beneath"], "above"),
    (&["underneath"], "on top of"),
    (&["under"], "on top of"),
    (&["next", "to"], "far away from"),
    (&["beside"], "far away from"),
    (&["inside"], "outside"),
];

/// Places in the picture and their opposites: the word that changes is the one at the index.
const PLACES: &[(&[&str], usize, &str)] = &[
    (&["on", "the", "left"], 2, "right"),
    (&["on", "the", "right"], 2, "left"),
    (&["to", "the", "left"], 2, "right"),
    (&["to", "the", "right"], 2, "left"),
    (&["left", "side"], 0, "right"),
    (&["right", "side"], 0, "left"),
    (&["left", "corner"], 0, "right"),
    (&["right", "corner"], 0, "left"),
    (&["left", "half"], 0, "right"),
    (&["right", "half"], 0, "left"),
    (&["upper", "left"], 1, "right"),
    (&["upper", "right"], 1, "left"),
    (&["lower", "left"], 1, "right"),
    (&["lower", "right"], 1, "left"),
    (&["top", "left"], 1, "right"),
    (&["top", "right"], 1, "left"),
    (&["bottom", "left"], 1, "right"),
    (&["bottom", "right"], 1, "left"),
    (&["leftmost"], 0, "rightmost"),
    (&["rightmost"], 0, "leftmost"),
    (&["at", "the", "top"], 2, "bottom"),
    (&["at", "the", "bottom"], 2, "top"),
    (&["in", "the", "foreground"], 2, "background"),
    (&["in", "the", "background"], 2, "foreground"),
];

/// Negations and what they become; longer ones first. An empty text drops the words.
const NEGATIONS: &[(&[&str], &str)] = &[
    (&["without", "any"], "with"),
    (&["without", "a"], "with a"),
    (&["without"], "with"),
    (&["with", "no"], "with"),
    (&["but", "no"], "and"),
    (&["but", "not"], "and"),
    (&["except", "for"], "including"),
    (&["except"], "including"),
    (&["excluding"], "including"),
    (&["no", "longer"], "still"),
    (&["doesn't", "have"], "has"),
    (&["does", "not", "have"], "has"),
    (&["don't", "have"], "have"),
    (&["do", "not", "have"], "have"),
    (&["isn't"], "is"),
    (&["aren't"], "are"),
    (&["wasn't"], "was"),
    (&["free", "of"], "full of"),
    (&["nobody"], "somebody"),
    (&["no", "one"], "someone"),
    (&["nothing"], "something"),
    (&["never"], ""),
    (&["not"], ""),
    (&["no"], ""),
];

/// Behind "no", these make the name of a sign.
const SIGNS: [&str; 7] = ["parking", "entry", "smoking", "trespassing", "exit", "stopping", "swimming"];

/// Another side, and the two things swapped.
pub(super) fn spatial(request: &str) -> Made {
    let phrase = Phrase::new(request);
    for (relation, opposite) in RELATIONS {
        let Some(at) = phrase.find(relation) else { continue };
        let span = (at, at + relation.len());
        let mut made = vec![(Change::SideSwapped, phrase.replace(vec![(span, capital(&phrase, span, opposite))]))];
        if let (Some(subject), Some(object)) = (phrase.thing_before(span.0), phrase.thing_after(span.1)) {
            made.push((Change::ThingsSwapped, phrase.swap(subject, object, Vec::new())));
        }
        return made;
    }
    for (place, word, opposite) in PLACES {
        if let Some(at) = phrase.find(place) {
            let span = (at + word, at + word + 1);
            return vec![(Change::SideSwapped, phrase.replace(vec![(span, capital(&phrase, span, opposite))]))];
        }
    }
    Vec::new()
}

/// Attributes swapped, or who does what to whom.
pub(super) fn binding(request: &str) -> Made {
    let phrase = Phrase::new(request);
    attributes(&phrase).or_else(|| roles(&phrase)).into_iter().collect()
}

/// "a red car and a blue truck": the first two attributes that have a thing each.
fn attributes(phrase: &Phrase<'_>) -> Option<(Change, String)> {
    let found: Vec<usize> = (0..phrase.words.len()).filter(|index| words::is_attribute(phrase.at(*index))).collect();
    let names_a_thing = |index: usize| {
        let word = phrase.at(index);
        !word.is_empty() && !words::is_attribute(word) && !["and", "or", "with", "in", "on"].contains(&word)
    };
    let (one, two) = found.windows(2).find_map(|pair| match pair {
        [one, two] => {
            let differ = phrase.at(*one) != phrase.at(*two);
            (differ && names_a_thing(one + 1) && names_a_thing(two + 1)).then_some((*one, *two))
        }
        _ => None,
    })?;
    let place = |index: usize, word: usize| {
        let (here, there): (Span, Span) = ((index, index + 1), (word, word + 1));
        (here, words::capitalised_like(&phrase.slice(there).to_lowercase(), phrase.slice(here)))
    };
    Some((Change::AttributesSwapped, phrase.replace(vec![place(one, two), place(two, one)])))
}

/// "dog chasing a cat", "a cat being chased by a dog".
fn roles(phrase: &Phrase<'_>) -> Option<(Change, String)> {
    for at in 1..phrase.words.len() {
        let passive = words::is_participle(phrase.at(at)) && phrase.at(at + 1) == "by";
        if !passive && !words::is_verb(phrase.at(at)) {
            continue;
        }
        let after = if passive { at + 2 } else { at + 1 };
        if let (Some(subject), Some(object)) = (phrase.thing_before(at), phrase.thing_after(after)) {
            return Some((Change::RolesSwapped, phrase.swap(subject, object, Vec::new())));
        }
    }
    None
}

/// Other numbers of the same things.
pub(super) fn count(request: &str) -> Option<Contrast> {
    let phrase = Phrase::new(request);
    how_many(&phrase).or_else(|| numbered(&phrase)).or_else(|| single(&phrase))
}

fn contrast(statement: String, others: impl IntoIterator<Item = String>) -> Contrast {
    let counterfactual = |text| Counterfactual { change: Change::CountChanged, text };
    Contrast { statement, counterfactuals: others.into_iter().map(counterfactual).collect() }
}

/// "how many chairs are there": numbers of chairs, against each other.
fn how_many(phrase: &Phrase<'_>) -> Option<Contrast> {
    let asked: [&[&str]; 3] = [&["how", "many"], &["count", "the"], &["number", "of"]];
    let start = asked.iter().find_map(|words| phrase.find(words).map(|at| at + words.len()))?;
    let (from, mut to) = phrase.thing_after(start)?;
    while to > from && ["are", "is", "there", "do", "can", "you", "see", "were"].contains(&phrase.at(to - 1)) {
        to -= 1;
    }
    // "chairs are there": the verb may stand in the middle.
    let verb = (from..to).find(|index| ["are", "do", "can"].contains(&phrase.at(*index)));
    let things = phrase.slice((from, verb.unwrap_or(to)));
    (!things.is_empty())
        .then(|| contrast(format!("two {things}"), ["three", "five"].map(|number| format!("{number} {things}"))))
}

/// "three dogs".
fn numbered(phrase: &Phrase<'_>) -> Option<Contrast> {
    for at in 0..phrase.words.len() {
        let Some(number) = words::number(phrase.at(at)).filter(|number| *number >= 2) else { continue };
        let things = (at + 1..phrase.words.len().min(at + 4)).any(|index| words::is_plural(phrase.at(index)));
        if !things {
            continue;
        }
        let span = (at, at + 1);
        let others = if number > 2 { [number - 1, number + 2] } else { [number + 1, number + 2] };
        let written = phrase.slice(span);
        return Some(contrast(
            phrase.text.to_owned(),
            others.map(|other| phrase.replace(vec![(span, words::number_like(other, written))])),
        ));
    }
    None
}

/// "only one cup", "a single cup".
fn single(phrase: &Phrase<'_>) -> Option<Contrast> {
    let starts: [&[&str]; 6] =
        [&["only", "one"], &["exactly", "one"], &["just", "one"], &["a", "single"], &["only", "a", "single"], &["one"]];
    let (at, length) = starts.iter().find_map(|words| phrase.find(words).map(|at| (at, words.len())))?;
    let (from, to) = phrase.thing_after(at + length)?;
    let noun = (to - 1, to);
    (from < to).then(|| {
        let others = ["two", "three"].map(|number| {
            let number = words::capitalised_like(number, phrase.slice((at, at + 1)));
            phrase.replace(vec![((at, at + length), number), (noun, words::plural(phrase.slice(noun)))])
        });
        contrast(phrase.text.to_owned(), others)
    })
}

/// What was excluded, included.
pub(super) fn negation(request: &str) -> Made {
    let phrase = Phrase::new(request);
    for (negation, opposite) in NEGATIONS {
        let Some(at) = phrase.find(negation) else { continue };
        let next = at + negation.len();
        let sign = *negation == ["no"] && SIGNS.contains(&phrase.at(next));
        if sign || phrase.at(next).is_empty() && opposite.is_empty() {
            continue;
        }
        let mut changes = vec![((at, next), capital(&phrase, (at, next), opposite))];
        if opposite.is_empty() && at == 0 {
            // The capital goes to what is now the first word.
            let first = (next, next + 1);
            changes.push((first, capital(&phrase, (0, 1), phrase.slice(first))));
        }
        return vec![(Change::NegationDropped, phrase.replace(changes))];
    }
    Vec::new()
}

/// What is wanted and what is excluded: "a street without cars" is "a street" and "cars". `None` where the negation
/// does not stand between the two.
pub fn split_negation(request: &str) -> Option<(String, String)> {
    const BETWEEN: [&str; 9] =
        ["without", "with no", "but no", "but not", "except for", "except", "excluding", "free of", "no"];
    let phrase = Phrase::new(request);
    for negation in BETWEEN {
        let words: Vec<&str> = negation.split(' ').collect();
        let Some(at) = phrase.find(&words) else { continue };
        let after = at + words.len();
        let skip = usize::from(["any", "a", "an", "the"].contains(&phrase.at(after)));
        let (kept, excluded) = (phrase.slice((0, at)), phrase.slice((after + skip, phrase.words.len())));
        if at > 0 && !kept.is_empty() && !excluded.is_empty() && !SIGNS.contains(&phrase.at(after)) {
            return Some((kept.to_owned(), excluded.to_owned()));
        }
        return None;
    }
    None
}

/// Other quoted words.
pub(super) fn text(request: &str) -> Made {
    for (open, close) in [('"', '"'), ('“', '”'), ('«', '»'), ('„', '“')] {
        let Some((before, rest)) = request.split_once(open) else { continue };
        let Some((quoted, after)) = rest.split_once(close) else { continue };
        if quoted.trim().is_empty() {
            continue;
        }
        let other = if quoted.trim().eq_ignore_ascii_case("closed") { "open" } else { "closed" };
        return vec![(Change::TextReplaced, format!("{before}{open}{other}{close}{after}"))];
    }
    Vec::new()
}

/// A word or words that take the capital of the place where they come to stand.
fn capital(phrase: &Phrase<'_>, place: Span, new: &str) -> String {
    if place.0 == 0 { words::capitalised_like(new, phrase.slice(place)) } else { new.to_owned() }
}

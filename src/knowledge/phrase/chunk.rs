//! From tokens to things and relations, left to right.

use super::lists::{
    COMPOUNDS, DENIALS, DETERMINERS, ING_NOUNS, PLACES, PREPOSITIONS, STOPS, TRAILERS, is_plural, number, singular,
};
use super::{Count, Parse, Place, Relation, Thing};
use crate::knowledge::words::{Class, Kind, Token, class_of_word};

/// Words about the picture itself: "a photo of", "in this image".
const PICTURE: [&str; 14] = [
    "photo",
    "photos",
    "picture",
    "pictures",
    "image",
    "images",
    "pic",
    "pics",
    "photograph",
    "photographs",
    "shot",
    "shots",
    "scene",
    "snapshot",
];

/// What joins the last thing to the next one.
#[derive(Default)]
struct Link {
    words: Vec<String>,
    place: Option<Place>,
    action: bool,
    negated: bool,
    passive: bool,
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    parse: Parse,
    link: Link,
    /// The thing that a relation starts from.
    subject: Option<usize>,
    count: Option<Count>,
    negated: bool,
    /// A token found to be a verb while the noun before it was read.
    verb: Option<usize>,
}

pub(super) fn parse(tokens: &[Token]) -> Parse {
    let mut reader = Reader {
        tokens,
        at: 0,
        parse: Parse::default(),
        link: Link::default(),
        subject: None,
        count: None,
        negated: false,
        verb: None,
    };
    while reader.at < tokens.len() {
        reader.step();
    }
    reader.parse
}

impl Reader<'_> {
    fn word(&self, offset: usize) -> &str {
        self.tokens.get(self.at + offset).map_or("", |token| token.text.as_str())
    }

    fn step(&mut self) {
        if self.count_phrase() || self.place() || self.denial() || self.picture() {
            return;
        }
        let word = self.word(0).to_owned();
        if matches!(word.as_str(), "and" | "," | "or" | ";" | "&" | "plus") {
            // "no fridge or oven": the denial goes on; "black and white cat" is read inside a noun phrase.
            let goes_on = word == "or" && self.parse.things.last().is_some_and(|thing| thing.negated);
            // "count the forks and knives": both are asked for.
            let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map(|token| token.end);
            let asked =
                self.parse.things.last().filter(|thing| before == Some(thing.end)).and_then(|thing| thing.count);
            self.count = asked.filter(|count| *count == Count::Asked);
            self.link = Link::default();
            self.negated = goes_on;
            self.subject = None;
            self.at += 1;
        } else if matches!(word.as_str(), "is" | "are" | "was" | "were") && self.predicate() {
        } else if matches!(word.as_str(), "." | "!" | "?" | "vs" | "versus" | "but" | "while") {
            self.link = Link::default();
            self.negated = false;
            self.subject = None;
            self.at += 1;
        } else if !self.thing() {
            self.joining_word(&word);
        }
    }

    /// "how many", "count", "number of", "at least four", "more than five".
    fn count_phrase(&mut self) -> bool {
        let (a, b, c) = (self.word(0), self.word(1), self.word(2));
        let (count, taken) = match (a, b) {
            ("how", "many") | ("number" | "amount" | "count" | "total", "of") => (Some(Count::Asked), 2),
            ("howmany" | "count", _) if self.at == 0 || self.subject.is_none() => (Some(Count::Asked), 1),
            ("exactly" | "precisely" | "only" | "just", n) if number(n).is_some() => (number(n).map(Count::Exactly), 2),
            ("at", "least") if number(c).is_some() => (number(c).map(Count::AtLeast), 3),
            ("at", "most") if number(c).is_some() => (number(c).map(Count::AtMost), 3),
            ("more", "than") if number(c).is_some() => (number(c).map(|n| Count::AtLeast(n + 1)), 3),
            ("over", n) if number(n).is_some_and(|n| n > 1) => (number(n).map(|n| Count::AtLeast(n + 1)), 2),
            ("fewer" | "less", "than") if number(c).is_some() => {
                (number(c).map(|n| Count::AtMost(n.saturating_sub(1))), 3)
            }
            ("no", "more") if c == "than" && number(self.word(3)).is_some() => {
                (number(self.word(3)).map(Count::AtMost), 4)
            }
            ("no" | "not", "fewer" | "less") if c == "than" && number(self.word(3)).is_some() => {
                (number(self.word(3)).map(Count::AtLeast), 4)
            }
            _ => (None, 0),
        };
        self.count = count.or(self.count);
        self.at += taken;
        taken > 0
    }

    /// The words of place that begin at a token.
    fn place_at(&self, at: usize) -> Option<&'static (&'static [&'static str], Place)> {
        PLACES.iter().find(|(words, _)| {
            words.iter().enumerate().all(|(offset, word)| self.tokens.get(at + offset).is_some_and(|t| t.text == *word))
        })
    }

    fn place(&mut self) -> bool {
        let Some((words, place)) = self.place_at(self.at) else { return false };
        // "by" after a participle names who did it; "in this photo" says nothing of the scene.
        if *words == ["by"] && self.link.action {
            self.link.passive = true;
            self.link.words.push("by".into());
            self.at += 1;
            return true;
        }
        self.link.words.extend(words.iter().map(|word| (*word).to_owned()));
        self.link.place = Some(*place);
        self.at += words.len();
        true
    }

    fn denial(&mut self) -> bool {
        let word = self.word(0);
        if word == "other" && self.word(1) == "than" {
            self.negated = true;
            self.at += 2;
            return true;
        }
        let contraction = word.ends_with("n't");
        if !contraction && !DENIALS.contains(&word) {
            return false;
        }
        if word == "not" || contraction {
            self.link.negated = true;
        }
        self.negated = true;
        self.at += 1;
        true
    }

    /// "photo of", "in this image", "of the picture".
    fn picture(&mut self) -> bool {
        let mut ahead = 0;
        while DETERMINERS.contains(&self.word(ahead)) && ahead < 2 {
            ahead += 1;
        }
        if !PICTURE.contains(&self.word(ahead))
            || (self.tokens.get(self.at + ahead + 1).is_some_and(is_noun) && ahead == 0)
        {
            return false;
        }
        self.at += ahead + 1;
        if matches!(self.word(0), "of" | "with" | "showing" | "where" | "in" | "containing" | "that") {
            self.at += 1;
            if self.word(0) == "which" {
                self.at += 1;
            }
        }
        self.link = Link::default();
        true
    }

    /// "is tall": an attribute of the thing before.
    fn predicate(&mut self) -> bool {
        let Some(last) = self.parse.things.last_mut() else { return false };
        let Some(next) = self.tokens.get(self.at + 1) else { return false };
        let attribute = matches!(class_of_word(&next.text), Some(Class::Colour | Class::Attribute));
        let ends = self
            .tokens
            .get(self.at + 2)
            .is_none_or(|token| token.kind == Kind::Sign || matches!(token.text.as_str(), "and" | "but" | "while"));
        if attribute && ends && !self.negated {
            last.attributes.push(next.text.clone());
            self.at += 2;
            return true;
        }
        false
    }

    /// A noun phrase; false when none starts here.
    fn thing(&mut self) -> bool {
        if self.verb == Some(self.at) {
            return false;
        }
        let mut at = self.at;
        let start = at;
        let word = |at: usize| self.tokens.get(at).map_or("", |token| token.text.as_str());
        let determined = DETERMINERS.contains(&word(at));
        while DETERMINERS.contains(&word(at)) {
            at += 1;
        }
        let mut count = self.count;
        if let Some(value) = number(word(at)).filter(|_| word(at) != "one") {
            count = count.or(Some(Count::Exactly(value)));
            at += 1;
        }
        if word(at) == "of" && at > start {
            at += 1;
        }
        let mut attributes = Vec::new();
        let mut nouns: Vec<usize> = Vec::new();
        while let Some(token) = self.tokens.get(at) {
            let text = token.text.as_str();
            let colour = class_of_word(text) == Some(Class::Colour);
            let attribute = colour || class_of_word(text) == Some(Class::Attribute);
            let compound = COMPOUNDS.iter().any(|[first, second]| *first == text && *second == word(at + 1));
            if nouns.is_empty() && attribute && !compound {
                attributes.push(text.to_owned());
                at += 1;
            } else if nouns.is_empty()
                && !attributes.is_empty()
                && (text == "-" || text == "and" && self.attribute_then_noun(at + 1))
            {
                at += 1;
            } else if !nouns.is_empty() && TRAILERS.contains(&text)
                // "the square right of the circle": the square, and what is right of it.
                || !(nouns.is_empty() && attributes.is_empty()) && self.place_at(at).is_some()
            {
                break;
            } else if is_noun(token) && !self.verb_here(at, &nouns, determined) {
                nouns.push(at);
                at += 1;
            } else {
                if is_noun(token) {
                    self.verb = Some(at);
                }
                break;
            }
        }
        // "the empty glass", "an orange": the last of the attributes is the thing.
        if nouns.is_empty() && self.verb != Some(at - attributes.len()) && attributes.pop().is_some() {
            nouns.push(at - 1);
        }
        let Some((first, last)) = nouns.first().zip(nouns.last()) else {
            return false;
        };
        let phrase: Vec<&str> =
            self.tokens.get(*first..=*last).unwrap_or_default().iter().map(|token| token.text.as_str()).collect();
        let phrase = phrase.join(" ");
        let thing = Thing {
            plural: is_plural(&phrase),
            head: singular(&phrase),
            attributes,
            count,
            negated: self.negated,
            start: self.tokens.get(start).map_or(0, |token| token.start),
            end: self.tokens.get(*last).map_or(0, |token| token.end),
        };
        self.at = at;
        self.count = None;
        self.add(thing);
        true
    }

    fn add(&mut self, thing: Thing) {
        let object = self.parse.things.len();
        self.parse.things.push(thing);
        let link = std::mem::take(&mut self.link);
        // "a church with a clock stands behind a fence": the church stands.
        let owner =
            self.parse.relations.last().filter(|last| Some(last.object) == self.subject && last.words == "with");
        let subject = if link.action { owner.map(|last| last.subject).or(self.subject) } else { self.subject };
        if let Some(subject) = subject.filter(|_| !link.words.is_empty()) {
            self.parse.relations.push(Relation {
                subject,
                words: link.words.join(" "),
                place: link.place.filter(|_| !link.passive),
                action: link.action,
                negated: link.negated,
                object,
            });
        }
        self.negated = false;
        // "a cat on a mat": what follows may still speak of the cat; a chain of places speaks of the last thing.
        self.subject = Some(object);
    }

    /// An attribute and after it, somewhere, a noun: "black and white cat".
    fn attribute_then_noun(&self, at: usize) -> bool {
        let class = self.tokens.get(at).and_then(|token| class_of_word(&token.text));
        matches!(class, Some(Class::Colour | Class::Attribute))
            && self.tokens.get(at + 1).is_some_and(is_noun)
            && self.tokens.get(at.wrapping_sub(2)).is_some_and(|token| class_of_word(&token.text) == class)
    }

    /// A word after a noun that is a verb: "chases a …", "feeding a …", "is chased by".
    fn verb_here(&self, at: usize, nouns: &[usize], determined: bool) -> bool {
        let Some(token) = self.tokens.get(at) else { return false };
        let text = token.text.as_str();
        if text.ends_with("ing") && text.len() > 4 && !ING_NOUNS.contains(&text) {
            return true;
        }
        if nouns.is_empty() {
            // After "is": a participle, not a thing.
            return self.link.words.last().is_some_and(|word| matches!(word.as_str(), "is" | "are" | "was" | "were"))
                && text.ends_with("ed");
        }
        let next = self.tokens.get(at + 1).map_or("", |token| token.text.as_str());
        let opens = DETERMINERS.contains(&next) || number(next).is_some();
        let place = PLACES.iter().any(|(words, _)| words.first() == Some(&next)) || PREPOSITIONS.contains(&next);
        if text.ends_with("ed") && text.len() > 3 && (place || opens) {
            return true;
        }
        let third_person = text.ends_with('s') && !text.ends_with("ss");
        (third_person && determined && (opens || place && !matches!(next, "of")))
            || (opens
                && !third_person
                && nouns.len() == 1
                && self.tokens.get(at - 1).is_some_and(|t| is_plural(&t.text)))
    }

    fn joining_word(&mut self, word: &str) {
        let verb = word.len() > 2
            && !STOPS.contains(&word)
            && !PREPOSITIONS.contains(&word)
            && word.chars().all(|c| c.is_alphabetic() || c == '\'');
        if matches!(word, "is" | "are" | "was" | "were") || verb || PREPOSITIONS.contains(&word) {
            self.link.words.push(word.to_owned());
        }
        self.link.action |= verb;
        if matches!(word, "who" | "which" | "what" | "there" | "how") {
            self.link = Link { negated: self.link.negated, ..Link::default() };
        }
        self.at += 1;
    }
}

/// A word that may be (part of) a noun.
fn is_noun(token: &Token) -> bool {
    let text = token.text.as_str();
    matches!(token.kind, Kind::Word | Kind::Mixed)
        && !STOPS.contains(&text)
        && !PREPOSITIONS.contains(&text)
        && !DENIALS.contains(&text)
        && !DETERMINERS.contains(&text)
        && !TRAILERS.contains(&text)
        && !text.ends_with("n't")
        && !PLACES.iter().any(|(words, _)| words.len() == 1 && words.first() == Some(&text))
        && !matches!(text, "to" | "ly")
}

//! What a text claims of a picture, claim by claim: things with their attributes, how many, what is absent, how two stand to each
//! other, who does what. One reader for captions and requests ([`super::phrase`]); who checks a claim is for the engine to say.

use super::phrase::{self, Count, Place, Relation, Thing};
use super::words::{Kind, Token, tokenize};

/// Something that a picture has to show, or must not show. Things are positions in [`Claims::things`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// There is one, with its attributes.
    Present(usize),
    /// There are so many, with their attributes.
    Number(usize, Count),
    /// There is none with these attributes.
    Absent(usize),
    /// One stands so to the other.
    Placed {
        /// The one.
        subject: usize,
        /// How.
        place: Place,
        /// The other.
        object: usize,
        /// "is not left of".
        denied: bool,
    },
    /// One does something to the other.
    Acts {
        /// Who.
        subject: usize,
        /// The words between them: "chases", "is chased by".
        words: String,
        /// To whom.
        object: usize,
    },
}

/// A text and what it claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The text.
    pub text: String,
    /// What it speaks of.
    pub things: Vec<Thing>,
    /// In the order of the things, then the relations.
    pub claims: Vec<Claim>,
}

/// Reads a text's claims. "one red car" is a number here, which [`phrase::parse`] leaves open.
pub fn read(text: &str) -> Claims {
    let tokens = tokens(text);
    let parse = phrase::parse_tokens(&tokens);
    let denied_objects: Vec<usize> =
        parse.relations.iter().filter(|relation| denies_place(relation)).map(|relation| relation.object).collect();
    let mut things = parse.things;
    for object in denied_objects {
        if let Some(thing) = things.get_mut(object) {
            thing.negated = false;
        }
    }
    let of_thing = |(at, thing): (usize, &Thing)| match thing.count {
        _ if thing.negated => Claim::Absent(at),
        Some(Count::Exactly(0) | Count::AtMost(0)) => Claim::Absent(at),
        Some(Count::Asked) | None => Claim::Present(at),
        Some(count) => Claim::Number(at, count),
    };
    let mut claims: Vec<Claim> = things.iter().enumerate().map(of_thing).collect();
    for relation in parse.relations {
        let negated = |at: usize| things.get(at).is_some_and(|thing| thing.negated);
        let (subject, object) = (relation.subject, relation.object);
        if negated(subject) || negated(object) {
            continue;
        }
        match relation.place {
            Some(place) => claims.push(Claim::Placed { subject, place, object, denied: relation.negated }),
            None if relation.action => claims.push(Claim::Acts { subject, words: relation.words, object }),
            None => {}
        }
    }
    Claims { text: text.trim().to_owned(), things, claims }
}

/// "is not left of the dog": the dog is there.
fn denies_place(relation: &Relation) -> bool {
    relation.negated && relation.place.is_some()
}

/// The text's tokens with "one" as a number where a noun phrase begins with it, and without "one of".
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = tokenize(text);
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1).map_or(("", Kind::Sign), |token| (token.text.as_str(), token.kind));
        let of = next.0 == "of";
        let noun =
            matches!(next.1, Kind::Word | Kind::Mixed) && !["is", "in", "on", "and", "another", "or"].contains(&next.0);
        if tokens.get(at).is_some_and(|token| token.text == "one") {
            if of {
                tokens.drain(at..at + 2);
                continue;
            }
            if let Some(token) = tokens.get_mut(at).filter(|_| noun) {
                token.text = "1".into();
                token.kind = Kind::Number;
            }
        }
        at += 1;
    }
    tokens
}

impl Claims {
    /// Whether something is claimed that an image-text model does not see: a number, an absence, a place, or attributes of
    /// several things.
    pub fn beyond_clip(&self) -> bool {
        let bound = self.things.iter().filter(|thing| !thing.attributes.is_empty()).count() > 1;
        bound || self.claims.iter().any(|claim| !matches!(claim, Claim::Present(_)))
    }

    /// The words of a thing, as a check names it: "red car".
    pub fn name(&self, thing: usize) -> String {
        self.things.get(thing).map(Thing::words).unwrap_or_default()
    }

    /// A claim in words: "3 dog", "no car", "cup left of laptop".
    pub fn words(&self, claim: &Claim) -> String {
        match claim {
            Claim::Present(thing) => self.name(*thing),
            Claim::Absent(thing) => format!("no {}", self.name(*thing)),
            Claim::Number(thing, count) => {
                let name = self.name(*thing);
                match count {
                    Count::Exactly(n) => format!("{n} x {name}"),
                    Count::AtLeast(n) => format!("at least {n} x {name}"),
                    Count::AtMost(n) => format!("at most {n} x {name}"),
                    Count::Asked => name,
                }
            }
            Claim::Placed { subject, place, object, denied } => {
                let not = if *denied { "not " } else { "" };
                format!("{} {not}{} {}", self.name(*subject), place.name(), self.name(*object))
            }
            Claim::Acts { subject, words, object } => format!("{} {words} {}", self.name(*subject), self.name(*object)),
        }
    }

    /// What an image-text model can look for: the text without numbers and without what must be absent; `None` where nothing
    /// is left.
    pub fn visible_text(&self) -> Option<String> {
        const COUNTING: [&str; 19] = [
            "how",
            "many",
            "count",
            "number",
            "exactly",
            "precisely",
            "only",
            "just",
            "at",
            "least",
            "most",
            "more",
            "than",
            "fewer",
            "less",
            "over",
            "no",
            "there",
            "are",
        ];
        let tokens = tokens(&self.text);
        let mut kept: Vec<&str> = Vec::new();
        let (mut from, mut gone_before) = (0, false);
        for thing in &self.things {
            let until = thing.end;
            let part: Vec<&Token> = tokens.iter().filter(|token| token.start >= from && token.end <= until).collect();
            from = until;
            if thing.negated {
                gone_before = true;
                continue;
            }
            let counted = thing.count.is_some();
            let keeps = |token: &&&Token| {
                let number = token.kind == Kind::Number || phrase::is_number(&token.text);
                !(counted && (number || COUNTING.contains(&token.text.as_str())))
            };
            // "no people in the window": what joined the two things goes with the first.
            let inside = |token: &&&Token| !gone_before || token.start >= thing.start;
            kept.extend(part.iter().filter(keeps).filter(inside).map(|token| token.text.as_str()));
            gone_before = false;
        }
        if self.things.iter().all(|thing| thing.negated) && !self.things.is_empty() {
            return None;
        }
        if !gone_before {
            kept.extend(tokens.iter().filter(|token| token.start >= from).map(|token| token.text.as_str()));
        }
        let text = kept.join(" ").replace(" ,", ",");
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == ',');
        let text = text.strip_prefix("and ").unwrap_or(text);
        (!text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, read};

    fn words(text: &str) -> Vec<String> {
        let claims = read(text);
        claims.claims.iter().map(|claim| claims.words(claim)).collect()
    }

    #[test]
    fn a_text_is_taken_apart_into_what_can_be_checked() {
        for (text, expected) in [
            ("a red car and a blue truck", vec!["red car", "blue truck"]),
            ("three dogs on a beach", vec!["3 x dog", "beach", "dog on beach"]),
            ("one red circle", vec!["1 x red circle"]),
            ("one of the dogs", vec!["dog"]),
            ("a street without cars", vec!["street", "no car"]),
            ("no people", vec!["no person"]),
            ("zero cups on a table", vec!["no cup", "table", "cup on table"]),
            ("at least two cats", vec!["at least 2 x cat"]),
            ("cup to the left of the laptop", vec!["cup", "laptop", "cup left of laptop"]),
            ("the cat is not on the mat", vec!["cat", "mat", "cat not on mat"]),
            ("a person not wearing a helmet", vec!["person", "no helmet"]),
            ("a dog chases a cat", vec!["dog", "cat", "dog chases cat"]),
            ("", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn what_clip_cannot_see_is_known() {
        for text in [
            "three dogs",
            "a street without cars",
            "cup left of laptop",
            "red car and blue truck",
            "a dog chases a cat",
        ] {
            assert!(read(text).beyond_clip(), "{text}");
        }
        for text in ["a red car", "dog and cat", "sunset over the sea", ""] {
            let only_places =
                read(text).claims.iter().all(|claim| matches!(claim, Claim::Present(_) | Claim::Placed { .. }));
            assert!(only_places, "{text}");
        }
        assert!(!read("a red car").beyond_clip() && !read("dog and cat").beyond_clip());
    }

    #[test]
    fn what_clip_can_see_is_left_of_the_text() {
        for (text, expected) in [
            ("three dogs on a beach", Some("dogs on a beach")),
            ("a street without cars", Some("a street")),
            ("kitchen with no fridge or oven", Some("kitchen")),
            ("there are no people in the window", Some("the window")),
            ("at least 4 people", Some("people")),
            ("two cats and one dog", Some("cats and dog")),
            ("no people", None),
            ("cup left of laptop", Some("cup left of laptop")),
            ("red car and blue truck at night", Some("red car and blue truck at night")),
            ("how many red chairs are there", Some("red chairs are there")),
            ("sunset", Some("sunset")),
        ] {
            assert_eq!(read(text).visible_text().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn any_text_is_read() {
        for text in ["and", "no", "one", "one one one", "not not", "🦊 left of 🐻 without 3", "the the of", ","] {
            let claims = read(text);
            claims.visible_text();
            for claim in &claims.claims {
                claims.words(claim);
            }
        }
    }
}

//! An English caption or request as things, their attributes and counts, and how they relate: what a detector can be
//! asked and a counterfactual can be made of. A chunker by closed word lists, not a grammar of English: what it cannot
//! read it leaves out rather than guesses.

mod chunk;
mod lists;

use super::words::{Token, tokenize};
pub use lists::{Place, is_number, singular};

/// How many of a thing the text speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// "how many …", "count the …".
    Asked,
    /// "three …", "exactly three …".
    Exactly(u32),
    /// "at least three …".
    AtLeast(u32),
    /// "at most three …", "no more than …".
    AtMost(u32),
}

/// A noun phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// The noun in the singular: "dog", "traffic light".
    pub head: String,
    /// Colours, materials, sizes, states, in order.
    pub attributes: Vec<String>,
    /// How many.
    pub count: Option<Count>,
    /// Written in the plural.
    pub plural: bool,
    /// The text says that it is absent.
    pub negated: bool,
    /// First character in the text.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
}

impl Thing {
    /// Attributes and noun: "red chair".
    pub fn words(&self) -> String {
        let mut words = self.attributes.clone();
        words.push(self.head.clone());
        words.join(" ")
    }
}

/// Two things and what joins them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Position of the subject in [`Parse::things`].
    pub subject: usize,
    /// The words between: "sitting on", "chases", "left of".
    pub words: String,
    /// The place they say, if any.
    pub place: Option<Place>,
    /// There is a verb among the words: who does what to whom.
    pub action: bool,
    /// "is not left of".
    pub negated: bool,
    /// Position of the object.
    pub object: usize,
}

/// What a text says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parse {
    /// Noun phrases in order.
    pub things: Vec<Thing>,
    /// Relations in order.
    pub relations: Vec<Relation>,
}

/// Parses an English text.
pub fn parse(text: &str) -> Parse {
    parse_tokens(&tokenize(text))
}

/// Parses the tokens of an English text.
pub fn parse_tokens(tokens: &[Token]) -> Parse {
    chunk::parse(tokens)
}

#[cfg(test)]
mod tests {
    use super::{Count, Parse, Place, parse};

    fn things(text: &str) -> Vec<String> {
        parse(text)
            .things
            .iter()
            .map(|thing| {
                let mut words = thing.attributes.clone();
                words.push(thing.head.clone());
                let count = match thing.count {
                    Some(Count::Exactly(n)) => format!("{n} "),
                    Some(Count::AtLeast(n)) => format!(">={n} "),
                    Some(Count::AtMost(n)) => format!("<={n} "),
                    Some(Count::Asked) => "? ".into(),
                    None => String::new(),
                };
                format!("{}{count}{}", if thing.negated { "!" } else { "" }, words.join(" "))
            })
            .collect()
    }

    fn relations(text: &str) -> Vec<String> {
        let Parse { things, relations } = parse(text);
        relations
            .iter()
            .map(|r| {
                let place = r.place.map_or(String::new(), |place: Place| format!(" [{}]", place.name()));
                format!("{} {}{place} {}", things[r.subject].head, r.words, things[r.object].head)
            })
            .collect()
    }

    #[test]
    fn attributes_stay_with_their_things() {
        assert_eq!(things("a red car and a blue truck"), ["red car", "blue truck"]);
        assert_eq!(things("white plate on a green wooden table"), ["white plate", "green wooden table"]);
        assert_eq!(
            things("the empty glass is tall, the full glass is short"),
            ["empty tall glass", "full short glass"]
        );
        assert_eq!(things("black and white cat"), ["black white cat"]);
        assert_eq!(things("a small traffic light"), ["small traffic light"]);
    }

    #[test]
    fn counts_are_read() {
        assert_eq!(things("how many red chairs are left of the table"), ["? red chair", "table"]);
        assert_eq!(things("three dogs on a beach"), ["3 dog", "beach"]);
        assert_eq!(things("at least 4 people"), [">=4 person"]);
        assert_eq!(things("no more than two cheetahs"), ["<=2 cheetah"]);
        assert_eq!(things("photos with more than five people"), [">=6 person"]);
        assert_eq!(things("count the sheep"), ["? sheep"]);
        assert_eq!(things("number of cars in the parking lot"), ["? car", "parking lot"]);
        assert_eq!(things("howmany birds"), ["? bird"]);
    }

    #[test]
    fn absence_is_read() {
        assert_eq!(things("a street without cars"), ["street", "!car"]);
        assert_eq!(things("there are no people in the window"), ["!person", "window"]);
        assert_eq!(things("kitchen with no fridge or oven"), ["kitchen", "!fridge", "!oven"]);
        assert_eq!(things("a person not wearing a helmet"), ["person", "!helmet"]);
        assert_eq!(things("cakes other than chocolate"), ["cake", "!chocolate"]);
        assert_eq!(things("no doors visible"), ["!door"]);
        assert_eq!(things("a bun without a hot dog"), ["bun", "!hot dog"]);
    }

    #[test]
    fn relations_join_their_things() {
        assert_eq!(relations("cup to the left of the laptop"), ["cup to the left of [left of] laptop"]);
        assert_eq!(relations("a square right of a circle"), ["square right of [right of] circle"]);
        assert_eq!(relations("a red square left of a blue diamond"), ["square left of [left of] diamond"]);
        assert_eq!(relations("a dog chases a cat"), ["dog chases cat"]);
        assert_eq!(relations("a man feeding a horse"), ["man feeding horse"]);
        assert_eq!(relations("The cat is below the toilet"), ["cat is below [below] toilet"]);
        assert_eq!(relations("a boy is chased by a goose"), ["boy is chased by goose"]);
        assert_eq!(relations("a pizza right of a banana"), ["pizza right of [right of] banana"]);
        assert_eq!(
            relations("a church with a clock stands behind a fence"),
            ["church with clock", "church stands behind [behind] fence"]
        );
        assert_eq!(relations("a lamp standing behind a sofa"), ["lamp standing behind [behind] sofa"]);
    }

    #[test]
    fn any_text_is_read() {
        for text in ["", "and", "of of of", "no", "how many", "the", "\"", "is is is", "1", "🦊 next to 🐻"] {
            parse(text);
        }
    }
}

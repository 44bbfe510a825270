//! Words of a few closed kinds (persons, animals, colours, relations, …), so that the shape of a sentence can be seen
//! whatever its words are.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::token::{Kind, Token};

/// The kind of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Articles, pronouns, auxiliaries, conjunctions, question words: kept as they are.
    Function,
    /// Two or more, as a word.
    Numeral,
    /// A colour.
    Colour,
    /// Material, texture, pattern, size, shape, state.
    Attribute,
    /// A person or a role.
    Person,
    /// An animal, named broadly.
    Animal,
    /// A preposition of place.
    Relation,
    /// "photo", "picture", "image", "shot", …
    Photo,
    /// A breed, species, make or other exact name.
    Name,
    /// Makes or changes pictures or files.
    Edit,
    /// A thing, named broadly.
    Thing,
    /// What one person or animal does to another: "chases", "feeding".
    Social,
    /// Written things: "sign", "label", "word", "letters".
    Writing,
}

impl Class {
    /// All but [`Class::Function`].
    pub const CONTENT: [Self; 12] = [
        Self::Numeral,
        Self::Colour,
        Self::Attribute,
        Self::Person,
        Self::Animal,
        Self::Relation,
        Self::Photo,
        Self::Name,
        Self::Edit,
        Self::Writing,
        Self::Thing,
        Self::Social,
    ];

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "function" => Self::Function,
            "numeral" => Self::Numeral,
            "colour" => Self::Colour,
            "attribute" => Self::Attribute,
            "person" => Self::Person,
            "animal" => Self::Animal,
            "relation" => Self::Relation,
            "photo" => Self::Photo,
            "name" => Self::Name,
            "edit" => Self::Edit,
            "writing" => Self::Writing,
            "thing" => Self::Thing,
            "social" => Self::Social,
            _ => return None,
        })
    }
}

/// `[class]` headers and words, separated by white space; a word keeps the first class it is given.
const SOURCE: &str = include_str!("../../../assets/router/lexicon.txt");

fn words() -> &'static HashMap<&'static str, Class> {
    static WORDS: OnceLock<HashMap<&'static str, Class>> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = HashMap::new();
        let mut class = None;
        for line in SOURCE.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                class = Class::from_name(name);
            } else if let Some(class) = class {
                for word in line.split_whitespace() {
                    words.entry(word).or_insert(class);
                }
            }
        }
        words
    })
}

/// The class of a word, also of its plural.
pub fn class_of_word(text: &str) -> Option<Class> {
    let words = words();
    if let Some(class) = words.get(text) {
        return Some(*class);
    }
    let stems = [
        text.strip_suffix('s').map(str::to_owned),
        text.strip_suffix("es").map(str::to_owned),
        text.strip_suffix("ies").map(|stem| format!("{stem}y")),
        text.strip_suffix("men").map(|stem| format!("{stem}man")),
        text.strip_suffix("'s").map(str::to_owned),
    ];
    stems
        .into_iter()
        .flatten()
        .find_map(|stem| words.get(stem.as_str()).copied().filter(|class| *class != Class::Function))
}

/// The class of a token.
pub fn class_of(token: &Token) -> Option<Class> {
    if token.quoted {
        return None;
    }
    match token.kind {
        Kind::Word => class_of_word(&token.text),
        Kind::Number => token.text.parse::<u32>().is_ok_and(|n| (2..=1_000).contains(&n)).then_some(Class::Numeral),
        _ => None,
    }
}

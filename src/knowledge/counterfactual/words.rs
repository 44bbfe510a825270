//! Word lists and spelling.

/// Attributes that a thing can have, by kind; two of the same or of different kinds can change places.
const ATTRIBUTES: &[&str] = &[
    // Colours.
    "red",
    "blue",
    "green",
    "yellow",
    "black",
    "white",
    "brown",
    "orange",
    "purple",
    "pink",
    "grey",
    "gray",
    "golden",
    "silver",
    "beige",
    "turquoise",
    "violet",
    "cyan",
    "magenta",
    "dark",
    "bright",
    "pale",
    "blond",
    "blonde",
    // Materials.
    "wooden",
    "metal",
    "plastic",
    "glass",
    "leather",
    "stone",
    "concrete",
    "paper",
    "cardboard",
    "ceramic",
    "steel",
    // Size, age, state, pattern, shape.
    "big",
    "small",
    "large",
    "little",
    "tiny",
    "huge",
    "tall",
    "short",
    "long",
    "old",
    "young",
    "new",
    "open",
    "closed",
    "empty",
    "full",
    "wet",
    "dry",
    "broken",
    "clean",
    "dirty",
    "striped",
    "spotted",
    "checkered",
    "dotted",
    "round",
    "smiling",
    "sleeping",
    "sitting",
    "standing",
];

/// Numerals that can be said in words.
const NUMERALS: [&str; 13] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// Verbs that one thing does to another, in the forms of captions: base, third person, -ing, participle.
const VERBS: &[[&str; 4]] = &[
    ["chase", "chases", "chasing", "chased"],
    ["bite", "bites", "biting", "bitten"],
    ["follow", "follows", "following", "followed"],
    ["carry", "carries", "carrying", "carried"],
    ["feed", "feeds", "feeding", "fed"],
    ["ride", "rides", "riding", "ridden"],
    ["kiss", "kisses", "kissing", "kissed"],
    ["hug", "hugs", "hugging", "hugged"],
    ["push", "pushes", "pushing", "pushed"],
    ["pull", "pulls", "pulling", "pulled"],
    ["watch", "watches", "watching", "watched"],
    ["lick", "licks", "licking", "licked"],
    ["eat", "eats", "eating", "eaten"],
    ["catch", "catches", "catching", "caught"],
    ["hit", "hits", "hitting", "hit"],
    ["kick", "kicks", "kicking", "kicked"],
    ["lead", "leads", "leading", "led"],
    ["attack", "attacks", "attacking", "attacked"],
    ["wash", "washes", "washing", "washed"],
    ["brush", "brushes", "brushing", "brushed"],
    ["lift", "lifts", "lifting", "lifted"],
    ["hold", "holds", "holding", "held"],
    ["teach", "teaches", "teaching", "taught"],
    ["help", "helps", "helping", "helped"],
    ["photograph", "photographs", "photographing", "photographed"],
    ["paint", "paints", "painting", "painted"],
    ["hunt", "hunts", "hunting", "hunted"],
    ["herd", "herds", "herding", "herded"],
    ["greet", "greets", "greeting", "greeted"],
    ["tow", "tows", "towing", "towed"],
    ["overtake", "overtakes", "overtaking", "overtaken"],
    ["cover", "covers", "covering", "covered"],
    ["touch", "touches", "touching", "touched"],
    ["surround", "surrounds", "surrounding", "surrounded"],
];

const IRREGULAR_PLURALS: [(&str, &str); 12] = [
    ("person", "people"),
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("mouse", "mice"),
    ("goose", "geese"),
    ("sheep", "sheep"),
    ("fish", "fish"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("knife", "knives"),
    ("leaf", "leaves"),
];

pub(super) fn is_attribute(word: &str) -> bool {
    ATTRIBUTES.contains(&word)
}

/// A verb between two things: its base form's row holds it as base, third person or -ing.
pub(super) fn is_verb(word: &str) -> bool {
    VERBS.iter().any(|forms| forms.iter().take(3).any(|form| *form == word))
}

/// The form of "being chased by".
pub(super) fn is_participle(word: &str) -> bool {
    VERBS.iter().any(|forms| forms[3] == word)
}

pub(super) fn is_determiner(word: &str) -> bool {
    ["a", "an", "the", "this", "that", "my", "his", "her", "their", "our", "your", "its", "some", "one"].contains(&word)
}

/// The number that a word says, in words or digits; 1 to 100.
pub(super) fn number(word: &str) -> Option<u32> {
    let spelt = NUMERALS.iter().position(|numeral| *numeral == word).and_then(|at| u32::try_from(at).ok());
    spelt.or_else(|| word.parse().ok()).filter(|n| (1..=100).contains(n))
}

/// A number the way another one was written: in digits or words, capitalised or not.
pub(super) fn number_like(number: u32, model: &str) -> String {
    let spelt = NUMERALS.get(number as usize).filter(|_| !model.starts_with(|c: char| c.is_ascii_digit()));
    spelt.map_or_else(|| number.to_string(), |word| capitalised_like(word, model))
}

/// A word with a capital when the word that it stands for has one.
pub(super) fn capitalised_like(word: &str, model: &str) -> String {
    let mut letters = word.chars();
    match (letters.next(), model.chars().next()) {
        (Some(first), Some(m)) if m.is_uppercase() => first.to_uppercase().chain(letters).collect(),
        _ => word.to_owned(),
    }
}

/// Whether a noun is plural, by its form.
pub(super) fn is_plural(word: &str) -> bool {
    IRREGULAR_PLURALS.iter().any(|(_, plural)| *plural == word)
        || (word.len() > 3 && word.ends_with('s') && !["ss", "us", "is"].iter().any(|end| word.ends_with(end)))
}

/// The plural of a noun.
pub(super) fn plural(word: &str) -> String {
    if let Some((_, plural)) = IRREGULAR_PLURALS.iter().find(|(singular, _)| *singular == word) {
        return (*plural).to_owned();
    }
    let ends = |ends: &[&str]| ends.iter().any(|end| word.ends_with(end));
    match word.strip_suffix('y') {
        Some(stem) if !ends(&["ay", "ey", "oy", "uy"]) => format!("{stem}ies"),
        _ if ends(&["s", "x", "z", "ch", "sh"]) => format!("{word}es"),
        _ => format!("{word}s"),
    }
}

/// Whether "an" stands before this word.
pub(super) fn takes_an(word: &str) -> bool {
    let word = word.to_lowercase();
    let sounded = ["uni", "use", "euro", "one"].iter().any(|start| word.starts_with(start));
    let silent = ["hour", "honest", "heir"].iter().any(|start| word.starts_with(start));
    silent || (word.starts_with(['a', 'e', 'i', 'o', 'u']) && !sounded)
}

//! The closed lists that the parser of captions stands on: relations of place, numbers, what begins and ends a noun phrase.

/// How a thing stands to another, as a picture can show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Further left in the picture.
    LeftOf,
    /// Further right in the picture.
    RightOf,
    /// Higher in the picture.
    Above,
    /// Lower in the picture.
    Below,
    /// Resting on.
    On,
    /// Within.
    In,
    /// Nearer to the camera.
    InFrontOf,
    /// Further from the camera.
    Behind,
    /// Close by.
    Near,
    /// Far from.
    FarFrom,
    /// Between two others.
    Between,
    /// On all sides.
    Around,
    /// In contact.
    Touching,
    /// Turned towards.
    Facing,
}

impl Place {
    /// The name in answers and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeftOf => "left of",
            Self::RightOf => "right of",
            Self::Above => "above",
            Self::Below => "below",
            Self::On => "on",
            Self::In => "in",
            Self::InFrontOf => "in front of",
            Self::Behind => "behind",
            Self::Near => "near",
            Self::FarFrom => "far from",
            Self::Between => "between",
            Self::Around => "around",
            Self::Touching => "touching",
            Self::Facing => "facing",
        }
    }

    /// The relation that holds when subject and object change places.
    pub fn reverse(self) -> Option<Self> {
        Some(match self {
            Self::LeftOf => Self::RightOf,
            Self::RightOf => Self::LeftOf,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
            Self::InFrontOf => Self::Behind,
            Self::Behind => Self::InFrontOf,
            _ => return None,
        })
    }
}

/// Words of place, longest first among those that begin alike.
pub(super) const PLACES: [(&[&str], Place); 64] = [
    (&["to", "the", "immediate", "left", "of"], Place::LeftOf),
    (&["to", "the", "immediate", "right", "of"], Place::RightOf),
    (&["on", "the", "left", "hand", "side", "of"], Place::LeftOf),
    (&["on", "the", "right", "hand", "side", "of"], Place::RightOf),
    (&["at", "the", "left", "side", "of"], Place::LeftOf),
    (&["at", "the", "right", "side", "of"], Place::RightOf),
    (&["on", "the", "left", "side", "of"], Place::LeftOf),
    (&["on", "the", "right", "side", "of"], Place::RightOf),
    (&["to", "the", "left", "of"], Place::LeftOf),
    (&["to", "the", "right", "of"], Place::RightOf),
    (&["on", "the", "left", "of"], Place::LeftOf),
    (&["on", "the", "right", "of"], Place::RightOf),
    (&["left", "of"], Place::LeftOf),
    (&["right", "of"], Place::RightOf),
    (&["at", "the", "top", "of"], Place::On),
    (&["on", "the", "top", "of"], Place::On),
    (&["on", "top", "of"], Place::On),
    (&["at", "the", "bottom", "of"], Place::Below),
    (&["at", "the", "back", "of"], Place::Behind),
    (&["at", "the", "edge", "of"], Place::Near),
    (&["in", "the", "middle", "of"], Place::In),
    (&["in", "the", "center", "of"], Place::In),
    (&["in", "the", "centre", "of"], Place::In),
    (&["in", "front", "of"], Place::InFrontOf),
    (&["ahead", "of"], Place::InFrontOf),
    (&["in", "back", "of"], Place::Behind),
    (&["inside", "of"], Place::In),
    (&["far", "away", "from"], Place::FarFrom),
    (&["far", "from"], Place::FarFrom),
    (&["away", "from"], Place::FarFrom),
    (&["facing", "away", "from"], Place::FarFrom),
    (&["directly", "above"], Place::Above),
    (&["directly", "below"], Place::Below),
    (&["directly", "over"], Place::Above),
    (&["directly", "under"], Place::Below),
    (&["next", "to"], Place::Near),
    (&["close", "to"], Place::Near),
    (&["adjacent", "to"], Place::Near),
    (&["opposite", "to"], Place::Facing),
    (&["across", "from"], Place::Facing),
    (&["attached", "to"], Place::Touching),
    (&["connected", "to"], Place::Touching),
    (&["surrounded", "by"], Place::In),
    (&["covered", "by"], Place::Below),
    (&["above"], Place::Above),
    (&["over"], Place::Above),
    (&["below"], Place::Below),
    (&["beneath"], Place::Below),
    (&["underneath"], Place::Below),
    (&["under"], Place::Below),
    (&["behind"], Place::Behind),
    (&["beside"], Place::Near),
    (&["by"], Place::Near),
    (&["near"], Place::Near),
    (&["alongside"], Place::Near),
    (&["against"], Place::Touching),
    (&["between"], Place::Between),
    (&["around"], Place::Around),
    (&["inside"], Place::In),
    (&["within"], Place::In),
    (&["touching"], Place::Touching),
    (&["facing"], Place::Facing),
    (&["on"], Place::On),
    (&["in"], Place::In),
];

/// Other prepositions: they join two things without a place that a picture shows.
pub(super) const PREPOSITIONS: [&str; 20] = [
    "with", "of", "at", "to", "from", "for", "about", "into", "onto", "through", "across", "along", "toward",
    "towards", "like", "during", "among", "past", "off", "down",
];

/// Words that open a noun phrase.
pub(super) const DETERMINERS: [&str; 22] = [
    "a", "an", "the", "this", "that", "these", "those", "my", "your", "his", "her", "its", "our", "their", "some",
    "any", "each", "every", "all", "both", "another", "several",
];

/// Words that cannot be part of a noun phrase.
pub(super) const STOPS: [&str; 66] = [
    "is", "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "has", "have", "had", "can", "could",
    "will", "would", "should", "may", "might", "must", "and", "or", "but", "nor", "so", "if", "than", "then", "as",
    "because", "while", "when", "where", "who", "whom", "whose", "which", "what", "how", "why", "there", "here", "it",
    "he", "she", "they", "we", "i", "you", "me", "him", "them", "us", "please", "who's", "that's", "there's", "it's",
    "also", "only", "just", "not", "vs", "versus",
];

/// Words that deny what follows.
pub(super) const DENIALS: [&str; 14] = [
    "no",
    "without",
    "not",
    "none",
    "never",
    "except",
    "excluding",
    "minus",
    "lacking",
    "lacks",
    "sans",
    "missing",
    "neither",
    "nor",
];

/// Things whose name begins with what looks like an attribute.
pub(super) const COMPOUNDS: [[&str; 2]; 22] = [
    ["hot", "dog"],
    ["hot", "dogs"],
    ["hot", "air"],
    ["hot", "tub"],
    ["open", "sign"],
    ["red", "panda"],
    ["red", "pandas"],
    ["polar", "bear"],
    ["black", "bear"],
    ["black", "board"],
    ["glass", "door"],
    ["paper", "towel"],
    ["paper", "clip"],
    ["brick", "wall"],
    ["stone", "wall"],
    ["light", "bulb"],
    ["light", "switch"],
    ["light", "pole"],
    ["long", "board"],
    ["square", "root"],
    ["round", "about"],
    ["orange", "juice"],
];

/// Words after a noun that say nothing of it.
pub(super) const TRAILERS: [&str; 9] =
    ["visible", "present", "available", "total", "altogether", "other", "only", "alone", "overall"];

/// Nouns that end like a participle.
pub(super) const ING_NOUNS: [&str; 46] = [
    "building",
    "painting",
    "wing",
    "ring",
    "king",
    "ceiling",
    "string",
    "wedding",
    "clothing",
    "swing",
    "spring",
    "morning",
    "evening",
    "railing",
    "parking",
    "thing",
    "drawing",
    "earring",
    "pudding",
    "icing",
    "dressing",
    "stuffing",
    "topping",
    "sibling",
    "duckling",
    "lightning",
    "crossing",
    "landing",
    "opening",
    "lighting",
    "writing",
    "lettering",
    "bedding",
    "stocking",
    "fencing",
    "awning",
    "herring",
    "living",
    "dining",
    "swimming",
    "shopping",
    "cutting",
    "ironing",
    "washing",
    "frosting",
    "meeting",
];

/// A number word's value.
pub(super) fn number(word: &str) -> Option<u32> {
    const WORDS: [&str; 21] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ];
    if let Some(value) = WORDS.iter().position(|w| *w == word) {
        return u32::try_from(value).ok();
    }
    match word {
        "thirty" => Some(30),
        "forty" => Some(40),
        "fifty" => Some(50),
        "hundred" => Some(100),
        "dozen" => Some(12),
        _ => word.replace(',', "").parse().ok().filter(|n| *n <= 100_000),
    }
}

/// Whether a word says how many.
pub fn is_number(word: &str) -> bool {
    number(word).is_some()
}

/// The singular of an English noun, as a detector's label would have it.
pub fn singular(word: &str) -> String {
    const IRREGULAR: [(&str, &str); 22] = [
        ("people", "person"),
        ("persons", "person"),
        ("men", "man"),
        ("women", "woman"),
        ("children", "child"),
        ("mice", "mouse"),
        ("geese", "goose"),
        ("feet", "foot"),
        ("teeth", "tooth"),
        ("oxen", "ox"),
        ("knives", "knife"),
        ("leaves", "leaf"),
        ("loaves", "loaf"),
        ("shelves", "shelf"),
        ("wolves", "wolf"),
        ("calves", "calf"),
        ("scarves", "scarf"),
        ("halves", "half"),
        ("buses", "bus"),
        ("skis", "skis"),
        ("scissors", "scissors"),
        ("glasses", "glasses"),
    ];
    let (head, last) = word.rsplit_once(' ').map_or(("", word), |(head, last)| (head, last));
    let one = if let Some((_, one)) = IRREGULAR.iter().find(|(many, _)| *many == last) {
        (*one).to_owned()
    } else if let Some(stem) = last.strip_suffix("women") {
        format!("{stem}woman")
    } else if let Some(stem) = last.strip_suffix("men").filter(|stem| stem.len() > 2) {
        format!("{stem}man")
    } else if let Some(stem) = last
        .strip_suffix("ies")
        .filter(|stem| stem.len() > 2 && !matches!(*stem, "cook" | "brown" | "mov" | "zomb" | "hood" | "cab"))
    {
        format!("{stem}y")
    } else if let Some(stem) = ["sses", "shes", "ches", "xes", "zes"]
        .iter()
        .find_map(|end| last.ends_with(end).then(|| &last[..last.len() - 2]))
    {
        stem.to_owned()
    } else if ["potatoes", "tomatoes", "heroes", "mosquitoes", "volcanoes", "mangoes", "echoes"].contains(&last) {
        last.strip_suffix("es").unwrap_or(last).to_owned()
    } else if last.ends_with('s')
        && !["ss", "us", "is"].iter().any(|end| last.ends_with(end))
        && !["gas", "canvas", "atlas", "christmas", "pyjamas", "pajamas", "jeans", "pants", "shorts", "trousers"]
            .contains(&last)
        && last.len() > 3
    {
        last.strip_suffix('s').unwrap_or(last).to_owned()
    } else {
        last.to_owned()
    };
    if head.is_empty() { one } else { format!("{head} {one}") }
}

/// Whether a noun is written in the plural.
pub(super) fn is_plural(word: &str) -> bool {
    singular(word) != word || ["sheep", "fish", "deer", "aircraft", "police", "cattle"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::singular;

    #[test]
    fn plurals_become_labels() {
        for (many, one) in [
            ("dogs", "dog"),
            ("people", "person"),
            ("traffic lights", "traffic light"),
            ("buses", "bus"),
            ("potatoes", "potato"),
            ("cherries", "cherry"),
            ("cookies", "cookie"),
            ("glass", "glass"),
            ("bus", "bus"),
            ("firemen", "fireman"),
            ("benches", "bench"),
            ("horse", "horse"),
            ("pandas", "panda"),
            ("shoes", "shoe"),
            ("canvas", "canvas"),
            ("horses", "horse"),
            ("men", "man"),
        ] {
            assert_eq!(singular(many), one);
        }
    }
}

//! Which language a request is written in, as far as a search needs to know: OpenAI's and LAION's CLIP models learned
//! from English captions, and a request in another language ranks nearly at random without any sign of it.

/// Function words that mark a language. Words that English shares ("in", "die", "no", "me", "on") are left out.
const FUNCTION_WORDS: [(&str, &[&str]); 6] = [
    (
        "Spanish",
        &[
            "el", "la", "los", "las", "un", "una", "unos", "unas", "de", "del", "en", "con", "sin", "para", "y", "que",
            "por", "al", "sobre", "cerca", "foto", "fotos", "imagen",
        ],
    ),
    (
        "German",
        &[
            "der", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "im", "mit", "ohne", "und",
            "auf", "von", "vor", "bei", "beim", "zwischen", "unter", "über", "ist", "nicht", "bild", "bilder", "zum",
            "zur",
        ],
    ),
    (
        "French",
        &[
            "le", "la", "les", "un", "une", "des", "du", "de", "dans", "avec", "sans", "sur", "sous", "et", "au",
            "aux", "qui", "est", "pour", "près", "chez", "entre",
        ],
    ),
    (
        "Italian",
        &[
            "il", "lo", "gli", "un", "una", "uno", "di", "della", "delle", "dei", "nel", "nella", "con", "senza",
            "sul", "sulla", "che", "vicino", "sotto", "sopra", "foto", "immagine",
        ],
    ),
    (
        "Portuguese",
        &[
            "o", "os", "um", "uma", "uns", "umas", "de", "da", "das", "dos", "em", "na", "nas", "com", "sem", "para",
            "ao", "e", "perto", "foto", "fotos", "imagem",
        ],
    ),
    (
        "Dutch",
        &[
            "het", "een", "van", "met", "zonder", "naar", "bij", "voor", "onder", "tussen", "zijn", "foto's", "op",
            "de", "aan",
        ],
    ),
];

/// English words that are frequent in requests; each speaks against another language.
const ENGLISH_WORDS: [&str; 40] = [
    "the", "of", "and", "with", "without", "on", "at", "by", "to", "is", "are", "for", "from", "near", "under", "over",
    "photo", "photos", "picture", "pictures", "image", "images", "dog", "cat", "man", "woman", "people", "find",
    "show", "me", "my", "that", "this", "where", "which", "wearing", "holding", "riding", "sitting", "standing",
];

/// Letters that one of the languages above has and English lacks.
const MARKS: [(&str, &str); 5] =
    [("Spanish", "ñ¿¡"), ("German", "ßäöü"), ("French", "œêîûùë"), ("Portuguese", "ãõ"), ("Italian", "ìò")];

/// Names the language of a request when it is recognisably not English.
///
/// A script of its own decides at once; in Latin script, function words and letters vote, and a tie or a lone content
/// word ("perro") counts as English, since names and brands look the same.
pub fn other_than_english(text: &str) -> Option<&'static str> {
    if let Some(language) = by_script(text) {
        return Some(language);
    }
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !(c.is_alphabetic() || c == '\'')).filter(|word| !word.is_empty()).collect();
    let english = words.iter().filter(|word| ENGLISH_WORDS.contains(word)).count();
    let mut best: Option<(&'static str, usize)> = None;
    for (language, function_words) in FUNCTION_WORDS {
        let votes = words.iter().filter(|word| function_words.contains(word)).count();
        let marks = MARKS
            .iter()
            .find(|(name, _)| *name == language)
            .map_or(0, |(_, letters)| lower.chars().filter(|c| letters.contains(*c)).count());
        let score = votes + marks;
        if best.is_none_or(|(_, most)| score > most) {
            best = Some((language, score));
        }
    }
    // A name such as "Los Angeles" or "Le Mans" has one such word among others.
    best.filter(|(_, score)| *score > english && (*score >= 2 || words.len() <= 3 && words.len() > 1 && *score == 1))
        .filter(|(_, score)| *score >= 2 || !starts_like_a_name(text))
        .map(|(language, _)| language)
}

/// Letters of a script outside Latin, when they make up at least a third of the text's letters.
fn by_script(text: &str) -> Option<&'static str> {
    let mut counts: [(&'static str, usize); 9] = [
        ("Chinese", 0),
        ("Japanese", 0),
        ("Korean", 0),
        ("Russian", 0),
        ("Greek", 0),
        ("Arabic", 0),
        ("Hebrew", 0),
        ("Hindi", 0),
        ("Thai", 0),
    ];
    let mut letters = 0;
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        let slot = match c {
            '\u{3040}'..='\u{30ff}' => 1,
            '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{2fa1f}' => 0,
            '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}' => 2,
            '\u{0400}'..='\u{052f}' => 3,
            '\u{0370}'..='\u{03ff}' => 4,
            '\u{0600}'..='\u{06ff}' => 5,
            '\u{0590}'..='\u{05ff}' => 6,
            '\u{0900}'..='\u{097f}' => 7,
            '\u{0e00}'..='\u{0e7f}' => 8,
            _ => continue,
        };
        if let Some(entry) = counts.get_mut(slot) {
            entry.1 += 1;
        }
    }
    // Japanese is written with Chinese characters too: any kana decides.
    if counts[1].1 > 0 {
        counts[1].1 += counts[0].1;
    }
    counts.into_iter().max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0 && *n * 3 >= letters).map(|(name, _)| name)
}

fn starts_like_a_name(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.len() >= 2 && words.iter().all(|word| word.chars().next().is_some_and(char::is_uppercase))
}

#[cfg(test)]
mod tests {
    use super::other_than_english;

    #[test]
    fn requests_in_other_languages_are_named() {
        for (text, language) in [
            ("un perro en la nieve", "Spanish"),
            ("niños jugando al fútbol", "Spanish"),
            ("Hund im Schnee", "German"),
            ("ein rotes Auto vor dem Haus", "German"),
            ("un chien dans la neige", "French"),
            ("gatto sul divano", "Italian"),
            ("cachorro na praia", "Portuguese"),
            ("hond op het strand", "Dutch"),
            ("雪の中の犬", "Japanese"),
            ("雪地里的狗", "Chinese"),
            ("눈 속의 개", "Korean"),
            ("собака в снегу", "Russian"),
        ] {
            assert_eq!(other_than_english(text), Some(language), "{text}");
        }
    }

    #[test]
    fn english_requests_and_names_are_not() {
        for text in [
            "a dog in the snow",
            "Los Angeles skyline at night",
            "Le Mans",
            "La Sagrada Familia",
            "café table with croissants",
            "die cast toy cars",
            "sunset",
            "man on a bike near the sea",
            "o'hare airport",
            "jalapeño peppers on a cutting board",
            "",
            "12345",
        ] {
            assert_eq!(other_than_english(text), None, "{text}");
        }
    }
}

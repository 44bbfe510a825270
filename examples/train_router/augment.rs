//! The same request as other people would type it: carriers before captions, capitals, missing marks, typos.

use crate::corpus::{Random, Sample};

/// What people put before a description of the picture they want.
const CARRIERS: [&str; 64] = [
    "find {}",
    "find images of {}",
    "find photos of {}",
    "find pictures of {}",
    "find me {}",
    "find me a photo of {}",
    "find a picture of {}",
    "show me {}",
    "show me photos of {}",
    "show me pictures of {}",
    "show me pictures where {}",
    "show me photos in which {}",
    "show {}",
    "search for {}",
    "search for images of {}",
    "search my photos for {}",
    "search my library for \"{}\"",
    "search the archive for {}",
    "search {}",
    "look for {}",
    "look for a photo of {}",
    "look up {}",
    "look up pictures - {}",
    "looking for {}",
    "i'm looking for a picture of {}",
    "i need {}",
    "i need a picture of {}",
    "i need an image of {}",
    "i want a photo of {}",
    "we need a shot of {}",
    "need: {}",
    "get me {}",
    "get images of {}",
    "get all images showing {}",
    "give me pictures of {}",
    "give me {}",
    "pull up {}",
    "pull up the photos of {}",
    "do you have {}",
    "do we have any photos of {}",
    "do you have a picture of {}",
    "any pictures of {}?",
    "any photos like this: {}",
    "have you got pictures like this: {}",
    "can you find {}",
    "can you find me {}",
    "can you show me {}",
    "could you look for {}",
    "could you find a photo of {}",
    "please find {}",
    "please show me {}",
    "photos of {}",
    "pictures of {}",
    "images of {}",
    "image of {}",
    "a photo of {}",
    "a picture of {}",
    "picture: {}",
    "wanted: {}",
    "query: {}",
    "photo of {} please",
    "pics of {}",
    "retrieve images of {}",
    "retrieve the images where {}",
];

/// Copies of a hand-written line, so that it weighs more than one draw of a grammar.
const COPIES_BY_HAND: usize = 6;

/// The training set, varied.
pub fn augment(samples: Vec<Sample>, random: &mut Random) -> Vec<Sample> {
    let mut out = Vec::with_capacity(samples.len() * 2);
    for sample in samples {
        let copies = if sample.by_hand { COPIES_BY_HAND } else { 1 };
        for copy in 0..copies {
            let mut text = sample.text.clone();
            if sample.wrap && sample.language == "en" && random.chance(0.4) {
                text = CARRIERS[random.below(CARRIERS.len())].replace("{}", &text);
            }
            if copy > 0 || !sample.by_hand {
                text = vary(&text, random);
            }
            out.push(Sample { text, ..sample.clone() });
        }
    }
    random.shuffle(&mut out);
    out
}

fn vary(text: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    match random.below(20) {
        0 => text = text.to_uppercase(),
        1..=5 => text = text.to_lowercase(),
        6..=8 => text = text.chars().take(1).flat_map(char::to_uppercase).chain(text.chars().skip(1)).collect(),
        _ => {}
    }
    match random.below(12) {
        0 => text = text.trim_end_matches(['.', '?', '!', '？', '。']).to_owned(),
        1 if !text.ends_with(['.', '?', '!', '？', '。']) => text.push('.'),
        2 if text.ends_with('?') => text = text.replace('?', ""),
        _ => {}
    }
    if random.chance(0.06) {
        text = typo(&text, random);
    }
    text
}

/// One slip of the fingers inside a word: two letters swapped, one dropped, one doubled.
fn typo(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    if chars.len() < 5 {
        return text.to_owned();
    }
    let at = 1 + random.below(chars.len() - 2);
    if !chars[at].is_alphabetic() || !chars[at + 1].is_alphabetic() {
        return text.to_owned();
    }
    match random.below(3) {
        0 => chars.swap(at, at + 1),
        1 => {
            chars.remove(at);
        }
        _ => chars.insert(at, chars[at]),
    }
    chars.into_iter().collect()
}

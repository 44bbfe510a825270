//! What the model looks at: words and their neighbours, letters inside words, the sentence's shape, and a few facts
//! about the whole request. Each feature knows the tokens it came from, so that a decision can point at its reasons.

use crate::knowledge::phrase::{self, Count, Parse, Thing};
use crate::knowledge::words::{Class, Kind, Token, class_of, class_of_word};

/// One feature of a request.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// Identifies it; equal features of two requests have equal hashes.
    pub hash: u64,
    /// Its value: one over the root of how many its family has here, so that long requests do not shout.
    pub value: f32,
    /// First token it came from.
    pub first: u16,
    /// Last token it came from; `WHOLE` for facts about the whole request.
    pub last: u16,
}

/// Marks a feature of the whole request.
pub const WHOLE: u16 = u16::MAX;

/// Families of features, each normalised by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Words,
    Letters,
    Shape,
    Pairs,
    Whole,
    Said,
}

const FAMILIES: usize = 6;

/// Longest word whose letters are looked at.
const LONGEST_WORD: usize = 24;

struct Collector {
    features: Vec<Feature>,
    families: Vec<Family>,
}

impl Collector {
    fn add(&mut self, family: Family, hash: u64, first: usize, last: usize) {
        let clamp = |at: usize| u16::try_from(at).unwrap_or(WHOLE - 1);
        let (first, last) = if family == Family::Whole { (WHOLE, WHOLE) } else { (clamp(first), clamp(last)) };
        self.features.push(Feature { hash, value: 0.0, first, last });
        self.families.push(family);
    }
}

/// All features of a request.
pub fn extract(tokens: &[Token]) -> Vec<Feature> {
    let mut to = Collector { features: Vec::with_capacity(tokens.len() * 24), families: Vec::new() };
    let words = word_keys(tokens);
    let shape = shape_of(tokens);
    word_sequences(&words, &mut to);
    letters(tokens, &mut to);
    shape_sequences(&shape, &mut to);
    pairs(tokens, &words, &shape, &mut to);
    whole(tokens, &shape, &mut to);
    said(tokens, &phrase::parse_tokens(tokens), &mut to);
    let mut counts = [0_u32; FAMILIES];
    for family in &to.families {
        counts[*family as usize] += 1;
    }
    for (feature, family) in to.features.iter_mut().zip(&to.families) {
        let count = counts[*family as usize].max(1) as f32;
        feature.value = match family {
            Family::Whole | Family::Said => 0.5,
            Family::Words => 2.0 / count.sqrt(),
            _ => 1.0 / count.sqrt(),
        };
    }
    to.features
}

/// What a token counts as among words: numbers, files and model numbers stand for their kind.
fn word_keys(tokens: &[Token]) -> Vec<u64> {
    tokens
        .iter()
        .map(|token| match token.kind {
            Kind::File => hash(b"<file>", 1),
            Kind::Number if token.text.len() > 1 => hash(b"<number>", 1),
            _ => hash(token.text.as_bytes(), 1),
        })
        .collect()
}

/// Runs of one to four neighbouring words, with the ends of the request as words of their own.
fn word_sequences(words: &[u64], to: &mut Collector) {
    let start = hash(b"<start>", 1);
    let end = hash(b"<end>", 1);
    let at = |position: isize| match usize::try_from(position) {
        Err(_) => start,
        Ok(position) => words.get(position).copied().unwrap_or(end),
    };
    let count = words.len() as isize;
    for position in -1..count {
        let mut key = 2;
        for length in 1..=4_isize {
            let last = position + length - 1;
            if last > count {
                break;
            }
            key = join(key, at(last));
            if length > 1 || position >= 0 {
                let first = position.max(0) as usize;
                to.add(Family::Words, join(key, length as u64), first, (last.min(count - 1)).max(0) as usize);
            }
        }
    }
}

/// Runs of three to five letters inside words, ends marked; runs of characters in scripts without spaces.
fn letters(tokens: &[Token], to: &mut Collector) {
    let mut chars: Vec<char> = Vec::with_capacity(LONGEST_WORD + 2);
    for (at, token) in tokens.iter().enumerate() {
        if !matches!(token.kind, Kind::Word | Kind::Mixed) {
            continue;
        }
        chars.clear();
        chars.push('<');
        chars.extend(token.text.chars().take(LONGEST_WORD));
        chars.push('>');
        // Hangul and other syllable scripts say in one character what takes Latin three letters.
        let wide = token.text.chars().next().is_some_and(|c| matches!(c, '\u{ac00}'..='\u{d7af}'));
        let lengths = if wide { 1..=3 } else { 3..=5 };
        for length in lengths {
            for run in chars.windows(length) {
                if run != ['<'] && run != ['>'] {
                    to.add(Family::Letters, hash_chars(run, 3), at, at);
                }
            }
        }
    }
}

/// A token as its place in a sentence: function words stay themselves, others are their class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    key: u64,
    class: Option<Class>,
    first: usize,
    last: usize,
}

/// The shape of a request; neighbouring words of no class become one.
pub fn shape_of(tokens: &[Token]) -> Vec<Symbol> {
    let mut shape: Vec<Symbol> = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        let class = class_of(token);
        let key = match class {
            Some(Class::Function) => hash(token.text.as_bytes(), 4),
            Some(class) => class as u64 + 1_000,
            None => word_form(token),
        };
        let symbol = Symbol { key, class, first: at, last: at };
        match shape.last_mut() {
            Some(last) if last.key == symbol.key && class.is_none() => last.last = at,
            _ => shape.push(symbol),
        }
    }
    shape
}

/// What the form of an unknown word says: its ending, its capital, its script.
fn word_form(token: &Token) -> u64 {
    let text = &token.text;
    match token.kind {
        Kind::File => 2_000,
        Kind::Number => 2_001,
        Kind::Mixed => 2_002,
        Kind::Sign => hash(text.as_bytes(), 5),
        Kind::Ideograph => hash(text.as_bytes(), 6),
        Kind::Word if token.quoted => 2_003,
        Kind::Word if text.ends_with("ing") && text.len() > 4 => 2_004,
        Kind::Word if text.ends_with("ed") && text.len() > 3 => 2_005,
        Kind::Word if text.ends_with('s') && !text.ends_with("ss") && text.len() > 3 => 2_006,
        Kind::Word if text.ends_with("ly") && text.len() > 4 => 2_007,
        Kind::Word if !text.is_ascii() => 2_008,
        Kind::Word => 2_009,
    }
}

fn shape_sequences(shape: &[Symbol], to: &mut Collector) {
    let start = Symbol { key: 1, class: None, first: 0, last: 0 };
    let end = Symbol { key: 2, class: None, first: usize::MAX, last: usize::MAX };
    let padded: Vec<Symbol> = std::iter::once(start).chain(shape.iter().copied()).chain(std::iter::once(end)).collect();
    let last_token = shape.last().map_or(0, |symbol| symbol.last);
    for position in 0..padded.len() {
        let mut key = 7;
        for (length, symbol) in padded.iter().skip(position).take(6).enumerate() {
            key = join(key, symbol.key);
            if length >= 1 {
                let first = padded.get(position).map_or(0, |symbol| symbol.first);
                to.add(Family::Shape, join(key, length as u64 + 1), first, symbol.last.min(last_token));
            }
        }
    }
}

/// Two things that stand apart: a question word and what follows later, two persons, two attributes.
fn pairs(tokens: &[Token], words: &[u64], shape: &[Symbol], to: &mut Collector) {
    // Classes of content, in order, whatever lies between.
    let content: Vec<&Symbol> =
        shape.iter().filter(|symbol| symbol.class.is_some_and(|class| class != Class::Function)).take(24).collect();
    for (at, a) in content.iter().enumerate() {
        for b in content.iter().skip(at + 1).take(4) {
            to.add(Family::Pairs, join(join(8, a.key), b.key), a.first, b.last);
        }
    }
    // Words with a gap of one or two.
    for (at, a) in words.iter().enumerate() {
        for gap in 2..=3 {
            if let Some(b) = words.get(at + gap) {
                to.add(Family::Pairs, join(join(9, *a), *b), at, at + gap);
            }
        }
    }
    // The first two words with every later one: "how many … left of".
    if let (Some(a), Some(first)) = (words.first(), tokens.first())
        && first.kind == Kind::Word
    {
        let opening = words.get(1).map_or(*a, |b| join(*a, *b));
        for (at, b) in words.iter().enumerate().skip(2).take(30) {
            to.add(Family::Pairs, join(join(10, opening), *b), 0, at);
        }
    }
}

/// Facts about the whole request.
fn whole(tokens: &[Token], shape: &[Symbol], to: &mut Collector) {
    let mut fact = |name: &str, value: usize| {
        to.add(Family::Whole, join(hash(name.as_bytes(), 11), value as u64), 0, 0);
    };
    let count = |test: fn(&Token) -> bool| tokens.iter().filter(|token| test(token)).count();
    let of_class = |class: Class| shape.iter().filter(|symbol| symbol.class == Some(class)).count();
    let words = count(|token| matches!(token.kind, Kind::Word | Kind::Ideograph));
    fact("bias", 0);
    fact(
        "length",
        match words {
            0..=4 => words,
            5..=6 => 5,
            7..=9 => 6,
            10..=14 => 7,
            15..=24 => 8,
            _ => 9,
        },
    );
    fact("question", usize::from(tokens.iter().any(|token| token.text == "?")));
    fact("ends in a question mark", usize::from(tokens.last().is_some_and(|token| token.text == "?")));
    fact("files", count(|token| token.kind == Kind::File).min(3));
    fact("quoted", count(|token| token.quoted).min(3));
    fact("mixed", count(|token| token.kind == Kind::Mixed).min(3));
    fact("numbers", count(|token| token.kind == Kind::Number).min(3));
    // Capitals inside a request that is not all capitals mark names.
    let capitals = tokens.iter().skip(1).filter(|token| token.capital && token.kind == Kind::Word).count();
    let lower = count(|token| token.kind == Kind::Word && !token.capital);
    fact("names", if lower == 0 && capitals > 3 { 9 } else { capitals.min(4) });
    fact("all capital words", usize::from(lower == 0 && capitals > 0));
    fact("commas", count(|token| token.text == ",").min(4));
    fact("slashes", count(|token| token.text == "/").min(4));
    fact("brackets", count(|token| matches!(token.text.as_str(), "[" | "{" | "(")).min(2));
    fact("colon", count(|token| token.text == ":").min(2));
    for class in Class::CONTENT {
        fact("class", class as usize * 10 + of_class(class).min(3));
    }
    fact(
        "attributes and things",
        (of_class(Class::Colour) + of_class(Class::Attribute)).min(4) * 10 + of_class(Class::Person).min(3),
    );
    fact("animate", (of_class(Class::Person) + of_class(Class::Animal)).min(4));
}

/// What the parsed caption says: things with attributes, who acts on whom, places, counts, absences.
fn said(tokens: &[Token], parse: &Parse, to: &mut Collector) {
    let token_at = |character: usize| tokens.iter().position(|token| token.start <= character && character < token.end);
    let range = |thing: &Thing| {
        let first = token_at(thing.start).unwrap_or(0);
        (first, token_at(thing.end.saturating_sub(1)).unwrap_or(first))
    };
    let kind = |thing: &Thing| match class_of_word(thing.head.rsplit(' ').next().unwrap_or_default()) {
        Some(Class::Person) => 1,
        Some(Class::Animal) => 2,
        _ => 0_usize,
    };
    let mut fact = |name: &str, value: usize, things: &[&Thing]| {
        let ranges: Vec<(usize, usize)> = things.iter().map(|thing| range(thing)).collect();
        let first = ranges.iter().map(|(first, _)| *first).min().unwrap_or(0);
        let last = ranges.iter().map(|(_, last)| *last).max().unwrap_or(0);
        to.add(Family::Said, join(hash(name.as_bytes(), 13), value as u64), first, last);
    };
    let attributed: Vec<&Thing> = parse.things.iter().filter(|thing| !thing.attributes.is_empty()).collect();
    if attributed.len() > 1 {
        fact("attributed", attributed.len().min(4), &attributed);
    }
    for thing in parse.things.iter().filter(|thing| thing.negated) {
        fact("absent", kind(thing), &[thing]);
    }
    for thing in &parse.things {
        match thing.count {
            Some(Count::Exactly(n)) if n > 1 => fact("exactly", kind(thing) * 2 + usize::from(thing.plural), &[thing]),
            Some(Count::Asked) => fact("asked", 0, &[thing]),
            Some(Count::AtLeast(_) | Count::AtMost(_)) => fact("bound", 0, &[thing]),
            _ => {}
        }
    }
    let mut joined = 0;
    for relation in &parse.relations {
        let Some((subject, object)) = parse.things.get(relation.subject).zip(parse.things.get(relation.object)) else {
            continue;
        };
        let kinds = kind(subject) * 3 + kind(object);
        if relation.action && relation.place.is_none() {
            fact("acts on", kinds, &[subject, object]);
        }
        if let Some(place) = relation.place {
            let between = relation.words.split(' ').next().is_some_and(|word| matches!(word, "is" | "are"));
            fact("place", (place as usize * 9 + kinds) * 2 + usize::from(between), &[subject, object]);
            fact("place alone", place as usize * 2 + usize::from(relation.action), &[subject, object]);
        }
        joined += 1;
    }
    fact("things", parse.things.len().min(5) * 10 + joined.min(4), &[]);
    fact("attributed and things", attributed.len().min(4) * 10 + parse.things.len().min(5), &[]);
}

/// FNV-1a with a finaliser; `salt` separates families.
fn hash(bytes: &[u8], salt: u64) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    finish(state)
}

fn hash_chars(chars: &[char], salt: u64) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for c in chars {
        state = (state ^ u64::from(*c as u32)).wrapping_mul(0x0100_0000_01b3);
    }
    finish(state)
}

fn join(a: u64, b: u64) -> u64 {
    finish(a.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ b)
}

fn finish(mut state: u64) -> u64 {
    state ^= state >> 32;
    state = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    state ^= state >> 32;
    state
}

//! Captions of scenes, in the wordings that alternative texts on the web use.

use super::random::Random;
use super::{Relation, Scene, Shape, Thing};

/// The numbers that captions spell out, from 0.
pub const NUMBER_WORDS: [&str; 10] = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// What a caption speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptionStyle {
    /// One of the things: "a red circle", or "red circles" where there are several.
    One,
    /// All things, without numbers: "red circles and a blue square".
    All,
    /// One thing's shape: "a circle".
    Shape,
    /// One thing's colour: "a red object".
    Colour,
    /// One thing's bare words: "red circle", "circle", "red".
    Tags,
    /// All things and the background: "a red circle on a striped background".
    Background,
    /// All things with their numbers: "three red circles and one blue square".
    Counted,
    /// How the first stands to the second: "a red circle left of a blue square"; as [`Self::All`] where it is unclear.
    Related,
    /// What is there, and a shape that is not: "a red circle but no ring".
    Without,
}

/// Styles with their share of the training captions, per cent.
///
/// Most alternative texts name what is there. Words of place are rare in LAION-2B and seldom reliable (Kamath et al.,
/// "What's 'up' with vision-language models?", EMNLP 2023); exact numbers and negations are rare too. The last three
/// styles have a few per cent, so that their words are known.
const NATURAL_SHARES: [(CaptionStyle, usize); 9] = [
    (CaptionStyle::One, 34),
    (CaptionStyle::All, 24),
    (CaptionStyle::Shape, 13),
    (CaptionStyle::Colour, 10),
    (CaptionStyle::Tags, 9),
    (CaptionStyle::Background, 6),
    (CaptionStyle::Counted, 2),
    (CaptionStyle::Related, 1),
    (CaptionStyle::Without, 1),
];

/// What may stand around a caption that begins with an article, a number or a plural.
const FRAMES: [(&str, &str); 12] = [
    ("", ""),
    ("", ""),
    ("", ""),
    ("a photo of ", ""),
    ("a photo of ", "."),
    ("a photo of ", ""),
    ("a picture of ", ""),
    ("an image of ", ""),
    ("a drawing of ", "."),
    ("the picture shows ", "."),
    ("a scene with ", ""),
    ("", " in the picture"),
];

impl Scene {
    /// A caption in this style; the wording is drawn from `random`.
    pub fn caption(&self, style: CaptionStyle, random: &mut Random) -> String {
        let mut groups = self.groups();
        random.shuffle(&mut groups);
        let Some(&(thing, count)) = groups.first() else { return framed("nothing", random) };
        let shape = if count > 1 { thing.shape.plural() } else { thing.shape.name() };
        let body = match style {
            CaptionStyle::One => uncounted(thing, count),
            CaptionStyle::All => joined(&groups, uncounted),
            CaptionStyle::Shape if count > 1 => shape.to_owned(),
            CaptionStyle::Shape => with_article(shape),
            CaptionStyle::Colour => coloured(thing, count, random),
            CaptionStyle::Tags => {
                let colour = thing.colour.name();
                let tags =
                    [shape.to_owned(), colour.to_owned(), format!("{colour} {shape}"), format!("{shape}, {colour}")];
                let tag = &tags[random.below(tags.len())];
                // Labels often end up in a template that does not quite fit them: "a photo of a red."
                if random.chance(0.3) { with_article(tag) } else { return tag.clone() }
            }
            CaptionStyle::Background => {
                let all = joined(&groups, uncounted);
                format!("{all} on {} background", with_article(self.background_word(random)))
            }
            CaptionStyle::Counted => {
                let digits = random.chance(0.3);
                joined(&groups, |thing, count| if digits { in_digits(thing, count) } else { counted(thing, count) })
            }
            CaptionStyle::Related => self.related(random).unwrap_or_else(|| joined(&groups, uncounted)),
            CaptionStyle::Without => self.negated(&joined(&groups, uncounted), random),
        };
        framed(&body, random)
    }

    /// A caption as the starter model learns from: styles in the shares that web captions suggest.
    pub fn natural_caption(&self, random: &mut Random) -> String {
        let mut drawn = random.below(NATURAL_SHARES.iter().map(|(_, share)| share).sum());
        for (style, share) in NATURAL_SHARES {
            if drawn < share {
                return self.caption(style, random);
            }
            drawn -= share;
        }
        self.caption(CaptionStyle::All, random)
    }

    /// Equal things together with their number, in order of first appearance.
    fn groups(&self) -> Vec<(Thing, usize)> {
        let mut groups: Vec<(Thing, usize)> = Vec::new();
        for thing in self.things() {
            match groups.iter_mut().find(|(known, _)| *known == thing) {
                Some((_, count)) => *count += 1,
                None => groups.push((thing, 1)),
            }
        }
        groups
    }

    fn background_word(&self, random: &mut Random) -> &'static str {
        match (self.background.dark, random.chance(0.5)) {
            (_, true) => self.background.pattern.name(),
            (true, false) => "dark",
            (false, false) => "light",
        }
    }

    fn related(&self, random: &mut Random) -> Option<String> {
        let [first, second] = self.objects.as_slice() else { return None };
        let relation = self.relation()?;
        let words = match (relation, random.below(3)) {
            (Relation::LeftOf, 0) => "to the left of",
            (Relation::RightOf, 0) => "to the right of",
            (Relation::Above, 0) => "over",
            (Relation::Below, 0) => "under",
            _ => relation.words(),
        };
        let [subject, object] = [first, second].map(|object| with_article(&object.thing.to_string()));
        Some(format!("{subject} {words} {object}"))
    }

    fn negated(&self, all: &str, random: &mut Random) -> String {
        let present: Vec<Shape> = self.things().map(|thing| thing.shape).collect();
        let absent: Vec<Shape> = Shape::ALL.into_iter().filter(|shape| !present.contains(shape)).collect();
        let Some(shape) = absent.get(random.below(absent.len())) else { return all.to_owned() };
        match random.below(4) {
            0 => format!("{all} but no {}", shape.name()),
            2 => format!("{all}, not {}", with_article(shape.name())),
            1 => format!("{all} without {}", with_article(shape.name())),
            _ => format!("no {} but {all}", shape.name()),
        }
    }
}

/// A noun phrase behind its indefinite article: "an orange ring".
pub fn with_article(phrase: &str) -> String {
    let article = if phrase.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {phrase}")
}

/// A thing with its number spelled out: "three red circles".
pub fn counted(thing: Thing, count: usize) -> String {
    NUMBER_WORDS
        .get(count)
        .map_or_else(|| in_digits(thing, count), |word| format!("{word} {}", inflected(thing, count)))
}

fn in_digits(thing: Thing, count: usize) -> String {
    format!("{count} {}", inflected(thing, count))
}

fn uncounted(thing: Thing, count: usize) -> String {
    if count == 1 { with_article(&thing.to_string()) } else { inflected(thing, count) }
}

fn inflected(thing: Thing, count: usize) -> String {
    let shape = if count == 1 { thing.shape.name() } else { thing.shape.plural() };
    format!("{} {shape}", thing.colour.name())
}

fn coloured(thing: Thing, count: usize, random: &mut Random) -> String {
    let colour = thing.colour.name();
    match (count, random.below(4)) {
        (1, 0) => with_article(&format!("{colour} shape")),
        (1, 1) => format!("something {colour}"),
        (1, _) => with_article(&format!("{colour} object")),
        (_, 0) => format!("{colour} shapes"),
        _ => format!("{colour} objects"),
    }
}

/// "a red circle, green rings and a blue square".
fn joined(groups: &[(Thing, usize)], say: impl Fn(Thing, usize) -> String) -> String {
    let mut parts: Vec<String> = groups.iter().map(|&(thing, count)| say(thing, count)).collect();
    let last = parts.pop().unwrap_or_default();
    if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) }
}

fn framed(body: &str, random: &mut Random) -> String {
    let (before, after) = random.pick(&FRAMES);
    format!("{before}{body}{after}")
}

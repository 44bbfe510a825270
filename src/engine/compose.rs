//! Whether a picture shows what a text claims, claim by claim: things by a detector's boxes, attributes by an image-text model on
//! what is in the boxes, places by the boxes' geometry, numbers and absence by all boxes together. What nothing here can see
//! is said to be unchecked.
//!
//! A [`Checker`] is made once for some texts and then looks at any number of pictures.

use std::sync::Arc;

use image::RgbImage;

use super::detectors::class_of;
use super::looks::{self, Look};
use super::relate::{FAILS, HOLDS};
use super::{Engine, Watch};
use crate::error::{Error, Result};
use crate::knowledge;
use crate::knowledge::claims::{Claim, Claims};
use crate::models::{Detection, Detector, Encoder};

mod attributes;
mod judge;
mod matching;

use attributes::{Asked, Crops};
pub use judge::Seen;
pub use matching::{Decider, Matched, Matching, best_caption};

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is true of the picture.
    Holds,
    /// It is not.
    Fails,
    /// It was looked at and may be either.
    Unsure,
    /// Nothing here can see it.
    Unchecked,
}

impl Verdict {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Unsure => "unsure",
            Self::Unchecked => "unchecked",
        }
    }

    fn of(probability: f32) -> Self {
        if probability >= HOLDS {
            Self::Holds
        } else if probability <= FAILS {
            Self::Fails
        } else {
            Self::Unsure
        }
    }
}

/// A claim, and what the picture says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Phrase {
    /// The claim in words: "2 x red car", "cup left of laptop", "no dog".
    pub text: String,
    /// What kind of claim: `thing`, `number`, `absence`, `relation`, `action`.
    pub kind: &'static str,
    /// Probability that it holds; `None` where nothing can see it.
    pub probability: Option<f32>,
    /// What to think of it.
    pub verdict: Verdict,
    /// What was seen, or why nothing was.
    pub seen: String,
    /// The boxes that it rests on, best first.
    pub boxes: Vec<Detection>,
}

impl Phrase {
    fn checked(text: String, kind: &'static str, probability: f32, seen: String, boxes: Vec<Detection>) -> Self {
        Self { text, kind, probability: Some(probability), verdict: Verdict::of(probability), seen, boxes }
    }

    fn unchecked(text: String, kind: &'static str, why: String) -> Self {
        Self { text, kind, probability: None, verdict: Verdict::Unchecked, seen: why, boxes: Vec::new() }
    }
}

/// The probability that all that was checked holds, the claims taken for independent; 1 where nothing was. No single one
/// decides alone.
pub fn together(phrases: &[Phrase]) -> f32 {
    const LIMIT: f32 = 0.005;
    phrases.iter().filter_map(|phrase| phrase.probability).map(|p| p.clamp(LIMIT, 1.0 - LIMIT)).product()
}

/// A thing of a text, as it can be looked for.
#[derive(Debug)]
struct Ground {
    /// Position in the detector's labels.
    class: Option<usize>,
    /// Its attributes.
    asked: Vec<Asked>,
    /// The whole of it in words, for the image-text model. Shape: `[dim]`, unit length.
    whole: Option<Vec<f32>>,
}

/// A text's claims and how its things are looked for.
#[derive(Debug)]
struct Prepared {
    claims: Claims,
    grounds: Vec<Ground>,
}

/// Looks at pictures for what some texts claim.
#[derive(Debug)]
pub struct Checker {
    texts: Vec<Prepared>,
    detector: Option<Arc<Detector>>,
    /// Why there is no detector.
    without: Option<String>,
    encoder: Option<Arc<Encoder>>,
    nulls: Vec<Vec<f32>>,
    how: Look,
}

impl Engine {
    /// Prepares to look for what texts claim. Without a detector on this machine claims about things stay unchecked; without
    /// an encoder so do attributes and what no detector knows.
    ///
    /// # Errors
    /// A model is refused or fails; the caller cancelled.
    pub fn checker(&self, texts: &[Claims], encoder: Option<Arc<Encoder>>, watch: &Watch<'_>) -> Result<Checker> {
        let mut heads: Vec<String> = Vec::new();
        for text in texts {
            for thing in text.claims.iter().flat_map(needed) {
                let head = text.things.get(thing).map(|thing| thing.head.clone()).unwrap_or_default();
                if !head.is_empty() && !heads.contains(&head) {
                    heads.push(head);
                }
            }
        }
        let (detector, without) = match self.detector_for(&heads, watch) {
            Ok(detector) => (Some(detector), None),
            // Its hint says all there is to say, once; here it stands beside every phrase.
            Err(error @ Error::NoDetector { easiest, .. }) => {
                (None, Some(format!("{error}: `clip-aware models fetch {easiest}`")))
            }
            Err(error) => return Err(error),
        };
        let checker = self.checker_with(texts, detector, encoder, watch)?;
        Ok(Checker { without, ..checker })
    }

    /// As [`Engine::checker`], with this detector.
    ///
    /// # Errors
    /// The encoder fails; the caller cancelled.
    pub fn checker_with(
        &self,
        texts: &[Claims],
        detector: Option<Arc<Detector>>,
        encoder: Option<Arc<Encoder>>,
        watch: &Watch<'_>,
    ) -> Result<Checker> {
        let nulls = match &encoder {
            Some(encoder) => self.null_vectors(encoder, watch)?,
            None => Vec::new(),
        };
        let mut prepared = Vec::with_capacity(texts.len());
        for claims in texts {
            watch.check()?;
            let ground = |thing| ground(thing, detector.as_deref(), encoder.as_deref(), watch);
            let grounds = claims.things.iter().map(ground).collect::<Result<_>>()?;
            prepared.push(Prepared { claims: claims.clone(), grounds });
        }
        let placed = texts.iter().flat_map(|text| &text.claims).any(|claim| matches!(claim, Claim::Placed { .. }));
        let how = match &detector {
            // As spatial_relation looks, for finer boxes.
            Some(_) if placed => Look::Mirrored,
            Some(detector) => Look::of(detector.counting(), None, false),
            None => Look::Once,
        };
        Ok(Checker { texts: prepared, detector, without: None, encoder, nulls, how })
    }
}

/// The things of a claim that only a detector can tell.
fn needed(claim: &Claim) -> Vec<usize> {
    match claim {
        Claim::Present(_) => Vec::new(),
        Claim::Number(thing, _) | Claim::Absent(thing) => vec![*thing],
        Claim::Placed { subject, object, .. } | Claim::Acts { subject, object, .. } => vec![*subject, *object],
    }
}

fn ground(
    thing: &crate::knowledge::phrase::Thing,
    detector: Option<&Detector>,
    encoder: Option<&Encoder>,
    watch: &Watch<'_>,
) -> Result<Ground> {
    // "traffic light" before "light".
    let class =
        detector.and_then(|detector| class_of(detector, &thing.words()).or_else(|| class_of(detector, &thing.head)));
    let named_whole = detector.is_some_and(|detector| class_of(detector, &thing.words()).is_some());
    let attributes: &[String] = if named_whole { &[] } else { &thing.attributes };
    let mut asked: Vec<Asked> =
        attributes.iter().map(|word| attributes::ask(word, &thing.head, encoder, watch)).collect::<Result<_>>()?;
    // What the detector has one name for and people have several: "woman" of "person". One that was asked in words has the
    // very name.
    let narrower = knowledge::attributes::narrower(&thing.head).is_some();
    if narrower && class.is_some() && detector.is_some_and(|detector| !detector.labels().contains(&thing.head)) {
        asked.push(attributes::ask_name(&thing.head, encoder, watch)?);
    }
    let whole = match encoder {
        Some(encoder) if class.is_none() && !thing.negated => {
            attributes::directions(encoder, &[thing.words()], watch)?.into_iter().next()
        }
        _ => None,
    };
    Ok(Ground { class, asked, whole })
}

impl Checker {
    /// The detector, if there is one.
    pub fn detector(&self) -> Option<&Arc<Detector>> {
        self.detector.as_ref()
    }

    /// Why there is no detector, and what to do about it.
    pub fn without(&self) -> Option<&str> {
        self.without.as_deref()
    }

    /// Whether any attribute has to be looked at in the picture itself.
    fn needs_pixels(&self) -> bool {
        self.encoder.is_some()
            && self
                .texts
                .iter()
                .flat_map(|text| &text.grounds)
                .any(|ground| ground.class.is_some() && ground.asked.iter().any(Asked::looks))
    }

    /// What a picture in a file shows of each text; boxes from the catalogue where they are known. `vector`: the picture's, where it
    /// is at hand. Shape: `[dim]`.
    ///
    /// # Errors
    /// The image cannot be read; a model fails; the caller cancelled.
    pub fn file(
        &self,
        engine: &Engine,
        image: &str,
        vector: Option<&[f32]>,
        watch: &Watch<'_>,
    ) -> Result<Vec<Vec<Phrase>>> {
        let looked = match &self.detector {
            Some(detector) => Some(engine.candidates(image, detector, self.how, watch)?),
            None => None,
        };
        let crops = if self.needs_pixels() { Some(engine.read_image(image)?.1.rgb) } else { None };
        let (candidates, size) =
            looked.map_or((Vec::new(), (0, 0)), |looked| (looked.candidates, (looked.width, looked.height)));
        self.judge(&candidates, size, crops.as_ref(), vector)
    }

    /// What a picture in memory shows of each text; nothing is kept. `vector` as in [`Checker::file`].
    ///
    /// # Errors
    /// A model fails; the caller cancelled.
    pub fn picture(&self, picture: &RgbImage, vector: Option<&[f32]>, watch: &Watch<'_>) -> Result<Vec<Vec<Phrase>>> {
        let candidates = match &self.detector {
            Some(detector) => looks::look(detector, picture, self.how, watch)?,
            None => Vec::new(),
        };
        self.judge(&candidates, picture.dimensions(), Some(picture), vector)
    }

    fn judge(
        &self,
        candidates: &[Detection],
        size: (u32, u32),
        picture: Option<&RgbImage>,
        vector: Option<&[f32]>,
    ) -> Result<Vec<Vec<Phrase>>> {
        let mut crops = Crops::new(self.encoder.as_deref(), picture);
        let view = judge::View {
            detector: self.detector.as_deref(),
            without: self.without.as_deref(),
            candidates,
            size,
            vector,
            nulls: &self.nulls,
        };
        self.texts
            .iter()
            .map(|text| {
                let seen = text
                    .grounds
                    .iter()
                    .map(|ground| judge::see(ground, &view, &mut crops))
                    .collect::<Result<Vec<_>>>()?;
                Ok(text
                    .claims
                    .claims
                    .iter()
                    .map(|claim| judge::phrase(&text.claims, claim, &text.grounds, &seen, &view))
                    .collect())
            })
            .collect()
    }
}

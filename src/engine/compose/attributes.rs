//! Whether what is in a box has an attribute: an image-text model is asked which word of the attribute's kind fits the crop best.
//! There is one thing in a crop, so there is nothing to bind wrongly.

use image::{RgbImage, imageops};

use crate::engine::Watch;
use crate::engine::classify::label_directions;
use crate::engine::encoders::encode_pictures;
use crate::error::Result;
use crate::geometry::XyxyPx;
use crate::index::calibration::dot;
use crate::knowledge::attributes::{Test, narrower, test};
use crate::models::{Detection, Encoder, Scoring};

/// Boxes of one thing whose attributes are looked at, best first: more cost a pass of the image tower each and hardly change
/// the answer.
const MOST_CROPS: usize = 12;
/// Added around a box on each side, share of its longer side: outlines belong to a thing, and boxes are rarely exact.
const MARGIN: f32 = 0.08;
/// Texts whose vectors are closer are one text to the model: it does not know one of the words.
const SAME_TEXT: f32 = 0.9999;
/// How fast size grows into certainty: at twice the others' area "large" has the odds of 4 to 1.
const SIZE_STEEPNESS: f32 = 2.0;

/// An attribute as it can be asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// As written.
    pub(super) word: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Which of these fits the crop best: their directions, and the position of the one that was asked for.
    Words { directions: Vec<Vec<f32>>, wanted: usize },
    /// Against the sizes of the others.
    Size { large: bool },
    /// Nothing can tell.
    Unknown,
}

impl Asked {
    /// Whether pixels are needed.
    pub(super) fn looks(&self) -> bool {
        matches!(self.way, Way::Words { .. })
    }

    /// Whether anything can tell.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.way, Way::Unknown)
    }
}

/// How to ask for an attribute of a thing.
///
/// # Errors
/// The model fails; the caller cancelled.
pub(super) fn ask(word: &str, head: &str, encoder: Option<&Encoder>, watch: &Watch<'_>) -> Result<Asked> {
    let way = match (test(word), encoder) {
        (Some(Test::Size { large }), _) => Way::Size { large },
        (Some(Test::Against(meant, kind)), Some(encoder)) => {
            let texts: Vec<String> = kind.iter().map(|other| format!("{other} {head}")).collect();
            let directions = self::directions(encoder, &texts, watch)?;
            known(directions, kind.iter().position(|other| *other == meant).unwrap_or_default())
        }
        _ => Way::Unknown,
    };
    Ok(Asked { word: word.to_owned(), way })
}

/// How to ask whether a thing is what the text calls it and not its like: the detector's "person" may be a man or a woman.
///
/// # Errors
/// The model fails; the caller cancelled.
pub(super) fn ask_name(name: &str, encoder: Option<&Encoder>, watch: &Watch<'_>) -> Result<Asked> {
    let way = match (narrower(name), encoder) {
        (Some(words), Some(encoder)) => {
            let texts: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let directions = self::directions(encoder, &texts, watch)?;
            known(directions, words.iter().position(|word| *word == name).unwrap_or_default())
        }
        _ => Way::Unknown,
    };
    Ok(Asked { word: format!("that it is a {name}"), way })
}

/// Directions of short descriptions. Shape: each `[dim]`, unit length.
///
/// # Errors
/// The model fails; the caller cancelled.
pub(super) fn directions(encoder: &Encoder, texts: &[String], watch: &Watch<'_>) -> Result<Vec<Vec<f32>>> {
    label_directions(encoder, texts, &[], watch)
}

/// Without the words that the model cannot tell from another one of them.
fn known(directions: Vec<Vec<f32>>, wanted: usize) -> Way {
    let alike = |at: usize| {
        let same = |(other, vector): (usize, &Vec<f32>)| {
            other != at && directions.get(at).is_some_and(|one| dot(one, vector) > SAME_TEXT)
        };
        directions.iter().enumerate().any(same)
    };
    if alike(wanted) {
        return Way::Unknown;
    }
    let kept: Vec<usize> = (0..directions.len()).filter(|at| !alike(*at)).collect();
    let place = kept.iter().position(|at| *at == wanted).unwrap_or_default();
    if kept.len() < 2 {
        return Way::Unknown;
    }
    let kept =
        directions.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, vector)| vector).collect();
    Way::Words { directions: kept, wanted: place }
}

/// The crops of one picture, each embedded once.
pub(super) struct Crops<'a> {
    encoder: Option<&'a Encoder>,
    picture: Option<&'a RgbImage>,
    made: Vec<(XyxyPx, Vec<f32>)>,
}

impl<'a> Crops<'a> {
    /// Nothing is embedded before it is needed.
    pub(super) fn new(encoder: Option<&'a Encoder>, picture: Option<&'a RgbImage>) -> Self {
        Self { encoder, picture, made: Vec::new() }
    }

    /// Probability that each box's thing has all of the attributes that can be told; 1 where there is none.
    ///
    /// # Errors
    /// The model fails.
    pub(super) fn fit(&mut self, boxes: &[Detection], asked: &[Asked]) -> Result<Vec<f32>> {
        let mut fits = vec![1.0; boxes.len()];
        if boxes.is_empty() {
            return Ok(fits);
        }
        if asked.iter().any(Asked::looks) {
            self.embed(boxes.get(..MOST_CROPS.min(boxes.len())).unwrap_or_default())?;
        }
        for one in asked {
            for (at, (detection, fit)) in boxes.iter().zip(&mut fits).enumerate() {
                *fit *= match &one.way {
                    Way::Words { directions, wanted } => match self.vector(&detection.bounds) {
                        Some(vector) => self.share(vector, directions, *wanted),
                        // Of a crowd's weakest boxes nothing is said.
                        None => 1.0 / directions.len() as f32,
                    },
                    Way::Size { large } => size(boxes, at, *large),
                    Way::Unknown => 1.0,
                };
            }
        }
        Ok(fits)
    }

    fn vector(&self, bounds: &XyxyPx) -> Option<&Vec<f32>> {
        self.made.iter().find(|(known, _)| known == bounds).map(|(_, vector)| vector)
    }

    fn embed(&mut self, boxes: &[Detection]) -> Result<()> {
        let (Some(encoder), Some(picture)) = (self.encoder, self.picture) else { return Ok(()) };
        let new: Vec<XyxyPx> =
            boxes.iter().map(|one| one.bounds).filter(|bounds| self.vector(bounds).is_none()).collect();
        let crops: Vec<RgbImage> = new.iter().map(|bounds| crop(picture, *bounds)).collect();
        self.made.extend(new.into_iter().zip(encode_pictures(encoder, &crops)?));
        Ok(())
    }

    /// Softmax over the words at the model's own temperature.
    fn share(&self, vector: &[f32], directions: &[Vec<f32>], wanted: usize) -> f32 {
        // A model without texts has no words to weigh.
        let Some(Ok(Scoring::Softmax { scale } | Scoring::Sigmoid { scale, .. })) = self.encoder.map(Encoder::scoring)
        else {
            return 1.0 / directions.len().max(1) as f32;
        };
        let scores: Vec<f32> = directions.iter().map(|direction| scale * dot(direction, vector)).collect();
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - most).exp()).sum();
        scores.get(wanted).map_or(0.0, |score| (score - most).exp() / sum)
    }
}

/// Probability that a box's thing is called large (or small) among these: against the median area of the others. A thing
/// alone is neither.
fn size(boxes: &[Detection], at: usize, large: bool) -> f32 {
    let Some(own) = boxes.get(at).map(|one| one.bounds.area().max(1.0)) else { return 0.5 };
    let mut others: Vec<f32> =
        boxes.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, one)| one.bounds.area().max(1.0)).collect();
    others.sort_by(f32::total_cmp);
    let Some(median) = others.get(others.len() / 2) else { return 0.5 };
    let larger = SIZE_STEEPNESS * (own / median).ln();
    1.0 / (1.0 + if large { -larger } else { larger }.exp())
}

/// What is in a box, with a margin, as a square: an encoder cuts the longer side off. Beyond the picture it is grey.
fn crop(picture: &RgbImage, bounds: XyxyPx) -> RgbImage {
    const GREY: image::Rgb<u8> = image::Rgb([127; 3]);
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let margin = bounds.width().max(bounds.height()) * MARGIN;
    let x0 = (bounds.x0 - margin).clamp(0.0, width - 1.0) as u32;
    let y0 = (bounds.y0 - margin).clamp(0.0, height - 1.0) as u32;
    let x1 = (bounds.x1 + margin).ceil().clamp(x0 as f32 + 1.0, width) as u32;
    let y1 = (bounds.y1 + margin).ceil().clamp(y0 as f32 + 1.0, height) as u32;
    let inner = imageops::crop_imm(picture, x0, y0, x1 - x0, y1 - y0).to_image();
    let side = inner.width().max(inner.height());
    let mut square = RgbImage::from_pixel(side, side, GREY);
    let (left, top) = ((side - inner.width()) / 2, (side - inner.height()) / 2);
    imageops::replace(&mut square, &inner, i64::from(left), i64::from(top));
    square
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(side: f32) -> Detection {
        Detection { class: 0, score: 0.9, bounds: XyxyPx { x0: 0.0, y0: 0.0, x1: side, y1: side } }
    }

    #[test]
    fn size_is_told_among_others_only() {
        let boxes = [sized(10.0), sized(20.0), sized(11.0)];
        assert!(size(&boxes, 1, true) > 0.9 && size(&boxes, 1, false) < 0.1);
        assert!(size(&boxes, 0, true) < 0.5);
        assert!((size(&boxes[..1], 0, true) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_crop_is_a_square_around_the_box() {
        let picture = RgbImage::from_fn(100, 60, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let wide = crop(&picture, XyxyPx { x0: 10.0, y0: 20.0, x1: 60.0, y1: 30.0 });
        assert_eq!(wide.dimensions(), (58, 58));
        assert_eq!(wide.get_pixel(0, 0).0, [127; 3]);
        assert_eq!(wide.get_pixel(10, 29).0[0], 16);
        let beyond = crop(&picture, XyxyPx { x0: -50.0, y0: -5.0, x1: 500.0, y1: 500.0 });
        assert_eq!(beyond.dimensions(), (100, 100));
        crop(&picture, XyxyPx { x0: 99.9, y0: 59.9, x1: 99.95, y1: 59.95 });
    }

    #[test]
    fn words_that_the_model_cannot_tell_apart_are_left_out() {
        let unknown = vec![0.6, 0.8];
        let all = vec![vec![1.0, 0.0], unknown.clone(), vec![0.0, 1.0], unknown.clone()];
        assert!(matches!(known(all.clone(), 2), Way::Words { directions, wanted: 1 } if directions.len() == 2));
        assert!(matches!(known(all, 1), Way::Unknown));
        assert!(matches!(known(vec![unknown], 0), Way::Unknown));
    }
}

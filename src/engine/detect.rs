//! Finding and counting objects: one picture, several, or a folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use image::RgbImage;
use rayon::prelude::*;

use super::counting::{self, Estimate};
pub use super::detectors::Like;
use super::detectors::class_of;
use super::looks::{self, Look};
use super::{Engine, Progress, Watch, url_image};
use crate::error::{Error, Result};
use crate::geometry::XyxyPx;
use crate::index::{Catalogue, StoredBox, StoredDetections};
use crate::knowledge::objects;
use crate::models::{Counting, Detection, Detector, registry};
use crate::pixels::{self, Picture};

/// Boxes of one class that overlap more crowd each other.
const CROWDING_IOU: f32 = 0.3;
/// As many of one class are a crowd: counts are low estimates from here on.
const CROWD: usize = 8;
/// A box this near to the picture's border is cut off by it, share of the picture's side.
const BORDER: f32 = 0.004;
/// The finest cells that a thing should fill, in each direction, to be found reliably.
const CELLS: u32 = 2;
/// Scores at which boxes are counted to show how sure a count is.
pub const LEVELS: [f32; 4] = [0.2, 0.3, 0.5, 0.7];

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Words for what is wanted; everything that the detector knows when empty.
    pub targets: Vec<String>,
    /// Or a thing to find the like of.
    pub like: Option<Like>,
    /// List the boxes from this score on, as the reference does; without it the counts are judged from all boxes.
    pub threshold: Option<f32>,
    /// Look at overlapping tiles too.
    pub tiles: bool,
}

/// How sure a count is.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassCount {
    /// Position in the detector's labels.
    pub class: usize,
    /// Boxes listed.
    pub count: usize,
    /// Expected number and probability of presence, from all boxes.
    pub estimate: Estimate,
    /// Boxes at each of [`LEVELS`].
    pub at_levels: [usize; LEVELS.len()],
    /// They are many, or overlap: some may hide behind others.
    pub crowded: bool,
    /// Listed boxes that the picture's border cuts off.
    pub cut_off: usize,
    /// Listed boxes near the least size that the detector sees.
    pub tiny: usize,
}

/// What was found in one picture.
#[derive(Debug, Clone)]
pub struct Found {
    /// Width of the upright picture, pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// No listed box scores less.
    pub threshold: f32,
    /// Best first.
    pub detections: Vec<Detection>,
    /// Every class that is listed, and every one that was asked for.
    pub classes: Vec<ClassCount>,
    /// It was known from an earlier run.
    pub cached: bool,
}

/// What was found in each picture, and by what.
#[derive(Debug)]
pub struct Detected {
    /// Path (or URL) and what was found, or why it could not be read; in the order given.
    pub images: Vec<(String, Result<Found>)>,
    /// For each target as given, the label that it means.
    pub targets: Vec<(String, String)>,
    /// The detector.
    pub detector: Arc<Detector>,
}

impl Engine {
    /// Finds objects in pictures.
    ///
    /// # Errors
    /// No images, an unknown target, an example beside targets or that cannot be read, a threshold that is none; the detector
    /// cannot be loaded. An unreadable image is an entry.
    pub fn detect(&self, images: &[String], request: &Request, watch: &Watch<'_>) -> Result<Detected> {
        let refuse = |name, reason: String| Err(Error::Argument { name, reason });
        if images.is_empty() {
            return refuse("images", "is empty: give at least one path".into());
        }
        if request.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
            return refuse("threshold", "must be from 0 to 1".into());
        }
        if request.like.is_some() && !request.targets.is_empty() {
            return refuse("like", "and targets exclude each other: an example takes the place of words".into());
        }
        let detector = match &request.like {
            Some(like) => self.detector_like(like, watch)?,
            None => self.detector_for(&request.targets, watch)?,
        };
        if request.tiles && request.threshold.is_some() && detector.counting() == Counting::Calibrated {
            let id = detector.id();
            let reason =
                format!("does not go with a threshold for {id}: its tiles are weighed against the whole picture");
            return refuse("tile", reason);
        }
        let wanted = wanted(&detector, &request.targets)?;
        let run = Run {
            engine: self,
            detector: &detector,
            how: Look::of(detector.counting(), request.threshold, request.tiles),
            request,
            wanted: if request.like.is_some() { vec![0] } else { wanted.iter().map(|(_, class)| *class).collect() },
            watch,
        };
        // A catalogue that cannot be opened costs time, not the answer.
        let catalogue = self.catalogue().map_err(|error| tracing::warn!("results are not kept: {error}")).ok();
        let (done, total) = (AtomicU64::new(0), images.len() as u64);
        let mut found: Vec<(String, Result<Found>)> = Vec::with_capacity(images.len());
        for batch in images.chunks(self.config.threads.max(1)) {
            watch.check()?;
            let known: Vec<_> = batch.iter().map(|image| run.look_up(image, catalogue.as_ref())).collect();
            if known.iter().flatten().any(|known| known.stored.is_none()) {
                detector.ready()?;
            }
            let looked: Vec<_> = batch
                .par_iter()
                .zip(known)
                .map(|(image, known)| {
                    let looked = known.and_then(|known| run.look(known));
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    (watch.progress)(Progress { phase: "detect", done, total: Some(total), message: image.clone() });
                    looked
                })
                .collect();
            for (image, looked) in batch.iter().zip(looked) {
                found.push(match looked {
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    Err(error) => (image.clone(), Err(error)),
                    Ok(looked) => {
                        run.keep(&looked, catalogue.as_ref());
                        (looked.name.clone(), Ok(run.judge(&looked)))
                    }
                });
            }
        }
        let label = |class: &usize| detector.labels().get(*class).cloned().unwrap_or_default();
        let targets = wanted.iter().map(|(target, class)| (target.clone(), label(class))).collect();
        Ok(Detected { images: found, targets, detector })
    }
}

impl Engine {
    /// Finds everything in a picture in memory, as [`Engine::detect`] does in a file; nothing is kept.
    ///
    /// # Errors
    /// The detector fails; the caller cancelled.
    pub fn detect_picture(&self, detector: &Detector, picture: &RgbImage, watch: &Watch<'_>) -> Result<Found> {
        let request = Request::default();
        let how = Look::of(detector.counting(), None, false);
        let run = Run { engine: self, detector, how, request: &request, wanted: Vec::new(), watch };
        let candidates = looks::look(detector, picture, run.how, watch)?;
        let (width, height) = picture.dimensions();
        Ok(run.judge(&Looked { name: String::new(), hash: [0; 32], width, height, candidates, cached: false }))
    }
}

/// The classes that were asked for.
fn wanted(detector: &Detector, targets: &[String]) -> Result<Vec<(String, usize)>> {
    targets
        .iter()
        .map(|target| {
            let class = class_of(detector, target);
            let class = class.ok_or_else(|| unknown(detector, target))?;
            Ok((target.clone(), class))
        })
        .collect()
}

/// The detector cannot find this.
pub(super) fn unknown(detector: &Detector, target: &str) -> Error {
    Error::UnknownTarget {
        target: target.to_owned(),
        detector: detector.id().to_owned(),
        similar: objects::similar(target, detector.labels()),
        labels: detector.labels().to_vec(),
        open: registry::easiest_detector(true).name,
    }
}

/// One request over many pictures.
struct Run<'a> {
    engine: &'a Engine,
    detector: &'a Detector,
    how: Look,
    request: &'a Request,
    wanted: Vec<usize>,
    watch: &'a Watch<'a>,
}

/// A picture whose bytes have been read.
struct Known {
    name: String,
    path: PathBuf,
    bytes: Vec<u8>,
    hash: [u8; 32],
    stored: Option<StoredDetections>,
}

/// A picture that has been looked at.
pub(super) struct Looked {
    /// What to call it.
    pub(super) name: String,
    hash: [u8; 32],
    /// Width of the upright picture, pixels.
    pub(super) width: u32,
    /// Its height.
    pub(super) height: u32,
    /// Every box that may be something, best first.
    pub(super) candidates: Vec<Detection>,
    cached: bool,
}

impl Run<'_> {
    /// Names the detector and how it looks, for the cache.
    fn key(&self) -> String {
        let (id, revision) = (self.detector.id(), self.detector.revision());
        format!("{id} {revision} {} {}", self.detector.backend().precision, self.how.key())
    }

    /// Reads a picture's bytes and what is known of them.
    fn look_up(&self, image: &str, catalogue: Option<&Catalogue>) -> Result<Known> {
        let (name, path, bytes) = self.engine.read_bytes(image)?;
        let hash = *blake3::hash(&bytes).as_bytes();
        let stored = catalogue.and_then(|catalogue| {
            catalogue.stored_detections(&hash, &self.key()).unwrap_or_else(|error| {
                tracing::warn!("{error}");
                None
            })
        });
        Ok(Known { name, path, bytes, hash, stored })
    }

    fn look(&self, known: Known) -> Result<Looked> {
        let Known { name, path, bytes, hash, stored } = known;
        if let Some(stored) = stored {
            let candidates = stored.boxes.iter().map(|one| {
                let [x0, y0, x1, y1] = one.bounds;
                Detection { class: one.class as usize, score: one.score, bounds: XyxyPx { x0, y0, x1, y1 } }
            });
            let (width, height) = (stored.width, stored.height);
            return Ok(Looked { name, hash, width, height, candidates: candidates.collect(), cached: true });
        }
        self.watch.check()?;
        let Picture { rgb, .. } = pixels::decode_bytes(&bytes, &path, &self.engine.decode_limits())?;
        let candidates = looks::look(self.detector, &rgb, self.how, self.watch)?;
        Ok(Looked { name, hash, width: rgb.width(), height: rgb.height(), candidates, cached: false })
    }

    fn keep(&self, looked: &Looked, catalogue: Option<&Catalogue>) {
        let Some(catalogue) = catalogue.filter(|_| !looked.cached) else { return };
        let boxes = looked.candidates.iter().map(|one| StoredBox {
            bounds: one.bounds.to_array(),
            score: one.score,
            class: one.class as u32,
        });
        let found = StoredDetections { width: looked.width, height: looked.height, boxes: boxes.collect() };
        if let Err(error) = catalogue.store_detections(&looked.hash, &self.key(), &found) {
            tracing::warn!("not kept: {error}");
        }
    }

    /// Which candidates are listed, and how sure that is.
    fn judge(&self, looked: &Looked) -> Found {
        let asked = |class: usize| self.wanted.is_empty() || self.wanted.contains(&class);
        let mut classes = Vec::new();
        let mut detections = Vec::new();
        for class in (0..self.detector.labels().len()).filter(|class| asked(*class)) {
            let own: Vec<Detection> = looked.candidates.iter().filter(|one| one.class == class).copied().collect();
            let scores: Vec<f32> = own.iter().map(|one| one.score).collect();
            let estimate = counting::judge(self.detector.counting(), &scores);
            let count = match self.request.threshold {
                Some(threshold) => scores.iter().filter(|score| **score >= threshold).count(),
                None => estimate.count,
            };
            // Candidates are in the order of their scores: the best ones are listed.
            let listed = own.get(..count).unwrap_or_default();
            if count > 0 || !self.wanted.is_empty() {
                classes.push(self.describe(class, estimate, &scores, listed, looked));
            }
            detections.extend_from_slice(listed);
        }
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        let least = detections.last().map_or(1.0, |one| one.score);
        let threshold = match self.detector.counting() {
            // Cut, not rounded: no listed box may score less.
            Counting::Calibrated => (least.min(counting::lone_score()) * 1e4).floor() / 1e4,
            Counting::Threshold(threshold) | Counting::Uncalibrated(threshold) => threshold,
        };
        Found {
            width: looked.width,
            height: looked.height,
            threshold: self.request.threshold.unwrap_or(threshold),
            detections,
            classes,
            cached: looked.cached,
        }
    }

    fn describe(
        &self,
        class: usize,
        estimate: Estimate,
        scores: &[f32],
        listed: &[Detection],
        looked: &Looked,
    ) -> ClassCount {
        let (width, height) = (looked.width as f32, looked.height as f32);
        let scale = self.detector.scale(looked.width, looked.height);
        let least = (CELLS * self.detector.geometry().finest_cell) as f32;
        let overlaps = listed
            .iter()
            .enumerate()
            .any(|(at, one)| listed.iter().skip(at + 1).any(|other| one.bounds.iou(&other.bounds) > CROWDING_IOU));
        let is_cut = |b: &XyxyPx| {
            b.x0 <= width * BORDER
                || b.y0 <= height * BORDER
                || b.x1 >= width * (1.0 - BORDER)
                || b.y1 >= height * (1.0 - BORDER)
        };
        ClassCount {
            class,
            count: listed.len(),
            estimate,
            at_levels: LEVELS.map(|level| scores.iter().filter(|score| **score >= level).count()),
            crowded: overlaps || listed.len() >= CROWD,
            cut_off: listed.iter().filter(|one| is_cut(&one.bounds)).count(),
            tiny: listed.iter().filter(|one| one.bounds.width().min(one.bounds.height()) * scale < least).count(),
        }
    }
}

impl Engine {
    /// Every box in one picture that may be something, from the catalogue where it is known.
    ///
    /// # Errors
    /// The image cannot be read; the detector fails; the caller cancelled.
    pub(super) fn candidates(&self, image: &str, detector: &Detector, how: Look, watch: &Watch<'_>) -> Result<Looked> {
        let request = Request::default();
        let run = Run { engine: self, detector, how, request: &request, wanted: Vec::new(), watch };
        let catalogue = self.catalogue().map_err(|error| tracing::warn!("results are not kept: {error}")).ok();
        let looked = run.look(run.look_up(image, catalogue.as_ref())?)?;
        run.keep(&looked, catalogue.as_ref());
        Ok(looked)
    }

    /// An image argument's bytes: what to call it, its path for messages, and the bytes.
    fn read_bytes(&self, argument: &str) -> Result<(String, PathBuf, Vec<u8>)> {
        if url_image::is_url(argument) {
            let bytes = self.fetch_image(argument)?;
            return Ok((argument.to_owned(), PathBuf::from(argument), bytes));
        }
        let path = self.resolve(argument)?;
        let bytes = pixels::read_file(&path, &self.decode_limits())?;
        Ok((path.display().to_string(), path, bytes))
    }
}

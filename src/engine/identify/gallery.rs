//! A gallery: labelled pictures with their vectors, embedded as far as they were not before.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::engine::embedder::ImageTextEmbedder as _;
use crate::engine::ingest::{self, IngestOptions};
use crate::engine::{Engine, Watch};
use crate::error::{Error, Result};
use crate::index::calibration::dot;
use crate::index::{Catalogue, Example};
use crate::models::Encoder;
use crate::pixels;

/// Where the vectors of galleries are, in the data folder.
const FOLDER: &str = "galleries";
/// Pictures of a gallery at most: all of them are compared.
const MOST_PICTURES: usize = 50_000;
/// The pictures of a label that its score is made of.
const NEIGHBOURS: usize = 5;
/// How fast a neighbour's vote falls with its distance to the nearest one: cosine for a factor of e. Five equal ones are worth
/// 0.08 more than one: a single wrongly filed picture does not decide where several of another label are as near. With 0.02
/// it still did in four of ten cases.
const COSINE_PER_E: f32 = 0.05;

/// Labelled pictures.
#[derive(Debug)]
pub struct Gallery {
    folder: PathBuf,
    labels: Vec<String>,
    examples: Vec<Example>,
    /// Of each picture, the position of its label.
    of: Vec<usize>,
    /// Pictures that lie in the gallery itself, so that they have no label.
    unlabelled: usize,
    /// Files that are no readable pictures.
    skipped: u64,
}

impl Engine {
    /// Opens a gallery: embeds what is new or changed.
    pub(super) fn gallery(&self, folder: &Path, encoder: &Encoder, watch: &Watch<'_>) -> Result<Gallery> {
        let mut catalogue = Catalogue::open(&self.config.data_dir.join(FOLDER))?;
        let (limits, enough) = (self.decode_limits(), encoder.preprocessor().enough());
        let decode = move |bytes: &[u8], name: &Path| pixels::decode_enough(bytes, name, &limits, enough);
        let options = IngestOptions {
            // Nobody searches here by words.
            null_texts: Vec::new(),
            batch: encoder.backend().pictures_at_once(),
            ..IngestOptions::new(&self.config)
        };
        let report = ingest::ingest(&mut catalogue, encoder, &decode, folder, &options, watch)?;
        if report.cancelled {
            return Err(Error::Cancelled);
        }
        let set = catalogue.ensure_set(&encoder.set_key())?;
        let examples = catalogue.examples_under(&set, folder, MOST_PICTURES + 1)?;
        // A link into the gallery may lead out of the roots by now.
        let examples = examples.into_iter().filter(|example| self.shows(&example.path)).collect();
        Gallery::new(folder, examples, report.skipped)
    }
}

impl Gallery {
    /// A label is the name of the folder directly under the gallery's that a picture lies in, however deep.
    ///
    /// # Errors
    /// [`Error::Argument`]: fewer than two labels, or too many pictures.
    pub(super) fn new(folder: &Path, examples: Vec<Example>, skipped: u64) -> Result<Self> {
        let refuse = |reason: String| Err(Error::Argument { name: "gallery", reason });
        if examples.len() > MOST_PICTURES {
            return refuse(format!("holds more than {MOST_PICTURES} pictures; take a part of it"));
        }
        let all = examples.len();
        let label = |example: &Example| {
            let mut below = example.path.strip_prefix(folder).ok()?.components();
            let first = below.next()?.as_os_str().to_string_lossy().into_owned();
            below.next().map(|_| first)
        };
        let labelled: Vec<(String, Example)> =
            examples.into_iter().filter_map(|example| Some((label(&example)?, example))).collect();
        let mut labels: Vec<String> = labelled.iter().map(|(label, _)| label.clone()).collect();
        labels.sort();
        labels.dedup();
        if labels.len() < 2 {
            return refuse(format!(
                "{} holds {} labels with pictures; it needs at least two folders, each named like what its pictures show (a folder of others will do)",
                folder.display(),
                labels.len()
            ));
        }
        let of = labelled.iter().map(|(label, _)| labels.binary_search(label).unwrap_or(0)).collect();
        let examples: Vec<Example> = labelled.into_iter().map(|(_, example)| example).collect();
        let unlabelled = all - examples.len();
        Ok(Self { folder: folder.to_owned(), labels, examples, of, unlabelled, skipped })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The labels, sorted.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The labelled pictures.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// The labelled pictures, each with the position of its label.
    pub(super) fn labelled(&self) -> impl Iterator<Item = (&Example, usize)> {
        self.examples.iter().zip(self.of.iter().copied())
    }

    /// What a caller should know of it.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.unlabelled > 0 {
            notes.push(format!("{} pictures lie beside the labels' folders and were not compared", self.unlabelled));
        }
        if self.skipped > 0 {
            notes.push(format!("{} files of the gallery are no readable pictures", self.skipped));
        }
        let mut counts = vec![0_usize; self.labels.len()];
        self.of.iter().filter_map(|label| counts.get_mut(*label).map(|count| *count += 1)).for_each(drop);
        let single = counts.iter().filter(|count| **count == 1).count();
        if single > 0 {
            notes.push(format!(
                "{single} of {} labels have a single picture: five of each, from several sides, make answers surer",
                counts.len()
            ));
        }
        notes
    }

    /// The picture at a path, if it is one of the gallery's.
    pub(super) fn content_of(&self, path: &str) -> Option<i64> {
        let path = Path::new(path);
        self.examples.iter().find(|example| example.path == path).map(|example| example.content)
    }

    /// Cosine with each picture. Shapes: `[dim]` -> `[pictures]`.
    pub(super) fn cosines(&self, vector: &[f32]) -> Vec<f32> {
        const AT_ONCE: usize = 256;
        self.examples.par_iter().with_min_len(AT_ONCE).map(|example| dot(&example.vector, vector)).collect()
    }

    /// Score of each label that has a picture left, the best first: the cosine of its nearest one, and a little more
    /// for each that is nearly as near.
    pub(super) fn rank(&self, cosines: &[f32], leave_out: impl Fn(&Example) -> bool) -> Vec<(usize, f32)> {
        let mut nearest = vec![[f32::NEG_INFINITY; NEIGHBOURS]; self.labels.len()];
        for ((example, label), cosine) in self.labelled().zip(cosines) {
            if leave_out(example) {
                continue;
            }
            let Some(of_label) = nearest.get_mut(label) else { continue };
            let mut cosine = *cosine;
            for place in of_label {
                if cosine > *place {
                    std::mem::swap(place, &mut cosine);
                }
            }
        }
        let score = |of_label: &[f32; NEIGHBOURS]| {
            let votes: f32 = of_label.iter().map(|cosine| ((cosine - of_label[0]) / COSINE_PER_E).exp()).sum();
            of_label[0] + COSINE_PER_E * votes.ln()
        };
        let mut ranked: Vec<(usize, f32)> = nearest
            .iter()
            .enumerate()
            .filter(|(_, of)| of[0].is_finite())
            .map(|(label, of)| (label, score(of)))
            .collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked
    }

    /// Of each label, its `count` nearest pictures; copies of one are shown once.
    pub(super) fn closest(&self, cosines: &[f32], own: Option<i64>, count: usize) -> Vec<Vec<(PathBuf, f32)>> {
        let mut order: Vec<(f32, usize, &Example)> = self
            .labelled()
            .zip(cosines)
            .filter(|((example, _), _)| Some(example.content) != own)
            .map(|((example, label), cosine)| (*cosine, label, example))
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut closest: Vec<Vec<(i64, PathBuf, f32)>> = vec![Vec::new(); self.labels.len()];
        for (cosine, label, example) in order {
            if let Some(of) = closest.get_mut(label)
                && of.len() < count
                && of.iter().all(|(content, ..)| *content != example.content)
            {
                of.push((example.content, example.path.clone(), cosine));
            }
        }
        closest.into_iter().map(|of| of.into_iter().map(|(_, path, cosine)| (path, cosine)).collect()).collect()
    }
}

//! A model for tests: the mean colour of an image and the colour that a text names meet in one space.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use image::{Rgb, RgbImage};

use super::embedder::ImageTextEmbedder;
use super::ingest::{IngestOptions, IngestReport, ingest};
use super::{Progress, Watch};
use crate::error::{Error, Result};
use crate::index::Catalogue;
use crate::pixels::{DecodeLimits, Picture, Whole};

/// Counts what it is asked for, and fails or dawdles on demand.
#[derive(Debug, Default)]
pub(super) struct ColourModel {
    pub(super) revision: String,
    pub(super) images: AtomicU64,
    pub(super) texts: AtomicU64,
    /// Milliseconds for each image.
    pub(super) slowness: u64,
    /// Images after which it fails; 0 for never.
    pub(super) fails_after: u64,
}

const NAMES: [(&str, [f32; 3]); 7] = [
    ("red", [1.0, 0.0, 0.0]),
    ("green", [0.0, 1.0, 0.0]),
    ("blue", [0.0, 0.0, 1.0]),
    ("yellow", [1.0, 1.0, 0.0]),
    ("cyan", [0.0, 1.0, 1.0]),
    ("magenta", [1.0, 0.0, 1.0]),
    ("white", [1.0, 1.0, 1.0]),
];

/// A colour as a unit vector; opposite colours are opposite but for a common part, as CLIP's vectors have one.
fn vector(colour: [f32; 3]) -> Vec<f32> {
    let mut values: Vec<f32> = colour.iter().map(|value| value * 2.0 - 1.0).collect();
    values.push(1.0);
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.into_iter().map(|v| v / norm).collect()
}

impl ImageTextEmbedder for ColourModel {
    fn id(&self) -> &'static str {
        "colours"
    }

    fn revision(&self) -> &str {
        &self.revision
    }

    fn precision(&self) -> &'static str {
        "f32"
    }

    fn dim(&self) -> usize {
        4
    }

    fn preprocessing(&self) -> String {
        "mean".into()
    }

    fn prepare(&self, image: &RgbImage, _: Whole) -> Vec<f32> {
        let mut sums = [0.0_f32; 3];
        for pixel in image.pixels() {
            for (sum, value) in sums.iter_mut().zip(pixel.0) {
                *sum += f32::from(value) / 255.0;
            }
        }
        sums.iter().map(|sum| sum / (image.width() * image.height()) as f32).collect()
    }

    fn encode_images(&self, prepared: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let before = self.images.fetch_add(prepared.len() as u64, Ordering::Relaxed);
        if self.fails_after > 0 && before + prepared.len() as u64 > self.fails_after {
            return Err(Error::Tokenizer { reason: "the model broke".into() });
        }
        std::thread::sleep(Duration::from_millis(self.slowness * prepared.len() as u64));
        Ok(prepared.iter().map(|p| vector([p[0], p[1], p[2]])).collect())
    }

    fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        self.texts.fetch_add(texts.len() as u64, Ordering::Relaxed);
        let colour = |text: &String| {
            let named = NAMES.iter().find(|(name, _)| text == name).map(|(_, colour)| *colour);
            named.unwrap_or_else(|| {
                let hash = blake3::hash(text.as_bytes());
                [0, 1, 2].map(|i| f32::from(hash.as_bytes()[i]) / 255.0)
            })
        };
        Ok(texts.iter().map(|text| vector(colour(text))).collect())
    }
}

/// A folder of photos and an index.
pub(super) struct Bench {
    _dir: Option<tempfile::TempDir>,
    pub(super) photos: PathBuf,
    pub(super) data: PathBuf,
    pub(super) model: ColourModel,
    pub(super) decoded: AtomicU64,
    pub(super) cancel: AtomicBool,
    pub(super) options: IngestOptions,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Self::at(&dir.path().canonicalize().unwrap());
        Self { _dir: Some(dir), ..bench }
    }

    /// Over folders that another process may use too, and that stay.
    pub(super) fn at(base: &Path) -> Self {
        let (photos, data) = (base.join("photos"), base.join("data"));
        std::fs::create_dir_all(&photos).unwrap();
        let options = IngestOptions {
            roots: vec![photos.clone()],
            threads: 2,
            batch: 4,
            limits: DecodeLimits { max_file_bytes: 1 << 20, max_pixels: 1 << 24 },
            decoder: "test 1".into(),
            null_texts: (0..60).map(|i| format!("neutral {i}")).collect(),
            skipped_listed: 10,
            link_from: usize::MAX,
        };
        let model = ColourModel { revision: "1".into(), ..ColourModel::default() };
        let (decoded, cancel) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { _dir: None, photos, data, model, decoded, cancel, options }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.photos.join(name)
    }

    /// Paints a file; pictures of one colour differ by `variant`.
    pub(super) fn paint(&self, name: &str, colour: [u8; 3], variant: u8) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut picture = RgbImage::from_pixel(16, 12, Rgb(colour));
        picture.put_pixel(u32::from(variant % 16), u32::from(variant / 16 % 12), Rgb([variant, 128, 128]));
        picture.save(path).unwrap();
    }

    pub(super) fn paint_many(&self, count: u8) {
        for number in 0..count {
            let colour = [number.wrapping_mul(37), number.wrapping_mul(101), number.wrapping_mul(59)];
            self.paint(&format!("many/{number:03}.png"), colour, number);
        }
    }

    /// Files of a few bytes that only [`Bench`] takes for pictures, for large numbers of them.
    pub(super) fn scatter(&self, count: u32) {
        for number in 0..count {
            let bytes = [b"pixel".as_slice(), &number.wrapping_mul(2_654_435_761).to_le_bytes()].concat();
            std::fs::write(self.path(&format!("{number:06}.png")), bytes).unwrap();
        }
    }

    pub(super) fn catalogue(&self) -> Catalogue {
        Catalogue::open(&self.data).unwrap()
    }

    pub(super) fn index(&self, folder: &str) -> Result<IngestReport> {
        self.index_watched(folder, &|_| {})
    }

    pub(super) fn index_watched(&self, folder: &str, progress: &(dyn Fn(Progress) + Sync)) -> Result<IngestReport> {
        let mut catalogue = Catalogue::open(&self.data)?;
        let watch = Watch { progress, cancel: &self.cancel };
        let decode = |bytes: &[u8], path: &Path| self.decode(bytes, path);
        ingest(&mut catalogue, &self.model, &decode, &self.path(folder), &self.options, &watch)
    }

    fn decode(&self, bytes: &[u8], path: &Path) -> Result<Picture> {
        self.decoded.fetch_add(1, Ordering::Relaxed);
        assert!(!bytes.starts_with(b"panic"), "asked to");
        if let Some([r, g, b, ..]) = bytes.strip_prefix(b"pixel") {
            return Ok(whole(RgbImage::from_pixel(1, 1, Rgb([*r, *g, *b]))));
        }
        let image = image::load_from_memory(bytes)
            .map_err(|error| Error::Decode { path: path.to_owned(), reason: error.to_string() })?;
        Ok(whole(image.to_rgb8()))
    }
}

fn whole(rgb: RgbImage) -> Picture {
    Picture { whole: Whole::of(&rgb), rgb, format: "png", taken_at: None }
}

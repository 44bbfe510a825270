//! `models verify`: are these the published weights, and do they compute what was published?

use std::path::Path;

use image::RgbImage;

use super::{Engine, Watch};
use crate::compute::Backend;
use crate::config::PrecisionChoice;
use crate::error::Result;
use crate::models::verify::{self, FileRow, Photo, Row};
use crate::models::{Classifier, Detector, weights};

/// What `models verify` found.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Hashes and tables of tensors.
    pub files: Vec<FileRow>,
    /// Outputs beside published ones; empty where none were published for this model.
    pub values: Vec<Row>,
    /// Photos that published outputs need and that were not given.
    pub missing_photos: Vec<Photo>,
}

impl Verified {
    /// Nothing is wrong.
    pub fn ok(&self) -> bool {
        self.files.iter().all(|row| row.ok) && self.values.iter().all(|row| row.ok)
    }
}

impl Engine {
    /// Checks the files of a model, loads it (every tensor is checked by name and shape), and compares its outputs with
    /// those that were published for its checkpoint. Each of `images` is known by its file name; one with
    /// another name is taken for COCO photo 000000039769.
    ///
    /// # Errors
    /// The model is not on this machine or is refused; an image cannot be read.
    pub fn verify(&self, name: &str, images: &[String], watch: &Watch<'_>) -> Result<Verified> {
        // The published values are those of 32-bit floats.
        let precision = match self.config.precision {
            PrecisionChoice::Auto => PrecisionChoice::F32,
            asked => asked,
        };
        if self.names_a_detector(name, false, watch)? {
            return self.verify_detector(name, precision, images, watch);
        }
        let files = self.model_files(name, false, watch)?;
        let file_rows = verify::files(&files, watch.cancel)?;
        if Classifier::recognises(&files.config) {
            watch.check()?;
            // Nothing was published that it could be compared with.
            Classifier::load(&files, &Backend::new(self.config.device, precision)?)?;
            return Ok(Verified { files: file_rows, values: Vec::new(), missing_photos: Vec::new() });
        }
        let encoder = self.encoder_in(name, precision, watch)?;
        let photos = self.photos(images)?;
        let needed = verify::photos_of(encoder.id());
        let missing_photos = needed.into_iter().filter(|photo| !photos.iter().any(|(given, _)| given == photo));
        Ok(Verified {
            missing_photos: missing_photos.collect(),
            values: verify::encoder(&encoder, &photos)?,
            files: file_rows,
        })
    }

    /// As [`Engine::verify`], of a detector.
    fn verify_detector(
        &self,
        name: &str,
        precision: PrecisionChoice,
        images: &[String],
        watch: &Watch<'_>,
    ) -> Result<Verified> {
        let files = weights::detector(name, &self.detector_shelf(), &self.weight_source(false))?;
        let file_rows = verify::detector_files(&files, watch.cancel)?;
        watch.check()?;
        let detector = Detector::load(&files, &Backend::new(self.config.device, precision)?)?;
        let photos = self.photos(images)?;
        let needed = verify::detector_photos(detector.id()).into_iter();
        Ok(Verified {
            missing_photos: needed.filter(|photo| !photos.iter().any(|(given, _)| given == photo)).collect(),
            values: verify::detector(&detector, &photos)?,
            files: file_rows,
        })
    }

    /// The pictures, each with the photo that its name speaks of.
    fn photos(&self, images: &[String]) -> Result<Vec<(Photo, RgbImage)>> {
        let photo = |image: &String| {
            let photo = Photo::from_path(Path::new(image)).unwrap_or(Photo::CocoCats);
            Ok((photo, self.read_image(image)?.1.rgb))
        };
        images.iter().map(photo).collect()
    }
}

//! Faster R-CNN with a `ResNet` and a feature pyramid, as torchvision has it: places where something may be, then what each of them is.
//!
//! Source: Ren et al. 2015, arXiv:1506.01497; Li et al. 2021, arXiv:2111.11429, for the second version; torchvision 0.29,
//! `models/detection/{faster_rcnn,generalized_rcnn}.py`. Read are its state dicts, of today and of before torchvision 0.13; sizes
//! come from the tensors, so that both versions, and a `ResNet` of another depth, are one code. Names are the checkpoint's.

mod boxes;
mod config;
mod head;
mod proposals;
mod pyramid;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use image::RgbImage;
use serde_json::json;

use self::config::{FasterRcnnConfig, STAGES};
use self::head::{Head, Verdict, settle};
use self::proposals::{Level, ProposalNetwork, propose};
use self::pyramid::Pyramid;
use super::checkpoint::Checkpoint;
use super::detector::{Counting, Detection, Geometry, Network, Parts, Settings, Stage};
use super::reader::{self, Reader};
use super::resnet::Resnet;
use super::transformer::Stages;
use crate::compute::{Backend, PixelMap, tensor};
use crate::error::Result;
use crate::geometry::XyxyPx;
use crate::pixels::{DetectorInput, Interpolated, PaddedInput};

/// Score from which on a box is counted where none is named: what is more likely the thing than anything else, background included.
///
/// Detectron2's demo draws from it on (`demo/demo.py`); torchvision's gallery draws from 0.8 on, which leaves out small things. No
/// photos with real weights stand behind either number here.
const COUNTED: f32 = 0.5;

/// The network.
#[derive(Debug)]
pub struct FasterRcnn {
    backend: Backend,
    config: FasterRcnnConfig,
    input: Interpolated,
    body: Resnet,
    fpn: Pyramid,
    rpn: ProposalNetwork,
    head: Head,
}

/// What the network says of one picture, in pixels of its input.
#[derive(Debug)]
struct Prediction {
    levels: Vec<Level>,
    proposals: Vec<XyxyPx>,
    verdicts: Vec<Verdict>,
    found: Vec<Detection>,
}

impl FasterRcnn {
    /// Whether a checkpoint is one of these; of Mask R-CNN, which has the same tensors and more, the boxes are read.
    pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
        let has = |name: &str| checkpoint.get(name).is_some();
        has("rpn.head.cls_logits.weight") && has("roi_heads.box_predictor.cls_score.weight")
    }

    /// Builds the network.
    ///
    /// # Errors
    /// A config or a network that is not read here; a tensor is missing or has another shape: all of them are listed.
    pub(super) fn load(parts: &Parts<'_>) -> Result<Box<dyn Network>> {
        Self::build(parts).map(|network| Box::new(network) as Box<dyn Network>)
    }

    fn build(parts: &Parts<'_>) -> Result<Self> {
        let Parts { files, checkpoint, settings, backend } = *parts;
        let config = FasterRcnnConfig::new(settings.json.as_ref().unwrap_or(&json!({})), checkpoint);
        let config = config.map_err(|reason| Settings::refused(files, reason))?;
        reader::load(checkpoint, backend, &files.id, |r| Self::new(r, &config))
    }

    fn new(reader: &Reader<'_>, config: &FasterRcnnConfig) -> Result<Self> {
        let rules = &config.rules;
        Ok(Self {
            backend: reader.backend().clone(),
            input: Interpolated::new(rules.min_size, rules.max_size, rules.image_mean, rules.image_std),
            body: Resnet::new(&reader.at("backbone.body"), &config.backbone)?,
            fpn: Pyramid::new(&reader.at("backbone.fpn"), config)?,
            rpn: ProposalNetwork::new(&reader.at("rpn.head"), config)?,
            head: Head::new(&reader.at("roi_heads"), config)?,
            config: config.clone(),
        })
    }

    /// What the network says of one picture. Pictures go through it one by one: the reference's anchors depend on how far the
    /// largest picture of a batch makes it pad the others, so a batch would give a picture other boxes.
    fn forward(&self, input: PaddedInput, stages: &mut Stages) -> Result<Prediction> {
        let PaddedInput { padded: DetectorInput { pixels, height, width }, height: own_height, width: own_width } =
            input;
        let x = tensor(pixels, &[1, 3, height, width], &self.backend)?; // [1, 3, h, w]
        let maps = self.body.maps(&x, STAGES)?; // [1, h / 4, w / 4, channels] and coarser
        note_maps("backbone", &maps, stages)?;
        let maps = self.fpn.forward(&maps)?; // [1, h / 4, w / 4, channels] and coarser
        note_maps("fpn", &maps, stages)?;
        let levels = self.rpn.forward(&maps)?;
        let picture = [own_height, own_width];
        let proposals = propose(&levels, [height, width], picture, &self.config.rules);
        let verdicts = self.head.forward(maps.get(..STAGES).unwrap_or_default(), &proposals, stages)?;
        let found = settle(&verdicts, &proposals, picture, &self.config.rules);
        Ok(Prediction { levels, proposals, verdicts, found })
    }

    fn prediction(&self, picture: &RgbImage, side: u32, stages: &mut Stages) -> Result<Prediction> {
        self.forward(self.input.apply(picture, side), stages)
    }
}

/// Keeps maps as stages.
fn note_maps(name: &str, maps: &[PixelMap], stages: &mut Stages) -> Result<()> {
    for (n, map) in maps.iter().enumerate().filter(|_| stages.are_kept()).collect::<Vec<_>>() {
        let map: Tensor = map.to_tensor()?;
        stages.note(|| format!("{name}.{n}"), &map);
    }
    Ok(())
}

impl Network for FasterRcnn {
    fn classes(&self) -> usize {
        self.config.classes
    }

    fn geometry(&self) -> Geometry {
        // Trained on shorter sides of up to 800 pixels: a second, closer look is foreign to it.
        Geometry { input_side: self.input.longest_edge(), finest_cell: self.config.finest(), second_side: None }
    }

    fn scale(&self, width: u32, height: u32) -> f32 {
        self.input.size(width, height, self.input.longest_edge()).0 as f32 / width.max(1) as f32
    }

    fn counting(&self) -> Counting {
        Counting::Uncalibrated(COUNTED)
    }

    fn detect(&self, picture: &RgbImage, floor: f32, side: u32) -> Result<Vec<Detection>> {
        let (width, height) = picture.dimensions();
        let (wide, high) = self.input.size(width, height, side);
        let (across, down) = (width as f32 / wide as f32, height as f32 / high as f32);
        let found = self.prediction(picture, side, &mut Stages::off())?.found.into_iter();
        let found = found.filter(|one| one.score >= floor).map(|one| {
            let XyxyPx { x0, y0, x1, y1 } = one.bounds;
            let bounds = XyxyPx { x0: x0 * across, y0: y0 * down, x1: x1 * across, y1: y1 * down };
            Detection { bounds: bounds.clamped(width as f32, height as f32), ..one }
        });
        Ok(found.filter(|one| one.bounds.area() > 0.0).collect())
    }

    fn stages(&self, picture: &RgbImage) -> Result<Vec<Stage>> {
        let prediction = self.prediction(picture, self.input.longest_edge(), &mut Stages::off())?;
        let Prediction { levels, proposals, verdicts, .. } = &prediction;
        let classes = self.config.classes;
        let stage = |name, width, values| Stage { name, width, values };
        Ok(vec![
            stage("objectness", 1, levels.iter().flat_map(Level::objectness).collect()),
            stage("pred_bbox_deltas", 4, levels.iter().flat_map(Level::deltas).collect()),
            stage("proposals", 4, proposals.iter().flat_map(|one| one.to_array()).collect()),
            stage("class_logits", classes, verdicts.iter().flat_map(|one| one.logits.iter().copied()).collect()),
            stage("box_regression", 4 * classes, verdicts.iter().flat_map(|one| one.deltas.iter().copied()).collect()),
        ])
    }

    fn run_neutral(&self) -> Result<usize> {
        // A photo of 640 x 480, as most of COCO's.
        let grey = RgbImage::from_pixel(640, 480, image::Rgb([128; 3]));
        Ok(self.prediction(&grey, self.input.longest_edge(), &mut Stages::off())?.proposals.len())
    }
}

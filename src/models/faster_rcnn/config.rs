//! What a Faster R-CNN's tensors say, and an optional `config.json` beside them: torchvision's arguments by their names.

use serde::Deserialize;
use serde_json::Value;

use crate::compute::Activation;
use crate::models::checkpoint::Checkpoint;
use crate::models::resnet::{BATCH_NORM_EPS, MOST_LAYERS, MOST_WIDTH, Names, ResnetConfig};

/// Maps that the pyramid takes from the backbone; one more is made of the last.
pub(super) const STAGES: usize = 4;
/// Anchors of a cell: one size, three proportions.
pub(super) const ANCHORS: usize = 3;
/// More proposals or boxes of a picture are a mistake in the file.
const MOST_BOXES: usize = 10_000;
const SIDES: std::ops::RangeInclusive<u32> = 32..=4096;

/// How the tensors of files of various ages are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Since torchvision 0.13: `inner_blocks.0.0.weight`, `head.conv.0.0.weight`.
    New,
    /// Before: `inner_blocks.0.weight`, `head.conv.weight`.
    Old,
}

/// What looks at each proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeadConfig {
    /// Two linear layers of this width: `TwoMLPHead`.
    Linear { width: usize },
    /// Convolutions of these widths, then a linear layer: `FastRCNNConvFCHead`.
    Convolutions { convs: Vec<usize>, width: usize },
}

/// The numbers of a Faster R-CNN.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FasterRcnnConfig {
    pub(super) age: Age,
    pub(super) backbone: ResnetConfig,
    pub(super) eps: f32,
    /// Channels of the pyramid's maps.
    pub(super) channels: usize,
    /// Convolutions before the proposals.
    pub(super) rpn_convs: usize,
    pub(super) head: HeadConfig,
    /// Bins along each side of a proposal.
    pub(super) side: usize,
    /// Rows of the classifier; the first is the background's.
    pub(super) classes: usize,
    pub(super) rules: Rules,
}

/// The arguments of torchvision's `FasterRCNN` that no tensor shows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Rules {
    pub(super) min_size: u32,
    pub(super) max_size: u32,
    pub(super) image_mean: [f64; 3],
    pub(super) image_std: [f64; 3],
    pub(super) rpn_pre_nms_top_n_test: usize,
    pub(super) rpn_post_nms_top_n_test: usize,
    pub(super) rpn_nms_thresh: f32,
    pub(super) box_score_thresh: f32,
    pub(super) box_nms_thresh: f32,
    pub(super) box_detections_per_img: usize,
    /// None of torchvision's arguments: `eps` of frozen batch norms, where it is another than 1e-5.
    pub(super) batch_norm_eps: Option<f32>,
}

impl Default for Rules {
    /// Source: torchvision 0.29, `models/detection/faster_rcnn.py`.
    fn default() -> Self {
        Self {
            min_size: 800,
            max_size: 1333,
            image_mean: [0.485, 0.456, 0.406],
            image_std: [0.229, 0.224, 0.225],
            rpn_pre_nms_top_n_test: 1000,
            rpn_post_nms_top_n_test: 1000,
            rpn_nms_thresh: 0.7,
            box_score_thresh: 0.05,
            box_nms_thresh: 0.5,
            box_detections_per_img: 100,
            batch_norm_eps: None,
        }
    }
}

impl Rules {
    fn read(config: &Value) -> Result<Self, String> {
        let rules: Self = serde_json::from_value(config.clone()).map_err(|error| format!("cannot be read: {error}"))?;
        for (name, side) in [("min_size", rules.min_size), ("max_size", rules.max_size)] {
            if !SIDES.contains(&side) {
                return Err(format!("says {name} {side}; {} to {} fit", SIDES.start(), SIDES.end()));
            }
        }
        if rules.min_size > rules.max_size {
            return Err(format!("says min_size {}, more than max_size {}", rules.min_size, rules.max_size));
        }
        for (name, number) in [
            ("rpn_pre_nms_top_n_test", rules.rpn_pre_nms_top_n_test),
            ("rpn_post_nms_top_n_test", rules.rpn_post_nms_top_n_test),
            ("box_detections_per_img", rules.box_detections_per_img),
        ] {
            if !(1..=MOST_BOXES).contains(&number) {
                return Err(format!("says {name} {number}; 1 to {MOST_BOXES} fit"));
            }
        }
        for (name, share) in [
            ("rpn_nms_thresh", rules.rpn_nms_thresh),
            ("box_score_thresh", rules.box_score_thresh),
            ("box_nms_thresh", rules.box_nms_thresh),
            ("batch_norm_eps", rules.batch_norm_eps.unwrap_or(0.0)),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("says {name} {share}, which is not between 0 and 1"));
            }
        }
        if rules.image_std.iter().any(|std| std.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater)) {
            return Err("says an image_std that is not above 0".to_owned());
        }
        Ok(rules)
    }
}

impl FasterRcnnConfig {
    /// Pixels of the input per cell of the finest map.
    pub(super) fn finest(&self) -> u32 {
        self.backbone.stride() >> (STAGES - 1)
    }

    /// From the config's JSON, `{}` where there is none, and the shapes in the checkpoint.
    ///
    /// # Errors
    /// What is wrong with the config, or of the network not read here.
    pub(super) fn new(config: &Value, checkpoint: &Checkpoint) -> Result<Self, String> {
        let rules = Rules::read(config)?;
        let shape = |name: &str| checkpoint.get(name).map(|entry| entry.shape.as_slice());
        let rows = |name: &str| {
            let rows = shape(name).and_then(|shape| shape.first().copied());
            let rows = rows.ok_or_else(|| format!("has no tensor {name}"))?;
            if (1..=MOST_WIDTH).contains(&rows) { Ok(rows) } else { Err(format!("has {name} with {rows} rows")) }
        };
        let age = if shape("rpn.head.conv.weight").is_some() { Age::Old } else { Age::New };
        // The norms of old files were frozen without it: torchvision's `overwrite_eps`, for its own ones.
        let eps = rules.batch_norm_eps.unwrap_or(if age == Age::Old { 0.0 } else { BATCH_NORM_EPS });
        let blocks = (0..=STAGES).take_while(|n| shape(&age.inner(*n)).is_some()).count();
        if blocks != STAGES || shape("backbone.body.layer1.0.conv1.weight").is_none() {
            return Err(format!(
                "has a backbone that is not read here: a ResNet of torchvision under a pyramid of {STAGES} maps is"
            ));
        }
        let anchors = rows("rpn.head.cls_logits.weight")?;
        if anchors != ANCHORS {
            return Err(format!("has {anchors} anchors for a cell; torchvision's usual {ANCHORS} are read"));
        }
        let channels = rows(&age.inner(0))?;
        let (head, cells) = head(&shape, &rows)?;
        let side = cells.isqrt();
        if side == 0 || side > 32 || side * side != cells {
            return Err(format!("has a box_head over {cells} bins, which are no square"));
        }
        let rpn_convs = (0..MOST_LAYERS).take_while(|n| shape(&format!("rpn.head.conv.{n}.0.weight")).is_some());
        Ok(Self {
            age,
            backbone: backbone(&shape, &rows, eps)?,
            eps,
            channels,
            rpn_convs: rpn_convs.count().max(1),
            head,
            side,
            classes: rows("roi_heads.box_predictor.cls_score.weight")?,
            rules,
        })
    }
}

impl Age {
    /// The weight of the pyramid's pointwise convolution of this map.
    fn inner(self, map: usize) -> String {
        let own = if self == Self::Old { "" } else { ".0" };
        format!("backbone.fpn.inner_blocks.{map}{own}.weight")
    }
}

/// The head, and the bins that it sees: by the last convolution's width and the first linear layer's.
fn head<'a>(
    shape: &impl Fn(&str) -> Option<&'a [usize]>,
    rows: &impl Fn(&str) -> Result<usize, String>,
) -> Result<(HeadConfig, usize), String> {
    let name = |part: &str| format!("roi_heads.box_head.{part}.weight");
    let convs = (0..MOST_LAYERS).map_while(|n| shape(&name(&format!("{n}.0"))).map(|_| rows(&name(&format!("{n}.0")))));
    let convs = convs.collect::<Result<Vec<_>, _>>()?;
    let (first, channels) = if let Some(channels) = convs.last() {
        (name(&(convs.len() + 1).to_string()), *channels)
    } else {
        let pyramid = ["backbone.fpn.layer_blocks.0.0.weight", "backbone.fpn.layer_blocks.0.weight"];
        (name("fc6"), pyramid.into_iter().find_map(|name| shape(name)?.first().copied()).unwrap_or(0))
    };
    let width = rows(&first)?;
    let inputs = shape(&first).and_then(|shape| shape.get(1).copied()).unwrap_or(0);
    if channels == 0 || !inputs.is_multiple_of(channels) {
        return Err(format!("has {first} over {inputs} numbers, not so many for each of {channels} channels"));
    }
    let head = if convs.is_empty() { HeadConfig::Linear { width } } else { HeadConfig::Convolutions { convs, width } };
    Ok((head, inputs / channels))
}

fn backbone<'a>(
    shape: &impl Fn(&str) -> Option<&'a [usize]>,
    rows: &impl Fn(&str) -> Result<usize, String>,
    eps: f32,
) -> Result<ResnetConfig, String> {
    let name = |stage: usize, block: usize, conv: usize| {
        format!("backbone.body.{}.conv{conv}.weight", Names::Timm.block(stage, block))
    };
    let bottleneck = shape(&name(0, 0, 3)).is_some();
    let stages = (0..STAGES).map(|stage| {
        let depth = (0..MOST_LAYERS).take_while(|block| shape(&name(stage, *block, 1)).is_some()).count();
        Ok((depth.max(1), rows(&name(stage, 0, if bottleneck { 3 } else { 2 }))?))
    });
    Ok(ResnetConfig {
        names: Names::Timm,
        stem: rows("backbone.body.conv1.weight")?,
        stages: stages.collect::<Result<_, String>>()?,
        bottleneck,
        activation: Activation::Relu,
        downsample_in_first_stage: false,
        downsample_in_bottleneck: false,
        dilated: false,
        variant_d: false,
        eps,
    })
}

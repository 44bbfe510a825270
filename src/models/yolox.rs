//! YOLOX: an anchor-free one-stage detector, nano to x.
//!
//! Source: Ge et al. 2021, arXiv:2107.08430; repository Megvii-BaseDetection/YOLOX, `yolox/models/{darknet,yolo_pafpn,
//! yolo_head,network_blocks}.py`. Names are the reference's. Sizes are read off the checkpoint; batch norms (eps 1e-3) are
//! folded at load, and a checkpoint that was folded before (`<name>.conv.bias`, no `bn`) loads as it is.

use candle_core::{Device, Tensor};

use super::ModelFiles;
use super::checkpoint::Checkpoint;
use super::reader::{self, Reader};
use crate::compute::{Activation, Backend, Conv2d, ConvShape, max_pool, upsample_twice};
use crate::error::{Error, Result};

/// `eps` of the reference's batch norms (`exps/default`, `init_yolo`).
const BATCH_NORM_EPS: f32 = 1e-3;
/// Pixels per cell of the three levels.
const STRIDES: [usize; 3] = [8, 16, 32];

/// What the checkpoint's shapes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    /// Channels after the stem: 16 for nano, 24 tiny, 32 s.
    base: usize,
    /// Bottlenecks of a short stage: 1 for nano, tiny and s.
    depth: usize,
    /// Channels in the head.
    hidden: usize,
    classes: usize,
    depthwise: bool,
}

/// The network.
#[derive(Debug)]
pub struct Yolox {
    backend: Backend,
    sizes: Sizes,
    backbone: Pafpn,
    head: Vec<Level>,
}

impl Yolox {
    /// Whether a checkpoint is one of these.
    pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
        checkpoint.get("backbone.backbone.stem.conv.conv.weight").is_some()
    }

    /// Loads a checkpoint: safetensors, or the reference's `.pth` with its `model` key.
    ///
    /// # Errors
    /// A tensor is missing or has another shape: all of them are listed.
    pub fn load(files: &ModelFiles, backend: &Backend) -> Result<Self> {
        let checkpoint = Checkpoint::open(files)?;
        let sizes = sizes(&checkpoint).map_err(|reason| Error::ModelFile {
            model: files.id.clone(),
            file: files.weights.first().map_or_else(String::new, super::Blob::name),
            reason,
        })?;
        reader::load(&checkpoint, backend, &files.id, |r| {
            Ok(Self {
                backend: backend.clone(),
                sizes,
                backbone: Pafpn::load(&r.at("backbone"), &sizes)?,
                head: (0..STRIDES.len()).map(|level| Level::load(&r.at("head"), level, &sizes)).collect::<Result<_>>()?,
            })
        })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.sizes.classes
    }

    /// Predictions before the boxes are decoded, as the reference's exported graph gives them.
    ///
    /// Shapes: `pixels` `[3, h, w]` flattened, BGR, 0 to 255, `h` and `w` multiples of 32 -> `[cells, 5 + classes]` flattened:
    /// x, y, w, h as predicted, objectness and class scores as probabilities; levels of stride 8, 16, 32 one after the
    /// other, cells in reading order.
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn forward(&self, pixels: &[f32], h: usize, w: usize) -> Result<Vec<f32>> {
        let x = Tensor::from_slice(pixels, (1, 3, h, w), &self.backend.device)
            .and_then(|x| x.to_dtype(self.backend.dtype()))
            .map_err(Error::tensor("detector input"))?;
        let maps = self.backbone.forward(&x)?;
        let width = 5 + self.sizes.classes;
        let mut rows = Vec::new();
        for (level, map) in self.head.iter().zip(&maps) {
            let out = level.forward(map)?; // [1, 5 + classes, h / stride, w / stride]
            let values = out
                .to_device(&Device::Cpu)
                .and_then(|out| out.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>())
                .map_err(Error::tensor("detector output"))?;
            let cells = values.len() / width;
            let start = rows.len();
            rows.resize(start + values.len(), 0.0);
            for (channel, plane) in values.chunks(cells.max(1)).enumerate() {
                for (cell, value) in plane.iter().enumerate() {
                    let value = if channel < 4 { *value } else { 1.0 / (1.0 + (-value).exp()) };
                    if let Some(row) = rows.get_mut(start + cell * width + channel) {
                        *row = value;
                    }
                }
            }
        }
        Ok(rows)
    }

    /// Decodes the boxes of [`Yolox::forward`] in place: centre and size in pixels of the input.
    pub fn decode(&self, rows: &mut [f32], h: usize, w: usize) {
        let width = 5 + self.sizes.classes;
        let mut rows = rows.chunks_mut(width);
        for stride in STRIDES {
            let (lines, columns) = (h / stride, w / stride);
            for (cell, row) in (0..lines * columns).zip(&mut rows) {
                if let [x, y, width, height, ..] = row {
                    *x = (*x + (cell % columns) as f32) * stride as f32;
                    *y = (*y + (cell / columns) as f32) * stride as f32;
                    *width = width.exp() * stride as f32;
                    *height = height.exp() * stride as f32;
                }
            }
        }
    }
}

/// Reads the sizes off the shapes.
fn sizes(checkpoint: &Checkpoint) -> std::result::Result<Sizes, String> {
    let first = |name: &str| {
        let shape = checkpoint.get(name).map(|entry| entry.shape.clone());
        shape.and_then(|shape| shape.first().copied()).filter(|n| (1..=4096).contains(n)).ok_or(format!("has no {name}"))
    };
    Ok(Sizes {
        base: first("backbone.backbone.stem.conv.conv.weight")?,
        depth: (0..32)
            .take_while(|n| checkpoint.get(&format!("backbone.backbone.dark2.1.m.{n}.conv1.conv.weight")).is_some())
            .count(),
        hidden: first("head.stems.0.conv.weight")?,
        classes: first("head.cls_preds.0.weight")?,
        depthwise: checkpoint.get("backbone.backbone.dark2.0.dconv.conv.weight").is_some(),
    })
}

/// `BaseConv`: convolution, folded batch norm, `SiLU`.
#[derive(Debug)]
struct BaseConv(Conv2d);

impl BaseConv {
    fn load(r: &Reader<'_>, shape: ConvShape) -> Result<Self> {
        Ok(Self(r.conv_batch_norm("conv", "bn", shape, BATCH_NORM_EPS)?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x, Some(Activation::Silu))
    }
}

/// `BaseConv`, or `DWConv`: depthwise, then pointwise.
#[derive(Debug)]
enum Block {
    Base(BaseConv),
    Depthwise { dconv: BaseConv, pconv: BaseConv },
}

impl Block {
    fn load(r: &Reader<'_>, inputs: usize, outputs: usize, stride: usize, sizes: &Sizes) -> Result<Self> {
        if !sizes.depthwise {
            return Ok(Self::Base(BaseConv::load(r, ConvShape::new(inputs, outputs, 3, stride))?));
        }
        let own = ConvShape { groups: inputs, ..ConvShape::new(inputs, inputs, 3, stride) };
        Ok(Self::Depthwise {
            dconv: BaseConv::load(&r.at("dconv"), own)?,
            pconv: BaseConv::load(&r.at("pconv"), ConvShape::new(inputs, outputs, 1, 1))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Base(conv) => conv.forward(x),
            Self::Depthwise { dconv, pconv } => pconv.forward(&dconv.forward(x)?),
        }
    }
}

/// `Bottleneck`: pointwise, then 3 x 3; with a shortcut.
#[derive(Debug)]
struct Bottleneck {
    conv1: BaseConv,
    conv2: Block,
    shortcut: bool,
}

impl Bottleneck {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.conv2.forward(&self.conv1.forward(x)?)?;
        if self.shortcut { (y + x).map_err(Error::tensor("shortcut")) } else { Ok(y) }
    }
}

/// `CSPLayer`.
#[derive(Debug)]
struct CspLayer {
    conv1: BaseConv,
    conv2: BaseConv,
    conv3: BaseConv,
    m: Vec<Bottleneck>,
}

impl CspLayer {
    fn load(r: &Reader<'_>, inputs: usize, outputs: usize, depth: usize, shortcut: bool, sizes: &Sizes) -> Result<Self> {
        let hidden = outputs / 2;
        let pointwise = |name: &str, i, o| BaseConv::load(&r.at(name), ConvShape::new(i, o, 1, 1));
        let bottleneck = |n: usize| {
            let r = r.at("m").at(n);
            Ok(Bottleneck {
                conv1: BaseConv::load(&r.at("conv1"), ConvShape::new(hidden, hidden, 1, 1))?,
                conv2: Block::load(&r.at("conv2"), hidden, hidden, 1, sizes)?,
                shortcut,
            })
        };
        Ok(Self {
            conv1: pointwise("conv1", inputs, hidden)?,
            conv2: pointwise("conv2", inputs, hidden)?,
            conv3: pointwise("conv3", 2 * hidden, outputs)?,
            m: (0..depth).map(bottleneck).collect::<Result<_>>()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut a = self.conv1.forward(x)?;
        for bottleneck in &self.m {
            a = bottleneck.forward(&a)?;
        }
        self.conv3.forward(&cat(&[&a, &self.conv2.forward(x)?])?)
    }
}

/// Stage of `CSPDarknet`: a step down, then a [`CspLayer`].
#[derive(Debug)]
struct Stage {
    down: Block,
    spp: Option<[BaseConv; 2]>,
    csp: CspLayer,
}

impl Stage {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.down.forward(x)?;
        if let Some([conv1, conv2]) = &self.spp {
            // `SPPBottleneck` pools with windows of 5, 9 and 13: one of 5 after another makes 9, a third one 13.
            let a = conv1.forward(&x)?;
            let b = max_pool(&a, 5, 1, 2)?;
            let c = max_pool(&b, 5, 1, 2)?;
            let d = max_pool(&c, 5, 1, 2)?;
            x = conv2.forward(&cat(&[&a, &b, &c, &d])?)?;
        }
        self.csp.forward(&x)
    }
}

/// `YOLOPAFPN` over `CSPDarknet`.
#[derive(Debug)]
struct Pafpn {
    stem: BaseConv,
    dark: [Stage; 4],
    lateral_conv0: BaseConv,
    c3_p4: CspLayer,
    reduce_conv1: BaseConv,
    c3_p3: CspLayer,
    bu_conv2: Block,
    c3_n3: CspLayer,
    bu_conv1: Block,
    c3_n4: CspLayer,
}

impl Pafpn {
    fn load(r: &Reader<'_>, sizes: &Sizes) -> Result<Self> {
        let base = sizes.base;
        let darknet = r.at("backbone");
        let stage = |name: &str, inputs: usize, depth: usize, last: bool| {
            let r = darknet.at(name);
            let outputs = 2 * inputs;
            let spp = if last {
                let r = r.at(1);
                Some([
                    BaseConv::load(&r.at("conv1"), ConvShape::new(outputs, outputs / 2, 1, 1))?,
                    BaseConv::load(&r.at("conv2"), ConvShape::new(2 * outputs, outputs, 1, 1))?,
                ])
            } else {
                None
            };
            Ok::<_, Error>(Stage {
                down: Block::load(&r.at(0), inputs, outputs, 2, sizes)?,
                spp,
                csp: CspLayer::load(&r.at(if last { 2 } else { 1 }), outputs, outputs, depth, !last, sizes)?,
            })
        };
        let (c3, c4, c5) = (4 * base, 8 * base, 16 * base);
        let csp = |name: &str, inputs, outputs| CspLayer::load(&r.at(name), inputs, outputs, sizes.depth, false, sizes);
        Ok(Self {
            stem: BaseConv::load(&darknet.at("stem").at("conv"), ConvShape::new(12, base, 3, 1))?,
            dark: [
                stage("dark2", base, sizes.depth, false)?,
                stage("dark3", 2 * base, 3 * sizes.depth, false)?,
                stage("dark4", c3, 3 * sizes.depth, false)?,
                stage("dark5", c4, sizes.depth, true)?,
            ],
            lateral_conv0: BaseConv::load(&r.at("lateral_conv0"), ConvShape::new(c5, c4, 1, 1))?,
            c3_p4: csp("C3_p4", 2 * c4, c4)?,
            reduce_conv1: BaseConv::load(&r.at("reduce_conv1"), ConvShape::new(c4, c3, 1, 1))?,
            c3_p3: csp("C3_p3", 2 * c3, c3)?,
            bu_conv2: Block::load(&r.at("bu_conv2"), c3, c3, 2, sizes)?,
            c3_n3: csp("C3_n3", 2 * c3, c4)?,
            bu_conv1: Block::load(&r.at("bu_conv1"), c4, c4, 2, sizes)?,
            c3_n4: csp("C3_n4", 2 * c4, c5)?,
        })
    }

    /// Shapes: `[1, 3, h, w]` -> maps of stride 8, 16, 32.
    fn forward(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let [dark2, dark3, dark4, dark5] = &self.dark;
        let x2 = dark3.forward(&dark2.forward(&self.stem.forward(&focus(x)?)?)?)?; // [1, 4 base, h/8, w/8]
        let x1 = dark4.forward(&x2)?; // [1, 8 base, h/16, w/16]
        let x0 = dark5.forward(&x1)?; // [1, 16 base, h/32, w/32]
        let fpn_out0 = self.lateral_conv0.forward(&x0)?;
        let f_out0 = self.c3_p4.forward(&cat(&[&upsample_twice(&fpn_out0)?, &x1])?)?;
        let fpn_out1 = self.reduce_conv1.forward(&f_out0)?;
        let pan_out2 = self.c3_p3.forward(&cat(&[&upsample_twice(&fpn_out1)?, &x2])?)?;
        let p_out1 = cat(&[&self.bu_conv2.forward(&pan_out2)?, &fpn_out1])?;
        let pan_out1 = self.c3_n3.forward(&p_out1)?;
        let p_out0 = cat(&[&self.bu_conv1.forward(&pan_out1)?, &fpn_out0])?;
        let pan_out0 = self.c3_n4.forward(&p_out0)?;
        Ok([pan_out2, pan_out1, pan_out0])
    }
}

/// One level of `YOLOXHead`.
#[derive(Debug)]
struct Level {
    stem: BaseConv,
    cls_convs: [Block; 2],
    reg_convs: [Block; 2],
    cls_pred: Conv2d,
    reg_pred: Conv2d,
    obj_pred: Conv2d,
}

impl Level {
    fn load(r: &Reader<'_>, level: usize, sizes: &Sizes) -> Result<Self> {
        let hidden = sizes.hidden;
        let block = |name: &str, n: usize| Block::load(&r.at(name).at(level).at(n), hidden, hidden, 1, sizes);
        let pred = |name: &str, outputs| r.at(name).conv(&level.to_string(), ConvShape::new(hidden, outputs, 1, 1));
        let inputs = sizes.base * (4 << level);
        Ok(Self {
            stem: BaseConv::load(&r.at("stems").at(level), ConvShape::new(inputs, hidden, 1, 1))?,
            cls_convs: [block("cls_convs", 0)?, block("cls_convs", 1)?],
            reg_convs: [block("reg_convs", 0)?, block("reg_convs", 1)?],
            cls_pred: pred("cls_preds", sizes.classes)?,
            reg_pred: pred("reg_preds", 4)?,
            obj_pred: pred("obj_preds", 1)?,
        })
    }

    /// Shapes: `[1, inputs, h, w]` -> `[1, 4 + 1 + classes, h, w]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(x)?;
        let through = |blocks: &[Block; 2]| blocks[1].forward(&blocks[0].forward(&x)?);
        let cls = self.cls_pred.forward(&through(&self.cls_convs)?, None)?;
        let reg_feat = through(&self.reg_convs)?;
        let reg = self.reg_pred.forward(&reg_feat, None)?;
        let obj = self.obj_pred.forward(&reg_feat, None)?;
        cat(&[&reg, &obj, &cls])
    }
}

/// `Focus`: every second pixel, four ways, as channels. Shapes: `[1, 3, h, w]` -> `[1, 12, h / 2, w / 2]`.
fn focus(x: &Tensor) -> Result<Tensor> {
    let run = || {
        let (b, c, h, w) = x.dims4()?;
        let x = x.reshape((b, c, h / 2, 2, w / 2, 2))?;
        let part = |dy: usize, dx: usize| x.narrow(5, dx, 1)?.narrow(3, dy, 1)?.reshape((b, c, h / 2, w / 2));
        // The reference's order: top left, bottom left, top right, bottom right.
        Tensor::cat(&[part(0, 0)?, part(1, 0)?, part(0, 1)?, part(1, 1)?], 1)
    };
    run().map_err(Error::tensor("focus"))
}

fn cat(parts: &[&Tensor]) -> Result<Tensor> {
    Tensor::cat(parts, 1).map_err(Error::tensor("concatenation"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::models::Blob;

    #[test]
    #[cfg_attr(not(shared), ignore = "needs ../shared")]
    fn real_weights_give_the_published_graphs_outputs() {
        let shared = std::env::var("CLIP_AWARE_SHARED").unwrap_or_else(|_| "../shared".into());
        let folder = Path::new(&shared).join("models/yolox-nano");
        let weights = Blob::File(folder.join("model.safetensors"));
        let files = ModelFiles {
            id: "yolox-nano".into(),
            revision: String::new(),
            config: weights.clone(),
            preprocessor: weights.clone(),
            tokenizer: weights.clone(),
            weights: vec![weights],
        };
        let model = Yolox::load(&files, &Backend::cpu()).unwrap();
        assert_eq!(model.sizes, Sizes { base: 16, depth: 1, hidden: 64, classes: 80, depthwise: true });
        let golden = candle_core::safetensors::load(folder.join("golden.safetensors"), &Device::Cpu).unwrap();
        for photo in ["000000000009.jpg", "000000000025.jpg", "000000000030.jpg"] {
            let flat = |part: &str| {
                let tensor = golden[&format!("{photo}.{part}")].to_dtype(candle_core::DType::F32).unwrap();
                tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let start = Instant::now();
            let found = model.forward(&flat("input_bgr"), 416, 416).unwrap();
            println!("{:?}", start.elapsed());
            let expected = flat("output_raw");
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs() / (1.0 + e.abs())).fold(0.0, f32::max);
            assert!(worst < 1e-3, "{photo}: {worst}");
            println!("{worst}");
        }
    }
}

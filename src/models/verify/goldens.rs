//! Outputs that were published for real checkpoints.

use super::{Golden, Photo, Scale};

const CLIP_TEST: &str = "huggingface/transformers tests/models/clip/test_modeling_clip.py";
const CLIP_JS: &str = "README of josephrocca/openai-clip-js (fp16)";
const CATS_AND_DOGS: &[&str] = &["a photo of a cat", "a photo of a dog"];
const ASTRONAUT: &[&str] = &["a portrait of an astronaut with the American flag"];

/// The published outputs that are compared.
///
/// The tolerances of the transformers test are its own. It decodes the photo with Pillow: another JPEG decoder may
/// differ by one grey level here and there, which moves these logits by a few thousandths; the PNG of the same photo
/// has no such difference. The astronaut's heads come from half-precision weights, and their image went through another
/// resize, hence the wider tolerance.
pub static GOLDENS: &[Golden] = &[
    Golden {
        model: "clip-vit-b32",
        stage: "logits_per_image",
        slice: "[0, :2]",
        texts: CATS_AND_DOGS,
        photo: Some(Photo::CocoCats),
        expected: &[24.5701, 19.3049],
        scale: Scale::Absolute,
        rtol: 1e-3,
        atol: 1e-3,
        source: CLIP_TEST,
    },
    Golden {
        model: "clip-vit-b32",
        stage: "softmax(logits_per_image)",
        slice: "[0, :2]",
        texts: CATS_AND_DOGS,
        photo: Some(Photo::CocoCats),
        expected: &[0.9949, 0.0051],
        scale: Scale::Absolute,
        rtol: 1e-3,
        atol: 1e-3,
        source: CLIP_TEST,
    },
    Golden {
        model: "clip-vit-b32",
        stage: "text_embeds",
        slice: "[0, :10]",
        texts: ASTRONAUT,
        photo: None,
        expected: &[
            -0.166_26, 0.052_772, -0.153_32, 0.449_46, 0.206_67, -0.295_65, 0.040_588, -0.410_16, -0.150_27, 0.319_34,
        ],
        scale: Scale::Fitted,
        rtol: 1e-2,
        atol: 2e-3,
        source: CLIP_JS,
    },
    Golden {
        model: "clip-vit-b32",
        stage: "image_embeds",
        slice: "[0, :10]",
        texts: &[],
        photo: Some(Photo::Astronaut),
        expected: &[
            0.318_12, 0.305_42, -0.154_79, 0.076_721, -0.169_92, 0.131_96, -0.297_36, -0.193_97, -0.305_18, 0.229_86,
        ],
        scale: Scale::Fitted,
        rtol: 2e-2,
        atol: 1e-2,
        source: CLIP_JS,
    },
];

//! The towers against transformers, stage by stage, on tiny random checkpoints (`tools/export_parity.py`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use clip_aware::Error;
use clip_aware::compute::Backend;
use clip_aware::models::baseline::Baseline;
use clip_aware::models::{Blob, Encoder, ModelFiles, Scoring, Tokens, Towers};

/// Largest absolute difference that a stage may show: what goes through them has the size of 1.
const TOLERANCE: f32 = 1e-4;
const CASES: [&str; 6] = ["clip-a", "clip-b", "openclip-a", "openclip-b", "siglip-a", "siglip-b"];

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    full_len: usize,
}

struct Fixture {
    towers: Towers,
    cases: Vec<Case>,
    expected: HashMap<String, Tensor>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// The files of a folder in Hugging Face layout.
pub fn files(folder: &Path) -> ModelFiles {
    let file = |name: &str| Blob::File(folder.join(name));
    let weights = ["model.safetensors", "pytorch_model.bin"];
    let weights = weights.into_iter().filter(|name| folder.join(name).exists()).map(file).collect();
    ModelFiles {
        id: folder.file_name().unwrap().to_string_lossy().into_owned(),
        revision: "test".to_owned(),
        config: file("config.json"),
        preprocessor: file("preprocessor_config.json"),
        tokenizer: Some(file("tokenizer.json")).filter(|_| folder.join("tokenizer.json").exists()),
        weights,
    }
}

impl Fixture {
    fn load(name: &str) -> Self {
        Self::load_on(name, &Backend::cpu())
    }

    fn load_on(name: &str, backend: &Backend) -> Self {
        let folder = folder(name);
        Self {
            towers: Towers::load(&files(&folder), backend).unwrap(),
            cases: serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap(),
            expected: candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap(),
        }
    }

    fn images(&self) -> Vec<Vec<f32>> {
        self.expected["pixels"].flatten_from(1).unwrap().to_vec2().unwrap()
    }

    fn texts(&self) -> Vec<String> {
        self.cases.iter().map(|case| case.text.clone()).collect()
    }
}

fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    tensor.to_dtype(DType::F32).unwrap().to_vec2().unwrap()
}

fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| a.len() == b.len()), "rows of other lengths");
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    // A NaN must not pass as "no difference".
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |largest, x| if x <= largest { largest } else { x })
}

/// Compares every stage that the reference has; `rows_that_count` cuts off what only one of both computes.
fn compare_stages(
    name: &str,
    kind: &str,
    found: &[(String, Tensor)],
    expected: &HashMap<String, Tensor>,
    rows_that_count: impl Fn(usize, &Tensor) -> Tensor,
) {
    let prefix = format!("{kind}.");
    let stages: Vec<&str> = expected.keys().filter_map(|key| key.strip_prefix(&prefix)).collect();
    assert!(stages.len() >= 5, "{name}: only {stages:?}");
    for stage in stages {
        let (_, found) = found.iter().find(|(name, _)| name == stage).unwrap_or_else(|| panic!("{name}: no {stage}"));
        let expected = &expected[&format!("{prefix}{stage}")];
        assert_eq!(found.dim(0).unwrap(), expected.dim(0).unwrap(), "{name}: {kind} {stage}");
        for i in 0..found.dim(0).unwrap() {
            let (found, expected) = (found.get(i).unwrap(), expected.get(i).unwrap());
            let [found, expected] = [found, expected].map(|x| match x.rank() {
                1 => x.unsqueeze(0).unwrap(),
                _ => rows_that_count(i, &x),
            });
            let difference = largest_difference(&rows(&found), &rows(&expected));
            assert!(difference <= TOLERANCE, "{name}: {kind} {stage} of input {i} is off by {difference}");
        }
    }
}

#[test]
fn tokens_equal_the_reference() {
    for name in CASES {
        let fixture = Fixture::load(name);
        for case in &fixture.cases {
            let expected = Tokens { ids: case.ids.clone(), full_len: case.full_len };
            assert_eq!(fixture.towers.tokenize(&case.text).unwrap(), expected, "{name}: {:?}", case.text);
        }
        assert!(fixture.cases.iter().any(|case| case.full_len > case.ids.len()), "{name}: no text is cut");
    }
}

#[test]
fn image_stages_equal_the_reference() {
    for name in CASES {
        let fixture = Fixture::load(name);
        let found = fixture.towers.image_stages(&fixture.images()).unwrap();
        compare_stages(name, "image", &found, &fixture.expected, |_, x| x.clone());
    }
}

/// The reference pads every text to the context length. For CLIP, what stands behind the end of a text differs (it is
/// not computed at all here) and must not matter; for `SigLIP` all positions are compared.
#[test]
fn text_stages_equal_the_reference_padded_in_full() {
    for name in CASES {
        let fixture = Fixture::load(name);
        let tokens: Vec<Tokens> =
            fixture.cases.iter().map(|case| fixture.towers.tokenize(&case.text).unwrap()).collect();
        let found = fixture.towers.text_stages(&tokens).unwrap();
        let causal = !name.starts_with("siglip");
        compare_stages(name, "text", &found, &fixture.expected, |i, x| {
            if causal { x.narrow(0, 0, tokens[i].ids.len()).unwrap() } else { x.clone() }
        });
    }
}

#[test]
fn unit_vectors_and_logits_equal_the_reference() {
    for name in CASES {
        let fixture = Fixture::load(name);
        let images = fixture.towers.encode_images(&fixture.images()).unwrap();
        let texts = fixture.towers.encode_texts(&fixture.texts()).unwrap();
        for (kind, vectors) in [("image_embeds", &images), ("text_embeds", &texts)] {
            let difference = largest_difference(vectors, &rows(&fixture.expected[kind]));
            assert!(difference <= TOLERANCE, "{name}: {kind} are off by {difference}");
            assert!(vectors.iter().all(|v| v.len() == fixture.towers.dim()));
        }
        let (scale, bias) = match fixture.towers.scoring().unwrap() {
            Scoring::Softmax { scale } => (scale, 0.0),
            Scoring::Sigmoid { scale, bias } => (scale, bias),
        };
        assert_eq!(matches!(fixture.towers.scoring().unwrap(), Scoring::Sigmoid { .. }), name.starts_with("siglip"));
        let logit = |a: &[f32], b: &[f32]| scale * a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>() + bias;
        let logits: Vec<Vec<f32>> =
            images.iter().map(|image| texts.iter().map(|text| logit(image, text)).collect()).collect();
        let difference = largest_difference(&logits, &rows(&fixture.expected["logits_per_image"]));
        assert!(difference <= 2e-3, "{name}: logits are off by {difference}");
    }
}

/// The way that a GPU takes, on the CPU in f16: tensors from end to end, several parts of a batch at once.
#[test]
fn what_a_gpu_runs_equals_the_reference() {
    for name in CASES {
        let fixture = Fixture::load_on(name, &Backend::tensors_on_cpu());
        let images = fixture.towers.encode_images(&fixture.images()).unwrap();
        let texts = fixture.towers.encode_texts(&fixture.texts()).unwrap();
        for (kind, vectors) in [("image_embeds", &images), ("text_embeds", &texts)] {
            let expected = rows(&fixture.expected[kind]);
            assert_eq!(vectors.len(), expected.len(), "{name}: {kind}");
            for (found, expected) in vectors.iter().zip(&expected) {
                let cosine: f32 = found.iter().zip(expected).map(|(a, b)| a * b).sum();
                assert!(cosine > 0.9999, "{name}: {kind} have a cosine of {cosine}");
            }
        }
        // Every stage, where the last layer computes all rows.
        let found = fixture.towers.image_stages(&fixture.images()).unwrap();
        assert!(found.iter().all(|(_, stage)| stage.dtype() == DType::F16), "{name}");
    }
}

#[test]
fn one_at_a_time_equals_a_batch_of_sixteen_and_more() {
    for name in CASES {
        let fixture = Fixture::load(name);
        let distinct = fixture.images();
        for batch in [16, 40] {
            let images: Vec<Vec<f32>> = distinct.iter().cycle().take(batch).cloned().collect();
            let together = fixture.towers.encode_images(&images).unwrap();
            let single: Vec<Vec<f32>> = images
                .iter()
                .flat_map(|image| fixture.towers.encode_images(std::slice::from_ref(image)).unwrap())
                .collect();
            assert!(largest_difference(&together, &single) <= 1e-5, "{name}: images in batches of {batch}");
            // Of all lengths, so that the order of the answers shows, too.
            let texts: Vec<String> =
                (0..batch).map(|i| fixture.texts()[i * 7 % 9].clone() + &"x y ".repeat(i)).collect();
            let together = fixture.towers.encode_texts(&texts).unwrap();
            let single: Vec<Vec<f32>> = texts
                .iter()
                .flat_map(|text| fixture.towers.encode_texts(std::slice::from_ref(text)).unwrap())
                .collect();
            assert!(largest_difference(&together, &single) <= 1e-5, "{name}: texts in batches of {batch}");
        }
    }
}

#[test]
fn nothing_in_gives_nothing_out() {
    let towers = Fixture::load("siglip-a").towers;
    assert!(towers.encode_images(&[]).unwrap().is_empty());
    assert!(towers.encode_texts(&[]).unwrap().is_empty());
}

#[test]
fn images_of_another_size_or_with_nan_are_refused() {
    let fixture = Fixture::load("clip-a");
    let mut images = fixture.images();
    images[1].pop();
    let error = fixture.towers.encode_images(&images).unwrap_err();
    assert_eq!(error.to_string(), "`pixels` of image 1 has 1727 numbers, the model takes 1728");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut images = fixture.images();
        images[0][5] = bad;
        let error = fixture.towers.encode_images(&images).unwrap_err();
        assert_eq!(error.to_string(), "`pixels` of image 0 are not all finite");
    }
}

/// An encoder is shared by the threads of a server.
const fn shared_by_threads<T: Send + Sync>() {}
const _: () = shared_by_threads::<Encoder>();

#[test]
fn an_encoder_is_the_towers_behind_their_image_pipeline() {
    for name in ["clip-a", "openclip-b", "siglip-b"] {
        let fixture = Fixture::load(name);
        let mut files = files(&folder(name));
        let encoder = Encoder::load(&files, &Backend::cpu()).unwrap();
        assert_eq!((encoder.id(), encoder.revision(), encoder.backend().precision), (name, "test", "f32"));
        assert_eq!(encoder.dim(), fixture.towers.dim());
        assert_eq!(encoder.scoring().unwrap(), fixture.towers.scoring().unwrap());
        let (height, width) = encoder.preprocessor().size();
        assert_eq!(3 * height * width, fixture.images()[0].len());
        assert_eq!(
            encoder.encode_texts(&fixture.texts()).unwrap(),
            fixture.towers.encode_texts(&fixture.texts()).unwrap()
        );
        assert_eq!(
            encoder.encode_images(&fixture.images()).unwrap(),
            fixture.towers.encode_images(&fixture.images()).unwrap()
        );
        let longest = fixture.cases.iter().max_by_key(|case| case.full_len).unwrap();
        assert_eq!(encoder.token_count(&longest.text).unwrap(), (longest.full_len, fixture.towers.context_length()));
        // The image pipeline of another model.
        files.preprocessor = Blob::File(folder("openclip-a").join("preprocessor_config.json"));
        let error = Encoder::load(&files, &Backend::cpu()).unwrap_err().to_string();
        assert!(error.contains("makes images of 32 x 32 pixels, the model takes"), "{error}");
    }
}

/// A second opinion: another port of the same model, written by others.
#[test]
fn candle_transformers_agrees_where_it_can() {
    let fixture = Fixture::load("clip-a");
    let baseline = Baseline::load(&files(&folder("clip-a"))).unwrap();
    let images = baseline.encode_images(&fixture.images()).unwrap();
    let texts = baseline.encode_texts(&fixture.texts()).unwrap();
    assert!(largest_difference(&images, &fixture.towers.encode_images(&fixture.images()).unwrap()) <= 1e-5);
    assert!(largest_difference(&texts, &fixture.towers.encode_texts(&fixture.texts()).unwrap()) <= 1e-5);
    for (name, reason) in [("openclip-a", "quick_gelu"), ("siglip-a", "is no CLIP")] {
        let error = Baseline::load(&files(&folder(name))).unwrap_err();
        assert!(matches!(error, Error::ModelFile { .. }) && error.to_string().contains(reason), "{error}");
    }
}

/// `CLIP_AWARE_FULL_SIZE` names a folder that `tools/check_full_size.py --export` has written.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_checkpoint_agrees() {
    let folder = PathBuf::from(std::env::var_os("CLIP_AWARE_FULL_SIZE").expect("CLIP_AWARE_FULL_SIZE"));
    let towers = Towers::load(&files(&folder), &Backend::cpu()).unwrap();
    let expected = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(folder.join("texts.json")).unwrap()).unwrap();
    let images: Vec<Vec<f32>> = expected["pixels"].flatten_from(1).unwrap().to_vec2().unwrap();
    let found = [
        ("image_embeds", towers.encode_images(&images).unwrap()),
        ("text_embeds", towers.encode_texts(&texts).unwrap()),
    ];
    for (kind, vectors) in &found {
        let expected = rows(&expected[*kind]);
        let difference = largest_difference(vectors, &expected);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let length = |a: &[f32]| dot(a, a).sqrt();
        let cosine = |a: &[f32], b: &[f32]| dot(a, b) / length(a) / length(b);
        let cosine = vectors.iter().zip(&expected).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
        println!("{kind}: smallest cosine {cosine:.9}, largest difference {difference:.2e}");
        assert!(cosine >= 0.99999 && difference <= 2e-4, "{kind}: cosine {cosine}, difference {difference}");
    }
    let single: Vec<Vec<f32>> =
        images.iter().flat_map(|image| towers.encode_images(std::slice::from_ref(image)).unwrap()).collect();
    assert!(largest_difference(&found[0].1, &single) <= 1e-5, "batch 1 differs from batch {}", images.len());
    // Only ratios of one run mean anything, so the library's own port runs in turn with ours, where it can.
    let sixteen: Vec<Vec<f32>> = images.iter().cycle().take(16).cloned().collect();
    let time = |run: &dyn Fn()| {
        let start = std::time::Instant::now();
        run();
        start.elapsed()
    };
    let baseline = Baseline::load(&files(&folder)).ok();
    let mut best = [std::time::Duration::MAX; 6];
    for _ in 0..5 {
        let mut times = vec![
            time(&|| drop(towers.encode_images(&sixteen).unwrap())),
            time(&|| drop(towers.encode_images(&sixteen[..1]).unwrap())),
            time(&|| drop(towers.encode_texts(&texts[..1]).unwrap())),
        ];
        if let Some(baseline) = &baseline {
            times.push(time(&|| drop(baseline.encode_images(&sixteen).unwrap())));
            times.push(time(&|| drop(baseline.encode_images(&sixteen[..1]).unwrap())));
            times.push(time(&|| drop(baseline.encode_texts(&texts[..1]).unwrap())));
        }
        best.iter_mut().zip(times).for_each(|(best, time)| *best = (*best).min(time));
    }
    println!("16 images, one image, one text: {:.1?}", &best[..3]);
    if baseline.is_some() {
        println!("candle-transformers as it comes: {:.1?}", &best[3..]);
    }
}

/// As above; for a quiet machine and a file that lies in memory.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_checkpoint_loads_in_half_a_second() {
    let folder = PathBuf::from(std::env::var_os("CLIP_AWARE_FULL_SIZE").expect("CLIP_AWARE_FULL_SIZE"));
    let load = || {
        let start = std::time::Instant::now();
        drop(Towers::load(&files(&folder), &Backend::cpu()).unwrap());
        start.elapsed()
    };
    let times: Vec<_> = (0..7).map(|_| load()).collect();
    println!("{times:.0?}");
    assert!(times.iter().min().unwrap().as_millis() < 500, "{times:.0?}");
}

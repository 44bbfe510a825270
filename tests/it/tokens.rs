//! The tokenizer against `OpenAI`'s own, on its real vocabulary.

use std::path::Path;

use clip_aware::compute::Backend;
use clip_aware::models::{Blob, ModelFiles, Tokens, Towers, openai_tokenizer};

#[derive(serde::Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
}

impl Golden {
    /// The file has whole sequences; `truncate=True` cuts them at 77 and puts the end token last.
    fn expected(&self) -> Tokens {
        let mut ids = self.ids.clone();
        if ids.len() > 77 {
            ids.truncate(76);
            ids.push(49407);
        }
        Tokens { ids, full_len: self.ids.len() }
    }
}

/// A CLIP with the real vocabulary and next to nothing behind it, so that the real tokenizer can be loaded.
fn towers(folder: &Path, tokenizer: Blob) -> Towers {
    let config = r#"{"model_type": "clip", "projection_dim": 1,
        "text_config": {"hidden_size": 1, "num_attention_heads": 1, "intermediate_size": 1, "num_hidden_layers": 1,
                        "eos_token_id": 49407},
        "vision_config": {"hidden_size": 1, "num_attention_heads": 1, "intermediate_size": 1, "num_hidden_layers": 1,
                          "image_size": 1, "patch_size": 1}}"#;
    std::fs::write(folder.join("config.json"), config).unwrap();
    let weights = folder.join("model.safetensors");
    if !weights.exists() {
        write_zeros(&weights);
    }
    let file = |name: &str| Blob::File(folder.join(name));
    let files = ModelFiles {
        id: "tokens".to_owned(),
        revision: "test".to_owned(),
        config: file("config.json"),
        preprocessor: file("preprocessor_config.json"),
        tokenizer: Some(tokenizer),
        weights: vec![Blob::File(weights)],
    };
    Towers::load(&files, &Backend::cpu()).unwrap()
}

fn write_zeros(path: &Path) {
    let mut shapes = vec![
        ("logit_scale".to_owned(), vec![]),
        ("text_projection.weight".to_owned(), vec![1, 1]),
        ("visual_projection.weight".to_owned(), vec![1, 1]),
        ("text_model.embeddings.token_embedding.weight".to_owned(), vec![49408, 1]),
        ("text_model.embeddings.position_embedding.weight".to_owned(), vec![77, 1]),
        ("vision_model.embeddings.class_embedding".to_owned(), vec![1]),
        ("vision_model.embeddings.patch_embedding.weight".to_owned(), vec![1, 3, 1, 1]),
        ("vision_model.embeddings.position_embedding.weight".to_owned(), vec![2, 1]),
    ];
    let norms = ["text_model.final_layer_norm", "vision_model.pre_layrnorm", "vision_model.post_layernorm"];
    let layers = ["text_model", "vision_model"].map(|tower| format!("{tower}.encoder.layers.0"));
    let in_layer = ["layer_norm1", "layer_norm2", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
        .into_iter()
        .chain(["self_attn.out_proj", "mlp.fc1", "mlp.fc2"]);
    let parts = in_layer.flat_map(|part| layers.clone().map(|layer| format!("{layer}.{part}")));
    for part in norms.map(str::to_owned).into_iter().chain(parts) {
        let weight = if part.contains("norm") { vec![1] } else { vec![1, 1] };
        shapes.extend([(format!("{part}.weight"), weight), (format!("{part}.bias"), vec![1])]);
    }
    let zeros = |shape: &[usize]| {
        candle_core::Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap()
    };
    let tensors: std::collections::HashMap<String, candle_core::Tensor> =
        shapes.iter().map(|(name, shape)| (name.clone(), zeros(shape))).collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn the_hub_s() -> Blob {
    Blob::File(crate::shared().join("clip/tokenizer.json"))
}

fn golden() -> Vec<Golden> {
    let lines = std::fs::read_to_string(crate::shared().join("clip/golden_tokens.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn every_golden_line_equals_openai_s_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let golden = golden();
    assert_eq!(golden.len(), 408);
    for tokenizer in [the_hub_s(), openai_tokenizer()] {
        let name = tokenizer.name();
        let towers = towers(folder.path(), tokenizer);
        let wrong: Vec<&str> = golden
            .iter()
            .filter(|line| towers.tokenize(&line.text).unwrap() != line.expected())
            .map(|line| line.text.as_str())
            .collect();
        assert!(wrong.is_empty(), "{name}: {} of {} differ: {wrong:?}", wrong.len(), golden.len());
    }
    assert!(golden.iter().any(|line| line.ids.len() > 77), "no line is cut");
}

/// The odd texts without ../shared: the tokenizer that is built in.
#[test]
fn the_built_in_tokenizer_equals_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let towers = towers(folder.path(), openai_tokenizer());
    for (text, expected) in ODD_TEXTS {
        assert_eq!(towers.tokenize(text).unwrap().ids, *expected, "{text:?}");
    }
}

/// What transformers 5.23's `CLIPTokenizer` gives for the same file.
#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn odd_texts_equal_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let towers = towers(folder.path(), the_hub_s());
    for (text, expected) in ODD_TEXTS {
        assert_eq!(towers.tokenize(text).unwrap().ids, *expected, "{text:?}");
    }
    let long = towers.tokenize(&"cat ".repeat(100)).unwrap();
    assert_eq!((long.ids.len(), long.full_len), (77, 102));
    assert_eq!(long.ids, [&[49406][..], &[2368; 75], &[49407]].concat());
    let exact = towers.tokenize(&"cat ".repeat(75)).unwrap();
    assert_eq!((exact.ids.len(), exact.full_len), (77, 77));
}

const ODD_TEXTS: &[(&str, &[u32])] = &[
    ("", &[49406, 49407]),
    ("   \u{9}\u{a} ", &[49406, 49407]),
    ("\u{1f415} a dog \u{1f984}", &[49406, 41069, 320, 1929, 37659, 49407]),
    ("\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}", &[49406, 26304, 26304, 964, 356, 49407]),
    ("a\u{0}b \u{7} c", &[49406, 320, 444, 321, 451, 322, 49407]),
    ("\u{200b}zero\u{200d}width", &[49406, 9844, 5848, 728, 491, 23571, 49407]),
    (
        "\u{dc}n\u{ef}c\u{f6}d\u{e9} \u{100}CCENTS \u{e9}",
        &[49406, 6522, 77, 35689, 66, 7255, 67, 4166, 23134, 2976, 870, 4166, 49407],
    ),
    (
        "\u{130}stanbul \u{3a3}\u{38a}\u{3a3}\u{3a5}\u{3a6}\u{39f}\u{3a3}",
        &[49406, 328, 16384, 11231, 139, 225, 138, 107, 139, 225, 139, 227, 139, 228, 138, 123, 139, 481, 49407],
    ),
    ("don't we'll I'M", &[49406, 847, 713, 649, 1342, 328, 880, 49407]),
    ("<|endoftext|> and <|startoftext|>", &[49406, 49407, 537, 49406, 49407]),
    ("12345 \u{bd} \u{b2}", &[49406, 272, 273, 274, 275, 276, 33613, 41175, 49407]),
    (
        "\u{201c}curly\u{201d} \u{2018}quotes\u{2019}",
        &[49406, 728, 506, 20795, 728, 507, 728, 502, 5808, 728, 503, 49407],
    ),
    ("a\u{a0}b\u{3000}c", &[49406, 320, 321, 322, 49407]),
];

/// Older repositories have the vocabulary and the merges in two files.
#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn vocab_and_merges_alone_give_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let json = std::fs::read(crate::shared().join("clip/tokenizer.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    std::fs::write(folder.path().join("vocab.json"), json["model"]["vocab"].to_string()).unwrap();
    let merges = json["model"]["merges"].as_array().unwrap().iter().map(|merge| match merge.as_str() {
        Some(merge) => merge.to_owned(),
        None => format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()),
    });
    let merges: Vec<String> = std::iter::once("#version: 0.2".to_owned()).chain(merges).collect();
    std::fs::write(folder.path().join("merges.txt"), merges.join("\n") + "\n").unwrap();
    for named in ["tokenizer.json", "vocab.json"] {
        let towers = towers(folder.path(), Blob::File(folder.path().join(named)));
        for line in golden() {
            assert_eq!(towers.tokenize(&line.text).unwrap(), line.expected(), "{:?}", line.text);
        }
    }
}

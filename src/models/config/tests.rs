use super::*;

fn read(json: &str) -> Result<ModelConfig> {
    let bytes: &'static [u8] = Box::leak(json.to_owned().into_bytes().into_boxed_slice());
    ModelConfig::read(&Blob::Static { name: "config.json", bytes }, "test")
}

fn clip(json: &str) -> ClipConfig {
    match read(json).unwrap() {
        ModelConfig::Clip(config) => config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_almost_empty_clip_config_is_vit_b_32() {
    let config = clip(r#"{"model_type": "clip", "text_config": null, "torch_dtype": "float16"}"#);
    let text = TowerConfig {
        hidden_size: 512,
        intermediate_size: 2048,
        num_hidden_layers: 12,
        num_attention_heads: 8,
        hidden_act: Activation::QuickGelu,
        layer_norm_eps: 1e-5,
    };
    let vision = TowerConfig { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12, ..text.clone() };
    assert_eq!(config.text, TextConfig { tower: text, vocab_size: 49408, max_position_embeddings: 77 });
    assert_eq!(config.vision, VisionConfig { tower: vision, num_channels: 3, image_size: 224, patch_size: 32 });
    assert_eq!((config.projection_dim, config.pooling), (512, Pooling::First(49407)));
}

#[test]
fn eos_2_means_the_highest_id() {
    let config = clip(r#"{"model_type": "clip", "text_config": {"eos_token_id": 2}}"#);
    assert_eq!(config.pooling, Pooling::HighestId);
}

/// The same file read by transformers 5.23: eos 49407, `quick_gelu`, hidden 128.
#[test]
fn a_config_dict_overrides_everything_with_its_defaults_included() {
    let config = clip(
        r#"{"model_type": "clip",
            "text_config": {"eos_token_id": 2, "hidden_act": "gelu", "hidden_size": 256, "num_attention_heads": 4},
            "text_config_dict": {"hidden_size": 128, "num_attention_heads": 4}, "vision_config_dict": null,
            "vision_config": {"hidden_act": "gelu", "image_size": [240, 240]}}"#,
    );
    assert_eq!(config.pooling, Pooling::First(49407));
    assert_eq!((config.text.tower.hidden_size, config.text.tower.hidden_act), (128, Activation::QuickGelu));
    assert_eq!((config.vision.image_size, config.vision.tower.hidden_act), (240, Activation::Gelu));
}

#[test]
fn siglip_has_its_own_defaults_and_may_leave_pixels_over() {
    let ModelConfig::Siglip(config) = read(
        r#"{"model_type": "siglip",
            "text_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16},
            "vision_config": {"hidden_size": 1152, "num_attention_heads": 16, "image_size": 384, "patch_size": 14}}"#,
    )
    .unwrap() else {
        panic!("not a SigLIP")
    };
    assert_eq!(config.vision.num_patches(), 27 * 27);
    assert_eq!((config.text.max_position_embeddings, config.text.vocab_size), (64, 32000));
    assert_eq!((config.projection_size, config.pad_token_id), (1152, None));
    assert_eq!(config.text.tower.hidden_act, Activation::GeluTanh);
    assert!((config.text.tower.layer_norm_eps - 1e-6).abs() < 1e-12);
}

#[test]
fn values_that_no_model_can_have_are_named() {
    let cases = [
        ("not json", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "has no model_type"),
        (r#"{"model_type": "bert"}"#, "`bert`"),
        (r#"{"model_type": "siglip2"}"#, "NaFlex"),
        (r#"{"model_type": "clip", "text_config": 3}"#, "`text_config` is not an object"),
        (
            r#"{"model_type": "clip", "text_config": {"num_attention_heads": 0}}"#,
            "text_config.num_attention_heads is 0",
        ),
        (r#"{"model_type": "clip", "text_config": {"num_attention_heads": 7}}"#, "does not divide hidden_size (512)"),
        (
            r#"{"model_type": "clip", "text_config": {"hidden_size": "512"}}"#,
            "hidden_size is \"512\", expected a whole",
        ),
        (r#"{"model_type": "clip", "text_config": {"hidden_size": -512}}"#, "hidden_size is -512"),
        (r#"{"model_type": "clip", "text_config": {"hidden_size": 1e30}}"#, "hidden_size is 1e+30"),
        (r#"{"model_type": "clip", "text_config": {"vocab_size": 99999999999999999999}}"#, "vocab_size"),
        (r#"{"model_type": "clip", "text_config": {"num_hidden_layers": 4000000}}"#, "up to 512"),
        (r#"{"model_type": "clip", "text_config": {"max_position_embeddings": 0}}"#, "max_position_embeddings is 0"),
        (r#"{"model_type": "clip", "text_config": {"eos_token_id": [1, 2]}}"#, "eos_token_id is [1,2]"),
        (r#"{"model_type": "clip", "text_config": {"hidden_act": "relu"}}"#, "hidden_act is relu, expected one of"),
        (r#"{"model_type": "clip", "text_config": {"layer_norm_eps": "NaN"}}"#, "layer_norm_eps"),
        (r#"{"model_type": "clip", "vision_config": {"patch_size": 0}}"#, "vision_config.patch_size is 0"),
        (r#"{"model_type": "clip", "vision_config": {"patch_size": 225}}"#, "larger than the image (224)"),
        (r#"{"model_type": "clip", "vision_config": {"image_size": [224, 336]}}"#, "image_size is not square"),
        (r#"{"model_type": "clip", "vision_config": {"num_channels": 1}}"#, "only 3 (RGB)"),
        (r#"{"model_type": "clip", "projection_dim": 0}"#, "projection_dim is 0"),
        (r#"{"model_type": "siglip", "vision_config": {"vision_use_head": false}}"#, "no image vector"),
        (r#"{"model_type": "siglip", "text_config": {"projection_size": 512}}"#, "image vectors have 768 numbers"),
    ];
    for (json, expected) in cases {
        let message = read(json).expect_err(json).to_string();
        assert!(message.contains(expected), "{json}: {message}");
        assert!(message.starts_with("config.json of model test: "), "{message}");
    }
}

//! `IResNet`, the network of `ArcFace` and `CosFace`, against torch stage by stage on tiny random checkpoints
//! (`tools/export_iresnet.py`); and what `identify` says by one. No weights of anybody's and no faces.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::Tensor;
use clip_aware::Error;
use clip_aware::compute::Backend;
use clip_aware::models::{Encoder, Towers};

use crate::dinov2::{expected, folder, largest_difference, numbers, pixels};
use crate::parity::files;
use crate::world::World;

/// Largest absolute difference that a stage may show: what goes through them has the size of 1.
const TOLERANCE: f32 = 1e-4;
/// Each with the side of its crops.
const CASES: [(&str, usize); 2] = [("iresnet-a", 40), ("iresnet-b", 32)];

#[test]
fn every_stage_equals_the_reference() {
    for (name, side) in CASES {
        let expected = expected(&folder(name));
        let towers = Towers::load(&files(&folder(name)), &Backend::cpu()).unwrap();
        let images = pixels(&expected, (side, side));
        let prefix = format!("{side}x{side}.image.");
        let found: HashMap<String, Tensor> = towers.image_stages(&images).unwrap().into_iter().collect();
        let stages: Vec<&str> = expected.keys().filter_map(|key| key.strip_prefix(&prefix)).collect();
        assert!(stages.len() == 6 && found.len() == 6, "{name}: {stages:?}");
        for stage in stages {
            let expected = &expected[&format!("{prefix}{stage}")];
            assert_eq!(found[stage].dims(), expected.dims(), "{name}: {stage}");
            let difference = largest_difference(&numbers(&found[stage]), &numbers(expected));
            assert!(difference <= TOLERANCE, "{name}: {stage} is off by {difference}");
        }
        let wanted = numbers(&expected[&format!("{side}x{side}.image_embeds")]);
        for (backend, tolerance) in [(Backend::cpu(), TOLERANCE), (Backend::tensors_on_cpu(), 5e-3)] {
            let towers = Towers::load(&files(&folder(name)), &backend).unwrap();
            let vectors = towers.encode_images(&images).unwrap();
            let difference = largest_difference(&vectors.concat(), &wanted);
            assert!(difference <= tolerance, "{name} {}: vectors are off by {difference}", backend.precision);
        }
        // A batch equals its pictures one by one.
        let many: Vec<Vec<f32>> = images.iter().cycle().take(19).cloned().collect();
        for (image, vector) in many.iter().zip(towers.encode_images(&many).unwrap()) {
            let alone = towers.encode_images(std::slice::from_ref(image)).unwrap();
            assert!(largest_difference(&alone[0], &vector) <= 1e-5, "{name}: alone and in a batch");
        }
    }
}

#[test]
fn it_embeds_crops_of_its_size_and_no_text() {
    let encoder = Encoder::load(&files(&folder("iresnet-a")), &Backend::cpu()).unwrap();
    assert_eq!((encoder.preprocessor().size(), encoder.dim(), encoder.reads_texts()), ((40, 40), 14, false));
    assert!(encoder.takes_aligned_faces() && matches!(encoder.scoring(), Err(Error::ReadsNoTexts { .. })));
    // (x / 255 - 0.5) / 0.5, as insightface has it.
    let input = encoder.preprocessor().apply(&image::RgbImage::from_pixel(40, 40, image::Rgb([0, 255, 51])));
    for (channel, value) in [-1.0, 1.0, -0.6].into_iter().enumerate() {
        assert!((input[channel * 1600] - value).abs() < 1e-6, "{channel}: {}", input[channel * 1600]);
    }
    let mut other = files(&folder("iresnet-a"));
    other.weights = files(&folder("iresnet-b")).weights;
    assert!(matches!(Encoder::load(&other, &Backend::cpu()), Err(Error::Tensors { .. })));
}

/// Crops stand for faces: a gallery of rendered squares.
fn gallery(world: &World) {
    world.scenes("squares", 31, 4);
    for (index, label) in ["ada", "ada", "bob", "bob"].into_iter().enumerate() {
        let picture = world.root.join(format!("squares/{index:06}.png"));
        world.write(&format!("gallery/{label}/{index}.png"), &std::fs::read(picture).unwrap());
    }
}

#[test]
fn an_answer_about_faces_speaks_of_consent_alignment_and_licence() {
    let world = World::new();
    gallery(&world);
    let model = folder("iresnet-b").display().to_string();
    let identify = |image: &str| {
        world.run(&["--identifier", &model, "--json", "identify", image, "--gallery", "gallery"]).object()
    };
    let answer = identify("squares/000000.png");
    let notes = answer["notes"].to_string();
    for part in
        ["have to consent", "nobody is known here but whom this gallery names", "aligned to 112 x 112", "licence"]
    {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert_eq!(answer["candidates"][0]["label"], "ada", "{answer}");
    assert!(answer["candidates"][0]["nearest"][0]["similarity"].as_f64().unwrap() > 0.99, "{answer}");
    // The file alone, under whatever name: all follows from its tensors.
    let file =
        world.write("backbone.safetensors", &std::fs::read(folder("iresnet-b").join("model.safetensors")).unwrap());
    let by_file = world.run(&[
        "--identifier",
        file.to_str().unwrap(),
        "--json",
        "identify",
        "squares/000000.png",
        "--gallery",
        "gallery",
    ]);
    let by_file = by_file.object();
    assert_eq!((&by_file["candidates"], &by_file["notes"]), (&answer["candidates"], &answer["notes"]));
    assert_eq!(by_file["model"], file.canonicalize().unwrap().to_str().unwrap());
    // What is no aligned crop names nobody.
    let wide = world.root.join("wide.png");
    image::RgbImage::new(64, 40).save(&wide).unwrap();
    let answer = identify("wide.png");
    assert_eq!((&answer["unknown"], answer["answer"].as_str()), (&true.into(), Some("unknown: no aligned crop")));
    assert!(answer["notes"].to_string().contains("is not square"), "{answer}");
    // Other models say nothing of faces.
    let other = world.run(&["--json", "identify", "squares/000000.png", "--gallery", "gallery"]).object();
    assert!(!other["notes"].to_string().contains("faces"), "{other}");
}

/// `CLIP_AWARE_FULL_SIZE` names a folder that `tools/check_full_size.py --arch iresnet50 --export` or its like has written.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_iresnet_agrees() {
    let folder = PathBuf::from(std::env::var_os("CLIP_AWARE_FULL_SIZE").expect("CLIP_AWARE_FULL_SIZE"));
    let expected = expected(&folder);
    let encoder = Encoder::load(&files(&folder), &Backend::cpu()).unwrap();
    let images = pixels(&expected, (112, 112));
    let vectors = encoder.encode_images(&images).unwrap();
    let wanted: Vec<Vec<f32>> = expected["112x112.image_embeds"].to_vec2().unwrap();
    let difference = largest_difference(&vectors.concat(), &wanted.concat());
    let cosine = vectors.iter().zip(&wanted).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>());
    println!("smallest cosine {:.7}, largest difference {difference:.2e}", cosine.fold(1.0, f32::min));
    assert!(difference <= 2e-4, "{difference}");
}

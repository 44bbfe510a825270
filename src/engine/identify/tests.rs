use std::path::Path;

use image::{Rgb, RgbImage};

use super::views::views;
use super::{Gallery, Judge, NAMED_FROM, identify};
use crate::engine::fake::ColourModel;
use crate::index::Example;

/// A unit vector near the corner `of`, some way off it in a direction that `variant` chooses.
fn near(of: usize, variant: u32) -> Vec<f32> {
    let hash = blake3::hash(&[of as u8, variant as u8]);
    let mut vector: Vec<f32> = hash.as_bytes().iter().map(|byte| (f32::from(*byte) / 255.0 - 0.5) * 0.35).collect();
    vector[of] += 1.0;
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.into_iter().map(|x| x / norm).collect()
}

fn example(path: &str, content: i64, vector: Vec<f32>) -> Example {
    Example { path: Path::new("/gallery").join(path), content, vector }
}

/// `labels` labels of `pictures` pictures each.
fn gallery(labels: usize, pictures: u32) -> Gallery {
    let mut examples = Vec::new();
    for label in 0..labels {
        for picture in 0..pictures {
            let path = format!("{}/deep/{picture}.png", (b'a' + label as u8) as char);
            examples.push(example(&path, (label * 100) as i64 + i64::from(picture), near(label, picture)));
        }
    }
    Gallery::new(Path::new("/gallery"), examples, 0).unwrap()
}

fn best(gallery: &Gallery, judge: &Judge, vector: &[f32]) -> (usize, f32) {
    let probabilities = judge.probabilities(&gallery.rank(&gallery.cosines(vector), |_| false));
    let sum: f32 = probabilities.iter().map(|(_, probability)| probability).sum();
    assert!(sum <= 1.0 + 1e-6 && probabilities.iter().all(|(_, p)| *p >= 0.0), "{probabilities:?}");
    probabilities[0]
}

#[test]
fn known_pictures_are_named_and_strangers_are_not() {
    for (labels, pictures) in [(2, 2), (3, 1), (6, 1), (6, 5), (12, 3)] {
        let gallery = gallery(labels, pictures);
        let judge = Judge::of(&gallery);
        for label in 0..labels {
            let (found, probability) = best(&gallery, &judge, &near(label, 200));
            assert!(found == label && probability > 0.8, "{labels} x {pictures}: {found} {probability}");
        }
        for stranger in 16..22 {
            let (_, probability) = best(&gallery, &judge, &near(stranger, 200));
            assert!(probability < NAMED_FROM, "{labels} x {pictures}: {probability}");
        }
        let standing = judge.standing();
        assert_eq!(standing.recognised, (pictures > 1).then_some(1.0));
        assert!(standing.strangers_named < 0.1, "{standing:?}");
    }
}

#[test]
fn a_label_is_the_folder_below_the_gallery() {
    let examples = vec![
        example("cat/1.png", 1, near(0, 1)),
        example("beside.png", 2, near(1, 1)),
        example("dog/old/2.png", 3, near(2, 1)),
    ];
    let gallery = Gallery::new(Path::new("/gallery"), examples.clone(), 3).unwrap();
    assert_eq!(gallery.labels(), ["cat", "dog"]);
    let notes = gallery.notes().join("; ");
    assert!(
        notes.contains("1 pictures lie beside") && notes.contains("3 files") && notes.contains("2 of 2"),
        "{notes}"
    );
    let refused = Gallery::new(Path::new("/gallery"), examples[..2].to_vec(), 0).unwrap_err().to_string();
    assert!(refused.contains("1 labels"), "{refused}");
    assert_eq!(gallery.content_of("/gallery/dog/old/2.png"), Some(3));
    assert_eq!(gallery.content_of("/elsewhere.png"), None);
}

#[test]
fn one_wrongly_filed_picture_does_not_decide() {
    // Each off the query in a direction of its own.
    let at = |cosine: f32, direction: usize| {
        let mut vector = vec![0.0; 16];
        (vector[0], vector[direction]) = (cosine, (1.0 - cosine * cosine).sqrt());
        vector
    };
    let query = at(1.0, 1);
    let mut examples: Vec<Example> = (1..5).map(|n| example(&format!("a/{n}.png"), n as i64, at(0.8, n))).collect();
    examples.extend((5..9).map(|n| example(&format!("b/{n}.png"), n as i64, at(0.3, n))));
    examples.push(example("b/wrong.png", 9, at(0.82, 9)));
    let of = |examples: Vec<Example>| {
        let gallery = Gallery::new(Path::new("/gallery"), examples, 0).unwrap();
        gallery.rank(&gallery.cosines(&query), |_| false)[0].0
    };
    assert_eq!(of(examples.clone()), 0);
    // Much nearer it does: more of the same would not outweigh a picture of the thing itself.
    examples.push(example("b/right.png", 10, at(0.95, 10)));
    assert_eq!(of(examples), 1);
}

#[test]
fn copies_do_not_vouch_for_each_other() {
    // Each picture twice: left out, its copy must go as well.
    let twice = |label: usize, n: u32, copy: u32| {
        example(&format!("{label}/{n}-{copy}.png"), (label * 10) as i64 + i64::from(n), near(label, n))
    };
    let examples: Vec<Example> = (0..4).flat_map(|label| (0..2).map(move |copy| twice(label, 0, copy))).collect();
    let judge = Judge::of(&Gallery::new(Path::new("/gallery"), examples, 0).unwrap());
    assert_eq!(judge.standing().recognised, None);
}

#[test]
fn a_picture_of_the_gallery_is_not_compared_with_itself() {
    let model = ColourModel::default();
    let paint = |colour: [u8; 3]| RgbImage::from_pixel(80, 80, Rgb(colour));
    let embed = |colour: [u8; 3]| {
        use crate::engine::embedder::ImageTextEmbedder as _;
        let prepared = model.prepare(&paint(colour), crate::pixels::Whole::of(&paint(colour)));
        model.encode_images(&[prepared]).unwrap().remove(0)
    };
    let examples = vec![
        example("red/1.png", 1, embed([250, 0, 0])),
        example("red/2.png", 2, embed([255, 0, 10])),
        example("blue/1.png", 3, embed([0, 0, 250])),
        example("blue/2.png", 4, embed([0, 10, 255])),
    ];
    let gallery = Gallery::new(Path::new("/gallery"), examples, 0).unwrap();
    let judge = Judge::of(&gallery);
    let picture = paint([250, 0, 0]);
    let told = identify(&model, &gallery, &judge, ("/gallery/red/1.png", &views(&picture)), 5).unwrap();
    assert!(told.own && !told.unknown, "{told:?}");
    assert_eq!(told.candidates[0].label, "red");
    let shown: Vec<_> = told.candidates[0].nearest.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(shown, [Path::new("/gallery/red/2.png")]);
    let told = identify(&model, &gallery, &judge, ("/new.png", &views(&paint([0, 250, 0]))), 1).unwrap();
    assert!(told.unknown && !told.own && told.candidates.len() == 1, "{told:?}");
}

//! Calibration, search scores and classification on real vectors: `OpenAI` ViT-B/32, 126 labelled COCO photos, 80 categories.
//! The figures in the comments of `src/index/calibration.rs` come from these data.

use std::collections::HashSet;

use clip_aware::engine::diagnose::far;
use clip_aware::engine::sight::{NOISE_SIGMA, best};
use clip_aware::index::calibration::{
    DEFAULT_MIN_RELEVANCE, ImageCalibration, LabelScoring, QueryCalibration, classify, dot, relevance,
};
use clip_aware::index::concepts::{Concepts, PENALTY, mean};
use clip_aware::knowledge::facts::find;
use half::f16;
use safetensors::SafeTensors;

/// The vectors, and which category is in which photo.
pub(crate) struct Photos {
    /// File names, as in ../shared/photos/coco.
    pub(crate) files: Vec<String>,
    /// The categories' names.
    pub(crate) names: Vec<String>,
    /// Unit vectors of the photos' first rows; photos without any label are left out.
    pub(crate) images: Vec<Vec<f32>>,
    /// `truth[photo][category]`.
    truth: Vec<Vec<bool>>,
    pub(crate) categories: Vec<Vec<f32>>,
    pub(crate) nulls: Vec<Vec<f32>>,
}

pub(crate) fn load() -> Photos {
    let folder = crate::shared().join("clip-vectors");
    let bytes = std::fs::read(folder.join("vectors.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let unit_rows = |name: &str| -> Vec<Vec<f32>> {
        let tensor = tensors.tensor(name).unwrap();
        let values: Vec<f32> =
            tensor.data().chunks(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect();
        values.chunks(tensor.shape()[1]).map(|row| row.iter().map(|v| v / dot(row, row).sqrt()).collect()).collect()
    };
    let texts: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("texts.json")).unwrap()).unwrap();
    let prompts = texts["coco_prompts"].as_array().unwrap();
    let names: Vec<&str> = prompts.iter().map(|prompt| prompt.as_str().unwrap().strip_prefix("a ").unwrap()).collect();
    let all = unit_rows("image_embeddings");
    let (mut files, mut images, mut truth, mut seen) = (Vec::new(), Vec::new(), Vec::new(), HashSet::new());
    for line in std::fs::read_to_string(folder.join("coco128_rows.csv")).unwrap().lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let labels: HashSet<&str> = cells[4].split('|').filter(|label| !label.is_empty()).collect();
        if seen.insert(cells[1].to_owned()) && !labels.is_empty() {
            files.push(cells[2].to_owned());
            images.push(all[cells[0].parse::<usize>().unwrap()].clone());
            truth.push(names.iter().map(|name| labels.contains(name)).collect());
        }
    }
    let names = names.into_iter().map(str::to_owned).collect();
    Photos { files, names, images, truth, categories: unit_rows("coco_text"), nulls: unit_rows("lvis_text") }
}

impl Photos {
    fn cosines(&self, photo: usize) -> Vec<f32> {
        self.categories.iter().map(|text| dot(text, &self.images[photo])).collect()
    }

    /// Categories that are in some photo.
    fn present(&self) -> Vec<usize> {
        (0..self.categories.len()).filter(|c| self.truth.iter().any(|row| row[*c])).collect()
    }

    fn calibrations(&self, nulls: &[Vec<f32>]) -> Vec<ImageCalibration> {
        self.images.iter().map(|image| ImageCalibration::measure(image, nulls)).collect()
    }

    /// Relevance of one category over a collection of some of the photos.
    fn relevance_of(&self, category: usize, calibrations: &[ImageCalibration], collection: &[usize]) -> Vec<f32> {
        let text = &self.categories[category];
        let score = |photo: &usize| calibrations[*photo].normalise(dot(text, &self.images[*photo]));
        let scores: Vec<f32> = collection.iter().map(score).collect();
        let query = QueryCalibration::for_text(&scores);
        scores.iter().map(|score| relevance(query.standardise(*score))).collect()
    }

    /// All categories over a collection: relevance, and whether it is in the photo.
    fn relevances(&self, calibrations: &[ImageCalibration], collection: &[usize]) -> Vec<(f32, bool)> {
        let mut all = Vec::new();
        for category in self.present() {
            let judged = self.relevance_of(category, calibrations, collection);
            all.extend(judged.into_iter().zip(collection.iter().map(|photo| self.truth[*photo][category])));
        }
        all
    }
}

/// Mean precision at each positive, over all pairs in one ranking.
fn average_precision(mut judged: Vec<(f32, bool)>) -> f64 {
    judged.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut hits, mut sum) = (0.0, 0.0);
    for (rank, (_, positive)) in judged.iter().enumerate() {
        if *positive {
            hits += 1.0;
            sum += hits / (rank + 1) as f64;
        }
    }
    sum / hits
}

/// A fixed sequence of draws.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    fn distinct(&mut self, count: usize, limit: usize) -> Vec<usize> {
        let mut drawn = Vec::new();
        while drawn.len() < count {
            let next = self.below(limit);
            if !drawn.contains(&next) {
                drawn.push(next);
            }
        }
        drawn
    }
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn pooled_average_precision_beats_bare_cosine() {
    let photos = load();
    let everything: Vec<usize> = (0..photos.images.len()).collect();
    assert_eq!((photos.images.len(), photos.present().len()), (126, 71));
    let bare = photos.present().into_iter().flat_map(|category| {
        let text = &photos.categories[category];
        photos.images.iter().zip(&photos.truth).map(move |(image, truth)| (dot(text, image), truth[category]))
    });
    let bare = average_precision(bare.collect());
    assert!((bare - 0.401).abs() < 0.001, "{bare}");
    let calibrated = average_precision(photos.relevances(&photos.calibrations(&photos.nulls), &everything));
    println!("pooled average precision {calibrated:.4}, bare cosine {bare:.4}");
    assert!(calibrated >= 0.48, "{calibrated}");
    // As many null texts as the program ships are enough.
    let some: Vec<_> = photos.nulls.iter().step_by(3).cloned().collect();
    let fewer = average_precision(photos.relevances(&photos.calibrations(&some), &everything));
    assert!(fewer >= 0.475, "{} texts: {fewer}", some.len());
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn relevance_is_a_probability_and_the_cut_off_is_near_the_best_f1() {
    let photos = load();
    let everything: Vec<usize> = (0..photos.images.len()).collect();
    let judged = photos.relevances(&photos.calibrations(&photos.nulls), &everything);
    for (from, to) in [(0.0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.7), (0.7, 1.01)] {
        let inside: Vec<_> = judged.iter().filter(|(r, _)| (from..to).contains(r)).collect();
        let mean = inside.iter().map(|(r, _)| f64::from(*r)).sum::<f64>() / inside.len() as f64;
        let observed = inside.iter().filter(|(_, positive)| *positive).count() as f64 / inside.len() as f64;
        println!("relevance {from:.1} to {to:.1}: {} pairs, mean {mean:.3}, observed {observed:.3}", inside.len());
        assert!((mean - observed).abs() < 0.06, "{from}: {mean} {observed}");
    }
    let f1 = |limit: f32| {
        let kept = judged.iter().filter(|(r, _)| *r >= limit);
        let right = kept.clone().filter(|(_, positive)| *positive).count() as f64;
        2.0 * right / (kept.count() + judged.iter().filter(|(_, positive)| *positive).count()) as f64
    };
    let best = (1..100).map(|percent| f1(percent as f32 / 100.0)).fold(0.0, f64::max);
    println!("F1 {:.3} at the default cut-off, best {best:.3}", f1(DEFAULT_MIN_RELEVANCE));
    assert!(f1(DEFAULT_MIN_RELEVANCE) > 0.95 * best && best > 0.48);
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn small_collections_keep_meaningful_relevance() {
    let photos = load();
    let mut draws = Draws(1);
    let calibrations = photos.calibrations(&photos.nulls);
    for count in [1, 3, 10, 30] {
        let mut judged = Vec::new();
        for _ in 0..600 / count {
            judged.extend(photos.relevances(&calibrations, &draws.distinct(count, photos.images.len())));
        }
        let precision = average_precision(judged.clone());
        let kept: Vec<_> = judged.iter().filter(|(r, _)| *r >= DEFAULT_MIN_RELEVANCE).collect();
        let right = kept.iter().filter(|(_, positive)| *positive).count() as f64;
        println!("{count} photos: average precision {precision:.3}, at the cut-off {:.3}", right / kept.len() as f64);
        assert!(precision > 0.43 && right / kept.len() as f64 > 0.4, "{count}: {precision}");
    }
    // None of ten matches: next to nothing is kept.
    let (mut kept, mut of) = (0, 0);
    for category in photos.present() {
        let absent: Vec<usize> = (0..photos.images.len()).filter(|p| !photos.truth[*p][category]).collect();
        for _ in 0..5 {
            let ten: Vec<usize> = draws.distinct(10, absent.len()).into_iter().map(|i| absent[i]).collect();
            of += ten.len();
            let judged = photos.relevance_of(category, &calibrations, &ten);
            kept += judged.iter().filter(|relevance| **relevance >= DEFAULT_MIN_RELEVANCE).count();
        }
    }
    println!("none matches: {kept} of {of} kept");
    assert!((kept as f64) < 0.04 * of as f64, "{kept} of {of}");
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn the_best_of_80_categories_is_in_the_photo() {
    let photos = load();
    let right = (0..photos.images.len()).filter(|photo| {
        let scores = classify(&photos.cosines(*photo), LabelScoring::Softmax { scale: 100.0 }, None);
        photos.truth[*photo][scores.best.unwrap()]
    });
    let share = right.count() as f64 / photos.images.len() as f64;
    println!("top-1 in the photo: {share:.3}");
    assert!(share >= 0.84, "{share}");
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn absent_labels_are_answered_with_none_of_these() {
    let photos = load();
    let mut draws = Draws(2);
    let calibrations = photos.calibrations(&photos.nulls);
    for (labels, least_precision, least_recall) in [(1, 0.72, 0.87), (5, 0.65, 0.80), (20, 0.62, 0.68)] {
        // Predicted none and none is there; predicted none; none is there.
        let (mut both, mut predicted, mut actual) = (0, 0, 0);
        for photo in (0..photos.images.len()).cycle().take(126 * 20) {
            let cosines = photos.cosines(photo);
            let (there, absent): (Vec<_>, Vec<_>) = (0..80).partition(|c| photos.truth[photo][*c]);
            let mut chosen: Vec<usize> = draws.distinct(labels, absent.len()).into_iter().map(|i| absent[i]).collect();
            let none_there = draws.below(2) == 0;
            if !none_there {
                chosen[0] = there[draws.below(there.len())];
            }
            let chosen: Vec<f32> = chosen.into_iter().map(|category| cosines[category]).collect();
            let scores = classify(&chosen, LabelScoring::Softmax { scale: 100.0 }, Some(&calibrations[photo]));
            let none = scores.none_of_these.unwrap() > 0.5;
            both += usize::from(none && none_there);
            predicted += usize::from(none);
            actual += usize::from(none_there);
        }
        let (precision, recall) = (f64::from(both as u32) / predicted as f64, f64::from(both as u32) / actual as f64);
        println!("{labels} labels: none of these with precision {precision:.3}, recall {recall:.3}");
        assert!(precision >= least_precision && recall >= least_recall, "{labels}: {precision} {recall}");
    }
}

/// The lower quartile, the median and the upper quartile.
fn quartiles(mut values: Vec<f32>) -> [f32; 3] {
    values.sort_by(f32::total_cmp);
    [0.25, 0.5, 0.75].map(|share| values[(values.len() as f32 * share) as usize])
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn margins_between_absent_classes_are_the_noise_that_counterfactuals_are_held_against() {
    let photos = load();
    let calibrations = photos.calibrations(&photos.nulls);
    let (mut absent_pairs, mut present_over_absent) = (Vec::new(), Vec::new());
    for (photo, calibration) in calibrations.iter().enumerate() {
        let scores: Vec<f32> = photos.cosines(photo).iter().map(|cosine| calibration.normalise(*cosine)).collect();
        let absent: Vec<f32> = (0..scores.len()).filter(|c| !photos.truth[photo][*c]).map(|c| scores[c]).collect();
        for (at, score) in absent.iter().enumerate() {
            absent_pairs.extend(absent[..at].iter().map(|other| (score - other).abs()));
        }
        for present in (0..scores.len()).filter(|c| photos.truth[photo][*c]) {
            present_over_absent.extend(absent.iter().map(|other| scores[present] - other));
        }
    }
    let below = absent_pairs.iter().filter(|margin| **margin < NOISE_SIGMA).count() as f32 / absent_pairs.len() as f32;
    let fact = find("noise-margin").unwrap();
    let close = |measured: f32, of: &str| (f64::from(measured) - fact.value(of).unwrap()).abs() < 0.005;
    let (noise, signal) = (quartiles(absent_pairs)[1], quartiles(present_over_absent)[1]);
    assert!(close(noise, "both absent, median"), "{noise}");
    assert!(close(signal, "present above absent, median"), "{signal}");
    assert!((0.78..0.82).contains(&below), "{below}");
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn a_photo_is_seldom_called_far_from_other_photos() {
    let photos = load();
    let bests: Vec<f32> = photos.images.iter().map(|image| best(image, &photos.nulls)).collect();
    let (mut far_ones, mut judged) = (0, 0);
    for round in 0..40 {
        let mut draws = Draws(round);
        let known = draws.distinct(60, bests.len());
        let references: Vec<f32> = known.iter().map(|photo| bests[*photo]).collect();
        for photo in (0..bests.len()).filter(|photo| !known.contains(photo)) {
            judged += 1;
            far_ones += usize::from(far(bests[photo], references.clone()).ok == Some(false));
        }
    }
    let share = far_ones as f32 / judged as f32;
    assert!(share < 0.03, "{share} of the photos are called far");
}

/// scikit-learn's `Lasso` on the same vectors: number and weight of every concept, printed by `tools/splice_study.py`.
#[expect(clippy::unreadable_literal, reason = "as printed")]
const MIXES: [(usize, &[(usize, f32)]); 3] = [
    (
        0,
        &[
            (1116, 0.085355),
            (80, 0.057573),
            (1043, 0.056756),
            (304, 0.045783),
            (531, 0.043323),
            (921, 0.032949),
            (1127, 0.03261),
            (153, 0.029186),
            (201, 0.028487),
            (782, 0.026424),
            (303, 0.025756),
            (749, 0.021555),
            (148, 0.019603),
            (1008, 0.015888),
            (68, 0.013146),
            (755, 0.010528),
            (751, 0.010366),
            (772, 0.006146),
            (464, 0.005299),
            (721, 0.004853),
            (576, 0.004533),
        ],
    ),
    (
        40,
        &[
            (930, 0.11962),
            (567, 0.062277),
            (847, 0.059015),
            (1109, 0.054585),
            (427, 0.054249),
            (2, 0.033891),
            (336, 0.02845),
            (1186, 0.025142),
            (315, 0.01575),
            (397, 0.01284),
            (595, 0.010861),
            (506, 0.002968),
            (0, 0.002532),
        ],
    ),
    (
        100,
        &[
            (1184, 0.0441),
            (381, 0.038236),
            (1097, 0.031689),
            (1158, 0.031523),
            (15, 0.030812),
            (64, 0.030791),
            (1050, 0.028907),
            (574, 0.024863),
            (1096, 0.018586),
            (67, 0.013075),
            (533, 0.004506),
            (271, 0.00251),
            (731, 0.00192),
            (1108, 0.001652),
            (1163, 0.001262),
            (730, 0.001128),
            (19, 0.001104),
        ],
    ),
];

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn a_vector_is_the_mix_of_concepts_that_scikit_learn_finds() {
    let photos = load();
    let concepts = Concepts::new(&photos.nulls);
    let common = mean(&photos.images);
    for (photo, expected) in MIXES {
        let mix = concepts.mix(&photos.images[photo], &common, PENALTY);
        assert_eq!(mix.weights.len(), expected.len(), "photo {photo}: {:?}", mix.weights);
        for (number, weight) in expected {
            let found = mix.weights.iter().find(|(at, _)| at == number).unwrap_or_else(|| panic!("{number}"));
            assert!((found.1 - weight).abs() < 2e-5, "photo {photo}, concept {number}: {} for {weight}", found.1);
        }
        assert!(mix.cosine > 0.25, "{}", mix.cosine);
    }
}

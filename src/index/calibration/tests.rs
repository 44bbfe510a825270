use super::*;

fn image(mean: f32, spread: f32) -> ImageCalibration {
    ImageCalibration { mean, spread }
}

#[test]
fn null_texts_are_many_distinct_lines() {
    let texts = null_texts();
    let distinct: std::collections::HashSet<_> = texts.iter().collect();
    assert!((400..=800).contains(&texts.len()), "{}", texts.len());
    assert_eq!(distinct.len(), texts.len());
    assert!(texts.iter().all(|t| t.trim() == t && t.len() < 60));
    assert_ne!(null_fingerprint(&texts), null_fingerprint(&texts[1..]));
}

#[test]
fn measure_gives_mean_and_spread_and_never_zero() {
    let nulls = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
    let got = ImageCalibration::measure(&[1.0, 0.0], &nulls);
    assert!((got.mean - 0.5).abs() < 1e-6 && (got.spread - 0.5).abs() < 1e-6);
    let flat = ImageCalibration::measure(&[1.0, 0.0], &[vec![1.0, 0.0]]);
    assert!(flat.spread > 0.0 && flat.normalise(1.0).abs() < 1e-6);
    assert!(ImageCalibration::measure(&[1.0], &[]).normalise(0.2).is_finite());
}

#[test]
fn equal_null_vectors_count_once() {
    let kept = distinct_nulls(vec![vec![1.0, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]]);
    assert_eq!(kept, vec![vec![1.0, 0.0], vec![0.0, 1.0]]);
}

#[test]
fn relevance_keeps_the_order_and_stays_in_range() {
    for scores in [vec![], vec![4.0], vec![0.0; 3], vec![5.0; 1000], (0..40).map(|i| i as f32 / 10.0).collect()] {
        let query = QueryCalibration::for_text(&scores);
        let got: Vec<f32> = (-50..50).map(|x| relevance(query.standardise(x as f32 / 5.0))).collect();
        assert!(got.windows(2).all(|w| w[0] <= w[1]), "{scores:?}");
        assert!(got.iter().all(|r| (0.0..=1.0).contains(r)));
    }
}

#[test]
fn a_single_image_is_judged_by_the_prior() {
    let judge = |score: f32| relevance(QueryCalibration::for_text(&[score]).standardise(score));
    assert!(judge(4.0) > 0.8, "{}", judge(4.0));
    assert!(judge(0.0) < 0.05, "{}", judge(0.0));
}

#[test]
fn a_collection_of_nothing_but_matches_keeps_them() {
    for count in [2, 9, 100, 10_000] {
        let query = QueryCalibration::for_text(&vec![4.0; count]);
        let got = relevance(query.standardise(4.0));
        assert!(got > 2.0 * DEFAULT_MIN_RELEVANCE, "{count} images: {got}");
    }
}

#[test]
fn image_queries_know_copies_from_strangers() {
    // A copy, then strangers as ViT-B/32 sees them, then as a model that presses all photos together does.
    for (level, count) in [(0.47, 0), (0.47, 200), (0.8, 200)] {
        let mut cosines = vec![level; count];
        cosines.push(0.999);
        let query = QueryCalibration::for_image(&cosines);
        assert!(relevance(query.standardise(0.999)) > 0.9);
        if count > 0 {
            assert!(relevance(query.standardise(level)) < 0.1);
        }
    }
}

#[test]
fn classify_softmax_sums_to_one_and_names_the_first_of_equals() {
    let got = classify(&[0.2, 0.3, 0.3], LabelScoring::Softmax { scale: 100.0 }, Some(&image(0.2, 0.02)));
    assert!((got.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert_eq!(got.best, Some(1));
    assert!(got.none_of_these.is_some_and(|p| p < 0.05));
    let none = classify(&[0.2, 0.21], LabelScoring::Softmax { scale: 100.0 }, Some(&image(0.2, 0.02)));
    assert!(none.none_of_these.is_some_and(|p| p > 0.5));
    assert_eq!(classify(&[], LabelScoring::Softmax { scale: 100.0 }, None).best, None);
}

#[test]
fn sigmoid_judges_each_label_alone() {
    let got = classify(&[0.1, 0.15], LabelScoring::Sigmoid { scale: 100.0, bias: -10.0 }, None);
    assert!((got.probabilities[0] - 0.5).abs() < 1e-5 && got.probabilities[1] > 0.99);
    assert_eq!(got.none_of_these, None);
}

#[test]
fn moments_of_pieces_are_those_of_the_whole() {
    let values: Vec<f32> = (0..1003).map(|i| 0.8 + (i as f32 * 0.7).sin() * 0.01).collect();
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 1003.0;
    let spread = (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 1003.0).sqrt();
    let pieces: Moments = values.chunks(100).map(Moments::of).sum();
    assert!((f64::from(pieces.mean()) - mean).abs() < 1e-7 && (f64::from(pieces.spread()) - spread).abs() < 1e-8);
    let low: Vec<f32> = values.iter().copied().filter(|v| *v < 0.8).collect();
    let (below, of_low) = (Moments::below(&values, 0.8), Moments::of(&low));
    assert!((below.mean() - of_low.mean()).abs() < 1e-7 && (below.spread() - of_low.spread()).abs() < 1e-7);
    assert_eq!((Moments::of(&[]).mean(), Moments::of(&[]).spread()), (0.0, 0.0));
}

#[test]
fn dot_handles_every_length() {
    for len in 0..70 {
        let a: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let expected: f32 = a.iter().map(|x| x * x).sum();
        assert!((dot(&a, &a) - expected).abs() <= expected * 1e-6, "{len}");
    }
}

//! Verified search on real photos: candidates ranked by real CLIP vectors (`OpenAI` ViT-B/32, ../shared/clip-vectors), checked with
//! YOLOX-nano, truth from COCO's boxes. The 47 photos of ../shared/photos/coco that have a vector and labels; of each query every photo is
//! a candidate. A query's text vector is that of the thing that candidates are looked for by ("a dog" of "three dogs").

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clip_aware::config::{Config, Requested};
use clip_aware::engine::search::Hit;
use clip_aware::engine::verified::Effort;
use clip_aware::engine::{Engine, Watch};
use clip_aware::geometry::relations::{self, Kind, Placed, Relation};
use clip_aware::index::FileRow;
use clip_aware::index::calibration::{ImageCalibration, dot};
use clip_aware::knowledge::claims;

use crate::ranking::{Photos, load};
use crate::relate::{Annotated, truth};
use crate::shared;

/// A photo with its vector and boxes.
struct Photo {
    row: usize,
    file: String,
    boxes: Annotated,
}

struct Query {
    text: String,
    /// Categories that candidates are looked for by.
    seen: Vec<usize>,
    /// Whether each photo is right.
    right: Vec<bool>,
}

fn photos(all: &Photos) -> Vec<Photo> {
    let known: BTreeMap<String, usize> = all.files.iter().cloned().zip(0..).collect();
    let with_vector = truth(usize::MAX).into_iter().filter_map(|(file, boxes)| {
        let row = *known.get(&file)?;
        Some(Photo { row, file, boxes })
    });
    with_vector.collect()
}

fn number(photo: &Photo, class: &str) -> usize {
    photo.boxes.iter().filter(|(name, _)| name == class).count()
}

fn plural(class: &str) -> String {
    match class {
        "person" => "people".into(),
        "bus" | "sandwich" | "couch" | "bench" | "toothbrush" | "wine glass" => format!("{class}es"),
        "sheep" | "skis" | "scissors" => class.into(),
        "knife" => "knives".into(),
        class => format!("{class}s"),
    }
}

/// "two dogs": of every class and number that at least two photos show.
fn counts(photos: &[Photo], names: &[String]) -> Vec<Query> {
    let words = ["one", "two", "three", "four", "five"];
    let mut queries = Vec::new();
    for (class, name) in names.iter().enumerate() {
        for (n, word) in (1..).zip(words) {
            let right: Vec<bool> = photos.iter().map(|photo| number(photo, name) == n).collect();
            let shown = photos.iter().filter(|photo| number(photo, name) > 0).count();
            let positives = right.iter().filter(|right| **right).count();
            // Some photo shows another number: else there is nothing to tell apart.
            if positives >= 2 && shown > positives {
                let thing = if n == 1 { name.clone() } else { plural(name) };
                queries.push(Query { text: format!("{word} {thing}"), seen: vec![class], right });
            }
        }
    }
    queries
}

/// "a dog without a person": of every pair of classes of which two photos and more show the first alone, and two both.
fn absences(photos: &[Photo], names: &[String]) -> Vec<Query> {
    let mut queries = Vec::new();
    for (class, name) in names.iter().enumerate() {
        for other in names.iter().filter(|other| *other != name) {
            let has = |photo: &Photo| (number(photo, name) > 0, number(photo, other) > 0);
            let right: Vec<bool> = photos.iter().map(|photo| has(photo) == (true, false)).collect();
            let both = photos.iter().filter(|photo| has(photo) == (true, true)).count();
            if right.iter().filter(|right| **right).count() >= 2 && both >= 2 {
                queries.push(Query { text: format!("a {name} without a {other}"), seen: vec![class], right });
            }
        }
    }
    queries
}

/// "a dog left of a person", and the like: of every pair of classes that two photos and more show together.
fn relations_of(photos: &[Photo], names: &[String]) -> Vec<Query> {
    let asked = [Relation::LeftOf, Relation::RightOf, Relation::Above, Relation::Below];
    let mut queries = Vec::new();
    for (class, name) in names.iter().enumerate() {
        for (other_class, other) in names.iter().enumerate().filter(|(at, _)| *at != class) {
            for relation in asked {
                let holds = |photo: &Photo| {
                    let placed = |wanted: &str| -> Vec<Placed> {
                        let own = photo.boxes.iter().filter(|(name, _)| name == wanted);
                        own.map(|(_, bounds)| Placed { bounds: *bounds, jitter: 0.0, kind: Kind::default() }).collect()
                    };
                    let (subjects, objects) = (placed(name), placed(other));
                    subjects.iter().any(|s| objects.iter().any(|o| relations::holds(relation, s, o, (640.0, 640.0))))
                };
                let right: Vec<bool> = photos.iter().map(holds).collect();
                let together = photos.iter().filter(|p| number(p, name) > 0 && number(p, other) > 0).count();
                let positives = right.iter().filter(|right| **right).count();
                if positives >= 1 && together > positives {
                    let text = format!("a {name} {} a {other}", relation.words());
                    queries.push(Query { text, seen: vec![class, other_class], right });
                }
            }
        }
    }
    queries
}

/// Photos in the order of CLIP: mean over the things that are looked for, each above the photo's neutral texts.
fn clip_order(query: &Query, photos: &[Photo], all: &Photos) -> Vec<(usize, f32)> {
    let score = |photo: &Photo| {
        let image = &all.images[photo.row];
        let level = ImageCalibration::measure(image, &all.nulls);
        let of = |class: &usize| level.normalise(dot(&all.categories[*class], image));
        query.seen.iter().map(of).sum::<f32>() / query.seen.len() as f32
    };
    let mut order: Vec<(usize, f32)> = photos.iter().map(score).enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order
}

/// Share of right ones among the first `k`, `k` the number of right ones, at most 5.
fn precision(order: &[usize], right: &[bool]) -> f64 {
    let k = right.iter().filter(|right| **right).count().min(5);
    order.iter().take(k).filter(|at| right[**at]).count() as f64 / k as f64
}

/// Mean precision of CLIP's order and of the verified one.
fn compare(engine: &Engine, kind: &str, queries: &[Query], photos: &[Photo], all: &Photos) -> (f64, f64) {
    let root = shared().canonicalize().unwrap();
    let cancel = AtomicBool::new(false);
    let watch = Watch { progress: &|_| (), cancel: &cancel };
    let (mut plain, mut verified) = (0.0, 0.0);
    for query in queries {
        let order = clip_order(query, photos, all);
        let hits = order.iter().map(|(at, score)| hit(root.join("photos/coco/images").join(&photos[*at].file), *score));
        let claims = claims::read(&query.text);
        let checker = engine.checker(std::slice::from_ref(&claims), None, &watch).unwrap();
        let effort = Effort { best: photos.len(), budget: Duration::from_secs(600) };
        let (checked, report) = engine.verify_hits(&checker, hits.collect(), photos.len(), effort, &watch).unwrap();
        assert!(report.unchecked.is_empty(), "{}: {:?}", query.text, report.unchecked);
        let at = |path: &PathBuf| photos.iter().position(|photo| path.ends_with(&photo.file)).unwrap();
        let after: Vec<usize> = checked.iter().map(|one| at(&one.hit.file.path)).collect();
        let before: Vec<usize> = order.iter().map(|(at, _)| *at).collect();
        plain += precision(&before, &query.right);
        verified += precision(&after, &query.right);
    }
    let (plain, verified) = (plain / queries.len() as f64, verified / queries.len() as f64);
    println!("{kind}: {} queries, precision@k {plain:.3} by CLIP alone, {verified:.3} verified", queries.len());
    (plain, verified)
}

fn hit(path: PathBuf, score: f32) -> Hit {
    let file =
        FileRow { path, size: 0, mtime_ns: 0, width: 0, height: 0, format: "jpeg".into(), taken_at: None, look: 0 };
    Hit { file, score, relevance: score, duplicates: Vec::new(), changed: false }
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn verification_puts_right_photos_first() {
    let all = load();
    let photos = photos(&all);
    assert_eq!(photos.len(), 47);
    let dir = tempfile::tempdir().unwrap();
    let config_file = dir.path().join("config.toml");
    std::fs::write(&config_file, "").unwrap();
    let root = shared().canonicalize().unwrap();
    let requested = Requested {
        detector: Some(root.join("models/yolox-nano").display().to_string()),
        roots: vec![root],
        data_dir: Some(dir.path().join("data")),
        config_file: Some(config_file),
        ..Requested::default()
    };
    let engine = Engine::new(Config::resolve(requested).unwrap());
    let (plain, verified) = compare(&engine, "counts", &counts(&photos, &all.names), &photos, &all);
    assert!(verified >= plain + 0.30, "{plain} and {verified}");
    let (plain, verified) = compare(&engine, "absence", &absences(&photos, &all.names), &photos, &all);
    assert!(verified >= plain + 0.30, "{plain} and {verified}");
    let (plain, verified) = compare(&engine, "relations", &relations_of(&photos, &all.names), &photos, &all);
    assert!(verified >= plain + 0.10, "{plain} and {verified}");
}

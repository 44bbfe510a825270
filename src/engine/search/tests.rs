use std::sync::atomic::AtomicBool;

use image::Rgb;

use super::*;
use crate::engine::fake::Bench;

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

/// Photos of seven colours, some more than once.
fn gallery() -> Bench {
    let bench = Bench::new();
    let colours = [RED, BLUE, [0, 255, 0], [255, 255, 0], [0, 255, 255], [255, 0, 255], [255, 255, 255]];
    for (number, colour) in colours.into_iter().enumerate() {
        bench.paint(&format!("a/{number}.png"), colour, number as u8);
    }
    bench.paint("b/dark red.png", [150, 0, 0], 1);
    bench.paint("b/purple.png", [200, 0, 160], 1);
    bench.index("").unwrap();
    bench
}

fn request(bench: &Bench, texts: &[&str], images: &[[u8; 3]], minus: &[&str]) -> SearchRequest {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let images: Vec<_> = images.iter().map(|colour| RgbImage::from_pixel(4, 4, Rgb(*colour))).collect();
    SearchRequest {
        query: Query::embed(&bench.model, &own(texts), &images, &own(minus)).unwrap(),
        filter: Filter::default(),
        top_k: 5,
        min_relevance: Some(0.0),
        group_duplicates: false,
        exact: false,
    }
}

fn run(bench: &Bench, request: &SearchRequest) -> Result<SearchOutcome> {
    let catalogue = bench.catalogue();
    let set = catalogue.find_set(&bench.model.set_key()).unwrap().unwrap();
    search(&catalogue, &VectorCache::default(), &set, request)
}

fn names(bench: &Bench, outcome: &SearchOutcome) -> Vec<String> {
    let name = |hit: &Hit| hit.file.path.strip_prefix(&bench.photos).unwrap().to_str().unwrap().to_owned();
    outcome.hits.iter().map(name).collect()
}

#[test]
fn a_text_finds_its_colour_and_relevance_falls() {
    let bench = gallery();
    let outcome = run(&bench, &request(&bench, &["red"], &[], &[])).unwrap();
    assert_eq!(names(&bench, &outcome)[0], "a/0.png");
    assert!(outcome.hits.windows(2).all(|w| w[0].relevance >= w[1].relevance));
    assert!(outcome.hits[0].score > 0.99 && outcome.best_relevance == Some(outcome.hits[0].relevance));
    assert_eq!((outcome.indexed, outcome.skipped, outcome.considered), (9, 0, 9));
    assert_eq!((outcome.hits[0].file.width, outcome.hits[0].file.height), (16, 12));
}

#[test]
fn an_image_finds_its_like_and_a_text_bends_it() {
    let bench = gallery();
    assert_eq!(names(&bench, &run(&bench, &request(&bench, &[], &[BLUE], &[])).unwrap())[0], "a/1.png");
    let rank = |texts: &[&str]| {
        let wide = SearchRequest { top_k: 9, ..request(&bench, texts, &[RED], &[]) };
        names(&bench, &run(&bench, &wide).unwrap()).iter().position(|name| name == "b/purple.png").unwrap()
    };
    assert!(rank(&["blue"]) < rank(&["yellow"]), "{} {}", rank(&["blue"]), rank(&["yellow"]));
}

#[test]
fn minus_pushes_down_what_has_it() {
    let bench = gallery();
    let rank = |minus: &[&str], name: &str| {
        let wide = SearchRequest { top_k: 9, ..request(&bench, &["red"], &[], minus) };
        names(&bench, &run(&bench, &wide).unwrap()).iter().position(|n| n == name).unwrap()
    };
    assert!(rank(&["blue"], "a/5.png") > rank(&[], "a/5.png"));
    assert_eq!(rank(&["blue"], "a/0.png"), 0);
}

#[test]
fn the_cut_off_leaves_out_what_does_not_fit() {
    let bench = gallery();
    let all = run(&bench, &request(&bench, &["red"], &[], &[])).unwrap();
    let limit = all.hits[1].relevance;
    let some = SearchRequest { min_relevance: Some(limit), ..request(&bench, &["red"], &[], &[]) };
    assert_eq!(run(&bench, &some).unwrap().hits, all.hits[..2]);
    let none = SearchRequest { min_relevance: Some(1.1), ..some };
    let outcome = run(&bench, &none).unwrap();
    assert!(outcome.hits.is_empty() && outcome.best_relevance == all.best_relevance);
    let default = SearchRequest { min_relevance: None, ..none };
    assert!((run(&bench, &default).unwrap().min_relevance - DEFAULT_MIN_RELEVANCE).abs() < f32::EPSILON);
}

#[test]
fn filters_limit_the_place_and_keep_the_relevance() {
    let bench = gallery();
    let all = SearchRequest { top_k: 9, ..request(&bench, &["red"], &[], &[]) };
    let under = Filter { under: vec![bench.path("b")], ..Filter::default() };
    let outcome = run(&bench, &SearchRequest { filter: under, ..all.clone() }).unwrap();
    assert_eq!(names(&bench, &outcome), ["b/dark red.png", "b/purple.png"]);
    assert_eq!((outcome.indexed, outcome.considered), (2, 2));
    let whole = run(&bench, &all).unwrap();
    let same = whole.hits.iter().find(|hit| hit.file == outcome.hits[0].file).unwrap();
    assert!((same.relevance - outcome.hits[0].relevance).abs() < 1e-6);

    let wide = Filter { min_width: Some(17), ..Filter::default() };
    let outcome = run(&bench, &SearchRequest { filter: wide, ..all.clone() }).unwrap();
    assert_eq!((outcome.hits.len(), outcome.indexed, outcome.considered), (0, 9, 0));
    let elsewhere = Filter { under: vec![bench.path("c")], ..Filter::default() };
    let error = run(&bench, &SearchRequest { filter: elsewhere, ..all }).unwrap_err();
    assert!(matches!(error, Error::NothingIndexed { under: Some(_) }));
}

#[test]
fn vanished_files_are_dropped_and_changed_ones_marked() {
    let bench = gallery();
    std::fs::remove_file(bench.path("a/0.png")).unwrap();
    std::fs::write(bench.path("b/dark red.png"), "something else").unwrap();
    let outcome = run(&bench, &request(&bench, &["red"], &[], &[])).unwrap();
    assert!(!names(&bench, &outcome).contains(&"a/0.png".to_owned()));
    assert_eq!((outcome.vanished, outcome.hits.len()), (1, 5));
    let changed: Vec<_> = outcome.hits.iter().filter(|hit| hit.changed).map(|hit| &hit.file.path).collect();
    assert_eq!(changed, [&bench.path("b/dark red.png")]);
}

#[test]
fn a_search_among_files_that_are_gone_ends_and_says_so() {
    let bench = gallery();
    let catalogue = bench.catalogue();
    let set = catalogue.find_set(&bench.model.set_key()).unwrap().unwrap();
    for group_duplicates in [false, true] {
        let red = SearchRequest { group_duplicates, ..request(&bench, &["red"], &[], &[]) };
        let past = |gone| search_past(gone, &catalogue, &VectorCache::default(), &set, &red).unwrap();
        let whole = run(&bench, &red).unwrap();
        let best: Vec<PathBuf> = whole.hits.iter().take(3).map(|hit| hit.file.path.clone()).collect();
        let aside = |path: &PathBuf| path.with_extension("aside");
        for path in &best {
            std::fs::rename(path, aside(path)).unwrap();
        }
        // Two missing ones are looked past, three are not; nor do they count once something is there.
        let outcome = past(3);
        assert_eq!((outcome.vanished, outcome.gave_up, outcome.hits.len()), (3, true, 0));
        let outcome = past(4);
        assert_eq!((outcome.vanished, outcome.gave_up, outcome.hits.len()), (3, false, 5));
        std::fs::rename(aside(&best[1]), &best[1]).unwrap();
        assert_eq!((past(2).gave_up, past(2).hits[0].file.path == best[1]), (false, true));
        for path in best.iter().filter(|path| !path.exists()) {
            std::fs::rename(aside(path), path).unwrap();
        }
        // The whole drive.
        std::fs::rename(&bench.photos, bench.photos.with_extension("away")).unwrap();
        let outcome = past(4);
        assert_eq!((outcome.vanished, outcome.gave_up), (4, true));
        std::fs::rename(bench.photos.with_extension("away"), &bench.photos).unwrap();
    }
}

#[test]
fn duplicates_become_one_hit() {
    let bench = gallery();
    std::fs::copy(bench.path("a/0.png"), bench.path("b/copy.png")).unwrap();
    bench.paint("b/almost.png", [254, 1, 0], 9);
    bench.index("").unwrap();
    let grouped = SearchRequest { group_duplicates: true, top_k: 1, ..request(&bench, &["red"], &[], &[]) };
    let outcome = run(&bench, &grouped).unwrap();
    assert_eq!(outcome.hits.len(), 1);
    let mut all: Vec<_> = outcome.hits[0].duplicates.iter().chain([&outcome.hits[0].file.path]).cloned().collect();
    all.sort();
    assert_eq!(all, [bench.path("a/0.png"), bench.path("b/almost.png"), bench.path("b/copy.png")]);
    let single = run(&bench, &SearchRequest { group_duplicates: false, top_k: 3, ..grouped }).unwrap();
    assert!(single.hits.len() == 3 && single.hits.iter().all(|hit| hit.duplicates.is_empty()));

    let catalogue = bench.catalogue();
    let set = catalogue.find_set(&bench.model.set_key()).unwrap().unwrap();
    let groups = |filter: &Filter| {
        let cancel = AtomicBool::new(false);
        duplicate_groups(&catalogue, &VectorCache::default(), &set, filter, &cancel).unwrap()
    };
    let near = groups(&Filter::default());
    assert_eq!(near, [DuplicateGroup { paths: all, identical: false }]);
    let only_b = Filter { under: vec![bench.path("b")], ..Filter::default() };
    assert_eq!(groups(&only_b)[0].paths.len(), 2);
    std::fs::remove_file(bench.path("b/almost.png")).unwrap();
    bench.index("").unwrap();
    let exact = groups(&Filter::default());
    assert_eq!(
        exact,
        [DuplicateGroup { paths: vec![bench.path("a/0.png"), bench.path("b/copy.png")], identical: true }]
    );
    let cancelled =
        duplicate_groups(&catalogue, &VectorCache::default(), &set, &only_b, &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(cancelled, Error::Cancelled));
}

#[test]
fn what_cannot_be_searched_is_said() {
    let bench = gallery();
    let empty = request(&bench, &[], &[], &["red"]);
    assert!(matches!(run(&bench, &empty), Err(Error::Argument { name: "query", .. })));
    let mut other = request(&bench, &["red"], &[], &[]);
    other.query.texts[0].0.push(0.0);
    let error = run(&bench, &other).unwrap_err();
    assert!(error.to_string().contains("5 numbers") && error.to_string().contains('4'), "{error}");
    let mut weightless = request(&bench, &["red"], &[], &[]);
    weightless.query.texts[0].1 = f32::NAN;
    assert!(matches!(run(&bench, &weightless), Err(Error::Argument { name: "weight", .. })));
}

#[test]
fn coverage_counts_what_has_no_vector() {
    let bench = gallery();
    std::fs::write(bench.path("a/broken.png"), "no picture").unwrap();
    bench.index("").unwrap();
    let outcome = run(&bench, &request(&bench, &["red"], &[], &[])).unwrap();
    assert_eq!((outcome.indexed, outcome.skipped), (9, 1));
    let catalogue = bench.catalogue();
    let status = catalogue.status().unwrap();
    let set = &status.sets[0];
    let coverage = &status.folders[0].coverage[&set.id];
    assert_eq!((coverage.files, coverage.indexed, coverage.waiting, coverage.refused), (10, 9, 0, 1));
    assert!(coverage.reasons[0].1.contains("cannot be decoded") && status.bytes > 0);
    assert!(status.folders[0].last_run.is_some_and(|run| run.complete && run.found == 10));
    assert_eq!(catalogue.coverage(None, None, 0).unwrap().waiting, 9);
}

#[test]
fn the_same_search_gives_the_same_answer() {
    let bench = gallery();
    for number in 0..20 {
        // Equal standing: one vector, different bytes.
        let mut picture = RgbImage::from_pixel(16, 16, Rgb([40, 80, 120]));
        picture.put_pixel(number % 16, number / 16, Rgb([41, 80, 120]));
        picture.save(bench.path(&format!("{:02}.png", 19 - number))).unwrap();
    }
    bench.index("").unwrap();
    let wide = SearchRequest { top_k: 40, ..request(&bench, &["blue"], &[], &[]) };
    let first = run(&bench, &wide).unwrap();
    assert_eq!(first, run(&bench, &wide).unwrap());
    let equal: Vec<_> = names(&bench, &first).into_iter().filter(|name| !name.contains('/')).collect();
    assert_eq!(equal.len(), 20);
    assert!(equal.is_sorted());
}

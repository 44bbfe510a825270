//! The list of files is a cache: what a filter reaches is what the database says, whatever happened to the list.

use std::path::PathBuf;

use super::*;
use crate::index::calibration::ImageCalibration;
use crate::index::{Content, FileOutcome, FileRecord, SetInfo, SetKey, VectorCache};

const FORMATS: [&str; 3] = ["jpeg", "png", "webp"];

/// Files in three folders, some without a picture, some showing the same one.
fn record(number: u32) -> FileRecord {
    let picture = number - number % 5 % 2;
    let content = Content {
        hash: *blake3::hash(&picture.to_le_bytes()).as_bytes(),
        width: 100 + picture % 50,
        height: 80,
        format: FORMATS[picture as usize % 3].into(),
        taken_at: picture.is_multiple_of(4).then_some(i64::from(picture) * 1000),
        look: 0,
    };
    let vector = vec![1.0, picture as f32];
    let outcome = if number % 7 == 3 {
        FileOutcome::Refused { reason: "no picture".into(), decoder: "test".into() }
    } else {
        FileOutcome::Embedded { content, vector, calibration: ImageCalibration { mean: 0.1, spread: 0.5 } }
    };
    let folder = ["a", "a/b", "a.b"][number as usize % 3];
    FileRecord {
        path: format!("/photos/{folder}/{number}").into(),
        size: u64::from(number) * 10,
        mtime_ns: i64::from(number) * 1_000_000_000_000,
        outcome,
    }
}

fn filled(dir: &Path, count: u32) -> (Catalogue, SetInfo) {
    let mut catalogue = Catalogue::open(dir).unwrap();
    let key =
        SetKey { model: "m".into(), revision: "r".into(), precision: "f32".into(), dim: 2, preprocessing: "p".into() };
    let set = catalogue.ensure_set(&key).unwrap();
    let records: Vec<_> = (0..count).map(record).collect();
    catalogue.write_batch(&set, &records).unwrap();
    (catalogue, set)
}

fn filters() -> Vec<Filter> {
    let under = |folders: &[&str]| Filter { under: folders.iter().map(PathBuf::from).collect(), ..Filter::default() };
    vec![
        Filter::default(),
        under(&["/photos/a"]),
        under(&["/photos/a/b", "/photos/a.b"]),
        under(&["/nowhere"]),
        Filter { min_width: Some(120), ..under(&["/photos"]) },
        Filter { max_height: Some(79), ..Filter::default() },
        Filter { from: Some(20_000), until: Some(50_000), ..under(&["/photos/a"]) },
        Filter { formats: vec!["png".into(), "webp".into()], min_bytes: Some(100), ..Filter::default() },
        Filter { formats: vec!["bmp".into()], ..Filter::default() },
    ]
}

/// What a filter reaches, asked file by file.
fn expected(catalogue: &Catalogue, view: &View, filter: &Filter, count: u32) -> Reach {
    let mut reach = Reach { rows: RowSet::none(view.vectors().len()), ..Reach::default() };
    for number in 0..count {
        let path = record(number).path;
        let inside = filter.under.is_empty() || filter.under.iter().any(|folder| path.starts_with(folder));
        let row = (0..view.vectors().len()).find_map(|row| {
            let files = catalogue.files_of(view.vectors().content(row)?).unwrap();
            files.into_iter().find(|file| file.path == path).map(|file| (row, file))
        });
        match row {
            _ if !inside => {}
            None => reach.skipped += 1,
            Some((row, file)) => {
                reach.indexed += 1;
                if filter.admits(&file) {
                    reach.rows.insert(row);
                }
            }
        }
    }
    reach
}

fn check(catalogue: &Catalogue, set: &SetInfo, cache: &VectorCache, count: u32) {
    let view = cache.view(catalogue, set).unwrap();
    for filter in filters() {
        let reach = view.reach(&filter);
        assert_eq!(*reach, expected(catalogue, &view, &filter, count), "{filter:?}");
        assert!(Arc::ptr_eq(&reach, &view.reach(&filter)));
    }
}

#[test]
fn filters_reach_what_the_database_says() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, set) = filled(dir.path(), 60);
    let cache = VectorCache::default();
    check(&catalogue, &set, &cache, 60);
    let view = cache.view(&catalogue, &set).unwrap();
    let whole = view.reach(&Filter::default());
    assert!(whole.skipped == 9 && whole.indexed == 51 && whole.rows.len() < 51, "{whole:?}");
    assert!(Arc::ptr_eq(&view, &cache.view(&catalogue, &set).unwrap()));
}

#[test]
fn every_change_of_a_file_is_seen_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut catalogue, set) = filled(dir.path(), 40);
    let cache = VectorCache::default();
    VectorCache::refresh(&catalogue, &set).unwrap();
    check(&catalogue, &set, &cache, 40);
    catalogue.write_batch(&set, &(40..60).map(record).collect::<Vec<_>>()).unwrap();
    check(&catalogue, &set, &cache, 60);
    // A file that was replaced by another picture, and one whose picture's date was learnt.
    let replaced = FileRecord { path: record(4).path, ..record(50) };
    catalogue.write_batch(&set, &[replaced]).unwrap();
    catalogue.connection.execute("UPDATE content SET width = 5000 WHERE id = 3", []).unwrap();
    check(&catalogue, &set, &cache, 60);
    // An unchanged file changes nothing: the arrays stay.
    let before = cache.view(&catalogue, &set).unwrap();
    catalogue.write_batch(&set, &[record(6)]).unwrap();
    assert!(Arc::ptr_eq(&before, &cache.view(&catalogue, &set).unwrap()));
    catalogue.connection.execute("DELETE FROM file WHERE id % 2 = 0", []).unwrap();
    let view = cache.view(&catalogue, &set).unwrap();
    assert!(view.reach(&Filter::default()).indexed < before.reach(&Filter::default()).indexed);
}

#[test]
fn a_missing_torn_or_foreign_list_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, set) = filled(dir.path(), 30);
    VectorCache::refresh(&catalogue, &set).unwrap();
    let path = file_of(&catalogue);
    let whole = std::fs::read(&path).unwrap();
    let other = tempfile::tempdir().unwrap();
    let (second, second_set) = filled(other.path(), 30);
    VectorCache::refresh(&second, &second_set).unwrap();
    let foreign = std::fs::read(file_of(&second)).unwrap();
    assert_ne!(foreign, whole);
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for case in [Vec::new(), whole[..whole.len() - 64].to_vec(), flipped, foreign] {
        std::fs::write(&path, case).unwrap();
        check(&catalogue, &set, &VectorCache::default(), 30);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
    // A folder in the file's place can neither be read nor be replaced, even by root.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    check(&catalogue, &set, &VectorCache::default(), 30);
}

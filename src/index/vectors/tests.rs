//! The file is a cache: whatever happens to it, the answers are the database's.

use super::*;
use crate::index::calibration::{QueryCalibration, dot};
use crate::index::{Content, FileOutcome, FileRecord, SetKey, Written};

const DIM: usize = 5;

fn unit(seed: u32) -> Vec<f32> {
    let values: Vec<f32> = (0..DIM as u32).map(|i| ((seed * 7 + i * 13 + 1) as f32).sin()).collect();
    let norm = dot(&values, &values).sqrt();
    values.into_iter().map(|v| v / norm).collect()
}

fn record(number: u32) -> FileRecord {
    let content = Content {
        hash: *blake3::hash(&number.to_le_bytes()).as_bytes(),
        width: 8,
        height: 8,
        format: "png".into(),
        taken_at: None,
        look: 0,
    };
    let calibration = ImageCalibration { mean: 0.1, spread: 0.5 };
    FileRecord {
        path: format!("/photos/{number}.png").into(),
        size: 1,
        mtime_ns: 1,
        outcome: FileOutcome::Embedded { content, vector: unit(number), calibration },
    }
}

fn filled(dir: &Path, count: u32) -> (Catalogue, SetInfo) {
    let mut catalogue = Catalogue::open(dir).unwrap();
    let key = SetKey {
        model: "m".into(),
        revision: "r".into(),
        precision: "f32".into(),
        dim: DIM,
        preprocessing: "p".into(),
    };
    let set = catalogue.ensure_set(&key).unwrap();
    let records: Vec<_> = (0..count).map(record).collect();
    assert_eq!(catalogue.write_batch(&set, &records).unwrap().len(), count as usize);
    (catalogue, set)
}

fn text(vector: &[f32]) -> [Part<'_>; 1] {
    [Part { vector, role: Role::Text { weight: 1.0 } }]
}

/// Every picture's vector and calibration, whatever the order of the rows.
fn check(vectors: &Vectors, count: u32) {
    assert_eq!(vectors.len(), count as usize);
    let all: RowSet = (0..vectors.len()).collect();
    for number in 0..count {
        let best = vectors.rank(&text(&unit(number))).best(&all, 1)[0];
        assert!(best.cosine > 0.999);
        assert_eq!((vectors.content(best.row), vectors.row_of(best.content)), (Some(best.content), Some(best.row)));
        assert_eq!(vectors.calibration(best.row), Some(ImageCalibration { mean: 0.1, spread: 0.5 }));
        assert!(dot(&vectors.vector(best.row).unwrap(), &unit(number)) > 0.999);
    }
}

#[test]
fn a_missing_torn_or_foreign_file_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, set) = filled(dir.path(), 9);
    let path = file_of(dir.path(), set.id);
    check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 9);
    let whole = std::fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut longer = whole.clone();
    longer.push(0);
    let cases = [
        Vec::new(),
        whole[..40].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        longer,
        flipped(3),
        flipped(41),
        flipped(66),
        flipped(200),
        flipped(300),
        flipped(whole.len() - 1),
        vec![0; whole.len()],
    ];
    for (number, case) in cases.iter().enumerate() {
        std::fs::write(&path, case).unwrap();
        check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 9);
        assert_eq!(std::fs::read(&path).unwrap(), whole, "case {number}");
    }
    std::fs::remove_file(&path).unwrap();
    check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 9);
}

#[test]
fn a_vector_file_of_the_first_format_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, set) = filled(dir.path(), 4);
    VectorCache::refresh(&catalogue, &set).unwrap();
    let path = file_of(dir.path(), set.id);
    let now = std::fs::read(&path).unwrap();
    // Half floats behind a header of 128 bytes, as the first format had them; the magic alone must tell.
    let mut old = vec![0; 128 + 4 * DIM * 2];
    old[..8].copy_from_slice(&u64::from_be_bytes(*b"CAVEC\0\0\x01").to_ne_bytes());
    let mut renamed = now.clone();
    renamed[..8].copy_from_slice(&old[..8]);
    for older in [old, renamed] {
        std::fs::write(&path, older).unwrap();
        check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 4);
        assert_eq!(std::fs::read(&path).unwrap(), now);
    }
}

#[test]
fn a_file_left_by_a_deleted_database_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, set) = filled(dir.path(), 3);
    VectorCache::refresh(&catalogue, &set).unwrap();
    let other = tempfile::tempdir().unwrap();
    let (second, second_set) = filled(other.path(), 3);
    std::fs::copy(file_of(dir.path(), set.id), file_of(other.path(), second_set.id)).unwrap();
    let foreign = std::fs::read(file_of(dir.path(), set.id)).unwrap();
    check(&VectorCache::default().vectors(&second, &second_set).unwrap(), 3);
    assert_ne!(std::fs::read(file_of(other.path(), second_set.id)).unwrap(), foreign);
}

#[test]
fn additions_are_seen_at_once_and_removals_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut catalogue, set) = filled(dir.path(), 4);
    let cache = VectorCache::default();
    let before = cache.vectors(&catalogue, &set).unwrap();
    let stamp_of_file = std::fs::metadata(file_of(dir.path(), set.id)).unwrap().modified().unwrap();
    let written = catalogue.write_batch(&set, &[record(4), record(5)]).unwrap();
    assert!(matches!(written[0], Written::Added(_)));
    check(&cache.vectors(&catalogue, &set).unwrap(), 6);
    // Few rows lie beside the file instead of rewriting it; who held the old vectors keeps them.
    assert_eq!(std::fs::metadata(file_of(dir.path(), set.id)).unwrap().modified().unwrap(), stamp_of_file);
    check(&before, 4);
    assert_eq!(catalogue.find_set(&set.key).unwrap().unwrap().vectors, 6);
    VectorCache::refresh(&catalogue, &set).unwrap();
    check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 6);

    catalogue.connection.execute("DELETE FROM file WHERE path = CAST('/photos/5.png' AS BLOB)", []).unwrap();
    assert_eq!(catalogue.prune().unwrap(), 1);
    assert_eq!(catalogue.find_set(&set.key).unwrap().unwrap().vectors, 5);
    check(&cache.vectors(&catalogue, &set).unwrap(), 5);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, set) = filled(dir.path(), 7);
    // A folder in the file's place can neither be read nor be replaced, even by root.
    std::fs::create_dir(file_of(dir.path(), set.id)).unwrap();
    let cache = VectorCache::default();
    check(&cache.vectors(&catalogue, &set).unwrap(), 7);
    let leftovers = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert!(!leftovers.into_iter().any(|e| e.file_name().to_string_lossy().ends_with(".new")));
}

#[test]
fn a_batch_that_was_not_committed_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (mut catalogue, set) = filled(dir.path(), 2);
    // What a kill in the middle of a batch leaves: rows written, the transaction open.
    catalogue.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    catalogue.connection.execute("DELETE FROM vector", []).unwrap();
    drop(catalogue);
    catalogue = Catalogue::open(dir.path()).unwrap();
    check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 2);
}

#[test]
fn an_empty_set_has_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, set) = filled(dir.path(), 0);
    let vectors = VectorCache::default().vectors(&catalogue, &set).unwrap();
    assert!(vectors.is_empty());
    let query = unit(1);
    let ranking = vectors.rank(&text(&query));
    assert_eq!(ranking.best(&RowSet::none(0), 5), []);
    assert_eq!(ranking.usual(0), Some(QueryCalibration::for_text(&[])));
    assert_eq!((vectors.content(0), vectors.row_of(1)), (None, None));
}

#[test]
fn a_full_disk_is_an_error_with_a_hint_and_stores_nothing_by_halves() {
    let dir = tempfile::tempdir().unwrap();
    let (mut catalogue, set) = filled(dir.path(), 3);
    let pages: i64 = catalogue.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit = |connection: &rusqlite::Connection, pages: i64| {
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    limit(&catalogue.connection, pages + 1);
    let many: Vec<_> = (3..2000).map(record).collect();
    let error = catalogue.write_batch(&set, &many).unwrap_err();
    assert!(error.to_string().contains("full") && error.hint().is_some(), "{error}");
    limit(&catalogue.connection, 1 << 20);
    check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 3);
    catalogue.write_batch(&set, &many[..6]).unwrap();
    check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 9);
    assert_eq!(catalogue.damage().unwrap(), None);
}

/// The graph that a search would use.
fn links(catalogue: &Catalogue, set: &SetInfo) -> usize {
    let vectors = VectorCache::default().vectors(catalogue, set).unwrap();
    vectors.links.as_deref().map_or(0, GraphFile::len)
}

#[test]
fn a_graph_is_of_one_state_of_the_set_and_grows_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut catalogue, set) = filled(dir.path(), 300);
    let link = |catalogue: &Catalogue, least| VectorCache::link(catalogue, &set, least, &mut |_, _| true).unwrap();
    link(&catalogue, 301);
    assert_eq!(links(&catalogue, &set), 0);
    let cache = VectorCache::default();
    assert!(cache.vectors(&catalogue, &set).unwrap().links.is_none());
    link(&catalogue, 300);
    // A server that has the vectors open takes the graph when it comes.
    assert!(cache.vectors(&catalogue, &set).unwrap().links.is_some());
    // One more row is no reason to link; it is found all the same.
    catalogue.write_batch(&set, &[record(300)]).unwrap();
    VectorCache::refresh(&catalogue, &set).unwrap();
    link(&catalogue, 300);
    assert_eq!(links(&catalogue, &set), 300);
    let query = unit(300);
    let vectors = cache.vectors(&catalogue, &set).unwrap();
    assert_eq!(vectors.rank_by_graph(&text(&query)).best(&(0..301).collect(), 1)[0].row, 300);
    let more: Vec<_> = (301..320).map(record).collect();
    catalogue.write_batch(&set, &more).unwrap();
    link(&catalogue, 300);
    assert_eq!(links(&catalogue, &set), 320);
    // Removed rows: no graph until it is made again.
    catalogue.connection.execute("DELETE FROM file WHERE path = CAST('/photos/5.png' AS BLOB)", []).unwrap();
    assert_eq!(catalogue.prune().unwrap(), 1);
    assert_eq!(links(&catalogue, &set), 0);
    link(&catalogue, 300);
    assert_eq!(links(&catalogue, &set), 319);
    catalogue.remove_set(set.id).unwrap();
    assert!(!links_of(dir.path(), set.id).exists());
}

#[test]
fn a_torn_or_foreign_graph_or_one_that_was_stopped_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, set) = filled(dir.path(), 200);
    VectorCache::link(&catalogue, &set, 1, &mut |_, _| false).unwrap();
    assert_eq!(links(&catalogue, &set), 0);
    VectorCache::link(&catalogue, &set, 1, &mut |_, _| true).unwrap();
    let path = links_of(dir.path(), set.id);
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[400] ^= 1;
    let other = tempfile::tempdir().unwrap();
    let (second, second_set) = filled(other.path(), 200);
    VectorCache::link(&second, &second_set, 1, &mut |_, _| true).unwrap();
    let foreign = std::fs::read(links_of(other.path(), second_set.id)).unwrap();
    for broken in [Vec::new(), whole[..whole.len() / 2].to_vec(), flipped, foreign] {
        std::fs::write(&path, broken).unwrap();
        assert_eq!(links(&catalogue, &set), 0);
        check(&VectorCache::default().vectors(&catalogue, &set).unwrap(), 200);
    }
    VectorCache::link(&catalogue, &set, 1, &mut |_, _| true).unwrap();
    assert_eq!(links(&catalogue, &set), 200);
    let names = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert!(!names.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".new")));
}

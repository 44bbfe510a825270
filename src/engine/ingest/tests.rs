use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::*;
use crate::engine::fake::Bench;
use crate::index::VectorCache;

/// Added, updated, moved, unchanged, removed, skipped, embedded.
fn counts(report: &IngestReport) -> [u64; 7] {
    let r = report;
    [r.added, r.updated, r.moved, r.unchanged, r.removed, r.skipped, r.embedded]
}

fn vectors(bench: &Bench) -> usize {
    let catalogue = bench.catalogue();
    let set = catalogue.find_set(&bench.model.set_key()).unwrap().unwrap();
    VectorCache::default().vectors(&catalogue, &set).unwrap().len()
}

#[test]
fn a_second_run_does_nothing() {
    let bench = Bench::new();
    bench.paint_many(30);
    assert_eq!(counts(&bench.index("").unwrap()), [30, 0, 0, 0, 0, 0, 30]);
    let decoded = bench.decoded.load(Ordering::Relaxed);
    let again = bench.index("").unwrap();
    assert_eq!(counts(&again), [0, 0, 0, 30, 0, 0, 0]);
    assert_eq!((again.found, bench.decoded.load(Ordering::Relaxed)), (30, decoded));
    assert_eq!(vectors(&bench), 30);
    // Neutral texts are embedded once in the set's life.
    assert_eq!(bench.model.texts.load(Ordering::Relaxed), 60);
}

#[test]
fn moved_copied_and_touched_files_cost_no_embedding() {
    let bench = Bench::new();
    bench.paint("a.png", [250, 0, 0], 1);
    bench.paint("b.png", [0, 250, 0], 2);
    bench.paint("c.png", [0, 0, 250], 3);
    bench.index("").unwrap();
    std::fs::rename(bench.path("a.png"), bench.path("moved.png")).unwrap();
    std::fs::copy(bench.path("b.png"), bench.path("copy.png")).unwrap();
    let file = std::fs::File::options().append(true).open(bench.path("c.png")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    assert_eq!(counts(&bench.index("").unwrap()), [0, 0, 2, 2, 0, 0, 0]);
    assert_eq!(bench.decoded.load(Ordering::Relaxed), 3);
    assert_eq!(bench.catalogue().coverage(None, None, 0).unwrap().files, 4);
}

#[test]
fn changed_files_are_embedded_again_and_vanished_ones_forgotten() {
    let bench = Bench::new();
    bench.paint_many(5);
    bench.index("").unwrap();
    bench.paint("many/000.png", [9, 9, 9], 77);
    std::fs::remove_file(bench.path("many/001.png")).unwrap();
    std::fs::write(bench.path("many/002.png"), "broken now").unwrap();
    assert_eq!(counts(&bench.index("").unwrap()), [0, 1, 0, 2, 1, 1, 1]);
    assert_eq!(bench.catalogue().coverage(Some(&bench.photos), None, 0).unwrap().files, 4);
}

#[test]
fn bad_files_are_rows_with_a_reason_and_are_not_tried_twice() {
    let mut bench = Bench::new();
    bench.paint("good.png", [1, 2, 3], 1);
    std::fs::write(bench.path("broken.png"), b"\x89PNG\r\n\x1a\n and then nothing").unwrap();
    std::fs::write(bench.path("broken copy.png"), b"\x89PNG\r\n\x1a\n and then nothing").unwrap();
    std::fs::write(bench.path("empty.jpg"), b"").unwrap();
    std::fs::write(bench.path("panic.jpg"), b"panic").unwrap();
    std::fs::write(bench.path("raw.cr2"), b"raw").unwrap();
    std::fs::write(bench.path("huge.jpg"), vec![0; (1 << 20) + 1]).unwrap();
    let report = bench.index("").unwrap();
    assert_eq!(counts(&report), [1, 0, 0, 0, 0, 6, 1]);
    let reasons: Vec<_> = report
        .skipped_files
        .iter()
        .map(|(path, reason)| (path.file_name().unwrap().to_str().unwrap(), reason.as_str()))
        .collect();
    for (name, part) in [
        ("broken.png", "cannot be decoded"),
        ("broken copy.png", "cannot be decoded"),
        ("empty.jpg", "is empty"),
        ("huge.jpg", "too large"),
        ("panic.jpg", "asked to"),
        ("raw.cr2", "not an image that can be read here"),
    ] {
        assert!(reasons.iter().any(|(n, reason)| *n == name && reason.contains(part)), "{name}: {reasons:?}");
    }
    let decoded = bench.decoded.load(Ordering::Relaxed);
    assert_eq!(counts(&bench.index("").unwrap()), [0, 0, 0, 1, 0, 6, 0]);
    assert_eq!(bench.decoded.load(Ordering::Relaxed), decoded);
    // Another decoder, or other limits, try again.
    bench.options.decoder = "test 2".into();
    bench.options.limits.max_file_bytes = 2 << 20;
    assert_eq!(bench.index("").unwrap().skipped, 6);
    assert!(bench.decoded.load(Ordering::Relaxed) > decoded);
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_tried_again() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.paint("a.png", [250, 0, 0], 1);
    let allow = |mode| std::fs::set_permissions(bench.path("a.png"), std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o000);
    if std::fs::File::open(bench.path("a.png")).is_ok() {
        return; // Root reads everything; the rule is exercised where tests run as a user.
    }
    assert_eq!(bench.index("").unwrap().skipped, 1);
    allow(0o600);
    assert_eq!(counts(&bench.index("").unwrap()), [1, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn equal_files_of_one_run_are_embedded_once() {
    let bench = Bench::new();
    bench.paint("a.png", [250, 0, 0], 1);
    for number in 0..40 {
        std::fs::copy(bench.path("a.png"), bench.path(&format!("copy{number}.png"))).unwrap();
    }
    assert_eq!(counts(&bench.index("").unwrap()), [1, 0, 40, 0, 0, 0, 1]);
    assert_eq!((vectors(&bench), bench.decoded.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn nested_folders_share_their_rows() {
    let bench = Bench::new();
    bench.paint("top.png", [1, 1, 1], 1);
    bench.paint("sub/a.png", [2, 2, 2], 2);
    bench.paint("subway/b.png", [3, 3, 3], 3);
    assert_eq!(bench.index("sub").unwrap().added, 1);
    assert_eq!(counts(&bench.index("").unwrap()), [2, 0, 0, 1, 0, 0, 2]);
    assert_eq!(counts(&bench.index("sub").unwrap()), [0, 0, 0, 1, 0, 0, 0]);
    let mut catalogue = bench.catalogue();
    assert_eq!(catalogue.coverage(None, None, 0).unwrap().files, 3);
    assert_eq!(catalogue.folders().unwrap().len(), 2);
    // The outer folder still claims what the inner one held; the other way round the inner one keeps its own.
    assert_eq!(catalogue.remove_folder(&bench.path("sub")).unwrap(), 0);
    bench.index("sub").unwrap();
    assert_eq!(catalogue.remove_folder(&bench.photos).unwrap(), 2);
    assert!(catalogue.remove_folder(&bench.photos).is_err());
    assert_eq!(catalogue.prune().unwrap(), 2);
}

#[test]
fn a_folder_that_is_away_keeps_its_rows() {
    let bench = Bench::new();
    bench.paint("disk/a.png", [1, 1, 1], 1);
    bench.index("disk").unwrap();
    // An unmounted disk leaves an empty folder, or none.
    std::fs::remove_file(bench.path("disk/a.png")).unwrap();
    let report = bench.index("disk").unwrap();
    assert!(report.warning.is_some() && report.removed == 0);
    std::fs::remove_dir(bench.path("disk")).unwrap();
    assert!(matches!(bench.index("disk"), Err(Error::NotFound { .. })));
    assert_eq!(bench.catalogue().coverage(None, None, 0).unwrap().files, 1);
    // The folder around it is there: now it is gone.
    bench.paint("other.png", [2, 2, 2], 1);
    assert_eq!(bench.index("").unwrap().removed, 1);
}

#[test]
fn another_model_is_another_set_and_the_old_one_stays() {
    let mut bench = Bench::new();
    bench.paint_many(6);
    bench.index("").unwrap();
    let old = bench.model.set_key();
    bench.model.revision = "2".into();
    assert_eq!(counts(&bench.index("").unwrap()), [0, 0, 0, 6, 0, 0, 6]);
    let mut catalogue = bench.catalogue();
    let old = catalogue.find_set(&old).unwrap().unwrap();
    assert_eq!((old.vectors, catalogue.sets().unwrap().len(), vectors(&bench)), (6, 2, 6));
    assert_eq!(catalogue.remove_set(old.id).unwrap(), 6);
    assert_eq!((catalogue.sets().unwrap().len(), vectors(&bench)), (1, 6));
}

#[test]
fn changed_neutral_texts_calibrate_again_without_embedding_images() {
    let mut bench = Bench::new();
    bench.paint_many(6);
    bench.index("").unwrap();
    bench.options.null_texts.truncate(30);
    bench.paint("new.png", [200, 10, 10], 1);
    assert_eq!(counts(&bench.index("").unwrap()), [1, 0, 0, 6, 0, 0, 1]);
    assert_eq!(bench.model.texts.load(Ordering::Relaxed), 90);
    let catalogue = bench.catalogue();
    let set = catalogue.find_set(&bench.model.set_key()).unwrap().unwrap();
    let nulls =
        catalogue.null_vectors(&set, &calibration::null_fingerprint(&bench.options.null_texts)).unwrap().unwrap();
    let vectors = VectorCache::default().vectors(&catalogue, &set).unwrap();
    for row in 0..vectors.len() {
        let fresh = calibration::ImageCalibration::measure(&vectors.vector(row).unwrap(), &nulls);
        let stored = vectors.calibration(row).unwrap();
        assert!((fresh.mean - stored.mean).abs() < 2e-3 && (fresh.spread - stored.spread).abs() < 2e-3);
    }
}

#[test]
fn a_cancelled_run_keeps_what_is_done_and_the_next_goes_on() {
    let mut bench = Bench::new();
    bench.paint_many(60);
    bench.model.slowness = 20;
    let report = bench
        .index_watched("", &|progress| {
            if progress.phase == "embed" && progress.done >= 20 {
                bench.cancel.store(true, Ordering::Relaxed);
            }
        })
        .unwrap();
    assert!(report.cancelled && report.embedded > 0 && report.embedded < 60, "{report:?}");
    bench.cancel.store(false, Ordering::Relaxed);
    bench.model.slowness = 0;
    let rest = bench.index("").unwrap();
    assert_eq!((rest.added, rest.unchanged), (60 - report.embedded, report.embedded));
    assert_eq!((vectors(&bench), bench.decoded.load(Ordering::Relaxed) >= 60), (60, true));
}

#[test]
fn a_cancelled_scan_forgets_nothing() {
    let bench = Bench::new();
    bench.paint_many(5);
    bench.index("").unwrap();
    bench.cancel.store(true, Ordering::Relaxed);
    let report = bench.index("").unwrap();
    assert!(report.cancelled && report.removed == 0);
    assert_eq!(bench.catalogue().coverage(None, None, 0).unwrap().files, 5);
}

#[test]
fn a_run_that_fails_loses_only_its_batch() {
    let mut bench = Bench::new();
    bench.paint_many(40);
    bench.model.fails_after = 20;
    assert!(bench.index("").is_err());
    let stored = bench.catalogue().coverage(None, None, 0).unwrap().files;
    assert!((16..=20).contains(&stored), "{stored}");
    bench.model.fails_after = 0;
    let rest = bench.index("").unwrap();
    assert_eq!((rest.added, rest.unchanged), (40 - stored, stored));
}

#[test]
fn two_runs_at_once_leave_one_whole_index() {
    let mut bench = Bench::new();
    bench.paint_many(40);
    bench.paint("other/a.png", [7, 7, 7], 1);
    bench.model.slowness = 5;
    let bench = Arc::new(bench);
    let busy = Mutex::new(0);
    std::thread::scope(|scope| {
        for folder in ["", "many", "many", "other"] {
            let (bench, busy) = (&bench, &busy);
            scope.spawn(move || match bench.index(folder) {
                Ok(report) => assert!(!report.cancelled),
                Err(Error::IndexBusy { .. }) => *busy.lock().unwrap() += 1,
                Err(error) => panic!("{folder}: {error}"),
            });
        }
    });
    assert!(*busy.lock().unwrap() <= 1);
    assert_eq!(counts(&bench.index("").unwrap()), [0, 0, 0, 41, 0, 0, 0]);
    assert_eq!(vectors(&bench), 41);
}

#[test]
fn progress_grows_within_a_phase_and_ends_at_the_total() {
    let bench = Bench::new();
    bench.paint_many(30);
    let seen = Mutex::new(Vec::new());
    bench.index_watched("", &|progress| seen.lock().unwrap().push(progress)).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.windows(2).all(|w| w[0].phase != w[1].phase || w[0].done <= w[1].done));
    let last = seen.iter().rfind(|progress| progress.phase == "embed").unwrap();
    assert_eq!((last.done, last.total), (30, Some(30)));
    assert!(seen.iter().any(|progress| progress.phase == "scan"));
    assert!(seen.iter().any(|progress| progress.phase == "calibrate"));
}

/// The process that [`a_run_killed_at_any_moment_goes_on`] kills; alone it does nothing.
#[test]
#[ignore = "started by another test"]
fn the_killed_process() {
    let Some(base) = std::env::var_os("CLIP_AWARE_TEST_KILLED") else { return };
    let mut bench = Bench::at(Path::new(&base));
    bench.model.slowness = 1;
    bench.index("").unwrap();
}

#[test]
fn a_run_killed_at_any_moment_goes_on() {
    const FILES: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::at(&dir.path().canonicalize().unwrap());
    bench.scatter(FILES as u32);
    let mut stored = 0;
    for round in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "engine::ingest::tests::the_killed_process"])
            .env("CLIP_AWARE_TEST_KILLED", dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(15 + 23 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let catalogue = bench.catalogue();
        assert_eq!(catalogue.damage().unwrap(), None);
        let files = catalogue.coverage(None, None, 0).unwrap().files;
        assert!(files >= stored, "{stored} files before round {round}, {files} after");
        stored = files;
        if let Some(set) = catalogue.find_set(&bench.model.set_key()).unwrap() {
            assert_eq!(VectorCache::default().vectors(&catalogue, &set).unwrap().len() as u64, files);
        }
    }
    assert!(stored > 0, "no round stored anything");
    let rest = bench.index("").unwrap();
    assert_eq!((rest.added, rest.unchanged, rest.skipped), (FILES - stored, stored, 0));
    assert_eq!(vectors(&bench) as u64, FILES);
}

#[test]
#[ignore = "measures time; run with --nocapture"]
fn measure_a_large_folder() {
    let mut bench = Bench::new();
    bench.options.batch = 64;
    for files in [10_000, 100_000] {
        bench.scatter(files);
        for run in ["first", "again"] {
            let report = bench.index("").unwrap();
            println!(
                "{files} files, {run}: {:.2} s, {} embedded, {} unchanged",
                report.seconds, report.embedded, report.unchanged
            );
        }
    }
    let catalogue = bench.catalogue();
    let set = catalogue.find_set(&bench.model.set_key()).unwrap().unwrap();
    let cache = VectorCache::default();
    let query = crate::engine::search::Query::embed(&bench.model, &["red".into()], &[], &[]).unwrap();
    for _ in 0..3 {
        let started = Instant::now();
        let request = crate::engine::search::SearchRequest {
            query: query.clone(),
            filter: crate::index::Filter::default(),
            top_k: 10,
            min_relevance: Some(0.0),
            group_duplicates: true,
            exact: false,
        };
        let outcome = crate::engine::search::search(&catalogue, &cache, &set, &request).unwrap();
        println!("search over {}: {:.1} ms", outcome.indexed, started.elapsed().as_secs_f64() * 1e3);
    }
}

#[test]
fn a_large_set_is_linked_at_the_end_of_a_run_also_one_that_finds_nothing_new() {
    let mut bench = Bench::new();
    for number in 0..12 {
        bench.paint(&format!("{number}.png"), [200, 30, 30], number);
    }
    let links = |bench: &Bench| {
        std::fs::read_dir(&bench.data)
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().ends_with("-links.bin"))
    };
    bench.options.link_from = 13;
    bench.index("").unwrap();
    assert!(!links(&bench));
    bench.options.link_from = 12;
    let report = bench.index("").unwrap();
    assert!(report.embedded == 0 && links(&bench));
}

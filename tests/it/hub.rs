//! The real download client against the loopback hub: every way in which a download can go wrong, and the cache that it
//! leaves behind.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clip_aware::Error;
use clip_aware::models::weights::{self, Clock, Fetched, Presence, Retry, Source, Transfer};
use clip_aware::models::{Blob, ModelFiles};

use crate::loopback_hub::{COMMIT, Fault, LoopbackHub, REPOSITORY, git_hash, sha256};

/// Large enough to break, stall and resume in; small enough for the socket's buffers.
const WEIGHTS: usize = 300_000;
pub const FOREVER: usize = usize::MAX;

/// Notes the pauses and does not wait.
#[derive(Debug, Default)]
struct NotedClock(Mutex<Vec<Duration>>);

impl Clock for NotedClock {
    fn sleep(&self, pause: Duration, _cancel: &AtomicBool) {
        self.0.lock().unwrap().push(pause);
    }
}

/// A hub, a cache, and the way from one to the other.
pub struct Setup {
    pub hub: LoopbackHub,
    pub home: tempfile::TempDir,
    clock: Arc<NotedClock>,
    pub source: Source,
}

pub fn weights_bytes() -> Vec<u8> {
    (0..WEIGHTS).map(|n| (n * 31 % 251) as u8).collect()
}

pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("README.md", b"# tiny".to_vec()),
        ("config.json", b"{\"model_type\": \"clip\"}".to_vec()),
        ("preprocessor_config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"version\": \"1.0\"}".to_vec()),
        ("pytorch_model.bin", b"not wanted".to_vec()),
        ("model.safetensors", weights_bytes()),
    ]
}

pub fn setup() -> Setup {
    setup_with(LoopbackHub::start(&files()))
}

pub fn setup_with(hub: LoopbackHub) -> Setup {
    let home = tempfile::tempdir().unwrap();
    let clock = Arc::new(NotedClock::default());
    let mut source = Source::from_variables(false, Some(home.path()), &|_| None);
    source.endpoint = hub.endpoint();
    source.allow_download = true;
    source.stall_timeout = Duration::from_secs(5);
    source.retry = Retry { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Retry::default() };
    Setup { hub, home, clock, source }
}

impl Setup {
    pub fn fetch(&self) -> Result<Fetched, Error> {
        self.fetch_name(REPOSITORY)
    }

    pub fn fetch_name(&self, name: &str) -> Result<Fetched, Error> {
        weights::fetch(name, &self.source, &mut |_| {}, &AtomicBool::new(false))
    }

    pub fn repository(&self) -> PathBuf {
        self.home.path().join(".cache/huggingface/hub/models--ada--tiny-clip")
    }

    pub fn blob(&self) -> PathBuf {
        self.repository().join("blobs").join(sha256(&weights_bytes()))
    }

    fn incomplete(&self) -> PathBuf {
        PathBuf::from(format!("{}.incomplete", self.blob().display()))
    }

    /// The ranges that were asked for, as their first bytes.
    fn starts(&self) -> Vec<u64> {
        let start = |range: String| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
        self.hub.ranges().into_iter().map(|range| range.map_or(0, start)).collect()
    }

    pub fn pauses(&self) -> Vec<Duration> {
        self.clock.0.lock().unwrap().clone()
    }
}

pub fn path(blob: &Blob) -> &Path {
    match blob {
        Blob::File(path) => path,
        built_in => panic!("{} is no file", built_in.name()),
    }
}

pub fn assert_whole(files: &ModelFiles) {
    assert_eq!(files.revision, COMMIT);
    assert_eq!(std::fs::read(path(&files.weights[0])).unwrap(), weights_bytes());
    assert_eq!(std::fs::read(path(&files.config)).unwrap(), b"{\"model_type\": \"clip\"}");
}

#[cfg(unix)]
#[test]
fn a_fetch_fills_the_cache_as_huggingface_hub_does() {
    let setup = setup();
    let fetched = setup.fetch().unwrap();
    assert_whole(&fetched.files);
    assert_eq!(fetched.files.id, REPOSITORY);
    let repository = setup.repository();
    assert_eq!(std::fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    for (file, bytes) in files().into_iter().filter(|(file, _)| !["README.md", "pytorch_model.bin"].contains(file)) {
        let hash = if file == "model.safetensors" { sha256(&bytes) } else { git_hash(&bytes) };
        let link = std::fs::read_link(repository.join("snapshots").join(COMMIT).join(file)).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(&hash), "{file}");
    }
    let mut blobs: Vec<_> =
        std::fs::read_dir(repository.join("blobs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    blobs.sort();
    assert_eq!(blobs.len(), 4, "{blobs:?}");
    assert!(blobs.iter().all(|name| matches!(name.len(), 40 | 64)), "{blobs:?}");
}

#[test]
fn progress_goes_up_to_the_whole_of_every_file_and_of_the_model() {
    let setup = setup();
    let mut last = (String::new(), 0, 0);
    let mut ends = Vec::new();
    let mut whole = (0, 0);
    weights::locate(REPOSITORY, &setup.source, &mut |t: Transfer<'_>| {
        assert!(t.file != last.0 || t.done >= last.1, "{t:?} after {last:?}");
        assert!(t.all_done >= last.2 && t.all_done <= t.all_total && t.done <= t.total, "{t:?} after {last:?}");
        if t.done == t.total && !ends.contains(&t.file.to_owned()) {
            ends.push(t.file.to_owned());
        }
        last = (t.file.to_owned(), t.done, t.all_done);
        whole = (t.all_done, t.all_total);
    })
    .unwrap();
    assert_eq!(ends, ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"]);
    assert_eq!(whole.0, whole.1);
    assert!(whole.1 > WEIGHTS as u64);
}

#[test]
fn a_second_call_makes_no_request() {
    let setup = setup();
    assert!(setup.fetch().unwrap().transferred > WEIGHTS as u64);
    assert!(!setup.hub.take_seen().is_empty());
    let again = setup.fetch().unwrap();
    assert_whole(&again.files);
    assert_eq!(again.transferred, 0);
    assert_whole(&setup.fetch_name(&format!("{REPOSITORY}@{COMMIT}")).unwrap().files);
    assert_eq!(setup.hub.take_seen(), []);
}

#[test]
fn offline_works_after_a_fetch_and_lists_what_is_missing_before() {
    let mut setup = setup();
    for (offline, allow_download) in [(true, true), (false, false)] {
        setup.source.offline = offline;
        setup.source.allow_download = allow_download;
        let error = setup.fetch().unwrap_err();
        let Error::Offline { model, missing } = &error else { panic!("{error}") };
        assert_eq!(model, REPOSITORY);
        assert_eq!(missing.len(), 4, "{missing:?}");
        assert!(error.hint().unwrap().contains(&format!("models fetch {REPOSITORY}")));
    }
    assert_eq!(setup.hub.take_seen(), []);
    setup.source.allow_download = true;
    setup.fetch().unwrap();
    setup.source.offline = true;
    assert_whole(&setup.fetch().unwrap().files);
    std::fs::remove_file(setup.blob()).unwrap();
    let Err(Error::Offline { missing, .. }) = setup.fetch() else { panic!("found a dangling link") };
    assert_eq!(missing, ["model.safetensors (or model.safetensors.index.json, or pytorch_model.bin)"]);
    assert!(matches!(weights::presence(REPOSITORY, &setup.source), Ok(Presence::Missing(_))));
}

#[test]
fn a_transfer_that_breaks_is_resumed_where_it_broke() {
    let setup = setup();
    setup.hub.fault("GET", "/cdn/", Fault::BreakAfter(50_000), 4);
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.starts(), [0, 50_000, 100_000, 150_000, 200_000]);
    assert_eq!(setup.pauses().len(), 4);
    assert!(setup.pauses().iter().all(|pause| *pause <= Retry::default().base), "progress renews the patience");
}

#[test]
fn a_killed_download_goes_on_where_it_ended() {
    let setup = setup();
    setup.hub.fault("GET", "/cdn/", Fault::Slow(60_000, Duration::from_millis(150)), 1);
    let cancel = AtomicBool::new(false);
    let killed = weights::fetch(
        REPOSITORY,
        &setup.source,
        &mut |t| {
            if t.file == "model.safetensors" && t.done > 0 {
                cancel.store(true, Ordering::Relaxed);
            }
        },
        &cancel,
    );
    assert!(matches!(killed, Err(Error::Cancelled)), "{killed:?}");
    let kept = std::fs::metadata(setup.incomplete()).unwrap().len();
    assert!(kept > 0 && kept < WEIGHTS as u64, "{kept}");
    assert!(!setup.repository().join("refs").exists(), "a half model must not be what `main` stands for");
    setup.hub.take_seen();
    let rest = setup.fetch().unwrap();
    assert_whole(&rest.files);
    assert_eq!(setup.starts(), [kept]);
    assert_eq!(rest.transferred, WEIGHTS as u64 - kept);
    assert!(!setup.incomplete().exists());
}

#[test]
fn cancelling_ends_a_stalled_download_at_once() {
    let mut setup = setup();
    setup.source.stall_timeout = Duration::from_secs(60);
    setup.hub.fault("GET", "/cdn/", Fault::StallAfter(1000, Duration::from_secs(60)), 1);
    let cancel = AtomicBool::new(false);
    let mut cancelled_at = None;
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while setup.hub.ranges().is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            cancel.store(true, Ordering::Relaxed);
        });
        weights::fetch(REPOSITORY, &setup.source, &mut |_| cancelled_at = Some(Instant::now()), &cancel)
    });
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(cancelled_at.unwrap().elapsed() < Duration::from_secs(5));
}

#[test]
fn a_stalled_transfer_is_given_up_and_resumed() {
    let mut setup = setup();
    setup.source.stall_timeout = Duration::from_millis(300);
    setup.hub.fault("GET", "/cdn/", Fault::StallAfter(70_000, Duration::from_secs(20)), 1);
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.starts(), [0, 70_000]);
}

#[test]
fn a_slow_transfer_is_not_a_stalled_one() {
    let mut setup = setup();
    setup.source.stall_timeout = Duration::from_millis(500);
    setup.hub.fault("GET", "/cdn/", Fault::Slow(30_000, Duration::from_millis(100)), 1);
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.starts(), [0]);
}

#[test]
fn bytes_that_arrive_damaged_are_fetched_again_and_never_used() {
    for (part, file) in [("/cdn/", "model.safetensors"), ("/api/resolve-cache/", "config.json")] {
        let setup = setup();
        setup.hub.fault("GET", part, Fault::WrongByte, 1);
        assert_whole(&setup.fetch().unwrap().files);
        let setup = self::setup();
        setup.hub.fault("GET", part, Fault::WrongByte, FOREVER);
        let error = setup.fetch().unwrap_err();
        let Error::Checksum { file: damaged, .. } = &error else { panic!("{error}") };
        assert_eq!(damaged, &format!("{REPOSITORY}/{file}"));
        let snapshot = setup.repository().join("snapshots").join(COMMIT).join(file);
        assert!(!snapshot.exists() && !setup.blob().exists() && !setup.incomplete().exists());
        assert_eq!(setup.hub.take_seen().iter().filter(|s| s.method == "GET" && s.path.contains(part)).count(), 2);
    }
}

#[test]
fn a_damaged_part_of_an_earlier_run_is_thrown_away() {
    let setup = setup();
    std::fs::create_dir_all(setup.blob().parent().unwrap()).unwrap();
    std::fs::write(setup.incomplete(), vec![9; 1000]).unwrap();
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.starts(), [1000, 0]);
    // Longer than the file: cannot be a part of it.
    let setup = self::setup();
    std::fs::create_dir_all(setup.blob().parent().unwrap()).unwrap();
    std::fs::write(setup.incomplete(), vec![9; WEIGHTS + 1]).unwrap();
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.starts(), [0]);
    // Whole, but not yet in its place: nothing is transferred.
    let setup = self::setup();
    std::fs::create_dir_all(setup.blob().parent().unwrap()).unwrap();
    std::fs::write(setup.incomplete(), weights_bytes()).unwrap();
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.starts(), [] as [u64; 0]);
}

#[test]
fn a_server_that_ignores_ranges_costs_a_fresh_start() {
    let setup = setup();
    setup.hub.fault("GET", "/cdn/", Fault::BreakAfter(50_000), 1);
    setup.hub.fault("GET", "/cdn/", Fault::IgnoreRange, 1);
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.starts(), [0, 50_000]);
    let setup = self::setup();
    setup.hub.fault("GET", "/cdn/", Fault::BreakAfter(50_000), 1);
    setup.hub.fault("GET", "/cdn/", Fault::Status(416, vec![]), 1);
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.starts(), [0, 50_000, 0]);
}

#[test]
fn a_wrong_content_length_is_no_whole_file() {
    for off in [-1000, 1000] {
        let setup = setup();
        setup.hub.fault("GET", "/cdn/", Fault::LengthOff(off), 1);
        assert_whole(&setup.fetch().unwrap().files);
        let setup = self::setup();
        setup.hub.fault("GET", "/cdn/", Fault::LengthOff(off), FOREVER);
        let error = setup.fetch().unwrap_err();
        assert!(error.to_string().contains("300000 bytes were announced"), "{error}");
        assert!(!setup.blob().exists());
    }
}

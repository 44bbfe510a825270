//! What the hub may answer, and what becomes of it: refusals with their reason, limits on the rate, redirects, mirrors,
//! several files, several callers.

use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clip_aware::Error;
use clip_aware::models::weights::{self, Presence, Source, Token};

use crate::hub::{FOREVER, assert_whole, files, path, setup, setup_with, weights_bytes};
use crate::loopback_hub::{COMMIT, Fault, LoopbackHub, REPOSITORY};

/// Status and reason of a refusal.
fn refusal(error: &Error) -> (Option<u16>, String) {
    let Error::Hub { status, reason, .. } = error else { panic!("{error}") };
    (*status, reason.clone())
}

#[test]
fn refusals_are_final_and_say_what_to_do() {
    let info = "/api/models/";
    let gated = |code: &'static str| vec![("X-Error-Code", code.to_owned())];
    let cases = [
        (401, "RepoNotFound", "it is private and no token is set", "HF_TOKEN"),
        (403, "GatedRepo", "access is restricted", "accept its terms"),
        (404, "RepoNotFound", "no such repository", "check the id"),
        (404, "RevisionNotFound", "no such revision", "check the id and the revision"),
    ];
    for (status, code, reason, hint) in cases {
        let setup = setup();
        setup.hub.fault("GET", info, Fault::Status(status, gated(code)), FOREVER);
        let error = setup.fetch().unwrap_err();
        let (found, text) = refusal(&error);
        assert_eq!(found, Some(status));
        assert!(text.contains(reason), "{text}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        assert_eq!(setup.hub.take_seen().len(), 1, "{status} was asked for again");
        assert!(!setup.repository().exists(), "{status} left something in the cache");
    }
}

#[test]
fn a_refused_token_is_told_apart_from_none() {
    let mut setup = setup();
    setup.source.token = Token::new("hf_wrong");
    setup.hub.fault("GET", "/api/models/", Fault::Status(401, vec![]), FOREVER);
    let (_, reason) = refusal(&setup.fetch().unwrap_err());
    assert!(reason.contains("the token is not accepted"), "{reason}");
    assert!(!reason.contains("hf_wrong"));
}

#[test]
fn a_gated_repository_shows_its_list_but_not_its_files() {
    let setup = setup();
    let said = vec![("X-Error-Code", "GatedRepo".to_owned()), ("X-Error-Message", "Ask ada for access.".to_owned())];
    setup.hub.fault("HEAD", "/resolve/", Fault::Status(403, said), FOREVER);
    let error = setup.fetch().unwrap_err();
    assert_eq!(refusal(&error).0, Some(403));
    assert!(error.to_string().contains("Ask ada for access."), "{error}");
    assert!(error.to_string().contains(&format!("{REPOSITORY}/config.json")), "{error}");
}

#[test]
fn an_unknown_repository_revision_or_file_is_an_error_of_its_own() {
    let setup = setup();
    // Without a token the hub says 401 for a repository that is not there.
    let (status, reason) = refusal(&setup.fetch_name("ada/other").unwrap_err());
    assert_eq!(status, Some(401));
    assert!(reason.starts_with("the repository does not exist, or it is private"), "{reason}");
    let revision = setup.fetch_name(&format!("{REPOSITORY}@v9")).unwrap_err();
    assert!(refusal(&revision).1.contains("no such revision (Invalid rev id)"), "{revision}");
    let file = weights::file(REPOSITORY, "no.txt", &setup.source, &AtomicBool::new(false)).unwrap_err();
    assert!(refusal(&file).1.contains("no such file"), "{file}");
}

#[test]
fn a_rate_limit_is_waited_out_as_long_as_it_asks() {
    let setup = setup();
    let wait = vec![("Retry-After", "7".to_owned())];
    setup.hub.fault("HEAD", "config.json", Fault::Status(429, wait.clone()), 2);
    setup.hub.fault("GET", "/cdn/", Fault::Status(429, wait), 1);
    assert_whole(&setup.fetch().unwrap().files);
    let pauses = setup.pauses();
    assert_eq!(pauses.len(), 3);
    assert!(pauses.iter().all(|pause| (7.0..8.0).contains(&pause.as_secs_f64())), "{pauses:?}");
}

#[test]
fn a_rate_limit_beyond_the_budget_is_not_waited_for() {
    let setup = setup();
    setup.hub.fault("GET", "/api/", Fault::Status(429, vec![("Retry-After", "4000".to_owned())]), FOREVER);
    let error = setup.fetch().unwrap_err();
    assert_eq!(refusal(&error).0, Some(429));
    assert!(error.to_string().contains("asks to wait 4000 s"), "{error}");
    assert_eq!(setup.pauses(), [] as [Duration; 0]);
}

#[test]
fn server_errors_pass_or_end_the_fetch_after_a_few_attempts() {
    let setup = setup();
    for (method, part) in [("GET", "/api/models/"), ("HEAD", "config.json"), ("GET", "/cdn/")] {
        setup.hub.fault(method, part, Fault::Status(500, vec![]), 2);
    }
    assert_whole(&setup.fetch().unwrap().files);
    assert_eq!(setup.pauses().len(), 6);
    let setup = self::setup();
    setup.hub.fault("GET", "/cdn/", Fault::Status(503, vec![]), FOREVER);
    let error = setup.fetch().unwrap_err();
    assert_eq!(refusal(&error).0, Some(503));
    assert_eq!(setup.hub.ranges().len() as u32, setup.source.retry.attempts);
    assert_eq!(setup.pauses().len() as u32, setup.source.retry.attempts - 1);
    assert!(error.hint().unwrap().contains("run the command again"));
}

#[test]
fn no_hub_at_all_is_an_error_after_a_few_attempts() {
    let mut setup = setup();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    setup.source.endpoint = format!("http://{closed}");
    let error = setup.fetch().unwrap_err();
    let (status, reason) = refusal(&error);
    assert_eq!(status, None);
    assert!(reason.to_lowercase().contains("connection refused"), "{reason}");
    for bad in ["", "not an address", "ftp://127.0.0.1"] {
        setup.source.endpoint = bad.into();
        assert!(refusal(&setup.fetch().unwrap_err()).1.contains("HF_ENDPOINT"), "{bad}");
    }
}

#[test]
fn the_token_goes_to_the_hub_and_never_to_the_content_network() {
    let mut setup = setup();
    setup.source.token = Token::new("hf_secret\n");
    setup.fetch().unwrap();
    let seen = setup.hub.take_seen();
    let (cdn, hub): (Vec<_>, Vec<_>) = seen.iter().partition(|request| request.cdn);
    assert!(!cdn.is_empty() && hub.len() > 6, "{seen:?}");
    assert!(cdn.iter().all(|request| request.authorization.is_none()), "{cdn:?}");
    assert!(hub.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")), "{hub:?}");
}

#[test]
fn a_mirror_may_have_a_path_and_a_slash_at_its_end() {
    let setup = setup_with(LoopbackHub::start(&files()).with_prefix("/mirror/hf"));
    let endpoint = format!("{}/", setup.hub.endpoint());
    let set = |name: &str| (name == "HF_ENDPOINT").then(|| endpoint.clone().into());
    let mut source = Source::from_variables(false, Some(setup.home.path()), &set);
    source.allow_download = true;
    let found = weights::locate(REPOSITORY, &source, &mut |_| {}).unwrap();
    assert_whole(&found);
    assert!(setup.hub.take_seen().iter().all(|seen| seen.cdn || seen.path.starts_with("/mirror/hf/")));
}

#[test]
fn endless_and_broken_redirects_end() {
    for (target, reason) in [("/again", "redirected too often"), ("http://", "bad redirect")] {
        let setup = setup();
        setup.hub.fault("GET", "/api/", Fault::Status(302, vec![("Location", target.to_owned())]), 1);
        setup.hub.fault("GET", "/again", Fault::Status(302, vec![("Location", "/again".to_owned())]), FOREVER);
        let error = setup.fetch().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_download_that_does_not_fit_is_refused_before_it_begins() {
    let setup = setup();
    setup.hub.fault("HEAD", "model.safetensors", Fault::Announce(1 << 60), 1);
    let error = setup.fetch().unwrap_err();
    let Error::DiskFull { needed_mib, .. } = error else { panic!("{error}") };
    assert!(needed_mib >= 1 << 40);
    assert!(setup.hub.take_seen().iter().all(|seen| seen.method == "HEAD" || seen.path.starts_with("/api/models/")));
}

#[test]
fn two_callers_at_once_download_once() {
    let setup = setup();
    setup.hub.fault("GET", "/cdn/", Fault::Slow(60_000, Duration::from_millis(60)), 1);
    let transferred: u64 = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| setup.fetch().unwrap())).collect();
        callers
            .into_iter()
            .map(|caller| {
                let fetched = caller.join().unwrap();
                assert_whole(&fetched.files);
                fetched.transferred
            })
            .sum()
    });
    assert_eq!(setup.hub.ranges(), [None]);
    let small: usize = files()[1..4].iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(transferred, (weights_bytes().len() + small) as u64);
}

#[test]
fn sharded_weights_are_fetched_by_their_index() {
    let mut sharded = files();
    sharded.retain(|(file, _)| *file != "model.safetensors");
    let index = r#"{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}"#;
    sharded.push(("model.safetensors.index.json", index.into()));
    sharded.push(("model-1-of-2.safetensors", vec![1; 1000]));
    sharded.push(("model-2-of-2.safetensors", vec![2; 2000]));
    let setup = setup_with(LoopbackHub::start(&sharded));
    let fetched = setup.fetch().unwrap();
    let sizes: Vec<u64> = fetched.files.weights.iter().map(|w| path(w).metadata().unwrap().len()).collect();
    assert_eq!(sizes, [1000, 2000]);
    std::fs::remove_file(path(&fetched.files.weights[1])).unwrap();
    let Ok(Presence::Missing(missing)) = weights::presence(REPOSITORY, &setup.source) else {
        panic!("one shard is gone")
    };
    assert_eq!(missing, ["model-2-of-2.safetensors"]);
    setup.hub.take_seen();
    assert_eq!(setup.fetch().unwrap().transferred, 0, "the blob was still there");
    assert_eq!(setup.hub.ranges(), []);
}

#[test]
fn an_index_that_points_out_of_the_repository_is_refused() {
    let mut hostile = files();
    hostile.retain(|(file, _)| *file != "model.safetensors");
    hostile.push(("model.safetensors.index.json", br#"{"weight_map": {"a": "../../../x.safetensors"}}"#.to_vec()));
    let error = setup_with(LoopbackHub::start(&hostile)).fetch().unwrap_err();
    assert!(matches!(error, Error::ModelFile { .. }), "{error}");
}

#[test]
fn a_repository_in_another_layout_is_refused_before_anything_is_fetched() {
    let setup = setup_with(LoopbackHub::start(&[
        ("open_clip_config.json", b"{}".to_vec()),
        ("open_clip_model.pt", weights_bytes()),
        ("tokenizer.json", b"{}".to_vec()),
    ]));
    let error = setup.fetch().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("config.json, preprocessor_config.json"), "{text}");
    assert!(text.contains("not in the repository; it is in open_clip layout, without"), "{text}");
    assert_eq!(setup.hub.take_seen().len(), 1);
}

#[test]
fn a_repository_in_open_clip_layout_is_fetched_whole() {
    let setup = setup_with(LoopbackHub::start(&[
        ("open_clip_config.json", b"{}".to_vec()),
        ("open_clip_model.safetensors", weights_bytes()),
        ("open_clip_pytorch_model.bin", weights_bytes()),
        ("README.md", b"a card".to_vec()),
    ]));
    let files = setup.fetch().unwrap().files;
    assert_eq!(path(&files.weights[0]).file_name().unwrap(), "open_clip_model.safetensors");
    assert_eq!(
        (files.config.name(), files.preprocessor.name()),
        ("open_clip_config.json".into(), "open_clip_config.json".into())
    );
    assert_eq!(files.tokenizer.unwrap().name(), "OpenAI's tokenizer");
    let again = setup.fetch().unwrap();
    assert_eq!((again.transferred, again.files.revision.as_str()), (0, COMMIT));
}

#[test]
fn revisions_are_branches_tags_or_commits() {
    let setup = setup();
    for revision in ["v1.0", "refs/pr/7", COMMIT] {
        let fetched = setup.fetch_name(&format!("{REPOSITORY}@{revision}")).unwrap();
        assert_whole(&fetched.files);
    }
    let refs = setup.repository().join("refs");
    assert_eq!(std::fs::read_to_string(refs.join("refs/pr/7")).unwrap(), COMMIT);
    assert_eq!(std::fs::read_to_string(refs.join("v1.0")).unwrap(), COMMIT);
    assert!(!refs.join("main").exists() && !refs.join(COMMIT).exists());
    let seen = setup.hub.take_seen();
    assert!(seen.iter().any(|s| s.path.ends_with("/revision/refs%2Fpr%2F7")));
    assert_eq!(seen.iter().filter(|s| s.cdn).count(), 1, "one commit is one download");
}

#[test]
fn single_files_come_from_the_cache_or_the_hub() {
    let setup = setup();
    let never = AtomicBool::new(false);
    let off = Source { allow_download: false, ..setup.source.clone() };
    let missing = weights::file(REPOSITORY, "README.md", &off, &never).unwrap_err();
    assert!(matches!(missing, Error::Offline { .. }), "{missing}");
    let card = weights::file(REPOSITORY, "README.md", &setup.source, &never).unwrap();
    assert_eq!(std::fs::read(&card).unwrap(), b"# tiny");
    setup.hub.take_seen();
    assert_eq!(weights::file(REPOSITORY, "README.md", &off, &never).unwrap(), card);
    assert_eq!(setup.hub.take_seen(), []);
    for bad in ["../README.md", "a/b", "", ".git", "a\\b"] {
        assert!(matches!(weights::file(REPOSITORY, bad, &setup.source, &never), Err(Error::Argument { .. })), "{bad}");
    }
}

#[test]
fn without_a_network_another_commit_of_a_pinned_model_will_do() {
    let setup = setup();
    let cache = &setup.source.cache_dir;
    let repository = cache.join("models--openai--clip-vit-base-patch32");
    let snapshot = repository.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
    for (file, bytes) in files() {
        std::fs::write(snapshot.join(file), bytes).unwrap();
    }
    let off = Source { offline: true, ..setup.source.clone() };
    let found = weights::locate("clip-vit-b32", &off, &mut |_| {}).unwrap();
    assert_whole(&found);
    assert_eq!(found.id, "clip-vit-b32");
    let asked = weights::locate(&format!("clip-vit-b32@{}", "f".repeat(40)), &off, &mut |_| {});
    assert!(matches!(asked, Err(Error::Offline { .. })), "{asked:?}");
}

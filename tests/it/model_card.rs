//! Model cards: the real client against the loopback hub, the command and the MCP resource.

use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clip_aware::Error;
use clip_aware::engine::model_card;
use clip_aware::models::weights::{self, Source};
use serde_json::{Value, json};

use crate::hub::{FOREVER, Setup, files, setup, setup_with};
use crate::loopback_hub::{COMMIT, Fault, LoopbackHub, REPOSITORY};
use crate::mcp_client::{Server, code, modern, request};
use crate::world::World;

const CARD: &str = "---\nlicense: mit\npipeline_tag: zero-shot-image-classification\ntags:\n- vision\nmodel-index:\n- name: x\n---\n\n# Tiny\n\nSmall.\n";

fn hub_with_card() -> LoopbackHub {
    let mut files = files();
    files.retain(|(name, _)| *name != "README.md");
    files.push(("README.md", CARD.as_bytes().to_vec()));
    LoopbackHub::start(&files)
}

fn card(setup: &Setup, repository: &str, source: &Source) -> Result<model_card::ModelCard, Error> {
    let card = model_card::card(repository, source, &AtomicBool::new(false));
    assert!(setup.pauses().len() < 10);
    card
}

fn offline(setup: &Setup) -> Source {
    Source { offline: true, ..setup.source.clone() }
}

#[test]
fn a_card_comes_through_the_hubs_redirect_and_then_from_the_cache() {
    let setup = setup_with(hub_with_card());
    let first = card(&setup, REPOSITORY, &setup.source).unwrap();
    assert_eq!(first.revision, COMMIT);
    for part in [REPOSITORY, COMMIT, "- licence: mit\n", "- task: zero-shot-image-classification\n", "# Tiny\n\nSmall."]
    {
        assert!(first.text.contains(part), "{part}: {}", first.text);
    }
    assert!(!first.text.contains("model-index"), "{}", first.text);
    let seen = setup.hub.take_seen();
    assert!(seen.iter().any(|s| s.path.contains("/api/resolve-cache/")), "the redirect was followed: {seen:?}");
    for source in [setup.source.clone(), offline(&setup)] {
        assert_eq!(card(&setup, REPOSITORY, &source).unwrap(), first);
    }
    assert_eq!(setup.hub.take_seen(), [], "a second read makes no request");
}

#[test]
fn without_a_network_the_error_names_the_next_step() {
    let setup = setup_with(hub_with_card());
    let error = card(&setup, REPOSITORY, &offline(&setup)).unwrap_err();
    assert!(error.to_string().contains("the network is off"), "{error}");
    assert!(error.hint().unwrap().contains("--offline"), "{error}");
    let known = card(&setup, "openai/clip-vit-base-patch32", &offline(&setup)).unwrap_err();
    assert!(known.hint().unwrap().contains("clip-aware://models/clip-vit-b32"), "{:?}", known.hint());
    assert_eq!(setup.hub.take_seen(), []);
}

#[test]
fn a_hub_out_of_reach_is_said_with_what_is_known_without_it() {
    let mut setup = setup_with(hub_with_card());
    setup.source.endpoint = "http://127.0.0.1:9".to_owned();
    let error = card(&setup, "openai/clip-vit-base-patch32", &setup.source).unwrap_err();
    assert!(error.to_string().contains("is not on this machine, and cannot fetch"), "{error}");
    assert!(error.hint().unwrap().contains("clip-aware://models/clip-vit-b32"), "{error}");
}

#[test]
fn a_card_that_is_not_there_or_not_open_is_an_error_of_the_hub() {
    let mut without = files();
    without.retain(|(name, _)| *name != "README.md");
    let setup = setup_with(LoopbackHub::start(&without));
    let missing = card(&setup, REPOSITORY, &setup.source).unwrap_err();
    assert!(matches!(&missing, Error::Hub { status: Some(404), .. }), "{missing}");
    let closed = card(&setup, "ada/private", &setup.source).unwrap_err();
    assert!(matches!(&closed, Error::Hub { status: Some(401), .. }), "{closed}");
    assert!(closed.hint().unwrap().contains("HF_TOKEN"), "{closed}");
}

#[test]
fn a_card_moves_no_branch_away_from_the_weights_that_are_here() {
    let setup = setup();
    setup.fetch().unwrap();
    let reference = setup.repository().join("refs/main");
    let old = "f".repeat(40);
    std::fs::rename(setup.repository().join("snapshots").join(COMMIT), setup.repository().join("snapshots").join(&old))
        .unwrap();
    std::fs::write(&reference, &old).unwrap();
    // The hub does not know that commit any more: rather no card than a model that cannot be found.
    card(&setup, REPOSITORY, &setup.source).unwrap_err();
    assert_eq!(std::fs::read_to_string(&reference).unwrap(), old);
    let off = offline(&setup);
    assert!(weights::locate(REPOSITORY, &off, &mut |_| {}).is_ok());
}

#[test]
fn a_file_that_is_no_card_is_refused() {
    let mut long = files();
    long.retain(|(name, _)| *name != "README.md");
    long.push(("README.md", vec![b'x'; 3 << 20]));
    let setup = setup_with(LoopbackHub::start(&long));
    let error = card(&setup, REPOSITORY, &setup.source).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    let gets = setup.hub.take_seen().into_iter().filter(|s| s.method == "GET" && s.path.contains("README.md"));
    assert_eq!(gets.count(), 0, "its length was known before");
    let mut binary = files();
    binary.retain(|(name, _)| *name != "README.md");
    binary.push(("README.md", vec![0xff, 0xfe, 0x00]));
    let setup = setup_with(LoopbackHub::start(&binary));
    let error = card(&setup, REPOSITORY, &setup.source).unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}

#[test]
fn a_card_whose_length_lies_is_refused_when_it_passes_the_limit() {
    let mut long = files();
    long.retain(|(name, _)| *name != "README.md");
    long.push(("README.md", vec![b'x'; 3 << 20]));
    let setup = setup_with(LoopbackHub::start(&long));
    setup.hub.fault("HEAD", "/api/resolve-cache/", Fault::LengthOff(-(3 << 20) + 10), FOREVER);
    let error = card(&setup, REPOSITORY, &setup.source).unwrap_err();
    assert!(matches!(&error, Error::NoCard { .. } | Error::ModelFile { .. }), "{error}");
}

#[test]
fn the_command_prints_a_card_and_keeps_it() {
    let hub = hub_with_card();
    let world = World::new();
    let run = |arguments: &[&str]| {
        let output = world.command().env("HF_ENDPOINT", hub.endpoint()).args(arguments).output().unwrap();
        crate::world::ran(output)
    };
    let refused = run(&["--offline", "models", "card", REPOSITORY]).expect(2);
    assert!(refused.stderr.contains("hint") && refused.stderr.contains("--offline"), "{}", refused.stderr);
    assert_eq!(hub.take_seen(), []);
    let printed = run(&["models", "card", REPOSITORY]).expect(0).stdout;
    assert!(printed.contains("- licence: mit") && printed.ends_with("Small.\n"), "{printed}");
    let again = run(&["--offline", "--json", "models", "card", REPOSITORY]).expect(0).object();
    assert_eq!(again["repository"], REPOSITORY);
    assert_eq!(again["text"].as_str().unwrap().trim_end(), printed.trim_end());
}

#[test]
fn a_client_reads_cards_as_resources() {
    let hub = hub_with_card();
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, home) = (hub.endpoint(), cache.path().display().to_string());
    let mut server = Server::start_in(Stdio::null(), &[("HF_ENDPOINT", &endpoint), ("HF_HOME", &home)]);
    let uri = format!("hf://model/{REPOSITORY}");
    let read = |id: &str, uri: &str| modern(id, "resources/read", json!({ "uri": uri }));
    let answer = server.ask(&read("1", &uri));
    let contents = answer.pointer("/result/contents/0").unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(contents["mimeType"], "text/markdown");
    assert_eq!(contents["uri"], uri.as_str());
    assert!(contents["text"].as_str().unwrap().contains("- licence: mit"), "{contents}");
    assert!(answer.pointer("/result/ttlMs").and_then(Value::as_u64).unwrap() > 0);
    assert_eq!(answer.pointer("/result/cacheScope"), Some(&json!("private")));
    hub.take_seen();
    assert_eq!(server.ask(&read("1", &uri)), answer, "the same from the cache");
    assert_eq!(hub.take_seen(), []);

    let closed = server.ask(&read("2", "hf://model/ada/private"));
    assert_eq!(code(&closed), -32602);
    assert_eq!(closed.pointer("/error/data/uri"), Some(&json!("hf://model/ada/private")));
    assert!(closed.pointer("/error/data/hint").and_then(Value::as_str).unwrap().contains("HF_TOKEN"));
    assert_eq!(code(&server.ask(&read("3", "hf://model/../../etc"))), -32602);

    let params = json!({"ref": {"type": "ref/resource", "uri": "hf://model/{owner}/{name}"},
        "argument": {"name": "name", "value": "clip-vit-l"}, "context": {"arguments": {"owner": "openai"}}});
    let completion = modern("4", "completion/complete", params);
    let values = server.ask(&completion).pointer("/result/completion/values").cloned();
    assert_eq!(values, Some(json!(["clip-vit-large-patch14", "clip-vit-large-patch14-336"])));
}

#[test]
fn a_client_that_cancels_a_slow_card_is_not_kept_waiting() {
    let hub = hub_with_card();
    hub.fault("GET", "/api/models/", Fault::StallAfter(0, Duration::from_secs(30)), FOREVER);
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, home) = (hub.endpoint(), cache.path().display().to_string());
    let mut server = Server::start_in(Stdio::null(), &[("HF_ENDPOINT", &endpoint), ("HF_HOME", &home)]);
    server.ask(&crate::mcp_client::initialize("init", "2025-11-25"));
    server.send(&request("slow", "resources/read", json!({"uri": format!("hf://model/{REPOSITORY}")})).to_string());
    server.assert_alive();
    server.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}"#);
    drop(server.input.take());
    server.assert_ends_well_within(Duration::from_secs(3));
}

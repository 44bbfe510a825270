//! The built server over its real stdin and stdout, line by line. What needs a model is in `tools/mcp_blackbox.py` and in
//! the tests of the commands; here are the lifecycle, both eras, malformed input, lists and signals.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::mcp_client::{PATIENCE, Server, code, initialize, modern, request, text};

// ---- lifecycle -----------------------------------------------------------------------------------------------------

#[test]
fn the_handshake_agrees_on_every_old_version_and_offers_the_newest_for_unknown_ones() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let answer = Server::start().ask(&initialize("1", version));
        assert_eq!(answer.pointer("/result/protocolVersion"), Some(&json!(version)));
        assert_eq!(answer.pointer("/result/serverInfo/name"), Some(&json!("clip-aware")));
    }
    for version in ["1999-01-01", "2026-07-28", "2099-01-01", "", "latest"] {
        let answer = Server::start().ask(&initialize("1", version));
        assert_eq!(answer.pointer("/result/protocolVersion"), Some(&json!("2025-11-25")), "{version}");
    }
}

#[test]
fn capabilities_are_what_is_served_and_instructions_are_short() {
    let answer = Server::start().ask(&initialize("1", "2025-11-25"));
    let declared = answer.pointer("/result/capabilities").and_then(Value::as_object).unwrap();
    let mut names: Vec<_> = declared.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["completions", "extensions", "prompts", "resources", "tools"]);
    let instructions = answer.pointer("/result/instructions").and_then(Value::as_str).unwrap();
    assert!((200..2048).contains(&instructions.len()));
}

#[test]
fn discover_answers_and_either_era_may_follow() {
    let mut server = Server::start();
    let answer = server.ask(&modern("1", "server/discover", json!({})));
    assert_eq!(answer.pointer("/result/resultType"), Some(&json!("complete")));
    assert_eq!(answer.pointer("/result/supportedVersions/4"), Some(&json!("2026-07-28")));
    assert!(answer.pointer("/result/ttlMs").and_then(Value::as_u64).is_some());
    let answer = server.ask(&initialize("2", "2025-11-25"));
    assert_eq!(answer.pointer("/result/protocolVersion"), Some(&json!("2025-11-25")));
    assert!(server.ask(&request("3", "tools/list", json!({}))).pointer("/result/tools/0").is_some());
    assert!(server.ask(&modern("4", "tools/list", json!({}))).pointer("/result/ttlMs").is_some());
    let again = server.ask(&initialize("5", "2025-06-18"));
    assert_eq!(again.pointer("/result/protocolVersion"), Some(&json!("2025-06-18")));
    server.assert_alive();
}

#[test]
fn a_client_that_opened_in_the_new_era_may_still_initialize() {
    let mut server = Server::start();
    assert!(server.ask(&modern("1", "tools/list", json!({}))).get("result").is_some());
    assert!(server.ask(&initialize("2", "2025-06-18")).get("result").is_some());
    assert!(server.ask(&request("3", "tools/list", json!({}))).get("result").is_some());
}

#[test]
fn before_any_opening_only_ping_is_answered_with_a_result() {
    let mut server = Server::start();
    server.assert_alive();
    for method in ["tools/list", "tools/call", "resources/read", "prompts/get", "completion/complete"] {
        let answer = server.ask(&request("1", method, json!({})));
        assert_eq!(code(&answer), -32602);
        assert!(answer.pointer("/error/message").and_then(Value::as_str).unwrap().contains("initialize"));
    }
    assert_eq!(code(&server.ask(&request("2", "no/such", json!({})))), -32601);
    server.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    server.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    server.send(r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
    assert!(server.ask(&initialize("3", "2025-11-25")).get("result").is_some(), "early notifications do no harm");
}

#[test]
fn new_era_requests_need_their_metadata_and_a_known_version() {
    let mut server = Server::start();
    let mut unknown = modern("1", "tools/list", json!({}));
    unknown["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2030-01-01");
    let answer = server.ask(&unknown);
    assert_eq!(code(&answer), -32022);
    assert_eq!(answer.pointer("/error/data/requested"), Some(&json!("2030-01-01")));
    assert!(answer.pointer("/error/data/supported").and_then(Value::as_array).unwrap().contains(&json!("2026-07-28")));
    for missing in ["protocolVersion", "clientCapabilities"] {
        for method in ["tools/list", "server/discover"] {
            let mut request = modern("2", method, json!({}));
            request["params"]["_meta"]
                .as_object_mut()
                .unwrap()
                .shift_remove(&format!("io.modelcontextprotocol/{missing}"));
            assert_eq!(code(&server.ask(&request)), -32602, "{method} without {missing}");
        }
    }
    let mut nameless = modern("3", "tools/list", json!({}));
    nameless["params"]["_meta"].as_object_mut().unwrap().shift_remove("io.modelcontextprotocol/clientInfo");
    assert!(server.ask(&nameless).get("result").is_some());
    for removed in ["ping", "logging/setLevel", "resources/subscribe"] {
        let params = json!({"level": "debug", "uri": "clip-aware://index/status"});
        assert_eq!(code(&server.ask(&modern("4", removed, params))), -32601, "{removed}");
    }
}

// ---- lists, resources, prompts, completions ------------------------------------------------------------------------

#[test]
fn lists_are_stable_and_carry_cache_hints_in_the_new_era_only() {
    let mut server = Server::initialized("2025-11-25");
    let lists = [
        ("tools/list", "tools"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
        ("prompts/list", "prompts"),
    ];
    for (method, key) in lists {
        let old = server.ask(&request("1", method, json!({})));
        let bare = server.ask_line(&format!(r#"{{"jsonrpc":"2.0","id":"1","method":"{method}"}}"#));
        assert_eq!(old, bare, "params may be left out");
        let new = server.ask(&modern("2", method, json!({})));
        let items = old.pointer(&format!("/result/{key}")).and_then(Value::as_array).unwrap();
        assert!(!items.is_empty());
        assert_eq!(new.pointer(&format!("/result/{key}")).and_then(Value::as_array), Some(items));
        assert!(old.pointer("/result/ttlMs").is_none() && old.pointer("/result/resultType").is_none());
        assert!(new.pointer("/result/ttlMs").and_then(Value::as_u64).is_some());
        assert_eq!(new.pointer("/result/cacheScope"), Some(&json!("public")));
        assert_eq!(new.pointer("/result/resultType"), Some(&json!("complete")));
        for cursor in [json!(5), json!("abc"), json!({})] {
            assert_eq!(code(&server.ask(&request("3", method, json!({"cursor": cursor})))), -32602);
        }
    }
}

#[test]
fn an_unknown_resource_has_the_code_of_its_era() {
    let mut server = Server::initialized("2025-11-25");
    let params = json!({"uri": "clip-aware://no/such"});
    let old = server.ask(&request("1", "resources/read", params.clone()));
    assert_eq!((code(&old), old.pointer("/error/data/uri")), (-32002, params.get("uri")));
    let new = server.ask(&modern("2", "resources/read", params.clone()));
    assert_eq!((code(&new), new.pointer("/error/data/uri")), (-32602, params.get("uri")));
}

#[test]
fn documents_prompts_and_completions_are_served() {
    let mut server = Server::initialized("2025-11-25");
    std::fs::create_dir_all(server.root.path().join("photos/holiday")).unwrap();
    let document = server.ask(&request("1", "resources/read", json!({"uri": "clip-aware://license"})));
    assert!(document.pointer("/result/contents/0/text").and_then(Value::as_str).unwrap().contains("Apache License"));
    let arguments = json!({"request": "count the dogs"});
    let params = json!({"name": "plan_vision_request", "arguments": arguments});
    let prompt = server.ask(&request("2", "prompts/get", params));
    let plan = prompt.pointer("/result/messages/0/content/text").and_then(Value::as_str).unwrap();
    assert!(plan.contains("count the dogs") && plan.contains("clip_search"));
    let params = json!({"ref": {"type": "ref/prompt", "name": "plan_vision_request"},
        "argument": {"name": "folder", "value": "hol"}});
    let completion = server.ask(&request("3", "completion/complete", params));
    assert_eq!(completion.pointer("/result/completion/values"), Some(&json!(["holiday"])));
}

// ---- malformed input -----------------------------------------------------------------------------------------------

#[test]
fn malformed_lines_are_answered_and_do_no_harm() {
    let mut server = Server::initialized("2025-11-25");
    let digits = "7".repeat(400);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        ("{\"jsonrpc\":".into(), Value::Null, -32700),
        ("hello".into(), Value::Null, -32700),
        ("[]".into(), Value::Null, -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#.into(), Value::Null, -32600),
        ("42".into(), Value::Null, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.into(), Value::Null, -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#.into(), json!(1.5), -32600),
        (r#"{"jsonrpc":"2.0","id":5}"#.into(), json!(5), -32600),
        (r#"{"jsonrpc":"1.0","id":5,"method":"ping"}"#.into(), json!(5), -32600),
        (format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":{digits}}}}}"#), json!(5), -32600),
        (format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":{deep}}}}}"#), json!(5), -32600),
        (deep, Value::Null, -32600),
        (r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":[]}"#.into(), json!(5), -32602),
        (r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":"x"}"#.into(), json!(5), -32602),
        (r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{}}"#.into(), json!(5), -32602),
        (r#"{"jsonrpc":"2.0","id":5,"method":"tools/call"}"#.into(), json!(5), -32602),
        (r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":7}}"#.into(), json!(5), -32602),
        (
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"clip_search","arguments":[1]}}"#.into(),
            json!(5),
            -32602,
        ),
        (r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"nope"}}"#.into(), json!(5), -32602),
        (r#"{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{}}"#.into(), json!(5), -32602),
        (r#"{"jsonrpc":"2.0","id":5,"method":"prompts/get","params":{"name":"nope"}}"#.into(), json!(5), -32602),
        (
            r#"{"jsonrpc":"2.0","id":5,"method":"completion/complete","params":{"ref":{"type":"x"}}}"#.into(),
            json!(5),
            -32602,
        ),
        (r#"{"jsonrpc":"2.0","id":5,"method":"no/such"}"#.into(), json!(5), -32601),
        (r#"{"jsonrpc":"2.0","id":5,"method":"logging/setLevel","params":{"level":"debug"}}"#.into(), json!(5), -32601),
        (r#"{"jsonrpc":"2.0","id":5,"method":"tasks/get","params":{"taskId":"1"}}"#.into(), json!(5), -32601),
    ];
    for (line, id, expected) in cases {
        let line: String = line;
        let answer = server.ask_line(&line);
        let shown: String = line.chars().take(200).collect();
        assert_eq!((answer.get("id"), code(&answer)), (Some(&id), expected), "{shown}");
    }
    server.assert_alive();
}

#[test]
fn odd_bytes_around_a_message_are_tolerated() {
    let mut server = Server::start();
    server.send_bytes(b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n\r\n\n   \n");
    assert_eq!(server.next().get("id"), Some(&json!(1)));
    server.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\xfe\",\"method\":\"ping\"}\n");
    assert_eq!(code(&server.next()), -32700);
    server.send(r#"{"jsonrpc":"2.0","method":"no/such/notification","params":{"x":1}}"#);
    assert!(server.is_silent());
    server.assert_alive();
}

#[test]
fn a_line_over_the_limit_is_answered_in_bounded_memory() {
    let mut server = Server::start();
    server.send_bytes(br#"{"jsonrpc":"2.0","id":"big","method":"tools/call","params":{"x":""#);
    let mebibyte = vec![b'a'; 1 << 20];
    for _ in 0..64 {
        server.send_bytes(&mebibyte);
    }
    server.send_bytes(b"\"}}\n");
    let answer = server.next();
    assert_eq!((answer.get("id"), code(&answer)), (Some(&json!("big")), -32600));
    #[cfg(target_os = "linux")]
    assert!(resident_mib(&server, "VmHWM:") < 64.0);
    server.assert_alive();
}

// ---- faults that the caller can mend are results -------------------------------------------------------------------

#[test]
fn wrong_arguments_are_named_with_a_hint() {
    let mut server = Server::initialized("2025-11-25");
    let cases = [
        ("clip_search", json!({"topk": 3}), "unknown argument `topk`; did you mean `top_k`?"),
        ("clip_search", json!({"query": 3}), "`query` must be"),
        ("clip_search", json!({"query": "x", "top_k": "3"}), "`top_k` must be an integer"),
        ("clip_search", json!({"query": "x", "thumbnails": "yes"}), "`thumbnails` must be true or false"),
        ("classify_image", json!({"images": ["a.jpg"]}), "`labels` is required"),
        ("classify_image", json!({"images": "a.jpg", "labels": ["x"]}), "`images` must be an array"),
        ("classify_image", json!({"images": [1], "labels": ["x"]}), "`images[0]` must be a string"),
        ("index_folder", json!({}), "`folder` is required"),
    ];
    for (tool, arguments, words) in cases {
        let answer = server.ask(&request("1", "tools/call", json!({"name": tool, "arguments": arguments})));
        assert_eq!(answer.pointer("/result/isError"), Some(&json!(true)), "{answer}");
        assert!(text(&answer).starts_with(&format!("error: {words}")), "{}", text(&answer));
        assert!(text(&answer).contains(&format!("\nhint: {tool} takes ")), "{}", text(&answer));
    }
}

// ---- start, end, signals -------------------------------------------------------------------------------------------

#[test]
fn the_first_answer_is_fast_and_light() {
    // The best of some, since other tests keep the machine busy meanwhile.
    let times = (0..5).map(|_| {
        let start = Instant::now();
        let mut server = Server::start();
        server.ask(&modern("1", "server/discover", json!({})));
        #[cfg(target_os = "linux")]
        assert!(resident_mib(&server, "VmRSS:") < 30.0);
        start.elapsed()
    });
    let best = times.min().unwrap();
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[cfg(target_os = "linux")]
fn resident_mib(server: &Server, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

#[test]
fn the_end_of_input_is_a_regular_end() {
    let mut server = Server::start();
    server.input.take();
    server.assert_ends_well_within(Duration::from_secs(2));

    let mut server = Server::initialized("2025-11-25");
    server.send(&request("last", "tools/list", json!({})).to_string());
    server.input.take();
    assert_eq!(server.next().get("id"), Some(&json!("last")), "what was asked is still answered");
    server.assert_ends_well_within(Duration::from_secs(2));
}

#[test]
fn a_last_line_without_a_line_break_counts() {
    let mut server = Server::start();
    server.send_bytes(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    server.input.take();
    assert_eq!(server.next().get("id"), Some(&json!(1)));
}

#[cfg(unix)]
#[test]
fn signals_end_the_server_at_any_time() {
    for name in ["TERM", "INT"] {
        let mut server = Server::start();
        server.assert_alive();
        server.signal(name);
        server.assert_ends_well_within(Duration::from_secs(1));
        let mut server = Server::initialized("2025-11-25");
        server.signal(name);
        server.assert_ends_well_within(Duration::from_secs(1));
    }
}

#[test]
fn a_client_that_goes_away_ends_the_server() {
    let mut server = Server::start();
    server.assert_alive();
    // Dropping the receiver ends the reading thread at the next line, which closes the server's stdout.
    server.lines = channel().1;
    for _ in 0..50 {
        if server.input.as_mut().unwrap().write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    server.assert_ends_well_within(Duration::from_secs(2));
}

/// rmcp logs every message at debug level; nobody reads the pipe.
#[test]
fn a_client_that_never_reads_stderr_is_served() {
    let root = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_clip-aware"))
        .args(["--root".as_ref(), root.path().as_os_str(), "serve".as_ref()])
        .env("CLIP_AWARE_LOG", "trace")
        .env("RUST_LOG", "trace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (sender, done) = channel();
    std::thread::spawn(move || {
        let filler = "x".repeat(2000);
        for id in 0..500 {
            writeln!(input, "{}", json!({"jsonrpc": "2.0", "id": id, "method": "ping", "params": {"x": filler}}))
                .unwrap();
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert!(line.contains("result"), "{line}");
        }
        sender.send(()).unwrap();
    });
    let served = done.recv_timeout(PATIENCE);
    child.kill().unwrap();
    child.wait().unwrap();
    served.expect("500 answers although a megabyte of log has no reader");
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let mut server = Server::initialized("2025-11-25");
    for id in 0..200 {
        let method = ["tools/list", "resources/list", "prompts/list", "ping"][id % 4];
        server.send(&request(&id.to_string(), method, json!({})).to_string());
    }
    let mut ids: Vec<usize> =
        (0..200).map(|_| server.next().get("id").and_then(Value::as_str).unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..200));
}

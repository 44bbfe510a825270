//! Decides about each input line before rmcp sees it: pass it on, answer it with an error, or ignore it.
//!
//! rmcp stays silent where a line is no JSON, holds a number beyond `f64` or nests too deeply; the client would wait for
//! ever. Here every line that could be a request is answered, with its id when one can be read.

use rmcp::model::{ClientJsonRpcMessage, ErrorCode, ErrorData, JsonRpcMessage};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::server::is_known_method;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// The results of these fit on one page, so no cursor was ever given out.
const UNPAGED: [&str; 6] = [
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "resources/directory/read",
    "skills/list",
    "prompts/list",
];

/// What to do with a line.
#[derive(Debug)]
pub(super) enum Vetted {
    /// A message for rmcp.
    Pass(Box<ClientJsonRpcMessage>),
    /// To be answered with an error.
    Refuse {
        /// The request's id as it was given; null when none can be read.
        id: Value,
        /// What is wrong.
        error: ErrorData,
    },
    /// Nothing to do, with the reason for the log.
    Ignore(&'static str),
}

fn refuse(id: Value, code: ErrorCode, message: impl Into<String>) -> Vetted {
    Vetted::Refuse { id, error: ErrorData::new(code, message.into(), None) }
}

/// Vets one line.
pub(super) fn vet(line: &[u8]) -> Vetted {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Vetted::Ignore("blank line");
    }
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => return refuse(Value::Null, ErrorCode::PARSE_ERROR, format!("not UTF-8: {error}")),
    };
    let mut envelope = Envelope::default();
    if let Err(error) = envelope.scan(text) {
        return refuse_unreadable(text, &envelope, &error);
    }
    vet_envelope(text, envelope)
}

/// The answer to a line over the limit, from what it began and ended with.
pub(super) fn vet_overlong(head: &[u8], tail: &[u8], max_bytes: usize) -> Vetted {
    let mut envelope = Envelope::default();
    let readable = std::str::from_utf8(head)
        .unwrap_or_else(|error| std::str::from_utf8(head.split_at(error.valid_up_to()).0).unwrap_or_default());
    // The scan fails at the cut, of course; what it has met by then counts.
    let _ = envelope.scan(readable);
    let id = envelope.id.or_else(|| id_at_end(tail)).filter(is_id).unwrap_or(Value::Null);
    refuse(id, ErrorCode::INVALID_REQUEST, format!("message over {} MiB", max_bytes / (1024 * 1024)))
}

/// Clients that write `id` last: the value after the last `"id":`, when nothing but the closing brace follows.
fn id_at_end(tail: &[u8]) -> Option<Value> {
    let tail = String::from_utf8_lossy(tail);
    let (_, after) = tail.rsplit_once("\"id\"")?;
    let value = after.trim_start().strip_prefix(':')?.trim_end().strip_suffix('}')?;
    serde_json::from_str(value).ok()
}

/// A line that is no JSON-RPC object: broken JSON, an array, a bare value, a key given twice, an id beyond `f64`.
fn refuse_unreadable(text: &str, envelope: &Envelope, error: &serde_json::Error) -> Vetted {
    // Skipping a value checks its grammar but neither its depth nor the size of its numbers.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return refuse(Value::Null, ErrorCode::PARSE_ERROR, format!("not JSON: {error}"));
    }
    if text.starts_with('[') {
        return refuse(Value::Null, ErrorCode::INVALID_REQUEST, "batches are not supported: send one message per line");
    }
    let id = envelope.id.clone().filter(is_id).unwrap_or(Value::Null);
    refuse(id, ErrorCode::INVALID_REQUEST, format!("not a JSON-RPC request: {error}"))
}

fn vet_envelope(text: &str, envelope: Envelope) -> Vetted {
    let given = envelope.id;
    let id = given.clone().filter(is_id).unwrap_or(Value::Null);
    let invalid = |reason: &str| refuse(id.clone(), ErrorCode::INVALID_REQUEST, reason);
    if envelope.jsonrpc.as_ref().and_then(Value::as_str) != Some("2.0") {
        return invalid("`jsonrpc` must be \"2.0\"");
    }
    let Some(method) = envelope.method else {
        return if envelope.answers {
            Vetted::Ignore("an answer to a request that was never sent")
        } else {
            invalid("`method` is missing")
        };
    };
    let Some(method) = method.as_str() else { return invalid("`method` must be a string") };
    if envelope.answers {
        return invalid("a request has neither `result` nor `error`");
    }
    match given {
        None => vet_notification(text, method),
        Some(Value::String(_)) => vet_request(text, method, id),
        Some(Value::Number(number)) if number.is_i64() || integral(&number) => vet_request(text, method, id),
        Some(_) => invalid("`id` must be a string or an integer"),
    }
}

/// Only a cancellation asks anything of this server.
fn vet_notification(text: &str, method: &str) -> Vetted {
    if method != "notifications/cancelled" {
        return Vetted::Ignore("a notification that needs no action");
    }
    match serde_json::from_str(text) {
        Ok(message @ JsonRpcMessage::Notification(_)) => Vetted::Pass(Box::new(message)),
        _ => Vetted::Ignore("an undecodable cancellation"),
    }
}

fn vet_request(text: &str, method: &str, id: Value) -> Vetted {
    if UNPAGED.contains(&method) {
        // rmcp takes a cursor of another type for none.
        let cursor =
            serde_json::from_str::<Value>(text).ok().and_then(|value| value.pointer("/params/cursor").cloned());
        if cursor.is_some_and(|cursor| !cursor.is_null()) {
            return refuse(id, ErrorCode::INVALID_PARAMS, "unknown cursor: the list has one page");
        }
    }
    match serde_json::from_str(text) {
        Ok(message @ JsonRpcMessage::Request(_)) => Vetted::Pass(Box::new(message)),
        Ok(_) => refuse(id, ErrorCode::INVALID_REQUEST, "not a request"),
        Err(error) => match serde_json::from_str::<Value>(text) {
            Ok(_) if is_known_method(method) => {
                refuse(id, ErrorCode::INVALID_PARAMS, "`params` must be an object, and so must its `_meta`")
            }
            Ok(_) => refuse(id, ErrorCode::METHOD_NOT_FOUND, "unknown method"),
            // Numbers beyond f64 and nesting beyond 128 levels end here.
            Err(_) => refuse(id, ErrorCode::INVALID_REQUEST, format!("the request cannot be decoded: {error}")),
        },
    }
}

fn is_id(value: &Value) -> bool {
    value.is_string() || value.is_number()
}

/// `1.0` is an integer to JSON; rmcp reads it as one up to 2^53.
fn integral(number: &serde_json::Number) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.is_f64() && number.as_f64().is_some_and(|value| value.fract() == 0.0 && value.abs() < EXACT)
}

/// The top level of a message, filled while it is read, so that a scan which fails half-way leaves what it met.
#[derive(Debug, Default)]
struct Envelope {
    jsonrpc: Option<Value>,
    id: Option<Value>,
    method: Option<Value>,
    answers: bool,
}

impl Envelope {
    fn scan(&mut self, text: &str) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        (&mut *self).deserialize(&mut deserializer)?;
        deserializer.end()
    }
}

impl<'de> DeserializeSeed<'de> for &mut Envelope {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Envelope {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let place = match key.as_str() {
                "jsonrpc" => &mut self.jsonrpc,
                "id" => &mut self.id,
                "method" => &mut self.method,
                other => {
                    self.answers |= matches!(other, "result" | "error");
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if place.is_some() {
                return Err(serde::de::Error::custom(format!("`{key}` is given twice")));
            }
            *place = Some(map.next_value()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The id and the code of the refusal.
    fn refusal(line: &str) -> (Value, i32) {
        match vet(line.as_bytes()) {
            Vetted::Refuse { id, error } => (id, error.code.0),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_that_are_no_json_are_parse_errors_without_an_id() {
        for line in ["{", "nonsense", r#"{"jsonrpc":"2.0","id":1,"method":"ping"} x"#, r#"{"id":1,}"#, "\u{feff}{"] {
            assert_eq!(refusal(line), (Value::Null, -32700), "{line}");
        }
        assert!(matches!(vet(b"\"\xff\xfe\""), Vetted::Refuse { error, .. } if error.code.0 == -32700));
    }

    #[test]
    fn json_that_is_no_request_is_refused_with_its_id_when_it_has_one() {
        let cases = [
            ("[]", Value::Null),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, Value::Null),
            ("1", Value::Null),
            ("\"ping\"", Value::Null),
            ("null", Value::Null),
            ("{}", Value::Null),
            (r#"{"id":7,"method":"ping"}"#, json!(7)),
            (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":5}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, Value::Null),
            (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, Value::Null),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, Value::Null),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, json!(1.5)),
            (r#"{"jsonrpc":"2.0","id":18446744073709551615,"method":"ping"}"#, json!(u64::MAX)),
        ];
        for (line, id) in cases {
            assert_eq!(refusal(line), (id, -32600), "{line}");
        }
    }

    #[test]
    fn huge_numbers_and_deep_nesting_are_answered_with_the_id() {
        let digits = "9".repeat(400);
        let number = format!(r#"{{"jsonrpc":"2.0","id":"n","method":"tools/call","params":{{"x":{digits}}}}}"#);
        assert_eq!(refusal(&number), (json!("n"), -32600));
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let nested = format!(r#"{{"params":{{"x":{deep}}},"jsonrpc":"2.0","method":"tools/call","id":3}}"#);
        assert_eq!(refusal(&nested), (json!(3), -32600));
        assert_eq!(refusal(&deep), (Value::Null, -32600));
        let id = format!(r#"{{"jsonrpc":"2.0","id":{digits},"method":"ping"}}"#);
        assert_eq!(refusal(&id), (Value::Null, -32600));
    }

    #[test]
    fn an_overlong_line_is_answered_with_an_id_from_either_end() {
        let id = |head: &[u8], tail: &[u8]| match vet_overlong(head, tail, 16 << 20) {
            Vetted::Refuse { id, error } if error.code.0 == -32600 => id,
            other => panic!("{other:?}"),
        };
        assert_eq!(id(br#"{"jsonrpc":"2.0","id":4,"params":{"x":"aaa"#, b"aaa\"}}"), json!(4));
        assert_eq!(id(br#"{"method":"m","params":{"x":"aaa"#, br#"aaa"},"jsonrpc":"2.0","id":"z"}"#), json!("z"));
        assert_eq!(id("{\"method\":\"\u{e9}".as_bytes().split_at(12).0, b"aaa"), Value::Null);
        assert_eq!(id(b"aaaa", br#""id":5 } and more"#), Value::Null);
    }

    #[test]
    fn requests_pass_and_notifications_are_ignored_unless_they_cancel() {
        let passes = [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"cursor":null}}"#,
            r#"  {"jsonrpc":"2.0","id":-1,"method":"no/such","params":{"x":[1]}}  "#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":2.0,\"method\":\"ping\"}\r",
        ];
        for line in passes {
            assert!(matches!(vet(line.as_bytes()), Vetted::Pass(_)), "{line}");
        }
        let ignored = [
            "",
            "\r",
            "   ",
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","method":"no/such"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":5}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ];
        for line in ignored {
            assert!(matches!(vet(line.as_bytes()), Vetted::Ignore(_)), "{line}");
        }
    }

    #[test]
    fn params_that_are_no_object_are_invalid_params() {
        for params in ["[1]", "\"x\"", "5", r#"{"_meta":[]}"#] {
            let line = |method| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            assert_eq!(refusal(&line("tools/call")), (json!(1), -32602), "{params}");
            assert_eq!(refusal(&line("no/such")), (json!(1), -32601), "{params}");
        }
    }

    #[test]
    fn a_cursor_was_never_given_out() {
        for cursor in ["5", "\"x\"", "{}"] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"cursor":{cursor}}}}}"#);
            assert_eq!(refusal(&line), (json!(1), -32602));
        }
    }
}

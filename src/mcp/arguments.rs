//! Checks a call's arguments against the tool's input schema and says in plain words which one is wrong.
//!
//! Knows the keywords that the schemas of the tools use, no more; a test holds the two together.

use std::fmt::Write as _;

use rmcp::model::JsonObject;
use serde_json::Value;

/// The keywords understood here.
#[cfg(test)]
pub(super) const KEYWORDS: [&str; 12] = [
    "type",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "enum",
];

/// What is wrong with the arguments, and what the tool takes.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: String,
}

/// The arguments without nulls, which count as left out; or the first fault.
///
/// # Errors
/// An argument is unknown, missing, of another type or out of range.
pub(super) fn check(tool: &str, schema: &JsonObject, arguments: Option<JsonObject>) -> Result<JsonObject, Fault> {
    let mut arguments = arguments.unwrap_or_default();
    arguments.retain(|_, value| !value.is_null());
    match fault_in_object("", schema, &arguments) {
        None => Ok(arguments),
        Some(message) => Err(Fault { message, hint: signature(tool, schema) }),
    }
}

/// `clip_search takes query, image, folder; required: none`.
fn signature(tool: &str, schema: &JsonObject) -> String {
    let names = |keyword: &str| -> Vec<&str> {
        match schema.get(keyword) {
            Some(Value::Object(properties)) => properties.keys().map(String::as_str).collect(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    };
    let mut text = format!("{tool} takes {}", names("properties").join(", "));
    let required = names("required");
    if !required.is_empty() {
        let _ = write!(text, "; required: {}", required.join(", "));
    }
    text
}

fn fault_in_object(place: &str, schema: &JsonObject, object: &JsonObject) -> Option<String> {
    let inside = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    let no_properties = JsonObject::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&no_properties);
    for (name, value) in object {
        if let Some(property) = properties.get(name).and_then(Value::as_object) {
            if let Some(fault) = fault_in(&inside(name), property, value) {
                return Some(fault);
            }
        } else if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
            let similar = properties.keys().find(|known| is_similar(known, name));
            let tail = similar.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
            return Some(format!("unknown argument `{}`{tail}", inside(&shortened(name))));
        }
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    required.into_iter().find(|name| !object.contains_key(*name)).map(|name| format!("`{}` is required", inside(name)))
}

fn fault_in(place: &str, schema: &JsonObject, value: &Value) -> Option<String> {
    let wanted = wanted(schema);
    let fits = match schema.get("type").and_then(Value::as_str) {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    let allowed = schema.get("enum").and_then(Value::as_array).is_none_or(|choices| choices.contains(value));
    if !fits || !allowed || !is_within_limits(schema, value) {
        return Some(format!("`{place}` must be {wanted}, not {}", shown(value)));
    }
    match value {
        Value::Object(object) => fault_in_object(place, schema, object),
        Value::Array(items) => {
            let item_schema = schema.get("items").and_then(Value::as_object)?;
            items.iter().enumerate().find_map(|(i, item)| fault_in(&format!("{place}[{i}]"), item_schema, item))
        }
        _ => None,
    }
}

fn is_within_limits(schema: &JsonObject, value: &Value) -> bool {
    let measured = match value {
        Value::Number(number) => number.as_f64().map(|n| ("minimum", "maximum", n)),
        Value::Array(items) => Some(("minItems", "maxItems", items.len() as f64)),
        Value::String(text) => Some(("minLength", "maxLength", text.chars().count() as f64)),
        _ => None,
    };
    measured.is_none_or(|(least, most, size)| {
        let limit = |keyword| schema.get(keyword).and_then(Value::as_f64);
        limit(least).is_none_or(|least| size >= least) && limit(most).is_none_or(|most| size <= most)
    })
}

/// What a schema wants, in words: "an integer from 1 to 200".
fn wanted(schema: &JsonObject) -> String {
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        let choices: Vec<_> = choices.iter().map(ToString::to_string).collect();
        return format!("one of {}", choices.join(", "));
    }
    let limit = |keyword| schema.get(keyword).map(ToString::to_string);
    let between = |least: Option<String>, most: Option<String>| match (least, most) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        (None, Some(most)) => format!(" of at most {most}"),
        (None, None) => String::new(),
    };
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if schema.contains_key("minLength") => "a string that is not empty".into(),
        Some("string") => "a string".into(),
        Some("boolean") => "true or false".into(),
        Some("integer") => format!("an integer{}", between(limit("minimum"), limit("maximum"))),
        Some("number") => format!("a number{}", between(limit("minimum"), limit("maximum"))),
        Some("array") => {
            let each = schema.get("items").and_then(|items| items.get("type")).and_then(Value::as_str);
            let of = each.map(|each| format!(" of {each}s")).unwrap_or_default();
            let count = between(limit("minItems"), limit("maxItems")).replace(" from ", " with ");
            format!("an array{of}{count}{}", if count.is_empty() { "" } else { " items" })
        }
        Some("object") => "an object".into(),
        _ => "another value".into(),
    }
}

/// A value in a message: short, and containers only by their size.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".into(),
        other => shortened(&other.to_string()),
    }
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN { text.to_owned() } else { text.chars().take(SHOWN).chain(['\u{2026}']).collect() }
}

/// The same letters apart from case and separators, or one the start of the other.
fn is_similar(known: &str, given: &str) -> bool {
    let letters = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let (known, given) = (letters(known), letters(given));
    given.len() >= 3 && known.len() >= 3 && (known.starts_with(&given) || given.starts_with(&known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fault(arguments: Value) -> Option<String> {
        let schema = json!({
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1},
                "top_k": {"type": "integer", "minimum": 1, "maximum": 200},
                "share": {"type": "number", "minimum": 0.0, "maximum": 1.0},
                "labels": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
                "flag": {"type": "boolean"},
                "kind": {"type": "string", "enum": ["a", "b"]},
            },
            "additionalProperties": false,
            "required": ["query"],
        });
        let arguments = arguments.as_object().cloned();
        check("find", schema.as_object().unwrap(), arguments).err().map(|fault| fault.message)
    }

    #[test]
    fn good_arguments_pass_and_null_counts_as_left_out() {
        assert_eq!(fault(json!({"query": "x", "top_k": 5, "share": 1, "labels": ["a"], "kind": "a"})), None);
        assert_eq!(fault(json!({"query": "x", "top_k": null, "flag": false})), None);
        assert_eq!(fault(json!({"query": "x", "top_k": 5.0})), None);
    }

    #[test]
    fn each_fault_names_its_argument_and_what_is_wanted() {
        let cases = [
            (json!({}), "`query` is required"),
            (json!({"query": null}), "`query` is required"),
            (json!({"query": ""}), "`query` must be a string that is not empty, not \"\""),
            (json!({"query": 5}), "`query` must be a string that is not empty, not 5"),
            (json!({"query": "x", "topK": 5}), "unknown argument `topK`; did you mean `top_k`?"),
            (json!({"query": "x", "zzz": 5}), "unknown argument `zzz`"),
            (json!({"query": "x", "top_k": 0}), "`top_k` must be an integer from 1 to 200, not 0"),
            (json!({"query": "x", "top_k": 201}), "`top_k` must be an integer from 1 to 200, not 201"),
            (json!({"query": "x", "top_k": "5"}), "`top_k` must be an integer from 1 to 200, not \"5\""),
            (json!({"query": "x", "top_k": 1.5}), "`top_k` must be an integer from 1 to 200, not 1.5"),
            (json!({"query": "x", "share": 1.01}), "`share` must be a number from 0.0 to 1.0, not 1.01"),
            (json!({"query": "x", "flag": "yes"}), "`flag` must be true or false, not \"yes\""),
            (json!({"query": "x", "kind": "c"}), "`kind` must be one of \"a\", \"b\", not \"c\""),
            (
                json!({"query": "x", "labels": []}),
                "`labels` must be an array of strings with 1 to 3 items, not an array of 0",
            ),
            (json!({"query": "x", "labels": ["a", 2]}), "`labels[1]` must be a string, not 2"),
            (json!({"query": "x", "labels": "a"}), "`labels` must be an array of strings with 1 to 3 items, not \"a\""),
        ];
        for (arguments, message) in cases {
            assert_eq!(fault(arguments.clone()).as_deref(), Some(message), "{arguments}");
        }
    }

    #[test]
    fn the_hint_lists_what_the_tool_takes() {
        let schema = json!({"properties": {"a": {}, "b": {}}, "required": ["b"]});
        assert_eq!(signature("find", schema.as_object().unwrap()), "find takes a, b; required: b");
    }

    #[test]
    fn long_values_are_cut() {
        let message = fault(json!({"query": "x", "top_k": "y".repeat(500)})).unwrap();
        assert!(message.len() < 150, "{message}");
    }
}

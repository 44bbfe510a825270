//! JSON schemas of the tools: made from the types of `wire`, without what costs tokens and says nothing.

use rmcp::model::JsonObject;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, generate::SchemaGenerator};
use serde_json::Value;

/// What a tool takes.
pub(super) fn input<T: JsonSchema>() -> JsonObject {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = root::<T>(settings.into_generator());
    // A tool without arguments still needs the key for some clients.
    schema.entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
    schema
}

/// What a tool answers: names and types only. Most clients do not show it to the model, yet it counts as part of the
/// definitions, whose tokens are limited; so no descriptions, no ranges and no lists of required names.
pub(super) fn output<T: JsonSchema>() -> JsonObject {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    let mut schema = root::<T>(settings.into_generator());
    for_each_subschema(&mut schema, &mut |subschema| {
        for noise in ["description", "minimum", "maximum", "required"] {
            subschema.remove(noise);
        }
    });
    schema
}

fn root<T: JsonSchema>(generator: SchemaGenerator) -> JsonObject {
    let schema = generator.into_root_schema_for::<T>();
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    schema.remove("description");
    for_each_subschema(&mut schema, &mut |subschema| {
        for noise in ["$schema", "title", "format"] {
            subschema.remove(noise);
        }
        drop_null_of_optional_properties(subschema);
    });
    schema
}

/// An optional property is left out rather than null: `["string", "null"]` becomes `"string"`.
fn drop_null_of_optional_properties(schema: &mut JsonObject) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|known| known == name));
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (name, property) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
        let Value::Object(property) = property else {
            tracing::debug!("property {name} has no object schema");
            continue;
        };
        if let Some(Value::Array(kinds)) = property.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [kind] = kinds.as_slice() {
                let kind = kind.clone();
                property.insert("type".into(), kind);
            }
        }
        // A nested type is written as `anyOf: [its schema, null]`.
        if let Some(Value::Array(choices)) = property.get_mut("anyOf") {
            choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
            if let [Value::Object(choice)] = choices.as_mut_slice() {
                let choice = std::mem::take(choice);
                property.remove("anyOf");
                property.extend(choice);
            }
        }
    }
}

/// Calls `change` on a schema and on all schemas inside, never on a property that merely has a schema keyword's name.
fn for_each_subschema(schema: &mut JsonObject, change: &mut impl FnMut(&mut JsonObject)) {
    change(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            for_each_subschema(property, change);
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(keyword) {
            for_each_subschema(inner, change);
        }
    }
    for keyword in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        for inner in schema.get_mut(keyword).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Value::Object(inner) = inner {
                for_each_subschema(inner, change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;
    use serde::Serialize;
    use serde_json::json;

    /// Described.
    #[derive(Serialize, JsonSchema)]
    struct Inner {
        /// A property with a keyword's name.
        title: String,
        #[schemars(range(max = 5))]
        n: u32,
    }

    #[derive(Serialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        always: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        maybe: Option<Inner>,
        many: Vec<Inner>,
    }

    #[test]
    fn an_output_schema_is_inline_and_bare() {
        let inner = json!({
            "type": "object",
            "properties": {"title": {"type": "string"}, "n": {"type": "integer"}},
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "always": {"type": ["string", "null"]},
                "maybe": inner,
                "many": {"type": "array", "items": inner},
            },
            "additionalProperties": false,
        });
        assert_eq!(Value::Object(output::<Outer>()), expected);
    }

    #[test]
    fn an_input_schema_keeps_descriptions_and_limits_and_drops_null() {
        let schema = Value::Object(input::<Outer>());
        assert_eq!(schema.pointer("/properties/always"), Some(&json!({"type": "string"})));
        assert_eq!(schema.pointer("/properties/maybe/properties/n/maximum"), Some(&json!(5)));
        let described = schema.pointer("/properties/maybe/properties/title/description");
        assert_eq!(described, Some(&json!("A property with a keyword's name.")));
        assert_eq!(schema.get("required"), Some(&json!(["many"])));
    }
}

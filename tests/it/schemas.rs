//! The tools as agents see them: a change of any name, text or schema shows up here as a changed snapshot.

use serde_json::Value;

#[test]
fn tool_definitions() {
    let Value::Array(tools) = clip_aware::mcp::tool_definitions() else { panic!("a list of tools") };
    assert!(!tools.is_empty());
    for tool in tools {
        let name = tool.get("name").and_then(Value::as_str).unwrap().to_owned();
        insta::assert_json_snapshot!(format!("tool {name}"), tool);
    }
}

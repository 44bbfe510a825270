//! Prompts: one that plans a vision request with the tools at hand.

use std::fmt::Write as _;
use std::sync::Arc;

use rmcp::model::{ErrorData, GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::Value;

use super::tools::Entry;
use crate::wire;

/// The prompt's name.
pub(super) const PLAN: &str = "plan_vision_request";
/// Its argument that is completed with folders.
pub(super) const FOLDER: &str = "folder";
const REQUEST: &str = "request";
/// The prompt that explains a limit.
pub(super) const EXPLAIN: &str = "explain_clip_limit";
/// Its argument, completed with the topics.
pub(super) const TOPIC: &str = "topic";

/// All prompts, in order.
pub(super) fn list() -> Vec<Prompt> {
    let arguments = vec![
        PromptArgument::new(REQUEST).with_description("What is wanted, in plain words").with_required(true),
        PromptArgument::new(FOLDER).with_description("Folder of the images, inside the roots").with_required(false),
    ];
    let description = "Plans which tools answer a request about images, and which parts CLIP cannot answer";
    let topic =
        vec![PromptArgument::new(TOPIC).with_description("counting, spatial, negation, ...").with_required(true)];
    let explains = "Explains why CLIP fails at something, with cited numbers and what to use instead";
    vec![
        Prompt::new(PLAN, Some(description), Some(arguments)).with_title("Plan a vision request"),
        Prompt::new(EXPLAIN, Some(explains), Some(topic)).with_title("Explain a limit of CLIP"),
    ]
}

/// The filled prompt.
///
/// # Errors
/// Unknown prompt, missing or unknown argument, or one that is no string.
pub(super) fn get(
    name: &str,
    arguments: Option<&JsonObject>,
    tools: &[Arc<Entry>],
) -> Result<GetPromptResult, ErrorData> {
    let invalid = |message: String| ErrorData::invalid_params(message, None);
    if name == EXPLAIN {
        return explain(arguments);
    }
    if name != PLAN {
        return Err(invalid(format!("unknown prompt; there are {PLAN} and {EXPLAIN}")));
    }
    let (mut request, mut folder) = (None, None);
    for (argument, value) in arguments.into_iter().flatten() {
        let place = match argument.as_str() {
            REQUEST => &mut request,
            FOLDER => &mut folder,
            _ => return Err(invalid(format!("unknown argument; {PLAN} takes {REQUEST} and {FOLDER}"))),
        };
        *place = match value {
            Value::Null => None,
            Value::String(text) => Some(text.as_str()),
            _ => return Err(invalid(format!("`{argument}` must be a string"))),
        };
    }
    let request = request.ok_or_else(|| invalid(format!("`{REQUEST}` is required")))?;
    let message = PromptMessage::new_text(Role::User, plan(request, folder, tools));
    Ok(GetPromptResult::new(vec![message]).with_description("A plan for one vision request"))
}

/// The prompt that explains a limit, with the tool's own facts in it.
fn explain(arguments: Option<&JsonObject>) -> Result<GetPromptResult, ErrorData> {
    let invalid = |message: String| ErrorData::invalid_params(message, None);
    let mut given = arguments.into_iter().flatten().filter(|(_, value)| !value.is_null());
    let topic = match (given.next(), given.next()) {
        (Some((name, Value::String(topic))), None) if name == TOPIC => topic,
        (None, _) => return Err(invalid(format!("`{TOPIC}` is required"))),
        _ => return Err(invalid(format!("{EXPLAIN} takes {TOPIC}, a string"))),
    };
    let topic = wire::topic_name(topic).map_err(|error| invalid(error.to_string()))?;
    let message = format!(
        "Call explain_limitation(topic: \"{topic}\") and explain in plain words what CLIP cannot do there, why, with the \
         numbers and their sources, and what to use instead."
    );
    let message = PromptMessage::new_text(Role::User, message);
    Ok(GetPromptResult::new(vec![message]).with_description("A limit of CLIP explained"))
}

fn plan(request: &str, folder: Option<&str>, tools: &[Arc<Entry>]) -> String {
    let mut text = format!("Plan this request about images, then carry the plan out:\n\n{request}\n\n");
    if let Some(folder) = folder {
        let _ = writeln!(text, "The images are in: {folder}\n");
    }
    text.push_str("Tools:\n");
    for entry in tools {
        let tool = &entry.tool;
        let _ = writeln!(text, "- {}: {}", tool.name, tool.description.as_deref().unwrap_or_default());
    }
    text.push_str(
        "\nRules:\n\
         1. Split the request into parts and name each: finding by content, sorting into labels, similarity, counting, \
         position, who does what to whom, negation, fine species or models, reading text.\n\
         2. CLIP answers the first three. It does not count, does not know left from right, mixes up which attribute \
         belongs to which object, ignores \"not\", and reads text badly. Never present a CLIP score as an answer to those.\n\
         3. For a part that CLIP cannot answer, use CLIP only to narrow the images down, then use a tool made for it, or \
         look at the few best images yourself, or say that it cannot be answered.\n\
         4. Index before searching. Relevance is calibrated from 0 to 1: trust the cut-off, and report \"nothing found\" \
         rather than the least bad hit.\n\
         5. Say in the answer which parts were verified, and how.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::tools;
    use serde_json::json;

    fn get_with(arguments: Value) -> Result<String, ErrorData> {
        let tools: Vec<_> = tools::all().into_iter().map(Arc::new).collect();
        let result = get(PLAN, arguments.as_object(), &tools)?;
        let [message] = result.messages.as_slice() else { panic!("one message") };
        Ok(message.content.as_text().unwrap().text.clone())
    }

    #[test]
    fn the_plan_holds_the_request_the_folder_and_every_tool() {
        let text = get_with(json!({"request": "count the dogs", "folder": "pets"})).unwrap();
        assert!(text.contains("count the dogs") && text.contains("in: pets"));
        for entry in tools::all() {
            assert!(text.contains(&format!("- {}: ", entry.tool.name)));
        }
    }

    #[test]
    fn bad_arguments_are_named() {
        for (arguments, word) in [
            (json!({}), "`request` is required"),
            (json!({"request": 5}), "`request` must be a string"),
            (json!({"request": "x", "y": "z"}), "takes request and folder"),
        ] {
            let error = get_with(arguments).unwrap_err();
            assert!(error.code.0 == -32602 && error.message.contains(word), "{error}");
        }
        assert_eq!(get("no_such", None, &[]).unwrap_err().code.0, -32602);
    }
}

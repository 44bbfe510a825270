//! The table of tools. A new tool is one function here, one line in [`all`], and its text in `answer`.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{self, Answer};
use super::compose;
use super::detect;
use super::explained;
use super::identify;
use super::relate;
use super::schema;
use super::work::Lane;
use crate::engine::{Engine, Watch};
use crate::error::{Error, Result};
use crate::wire;

/// All tools, in the order in which they are listed.
pub(super) fn all() -> Vec<Entry> {
    vec![
        route_query(),
        clip_search(),
        classify_image(),
        detect_count(),
        spatial_relation(),
        match_captions(),
        identify_image(),
        explain_limitation(),
        index_folder(),
    ]
}

fn route_query() -> Entry {
    Entry::new("route_query", "Choose the right image tool")
        .describe(
            "Call this first when unsure. Says which task a request about images is (search, classification, counting, \
             spatial, text, ...), whether CLIP suits it, and the exact next tool call with arguments taken from the \
             request. Any language; no image needed; instant.",
        )
        .read_only()
        .runs(Lane::Short, |_, args, _| wire::route(args, false), answer::route)
}

fn clip_search() -> Entry {
    Entry::new("clip_search", "Search images by words or example")
        .describe(
            "Finds images in indexed folders by what they show: words (\"a red car in snow\"), an example image, or both. \
             Call index_folder first. No result: nothing fits. Numbers, left/right, \"without\" \
             and whose colour are checked on the best hits where a detector is loaded. Not for reading text or telling \
             individuals apart. To label known images use classify_image.",
        )
        .read_only()
        .runs(Lane::Short, wire::search, answer::search)
}

fn classify_image() -> Entry {
    Entry::new("classify_image", "Sort images into labels")
        .describe(
            "Says which of your labels fits each image, with probabilities and \"none of these\". For kinds of things, \
             scenes and styles. Not for counts, positions, text, or fine species and models. To find images among many \
             use clip_search.",
        )
        .read_only()
        .runs(Lane::Short, wire::classify, answer::classification)
}

fn explain_limitation() -> Entry {
    Entry::new("explain_limitation", "Why CLIP fails, and what to use")
        .describe(
            "Says why CLIP fails at a task (counting, left/right, attributes, \"no\", reading, fine kinds, scores), with cited \
             numbers and what to use instead. Give topic or query; with image and query it also shows the failure on that \
             image and diagnoses why a search does or does not find it. Use it when results look wrong.",
        )
        .read_only()
        .runs(Lane::Short, wire::explain, explained::explanation)
}

fn detect_count() -> Entry {
    Entry::new("detect_count", "Find and count objects")
        .describe(
            "Counts objects in images, with boxes in pixels and how sure each count is. For \"how many\", \"where\", \"is there \
             a\". Finds COCO's 80 everyday things (people, vehicles, animals, furniture, food; synonyms and plurals work), with \
             some detectors any words or an example. For scenes and styles use classify_image.",
        )
        .read_only()
        .runs(Lane::Short, wire::detect, detect::detections)
}

fn spatial_relation() -> Entry {
    Entry::new("spatial_relation", "How two things stand to each other")
        .describe(
            "Says how a subject stands to an object in an image: left of, right of, above, below, on, inside, in front of, \
             next to, far from, larger, nearer, ..., with probabilities, both boxes, and what cannot be decided. Left and right \
             are the viewer's. For the things that detect_count finds; to only locate one use that.",
        )
        .read_only()
        .runs(Lane::Short, wire::relate::relate, relate::relations)
}

fn match_captions() -> Entry {
    Entry::new("match_captions", "Which caption is true")
        .describe(
            "Says which caption is true of an image where CLIP cannot tell: whose colour, how many, \"without\", left/right. \
             Checks each phrase with boxes and crops, beside CLIP's own score. One caption is enough; for kinds use \
             classify_image.",
        )
        .read_only()
        .runs(Lane::Short, wire::compose::match_captions, compose::captions)
}

fn identify_image() -> Entry {
    Entry::new("identify_image", "Which one it is, by examples")
        .describe(
            "Says which label of a gallery an image belongs to, or \"unknown\": individuals, species, models, products. The \
             gallery is a folder with a subfolder of example images for each label. Gives calibrated confidence and the nearest \
             examples. New examples are embedded first. A classifier instead names dog breeds, birds or what else it was trained \
             on. For plain kinds of things use classify_image.",
        )
        .read_only()
        .runs(Lane::Long, wire::identify::identify, identify::identity)
}

fn index_folder() -> Entry {
    Entry::new("index_folder", "Index a folder of images")
        .describe(
            "Prepares a folder, with its subfolders, for clip_search. Only new and changed images cost time: call it \
             again after changes. The first run embeds every image: seconds to minutes, with progress; \
             cancelling keeps what is done. Images are only read.",
        )
        .writes_index()
        .runs(Lane::Long, wire::index, answer::index_run)
}

/// A tool: how it is listed and what it does.
pub(super) struct Entry {
    /// As `tools/list` gives it.
    pub(super) tool: Tool,
    /// Which queue its calls wait in.
    pub(super) lane: Lane,
    run: Box<Run>,
}

type Run = dyn Fn(&Engine, JsonObject, &Watch<'_>) -> Result<Answer> + Send + Sync;

impl Entry {
    pub(super) fn new(name: &'static str, title: &'static str) -> Self {
        let tool = Tool::new_with_raw(name, None, JsonObject::new()).with_title(title);
        let run = move |_: &Engine, _: JsonObject, _: &Watch<'_>| {
            Err(Error::Argument { name: "name", reason: format!("of tool {name} has no implementation") })
        };
        Self { tool, lane: Lane::Short, run: Box::new(run) }
    }

    /// When to use it, and when not.
    pub(super) fn describe(mut self, description: &'static str) -> Self {
        self.tool.description = Some(description.into());
        self
    }

    /// It changes nothing.
    pub(super) fn read_only(self) -> Self {
        self.annotate(true)
    }

    /// It changes the index, and nothing else.
    fn writes_index(self) -> Self {
        self.annotate(false)
    }

    fn annotate(mut self, read_only: bool) -> Self {
        let hints = ToolAnnotations::new().read_only(read_only).destructive(false).idempotent(true).open_world(false);
        self.tool.annotations = Some(hints);
        self
    }

    /// What it does and how the result reads; the schemas come from the types.
    pub(super) fn runs<A, R>(
        mut self,
        lane: Lane,
        run: impl Fn(&Engine, &A, &Watch<'_>) -> Result<R> + Send + Sync + 'static,
        present: impl Fn(&Engine, &A, &R) -> Answer + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + 'static,
        R: Serialize + JsonSchema + 'static,
    {
        self.tool.input_schema = Arc::new(schema::input::<A>());
        self.tool.output_schema = Some(Arc::new(schema::output::<R>()));
        self.lane = lane;
        self.run = Box::new(move |engine, arguments, watch| {
            let arguments: A = serde_json::from_value(arguments.into())
                .map_err(|error| Error::Argument { name: "arguments", reason: format!("cannot be read: {error}") })?;
            let response = run(engine, &arguments, watch)?;
            Ok(present(engine, &arguments, &response).with_structured(&response))
        });
        self
    }

    /// Runs a call whose arguments fit the schema.
    ///
    /// # Errors
    /// What the use case says.
    pub(super) fn run(&self, engine: &Engine, arguments: JsonObject, watch: &Watch<'_>) -> Result<Answer> {
        (self.run)(engine, arguments, watch)
    }
}

impl Debug for Entry {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Entry").field("tool", &self.tool.name).field("lane", &self.lane).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::arguments::KEYWORDS;
    use serde_json::Value;

    /// Nine tools may take 4,000 tokens together (design), each its share. A token of such JSON is some four bytes.
    const BYTES_PER_TOOL: usize = 4000 * 4 / 9;

    #[test]
    fn the_definitions_keep_to_their_token_budget() {
        let tools = all();
        let bytes: usize = tools.iter().map(|entry| serde_json::to_string(&entry.tool).unwrap().len()).sum();
        assert!(bytes <= tools.len() * BYTES_PER_TOOL, "{} tools take {bytes} bytes", tools.len());
    }

    #[test]
    fn advice_knows_which_tools_there_are() {
        let mut listed: Vec<String> = all().iter().map(|entry| entry.tool.name.to_string()).collect();
        listed.sort();
        let mut known = wire::known_tools();
        known.sort_unstable();
        assert_eq!(listed, known, "src/knowledge/tools.rs must name the tools of this list");
    }

    #[test]
    fn every_tool_is_complete() {
        for Entry { tool, .. } in all() {
            let name = &tool.name;
            assert!(name.len() <= 64 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(tool.title.is_some(), "{name} has no title");
            let description = tool.description.as_deref().unwrap();
            assert!((100..1024).contains(&description.len()), "{name}: {}", description.len());
            let hints = tool.annotations.unwrap();
            assert_eq!(hints.read_only_hint, Some(name != "index_folder"), "{name}");
            for hint in [hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint] {
                assert!(hint.is_some(), "{name}");
            }
            assert_eq!(tool.input_schema.get("additionalProperties"), Some(&Value::Bool(false)), "{name}");
            assert_eq!(tool.output_schema.unwrap().get("type"), Some(&"object".into()), "{name}");
        }
    }

    #[test]
    fn the_validator_knows_every_keyword_of_the_input_schemas() {
        fn check(schema: &JsonObject) {
            for keyword in schema.keys() {
                assert!(KEYWORDS.contains(&keyword.as_str()), "`{keyword}` in {schema:?}");
            }
            let properties =
                schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(_, inner)| inner);
            for inner in properties.chain(schema.get("items")).filter_map(Value::as_object) {
                check(inner);
            }
        }
        for entry in all() {
            check(&entry.tool.input_schema);
        }
    }

    #[test]
    fn no_schema_has_a_reference() {
        for entry in all() {
            let text = serde_json::to_string(&entry.tool).unwrap();
            assert!(!text.contains("$ref") && !text.contains("$defs"), "{text}");
        }
    }
}

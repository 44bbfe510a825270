//! The part of the demo where CLIP alone fails: for each kind of question the scene that it is surest and wrong about, and
//! the same question through the router.

use std::path::Path;

use serde_json::{Value, json};

use super::server::{Server, Told};
use crate::engine::encoders::encode_pictures;
use crate::engine::scenes::{self, Kind, Question, detection};
use crate::error::{Error, Result};
use crate::models::Encoder;

/// Folder of the scenes that are asked about, below the demo's own.
const ASKED: &str = "asked";
/// Folder of the pictures with boxes.
pub(super) const FOUND: &str = "found";

/// A kind of question, the name of its pictures, and how a person asks it.
struct Failing {
    kind: Kind,
    name: &'static str,
    ask: fn(&Question, &str) -> Option<String>,
}

const FAILING: [Failing; 3] = [
    Failing { kind: Kind::Counting, name: "count", ask: how_many },
    Failing { kind: Kind::LeftRight, name: "sides", ask: is_beside },
    Failing { kind: Kind::Negation, name: "absent", ask: is_absent },
];

fn how_many(question: &Question, path: &str) -> Option<String> {
    Some(format!("how many {} can be seen in {path}", detection::asked_shape(question)?.plural()))
}

fn is_beside(question: &Question, path: &str) -> Option<String> {
    let ([subject, object], relation) = (detection::pair(&question.scene)?, question.scene.relation()?);
    Some(format!("is the {} to the {} the {} in {path}", subject.name(), relation.words(), object.name()))
}

fn is_absent(question: &Question, path: &str) -> Option<String> {
    Some(format!("is there no {} in {path}", detection::asked_shape(question)?.name()))
}

/// Asks CLIP and the router about the same scenes; `out` is the folder that the server runs in.
pub(super) fn show(encoder: &Encoder, seed: u64, server: &mut Server, out: &Path, say: &dyn Fn(&str)) -> Result<()> {
    for folder in [ASKED, FOUND] {
        let folder = out.join(folder);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    }
    for failing in &FAILING {
        let questions = scenes::questions(failing.kind, seed, scenes::SCENES);
        let embed_images = |pictures: &[image::RgbImage]| encode_pictures(encoder, pictures);
        let embed_texts = |texts: &[String]| encoder.encode_texts(texts);
        let mistake = scenes::surest_mistake(&questions, &embed_images, &embed_texts)?;
        // A model without mistakes is asked all the same.
        let Some(question) = questions.get(mistake.unwrap_or_default()) else { continue };
        let path = draw(question, failing.name, out)?;
        let Some(asked) = (failing.ask)(question, &path) else { continue };
        let chosen = server.tell("classify_image", &json!({"images": [path], "labels": question.choices}))?;
        say(&chosen.transcript_until(','));
        let routed = server.tell("route_query", &json!({"query": asked}))?;
        say(&routed.transcript_until('\n'));
        if let Some((tool, mut arguments)) = next_call(&routed.found) {
            if tool == "detect_count" {
                arguments["annotate"] = json!(true);
            }
            let told = server.tell(&tool, &arguments)?;
            say(&told.transcript());
            keep(&told, failing.name, out)?;
        }
    }
    // The fullest scene there is.
    let fullest = scenes::question(Kind::Objects, seed, crate::pixels::scene::MAX_OBJECTS - 1);
    let path = draw(&fullest, "objects", out)?;
    let told = server.tell("detect_count", &json!({"images": [path], "annotate": true}))?;
    say(&told.transcript());
    keep(&told, "objects", out)
}

/// Renders a question's scene; returns its path as the server knows it.
fn draw(question: &Question, name: &str, out: &Path) -> Result<String> {
    let relative = format!("{ASKED}/{name}.png");
    let path = out.join(&relative);
    let failed = |source| Error::Io { action: "write", path: path.clone(), source };
    question.scene.render(scenes::SIDE).save(&path).map_err(std::io::Error::other).map_err(failed)?;
    Ok(relative)
}

/// The first call of an advice that this version can make.
fn next_call(advice: &Value) -> Option<(String, Value)> {
    let listed = |name: &str| advice.get(name).and_then(Value::as_array).into_iter().flatten();
    advice.get("next").into_iter().chain(listed("alternatives")).chain(listed("steps")).find_map(|call| {
        let available = call.get("available").and_then(Value::as_bool).unwrap_or(true);
        let tool = call.get("tool").and_then(Value::as_str).filter(|_| available)?;
        Some((tool.to_owned(), call.get("arguments").cloned().unwrap_or_default()))
    })
}

fn keep(told: &Told, name: &str, out: &Path) -> Result<()> {
    let Some(picture) = &told.picture else { return Ok(()) };
    let path = out.join(FOUND).join(format!("{name}.jpg"));
    std::fs::write(&path, picture).map_err(Error::io("write", &path))
}

//! Scenes written to disk with their truth.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{Kind, Question, question};
use crate::error::{Error, Result};
use crate::pixels::scene::{Random, seed_of};

/// Training captions per scene.
const CAPTIONS: usize = 8;

/// Writes `count` scenes of a kind with their truth: `scenes.jsonl`, one object per line, and PNG files `000000.png`,
/// `000001.png`, ...; with `raw` one file `scenes.rgb` instead. Shape of the raw file: `[count, side, side, 3]`, bytes,
/// no header.
///
/// Each line: `{"index","seed","side","image"?,"objects":[{"colour","shape","box":[x0,y0,x1,y1]}],"background",
/// "captions","choices","answer"}`; boxes in pixels, origin top-left.
///
/// # Errors
/// A file cannot be written.
pub fn export(seed: u64, count: usize, side: u32, kind: Kind, out: &Path, raw: bool) -> Result<()> {
    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let (truth_path, raw_path) = (out.join("scenes.jsonl"), out.join("scenes.rgb"));
    let create = |path: &Path| File::create(path).map(BufWriter::new).map_err(Error::io("create", path));
    let mut truth_file = create(&truth_path)?;
    let mut raw_file = if raw { Some(create(&raw_path)?) } else { None };
    for index in 0..count {
        let question = question(kind, seed, index);
        let picture = question.scene.render(side);
        let mut line = truth(&question, index, side);
        if let Some(file) = &mut raw_file {
            file.write_all(picture.as_raw()).map_err(Error::io("write", &raw_path))?;
        } else {
            let name = format!("{index:06}.png");
            let path = out.join(&name);
            let failed = |source| Error::Io { action: "write", path: path.clone(), source };
            picture.save(&path).map_err(std::io::Error::other).map_err(failed)?;
            line["image"] = json!(name);
        }
        writeln!(truth_file, "{line}").map_err(Error::io("write", &truth_path))?;
    }
    truth_file.flush().map_err(Error::io("write", &truth_path))?;
    raw_file.map_or(Ok(()), |mut file| file.flush()).map_err(Error::io("write", &raw_path))
}

fn truth(question: &Question, index: usize, side: u32) -> Value {
    let scene = &question.scene;
    let mut random = Random::new(seed_of(scene.seed, 1));
    let captions: Vec<String> = (0..CAPTIONS).map(|_| scene.natural_caption(&mut random)).collect();
    let objects: Vec<Value> = scene
        .objects
        .iter()
        .map(|object| json!({ "colour": object.thing.colour, "shape": object.thing.shape, "box": object.bounds(side) }))
        .collect();
    json!({
        "index": index,
        "seed": scene.seed,
        "side": side,
        "objects": objects,
        "background": scene.background.pattern.name(),
        "captions": captions,
        "choices": question.choices,
        "answer": question.answer,
    })
}

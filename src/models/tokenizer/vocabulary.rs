//! CLIP's `tokenizer.json` from less: the two files of older repositories, or `OpenAI`'s merges, which are built in.
//!
//! Source: openai/CLIP, `clip/simple_tokenizer.py`; transformers 5.23, `tokenization_clip.py`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::MAX_FILE_BYTES;
use crate::error::{Error, Result};
use crate::models::Blob;

const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// `OpenAI`'s merges: the ids that each one joins.
const MERGES: &[u8] = include_bytes!("../../../assets/clip/merges.bin");
const OPENAI: &str = "OpenAI's tokenizer";
/// Its number of tokens.
pub(in crate::models) const OPENAI_TOKENS: usize = 49408;

/// `OpenAI`'s tokenizer, for checkpoints that come without one.
pub fn openai_tokenizer() -> Blob {
    Blob::Static { name: OPENAI, bytes: MERGES }
}

/// Whether this is [`openai_tokenizer`].
pub(in crate::models) fn is_openai(blob: &Blob) -> bool {
    matches!(blob, Blob::Static { name: OPENAI, .. })
}

/// `tokenizer.json` as text, when `blob` is something that it is made from.
///
/// # Errors
/// The files that it is made from are broken.
pub(super) fn made(blob: &Blob, model: &str) -> Result<Option<String>> {
    if is_openai(blob) {
        return Ok(Some(from_merges(MERGES)));
    }
    folder(blob).map(|folder| from_folder(folder, model)).transpose()
}

/// The folder of `vocab.json` and `merges.txt`, when there is no `tokenizer.json`.
fn folder(blob: &Blob) -> Option<&Path> {
    let Blob::File(path) = blob else { return None };
    let folder = path.parent()?;
    let wanted = path.file_name().is_some_and(|name| name == "vocab.json") || !path.exists();
    (wanted && folder.join("vocab.json").is_file() && folder.join("merges.txt").is_file()).then_some(folder)
}

fn from_folder(folder: &Path, model: &str) -> Result<String> {
    let read = |name: &str| Blob::File(folder.join(name)).read_text(MAX_FILE_BYTES, model);
    let refused = |reason: String| Error::ModelFile { model: model.to_owned(), file: "vocab.json".to_owned(), reason };
    let vocabulary: Value =
        serde_json::from_str(&read("vocab.json")?).map_err(|error| refused(format!("is not JSON: {error}")))?;
    let id = |token: &str| {
        vocabulary.get(token).and_then(Value::as_u64).ok_or_else(|| refused(format!("has no id for {token}")))
    };
    let (begin, end) = (id(BEGIN)?, id(END)?);
    let merges = read("merges.txt")?;
    let merges: Vec<&str> =
        merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty()).collect();
    Ok(tokenizer(&vocabulary, &json!(merges), begin, end))
}

/// Bytes, bytes at a word's end, what each merge makes, the two special tokens: ids go up in this order.
fn from_merges(merges: &[u8]) -> String {
    let mut tokens: Vec<String> = alphabet().map(String::from).collect();
    let ends: Vec<String> = tokens.iter().map(|letter| format!("{letter}</w>")).collect();
    tokens.extend(ends);
    let mut pairs = Vec::with_capacity(merges.len() / 4);
    for &[a, b, c, d] in merges.as_chunks().0 {
        let token = |id: u16| tokens.get(usize::from(id)).map_or("", String::as_str);
        let (first, second) = (token(u16::from_le_bytes([a, b])), token(u16::from_le_bytes([c, d])));
        pairs.push(Value::from(format!("{first} {second}")));
        let joined = format!("{first}{second}");
        tokens.push(joined);
    }
    let begin = tokens.len() as u64;
    tokens.extend([BEGIN.to_owned(), END.to_owned()]);
    let vocabulary: Map<String, Value> =
        tokens.into_iter().zip(0_u32..).map(|(token, id)| (token, id.into())).collect();
    tokenizer(&vocabulary.into(), &pairs.into(), begin, begin + 1)
}

/// The letters that bytes are written as, in the order of their ids: those that can be printed stand for themselves.
fn alphabet() -> impl Iterator<Item = char> {
    let printed = || (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff);
    let others = 256 - printed().count() as u32;
    printed().map(char::from).chain((0..others).filter_map(|n| char::from_u32(256 + n)))
}

/// The whole file.
fn tokenizer(vocabulary: &Value, merges: &Value, begin: u64, end: u64) -> String {
    let special = |id: u64, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(begin, BEGIN), special(end, END)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, end], "cls": [BEGIN, begin],
                           "trim_offsets": false, "add_prefix_space": false},
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": merges}
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as in `OpenAI`'s `clip.tokenize`.
    #[test]
    fn the_vocabulary_follows_from_the_merges() {
        let json: Value = serde_json::from_str(&from_merges(MERGES)).unwrap();
        let vocabulary = json["model"]["vocab"].as_object().unwrap();
        assert_eq!(vocabulary.len(), OPENAI_TOKENS);
        for (token, id) in
            [("!", 0), ("Ġ", 220), ("!</w>", 256), ("in", 512), ("a</w>", 320), ("cat</w>", 2368), (END, 49407)]
        {
            assert_eq!(vocabulary[token], id, "{token}");
        }
        assert_eq!(json["model"]["merges"][0], "i n");
    }
}

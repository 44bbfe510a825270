//! Text to token ids, as the reference's fast tokenizers do it.

mod vocabulary;

use std::borrow::Cow;

use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{PostProcessor, TruncationDirection};

pub use self::vocabulary::openai_tokenizer;
pub(super) use self::vocabulary::{OPENAI_TOKENS, is_openai};
use super::Blob;
use crate::error::{Error, Result};

/// A text as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Begin and end tokens included; cut to the context length with the end token kept, as the reference's
    /// `truncation=True` does.
    pub ids: Vec<u32>,
    /// Number of ids before cutting.
    pub full_len: usize,
}

/// What a tokenizer has to do for an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Everything is in `tokenizer.json`.
    Clip,
    /// Trained on lower-cased texts, which the hub's `tokenizer.json` of `SigLIP` 2 does not say (transformers 5.23:
    /// `tokenization_siglip2.py` puts it in front), and padded.
    Siglip {
        /// Of the config, where the tokenizer does not say.
        pad: Option<u32>,
    },
}

/// A tokenizer with its model's context length.
#[derive(Debug)]
pub(super) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    context_length: usize,
    /// Tokens that are put around every text.
    added: usize,
    pad: u32,
    dialect: Dialect,
}

/// Gemma's tokenizer has 34 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

impl Tokenizer {
    /// Reads `tokenizer.json`, or [`openai_tokenizer`]; where it is absent, `vocab.json` and `merges.txt` of the same folder.
    /// `model` is for messages.
    ///
    /// # Errors
    /// [`Error::ModelFile`]: a file is absent or broken, or leaves no room for a text in the context.
    pub fn load(blob: &Blob, context_length: usize, dialect: Dialect, model: &str) -> Result<Self> {
        let refused = |reason: String| Error::ModelFile { model: model.to_owned(), file: blob.name(), reason };
        let text = match vocabulary::made(blob, model)? {
            Some(text) => text,
            None => blob.read_text(MAX_FILE_BYTES, model)?,
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(text.as_bytes())
            .map_err(|error| refused(format!("is not a tokenizer: {error}")))?;
        let pad = match dialect {
            Dialect::Clip => 0,
            Dialect::Siglip { pad } => {
                lowercase_first(&mut inner).map_err(|error| refused(error.to_string()))?;
                pad_id(&inner, pad).ok_or_else(|| refused("does not say what texts are padded with".to_owned()))?
            }
        };
        // Cutting and padding are done here: the count before cutting is wanted, and batches choose their length.
        inner.with_truncation(None).map_err(|error| refused(error.to_string()))?;
        inner.with_padding(None);
        let added = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if added >= context_length {
            return Err(refused(format!("adds {added} tokens to every text, the model takes {context_length} in all")));
        }
        Ok(Self { inner, context_length, added, pad, dialect })
    }

    /// Most tokens that the model takes, begin and end included.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// What short texts are filled up with; only `SigLIP` looks at it.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let text = if self.dialect == Dialect::Clip { spell_out_ligatures(text) } else { Cow::Borrowed(text) };
        let run = || {
            let mut encoding = self.inner.encode_fast(text, false)?;
            let full_len = encoding.len() + self.added;
            encoding.truncate(self.context_length - self.added, 0, TruncationDirection::Right);
            let encoding = self.inner.post_process(encoding, None, true)?;
            Ok(Tokens { ids: encoding.get_ids().to_vec(), full_len })
        };
        run().map_err(|error: tokenizers::Error| Error::Tokenizer { reason: error.to_string() })
    }
}

/// Ligatures that stand for plain letters.
///
/// PARITY: `OpenAI`'s tokenizer cleans texts with ftfy, of which transformers' fast tokenizer does nothing; so do we, but
/// for this step, without which one of `OpenAI`'s golden sequences differs. Measured: with it, 408 of 408 are equal.
///
/// Source: ftfy 6, `fix_latin_ligatures`.
const LIGATURES: [(char, &str); 22] = [
    ('Ĳ', "IJ"),
    ('ĳ', "ij"),
    ('ŉ', "ʼn"),
    ('Ǳ', "DZ"),
    ('ǲ', "Dz"),
    ('ǳ', "dz"),
    ('Ǆ', "DŽ"),
    ('ǅ', "Dž"),
    ('ǆ', "dž"),
    ('Ǉ', "LJ"),
    ('ǈ', "Lj"),
    ('ǉ', "lj"),
    ('Ǌ', "NJ"),
    ('ǋ', "Nj"),
    ('ǌ', "nj"),
    ('ﬀ', "ff"),
    ('ﬁ', "fi"),
    ('ﬂ', "fl"),
    ('ﬃ', "ffi"),
    ('ﬄ', "ffl"),
    ('ﬅ', "ſt"),
    ('ﬆ', "st"),
];

fn spell_out_ligatures(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let letters = |c: char| LIGATURES.iter().find(|(ligature, _)| *ligature == c);
    let mut spelled = String::with_capacity(text.len());
    for c in text.chars() {
        match letters(c) {
            Some((_, letters)) => spelled.push_str(letters),
            None => spelled.push(c),
        }
    }
    Cow::Owned(spelled)
}

fn lowercase_first(tokenizer: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
    let present = tokenizer.get_normalizer().cloned();
    if present.as_ref().is_some_and(lowercases) {
        return Ok(());
    }
    let steps = std::iter::once(NormalizerWrapper::Lowercase(Lowercase)).chain(present).collect();
    tokenizer.with_normalizer(Some(Sequence::new(steps))).map(|_| ())
}

fn lowercases(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Lowercase(_) => true,
        NormalizerWrapper::Sequence(steps) => steps.as_ref().iter().any(lowercases),
        _ => false,
    }
}

/// `SigLIP` pads with `</s>`, `SigLIP` 2 with `<pad>`; `SigLIP`'s vocabulary also has a `<pad>`, but not as a special
/// token. `pad_token_id` of the config comes last: `SigLIP` 2's configs leave it at a default that is not theirs.
fn pad_id(tokenizer: &tokenizers::Tokenizer, configured: Option<u32>) -> Option<u32> {
    if let Some(padding) = tokenizer.get_padding() {
        return Some(padding.pad_id);
    }
    let special = tokenizer.get_added_tokens_decoder();
    let find = |content: &str| special.iter().find(|(_, token)| token.special && token.content == content);
    find("<pad>")
        .or_else(|| find("</s>"))
        .map(|(&id, _)| id)
        .or(configured.filter(|&id| tokenizer.id_to_token(id).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = r#"{"version": "1.0", "added_tokens": [ADDED], "normalizer": NORMALIZER,
        "pre_tokenizer": {"type": "Whitespace"}, "decoder": null, "truncation": null, "padding": PADDING,
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0],
                           "trim_offsets": false, "add_prefix_space": false},
        "model": {"type": "WordLevel", "unk_token": "<unk>",
                  "vocab": {"<s>": 0, "</s>": 1, "<unk>": 2, "<pad>": 3, "a": 4, "cat": 5}}}"#;

    fn words(added: &[(u32, &str)], normalizer: &str, padding: &str) -> Blob {
        let added: Vec<String> = added
            .iter()
            .map(|(id, content)| {
                format!(
                    r#"{{"id": {id}, "content": "{content}", "single_word": false, "lstrip": false, "rstrip": false,
                        "normalized": false, "special": true}}"#
                )
            })
            .collect();
        let json = WORDS.replace("ADDED", &added.join(",")).replace("NORMALIZER", normalizer);
        let json = json.replace("PADDING", padding);
        Blob::Static { name: "tokenizer.json", bytes: Box::leak(json.into_bytes().into_boxed_slice()) }
    }

    #[test]
    fn long_texts_keep_their_end_token_and_are_counted_in_full() {
        let tokenizer = Tokenizer::load(&words(&[], "null", "null"), 4, Dialect::Clip, "m").unwrap();
        assert_eq!(tokenizer.encode("a cat a cat a").unwrap(), Tokens { ids: vec![0, 4, 5, 1], full_len: 7 });
        assert_eq!(tokenizer.encode("a cat").unwrap(), Tokens { ids: vec![0, 4, 5, 1], full_len: 4 });
        assert_eq!(tokenizer.encode("").unwrap(), Tokens { ids: vec![0, 1], full_len: 2 });
        assert_eq!(tokenizer.encode(" \n\t ").unwrap(), Tokens { ids: vec![0, 1], full_len: 2 });
    }

    #[test]
    fn siglip_lowercases_and_clip_leaves_it_to_the_file() {
        let ids = |normalizer, dialect| {
            let tokenizer = Tokenizer::load(&words(&[(1, "</s>")], normalizer, "null"), 8, dialect, "m").unwrap();
            tokenizer.encode("A Cat").unwrap().ids
        };
        let siglip = Dialect::Siglip { pad: None };
        assert_eq!(ids("null", Dialect::Clip), [0, 2, 2, 1]);
        assert_eq!(ids("null", siglip), [0, 4, 5, 1]);
        assert_eq!(ids(r#"{"type": "NFC"}"#, siglip), [0, 4, 5, 1]);
        assert_eq!(ids(r#"{"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}"#, siglip), [0, 4, 5, 1]);
    }

    #[test]
    fn padding_comes_from_the_tokenizer_then_from_the_config() {
        let pad = |added: &[(u32, &str)], padding: &str, pad| {
            Tokenizer::load(&words(added, "null", padding), 8, Dialect::Siglip { pad }, "m").map(|t| t.pad())
        };
        let written = r#"{"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 5,
            "pad_type_id": 0, "pad_token": "cat"}"#;
        assert_eq!(pad(&[(3, "<pad>")], written, Some(1)).unwrap(), 5);
        assert_eq!(pad(&[(3, "<pad>"), (1, "</s>")], "null", Some(1)).unwrap(), 3);
        assert_eq!(pad(&[(1, "</s>")], "null", Some(3)).unwrap(), 1, "<pad> is not special here");
        assert_eq!(pad(&[], "null", Some(3)).unwrap(), 3);
        assert!(pad(&[], "null", Some(99)).unwrap_err().to_string().contains("padded with"));
    }

    #[test]
    fn broken_tokenizers_are_errors() {
        let broken = Blob::Static { name: "tokenizer.json", bytes: b"{\"model\": 3}" };
        let error = Tokenizer::load(&broken, 77, Dialect::Clip, "m").unwrap_err().to_string();
        assert!(error.starts_with("tokenizer.json of model m: is not a tokenizer"), "{error}");
        let error = Tokenizer::load(&words(&[], "null", "null"), 2, Dialect::Clip, "m").unwrap_err().to_string();
        assert!(error.contains("adds 2 tokens to every text, the model takes 2"), "{error}");
        let absent = Blob::File("no such folder/tokenizer.json".into());
        assert!(matches!(Tokenizer::load(&absent, 77, Dialect::Clip, "m"), Err(Error::NotFound { .. })));
    }
}

//! The tensors of a checkpoint by name: safetensors, shards of it, or what torch pickled, of any age.
//!
//! Names are those of transformers; a CLIP in `OpenAI`'s layout is seen under them.

mod archive;
mod entry;
mod legacy;
mod openai;
mod pickle;
mod pickled;

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors};

use self::archive::Archive;
pub(super) use self::entry::Entry;
use self::entry::{Number, row_major};
use self::pickle::Pickle;
use super::{Blob, Bytes, ModelFiles};
use crate::error::{Error, Result};

/// An opened checkpoint. Nothing of the weights has been read yet.
pub(super) struct Checkpoint {
    files: Vec<Bytes>,
    tensors: HashMap<String, Entry>,
    /// Tensors in the files.
    count: usize,
    /// Of `OpenAI`'s layout: what stands before all names in the file.
    openai: Option<String>,
}

impl Checkpoint {
    /// Opens the files and reads their tables of contents.
    ///
    /// # Errors
    /// A file cannot be opened, or is neither safetensors nor a pickled state dict or module.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        Self::open_weights(&files.id, &files.weights)
    }

    /// As [`Checkpoint::open`]; `model` is for messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_weights(model: &str, weights: &[Blob]) -> Result<Self> {
        let mut checkpoint = Self { files: Vec::new(), tensors: HashMap::new(), count: 0, openai: None };
        for blob in weights {
            let refused = |reason| Error::ModelFile { model: model.to_owned(), file: blob.name(), reason };
            checkpoint.add(blob.map()?).map_err(refused)?;
        }
        checkpoint.count = checkpoint.tensors.len();
        checkpoint.openai = openai::prefix(checkpoint.tensors.keys().map(String::as_str));
        if let Some(prefix) = &checkpoint.openai {
            checkpoint.tensors = openai::renamed(checkpoint.tensors, prefix);
        }
        Ok(checkpoint)
    }

    fn add(&mut self, bytes: Bytes) -> Result<(), String> {
        let not_pickled = |reason| format!("is not a pickled state dict or module: {reason}");
        let found = if bytes.starts_with(archive::BEGIN) {
            self.in_archive(&bytes).map_err(not_pickled)
        } else if legacy::recognises(&bytes) {
            self.in_legacy(&bytes).map_err(not_pickled)
        } else {
            self.in_safetensors(&bytes)
        }?;
        self.tensors.extend(found);
        self.files.push(bytes);
        Ok(())
    }

    fn in_safetensors(&self, bytes: &[u8]) -> Result<Vec<(String, Entry)>, String> {
        let because = |error: safetensors::SafeTensorError| format!("is not safetensors: {error}");
        // The first checks that every tensor lies inside the file, the second says where.
        SafeTensors::deserialize(bytes).map_err(because)?;
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(because)?;
        let data = header + size_of::<u64>();
        let entries = metadata.tensors().into_iter().map(|(name, info)| {
            let number = match info.dtype {
                Dtype::F16 => Number::F16,
                Dtype::BF16 => Number::Bf16,
                Dtype::F32 => Number::F32,
                Dtype::F64 => Number::F64,
                other => Number::Other(format!("{other:?}")),
            };
            let (start, shape) = (data + info.data_offsets.0, info.shape.clone());
            (name, Entry { file: self.files.len(), start, number, strides: row_major(&shape), shape })
        });
        Ok(entries.collect())
    }

    fn in_archive(&self, bytes: &[u8]) -> Result<Vec<(String, Entry)>, String> {
        let archive = Archive::open(bytes)?;
        let (pickle, _) = Pickle::read(bytes.get(archive.pickle()?).unwrap_or_default())?;
        let entries = pickled::tensors(&pickle)?.into_iter().map(|tensor| {
            let entry = tensor.entry(self.files.len(), bytes.len(), &archive.storage(tensor.storage.key)?)?;
            Ok((tensor.name, entry))
        });
        entries.collect()
    }

    fn in_legacy(&self, bytes: &[u8]) -> Result<Vec<(String, Entry)>, String> {
        let (pickle, places) = legacy::read(bytes)?;
        let entries = pickled::tensors(&pickle)?.into_iter().map(|tensor| {
            let place =
                places.get(tensor.storage.key).ok_or_else(|| format!("it has no numbers of {}", tensor.name))?;
            let entry = tensor.entry(self.files.len(), bytes.len(), place)?;
            Ok((tensor.name, entry))
        });
        entries.collect()
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.tensors.get(name)
    }

    /// How many tensors the files hold.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the file has the names of `OpenAI`'s CLIP.
    pub fn is_openai(&self) -> bool {
        self.openai.is_some()
    }

    /// What the file calls a tensor, for messages.
    pub fn name_in_file<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match &self.openai {
            Some(prefix) => Cow::Owned(openai::in_file(name, prefix)),
            None => Cow::Borrowed(name),
        }
    }

    /// Appends a tensor's values in row-major order: the one copy between the file and the model.
    pub fn append(&self, entry: &Entry, values: &mut Vec<f32>) {
        entry.append(self.bytes(entry), values);
    }

    /// Appends one row of a tensor `[rows, size]` whose rows lie in their order; nothing when there is none.
    pub fn append_row(&self, entry: &Entry, row: usize, values: &mut Vec<f32>) {
        entry.append_row(self.bytes(entry), row, values);
    }

    fn bytes(&self, entry: &Entry) -> &[u8] {
        self.files.get(entry.file).map_or(&[], |bytes| bytes)
    }
}

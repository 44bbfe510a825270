//! The tensors of a checkpoint by name: safetensors, shards of it, or a pickled state dict of any age.

mod legacy;

use std::collections::HashMap;
use std::ops::Range;

use candle_core::DType;
use candle_core::pickle::PthTensors;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::{Blob, Bytes, ModelFiles};
use crate::error::{Error, Result};

/// Where training code keeps the weights beside the optimiser's state.
const KEYS: [&str; 2] = ["model", "state_dict"];

/// An opened checkpoint. Nothing of the weights has been read yet.
pub(super) struct Checkpoint {
    files: Vec<Opened>,
    tensors: HashMap<String, Entry>,
}

enum Opened {
    Mapped(Bytes),
    Pickled(PthTensors),
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    file: usize,
    /// In a mapped file.
    range: Range<usize>,
    number: Number,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// The formats of weights; everything else is [`Number::Other`], with the name that messages show.
#[derive(Debug, Clone, PartialEq)]
enum Number {
    F16,
    Bf16,
    F32,
    F64,
    Other(String),
}

impl Number {
    fn of(dtype: DType) -> Self {
        match dtype {
            DType::F16 => Self::F16,
            DType::BF16 => Self::Bf16,
            DType::F32 => Self::F32,
            DType::F64 => Self::F64,
            other => Self::Other(format!("{other:?}")),
        }
    }
}

impl Entry {
    /// The name of a number format that no weight can have.
    pub fn not_a_float(&self) -> Option<&str> {
        match &self.number {
            Number::Other(name) => Some(name),
            _ => None,
        }
    }
}

impl Checkpoint {
    /// Opens the files and reads their tables of contents.
    ///
    /// # Errors
    /// A file cannot be opened, or is neither safetensors nor a pickled state dict.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        Self::open_weights(&files.id, &files.weights)
    }

    /// As [`Checkpoint::open`]; `model` is for messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_weights(model: &str, weights: &[Blob]) -> Result<Self> {
        let mut checkpoint = Self { files: Vec::new(), tensors: HashMap::new() };
        for blob in weights {
            checkpoint.add(blob).map_err(|error| match error {
                Refused::Known(error) => error,
                Refused::Because(reason) => Error::ModelFile { model: model.to_owned(), file: blob.name(), reason },
            })?;
        }
        Ok(checkpoint)
    }

    fn add(&mut self, blob: &Blob) -> Result<(), Refused> {
        /// How a zip file begins, which is what `torch.save` writes.
        const ZIP: &[u8] = b"PK\x03\x04";
        let bytes = blob.map()?;
        if bytes.starts_with(ZIP) {
            self.add_pickled(blob, &bytes)
        } else if legacy::recognises(&bytes) {
            self.add_legacy(bytes)
        } else {
            self.add_mapped(bytes)
        }
    }

    fn add_mapped(&mut self, bytes: Bytes) -> Result<(), Refused> {
        let because = |error: safetensors::SafeTensorError| Refused::Because(format!("is not safetensors: {error}"));
        // The first checks that every tensor lies inside the file, the second says where.
        SafeTensors::deserialize(&bytes).map_err(because)?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(because)?;
        let data = header + size_of::<u64>();
        let file = self.files.len();
        for (name, info) in metadata.tensors() {
            let number = match info.dtype {
                Dtype::F16 => Number::F16,
                Dtype::BF16 => Number::Bf16,
                Dtype::F32 => Number::F32,
                Dtype::F64 => Number::F64,
                other => Number::Other(format!("{other:?}")),
            };
            let range = data + info.data_offsets.0..data + info.data_offsets.1;
            self.tensors.insert(name, Entry { file, range, number, shape: info.shape.clone() });
        }
        self.files.push(Opened::Mapped(bytes));
        Ok(())
    }

    fn add_legacy(&mut self, bytes: Bytes) -> Result<(), Refused> {
        let found = legacy::tensors(&bytes, &KEYS);
        let found = found.map_err(|reason| Refused::Because(format!("is not a pickled state dict: {reason}")))?;
        let file = self.files.len();
        for legacy::Tensor { name, dtype, shape, range } in found {
            self.tensors.insert(name, Entry { file, range, number: Number::of(dtype), shape });
        }
        self.files.push(Opened::Mapped(bytes));
        Ok(())
    }

    fn add_pickled(&mut self, blob: &Blob, bytes: &Bytes) -> Result<(), Refused> {
        let Blob::File(path) = blob else {
            return Err(Refused::Because("a pickled checkpoint is read from a file only".to_owned()));
        };
        let because = |error: candle_core::Error| {
            let first_line = error.to_string().lines().next().unwrap_or_default().to_owned();
            Refused::Because(format!("is not a pickled state dict: {first_line}"))
        };
        // candle's reader takes a few things for granted that a damaged file does not have: its panic is the file's fault.
        let open = |key: Option<&str>| {
            std::panic::catch_unwind(|| PthTensors::new(path, key))
                .unwrap_or_else(|_| Err(candle_core::Error::msg("it is damaged")))
        };
        let mut pickle = open(None).map_err(because)?;
        if pickle.tensor_infos().is_empty() {
            let keyed = KEYS.into_iter().find_map(|key| open(Some(key)).ok());
            pickle = keyed.unwrap_or(pickle);
        }
        let file = self.files.len();
        for (name, info) in pickle.tensor_infos() {
            let number = Number::of(info.dtype);
            let shape = info.layout.dims().to_vec();
            // Nothing is allocated for a tensor that claims more than the file can hold: torch does not compress.
            let size = shape.iter().try_fold(info.dtype.size_in_bytes(), |size, &n| size.checked_mul(n));
            if size.is_none_or(|size| size > bytes.len()) {
                return Err(Refused::Because(format!("claims {name} of shape {shape:?}, more than the file holds")));
            }
            self.tensors.insert(name.clone(), Entry { file, range: 0..0, number, shape });
        }
        self.files.push(Opened::Pickled(pickle));
        Ok(())
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.tensors.get(name)
    }

    /// Appends a tensor's values in row-major order: the one copy between the file and the model.
    ///
    /// # Errors
    /// A pickled tensor cannot be read.
    pub fn append(&self, name: &str, entry: &Entry, values: &mut Vec<f32>) -> candle_core::Result<()> {
        match self.files.get(entry.file) {
            Some(Opened::Mapped(bytes)) => {
                let bytes = bytes.get(entry.range.clone()).unwrap_or_default();
                append(bytes, &entry.number, values);
                Ok(())
            }
            Some(Opened::Pickled(pickle)) => {
                let Some(tensor) = pickle.get(name)? else { candle_core::bail!("{name} is gone") };
                values.extend(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
                Ok(())
            }
            None => candle_core::bail!("{name} is in no file"),
        }
    }

    /// Whether rows can be read alone: the file is mapped.
    pub fn is_mapped(&self, entry: &Entry) -> bool {
        matches!(self.files.get(entry.file), Some(Opened::Mapped(_)))
    }

    /// Appends one row of a mapped tensor `[rows, size]`; nothing when there is none.
    pub fn append_row(&self, entry: &Entry, row: usize, values: &mut Vec<f32>) {
        let (Some(Opened::Mapped(bytes)), [rows, _]) = (self.files.get(entry.file), entry.shape.as_slice()) else {
            return;
        };
        let bytes = bytes.get(entry.range.clone()).unwrap_or_default();
        if let Some(bytes) = bytes.chunks_exact((bytes.len() / rows.max(&1)).max(1)).nth(row) {
            append(bytes, &entry.number, values);
        }
    }
}

/// Why a file is no checkpoint.
enum Refused {
    Known(Error),
    Because(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Known(error)
    }
}

/// Little-endian numbers, at any alignment.
fn append(bytes: &[u8], number: &Number, values: &mut Vec<f32>) {
    /// Bytes that are widened at once: they stay in the processor's cache.
    const BLOCK: usize = 1 << 15;
    match number {
        Number::F32 => values.extend(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four))),
        Number::F64 => values.extend(bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32)),
        Number::F16 => {
            for block in bytes.chunks(BLOCK) {
                let halves: Vec<f16> = block.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two)).collect();
                let start = values.len();
                values.resize(start + halves.len(), 0.0);
                halves.convert_to_f32_slice(&mut values[start..]);
            }
        }
        Number::Bf16 => values.extend(bytes.as_chunks().0.iter().map(|&two| bf16::from_le_bytes(two).to_f32())),
        Number::Other(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_format_is_widened_exactly() {
        let numbers = [0.0f32, -1.5, 0.25, 3.0, -65504.0];
        let widened = |number: Number, bytes: Vec<u8>| {
            // One byte in front, so that nothing is aligned.
            let shifted = [&[7u8], bytes.as_slice()].concat();
            let mut values = vec![9.0];
            append(&shifted[1..], &number, &mut values);
            values
        };
        let expected = [&[9.0][..], &numbers].concat();
        let bytes = |f: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|&x| f(x)).collect::<Vec<u8>>();
        assert_eq!(widened(Number::F32, bytes(&|x| x.to_le_bytes().to_vec())), expected);
        assert_eq!(widened(Number::F64, bytes(&|x| f64::from(x).to_le_bytes().to_vec())), expected);
        assert_eq!(widened(Number::F16, bytes(&|x| f16::from_f32(x).to_le_bytes().to_vec())), expected);
        let rounded: Vec<f32> = expected.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
        assert_eq!(widened(Number::Bf16, bytes(&|x| bf16::from_f32(x).to_le_bytes().to_vec())), rounded);
    }
}

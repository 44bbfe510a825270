//! Layers from a checkpoint, with every name and shape checked before the first one is built.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::checkpoint::Checkpoint;
use crate::compute::{Backend, ConvShape, Embedding, LayerNorm, Linear, PerChannel, PixelConv, prefer_large_pages};
use crate::error::{Error, Result};

/// Builds a model from a checkpoint. `build` runs twice: the first run only notes which tensors it asks for, so that all
/// that are missing or wrong are reported together, before anything is copied.
///
/// # Errors
/// [`Error::Tensors`] with every missing or wrong tensor; what `build` returns.
pub(super) fn load<T>(
    checkpoint: &Arc<Checkpoint>,
    backend: &Backend,
    model: &str,
    build: impl Fn(&Reader<'_>) -> Result<T>,
) -> Result<T> {
    let notes = Mutex::new(Notes::default());
    build(&Reader { checkpoint, backend: &Backend::cpu(), model, notes: Some(&notes), prefix: String::new() })?;
    let mut notes = notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !notes.missing.is_empty() || !notes.wrong.is_empty() {
        // Layers are looked at in parallel.
        notes.missing.sort_unstable();
        notes.wrong.sort_unstable();
        // What is several tensors here may be one in the file.
        notes.missing.dedup();
        notes.wrong.dedup();
        return Err(Error::Tensors { model: model.to_owned(), missing: notes.missing, wrong: notes.wrong });
    }
    build(&Reader { checkpoint, backend, model, notes: None, prefix: String::new() })
}

#[derive(Default)]
struct Notes {
    missing: Vec<String>,
    wrong: Vec<String>,
}

/// A place in a checkpoint; while it takes notes, the layers that it gives are empty.
pub(super) struct Reader<'a> {
    checkpoint: &'a Arc<Checkpoint>,
    backend: &'a Backend,
    model: &'a str,
    notes: Option<&'a Mutex<Notes>>,
    prefix: String,
}

impl<'a> Reader<'a> {
    /// The place below this one, as in `text_model.encoder`.
    pub fn at(&self, name: impl std::fmt::Display) -> Reader<'a> {
        Reader { prefix: self.full_name(&name), ..*self }
    }

    /// Name as in the file.
    fn full_name(&self, name: &impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// `name.weight` and `name.bias`.
    pub fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let layer = self.at(name);
        let weight = layer.values("weight", &[outputs, inputs])?;
        let bias = layer.values("bias", &[outputs])?;
        self.linear_from(outputs, inputs, weight, Some(bias))
    }

    /// `name.weight` alone.
    pub fn linear_no_bias(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let weight = self.at(name).values("weight", &[outputs, inputs])?;
        self.linear_from(outputs, inputs, weight, None)
    }

    /// A layer from values that have been read; empty while notes are taken.
    pub fn linear_from(
        &self,
        outputs: usize,
        inputs: usize,
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
    ) -> Result<Linear> {
        if self.notes.is_some() {
            return Linear::new(0, 0, Vec::new(), None, self.backend);
        }
        Linear::new(outputs, inputs, weight, bias, self.backend)
    }

    /// The query, key and value projections of an attention as one layer; the queries scaled by
    /// `1 / sqrt(head size)`, which the attention would do to every score.
    pub fn qkv(&self, names: [&str; 3], has_bias: bool, hidden: usize, heads: usize) -> Result<Linear> {
        let mut weight = self.room_for(3 * hidden * hidden);
        let mut bias = self.room_for(3 * hidden);
        for (place, name) in names.into_iter().enumerate() {
            let layer = self.at(name);
            layer.append("weight", &[hidden, hidden], &mut weight)?;
            if has_bias {
                layer.append("bias", &[hidden], &mut bias)?;
            }
            if place == 0 {
                let scale = head_scale(hidden, heads);
                weight.iter_mut().chain(&mut bias).for_each(|value| *value *= scale);
            }
        }
        self.linear_from(3 * hidden, hidden, weight, has_bias.then_some(bias))
    }

    /// `name.weight` and `name.bias`, and where `scale` names them, the factors of its outputs multiplied in.
    pub fn linear_scaled(&self, name: &str, scale: Option<&str>, outputs: usize, inputs: usize) -> Result<Linear> {
        let Some(scale) = scale else { return self.linear(name, outputs, inputs) };
        let layer = self.at(name);
        let mut weight = layer.values("weight", &[outputs, inputs])?;
        let mut bias = layer.values("bias", &[outputs])?;
        let factors = self.values(scale, &[outputs])?;
        let rows = weight.chunks_mut(inputs.max(1)).zip(&mut bias).zip(&factors);
        rows.for_each(|((row, bias), factor)| row.iter_mut().chain([bias]).for_each(|value| *value *= factor));
        self.linear_from(outputs, inputs, weight, Some(bias))
    }

    /// `name.weight` and `name.bias` of a layer normalisation.
    pub fn layer_norm(&self, name: &str, size: usize, eps: f32) -> Result<LayerNorm> {
        let layer = self.at(name);
        LayerNorm::new(layer.values("weight", &[size])?, layer.values("bias", &[size])?, eps, self.backend)
    }

    /// `name.weight` and `name.bias` of a convolution.
    pub fn pixel_conv(&self, name: &str, shape: ConvShape) -> Result<PixelConv> {
        let layer = self.at(name);
        let weight = layer.values("weight", &shape.weight_dims())?;
        let bias = layer.values("bias", &[shape.outputs])?;
        self.pixel_conv_from(shape, weight, bias)
    }

    /// `conv.weight` with the batch norm that follows it folded in; a checkpoint without one has `conv.bias` instead.
    pub fn pixel_conv_batch_norm(&self, conv: &str, norm: &str, shape: ConvShape, eps: f32) -> Result<PixelConv> {
        let (weight, bias) = self.folded(conv, norm, shape, eps)?;
        self.pixel_conv_from(shape, weight, bias)
    }

    /// `name.weight` and `name.bias` of convolutions over the same map as one, their outputs side by side. `parts` are names and
    /// outputs, which add up to the shape's.
    pub fn pixel_convs(&self, parts: &[(&str, usize)], shape: ConvShape) -> Result<PixelConv> {
        let [_, rest @ ..] = shape.weight_dims();
        self.joined(parts, &rest, shape)
    }

    /// As [`Reader::pixel_convs`], of linear layers over all that a kernel sees, channel by channel.
    pub fn pixel_linears(&self, parts: &[(&str, usize)], shape: ConvShape) -> Result<PixelConv> {
        let [_, rest @ ..] = shape.weight_dims();
        self.joined(parts, &[rest.into_iter().product()], shape)
    }

    fn joined(&self, parts: &[(&str, usize)], row: &[usize], shape: ConvShape) -> Result<PixelConv> {
        let mut weight = self.room_for(shape.weight_dims().into_iter().product());
        let mut bias = self.room_for(shape.outputs);
        for (name, outputs) in parts {
            let layer = self.at(name);
            layer.append("weight", &[&[*outputs], row].concat(), &mut weight)?;
            layer.append("bias", &[*outputs], &mut bias)?;
        }
        self.pixel_conv_from(shape, weight, bias)
    }

    /// A convolution from values that have been read; empty while notes are taken.
    pub fn pixel_conv_from(&self, shape: ConvShape, weight: Vec<f32>, bias: Vec<f32>) -> Result<PixelConv> {
        if self.notes.is_some() {
            let empty = ConvShape { inputs: 0, outputs: 0, groups: 1, ..shape };
            return PixelConv::new(empty, Vec::new(), Vec::new(), self.backend);
        }
        PixelConv::new(shape, weight, bias, self.backend)
    }

    /// Weight and bias of a convolution with its batch norm: `w' = w * gamma / sqrt(var + eps)`,
    /// `b' = beta - mean * gamma / sqrt(var + eps)`.
    pub fn folded(&self, conv: &str, norm: &str, shape: ConvShape, eps: f32) -> Result<(Vec<f32>, Vec<f32>)> {
        let (conv, norm) = (self.at(conv), self.at(norm));
        let channels = [shape.outputs];
        let mut weight = conv.values("weight", &shape.weight_dims())?;
        if self.checkpoint.get(&norm.full_name(&"weight")).is_none()
            && self.checkpoint.get(&conv.full_name(&"bias")).is_some()
        {
            return Ok((weight, conv.values("bias", &channels)?));
        }
        let (scale, bias) = norm.batch_norm_here(shape.outputs, eps)?;
        let rows = weight.chunks_mut(shape.weight_dims().iter().skip(1).product::<usize>().max(1));
        rows.zip(&scale).for_each(|(row, scale)| row.iter_mut().for_each(|value| *value *= scale));
        Ok((weight, bias))
    }

    /// A batch norm as a factor and a shift of each channel: `gamma / sqrt(var + eps)`, `beta - mean * gamma / sqrt(var + eps)`.
    pub fn batch_norm(&self, name: &str, channels: usize, eps: f32) -> Result<(Vec<f32>, Vec<f32>)> {
        self.at(name).batch_norm_here(channels, eps)
    }

    fn batch_norm_here(&self, channels: usize, eps: f32) -> Result<(Vec<f32>, Vec<f32>)> {
        let values = |name: &str| self.values(name, &[channels]);
        let (gamma, beta, mean, var) =
            (values("weight")?, values("bias")?, values("running_mean")?, values("running_var")?);
        let scale: Vec<f32> = gamma.iter().zip(&var).map(|(gamma, var)| gamma / (var + eps).sqrt()).collect();
        let shift = beta.iter().zip(mean.iter().zip(&scale)).map(|(beta, (mean, scale))| beta - mean * scale).collect();
        Ok((scale, shift))
    }

    /// `name.weight`, a slope for each channel.
    pub fn prelu(&self, name: &str, channels: usize) -> Result<PerChannel> {
        PerChannel::prelu(self.at(name).values("weight", &[channels])?, self.backend)
    }

    /// `name.weight` of a table.
    pub fn embedding(&self, name: &str, rows: usize, size: usize) -> Result<Embedding> {
        let weight = self.at(name).values("weight", &[rows, size])?;
        if self.notes.is_some() {
            return Embedding::new(0, 0, Vec::new(), self.backend);
        }
        Embedding::new(rows, size, weight, self.backend)
    }

    /// `name.weight` of a large table of which few rows are ever wanted: they are read from the file when they are. A GPU has
    /// the table, so that ids are all that is sent to it.
    pub fn large_embedding(&self, name: &str, rows: usize, size: usize) -> Result<Embedding> {
        let full_name = self.at(name).full_name(&"weight");
        let entry = self.checkpoint.get(&full_name).filter(|entry| entry.is_row_major()).cloned();
        match entry {
            Some(entry) if self.notes.is_none() && self.backend.packs() && entry.shape == [rows, size] => {
                let checkpoint = Arc::clone(self.checkpoint);
                let read = move |row: usize, values: &mut Vec<f32>| checkpoint.append_row(&entry, row, values);
                Ok(Embedding::from_source(rows, size, Box::new(read), self.backend))
            }
            _ => self.embedding(name, rows, size),
        }
    }

    /// One number, whether the file gives it the shape `[]` or `[1]`.
    pub fn scalar(&self, name: &str) -> Result<f32> {
        let shape: &[usize] = match self.checkpoint.get(&self.full_name(&name)) {
            Some(entry) if entry.shape == [1] => &[1],
            _ => &[],
        };
        Ok(self.values(name, shape)?.first().copied().unwrap_or(0.0))
    }

    /// A tensor's values; none while notes are taken.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let mut values = self.room_for(shape.iter().product());
        self.append(name, shape, &mut values)?;
        Ok(values)
    }

    fn room_for(&self, len: usize) -> Vec<f32> {
        let mut room = Vec::with_capacity(if self.notes.is_some() { 0 } else { len });
        prefer_large_pages(&mut room);
        room
    }

    fn append(&self, name: &str, shape: &[usize], values: &mut Vec<f32>) -> Result<()> {
        let full_name = self.full_name(&name);
        let entry = self.checkpoint.get(&full_name);
        let in_file = || self.checkpoint.name_in_file(&full_name);
        let wrong = entry.and_then(|entry| {
            if entry.shape != shape {
                return Some(format!("{}: found {:?}, expected {shape:?}", in_file(), entry.shape));
            }
            let format = entry.not_a_float()?;
            Some(format!("{}: found numbers of format {format}, expected floats", in_file()))
        });
        match (entry, wrong) {
            (Some(entry), None) => {
                if self.notes.is_none() {
                    self.checkpoint.append(entry, values);
                }
                Ok(())
            }
            (entry, wrong) => self.note(entry.is_none().then(|| in_file().into_owned()), wrong),
        }
    }

    fn note(&self, missing: Option<String>, wrong: Option<String>) -> Result<()> {
        let Some(notes) = self.notes else {
            let (missing, wrong) = (missing.into_iter().collect(), wrong.into_iter().collect());
            return Err(Error::Tensors { model: self.model.to_owned(), missing, wrong });
        };
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.missing.extend(missing);
        notes.wrong.extend(wrong);
        Ok(())
    }

    /// Where the layers go.
    pub fn backend(&self) -> &Backend {
        self.backend
    }
}

/// A part of a model that is built when it is first used: a search needs no image tower. Its tensors are checked with all
/// others, when the model is loaded.
pub(super) struct Lazy<T> {
    built: OnceLock<T>,
    /// One caller builds while others wait.
    building: Mutex<()>,
    build: Box<dyn Fn() -> Result<T> + Send + Sync>,
}

impl<T> std::fmt::Debug for Lazy<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lazy").field("built", &self.built.get().is_some()).finish_non_exhaustive()
    }
}

impl<T: 'static> Lazy<T> {
    /// The part as it is built from the reader's place.
    ///
    /// # Errors
    /// As `build`, where tensors are checked.
    pub fn new<C: Clone + Send + Sync + 'static>(
        reader: &Reader<'_>,
        config: &C,
        build: fn(&Reader<'_>, &C) -> Result<T>,
    ) -> Result<Self> {
        if reader.notes.is_some() {
            build(reader, config)?;
        }
        let (checkpoint, backend) = (Arc::clone(reader.checkpoint), reader.backend.clone());
        let (model, prefix, config) = (reader.model.to_owned(), reader.prefix.clone(), config.clone());
        let build = move || {
            let reader = Reader {
                checkpoint: &checkpoint,
                backend: &backend,
                model: &model,
                notes: None,
                prefix: prefix.clone(),
            };
            build(&reader, &config)
        };
        Ok(Self { built: OnceLock::new(), building: Mutex::new(()), build: Box::new(build) })
    }

    /// The part; built at the first call.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or the device has no room.
    pub fn get(&self) -> Result<&T> {
        if let Some(built) = self.built.get() {
            return Ok(built);
        }
        let _one = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have built it in the meantime.
        if let Some(built) = self.built.get() {
            return Ok(built);
        }
        let part = (self.build)()?;
        Ok(self.built.get_or_init(|| part))
    }
}

/// `1 / sqrt(head size)`.
pub(super) fn head_scale(hidden: usize, heads: usize) -> f32 {
    ((hidden / heads.max(1)) as f32).powf(-0.5)
}

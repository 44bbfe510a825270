//! The tensors that a pickle of torch describes, and where in a storage each of them lies.
//!
//! Source: torch 2.15, `_utils.py` (`_rebuild_tensor_v2`, `_rebuild_parameter`), `_tensor.py` (`_rebuild_from_type_v2`),
//! `serialization.py` (`persistent_id`), `csrc/jit/serialization/pickler.cpp` (`pushIValueImpl`).

use std::collections::HashMap;
use std::ops::Range;

use super::entry::{Entry, Number};
use super::pickle::{Id, Node, Pickle};

/// Where training code keeps the weights beside the optimiser's state.
const KEYS: [&str; 3] = ["model", "state_dict", "model_state_dict"];
/// Where Python's modules keep tensors and other modules.
const DICTS: [&str; 3] = ["_parameters", "_buffers", "_modules"];
/// Modules inside each other; CLIP has seven.
const MAX_DEPTH: usize = 64;
/// Members of all modules.
const MAX_MEMBERS: usize = 1 << 20;

/// Numbers in a row, kept outside the pickle.
#[derive(Debug, Clone)]
pub(super) struct Storage<'a> {
    /// Its name in the file.
    pub key: &'a str,
    pub number: Number,
    /// Bytes of one number.
    pub width: usize,
    /// What the file calls a part of another storage.
    is_view: bool,
}

/// A tensor as the pickle describes it.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    pub name: String,
    pub storage: Storage<'a>,
    /// Numbers before the first.
    offset: usize,
    shape: Vec<usize>,
    /// In numbers.
    strides: Vec<usize>,
}

impl Tensor<'_> {
    /// The tensor in file number `file` of `file_bytes` bytes, whose bytes `place` are the storage.
    ///
    /// # Errors
    /// It does not lie inside the storage.
    pub fn entry(&self, file: usize, file_bytes: usize, place: &Range<usize>) -> Result<Entry, String> {
        let Self { name, storage, offset, shape, strides } = self;
        let beyond = || format!("claims {name} of shape {shape:?}, more than the file holds");
        if storage.is_view {
            return Err(format!("{name} is part of another storage"));
        }
        let numbers = shape.iter().try_fold(1_usize, |numbers, side| numbers.checked_mul(*side));
        // Strides of 0 repeat a number as often as they like: nothing larger than the file is ever copied out of it.
        let bytes = numbers.and_then(|numbers| numbers.checked_mul(storage.width));
        bytes.filter(|bytes| *bytes <= file_bytes).ok_or_else(beyond)?;
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(*offset, |last, (side, stride)| last.checked_add(side.saturating_sub(1).checked_mul(*stride)?));
        let used = if numbers == Some(0) { Some(0) } else { last.and_then(|last| last.checked_add(1)) };
        let used = used.and_then(|used| used.checked_mul(storage.width));
        used.filter(|used| *used <= place.len()).ok_or_else(beyond)?;
        let start = if numbers == Some(0) { place.start } else { place.start + offset * storage.width };
        Ok(Entry { file, start, number: storage.number.clone(), shape: shape.clone(), strides: strides.clone() })
    }
}

/// The storages that a pickle names, by their keys.
pub(super) fn storages<'a>(pickle: &Pickle<'a>) -> HashMap<&'a str, Storage<'a>> {
    let persistent = pickle.nodes().filter_map(|node| if let Node::Persistent(id) = node { Some(*id) } else { None });
    persistent.filter_map(|id| storage(pickle, id)).map(|storage| (storage.key, storage)).collect()
}

/// The tensors of a state dict, wherever it lies, or of a `TorchScript` module, their names joined by dots.
///
/// # Errors
/// Why the object is neither.
pub(super) fn tensors<'a>(pickle: &Pickle<'a>) -> Result<Vec<Tensor<'a>>, String> {
    let mut found = Vec::new();
    if let Some(pairs) = pickle.dict(pickle.root()) {
        let named = |wanted: &str| pairs.iter().find(|(key, _)| pickle.text(*key) == Some(wanted));
        let inner = KEYS.into_iter().filter_map(named).find_map(|(_, value)| pickle.dict(*value));
        for (key, value) in inner.unwrap_or(pairs) {
            if let Some(name) = pickle.text(*key) {
                found.extend(tensor(pickle, *value, name)?);
            }
        }
        // Beside a state dict may lie whole modules.
        for (key, value) in if inner.is_some() { pairs } else { &[] } {
            if let Some(name) = pickle.text(*key).filter(|_| state(pickle, *value).is_some()) {
                modules(pickle, *value, name, &mut found)?;
            }
        }
    } else if state(pickle, pickle.root()).is_some() {
        modules(pickle, pickle.root(), "", &mut found)?;
    } else {
        return Err("it holds no dict and no module".to_owned());
    }
    Ok(found)
}

/// Walks a module and those in it; `TorchScript`'s hold their tensors and further modules as attributes, Python's in three dicts.
fn modules<'a>(pickle: &Pickle<'a>, root: Id, name: &str, found: &mut Vec<Tensor<'a>>) -> Result<(), String> {
    let mut waiting = vec![(root, name.to_owned(), 0)];
    let mut members = 0;
    while let Some((module, prefix, depth)) = waiting.pop() {
        let attributes = state(pickle, module).unwrap_or_default();
        let dicts = attributes.iter().filter(|(key, _)| pickle.text(*key).is_some_and(|key| DICTS.contains(&key)));
        let inner = dicts.filter_map(|(_, dict)| pickle.dict(*dict)).flatten();
        for (key, value) in attributes.iter().chain(inner) {
            members += 1;
            // One module that stands in many places would be walked for each of them.
            if members > MAX_MEMBERS || depth > MAX_DEPTH {
                return Err("its modules nest without end".to_owned());
            }
            let Some(name) = pickle.text(*key) else { continue };
            let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            if let Some(tensor) = tensor(pickle, *value, &name)? {
                found.push(tensor);
            } else if state(pickle, *value).is_some() {
                waiting.push((*value, name, depth + 1));
            }
        }
    }
    Ok(())
}

/// The attributes of an object.
fn state<'p>(pickle: &'p Pickle<'_>, id: Id) -> Option<&'p [(Id, Id)]> {
    if let Node::Made { state: Some(state), .. } = pickle.node(id) { pickle.dict(*state) } else { None }
}

/// The tensor that an object is; `None` for anything else.
fn tensor<'a>(pickle: &Pickle<'a>, id: Id, name: &str) -> Result<Option<Tensor<'a>>, String> {
    let mut id = id;
    // A parameter wraps a tensor, a subclass wraps how a tensor is made.
    let arguments = loop {
        let Node::Made { callable, arguments, .. } = pickle.node(id) else { return Ok(None) };
        let items = pickle.items(*arguments).unwrap_or_default();
        match (pickle.global(*callable), items) {
            (Some(("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")), [inner, ..])
                if inner.is_before(id) =>
            {
                id = *inner;
            }
            (Some(("torch._tensor", "_rebuild_from_type_v2")), [callable, _, inner, ..]) => {
                match pickle.global(*callable) {
                    Some(("torch._utils", "_rebuild_tensor_v2")) => break pickle.items(*inner).unwrap_or_default(),
                    _ => return Err(format!("{name} is a kind of tensor that is not known here")),
                }
            }
            (Some(("torch._utils", "_rebuild_tensor_v2")), items) => break items,
            _ => return Ok(None),
        }
    };
    let broken = || format!("{name} is not described as torch does it");
    let [described, offset, shape, strides, ..] = arguments else { return Err(broken()) };
    let Node::Persistent(described) = pickle.node(*described) else { return Err(broken()) };
    let storage = storage(pickle, *described).ok_or_else(broken)?;
    let offset = pickle.count(*offset).ok_or_else(broken)?;
    let (shape, strides) = pickle.counts(*shape).zip(pickle.counts(*strides)).ok_or_else(broken)?;
    if shape.len() != strides.len() {
        return Err(broken());
    }
    Ok(Some(Tensor { name: name.to_owned(), storage, offset, shape, strides }))
}

/// `("storage", class, key, device, count)`, in old files followed by what part of another one it is.
fn storage<'a>(pickle: &Pickle<'a>, id: Id) -> Option<Storage<'a>> {
    let [kind, class, key, _device, _count, rest @ ..] = pickle.items(id)? else { return None };
    if pickle.text(*kind) != Some("storage") {
        return None;
    }
    let other = |name: &str| Number::Other(name.to_owned());
    let (number, width) = match pickle.global(*class)?.1 {
        "HalfStorage" => (Number::F16, 2),
        "BFloat16Storage" => (Number::Bf16, 2),
        "FloatStorage" => (Number::F32, 4),
        "DoubleStorage" => (Number::F64, 8),
        "LongStorage" => (other("I64"), 8),
        "IntStorage" => (other("I32"), 4),
        "ShortStorage" => (other("I16"), 2),
        "CharStorage" => (other("I8"), 1),
        "ByteStorage" => (other("U8"), 1),
        "BoolStorage" => (other("Bool"), 1),
        "ComplexFloatStorage" => (other("ComplexFloat"), 8),
        "ComplexDoubleStorage" => (other("ComplexDouble"), 16),
        name => (other(name), 1),
    };
    let is_view = rest.iter().any(|id| pickle.items(*id).is_some());
    Some(Storage { key: pickle.text(*key)?, number, width, is_view })
}

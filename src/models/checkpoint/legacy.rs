//! Pickled state dicts as torch wrote them before its version 1.6: no archive, but pickles one after the other and then the numbers.
//!
//! Source: torch 2.15, `serialization.py`, `_legacy_save` and `_legacy_load`: a magic number, the format's version, the machine, the
//! object, the keys of its storages; then for each key, in that order, the count of its numbers and they themselves.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use candle_core::DType;
use candle_core::pickle::{Object, Stack, TensorInfo};

/// How a file begins: the pickled magic number `0x1950a86a20f9469cfc6c` and the version 1001.
const BEGIN: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";

/// A tensor in a file.
#[derive(Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// Its numbers, without gaps.
    pub(super) range: Range<usize>,
}

/// Whether a file is one of these.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGIN)
}

/// The tensors of a file, wherever `keys` say that the state dict may lie.
///
/// # Errors
/// Why the file cannot be read.
pub(super) fn tensors(bytes: &[u8], keys: &[&str]) -> Result<Vec<Tensor>, String> {
    // candle's reader takes a few things for granted that a damaged file does not have: its panic is the file's fault.
    std::panic::catch_unwind(|| read(bytes, keys)).unwrap_or_else(|_| Err("it is damaged".to_owned()))
}

fn read(bytes: &[u8], keys: &[&str]) -> Result<Vec<Tensor>, String> {
    let mut rest = bytes.get(BEGIN.len()..).unwrap_or_default();
    let mut next = || {
        let mut stack = Stack::empty();
        stack.read_loop(&mut rest).and_then(|()| stack.finalize()).map_err(|error| first_line(&error))
    };
    let (_machine, object, storages) = (next()?, next()?, next()?);
    let infos = infos(state_dict(object, keys))?;
    let sizes: HashMap<&str, usize> =
        infos.iter().map(|info| (info.path.as_str(), info.dtype.size_in_bytes())).collect();
    let Object::List(storages) = storages else { return Err("it lists no storages".to_owned()) };
    let mut at = bytes.len() - rest.len();
    let mut places = HashMap::new();
    for key in storages {
        let key = key.unicode().map_err(|_| "a storage has no name".to_owned())?;
        let count = bytes.get(at..at + 8).and_then(|count| count.first_chunk::<8>());
        let count = u64::from_le_bytes(*count.ok_or("it is cut off")?);
        // What no tensor uses, of which the width of a number is unknown, hides where the next one begins.
        let size = *sizes.get(key.as_str()).ok_or("it has a storage that is no part of the state dict")?;
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        let end = length.and_then(|length| (at + 8).checked_add(length)).filter(|end| *end <= bytes.len());
        let end = end.ok_or("it is cut off")?;
        places.insert(key, at + 8..end);
        at = end;
    }
    infos.into_iter().map(|info| tensor(info, &places)).collect()
}

fn tensor(info: TensorInfo, places: &HashMap<String, Range<usize>>) -> Result<Tensor, String> {
    let TensorInfo { name, dtype, layout, path, .. } = info;
    let place = places.get(&path).ok_or_else(|| format!("it has no numbers of {name}"))?;
    if !layout.is_contiguous() {
        return Err(format!("{name} does not lie in one piece"));
    }
    let shape = layout.dims().to_vec();
    let length = shape.iter().try_fold(dtype.size_in_bytes(), |length, side| length.checked_mul(*side));
    let start = place.start.checked_add(layout.start_offset());
    let end = start.zip(length).and_then(|(start, length)| start.checked_add(length)).filter(|end| *end <= place.end);
    match (start, end) {
        (Some(start), Some(end)) => Ok(Tensor { name, dtype, shape, range: start..end }),
        _ => Err(format!("claims {name} of shape {shape:?}, more than the file holds")),
    }
}

/// The object, or what it keeps under one of the keys beside other things.
fn state_dict(object: Object, keys: &[&str]) -> Object {
    let Object::Dict(pairs) = object else { return object };
    let named = |wanted: &str| pairs.iter().position(|(key, _)| matches!(key, Object::Unicode(key) if key == wanted));
    let found = keys.iter().find_map(|key| named(key)).and_then(|at| pairs.get(at));
    match found {
        Some((_, inner @ Object::Dict(_))) => inner.clone(),
        _ => Object::Dict(pairs),
    }
}

/// With the storage's key alone as the path.
fn infos(object: Object) -> Result<Vec<TensorInfo>, String> {
    let Object::Dict(pairs) = object else { return Err("it holds no dict".to_owned()) };
    let info = |(name, value): (Object, Object)| {
        let info = value.into_tensor_info(name, Path::new("")).map_err(|error| first_line(&error)).transpose()?;
        Some(info.map(|info| TensorInfo { path: info.path.trim_start_matches('/').to_owned(), ..info }))
    };
    pairs.into_iter().filter_map(info).collect()
}

fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What torch 2.15 writes of `{"model": {"a": arange(6.).reshape(2, 3)[1:], "n": tensor(5)}}` with
    /// `_use_new_zipfile_serialization=False`; storages are named by numbers.
    const FILE: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionq\x01M\
        \xe9\x03X\x0d\x00\x00\x00little_endianq\x02\x88X\n\x00\x00\x00type_sizesq\x03}q\x04(X\x05\x00\x00\x00shortq\x05K\
        \x02X\x03\x00\x00\x00intq\x06K\x04X\x04\x00\x00\x00longq\x07K\x04uu.\x80\x02}q\x00X\x05\x00\x00\x00modelq\x01}q\
        \x02(X\x01\x00\x00\x00aq\x03ctorch._utils\n_rebuild_tensor_v2\nq\x04((X\x07\x00\x00\x00storageq\x05ctorch\nFloat\
        Storage\nq\x06X\x01\x00\x00\x000q\x07X\x03\x00\x00\x00cpuq\x08K\x06Ntq\x09QK\x03K\x01K\x03\x86q\nK\x03K\x01\x86q\
        \x0b\x89ccollections\nOrderedDict\nq\x0c)Rq\x0dtq\x0eRq\x0fX\x01\x00\x00\x00nq\x10h\x04((h\x05ctorch\nLongStorag\
        e\nq\x11X\x01\x00\x00\x001q\x12h\x08K\x01Ntq\x13QK\x00))\x89h\x0c)Rq\x14tq\x15Rq\x16us.\x80\x02]q\x00(X\x01\x00\
        \x00\x000q\x01X\x01\x00\x00\x001q\x02e.\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00\
        @\x00\x00@@\x00\x00\x80@\x00\x00\xa0@\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00";

    #[test]
    fn tensors_are_found_where_they_lie() {
        assert!(recognises(FILE) && !recognises(b"PK\x03\x04"));
        let mut found = tensors(FILE, &["state_dict", "model"]).unwrap();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let [a, n] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((a.name.as_str(), a.dtype, a.shape.as_slice()), ("a", DType::F32, &[1, 3][..]));
        let numbers: Vec<f32> = FILE[a.range.clone()].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(numbers, [3.0, 4.0, 5.0]);
        assert_eq!((n.name.as_str(), n.dtype, &FILE[n.range.clone()]), ("n", DType::I64, &5_u64.to_le_bytes()[..]));
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_it_is_cut() {
        for end in BEGIN.len()..FILE.len() {
            assert!(tensors(&FILE[..end], &["model"]).is_err(), "{end}");
        }
        for at in BEGIN.len()..FILE.len() {
            let mut file = FILE.to_vec();
            file[at] ^= 0x41;
            // Any answer, but within the file.
            for tensor in tensors(&file, &["model"]).unwrap_or_default() {
                assert!(tensor.range.end <= file.len(), "{at}");
            }
        }
    }
}

//! Pickled state dicts as torch wrote them before its version 1.6: no archive, but pickles one after the other and then the numbers.
//!
//! Source: torch 2.15, `serialization.py`, `_legacy_save` and `_legacy_load`: a magic number, the format's version, the machine, the
//! object, the keys of its storages; then for each key, in that order, the count of its numbers and they themselves.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::Pickle;
use super::pickled;

/// How a file begins: the pickled magic number `0x1950a86a20f9469cfc6c` and the version 1001.
const BEGIN: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";

/// Whether a file is one of these.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGIN)
}

/// Where storages lie, by their keys.
type Places<'a> = HashMap<&'a str, Range<usize>>;

/// The pickle of the object, and where each storage that it names lies in the file.
///
/// # Errors
/// Why the file cannot be read.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, Places<'_>), String> {
    let mut at = BEGIN.len();
    let mut next = || {
        let (pickle, length) = Pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += length;
        Ok::<_, String>(pickle)
    };
    let (_machine, object, keys) = (next()?, next()?, next()?);
    let storages = pickled::storages(&object);
    let mut places = HashMap::new();
    for key in keys.items(keys.root()).ok_or("it lists no storages")? {
        let key = keys.text(*key).ok_or("a storage has no name")?;
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let count = u64::from_le_bytes(*count.ok_or("it is cut off")?);
        let storage = storages.get(key).ok_or("it has a storage that no tensor uses")?;
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(storage.width));
        let end = length.and_then(|length| (at + 8).checked_add(length)).filter(|end| *end <= bytes.len());
        let end = end.ok_or("it is cut off")?;
        places.insert(key, at + 8..end);
        at = end;
    }
    Ok((object, places))
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
    fn storages_are_found_where_they_lie() {
        assert!(recognises(FILE) && !recognises(b"PK\x03\x04"));
        let (pickle, places) = read(FILE).unwrap();
        let (a, n) = (&places["0"], &places["1"]);
        assert_eq!(places.len(), 2);
        let numbers: Vec<f32> = FILE[a.clone()].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(numbers, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(&FILE[n.clone()], &5_u64.to_le_bytes());
        let tensors = pickled::tensors(&pickle).unwrap();
        let [first, second] = tensors.as_slice() else { panic!("{tensors:?}") };
        let entry = first.entry(0, FILE.len(), a).unwrap();
        assert_eq!((first.name.as_str(), entry.shape.as_slice(), entry.start), ("a", &[1, 3][..], a.start + 12));
        assert!(first.entry(0, FILE.len(), &(a.start..a.end - 1)).is_err());
        let entry = second.entry(0, FILE.len(), n).unwrap();
        assert_eq!((second.name.as_str(), entry.shape.len(), entry.not_a_float()), ("n", 0, Some("I64")));
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_it_is_cut() {
        for end in BEGIN.len()..FILE.len() {
            assert!(read(&FILE[..end]).is_err(), "{end}");
        }
        for at in BEGIN.len()..FILE.len() {
            let mut file = FILE.to_vec();
            file[at] ^= 0x41;
            // Any answer, but within the file.
            if let Ok((_, places)) = read(&file) {
                assert!(places.values().all(|place| place.end <= file.len()), "{at}");
            }
        }
    }
}

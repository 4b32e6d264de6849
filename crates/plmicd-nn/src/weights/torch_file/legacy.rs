//! The layout of `torch.save` before PyTorch 1.6: pickles of a magic number, a version, facts about the machine, the
//! state dictionary and the names of its storages, then of each storage the number of its values and the values.

use std::collections::BTreeMap;

use tch::Tensor;

use super::pickle::Pickles;
use super::{CONVERT, tensors};

/// The magic number, pickled: 80 bits, which is more than any number of a state dictionary may have.
const START: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";
const VERSION: i64 = 1001;
const CUT_OFF: &str = "is cut off: its tensors' values are incomplete";

pub fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(START)
}

/// Reads a file that [`is_legacy`].
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let mut pickles = Pickles::new(&bytes[START.len()..]);
    let version = pickles.number()?;
    if version != VERSION {
        return Err(format!("is of version {version} of the legacy layout, expected {VERSION}; {CONVERT}"));
    }
    if !pickles.flag("little_endian")? {
        return Err("is in big-endian byte order".to_owned());
    }
    let specs = pickles.state_dict().map_err(|message| format!("{message}; {CONVERT}"))?;
    let keys = pickles.strings()?;
    let mut rest = pickles.rest();
    let mut values: BTreeMap<String, &[u8]> = BTreeMap::new();
    for key in keys {
        let spec = specs.iter().find(|(_, spec)| spec.storage.key == key);
        let (_, spec) = spec.ok_or("holds values that belong to no tensor")?;
        let (count, following) = rest.split_first_chunk().ok_or(CUT_OFF)?;
        let size = usize::try_from(i64::from_le_bytes(*count))
            .ok()
            .and_then(|count| count.checked_mul(spec.storage.kind.elt_size_in_bytes()));
        let (own, following) = size.and_then(|size| following.split_at_checked(size)).ok_or(CUT_OFF)?;
        values.insert(key, own);
        rest = following;
    }
    tensors(specs, |key| values.get(key).copied().ok_or_else(|| format!("storage {key} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// A `w` of 2 x 3 values, its second row under another name, and two whole numbers, as Python's pickler writes them.
    const SAVED: &[u8] =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00(X\x10\x00\x00\x00pro\
tocol_versionq\x01M\xe9\x03X\x0d\x00\x00\x00little_endianq\x02\x88X\x0a\x00\x00\x00type_sizesq\x03}q\x04\
(X\x05\x00\x00\x00shortq\x05K\x02X\x03\x00\x00\x00intq\x06K\x04X\x04\x00\x00\x00longq\x07K\x04uu.\x80\
\x02ccollections\x0aOrderedDict\x0aq\x00)Rq\x01(X\x01\x00\x00\x00wq\x02ctorch._utils\x0a_rebuild_tens\
or_v2\x0aq\x03((X\x07\x00\x00\x00storageq\x04ctorch\x0aFloatStorage\x0aq\x05X\x05\x00\x00\x0094523q\x06\
X\x03\x00\x00\x00cpuq\x07K\x06Ntq\x08QK\x00K\x02K\x03\x86q\x09K\x03K\x01\x86q\x0a\x89h\x00)Rq\x0btq\x0c\
Rq\x0dX\x05\x00\x00\x00w.rowq\x0eh\x03((h\x04h\x05h\x06h\x07K\x06Ntq\x0fQK\x03K\x03\x85q\x10K\x01\x85\
q\x11\x89h\x00)Rq\x12tq\x13Rq\x14X\x03\x00\x00\x00idsq\x15h\x03((h\x04ctorch\x0aLongStorage\x0aq\x16X\
\x05\x00\x00\x0094777q\x17h\x07K\x02Ntq\x18QK\x00K\x02\x85q\x19h\x11\x89h\x00)Rq\x1atq\x1bRq\x1cu.\x80\
\x02]q\x00(X\x05\x00\x00\x0094523q\x01X\x05\x00\x00\x0094777q\x02e.\x06\x00\x00\x00\x00\x00\x00\x00\x00\
\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00\x80@\x00\x00\xa0@\x00\x00\xd0@\x02\x00\x00\x00\x00\x00\x00\x00\
\xf9\xff\xff\xff\xff\xff\xff\xff\x08\x00\x00\x00\x00\x00\x00\x00";

    #[test]
    fn tensors_that_share_a_storage_are_read() {
        let read = read(SAVED).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["ids", "w", "w.row"]);
        assert_eq!(read["w"].size(), [2, 3]);
        let floats = |name: &str| Vec::<f32>::try_from(read[name].flatten(0, -1)).unwrap();
        assert_eq!(floats("w"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.5]);
        assert_eq!(floats("w.row"), [4.0, 5.0, 6.5]);
        assert_eq!(read["ids"].kind(), Kind::Int64);
        assert_eq!(Vec::<i64>::try_from(&read["ids"]).unwrap(), [-7, 8]);
    }

    #[test]
    fn damage_is_an_error_and_never_a_crash() {
        for cut in START.len()..SAVED.len() {
            assert!(read(&SAVED[..cut]).is_err(), "{cut}");
        }
        for at in START.len()..SAVED.len() {
            for byte in [0x00, 0xff, b'R', b'e', b'a', b'Q', b't'] {
                let mut damaged = SAVED.to_vec();
                damaged[at] = byte;
                let _ = read(&damaged);
            }
        }
    }

    #[test]
    fn code_is_refused_by_name() {
        let place = SAVED.windows(12).position(|part| part == b"FloatStorage").unwrap();
        let mut evil = SAVED.to_vec();
        evil[place..place + 12].copy_from_slice(b"FloatStorigo");
        let message = read(&evil).unwrap_err();
        assert!(message.contains("asks for Python's torch.FloatStorigo"), "{message}");
    }
}

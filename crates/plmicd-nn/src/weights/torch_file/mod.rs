//! `pytorch_model.bin`: a dictionary of tensors as `torch.save` writes it. Since PyTorch 1.6 that is a zip archive of a
//! pickle and one file of raw values per storage, before it was a stream of pickles with the values behind them.
//! Pickles can run code when Python reads them; here only tensors can come of one, and a file that holds anything else
//! is refused.

mod legacy;
mod pickle;
mod writer;
mod zip;

use std::collections::BTreeMap;

use camino::Utf8Path;
use tch::{Kind, Tensor};

use crate::NnError;
use pickle::TensorSpec;
pub use writer::write_torch_file;
use zip::Archive;

const CONVERT: &str = "convert it with Transformers' `model.save_pretrained(folder, safe_serialization=True)` where you trust it";

/// Reads every tensor of a `pytorch_model.bin` onto the CPU, floating-point ones as fp32.
pub fn read_torch_file(path: &Utf8Path) -> Result<BTreeMap<String, Tensor>, NnError> {
    let bytes = fs_err::read(path)?;
    read(&bytes).map_err(|message| NnError::file(path, message))
}

fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    if legacy::is_legacy(bytes) {
        return legacy::read(bytes);
    }
    if !bytes.starts_with(b"PK") {
        return Err(format!("is in neither of the layouts PyTorch writes, zip or legacy; {CONVERT}"));
    }
    let archive = Archive::open(bytes)?;
    let (root, pickled) =
        archive.find_ending("/data.pkl").ok_or("holds no data.pkl: not written by torch.save")?;
    if archive.get(&format!("{root}/byteorder")).is_some_and(|order| order != b"little") {
        return Err("is in big-endian byte order".to_owned());
    }
    let specs = pickle::read_state_dict(pickled).map_err(|message| format!("{message}; {CONVERT}"))?;
    tensors(specs, |key| {
        let file = format!("{root}/data/{key}");
        archive.get(&file).ok_or_else(|| format!("{file} is missing"))
    })
}

/// The tensors of a state dictionary, where `values` gives the bytes of a storage.
fn tensors<'v>(
    specs: Vec<(String, TensorSpec)>,
    values: impl Fn(&str) -> Result<&'v [u8], String>,
) -> Result<BTreeMap<String, Tensor>, String> {
    let mut storages: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, spec) in specs {
        let key = &spec.storage.key;
        if !storages.contains_key(key) {
            let made = values(key).and_then(|values| storage(&spec, values));
            storages.insert(key.clone(), made.map_err(|e| format!("{name}: {e}"))?);
        }
        let tensor = view(&spec, &storages[key]).map_err(|e| format!("{name}: {e}"))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn storage(spec: &TensorSpec, values: &[u8]) -> Result<Tensor, String> {
    let size = spec.storage.kind.elt_size_in_bytes();
    let expected = usize::try_from(spec.storage.numel).ok().and_then(|numel| numel.checked_mul(size));
    if expected != Some(values.len()) {
        return Err(format!(
            "its storage has {} bytes, expected {} values of {size}",
            values.len(),
            spec.storage.numel
        ));
    }
    Tensor::f_from_data_size(values, &[spec.storage.numel], spec.storage.kind).map_err(|e| e.to_string())
}

/// The tensor a storage and a layout describe; libtorch refuses layouts that reach beyond the storage.
fn view(spec: &TensorSpec, storage: &Tensor) -> Result<Tensor, String> {
    if storage.kind() != spec.storage.kind || spec.size.iter().chain(&spec.stride).any(|&number| number < 0) {
        return Err("its layout contradicts itself".to_owned());
    }
    let tensor = storage.f_as_strided(&spec.size, &spec.stride, spec.offset);
    let tensor = tensor.map_err(|e| e.to_string().lines().next().unwrap_or_default().to_owned())?;
    // Always a copy: the storage may be shared.
    Ok(if tensor.is_floating_point() { tensor.copy().to_kind(Kind::Float) } else { tensor.copy() }
        .contiguous())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_refused() {
        assert!(read(b"\x80\x02}q\x00.").unwrap_err().contains("neither of the layouts"));
        assert!(read(b"PK\x03\x04 cut off").unwrap_err().contains("zip"));
    }
}

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use camino::Utf8Path;
use safetensors::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

use crate::NnError;

/// Reads every tensor of a `.safetensors` file onto the CPU, floating-point ones as fp32.
pub fn read_safetensors(path: &Utf8Path) -> Result<BTreeMap<String, Tensor>, NnError> {
    let bytes = fs_err::read(path)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| NnError::file(path, format!("not a valid safetensors file: {e}")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let kind = kind_of(view.dtype()).ok_or_else(|| {
            NnError::file(path, format!("{name}: type {:?} is not supported", view.dtype()))
        })?;
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?;
        let tensor = if tensor.is_floating_point() { tensor.to_kind(Kind::Float) } else { tensor };
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

/// Writes fp32 tensors as a `.safetensors` file: the same bytes for the same values, complete or not at all.
pub fn write_safetensors(path: &Utf8Path, tensors: &[(&str, &Tensor)]) -> Result<(), NnError> {
    let views = tensors
        .iter()
        .map(|(name, tensor)| Ok((*name, CpuView::new(tensor)?)))
        .collect::<Result<Vec<_>, NnError>>()?;
    // Transformers refuses files that do not say which framework's layout they follow.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path.as_std_path())
        .map_err(|e| NnError::file(path, format!("cannot be written: {e}")))
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// A tensor on its way to disk; its bytes are copied only when they are written.
struct CpuView {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl CpuView {
    fn new(tensor: &Tensor) -> Result<CpuView, NnError> {
        let tensor = tensor.detach().f_to_device(Device::Cpu)?.to_kind(Kind::Float).contiguous();
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        Ok(CpuView { tensor, shape })
    }
}

impl View for CpuView {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let count = self.tensor.numel();
        let mut values = vec![0f32; count];
        self.tensor.copy_data(&mut values, count);
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8PathBuf;

    #[test]
    fn what_is_written_is_read_and_the_bytes_are_fixed() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("model.safetensors")).unwrap();
        let a = Tensor::from_slice(&[1.5f32, -2.0, 3.25, 0.0]).view([2, 2]);
        let b = a.transpose(0, 1).narrow(0, 0, 1);
        write_safetensors(&path, &[("b", &b), ("a", &a)]).unwrap();
        let first = fs_err::read(&path).unwrap();
        write_safetensors(&path, &[("a", &a), ("b", &b)]).unwrap();
        assert_eq!(first, fs_err::read(&path).unwrap());

        let read = read_safetensors(&path).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(read["a"].equal(&a) && read["b"].equal(&b));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("model.safetensors")).unwrap();
        fs_err::write(&path, b"not tensors").unwrap();
        let wrong = read_safetensors(&path).unwrap_err().to_string();
        assert!(wrong.contains("model.safetensors: not a valid safetensors file"), "{wrong}");
    }
}

//! Tensors to and from a safetensors file, by bytes: what is read is what was written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use camino::Utf8Path;
use safetensors::tensor::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::CheckpointError;

/// A contiguous tensor on the CPU as safetensors sees it.
struct Bytes {
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Bytes {
    fn new(tensor: &Tensor) -> Result<Self, CheckpointError> {
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Double => Dtype::F64,
            Kind::Int64 => Dtype::I64,
            kind => {
                return Err(std::io::Error::other(format!("a checkpoint holds no {kind:?} tensors")).into());
            }
        };
        let shape = tensor.size().into_iter().map(|n| n as usize).collect();
        Ok(Self { tensor: tensor.detach().to_device(Device::Cpu).contiguous(), dtype, shape })
    }
}

impl View for &Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

/// Writes a new file and syncs it.
pub(crate) fn write(path: &Utf8Path, tensors: &[(&str, &Tensor)]) -> Result<(), CheckpointError> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        views.push((*name, Bytes::new(tensor)?));
    }
    let views = views.iter().map(|(name, bytes)| (*name, bytes));
    safetensors::serialize_to_file(views, None, path.as_std_path())
        .map_err(|error| std::io::Error::other(format!("failed to write {path}: {error}")))?;
    fs_err::File::open(path)?.sync_all()?;
    Ok(())
}

/// The tensors of a file's `bytes`; `path` is for messages.
pub(crate) fn parse(path: &Utf8Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let damaged = |message: String| CheckpointError::damaged(path, message);
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            other => return Err(damaged(format!("tensor `{name}` is of type {other:?}"))),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        tensors.insert(name, Tensor::from_data_size(view.data(), &shape, kind));
    }
    Ok(tensors)
}

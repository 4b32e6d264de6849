use tch::kind::Element;
use tch::{Device, Tensor};

use crate::cuda;
use crate::{TorchError, ffi};

/// A tensor of `values` on `device`. On its way to a GPU it lies in pinned memory and is copied when the GPU comes to it:
/// nobody waits.
pub fn upload<T: Element>(values: &[T], shape: &[i64], device: Device) -> Tensor {
    let tensor = Tensor::from_slice(values).view(shape);
    match device {
        Device::Cuda(index) => to_gpu(&tensor, index).expect("a tensor on the CPU and memory for it"),
        _ => tensor.to_device(device),
    }
}

fn to_gpu(tensor: &Tensor, index: usize) -> Result<Tensor, TorchError> {
    let mut out = std::ptr::null_mut();
    // SAFETY: `tensor` is live; on success the shim hands over one new tensor, which tch frees.
    unsafe {
        ffi::check(ffi::plmicd_to_gpu(ffi::raw(tensor), index as i64, &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// The device a setting names: `auto` (the first GPU where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`.
/// Loads CUDA where that may be needed.
pub fn resolve_device(name: &str) -> Result<Device, TorchError> {
    resolve_device_of(name, 0)
}

/// The same for one of several processes on this machine, from 0: `auto` and `cuda` are the GPU of its number.
pub fn resolve_device_of(name: &str, process: usize) -> Result<Device, TorchError> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => match cuda::load_beside_libtorch() {
            cuda::CudaStatus::Available { .. } => process,
            _ => return Ok(Device::Cpu),
        },
        "cuda" => process,
        _ => match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(index)) => index,
            _ => {
                return Err(TorchError::Invalid(format!(
                    "device \"{name}\" is unknown; expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\""
                )));
            }
        },
    };
    match cuda::load_beside_libtorch() {
        cuda::CudaStatus::Available { devices, .. } if index < devices => Ok(Device::Cuda(index)),
        status if process > 0 && matches!(name, "auto" | "cuda") => Err(TorchError::Invalid(format!(
            "process {process} of this machine has no GPU of its own: {status}"
        ))),
        status => Err(TorchError::Invalid(format!("device \"{name}\" is not there: {status}"))),
    }
}

/// What whoever left the choice to `auto` should know of a device: that a GPU could not be used.
pub fn device_warning(name: &str, device: Device) -> Option<String> {
    if name != "auto" || device != Device::Cpu {
        return None;
    }
    match cuda::load_beside_libtorch() {
        status @ cuda::CudaStatus::Unloadable { .. } => Some(format!("no GPU is used: {status}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_or_refused() {
        assert_eq!(resolve_device("cpu").unwrap(), Device::Cpu);
        assert!(resolve_device("auto").is_ok());
        for (name, expected) in
            [("gpu", "is unknown"), ("cuda:x", "is unknown"), ("cuda:4096", "is not there")]
        {
            let message = resolve_device(name).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}

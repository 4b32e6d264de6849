use tch::Device;

use crate::TorchError;
use crate::cuda;

/// The device a setting names: `auto` (the first GPU where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`.
/// Loads CUDA where that may be needed.
pub fn resolve_device(name: &str) -> Result<Device, TorchError> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => {
            let available = cuda::load_beside_libtorch().is_available();
            return Ok(if available { Device::Cuda(0) } else { Device::Cpu });
        }
        "cuda" => 0,
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
        status => Err(TorchError::Invalid(format!("device \"{name}\" is not there: {status}"))),
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

use plmicd_torch::{allow_tf32, device_warning, fast_bf16};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Number format of the matrix products. Weights, gradients, LayerNorm, softmax, dropout, loss and every sum over
/// batches or label blocks are fp32 in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// bf16 where the hardware multiplies it faster than fp32, else fp32.
    #[default]
    Auto,
    /// 32-bit floating point throughout.
    Fp32,
    /// Operands and results of matrix products rounded to bfloat16 (8 bits of mantissa, fp32's range).
    Bf16,
    /// Operands rounded to TF32 (11 bits of mantissa, fp32's range), which GPUs do by themselves; fp32 on a CPU.
    Tf32,
}

impl Precision {
    /// What is really computed in on `device`: never [`Precision::Auto`], and TF32 on GPUs only.
    pub fn resolved(self, device: Device) -> Precision {
        match self {
            Precision::Auto if fast_bf16(device) => Precision::Bf16,
            Precision::Auto => Precision::Fp32,
            Precision::Tf32 if device == Device::Cpu => Precision::Fp32,
            known => known,
        }
    }

    /// What is computed in and where, for the log; then what whoever chose it, and `device` by the setting `name`, should
    /// know.
    pub fn explain(self, name: &str, device: Device) -> (String, Vec<String>) {
        let place = match device {
            Device::Cuda(index) => format!("GPU {index}"),
            _ => "the CPU".to_owned(),
        };
        let slow = self == Precision::Bf16 && !fast_bf16(device);
        let slow = slow.then(|| {
            "this hardware has no bf16 instructions: precision = \"bf16\" is slower than \"fp32\" here"
                .to_owned()
        });
        let note = format!("matrix products in {} on {place}", self.resolved(device).as_str());
        (note, device_warning(name, device).into_iter().chain(slow).collect())
    }

    /// Its name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::Fp32 => "fp32",
            Precision::Bf16 => "bf16",
            Precision::Tf32 => "tf32",
        }
    }

    /// [`Precision::resolved`], and lets libtorch round operands to TF32 on a GPU, or not: a setting of the process.
    pub(crate) fn prepared(self, device: Device) -> Precision {
        let resolved = self.resolved(device);
        if device != Device::Cpu {
            allow_tf32(resolved == Precision::Tf32);
        }
        resolved
    }

    /// `tensor` as an operand of matrix products.
    pub(crate) fn operand(self, tensor: &Tensor) -> Tensor {
        match self {
            Precision::Bf16 => tensor.to_kind(Kind::BFloat16),
            _ => tensor.shallow_clone(),
        }
    }
}

/// The result of a matrix product as what follows reads it: bf16 widened to fp32, all else as it is.
pub(crate) fn widened(product: Tensor) -> Tensor {
    match product.kind() {
        Kind::BFloat16 => product.to_kind(Kind::Float),
        _ => product,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_computed_in_is_told() {
        let (note, warnings) = Precision::Bf16.explain("cpu", Device::Cpu);
        assert_eq!(note, "matrix products in bf16 on the CPU");
        assert_eq!(warnings.is_empty(), plmicd_torch::cpu_capabilities().fast_bf16());
    }

    #[test]
    fn auto_follows_the_hardware() {
        let expected = match plmicd_torch::cpu_capabilities().fast_bf16() {
            true => Precision::Bf16,
            false => Precision::Fp32,
        };
        assert_eq!(Precision::Auto.resolved(Device::Cpu), expected);
        assert_eq!(Precision::Tf32.resolved(Device::Cpu), Precision::Fp32);
        assert_eq!(Precision::Tf32.resolved(Device::Cuda(0)), Precision::Tf32);
        for precision in [Precision::Auto, Precision::Fp32, Precision::Bf16, Precision::Tf32] {
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.as_str());
        }
    }
}

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Number format of the matrix products. Weights, gradients, LayerNorm, softmax, dropout, loss and every sum over
/// batches or label blocks are fp32 in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point throughout.
    #[default]
    Fp32,
    /// Operands and results of matrix products rounded to bfloat16 (8 bits of mantissa, fp32's range).
    Bf16,
}

impl Precision {
    /// `tensor` as an operand of matrix products.
    pub(crate) fn operand(self, tensor: &Tensor) -> Tensor {
        match self {
            Precision::Fp32 => tensor.shallow_clone(),
            Precision::Bf16 => tensor.to_kind(Kind::BFloat16),
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

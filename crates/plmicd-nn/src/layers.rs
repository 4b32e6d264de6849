//! The blocks encoders are made of. Weights stay fp32 and are cast to the number format of what they meet.

use tch::Tensor;

use crate::parameters::{Init, ParameterStore};

/// `y = x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub fn new(store: &mut ParameterStore, path: &str, inputs: i64, outputs: i64) -> Linear {
        Linear {
            weight: store.add(&format!("{path}.weight"), &[outputs, inputs], Init::Normal, false),
            bias: store.add(&format!("{path}.bias"), &[outputs], Init::Zeros, false),
        }
    }

    /// Width of the result.
    pub fn outputs(&self) -> i64 {
        self.bias.size()[0]
    }

    /// `W` [outputs, inputs], fp32.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `b` [outputs], fp32.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// Computes in the number format of `x`, which is also that of the result.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        x.linear(&self.weight.to_kind(kind), Some(&self.bias.to_kind(kind)))
    }
}

/// LayerNorm over the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    pub fn new(store: &mut ParameterStore, path: &str, size: i64, epsilon: f64) -> LayerNorm {
        LayerNorm {
            weight: store.add(&format!("{path}.weight"), &[size], Init::Ones, false),
            bias: store.add(&format!("{path}.bias"), &[size], Init::Zeros, false),
            epsilon,
        }
    }

    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.epsilon, false)
    }
}

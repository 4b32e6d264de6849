use tch::Tensor;

use super::pooled::PooledAttention;
use crate::parameters::{Init, ParameterStore};
use crate::precision::{Precision, widened};

/// BERT-XML's label attention (Zhang et al. 2020, section 4; after AttentionXML, You et al. 2019): `A = softmax(W H)` over
/// tokens, `logit = w relu(U (A H) + u) + b` with a hidden layer and an output vector that all labels share.
#[derive(Debug)]
pub struct BertXmlAttention {
    /// `W` [Y,D].
    queries: Tensor,
    /// `U` [D,D].
    hidden: Tensor,
    /// `u` [D].
    hidden_bias: Tensor,
    /// `w` [1,D].
    output: Tensor,
    /// `b` [1].
    output_bias: Tensor,
    precision: Precision,
}

impl BertXmlAttention {
    pub(crate) fn new(store: &mut ParameterStore, size: i64, num_labels: i64) -> BertXmlAttention {
        let mut add = |name: &str, shape: &[i64], init| store.add(name, shape, init, true);
        BertXmlAttention {
            queries: add("label_queries.weight", &[num_labels, size], Init::Normal),
            hidden: add("hidden_linear.weight", &[size, size], Init::Normal),
            hidden_bias: add("hidden_linear.bias", &[size], Init::Zeros),
            output: add("output_linear.weight", &[1, size], Init::Normal),
            output_bias: add("output_linear.bias", &[1], Init::Zeros),
            precision: Precision::default(),
        }
    }

    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }
}

impl PooledAttention for BertXmlAttention {
    fn queries(&self) -> &Tensor {
        &self.queries
    }

    fn keys(&self, states: &Tensor) -> Tensor {
        states.shallow_clone()
    }

    fn values(&self, states: &Tensor) -> Tensor {
        states.shallow_clone()
    }

    fn per_label(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    fn score(&self, pooled: &Tensor, _rows: &[Tensor]) -> Tensor {
        let low = |tensor: &Tensor| self.precision.operand(tensor);
        let hidden = widened(low(pooled).linear(&low(&self.hidden), Some(&low(&self.hidden_bias)))).relu();
        hidden.linear(&self.output, Some(&self.output_bias)).squeeze_dim(-1)
    }

    fn precision(&self) -> Precision {
        self.precision
    }
}

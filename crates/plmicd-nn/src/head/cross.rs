use tch::Tensor;

use super::pooled::{self, Pieces, PooledAttention};
use crate::parameters::{Init, ParameterStore};
use crate::precision::{Precision, widened};
use crate::segment::Span;

/// Standard deviation of freshly drawn weights, that of the published code.
const STANDARD_DEVIATION: f64 = 0.03;
/// Added to the variance in LayerNorm.
const EPSILON: f64 = 1e-5;

/// PLM-CA's cross-attention (Edin et al. 2024): `K = Wk H`, `U = Wv H + v`, `A = softmax(Q K / scale)` over tokens,
/// `logit = w LayerNorm(A U) + b` with one output vector for all labels.
#[derive(Debug)]
pub struct CrossAttention {
    weights: CrossWeights,
    scale: f64,
    precision: Precision,
}

/// The weights of a [`CrossAttention`] over states of width D.
#[derive(Debug)]
pub struct CrossWeights {
    /// `Q` [Y,D].
    pub queries: Tensor,
    /// `Wk` [D,D].
    pub key: Tensor,
    /// `Wv` [D,D].
    pub value: Tensor,
    /// `v` [D].
    pub value_bias: Tensor,
    /// LayerNorm's weight [D].
    pub norm: Tensor,
    /// LayerNorm's bias [D].
    pub norm_bias: Tensor,
    /// `w` [1,D].
    pub output: Tensor,
    /// `b` [1].
    pub output_bias: Tensor,
}

impl CrossAttention {
    pub(crate) fn new(store: &mut ParameterStore, size: i64, num_labels: i64) -> CrossAttention {
        let mut add = |name: &str, shape: &[i64], init| {
            store.add(&format!("label_wise_attention.{name}"), shape, init, true)
        };
        let drawn = Init::NormalOf(STANDARD_DEVIATION);
        CrossAttention::from_weights(
            CrossWeights {
                queries: add("label_representations", &[num_labels, size], drawn),
                key: add("weights_k.weight", &[size, size], drawn),
                value: add("weights_v.weight", &[size, size], drawn),
                value_bias: add("weights_v.bias", &[size], Init::Zeros),
                norm: add("layernorm.weight", &[size], Init::Ones),
                norm_bias: add("layernorm.bias", &[size], Init::Zeros),
                output: add("output_linear.weight", &[1, size], drawn),
                output_bias: add("output_linear.bias", &[1], Init::Zeros),
            },
            1.0,
        )
    }

    /// Cross-attention with given weights; the published `scale` is 1.
    pub fn from_weights(weights: CrossWeights, scale: f64) -> CrossAttention {
        CrossAttention { weights, scale, precision: Precision::default() }
    }

    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// Logits [B,Y] without gradients, `label_block` labels at a time. `states` [R,D] are the flattened states of a
    /// batch, of which note `i` reads `spans[i]`.
    pub fn logits(&self, states: &Tensor, spans: &[Span], label_block: usize) -> Tensor {
        pooled::logits(self, states, &whole(spans), label_block)
    }

    /// The same written out in differentiable operations.
    pub fn logits_reference(&self, states: &Tensor, spans: &[Span]) -> Tensor {
        pooled::logits_reference(self, states, &whole(spans))
    }
}

fn whole(spans: &[Span]) -> Vec<Pieces> {
    let piece = |span: &Span| Pieces { start: span.start, count: 1, length: span.length, last: span.length };
    spans.iter().map(piece).collect()
}

impl PooledAttention for CrossAttention {
    fn queries(&self) -> &Tensor {
        &self.weights.queries
    }

    fn keys(&self, states: &Tensor) -> Tensor {
        let low = |tensor: &Tensor| self.precision.operand(tensor);
        widened(low(states).linear::<Tensor>(&low(&self.weights.key), None))
    }

    fn values(&self, states: &Tensor) -> Tensor {
        let low = |tensor: &Tensor| self.precision.operand(tensor);
        widened(low(states).linear(&low(&self.weights.value), Some(&low(&self.weights.value_bias))))
    }

    fn per_label(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    fn score(&self, pooled: &Tensor, _rows: &[Tensor]) -> Tensor {
        let weights = &self.weights;
        let normed = pooled.layer_norm(
            weights.norm.size(),
            Some(&weights.norm),
            Some(&weights.norm_bias),
            EPSILON,
            false,
        );
        normed.linear(&weights.output, Some(&weights.output_bias)).squeeze_dim(-1)
    }

    fn scale(&self) -> f64 {
        self.scale
    }

    fn precision(&self) -> Precision {
        self.precision
    }
}

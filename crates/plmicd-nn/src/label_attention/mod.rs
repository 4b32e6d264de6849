//! Label attention of LAAT as PLM-ICD uses it (Vu et al. 2020, section 3.3; PLM-ICD, equations 4 to 6): each label
//! weighs the states of all tokens of a note and is scored on the weighted mean.
//!
//! `Z = tanh(V H)`, `A = softmax(W Z)` over tokens, `logit = <O, A H> + b`, with `V` [D,D] (`first_linear`), `W` [Y,D]
//! (`second_linear`), `O` [Y,D] and `b` [Y] (`third_linear`).

mod given_gradient;
mod one_pass;
mod r_drop;

use tch::Tensor;

use crate::config::Projection;
use crate::parameters::{Init, ParameterStore};
use crate::precision::{Precision, widened};
use crate::segment::Span;

pub use one_pass::OnePass;
pub(crate) use one_pass::{block_bytes, blocks};
pub use r_drop::TwoPasses;

/// The weights of the label attention.
#[derive(Debug)]
pub struct LabelAttention {
    /// `V` [D,D]; absent when token states meet the queries as they are.
    first: Option<Tensor>,
    /// `W` [Y,D], the label queries.
    second: Tensor,
    /// `O` [Y,D], the output vectors.
    third: Tensor,
    /// `b` [Y].
    bias: Tensor,
    precision: Precision,
}

impl LabelAttention {
    pub(crate) fn new(
        store: &mut ParameterStore,
        hidden_size: i64,
        num_labels: i64,
        projection: Projection,
    ) -> LabelAttention {
        let mut add = |name: &str, shape: &[i64], init| store.add(name, shape, init, true);
        LabelAttention {
            first: match projection {
                Projection::Tanh => {
                    Some(add("first_linear.weight", &[hidden_size, hidden_size], Init::Normal))
                }
                Projection::Identity => None,
            },
            second: add("second_linear.weight", &[num_labels, hidden_size], Init::Normal),
            third: add("third_linear.weight", &[num_labels, hidden_size], Init::Normal),
            bias: add("third_linear.bias", &[num_labels], Init::Zeros),
            precision: Precision::default(),
        }
    }

    /// Label attention with given weights: `first` [D,D] or none, `second` and `third` [Y,D], `bias` [Y].
    pub fn from_weights(
        first: Option<Tensor>,
        second: Tensor,
        third: Tensor,
        bias: Tensor,
    ) -> LabelAttention {
        LabelAttention { first, second, third, bias, precision: Precision::default() }
    }

    /// Chooses the number format of the matrix products; what they are added up in stays fp32.
    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// The number format of the matrix products.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Number of labels, Y.
    pub fn num_labels(&self) -> i64 {
        self.bias.size()[0]
    }

    /// The label queries `W` [Y,D].
    pub(crate) fn queries(&self) -> &Tensor {
        &self.second
    }

    /// The output vectors `O` [Y,D].
    pub(crate) fn outputs(&self) -> &Tensor {
        &self.third
    }

    /// The biases `b` [Y].
    pub(crate) fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The attention weights [Y,T] of one note with states [T,D].
    pub fn attention(&self, states: &Tensor) -> Tensor {
        self.second.matmul(&self.project(states).transpose(0, 1)).softmax(-1, None)
    }

    /// Logits [B,Y] written out in differentiable operations, to test and to measure the one-pass path against.
    /// `states` [R,D] are the flattened states of a batch, of which note `i` reads `spans[i]`.
    pub fn logits_reference(&self, states: &Tensor, spans: &[Span]) -> Tensor {
        let rows: Vec<Tensor> = spans
            .iter()
            .map(|span| {
                let states = states.narrow(0, span.start, span.length);
                let pooled = self.attention(&states).matmul(&states);
                (pooled * &self.third).sum_dim_intlist(-1, false, None) + &self.bias
            })
            .collect();
        Tensor::stack(&rows, 0)
    }

    /// `Z` [R,D], what the queries meet, of states [R,D].
    pub(crate) fn project(&self, states: &Tensor) -> Tensor {
        match &self.first {
            Some(first) => {
                let product = self.low(states).linear::<Tensor>(&self.low(first), None);
                widened(product).tanh()
            }
            None => states.shallow_clone(),
        }
    }
    /// `tensor` in the number format of matrix products.
    fn low(&self, tensor: &Tensor) -> Tensor {
        self.precision.operand(tensor)
    }
}

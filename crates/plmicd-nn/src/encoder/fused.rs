//! The encoder on the CPU, each part of a layer one operation, over rows of tokens: padding may be left out, weights in
//! bf16 are made once for many calls.

use std::cell::RefCell;

use plmicd_torch::{Attention, Dropout, EmbeddingTables, FeedForward, Norm, Projections};
use tch::{Device, Kind, Tensor};

use super::{Embeddings, Encoder, Layer};
use crate::config::{HiddenAct, ModelType, Padding};
use crate::layers::LayerNorm;
use crate::self_attention::AttentionPath;
use crate::{NnError, Precision};

/// The weights of a layer's matrix products in bf16.
#[derive(Debug)]
struct LowLayer {
    /// Queries, keys and values one above the other [3D,D], and their biases [3D].
    attention: (Tensor, Tensor),
    attention_output: Tensor,
    intermediate: Tensor,
    output: Tensor,
}

/// Weights in bf16, where they are held from one call to the next.
#[derive(Debug, Default)]
pub(super) struct LowWeights(RefCell<Option<Vec<LowLayer>>>);

/// The tokens of a batch of segments as rows.
struct Rows {
    ids: Tensor,
    places: Tensor,
    /// Row numbers at which segments begin, and the number of rows.
    bounds: Vec<i64>,
    /// Where the rows lie among all tokens, where padding was left out.
    index: Option<Tensor>,
}

impl Encoder {
    /// Whether this module computes a forward pass of these. Padding that has to be computed is left to libtorch's
    /// attention, whose rounding in segments of nothing but padding is the published one.
    pub(super) fn is_fused(&self, ids: &Tensor, mask: &Tensor) -> bool {
        let computes = || self.leaves_padding_out || i64::try_from(mask.min()).is_ok_and(|least| least > 0);
        self.can_fuse(ids.device()) && computes()
    }

    /// Whether this module computes every forward pass of a model of this padding.
    pub(crate) fn always_fuses(&self, padding: Padding, device: Device) -> bool {
        self.can_fuse(device) && padding == Padding::Mask
    }

    fn can_fuse(&self, device: Device) -> bool {
        self.compute.attention_path == AttentionPath::Fused
            && self.config.hidden_act == HiddenAct::Gelu
            && plmicd_torch::fused_layers(device)
    }

    /// Leaves the states of padding out: they are 0 then, and cost nothing. Right where nothing reads them.
    pub(crate) fn leave_padding_out(&mut self, leave_out: bool) {
        self.leaves_padding_out = leave_out;
    }

    /// Makes the bf16 copies of the weights that the coming calls need. Whoever changes weights in between has to call
    /// it again, or [`Encoder::release_low`].
    pub(crate) fn hold_low(&self) {
        let is_read = plmicd_torch::fused_layers(self.embeddings.device());
        let low = (is_read && self.compute.precision == Precision::Bf16).then(|| self.low_layers());
        *self.low.0.borrow_mut() = low;
    }

    /// Frees what [`Encoder::hold_low`] made.
    pub(crate) fn release_low(&self) {
        *self.low.0.borrow_mut() = None;
    }

    fn low_layers(&self) -> Vec<LowLayer> {
        let low = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
        let stacked = |parts: [&Tensor; 3]| low(&Tensor::cat(&parts, 0));
        tch::no_grad(|| {
            let layers = self.layers.iter().map(|layer| LowLayer {
                attention: (
                    stacked(layer.attention.linears().map(|linear| linear.weight())),
                    stacked(layer.attention.linears().map(|linear| linear.bias())),
                ),
                attention_output: low(layer.attention_output.weight()),
                intermediate: low(layer.intermediate.weight()),
                output: low(layer.output.weight()),
            });
            layers.collect()
        })
    }

    /// [`Encoder::forward`]; `each` is given the states after the embeddings and after every layer, as [N,C,D].
    pub(super) fn forward_fused(
        &self,
        ids: &Tensor,
        mask: &Tensor,
        dropout: &Dropout,
        mut each: impl FnMut(&dyn Fn() -> Tensor),
    ) -> Result<Tensor, NnError> {
        let (n, c) = ids.size2()?;
        let rows = self.rows(ids, mask)?;
        let held = self.low.0.borrow();
        let own;
        let low = match (self.compute.precision, held.as_ref()) {
            (Precision::Bf16, Some(held)) => Some(held),
            (Precision::Bf16, None) => {
                own = self.low_layers();
                Some(&own)
            }
            _ => None,
        };
        let mut states = self.embeddings.forward_rows(&rows, dropout)?;
        let mut narrow = self.compute.precision.operand(&states);
        each(&|| rows.spread(&states, n, c));
        for (at, layer) in self.layers.iter().enumerate() {
            let low = low.map(|layers| &layers[at]);
            (states, narrow) = layer.forward_rows(&states, &narrow, &rows, dropout, low)?;
            each(&|| rows.spread(&states, n, c));
        }
        Ok(rows.spread(&states, n, c))
    }

    fn rows(&self, ids: &Tensor, mask: &Tensor) -> Result<Rows, NnError> {
        tch::no_grad(|| {
            let (n, c) = ids.size2()?;
            let lengths = Vec::<i64>::try_from(mask.sum_dim_intlist(1, false, Kind::Int64))?;
            let places = self.embeddings.places(ids).reshape([-1]);
            let flat = ids.reshape([-1]);
            if lengths.iter().all(|&length| length == c) {
                return Ok(Rows {
                    ids: flat.contiguous(),
                    places: places.contiguous(),
                    bounds: (0..=n).map(|segment| segment * c).collect(),
                    index: None,
                });
            }
            let mut bounds = vec![0];
            let mut index = Vec::with_capacity((n * c) as usize);
            for (segment, &length) in (0..).zip(&lengths) {
                index.extend((0..length).map(|token| segment * c + token));
                if length > 0 {
                    bounds.push(index.len() as i64);
                }
            }
            let index = Tensor::from_slice(&index).to_device(ids.device());
            Ok(Rows {
                ids: flat.index_select(0, &index),
                places: places.index_select(0, &index),
                bounds,
                index: Some(index),
            })
        })
    }
}

impl Rows {
    /// States of the rows [R,D] as [N,C,D], those of padding that was left out 0.
    fn spread(&self, states: &Tensor, n: i64, c: i64) -> Tensor {
        let size = states.size()[1];
        let all = match &self.index {
            None => states.shallow_clone(),
            Some(index) => {
                states.new_zeros([n * c, size], (states.kind(), states.device())).index_copy(0, index, states)
            }
        };
        all.view([n, c, size])
    }
}

impl Embeddings {
    /// Which position embedding each token of `ids` [N,C] takes.
    fn places(&self, ids: &Tensor) -> Tensor {
        match self.model_type {
            ModelType::Bert => Tensor::arange(ids.size()[1], (Kind::Int64, ids.device())).expand_as(ids),
            _ => self.roberta_positions(ids),
        }
    }

    fn forward_rows(&self, rows: &Rows, dropout: &Dropout) -> Result<Tensor, NnError> {
        let tables = EmbeddingTables {
            words: &self.word,
            positions: &self.position,
            types: &self.token_type,
            word_pad: Some(self.pad_token_id),
            position_pad: (self.model_type == ModelType::Roberta).then_some(self.pad_token_id),
        };
        let sums = plmicd_torch::embedding(&tables, &rows.ids, &rows.places)?;
        Ok(dropout.apply(&self.norm.forward(&sums), self.dropout))
    }
}

impl Layer {
    /// The layer's states [R,D] in fp32 and as operands of matrix products, from the same of the layer below.
    fn forward_rows(
        &self,
        x: &Tensor,
        narrow: &Tensor,
        rows: &Rows,
        dropout: &Dropout,
        low: Option<&LowLayer>,
    ) -> Result<(Tensor, Tensor), NnError> {
        let linears = self.attention.linears();
        let qkv = plmicd_torch::projections(
            narrow,
            &Projections {
                weights: &linears.map(|linear| linear.weight()),
                biases: &linears.map(|linear| linear.bias()),
                low_weight: low.map(|low| &low.attention.0),
                low_bias: low.map(|low| &low.attention.1),
            },
        )?;
        let context = plmicd_torch::attention(
            &qkv,
            &Attention {
                bounds: &rows.bounds,
                heads: self.attention.heads(),
                mask: None,
                dropout: self.attention.dropout(),
            },
            dropout,
        )?;
        let context = plmicd_torch::projections(
            &context,
            &Projections {
                weights: &[self.attention_output.weight()],
                biases: &[],
                low_weight: low.map(|low| &low.attention_output),
                low_bias: None,
            },
        )?;
        let (attended, narrow) =
            self.norm(&context, self.attention_output.bias(), x, &self.attention_norm, dropout)?;
        let output = plmicd_torch::feed_forward(
            &narrow,
            &FeedForward {
                first: self.intermediate.weight(),
                bias: self.intermediate.bias(),
                second: self.output.weight(),
                low: low.map(|low| (&low.intermediate, &low.output)),
            },
        )?;
        self.norm(&output, self.output.bias(), &attended, &self.output_norm, dropout)
    }

    /// LayerNorm of the residual and what was computed from it, in fp32 and as an operand of matrix products.
    fn norm(
        &self,
        x: &Tensor,
        bias: &Tensor,
        residual: &Tensor,
        norm: &LayerNorm,
        dropout: &Dropout,
    ) -> Result<(Tensor, Tensor), NnError> {
        let call = Norm {
            bias,
            gamma: norm.weight(),
            beta: norm.bias(),
            epsilon: norm.epsilon(),
            dropout: self.dropout,
        };
        let (wide, low) = plmicd_torch::norm(x, residual, &call, dropout)?;
        let narrow = low.unwrap_or_else(|| wide.shallow_clone());
        Ok((wide, narrow))
    }
}

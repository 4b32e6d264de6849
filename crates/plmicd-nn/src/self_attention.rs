use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

use crate::EncoderConfig;
use crate::layers::Linear;
use crate::parameters::ParameterStore;
use crate::precision::widened;

/// How self-attention is computed. Both give the same up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionPath {
    /// Each part of a layer as one operation on the CPU, libtorch's fused attention elsewhere.
    #[default]
    Fused,
    /// Written out in single operations, to test and measure the other against.
    Reference,
}

/// The lowest finite bf16: below it a mask would become minus infinity, and a row of padding alone NaN.
pub(crate) const LOWEST_BF16: f64 = -3.389_531_389_251_535_5e38;

/// Multi-head self-attention without its output layer (Vaswani et al. 2017, section 3.2.2).
#[derive(Debug)]
pub(crate) struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    heads: i64,
    dropout: f64,
}

impl SelfAttention {
    pub fn new(store: &mut ParameterStore, path: &str, config: &EncoderConfig) -> SelfAttention {
        let size = config.hidden_size;
        let mut linear = |name| Linear::new(store, &format!("{path}.{name}"), size, size);
        SelfAttention {
            query: linear("query"),
            key: linear("key"),
            value: linear("value"),
            heads: config.num_attention_heads,
            dropout: config.attention_probs_dropout_prob,
        }
    }

    /// Projections to queries, keys and values.
    pub fn linears(&self) -> [&Linear; 3] {
        [&self.query, &self.key, &self.value]
    }

    /// Number of heads, H.
    pub fn heads(&self) -> i64 {
        self.heads
    }

    /// Share of the attention weights that is dropped in training.
    pub fn dropout(&self) -> f64 {
        self.dropout
    }

    /// `x` [N,C,D]; fp32 or bf16; `mask` [N,1,1,C] fp32 is added to the scores. Returns [N,C,D] like `x`.
    pub fn forward(&self, x: &Tensor, mask: &Tensor, dropout: &Dropout, path: AttentionPath) -> Tensor {
        let (n, c, d) = x.size3().expect("states are [N,C,D]");
        let head_size = d / self.heads;
        let split = |linear: &Linear| linear.forward(x).view([n, c, self.heads, head_size]).transpose(1, 2);
        let (query, key, value) = (split(&self.query), split(&self.key), split(&self.value));
        // On the CPU libtorch's fused kernels do not drop: what drops there is written out.
        let drops = dropout.is_on() && self.dropout > 0.0;
        let context = if path == AttentionPath::Fused && (!drops || x.device() != Device::Cpu) {
            let p = dropout.share_in_operation(self.dropout, x.device());
            let mask = match x.kind() {
                Kind::BFloat16 => mask.clamp_min(LOWEST_BF16).to_kind(Kind::BFloat16),
                _ => mask.shallow_clone(),
            };
            Tensor::scaled_dot_product_attention(&query, &key, &value, Some(mask), p, false, None, false)
        } else {
            let products = widened(query.matmul(&key.transpose(-1, -2)));
            let weights = (products / (head_size as f64).sqrt() + mask).softmax(-1, None);
            dropout.apply(&weights, self.dropout).to_kind(x.kind()).matmul(&value)
        };
        context.transpose(1, 2).reshape([n, c, d])
    }
}

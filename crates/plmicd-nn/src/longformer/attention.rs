//! Attention through a sliding window with one global token (Beltagy et al. 2020, section 3.1).
//!
//! A token sees the `w` tokens before it, itself, the `w` after it, and the first token of the sequence; the first
//! token sees all, with projections of its own. In the fused path queries come in blocks of `w`, each with the three
//! blocks of keys that its window can touch: memory is that of 3w + 1 keys a query, whatever the length.

use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

use crate::EncoderConfig;
use crate::layers::Linear;
use crate::parameters::ParameterStore;
use crate::precision::widened;
use crate::self_attention::{AttentionPath, LOWEST_BF16};

/// Who sees whom in a batch of sequences, the same in every layer.
pub(super) struct Reach {
    /// Tokens seen on each side, w. The length C of the sequences is a multiple of it.
    side: i64,
    path: AttentionPath,
    /// Added to the scores of the window: [N*C/w,1,w,1+3w] of 0 and the lowest number, the first column being the
    /// global token's; in the reference path [N,1,C,C].
    local: Tensor,
    /// Added to the scores of the global token: [N,1,1,C].
    global: Tensor,
    /// 1 for tokens, 0 for padding: [N,C,1].
    tokens: Tensor,
}

impl Reach {
    /// `mask` [N,C] fp32 of ones and zeros.
    pub fn new(mask: &Tensor, side: i64, path: AttentionPath) -> Reach {
        tch::no_grad(|| {
            let local = match path {
                AttentionPath::Fused => windows(mask, side),
                AttentionPath::Reference => dense(mask, side),
            };
            let global = hidden_where_zero(mask).unsqueeze(1).unsqueeze(1);
            Reach { side, path, local, global, tokens: mask.unsqueeze(-1) }
        })
    }
}

/// 0 where `seen` is 1, the lowest number where it is 0. A row never holds nothing else: the global token is seen by
/// all.
fn hidden_where_zero(seen: &Tensor) -> Tensor {
    let hidden: Tensor = 1.0 - seen;
    hidden * f64::from(f32::MIN)
}

fn range(length: i64, device: Device) -> Tensor {
    Tensor::arange(length, (Kind::Int64, device))
}

/// The mask of blocks of `w` queries against the keys of three blocks.
fn windows(mask: &Tensor, w: i64) -> Tensor {
    let (n, c) = mask.size2().expect("a mask is [N,C]");
    let blocks = c / w;
    // Key `j` of a window stands `j - w` after the block's first token; query `i` reaches from `i - w` to `i + w`.
    let from_query = range(3 * w, mask.device()).unsqueeze(0) - range(w, mask.device()).unsqueeze(1);
    let near = from_query.ge(0i64).logical_and(&from_query.le(2 * w)).to_kind(Kind::Float);
    // The first token is counted among the global ones, not in the window.
    let keys = mask.copy();
    let _ = keys.narrow(1, 0, 1).zero_();
    let keys = neighbourhoods(&keys.unsqueeze(-1), w).view([n * blocks, 1, 3 * w]);
    let seen = keys * near.unsqueeze(0);
    let global = Tensor::ones([n * blocks, w, 1], (Kind::Float, mask.device()));
    hidden_where_zero(&Tensor::cat(&[global, seen], -1)).unsqueeze(1)
}

/// The mask of every query against every key.
fn dense(mask: &Tensor, w: i64) -> Tensor {
    let c = mask.size()[1];
    let places = range(c, mask.device());
    let distance = (places.unsqueeze(0) - places.unsqueeze(1)).abs();
    let seen = distance.le(w).logical_or(&places.unsqueeze(0).eq(0i64)).to_kind(Kind::Float);
    hidden_where_zero(&(seen.unsqueeze(0) * mask.unsqueeze(1))).unsqueeze(1)
}

/// For each block of `w` rows of `x` [N,C,F] the rows of the block before, its own and the one after, zeros beyond the
/// ends: [N,C/w,3w,F].
fn neighbourhoods(x: &Tensor, w: i64) -> Tensor {
    let (n, c, f) = x.size3().expect("rows are [N,C,F]");
    let padded = x.constant_pad_nd([0, 0, w, w]);
    let shifted: Vec<Tensor> =
        (0..3).map(|step| padded.narrow(1, step * w, c).reshape([n, c / w, w, f])).collect();
    Tensor::cat(&shifted, 2)
}

/// Sliding-window attention without its output layer.
#[derive(Debug)]
pub(super) struct SlidingAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    query_global: Linear,
    key_global: Linear,
    value_global: Linear,
    heads: i64,
    dropout: f64,
}

impl SlidingAttention {
    pub fn new(store: &mut ParameterStore, path: &str, config: &EncoderConfig) -> SlidingAttention {
        let size = config.hidden_size;
        let mut linear = |name| Linear::new(store, &format!("{path}.{name}"), size, size);
        SlidingAttention {
            query: linear("query"),
            key: linear("key"),
            value: linear("value"),
            query_global: linear("query_global"),
            key_global: linear("key_global"),
            value_global: linear("value_global"),
            heads: config.num_attention_heads,
            dropout: config.attention_probs_dropout_prob,
        }
    }

    /// `x` [N,C,D], fp32 or bf16; returns the same.
    pub fn forward(&self, x: &Tensor, reach: &Reach, dropout: &Dropout) -> Tensor {
        let c = x.size()[1];
        let local = match reach.path {
            AttentionPath::Fused => self.windowed(x, reach, dropout),
            AttentionPath::Reference => {
                let [query, key, value] =
                    [&self.query, &self.key, &self.value].map(|linear| self.split(&linear.forward(x)));
                joined(&self.attend(&query, &key, &value, &reach.local, 1, dropout, reach.path))
            }
        };
        // As published, padding gathers nothing.
        let local = local * reach.tokens.to_kind(x.kind());
        let query = self.split(&self.query_global.forward(&x.narrow(1, 0, 1)));
        let [key, value] =
            [&self.key_global, &self.value_global].map(|linear| self.split(&linear.forward(x)));
        let global = joined(&self.attend(&query, &key, &value, &reach.global, 1, dropout, reach.path));
        Tensor::cat(&[global, local.narrow(1, 1, c - 1)], 1)
    }

    fn windowed(&self, x: &Tensor, reach: &Reach, dropout: &Dropout) -> Tensor {
        let (n, c, d) = x.size3().expect("states are [N,C,D]");
        let blocks = c / reach.side;
        let query = self.query.forward(x).view([n * blocks, reach.side, d]);
        let surroundings = |linear: &Linear| {
            let all = linear.forward(x);
            let first = all.narrow(1, 0, 1).unsqueeze(1).expand([n, blocks, 1, d], false);
            Tensor::cat(&[first, neighbourhoods(&all, reach.side)], 2).view([n * blocks, -1, d])
        };
        let (key, value) = (self.split(&surroundings(&self.key)), self.split(&surroundings(&self.value)));
        let context =
            self.attend(&self.split(&query), &key, &value, &reach.local, blocks, dropout, reach.path);
        joined(&context).view([n, c, d])
    }

    /// [M,T,D] -> [M,H,T,D/H].
    fn split(&self, x: &Tensor) -> Tensor {
        let (m, t, d) = x.size3().expect("states are [M,T,D]");
        x.view([m, t, self.heads, d / self.heads]).transpose(1, 2)
    }

    /// Attention of heads side by side [M,H,T,D/H], `windows` of which belong to a note; `mask` is added to the scores.
    fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        mask: &Tensor,
        windows: i64,
        dropout: &Dropout,
        path: AttentionPath,
    ) -> Tensor {
        let kind = query.kind();
        let drops = dropout.is_on() && self.dropout > 0.0;
        if path == AttentionPath::Fused && (!drops || query.device() != Device::Cpu) {
            let p = dropout.share_in_operation(self.dropout, query.device());
            let mask = match kind {
                Kind::BFloat16 => mask.clamp_min(LOWEST_BF16).to_kind(Kind::BFloat16),
                _ => mask.shallow_clone(),
            };
            return Tensor::scaled_dot_product_attention(
                query,
                key,
                value,
                Some(mask),
                p,
                false,
                None,
                false,
            );
        }
        let scale = (query.size()[3] as f64).sqrt();
        let products = widened(query.matmul(&key.transpose(-1, -2)));
        let weights = (products / scale + mask).softmax(-1, None);
        dropout.apply_in_windows(&weights, self.dropout, windows).to_kind(kind).matmul(value)
    }
}

/// [M,H,T,D/H] -> [M,T,D].
fn joined(x: &Tensor) -> Tensor {
    let (m, h, t, d) = x.size4().expect("heads are [M,H,T,D/H]");
    x.transpose(1, 2).reshape([m, t, h * d])
}

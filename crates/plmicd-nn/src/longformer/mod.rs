//! Longformer (Beltagy et al. 2020): RoBERTa whose tokens see a window around them and the first token of the note,
//! which sees all. The cost of a note grows with its length, not with its square.

mod attention;

use plmicd_torch::Dropout;
use tch::{Kind, Tensor};

use crate::config::{EncoderConfig, HiddenAct};
use crate::encoder::Embeddings;
use crate::layers::{LayerNorm, Linear};
use crate::parameters::ParameterStore;
use crate::precision::{Precision, widened};
use crate::self_attention::AttentionPath;

use attention::{Reach, SlidingAttention};

/// A Longformer without pooler and language-model head; the first token of a sequence is the only global one, as in
/// the published PLM-ICD code.
#[derive(Debug)]
pub struct Longformer {
    config: EncoderConfig,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    window: i64,
    path: AttentionPath,
    precision: Precision,
}

impl Longformer {
    /// `window` is the number of tokens around its own that a token sees, half of them on each side: even.
    pub(crate) fn new(store: &mut ParameterStore, config: &EncoderConfig, window: i64) -> Longformer {
        let root = config.model_type.as_str();
        Longformer {
            config: config.clone(),
            embeddings: Embeddings::new(store, &format!("{root}.embeddings"), config),
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::new(store, &format!("{root}.encoder.layer.{index}"), config))
                .collect(),
            window,
            path: AttentionPath::default(),
            precision: Precision::default(),
        }
    }

    /// What it was built from.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Tokens that a token sees around its own.
    pub(crate) fn window(&self) -> i64 {
        self.window
    }

    pub(crate) fn set_attention_path(&mut self, path: AttentionPath) {
        self.path = path;
    }

    /// The number format of the layers' matrix products.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// Last-layer states [N,C,D] of token ids `ids` [N,C] (i64), of which those with `mask` [N,C] 0 are padding. The
    /// first token of a sequence must not be padding.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor, dropout: &Dropout) -> Tensor {
        self.states(ids, mask, dropout, &mut |_| {})
    }

    /// The embeddings and the states after each layer, `num_hidden_layers + 1` tensors [N,C,D], without dropout.
    pub fn hidden_states(&self, ids: &Tensor, mask: &Tensor) -> Vec<Tensor> {
        let length = ids.size()[1];
        let mut all = Vec::new();
        let _ = self.states(ids, mask, &Dropout::off(), &mut |states| all.push(states.narrow(1, 0, length)));
        all
    }

    fn states(
        &self,
        ids: &Tensor,
        mask: &Tensor,
        dropout: &Dropout,
        visit: &mut dyn FnMut(&Tensor),
    ) -> Tensor {
        // The window slides in whole steps: what lacks to the next is padding, seen by nobody.
        let length = ids.size()[1];
        let lacking = (self.window - length % self.window) % self.window;
        let ids = ids.pad([0, lacking], "constant", self.config.pad_token_id as f64);
        let mask = mask.to_kind(Kind::Float).constant_pad_nd([0, lacking]);
        let reach = Reach::new(&mask, self.window / 2, self.path);
        let mut states = self.embeddings.forward(&ids, dropout);
        visit(&states);
        for layer in &self.layers {
            states = layer.forward(&states, &reach, dropout, self.precision);
            visit(&states);
        }
        states.narrow(1, 0, length)
    }
}

/// A post-LayerNorm transformer layer, as BERT's but for its attention.
#[derive(Debug)]
struct Layer {
    attention: SlidingAttention,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    activation: HiddenAct,
    dropout: f64,
}

impl Layer {
    fn new(store: &mut ParameterStore, path: &str, config: &EncoderConfig) -> Layer {
        let (size, wide, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attended = format!("{path}.attention.output");
        Layer {
            attention: SlidingAttention::new(store, &format!("{path}.attention.self"), config),
            attention_output: Linear::new(store, &format!("{attended}.dense"), size, size),
            attention_norm: LayerNorm::new(store, &format!("{attended}.LayerNorm"), size, epsilon),
            intermediate: Linear::new(store, &format!("{path}.intermediate.dense"), size, wide),
            output: Linear::new(store, &format!("{path}.output.dense"), wide, size),
            output_norm: LayerNorm::new(store, &format!("{path}.output.LayerNorm"), size, epsilon),
            activation: config.hidden_act,
            dropout: config.hidden_dropout_prob,
        }
    }

    fn forward(&self, x: &Tensor, reach: &Reach, dropout: &Dropout, precision: Precision) -> Tensor {
        let operand = |tensor: &Tensor| precision.operand(tensor);
        let context = self.attention.forward(&operand(x), reach, dropout);
        let attended = dropout.apply(&widened(self.attention_output.forward(&context)), self.dropout);
        let attended = self.attention_norm.forward(&(attended + x));
        let wide = self.activation.apply(&self.intermediate.forward(&operand(&attended)));
        let output = dropout.apply(&widened(self.output.forward(&wide)), self.dropout);
        self.output_norm.forward(&(output + attended))
    }
}

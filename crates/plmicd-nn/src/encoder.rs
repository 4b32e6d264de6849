mod fused;

use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

use crate::config::{EncoderConfig, HiddenAct, MaskConstant, ModelType};
use crate::layers::{LayerNorm, Linear};
use crate::parameters::{Init, ParameterStore};
use crate::precision::{Precision, widened};
use crate::self_attention::{AttentionPath, SelfAttention};
use fused::LowWeights;

/// BERT (Devlin et al. 2019) or RoBERTa (Liu et al. 2019) without pooler and language-model head: post-LayerNorm
/// transformer layers over learnt word, position and type embeddings.
#[derive(Debug)]
pub struct Encoder {
    config: EncoderConfig,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    mask_constant: MaskConstant,
    compute: Compute,
    leaves_padding_out: bool,
    low: LowWeights,
}

/// How a forward pass is computed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compute {
    pub attention_path: AttentionPath,
    pub precision: Precision,
}

impl Encoder {
    pub(crate) fn new(
        store: &mut ParameterStore,
        config: &EncoderConfig,
        mask_constant: MaskConstant,
    ) -> Encoder {
        let root = config.model_type.as_str();
        Encoder {
            config: config.clone(),
            embeddings: Embeddings::new(store, &format!("{root}.embeddings"), config),
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::new(store, &format!("{root}.encoder.layer.{index}"), config))
                .collect(),
            mask_constant,
            compute: Compute::default(),
            leaves_padding_out: false,
            low: LowWeights::default(),
        }
    }

    /// What it was built from.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The word embeddings [V,D], which a language-model head shares.
    pub(crate) fn word_embeddings(&self) -> &Tensor {
        &self.embeddings.word
    }

    /// Chooses how self-attention is computed.
    pub fn set_attention_path(&mut self, path: AttentionPath) {
        self.compute.attention_path = path;
    }

    /// Chooses the number format of the layers' matrix products. States between layers stay fp32.
    pub fn set_precision(&mut self, precision: Precision) {
        self.compute.precision = precision;
        self.release_low();
    }

    /// The number format of the layers' matrix products.
    pub(crate) fn precision(&self) -> Precision {
        self.compute.precision
    }

    /// Last-layer states [N,C,D] of token ids `ids` [N,C] (i64), of which those with `mask` [N,C] 0 are padding.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor, dropout: &Dropout) -> Tensor {
        if self.is_fused(ids, mask) {
            return self.forward_fused(ids, mask, dropout, |_| {}).expect("ids and mask are [N,C]");
        }
        let mask = self.additive_mask(mask);
        let embedded = self.embeddings.forward(ids, dropout);
        self.layers
            .iter()
            .fold(embedded, |states, layer| layer.forward(&states, &mask, dropout, self.compute))
    }

    /// The embeddings and the states after each layer, `num_hidden_layers + 1` tensors [N,C,D], without dropout.
    pub fn hidden_states(&self, ids: &Tensor, mask: &Tensor) -> Vec<Tensor> {
        if self.is_fused(ids, mask) {
            let mut states = Vec::new();
            let _ = self
                .forward_fused(ids, mask, &Dropout::off(), |next| states.push(next()))
                .expect("ids and mask are [N,C]");
            return states;
        }
        let mask = self.additive_mask(mask);
        let dropout = Dropout::off();
        let mut states = vec![self.embeddings.forward(ids, &dropout)];
        for layer in &self.layers {
            let next = layer.forward(&states[states.len() - 1], &mask, &dropout, self.compute);
            states.push(next);
        }
        states
    }

    /// [N,C] of ones and zeros -> [N,1,1,C] of zeros and the mask constant.
    fn additive_mask(&self, mask: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let hidden: Tensor = 1.0 - mask.to_kind(Kind::Float);
            (hidden * self.mask_constant.value()).unsqueeze(1).unsqueeze(1)
        })
    }
}

#[derive(Debug)]
pub(crate) struct Embeddings {
    model_type: ModelType,
    pad_token_id: i64,
    word: Tensor,
    position: Tensor,
    token_type: Tensor,
    norm: LayerNorm,
    dropout: f64,
}

impl Embeddings {
    pub fn new(store: &mut ParameterStore, path: &str, config: &EncoderConfig) -> Embeddings {
        let size = config.hidden_size;
        let position_init = match config.model_type {
            ModelType::Bert => Init::Normal,
            ModelType::Roberta | ModelType::Longformer => Init::NormalWithZeroRow(config.pad_token_id),
        };
        let mut table =
            |name: &str, rows, init| store.add(&format!("{path}.{name}.weight"), &[rows, size], init, false);
        Embeddings {
            model_type: config.model_type,
            pad_token_id: config.pad_token_id,
            word: table("word_embeddings", config.vocab_size, Init::NormalWithZeroRow(config.pad_token_id)),
            position: table("position_embeddings", config.max_position_embeddings, position_init),
            token_type: table("token_type_embeddings", config.type_vocab_size, Init::Normal),
            norm: LayerNorm::new(store, &format!("{path}.LayerNorm"), size, config.layer_norm_eps),
            dropout: config.hidden_dropout_prob,
        }
    }

    /// Where they lie.
    pub fn device(&self) -> Device {
        self.word.device()
    }

    pub fn forward(&self, ids: &Tensor, dropout: &Dropout) -> Tensor {
        // The padding rows take no gradient, as in Hugging Face's embeddings.
        let words = Tensor::embedding(&self.word, ids, self.pad_token_id, false, false);
        let positions = match self.model_type {
            ModelType::Bert => self.position.narrow(0, 0, ids.size()[1]).unsqueeze(0),
            ModelType::Roberta | ModelType::Longformer => {
                let positions = self.roberta_positions(ids);
                Tensor::embedding(&self.position, &positions, self.pad_token_id, false, false)
            }
        };
        // Every token is of type 0: notes are single texts.
        let states = words + self.token_type.get(0) + positions;
        dropout.apply(&self.norm.forward(&states), self.dropout)
    }

    /// Tokens count from `pad_token_id + 1` on; padding has position `pad_token_id`.
    fn roberta_positions(&self, ids: &Tensor) -> Tensor {
        let token = ids.not_equal(self.pad_token_id).to_kind(Kind::Int64);
        token.cumsum(1, Kind::Int64) * token + self.pad_token_id
    }
}

#[derive(Debug)]
pub(crate) struct Layer {
    attention: SelfAttention,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    activation: HiddenAct,
    dropout: f64,
}

impl Layer {
    pub fn new(store: &mut ParameterStore, path: &str, config: &EncoderConfig) -> Layer {
        let (size, wide, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        Layer {
            attention: SelfAttention::new(store, &format!("{path}.attention.self"), config),
            attention_output: Linear::new(store, &format!("{path}.attention.output.dense"), size, size),
            attention_norm: LayerNorm::new(
                store,
                &format!("{path}.attention.output.LayerNorm"),
                size,
                epsilon,
            ),
            intermediate: Linear::new(store, &format!("{path}.intermediate.dense"), size, wide),
            output: Linear::new(store, &format!("{path}.output.dense"), wide, size),
            output_norm: LayerNorm::new(store, &format!("{path}.output.LayerNorm"), size, epsilon),
            activation: config.hidden_act,
            dropout: config.hidden_dropout_prob,
        }
    }

    /// `x` [N,C,D]; `mask` [N,1,1,C] is added to the attention scores.
    pub fn forward(&self, x: &Tensor, mask: &Tensor, dropout: &Dropout, compute: Compute) -> Tensor {
        // Matrix products may be bf16; everything that sums or drops is fp32.
        let operand = |tensor: &Tensor| compute.precision.operand(tensor);
        let context = self.attention.forward(&operand(x), mask, dropout, compute.attention_path);
        let attended = dropout.apply(&widened(self.attention_output.forward(&context)), self.dropout);
        let attended = self.attention_norm.forward(&(attended + x));
        let wide = self.activation.apply(&self.intermediate.forward(&operand(&attended)));
        let output = dropout.apply(&widened(self.output.forward(&wide)), self.dropout);
        self.output_norm.forward(&(output + attended))
    }
}

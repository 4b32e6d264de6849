use plmicd_torch::Dropout;
use tch::{Device, Tensor};

use crate::config::{EncoderConfig, ModelConfig, ModelType, Padding};
use crate::encoder::Encoder;
use crate::longformer::Longformer;
use crate::parameters::ParameterStore;
use crate::train_pass::Computed;
use crate::{AttentionPath, Precision};

/// The encoder of a model, of either kind.
#[derive(Debug)]
pub enum NoteEncoder {
    /// BERT or RoBERTa.
    Transformer(Encoder),
    /// Longformer, whose window is the model's `segment_length`.
    Longformer(Longformer),
}

impl NoteEncoder {
    pub(crate) fn new(store: &mut ParameterStore, encoder: &EncoderConfig, config: &ModelConfig) -> Self {
        match encoder.model_type {
            ModelType::Bert | ModelType::Roberta => {
                let mut transformer = Encoder::new(store, encoder, config.mask_constant);
                transformer.leave_padding_out(config.padding == Padding::Mask);
                NoteEncoder::Transformer(transformer)
            }
            ModelType::Longformer => {
                NoteEncoder::Longformer(Longformer::new(store, encoder, config.segment_length as i64))
            }
        }
    }

    /// What it was built from.
    pub fn config(&self) -> &EncoderConfig {
        match self {
            NoteEncoder::Transformer(encoder) => encoder.config(),
            NoteEncoder::Longformer(encoder) => encoder.config(),
        }
    }

    /// Chooses how self-attention is computed.
    pub fn set_attention_path(&mut self, path: AttentionPath) {
        match self {
            NoteEncoder::Transformer(encoder) => encoder.set_attention_path(path),
            NoteEncoder::Longformer(encoder) => encoder.set_attention_path(path),
        }
    }

    /// Chooses the number format of the layers' matrix products. States between layers stay fp32.
    pub fn set_precision(&mut self, precision: Precision) {
        match self {
            NoteEncoder::Transformer(encoder) => encoder.set_precision(precision),
            NoteEncoder::Longformer(encoder) => encoder.set_precision(precision),
        }
    }

    /// The number format of the layers' matrix products.
    pub(crate) fn precision(&self) -> Precision {
        match self {
            NoteEncoder::Transformer(encoder) => encoder.precision(),
            NoteEncoder::Longformer(encoder) => encoder.precision(),
        }
    }

    /// Makes the copies of weights that the coming calls need, where that spares work.
    pub(crate) fn hold_low(&self) {
        if let NoteEncoder::Transformer(encoder) = self {
            encoder.hold_low();
        }
    }

    /// Frees what [`NoteEncoder::hold_low`] made.
    pub(crate) fn release_low(&self) {
        if let NoteEncoder::Transformer(encoder) = self {
            encoder.release_low();
        }
    }

    /// How its layers are computed in training, of a model that has it read `sequence` tokens at once, with this padding: as
    /// far as that is known before a batch is.
    pub(crate) fn computed(&self, padding: Padding, sequence: usize, device: Device) -> Computed {
        let drops = self.config().attention_probs_dropout_prob > 0.0;
        // libtorch's own attention keeps no weights, but drops on a GPU alone.
        let written = |weights: i64| if device == Device::Cpu && drops { weights } else { 0 };
        match self {
            NoteEncoder::Transformer(encoder) if encoder.always_fuses(padding, device) => Computed::Fused,
            NoteEncoder::Transformer(_) => Computed::Singly { weights: written(sequence as i64), copies: 0 },
            // A block of queries sees three of keys and the first token; the first token's keys and values are others.
            NoteEncoder::Longformer(encoder) => {
                Computed::Singly { weights: written(3 * encoder.window() / 2 + 1), copies: 4 }
            }
        }
    }

    /// Last-layer states [N,C,D] of token ids `ids` [N,C] (i64), of which those with `mask` [N,C] 0 are padding.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor, dropout: &Dropout) -> Tensor {
        match self {
            NoteEncoder::Transformer(encoder) => encoder.forward(ids, mask, dropout),
            NoteEncoder::Longformer(encoder) => encoder.forward(ids, mask, dropout),
        }
    }

    /// The embeddings and the states after each layer, `num_hidden_layers + 1` tensors [N,C,D], without dropout.
    pub fn hidden_states(&self, ids: &Tensor, mask: &Tensor) -> Vec<Tensor> {
        match self {
            NoteEncoder::Transformer(encoder) => encoder.hidden_states(ids, mask),
            NoteEncoder::Longformer(encoder) => encoder.hidden_states(ids, mask),
        }
    }
}

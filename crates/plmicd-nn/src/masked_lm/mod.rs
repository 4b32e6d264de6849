//! Masked language modelling (Devlin et al. 2019, section 3.1): an encoder and the head that names hidden tokens.
//!
//! The head is computed for the hidden tokens alone, and some of them at a time: no tokens x vocabulary matrix is
//! kept. `M` is the number of hidden tokens of a batch, `V` the size of the vocabulary.

mod folder;

use plmicd_torch::{Dropout, backward_with_gradient};
use tch::{Device, Kind, Reduction, Tensor};

use crate::config::{EncoderConfig, HiddenAct, MaskConstant, ModelType};
use crate::encoder::Encoder;
use crate::layers::{LayerNorm, Linear};
use crate::parameters::{Init, NamedParameter, ParameterStore};
use crate::precision::{Precision, widened};
use crate::{AttentionPath, NnError};

pub use folder::HeadStart;

/// Logits held at a time: 128 MB in fp32. Changes results by rounding only.
const LOGITS_AT_A_TIME: i64 = 1 << 25;

/// A BERT or RoBERTa encoder with its language-model head, whose decoder is the word embeddings.
#[derive(Debug)]
pub struct MaskedLm {
    encoder: Encoder,
    head: Head,
    parameters: Vec<NamedParameter>,
    device: Device,
    logits_at_a_time: i64,
    precision: Precision,
}

/// The published head: a layer with activation and LayerNorm, then the word embeddings and a bias per token.
#[derive(Debug)]
struct Head {
    dense: Linear,
    activation: HiddenAct,
    norm: LayerNorm,
    bias: Tensor,
}

/// Sequences in which tokens have been hidden.
#[derive(Debug)]
pub struct MaskedBatch {
    /// Token ids as the model sees them [N,C], i64.
    pub ids: Tensor,
    /// 1 for tokens, 0 for padding [N,C], i64.
    pub mask: Tensor,
    /// Places of the tokens to be named in the flattened ids [M], i64, ascending.
    pub positions: Tensor,
    /// What stood there [M], i64.
    pub targets: Tensor,
}

/// How well hidden tokens were named.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MaskedScore {
    /// Sum of the cross-entropies, in nats.
    pub loss_sum: f64,
    /// Tokens whose most probable name is right.
    pub correct: u64,
    /// Hidden tokens.
    pub tokens: u64,
}

impl MaskedLm {
    /// A model with fresh weights: normal with the encoder's `initializer_range`, biases 0, LayerNorm 1 and 0, the
    /// padding token's rows 0. The weights depend on `seed` alone.
    pub fn new(config: &EncoderConfig, seed: u64, device: Device) -> Result<MaskedLm, NnError> {
        config.check().map_err(NnError::Invalid)?;
        if config.model_type == ModelType::Longformer {
            let message =
                "masked language modelling is for \"bert\" and \"roberta\" encoders, not \"longformer\"";
            return Err(NnError::Invalid(message.to_owned()));
        }
        let mut store = ParameterStore::new(seed, config.initializer_range, device);
        // No sequence is all padding, so which constant hides padding makes no difference.
        let encoder = Encoder::new(&mut store, config, MaskConstant::Modern);
        let head = Head::new(&mut store, config);
        let parameters = store.into_parameters();
        let precision = Precision::Fp32;
        Ok(MaskedLm { encoder, head, parameters, device, logits_at_a_time: LOGITS_AT_A_TIME, precision })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Where its weights lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Every trainable tensor, in a fixed order, sharing its memory with the model. The decoder is not among them:
    /// it is the word embeddings.
    pub fn parameters(&self) -> Vec<NamedParameter> {
        self.parameters.iter().map(NamedParameter::shallow_clone).collect()
    }

    /// Chooses how self-attention is computed.
    pub fn set_attention_path(&mut self, path: AttentionPath) {
        self.encoder.set_attention_path(path);
    }

    /// Chooses the number format of the matrix products, the decoder's too. Cross-entropy and its sums stay fp32.
    pub fn set_precision(&mut self, precision: Precision) {
        let precision = precision.prepared(self.device);
        self.encoder.set_precision(precision);
        self.precision = precision;
    }

    /// Sets how many logits are held at a time; at least one token's.
    pub fn set_logits_at_a_time(&mut self, logits: i64) {
        self.logits_at_a_time = logits;
    }

    /// Logits [N,C,V] of every token of `ids` [N,C], without gradients and without dropout.
    pub fn logits(&self, ids: &Tensor, mask: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let states = self.encoder.forward(ids, mask, &Dropout::off());
            self.decode(&self.head.transform(&states, self.precision))
        })
    }

    /// Forward and backward with dropout: adds the gradients of `scale` times the loss to the `.grad` of the
    /// parameters and returns the loss itself, the mean cross-entropy over the hidden tokens in nats: a scalar in double
    /// precision beside the model. What is dropped depends on `seed` alone: give every step its own.
    pub fn train_step(&self, batch: &MaskedBatch, scale: f64, seed: u64) -> Result<Tensor, NnError> {
        let count = hidden(batch)?;
        let states = self.hidden_states(batch, &Dropout::seeded(seed));
        // The decoder's part of the backward pass runs block by block, so that no block's logits outlive it.
        let leaf = states.detach().set_requires_grad(true);
        let mut loss = Tensor::zeros([], (Kind::Double, self.device));
        for (start, length) in self.blocks(count) {
            let sum = self.decode(&leaf.narrow(0, start, length)).cross_entropy_loss::<Tensor>(
                &batch.targets.narrow(0, start, length),
                None,
                Reduction::Sum,
                -100,
                0.0,
            );
            (&sum * (scale / count as f64)).f_backward()?;
            loss += sum.detach();
        }
        backward_with_gradient(&states, &leaf.grad())?;
        Ok(loss / count as f64)
    }

    /// How well the hidden tokens are named, without dropout.
    pub fn score(&self, batch: &MaskedBatch) -> Result<MaskedScore, NnError> {
        let count = hidden(batch)?;
        tch::no_grad(|| {
            let states = self.hidden_states(batch, &Dropout::off());
            let mut loss = Tensor::zeros([], (Kind::Double, self.device));
            let mut correct = Tensor::zeros([], (Kind::Int64, self.device));
            for (start, length) in self.blocks(count) {
                let logits = self.decode(&states.narrow(0, start, length));
                let targets = batch.targets.narrow(0, start, length);
                loss += logits.cross_entropy_loss::<Tensor>(&targets, None, Reduction::Sum, -100, 0.0);
                correct += logits.argmax(1, false).eq_tensor(&targets).sum(Kind::Int64);
            }
            Ok(MaskedScore {
                loss_sum: f64::try_from(loss)?,
                correct: i64::try_from(correct)?.unsigned_abs(),
                tokens: count.unsigned_abs(),
            })
        })
    }

    /// The head's states [M,D] of the hidden tokens.
    fn hidden_states(&self, batch: &MaskedBatch, dropout: &Dropout) -> Tensor {
        let states = self.encoder.forward(&batch.ids, &batch.mask, dropout);
        let hidden = states.flatten(0, 1).index_select(0, &batch.positions);
        self.head.transform(&hidden, self.precision)
    }

    /// Logits [..,V] in fp32 of the head's states [..,D].
    fn decode(&self, states: &Tensor) -> Tensor {
        let operand = |tensor: &Tensor| self.precision.operand(tensor);
        let bias = operand(&self.head.bias);
        widened(operand(states).linear(&operand(self.encoder.word_embeddings()), Some(&bias)))
    }

    /// Stretches (start, length) of `count` hidden tokens that are decoded together.
    fn blocks(&self, count: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        let rows = (self.logits_at_a_time / self.encoder.config().vocab_size).max(1);
        (0..count).step_by(rows as usize).map(move |start| (start, rows.min(count - start)))
    }
}

impl Head {
    fn new(store: &mut ParameterStore, config: &EncoderConfig) -> Head {
        let (size, epsilon) = (config.hidden_size, config.layer_norm_eps);
        let names = names(config.model_type);
        Head {
            dense: Linear::new(store, names.dense, size, size),
            // RoBERTa's head knows no other activation, whatever its layers use.
            activation: match config.model_type {
                ModelType::Bert => config.hidden_act,
                ModelType::Roberta | ModelType::Longformer => HiddenAct::Gelu,
            },
            norm: LayerNorm::new(store, names.norm, size, epsilon),
            bias: store.add(names.bias, &[config.vocab_size], Init::Zeros, false),
        }
    }

    fn transform(&self, states: &Tensor, precision: Precision) -> Tensor {
        let states = self.activation.apply(&self.dense.forward(&precision.operand(states)));
        self.norm.forward(&widened(states))
    }
}

/// Number of hidden tokens, M; a mean over none would be no number.
fn hidden(batch: &MaskedBatch) -> Result<i64, NnError> {
    match batch.positions.size()[0] {
        0 => Err(NnError::Invalid("no token of the batch is hidden".to_owned())),
        count => Ok(count),
    }
}

/// Where the parts of the head lie in published checkpoints.
struct Names {
    dense: &'static str,
    norm: &'static str,
    bias: &'static str,
    /// Copies of the word embeddings and of the bias, which some checkpoints hold.
    decoder: &'static str,
}

fn names(model_type: ModelType) -> Names {
    match model_type {
        ModelType::Bert => Names {
            dense: "cls.predictions.transform.dense",
            norm: "cls.predictions.transform.LayerNorm",
            bias: "cls.predictions.bias",
            decoder: "cls.predictions.decoder",
        },
        ModelType::Roberta | ModelType::Longformer => Names {
            dense: "lm_head.dense",
            norm: "lm_head.layer_norm",
            bias: "lm_head.bias",
            decoder: "lm_head.decoder",
        },
    }
}

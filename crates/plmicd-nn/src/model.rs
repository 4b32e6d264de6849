use plmicd_torch::Dropout;
use tch::{Device, Tensor};

use crate::config::{EncoderConfig, ModelConfig, ModelType, Pooling};
use crate::head::{Head, LabelVectors};
use crate::label_attention::LabelAttention;
use crate::layout::NoteLayout;
use crate::loss::LabelTargets;
use crate::note_encoder::NoteEncoder;
use crate::parameters::{NamedParameter, ParameterStore};
use crate::segment::{SegmentBatch, SpecialTokens};
use crate::{AttentionPath, NnError, Precision};

/// PLM-ICD (Huang et al. 2022) and its variants: an encoder over a note or its segments, and what [`Pooling`] and
/// [`Attention`](crate::Attention) put above it.
#[derive(Debug)]
pub struct PlmIcd {
    config: ModelConfig,
    layout: NoteLayout,
    encoder: NoteEncoder,
    head: Head,
    parameters: Vec<NamedParameter>,
    device: Device,
}

impl PlmIcd {
    /// A model with fresh weights: normal with the encoder's `initializer_range`, biases 0, LayerNorm 1 and 0, the
    /// padding token's rows 0. The weights depend on `seed` alone.
    pub fn new(
        encoder_config: &EncoderConfig,
        config: ModelConfig,
        num_labels: usize,
        seed: u64,
        device: Device,
    ) -> Result<PlmIcd, NnError> {
        check(encoder_config, &config, num_labels)?;
        let mut store = ParameterStore::new(seed, encoder_config.initializer_range, device);
        let encoder = NoteEncoder::new(&mut store, encoder_config, &config);
        let head = Head::new(&mut store, encoder_config, &config, num_labels as i64);
        let layout = NoteLayout::new(&config, encoder_config);
        Ok(PlmIcd { config, layout, encoder, head, parameters: store.into_parameters(), device })
    }

    /// The settings it was built with.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The form of its input.
    pub fn layout(&self) -> &NoteLayout {
        &self.layout
    }

    /// The encoder.
    pub fn encoder(&self) -> &NoteEncoder {
        &self.encoder
    }

    /// LAAT's or CAML's label attention over the whole note, where the model has it.
    pub fn label_attention(&self) -> Option<&LabelAttention> {
        self.head.label_attention()
    }

    /// The weights of label attention that have a row for each label.
    pub(crate) fn label_vectors(&self) -> Option<LabelVectors<'_>> {
        self.head.label_vectors()
    }

    /// Number of labels, Y.
    pub fn num_labels(&self) -> usize {
        self.head.num_labels() as usize
    }

    /// Where its weights lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Every trainable tensor, in a fixed order, sharing its memory with the model.
    pub fn parameters(&self) -> Vec<NamedParameter> {
        self.parameters.iter().map(NamedParameter::shallow_clone).collect()
    }

    /// Chooses how self-attention is computed.
    pub fn set_attention_path(&mut self, path: AttentionPath) {
        self.encoder.set_attention_path(path);
    }

    /// Chooses the number format of the matrix products, in training and scoring alike.
    pub fn set_precision(&mut self, precision: Precision) {
        self.encoder.set_precision(precision);
        self.head.set_precision(precision);
    }

    /// Sets how many labels label attention handles at a time.
    pub fn set_label_block(&mut self, labels: usize) {
        self.config.label_block = labels.max(1);
    }

    /// Frames, cuts and segments the token ids of notes (without special tokens) as the model reads them.
    pub fn batch<T: AsRef<[i32]>>(
        &self,
        notes: &[T],
        specials: &SpecialTokens,
    ) -> Result<SegmentBatch, NnError> {
        self.layout.batch(notes, specials, self.device)
    }

    /// Logits [B,Y] without gradients and without dropout.
    pub fn logits(&self, batch: &SegmentBatch) -> Tensor {
        tch::no_grad(|| {
            let states = self.encoder.forward(&batch.ids, &batch.mask, &Dropout::off());
            self.head.logits(&states, batch, self.config.label_block)
        })
    }

    /// Probabilities [B,Y], fp32, without gradients and without dropout.
    pub fn scores(&self, batch: &SegmentBatch) -> Tensor {
        tch::no_grad(|| self.logits(batch).sigmoid())
    }

    /// Forward and backward with dropout: adds the gradients of `scale` times the loss to the `.grad` of the
    /// parameters and returns the loss itself, the mean over notes and labels. What is dropped depends on `seed`
    /// alone: give every step its own.
    pub fn train_step(
        &self,
        batch: &SegmentBatch,
        truth: &LabelTargets,
        scale: f64,
        seed: u64,
    ) -> Result<f64, NnError> {
        let dropout = Dropout::seeded(seed);
        let states = self.encoder.forward(&batch.ids, &batch.mask, &dropout);
        let pass = self.head.pass(
            &states.detach(),
            batch,
            truth.tensor(),
            self.config.loss,
            scale,
            self.config.label_block,
            &dropout,
        )?;
        plmicd_torch::backward_with_gradient(&states, &pass.grad_states.view_as(&states))?;
        Ok(f64::try_from(pass.loss)?)
    }

    /// The loss as a differentiable tensor through plain autograd, to test and measure [`PlmIcd::train_step`]
    /// against.
    pub fn loss_reference(&self, batch: &SegmentBatch, truth: &LabelTargets, dropout: &Dropout) -> Tensor {
        let states = self.encoder.forward(&batch.ids, &batch.mask, dropout);
        let logits = self.head.logits_reference(&states, batch, dropout);
        self.config.loss.mean(&logits, truth.tensor())
    }
}

fn check(encoder: &EncoderConfig, config: &ModelConfig, num_labels: usize) -> Result<(), NnError> {
    encoder.check().map_err(NnError::Invalid)?;
    let longest = encoder.max_sequence_length();
    if let Some((field, message)) = config.conflict() {
        return Err(NnError::Invalid(format!("{field}: {message}")));
    }
    let whole = config.pooling == Pooling::Whole;
    let wrong = if num_labels == 0 {
        "a model needs at least one label".to_owned()
    } else if encoder.model_type == ModelType::Longformer && !whole {
        format!(
            "pooling = \"{}\" cuts notes, but a Longformer reads them whole: set pooling = \"whole\"",
            config.pooling.as_str()
        )
    } else if encoder.model_type == ModelType::Longformer
        && (config.segment_length == 0 || !config.segment_length.is_multiple_of(2))
    {
        format!(
            "segment_length is {}, but as a Longformer's window it must be even: half of it lies on each side",
            config.segment_length
        )
    } else if !whole && (config.segment_length == 0 || config.segment_length as i64 > longest) {
        format!(
            "segment_length is {}, but the encoder reads 1 to {longest} tokens at a time",
            config.segment_length
        )
    } else if config.pooling.frames_segments() && config.segment_length < 3 {
        format!(
            "segment_length is {}, expected at least 3: a token between start and end token",
            config.segment_length
        )
    } else if config.max_length < 3 {
        format!(
            "max_length is {}, expected at least 3: a token between start and end token",
            config.max_length
        )
    } else {
        return Ok(());
    };
    Err(NnError::Invalid(wrong))
}

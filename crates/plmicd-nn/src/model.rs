use plmicd_torch::{Dropout, derive_seed};
use tch::{Device, Kind, Tensor};

use crate::config::{EncoderConfig, ModelConfig, ModelType, Pooling};
use crate::head::{Head, LabelVectors};
use crate::label_attention::{self, LabelAttention};
use crate::layout::NoteLayout;
use crate::loss::LabelTargets;
use crate::note_encoder::NoteEncoder;
use crate::parameters::{NamedParameter, ParameterStore};
use crate::segment::{SegmentBatch, SpecialTokens};
use crate::train_pass::{self, Group, Pacing, Part, Passes, PhaseTimes, Sizes};
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
    pacing: Pacing,
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
        let parameters = store.into_parameters();
        Ok(PlmIcd { config, layout, encoder, head, parameters, device, pacing: Pacing::default() })
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

    /// Chooses the number format of the matrix products, in training and scoring alike; fp32 until then.
    pub fn set_precision(&mut self, precision: Precision) {
        let precision = precision.prepared(self.device);
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
            // Part by part, so that what lies between layers stays small: large tensors are mapped anew each time.
            let (segments, length) = batch.ids.size2().expect("ids [N,C]");
            let sizes = Sizes::of_scoring(self.device);
            let states = train_pass::parts(segments, length, sizes).into_iter().map(|part| {
                let of = |tensor: &Tensor| tensor.narrow(0, part.first, part.count);
                self.encoder.forward(&of(&batch.ids), &of(&batch.mask), &Dropout::off())
            });
            let states = Tensor::cat(&states.collect::<Vec<_>>(), 0);
            self.head.logits(&states, batch, self.config.label_block)
        })
    }

    /// Probabilities [B,Y], fp32, without gradients and without dropout.
    pub fn scores(&self, batch: &SegmentBatch) -> Tensor {
        tch::no_grad(|| self.logits(batch).sigmoid())
    }

    /// Forward and backward with dropout: adds the gradients of `scale` times the loss to the `.grad` of the
    /// parameters and returns the loss itself, reduced as the settings say: a scalar in double precision beside the
    /// model, for which nothing has waited yet on a GPU. What is dropped depends on `seed` alone: give every step its own.
    pub fn train_step(
        &self,
        batch: &SegmentBatch,
        truth: &LabelTargets,
        scale: f64,
        seed: u64,
    ) -> Result<Tensor, NnError> {
        let expected = [batch.num_notes() as i64, self.num_labels() as i64];
        if truth.tensor().size() != expected {
            return Err(NnError::Invalid(format!(
                "targets of shape {:?} do not fit {} notes and {} labels",
                truth.tensor().size(),
                expected[0],
                expected[1]
            )));
        }
        self.encoder.hold_low();
        let scale = scale * self.loss_factor();
        let loss = match self.config.r_drop > 0.0 {
            true => self.two_passes_over(batch, truth.tensor(), scale, seed),
            false => self.pass_over(batch, truth.tensor(), scale, seed),
        };
        // The weights are about to change.
        self.encoder.release_low();
        Ok(loss?.to_kind(Kind::Double) * self.loss_factor())
    }

    /// The loss of logits [B,Y], reduced as in training: a scalar in double precision.
    pub fn loss(&self, logits: &Tensor, truth: &LabelTargets) -> Tensor {
        self.config.loss.elementwise(logits, truth.tensor()).mean(Kind::Double) * self.loss_factor()
    }

    /// What the mean over notes and labels is multiplied by.
    fn loss_factor(&self) -> f64 {
        self.config.loss_reduction.factor(self.num_labels())
    }

    /// Keeps the embeddings and this many layers of the encoder as they are: they take no gradient, no update and no
    /// weight decay. 0 trains everything. To be called before training begins.
    ///
    /// # Errors
    /// The encoder has fewer layers.
    pub fn freeze_lower_layers(&mut self, layers: usize) -> Result<(), NnError> {
        if layers == 0 {
            return Ok(());
        }
        let has = self.encoder.config().num_hidden_layers;
        if layers as i64 > has {
            return Err(NnError::Invalid(format!("{layers} layers to freeze, but the encoder has {has}")));
        }
        let frozen = |name: &str| match name.split_once(".layer.") {
            Some((_, rest)) => {
                let layer = rest.split('.').next().and_then(|number| number.parse::<usize>().ok());
                layer.is_some_and(|layer| layer < layers)
            }
            None => name.contains(".embeddings."),
        };
        for parameter in self.parameters.iter_mut().filter(|p| !p.is_head && frozen(&p.name)) {
            let _ = parameter.tensor.set_requires_grad(false);
            parameter.decay = false;
        }
        Ok(())
    }

    /// Sets the output biases `b` [Y].
    ///
    /// # Errors
    /// Another number of biases than labels, or a model whose labels share one.
    pub fn set_label_biases(&self, biases: &[f32]) -> Result<(), NnError> {
        if biases.len() != self.num_labels() {
            return Err(NnError::Invalid(format!(
                "{} biases for {} labels",
                biases.len(),
                self.num_labels()
            )));
        }
        let Some(own) = self.label_vectors().and_then(|vectors| vectors.biases) else {
            return Err(NnError::Invalid("the model has no biases of its labels to set".to_owned()));
        };
        let biases = Tensor::from_slice(biases).to_device(self.device);
        tch::no_grad(|| own.shallow_clone().copy_(&biases));
        Ok(())
    }

    /// The mean loss over the notes of a batch.
    fn pass_over(
        &self,
        batch: &SegmentBatch,
        targets: &Tensor,
        scale: f64,
        seed: u64,
    ) -> Result<Tensor, NnError> {
        self.in_groups(batch, targets, [seed], |group, [states]| {
            let own = Dropout::seeded(derive_seed(seed, "head", group.first_segment.unsigned_abs()));
            let (loss, block) = (self.config.loss, self.config.label_block);
            let scale = scale * group.share;
            let pass = self.head.pass(states, &group.notes, &group.targets, loss, scale, block, &own)?;
            Ok(pass.into())
        })
    }

    /// [`PlmIcd::pass_over`] with R-Drop.
    fn two_passes_over(
        &self,
        batch: &SegmentBatch,
        targets: &Tensor,
        scale: f64,
        seed: u64,
    ) -> Result<Tensor, NnError> {
        let head = self
            .head
            .label_attention()
            .ok_or_else(|| NnError::Invalid("R-Drop needs label attention over the whole note".to_owned()))?;
        let seeds = [seed, derive_seed(seed, "r-drop", 1)];
        self.in_groups(batch, targets, seeds, |group, states| {
            let states = states.map(|states| states.flatten(0, 1));
            let passes = head.two_passes(
                states.each_ref(),
                &group.notes.spans,
                &group.targets,
                self.config.loss,
                self.config.r_drop,
                scale * group.share,
                self.config.label_block,
            )?;
            Ok(Passes { loss: passes.loss, grad_states: passes.grad_states })
        })
    }

    /// The mean loss over the notes of a batch, which go through the model in groups, `P` times with dropout by the seeds.
    fn in_groups<const P: usize>(
        &self,
        batch: &SegmentBatch,
        targets: &Tensor,
        seeds: [u64; P],
        head: impl Fn(&Group, [&Tensor; P]) -> Result<Passes<P>, NnError>,
    ) -> Result<Tensor, NnError> {
        let dropouts = seeds.map(Dropout::seeded);
        let length = batch.ids.size()[1];
        let per_token = self.kept_bytes_of(1) * P as u64;
        let sizes = Sizes::new(self.device, per_token, self.pacing.kept_bytes);
        let mut total = Tensor::zeros([], (Kind::Float, self.device));
        for notes in train_pass::groups(batch, sizes) {
            let group = Group {
                share: notes.len() as f64 / batch.num_notes() as f64,
                first_segment: batch.note_of_segment.partition_point(|&note| note < notes.start) as i64,
                targets: targets.narrow(0, notes.start as i64, notes.len() as i64),
                notes: batch.notes(notes),
            };
            let parts = train_pass::parts(group.notes.num_segments() as i64, length, sizes);
            let largest = parts.iter().map(|part| part.count).max().unwrap_or(1);
            let of_part = per_token * (largest * length).unsigned_abs();
            let kept = train_pass::kept(parts.len(), of_part, self.pacing.kept_bytes);
            let forward = |part: &Part, time: usize| {
                let dropout = dropouts[time].part(part.place(group.first_segment, length));
                self.encoder.forward(&part.of(&group.notes.ids), &part.of(&group.notes.mask), &dropout)
            };
            let loss = train_pass::run(&parts, kept, &self.pacing, forward, |states| head(&group, states))?;
            total += loss * group.share;
        }
        Ok(total)
    }

    /// Bounds the bytes that states kept for the backward pass may take; what does not fit is computed twice. No limit
    /// where absent. On the CPU it changes neither losses nor gradients; on a GPU, what is dropped.
    pub fn set_kept_bytes(&mut self, most: Option<u64>) {
        self.pacing.kept_bytes = most;
    }

    /// Bytes that the states of a note of `tokens` tokens take where all are kept for the backward pass.
    pub fn kept_bytes_of(&self, tokens: usize) -> u64 {
        let computed = self.encoder.computed(self.config.padding, self.sequence_length(), self.device);
        let per_token =
            train_pass::bytes_per_token(self.encoder.config(), self.encoder.precision(), computed);
        per_token * tokens as u64
    }

    /// Waits for a GPU after each phase of a training step, so that their times are those of the work itself: to measure,
    /// as it slows training down. Without effect on the CPU.
    pub fn wait_after_phases(&mut self, wait: bool) {
        self.pacing.waits_for = match self.device {
            Device::Cuda(index) => wait.then_some(index),
            _ => None,
        };
    }

    /// Bytes that label attention takes over a group of notes: states and projected states with their gradients, and what
    /// is made of a block of labels.
    pub fn head_bytes(&self) -> u64 {
        let states = 4 * 4 * self.encoder.config().hidden_size * train_pass::group_tokens(self.device);
        (states + label_attention::block_bytes(self.device)).unsigned_abs()
    }

    /// Bytes that states take even where as little as possible is kept: those of the part that is being computed again.
    pub fn least_kept_bytes(&self) -> u64 {
        let sequence = self.sequence_length();
        let passes = if self.config.r_drop > 0.0 { 2 } else { 1 };
        passes * self.kept_bytes_of(sequence.max(train_pass::least_part(self.device)))
    }

    /// The most tokens that the encoder reads at once.
    fn sequence_length(&self) -> usize {
        match self.config.pooling {
            Pooling::Whole => self.layout.max_length(),
            _ => self.config.segment_length,
        }
    }

    /// Where the time of the training steps since the last call went.
    pub fn take_phase_times(&self) -> PhaseTimes {
        self.pacing.times.take()
    }

    /// Makes what scoring needs of the weights once for all batches until [`PlmIcd::release_weights`]. Whoever changes
    /// weights in between has to call it again.
    pub fn hold_weights(&self) {
        self.encoder.hold_low();
    }

    /// Frees what [`PlmIcd::hold_weights`] made.
    pub fn release_weights(&self) {
        self.encoder.release_low();
    }

    /// The loss as a differentiable tensor through plain autograd, to test and measure [`PlmIcd::train_step`]
    /// against.
    pub fn loss_reference(&self, batch: &SegmentBatch, truth: &LabelTargets, dropout: &Dropout) -> Tensor {
        self.config.loss.mean(&self.logits_through(batch, dropout), truth.tensor()) * self.loss_factor()
    }

    /// Logits [B,Y] without dropout through single operations, to test and measure [`PlmIcd::logits`] against.
    pub fn logits_reference(&self, batch: &SegmentBatch) -> Tensor {
        self.logits_through(batch, &Dropout::off())
    }

    fn logits_through(&self, batch: &SegmentBatch, dropout: &Dropout) -> Tensor {
        let states = self.encoder.forward(&batch.ids, &batch.mask, dropout);
        self.head.logits_reference(&states, batch, dropout)
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

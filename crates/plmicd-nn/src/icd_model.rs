//! Any model that assigns codes to notes, behind one face: what training, evaluation and prediction go through.

use camino::Utf8Path;
use tch::{Device, Tensor};

use crate::model_folder::CONFIG;
use crate::word_model::is_word_model;
use crate::{
    LabelTargets, NamedParameter, NnError, NoteLayout, PlmIcd, Precision, SegmentBatch, SpecialTokens,
    WordBatch, WordLayout, WordModel,
};

/// A model that scores every code for a note.
#[derive(Debug)]
pub enum IcdModel {
    /// A transformer over segments of a note (Huang et al. 2022).
    PlmIcd(Box<PlmIcd>),
    /// A model over whole words: LAAT, CAML and their kin.
    Word(Box<WordModel>),
}

/// Notes as the model that they were made for reads them.
#[derive(Debug)]
pub enum IcdBatch {
    /// Segments of notes, for [`IcdModel::PlmIcd`].
    Segments(SegmentBatch),
    /// Words of notes, for [`IcdModel::Word`].
    Words(WordBatch),
}

/// How token ids become batches of a model: all that another thread needs to know of it.
#[derive(Clone, Debug)]
pub enum Batching {
    /// Segments of notes.
    Segments(NoteLayout),
    /// Words of notes.
    Words(WordLayout),
}

impl Batching {
    /// Tokens of a note without special tokens that are read.
    pub fn room(&self, specials: &SpecialTokens) -> usize {
        match self {
            Batching::Segments(layout) => layout.room(specials),
            Batching::Words(layout) => layout.max_length,
        }
    }

    /// Tokens the model sees of a note of this many, special tokens included.
    pub fn length(&self, tokens: usize, specials: &SpecialTokens) -> usize {
        match self {
            Batching::Segments(layout) => layout.length(tokens, specials),
            Batching::Words(layout) => tokens.min(layout.max_length),
        }
    }

    /// A batch of notes given as token ids without special tokens.
    ///
    /// # Errors
    /// A note without any token; a token that the model has no embedding for; another padding token than the model's.
    pub fn batch<T: AsRef<[i32]>>(
        &self,
        notes: &[T],
        specials: &SpecialTokens,
        device: Device,
    ) -> Result<IcdBatch, NnError> {
        match self {
            Batching::Segments(layout) => layout.batch(notes, specials, device).map(IcdBatch::Segments),
            Batching::Words(layout) => layout.batch(notes, specials, device).map(IcdBatch::Words),
        }
    }

    /// Puts notes of these lengths (see [`Batching::length`]) into batches for scoring, of at most `max_tokens`
    /// tokens each, padding included.
    pub fn inference_batches(&self, lengths: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
        match self {
            Batching::Segments(layout) => layout.inference_batches(lengths, max_tokens),
            Batching::Words(layout) => layout.inference_batches(lengths, max_tokens),
        }
    }
}

impl IcdModel {
    /// A model that [`IcdModel::save`] wrote.
    ///
    /// # Errors
    /// A file is missing, damaged, or of another program.
    pub fn load(folder: &Utf8Path, device: Device) -> Result<IcdModel, NnError> {
        let path = folder.join(CONFIG);
        let config: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(&path)?)
            .map_err(|error| NnError::file(&path, error.to_string()))?;
        if is_word_model(&config) {
            return WordModel::load(folder, config, device).map(|model| IcdModel::Word(Box::new(model)));
        }
        PlmIcd::load(folder, device).map(|model| IcdModel::PlmIcd(Box::new(model)))
    }

    /// Writes `config.json` and `model.safetensors` into an existing folder, each complete or not at all.
    ///
    /// # Errors
    /// Writing failed.
    pub fn save(&self, folder: &Utf8Path) -> Result<(), NnError> {
        match self {
            IcdModel::PlmIcd(model) => model.save(folder),
            IcdModel::Word(model) => model.save(folder),
        }
    }

    /// Number of labels, Y.
    pub fn num_labels(&self) -> usize {
        match self {
            IcdModel::PlmIcd(model) => model.num_labels(),
            IcdModel::Word(model) => model.num_labels(),
        }
    }

    /// Number of token embeddings.
    pub fn vocab_size(&self) -> usize {
        match self {
            IcdModel::PlmIcd(model) => model.encoder().config().vocab_size as usize,
            IcdModel::Word(model) => model.config().vocab_size as usize,
        }
    }

    /// Where its weights lie.
    pub fn device(&self) -> Device {
        match self {
            IcdModel::PlmIcd(model) => model.device(),
            IcdModel::Word(model) => model.device(),
        }
    }

    /// The loss of logits [B,Y], reduced as in training: a scalar in double precision.
    pub fn loss(&self, logits: &Tensor, truth: &LabelTargets) -> Tensor {
        match self {
            IcdModel::PlmIcd(model) => model.loss(logits, truth),
            IcdModel::Word(model) => model.loss(logits, truth),
        }
    }

    /// Every trainable tensor, in a fixed order, sharing its memory with the model.
    pub fn parameters(&self) -> Vec<NamedParameter> {
        match self {
            IcdModel::PlmIcd(model) => model.parameters(),
            IcdModel::Word(model) => model.parameters(),
        }
    }

    /// What training changes without gradients, by name, sharing its memory with the model.
    pub fn buffers(&self) -> Vec<(String, Tensor)> {
        match self {
            IcdModel::PlmIcd(_) => Vec::new(),
            IcdModel::Word(model) => model.buffers(),
        }
    }

    /// What is left to do once training has ended, with the labels that were ever true in it: DR-CAML scores the others by
    /// their descriptions. Says how many.
    pub fn describe_unseen(&self, seen: &[bool]) -> usize {
        match self {
            IcdModel::PlmIcd(_) => 0,
            IcdModel::Word(model) => model.describe_unseen(seen),
        }
    }

    /// Chooses the number format of the matrix products, in training and scoring alike.
    pub fn set_precision(&mut self, precision: Precision) {
        match self {
            IcdModel::PlmIcd(model) => model.set_precision(precision),
            IcdModel::Word(model) => model.set_precision(precision),
        }
    }

    /// Makes what scoring needs of the weights once for all batches until [`IcdModel::release_weights`]. Whoever changes
    /// weights in between has to call it again.
    pub fn hold_weights(&self) {
        if let IcdModel::PlmIcd(model) = self {
            model.hold_weights();
        }
    }

    /// Frees what [`IcdModel::hold_weights`] made.
    pub fn release_weights(&self) {
        if let IcdModel::PlmIcd(model) = self {
            model.release_weights();
        }
    }

    /// How token ids become its batches.
    pub fn batching(&self) -> Batching {
        match self {
            IcdModel::PlmIcd(model) => Batching::Segments(model.layout().clone()),
            IcdModel::Word(model) => Batching::Words(WordLayout::new(model.config())),
        }
    }

    /// A batch of notes given as token ids without special tokens.
    ///
    /// # Errors
    /// A note without any token; a token that the model has no embedding for; another padding token than the model's.
    pub fn batch<T: AsRef<[i32]>>(&self, notes: &[T], specials: &SpecialTokens) -> Result<IcdBatch, NnError> {
        self.batching().batch(notes, specials, self.device())
    }

    /// Logits [B,Y] without gradients and without dropout.
    ///
    /// # Errors
    /// The batch was made for another kind of model.
    pub fn logits(&self, batch: &IcdBatch) -> Result<Tensor, NnError> {
        match (self, batch) {
            (IcdModel::PlmIcd(model), IcdBatch::Segments(batch)) => Ok(model.logits(batch)),
            (IcdModel::Word(model), IcdBatch::Words(batch)) => Ok(model.logits(batch)),
            _ => Err(mismatch()),
        }
    }

    /// Probabilities [B,Y], fp32, without gradients and without dropout.
    ///
    /// # Errors
    /// The batch was made for another kind of model.
    pub fn scores(&self, batch: &IcdBatch) -> Result<Tensor, NnError> {
        match (self, batch) {
            (IcdModel::PlmIcd(model), IcdBatch::Segments(batch)) => Ok(model.scores(batch)),
            (IcdModel::Word(model), IcdBatch::Words(batch)) => Ok(model.scores(batch)),
            _ => Err(mismatch()),
        }
    }

    /// Forward and backward with dropout: adds the gradients of `scale` times the loss to the `.grad` of the
    /// parameters and returns the loss itself, reduced as the settings say: a scalar in double precision beside the
    /// model. What is dropped depends on `seed` alone: give every step its own.
    ///
    /// # Errors
    /// The batch was made for another kind of model, or libtorch refused.
    pub fn train_step(
        &mut self,
        batch: &IcdBatch,
        truth: &LabelTargets,
        scale: f64,
        seed: u64,
    ) -> Result<Tensor, NnError> {
        match (self, batch) {
            (IcdModel::PlmIcd(model), IcdBatch::Segments(batch)) => {
                model.train_step(batch, truth, scale, seed)
            }
            (IcdModel::Word(model), IcdBatch::Words(batch)) => model.train_step(batch, truth, scale, seed),
            _ => Err(mismatch()),
        }
    }
}

fn mismatch() -> NnError {
    NnError::Invalid("the batch was made for another kind of model".to_owned())
}

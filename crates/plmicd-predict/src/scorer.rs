//! A model folder ready to score notes: what the stage, and later the command line, go through.

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{DataError, LabelSpace, SpecialTokens};
use plmicd_nn::{IcdModel, NnError, Precision};
use plmicd_torch::{InFlight, TorchError};
use tch::{Device, Tensor};

/// Why notes could not be scored. No message holds note text.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// A file of the model folder is not as expected.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model refused.
    #[error(transparent)]
    Model(#[from] NnError),
    /// libtorch refused.
    #[error(transparent)]
    Torch(#[from] tch::TchError),
    /// libtorch refused to bring scores from the GPU.
    #[error(transparent)]
    Fetch(#[from] TorchError),
    /// The model folder's files do not fit together.
    #[error("{file}: {message}")]
    Mismatch {
        /// The file at fault.
        file: Utf8PathBuf,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A token that the model has no embedding for.
    #[error("token id {token}, but the model's vocabulary has {vocab_size} tokens")]
    Token {
        /// 0-based position of the note in what was given.
        note: usize,
        /// The token.
        token: i32,
        /// The vocabulary's size.
        vocab_size: usize,
    },
    /// The model gave something that is no probability: its weights hold NaN or infinite values.
    #[error(
        "the model gives a score that is not a number for note {note}: were its weights damaged or diverged?"
    )]
    NotANumber {
        /// 0-based position of the note in what was given.
        note: usize,
    },
}

/// A `model` artifact, loaded.
#[derive(Debug)]
pub struct Scorer {
    model: IcdModel,
    labels: LabelSpace,
    tokens: SpecialTokens,
    specials: plmicd_nn::SpecialTokens,
}

impl Scorer {
    /// Loads a `model` folder and checks that its parts fit together.
    pub fn load(folder: &Utf8Path, device: Device) -> Result<Self, ScoreError> {
        let file = folder.join(LabelSpace::FILE);
        let labels = LabelSpace::read(&file)?;
        let path = folder.join(SpecialTokens::FILE);
        let tokens = SpecialTokens::read(&path)?;
        let model = IcdModel::load(folder, device)?;
        if labels.len() != model.num_labels() {
            let message = format!("{} labels, but the model has {}", labels.len(), model.num_labels());
            return Err(ScoreError::Mismatch { file, message });
        }
        let Some(pad) = tokens.pad else {
            let message = "no padding token, which segments need".to_owned();
            return Err(ScoreError::Mismatch { file: path, message });
        };
        let rows = model.vocab_size();
        if tokens.vocab_size > rows {
            let message = format!("vocab_size {}, but the encoder has {rows} embeddings", tokens.vocab_size);
            return Err(ScoreError::Mismatch { file: path, message });
        }
        let specials = plmicd_nn::SpecialTokens {
            cls: tokens.cls.map(i64::from),
            sep: tokens.sep.map(i64::from),
            pad: i64::from(pad),
        };
        Ok(Self { model, labels, tokens, specials })
    }

    /// Chooses the number format of the matrix products; fp32 until then.
    pub fn set_precision(&mut self, precision: Precision) {
        self.model.set_precision(precision);
        // The weights of a loaded model never change.
        self.model.hold_weights();
    }

    /// The codes, in the order of the scores.
    pub fn labels(&self) -> &LabelSpace {
        &self.labels
    }

    /// The special tokens and the vocabulary's size.
    pub fn tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// Tokens of a note that the model reads, special tokens not counted; the rest is cut off.
    pub fn room(&self) -> usize {
        self.model.batching().room(&self.specials)
    }

    /// Probabilities of one note (Y), from its token ids without special tokens.
    pub fn score_note(&self, tokens: &[i32]) -> Result<Vec<f32>, ScoreError> {
        self.read(&[0], &self.queue(&[tokens], &[0])?)
    }

    /// Probabilities of notes, row-major in the order given (B x Y). Notes of similar length go through the model
    /// together, at most `batch_tokens` tokens at a time. `after` is told how many notes are done after each batch,
    /// and stops the work by giving `false`: the answer is then `None`.
    pub fn score_notes<T: AsRef<[i32]>>(
        &self,
        notes: &[T],
        batch_tokens: usize,
        mut after: impl FnMut(usize) -> bool,
    ) -> Result<Option<Vec<f32>>, ScoreError> {
        let batching = self.model.batching();
        let length = |tokens: &T| batching.length(tokens.as_ref().len(), &self.specials);
        let lengths: Vec<usize> = notes.iter().map(length).collect();
        let num_labels = self.labels.len();
        let mut scores = vec![0.0; notes.len() * num_labels];
        let mut done = 0;
        let mut take = |(batch, rows): (Vec<usize>, Tensor)| -> Result<bool, ScoreError> {
            for (row, &note) in self.read(&batch, &rows)?.chunks(num_labels).zip(&batch) {
                scores[note * num_labels..(note + 1) * num_labels].copy_from_slice(row);
            }
            done += batch.len();
            Ok(after(done))
        };
        let mut flight = InFlight::new(self.model.device());
        for batch in batching.inference_batches(&lengths, batch_tokens) {
            let tokens: Vec<&[i32]> = batch.iter().map(|&note| notes[note].as_ref()).collect();
            let rows = self.queue(&tokens, &batch)?;
            if let Some(due) = flight.next(batch, &rows)?
                && !take(due)?
            {
                return Ok(None);
            }
        }
        if let Some(last) = flight.last()?
            && !take(last)?
        {
            return Ok(None);
        }
        Ok(Some(scores))
    }

    /// The scores [B,Y] of a batch beside the model, for which nothing has waited yet on a GPU; `places` are the notes'
    /// positions for messages.
    fn queue(&self, notes: &[&[i32]], places: &[usize]) -> Result<Tensor, ScoreError> {
        let vocab_size = self.tokens.vocab_size;
        for (tokens, &note) in notes.iter().zip(places) {
            let unknown = |&&token: &&i32| !usize::try_from(token).is_ok_and(|token| token < vocab_size);
            if let Some(&token) = tokens.iter().find(unknown) {
                return Err(ScoreError::Token { note, token, vocab_size });
            }
        }
        let batch = self.model.batch(notes, &self.specials)?;
        Ok(self.model.scores(&batch)?)
    }

    fn read(&self, places: &[usize], scores: &Tensor) -> Result<Vec<f32>, ScoreError> {
        let scores = Vec::<f32>::try_from(scores.flatten(0, 1))?;
        match scores.iter().position(|score| !score.is_finite()) {
            Some(at) => Err(ScoreError::NotANumber { note: places[at / self.labels.len()] }),
            None => Ok(scores),
        }
    }
}

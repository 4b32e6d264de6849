//! The word-level models that PLM-ICD is measured against: LAAT and JointLAAT (Vu et al. 2020), CAML and DR-CAML
//! (Mullenbach et al. 2018), MultiResCNN (Li and Yu 2020).
//!
//! All are word embeddings, something that makes states of them, and label attention over the states of a note. Tensor
//! suffixes beside the crate's: `R` words of a batch in a row, `E` width of embeddings, `F` maps, `K` width of a
//! convolution, `C` coarser labels, `G` width of their projection.

mod batch;
mod config;
mod convolution;
mod descriptions;
mod folder;
mod hierarchy;
mod lstm;
#[cfg(test)]
mod tests;

use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

use crate::parameters::{Init, NamedParameter, ParameterStore};
use crate::scoring::{inference_batches, side_by_side_batches};
use crate::segment::{Span, SpecialTokens};
use crate::{LabelAttention, LabelTargets, NnError, Padding, Precision};

pub use batch::WordBatch;
pub use config::{WordArchitecture, WordModelConfig};

use convolution::{Branch, Convolution, convolved};
pub(crate) use folder::is_word_model;

use descriptions::DescriptionEncoder;
use hierarchy::{Hierarchy, num_parents};
use lstm::BiLstm;

/// Standard deviation of LAAT's label attention at the start.
const LAAT_DEVIATION: f64 = 0.03;

/// Labels handled at a time in label attention.
const LABEL_BLOCK: usize = 512;

/// What turns words into states.
#[derive(Debug)]
enum Reader {
    BiLstm(BiLstm),
    Cnn(Convolution),
    MultiResCnn(Vec<Branch>),
}

/// A word-level model.
#[derive(Debug)]
pub struct WordModel {
    config: WordModelConfig,
    embeddings: Tensor,
    reader: Reader,
    head: LabelAttention,
    hierarchy: Option<Hierarchy>,
    descriptions: Option<DescriptionEncoder>,
    /// The codes' descriptions as word ids, empty where a code has none: only training needs them.
    description_words: Vec<Vec<i32>>,
    parameters: Vec<NamedParameter>,
    device: Device,
}

impl WordModel {
    /// A model with fresh weights, as the published programs start them. They depend on `seed` alone.
    pub fn new(
        config: WordModelConfig,
        num_labels: usize,
        seed: u64,
        device: Device,
    ) -> Result<WordModel, NnError> {
        config.check(num_labels).map_err(NnError::Invalid)?;
        let mut store = ParameterStore::new(seed, LAAT_DEVIATION, device);
        let embedding_init = Init::EmbeddingNormal { standard_deviation: 1.0, zero_row: config.pad_token_id };
        let shape = [config.vocab_size, config.embedding_size];
        let embeddings = store.add("embeddings.weight", &shape, embedding_init, false);
        let (inputs, maps) = (config.embedding_size, config.filter_maps);
        let reader = match config.architecture {
            WordArchitecture::BiLstm => {
                Reader::BiLstm(BiLstm::new(&mut store, "lstm", inputs, config.hidden_size))
            }
            WordArchitecture::Cnn => {
                Reader::Cnn(Convolution::new(&mut store, "conv", inputs, maps, config.kernel_sizes[0]))
            }
            WordArchitecture::MultiResCnn => {
                let branch = |(index, &kernel): (usize, &i64)| {
                    Branch::new(&mut store, &format!("branches.{index}"), inputs, maps, kernel, device)
                };
                Reader::MultiResCnn(config.kernel_sizes.iter().enumerate().map(branch).collect())
            }
        };
        let labels = num_labels as i64;
        let hierarchy = config.parents.as_ref().map(|parents| {
            let coarse = label_attention(&mut store, "parents.", &config, num_parents(parents));
            let size = config.parent_projection_size;
            Hierarchy::new(&mut store, coarse, parents, size, config.level_weights, device)
        });
        let head = label_attention(&mut store, "", &config, labels);
        let descriptions = config.description_weight.map(|_| {
            DescriptionEncoder::new(
                &mut store,
                config.vocab_size,
                inputs,
                maps,
                config.kernel_sizes[0],
                config.pad_token_id,
                config.padding,
                embedding_init,
            )
        });
        let mut parameters = store.into_parameters();
        if config.freeze_embeddings {
            let frozen = parameters.remove(0);
            debug_assert_eq!(frozen.name, "embeddings.weight");
            let _ = frozen.tensor.set_requires_grad(false);
        }
        let description_words = vec![Vec::new(); num_labels];
        Ok(WordModel {
            config,
            embeddings,
            reader,
            head,
            hierarchy,
            descriptions,
            description_words,
            parameters,
            device,
        })
    }

    /// The settings it was built with.
    pub fn config(&self) -> &WordModelConfig {
        &self.config
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

    /// What training changes without gradients, by name, sharing its memory with the model: running statistics of batch
    /// normalisation.
    pub fn buffers(&self) -> Vec<(String, Tensor)> {
        match &self.reader {
            Reader::MultiResCnn(branches) => branches.iter().flat_map(Branch::buffers).collect(),
            _ => Vec::new(),
        }
    }

    /// Chooses the number format of label attention's matrix products. What reads the words computes in fp32.
    pub fn set_precision(&mut self, precision: Precision) {
        let precision = precision.prepared(self.device);
        self.head.set_precision(precision);
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.set_precision(precision);
        }
    }

    /// Starts the word embeddings from `vectors` [V,E]; the padding word's stay zero. With `unit_length` each is divided
    /// by its length first, as CAML's code does. A description encoder starts from the same.
    ///
    /// # Errors
    /// The shape is another one than the model's.
    pub fn set_embeddings(&self, vectors: &Tensor, unit_length: bool) -> Result<(), NnError> {
        let expected = self.embeddings.size();
        if vectors.size() != expected {
            return Err(NnError::Invalid(format!(
                "word vectors of shape {:?} do not fit embeddings of shape {expected:?}",
                vectors.size()
            )));
        }
        tch::no_grad(|| {
            let mut rows = vectors.to_device(self.device).copy();
            if unit_length {
                rows = &rows / (rows.square().sum_dim_intlist(1, true, None).sqrt() + 1e-6);
            }
            let _ = rows.get(self.config.pad_token_id).zero_();
            self.embeddings.shallow_clone().copy_(&rows);
            if let Some(descriptions) = &self.descriptions {
                descriptions.embeddings().shallow_clone().copy_(&rows);
            }
        });
        Ok(())
    }

    /// Gives the description encoder what it reads in training: each label's description as word ids, empty where there is
    /// none. Without a description encoder nothing happens.
    pub fn set_descriptions(&mut self, words: Vec<Vec<i32>>) {
        if self.descriptions.is_some() {
            self.description_words = words;
        }
    }

    /// Labels that never were true in training get their description's vector for an output vector and no bias (DR-CAML);
    /// says how many. Without a description encoder nothing happens.
    pub fn describe_unseen(&self, seen: &[bool]) -> usize {
        let Some(encoder) = &self.descriptions else { return 0 };
        let unseen = seen.iter().zip(&self.description_words).enumerate();
        let unseen: Vec<usize> = unseen
            .filter(|(_, (seen, words))| !**seen && !words.is_empty())
            .map(|(label, _)| label)
            .collect();
        tch::no_grad(|| {
            for labels in unseen.chunks(LABEL_BLOCK) {
                let words: Vec<&[i32]> =
                    labels.iter().map(|label| self.description_words[*label].as_slice()).collect();
                let vectors = encoder.vectors(&words);
                for (row, label) in labels.iter().enumerate() {
                    self.head.outputs().get(*label as i64).copy_(&vectors.get(row as i64));
                    let _ = self.head.bias().get(*label as i64).zero_();
                }
            }
        });
        unseen.len()
    }

    /// Cuts notes given as word ids to the model's length and checks them against its vocabulary.
    pub fn batch<T: AsRef<[i32]>>(
        &self,
        notes: &[T],
        specials: &SpecialTokens,
    ) -> Result<WordBatch, NnError> {
        WordLayout::new(&self.config).batch(notes, specials, self.device)
    }

    /// The states [R',D] of a batch and where each note's lie.
    fn states(&self, batch: &WordBatch, dropout: &Dropout) -> (Tensor, Vec<Span>) {
        let p = self.config.dropout;
        let embedded =
            Tensor::embedding(&self.embeddings, &batch.ids, self.config.pad_token_id, false, false);
        let embedded = dropout.apply(&embedded, p);
        let own_spans = || batch.notes.clone();
        match &self.reader {
            Reader::BiLstm(lstm) => (lstm.states(&embedded, &batch.grid, dropout.is_on()), own_spans()),
            Reader::Cnn(conv) => convolved(conv, &embedded, batch),
            Reader::MultiResCnn(branches) => {
                let training = dropout.is_on();
                let of = |branch: &Branch| branch.forward(&embedded, batch, p, dropout, training);
                let states: Vec<Tensor> = branches.iter().map(of).collect();
                (Tensor::cat(&states, 1), own_spans())
            }
        }
    }

    /// Logits [B,Y] without gradients and without dropout.
    pub fn logits(&self, batch: &WordBatch) -> Tensor {
        tch::no_grad(|| {
            let (states, spans) = self.states(batch, &Dropout::off());
            match &self.hierarchy {
                None => self.head.logits(&states, &spans, LABEL_BLOCK),
                Some(hierarchy) => hierarchy.logits(&self.head, &states, &spans, LABEL_BLOCK).1,
            }
        })
    }

    /// Probabilities [B,Y], fp32, without gradients and without dropout.
    pub fn scores(&self, batch: &WordBatch) -> Tensor {
        tch::no_grad(|| self.logits(batch).sigmoid())
    }

    /// Forward and backward with dropout, as [`crate::PlmIcd::train_step`]. Batch normalisation also moves the
    /// [`WordModel::buffers`].
    pub fn train_step(
        &self,
        batch: &WordBatch,
        truth: &LabelTargets,
        scale: f64,
        seed: u64,
    ) -> Result<Tensor, NnError> {
        let (states, spans) = self.states(batch, &Dropout::seeded(seed));
        let detached = states.detach();
        let loss = self.config.loss;
        let factor = self.config.loss_reduction.factor(self.num_labels());
        let scale_of_mean = scale * factor;
        let (mean, grad_states) = match &self.hierarchy {
            None => {
                let pass = self.head.one_pass(
                    &detached,
                    &spans,
                    truth.tensor(),
                    loss,
                    scale_of_mean,
                    LABEL_BLOCK,
                )?;
                (pass.loss, pass.grad_states)
            }
            Some(hierarchy) => hierarchy.one_pass(
                &self.head,
                &detached,
                &spans,
                truth.tensor(),
                loss,
                scale_of_mean,
                LABEL_BLOCK,
            )?,
        };
        let mut total = mean.to_kind(Kind::Double) * factor;
        if let Some(term) = self.description_term(truth)? {
            (&term * scale).backward();
            total += term.detach().to_kind(Kind::Double);
        }
        plmicd_torch::backward_with_gradient(&states, &grad_states.view_as(&states))?;
        Ok(total)
    }

    /// The loss of logits [B,Y], reduced as in training and without the term of descriptions: a scalar in
    /// double precision.
    pub fn loss(&self, logits: &Tensor, truth: &LabelTargets) -> Tensor {
        let mean = self.config.loss.elementwise(logits, truth.tensor()).mean(Kind::Double);
        mean * self.config.loss_reduction.factor(self.num_labels())
    }

    /// DR-CAML's part of the loss, differentiable.
    fn description_term(&self, truth: &LabelTargets) -> Result<Option<Tensor>, NnError> {
        let (Some(encoder), Some(weight)) = (&self.descriptions, self.config.description_weight) else {
            return Ok(None);
        };
        encoder.term(self.head.outputs(), truth.labels(), &self.description_words, weight)
    }
}

/// Label attention of the published kind: LAAT's over an LSTM, CAML's over convolutions.
fn label_attention(
    store: &mut ParameterStore,
    prefix: &str,
    config: &WordModelConfig,
    num_labels: i64,
) -> LabelAttention {
    let states = config.state_size();
    let mut add = |name: &str, shape: &[i64], init| store.add(&format!("{prefix}{name}"), shape, init, true);
    let bias_bound = 1.0 / (states as f64).sqrt();
    let (first, queries, init) = match config.architecture {
        WordArchitecture::BiLstm => {
            let size = config.projection_size;
            (Some(add("first_linear.weight", &[size, states], Init::Normal)), size, Init::Normal)
        }
        _ => (None, states, Init::Xavier),
    };
    LabelAttention::from_weights(
        first,
        add("second_linear.weight", &[num_labels, queries], init),
        add("third_linear.weight", &[num_labels, states], init),
        add("third_linear.bias", &[num_labels], Init::Uniform(bias_bound)),
    )
}

/// How notes become batches of a word-level model: its settings that matter there.
#[derive(Clone, Debug)]
pub struct WordLayout {
    pub(crate) max_length: usize,
    pub(crate) padding: Padding,
    vocab_size: i64,
    pad: i64,
    gap: usize,
    /// Whether the notes of a batch are read side by side: by an LSTM. Convolutions read them one after the other.
    side_by_side: bool,
}

impl WordLayout {
    /// Of a model with these settings.
    pub fn new(config: &WordModelConfig) -> WordLayout {
        WordLayout {
            max_length: config.max_length,
            padding: config.padding,
            vocab_size: config.vocab_size,
            pad: config.pad_token_id,
            gap: config.gap(),
            side_by_side: config.architecture == WordArchitecture::BiLstm,
        }
    }

    /// Puts notes of these lengths into batches for scoring, of at most `max_tokens` words each, padding included.
    pub fn inference_batches(&self, lengths: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
        match self.side_by_side {
            true => side_by_side_batches(lengths, max_tokens, self.padding),
            false => inference_batches(lengths, 1, max_tokens, self.padding),
        }
    }

    /// Cuts notes given as word ids to the model's length and checks them against its vocabulary.
    ///
    /// # Errors
    /// A note without any word; a word that the model has no embedding for; another padding word than the model's.
    pub fn batch<T: AsRef<[i32]>>(
        &self,
        notes: &[T],
        specials: &SpecialTokens,
        device: Device,
    ) -> Result<WordBatch, NnError> {
        let pad = self.pad;
        if specials.pad != pad {
            return Err(NnError::Invalid(format!(
                "the words are padded with {}, but the model's pad_token_id is {pad}",
                specials.pad
            )));
        }
        let unknown = |word: &&i32| !(0..self.vocab_size).contains(&i64::from(**word));
        for (note, words) in notes.iter().enumerate() {
            if let Some(word) = words.as_ref().iter().find(unknown) {
                return Err(NnError::Invalid(format!(
                    "note {note} of the batch has token {word}, but the model's vocabulary has {} words",
                    self.vocab_size
                )));
            }
        }
        let cut = |note: &T| note.as_ref().len().min(self.max_length);
        let notes: Vec<&[i32]> = notes.iter().map(|note| &note.as_ref()[..cut(note)]).collect();
        WordBatch::new(&notes, pad, self.gap, self.padding, device)
    }
}

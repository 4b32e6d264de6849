use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Loss, Padding, Reduction};

/// What turns the words of a note into states for label attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WordArchitecture {
    /// A bidirectional LSTM of one layer (LAAT; Vu et al. 2020).
    BiLstm,
    /// One convolution and tanh (CAML; Mullenbach et al. 2018).
    Cnn,
    /// Convolutions of several widths side by side, each with a residual block (MultiResCNN; Li and Yu 2020).
    MultiResCnn,
}

impl WordArchitecture {
    /// Name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            WordArchitecture::BiLstm => "bi-lstm",
            WordArchitecture::Cnn => "cnn",
            WordArchitecture::MultiResCnn => "multi-res-cnn",
        }
    }
}

/// Everything that decides the layers of a word-level model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordModelConfig {
    /// What reads the words.
    pub architecture: WordArchitecture,
    /// Number of word ids.
    pub vocab_size: i64,
    /// Id of the padding word; its embedding is zero and stays so.
    pub pad_token_id: i64,
    /// Width of the word embeddings (E).
    pub embedding_size: i64,
    /// Whether embeddings stay as they start.
    pub freeze_embeddings: bool,
    /// LSTM: width of a direction's states.
    pub hidden_size: i64,
    /// LSTM: width of the projection before the label queries (`d_a`).
    pub projection_size: i64,
    /// Convolutions: widths in words, one for `Cnn`, one a branch for `MultiResCnn`.
    pub kernel_sizes: Vec<i64>,
    /// Convolutions: maps of each.
    pub filter_maps: i64,
    /// Dropout of the embeddings, and of the residual blocks' outputs.
    pub dropout: f64,
    /// Words of a note that are read.
    pub max_length: usize,
    /// Whether label attention sees padding, as published, or not.
    pub padding: Padding,
    /// JointLAAT: the coarser label that each label belongs to.
    pub parents: Option<Vec<usize>>,
    /// JointLAAT: width of what the coarser labels' probabilities are projected to.
    pub parent_projection_size: i64,
    /// JointLAAT: weights of the losses of the coarser and of the full labels.
    pub level_weights: [f64; 2],
    /// DR-CAML: weight of the description term of the loss; without it there is no description encoder.
    pub description_weight: Option<f64>,
    /// What training minimises.
    pub loss: Loss,
    /// Over what the losses of the labels are averaged.
    pub loss_reduction: Reduction,
}

impl WordModelConfig {
    /// Width of the states label attention reads (D).
    pub fn state_size(&self) -> i64 {
        match self.architecture {
            WordArchitecture::BiLstm => 2 * self.hidden_size,
            WordArchitecture::Cnn => self.filter_maps,
            WordArchitecture::MultiResCnn => self.filter_maps * self.kernel_sizes.len() as i64,
        }
    }

    /// Zeros that convolutions put before and after a note.
    pub(crate) fn gap(&self) -> usize {
        match self.architecture {
            WordArchitecture::BiLstm => 0,
            _ => self.kernel_sizes.iter().map(|kernel| kernel / 2).max().unwrap_or(0) as usize,
        }
    }

    /// What is out of range, as a sentence.
    pub fn check(&self, num_labels: usize) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("embedding_size", self.embedding_size),
            ("hidden_size", self.hidden_size),
            ("projection_size", self.projection_size),
            ("filter_maps", self.filter_maps),
            ("parent_projection_size", self.parent_projection_size),
            ("max_length", self.max_length as i64),
        ];
        for (name, size) in sizes {
            if size < 1 {
                return Err(format!("{name} is {size}, expected at least 1"));
            }
        }
        if !(0..self.vocab_size).contains(&self.pad_token_id) {
            let (pad, size) = (self.pad_token_id, self.vocab_size);
            return Err(format!("pad_token_id is {pad}, but the vocabulary has {size} words"));
        }
        if num_labels == 0 {
            return Err("a model needs at least one label".to_owned());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!(
                "dropout is {}, expected a share from 0 up to, not including, 1",
                self.dropout
            ));
        }
        let kernels = &self.kernel_sizes;
        match self.architecture {
            WordArchitecture::BiLstm => {}
            WordArchitecture::Cnn if kernels.len() != 1 || kernels[0] < 1 => {
                return Err(format!("kernel_sizes is {kernels:?}, expected one width of at least 1"));
            }
            WordArchitecture::Cnn => {}
            WordArchitecture::MultiResCnn => {
                if kernels.is_empty() || kernels.iter().any(|kernel| *kernel < 1 || kernel % 2 == 0) {
                    return Err(format!("kernel_sizes is {kernels:?}, expected odd widths"));
                }
            }
        }
        if let Some(parents) = &self.parents
            && parents.len() != num_labels
        {
            return Err(format!("{} labels have a coarser one, but there are {num_labels}", parents.len()));
        }
        if self.parents.is_some() && self.description_weight.is_some() {
            return Err("a description term and a level of coarser labels do not go together".to_owned());
        }
        if self.description_weight.is_some() && self.architecture != WordArchitecture::Cnn {
            return Err("a description term goes with the convolution of CAML only".to_owned());
        }
        Ok(())
    }
}

//! What is trained: the loop knows a task only through these traits.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::error::{Cause, TrainError};
use crate::observer::Observer;

/// The training examples. Batches are prepared on a thread of their own, ahead of the model.
pub trait BatchSource: Sync {
    /// One micro-batch, ready for the model.
    type Batch: Send;

    /// A length for every example, in any unit; it decides which examples may share a batch.
    fn lengths(&self) -> Vec<u32>;

    /// Prepares the batch of these examples. A function of its arguments: randomness here would not resume.
    fn batch(&self, examples: &[usize]) -> Result<Self::Batch, Cause>;
}

/// One trained tensor and how it is treated.
#[derive(Debug)]
pub struct Parameter {
    /// Unique within the model.
    pub name: String,
    /// An fp32 leaf.
    pub tensor: Tensor,
    /// Whether weight decay applies: not to biases and LayerNorm.
    pub decay: bool,
    /// Whether `head_learning_rate` applies: layers that start from nothing.
    pub is_head: bool,
}

/// A tensor and its name.
#[derive(Debug)]
pub struct NamedTensor {
    /// Unique within the model.
    pub name: String,
    /// fp32, f64 or i64, contiguous; sharing its memory with the model.
    pub tensor: Tensor,
}

/// What an evaluation tells of the model's health.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationSigns {
    /// Over all labels, the largest difference between the scores of two examples; none where there are not two
    /// different examples.
    pub score_spread: Option<f64>,
    /// A figure of the evaluation, higher is better.
    pub metric: &'static str,
    /// Its value where every label is predicted for every example.
    pub uninformed: f64,
}

/// A model with its loss and its evaluation.
pub trait Task {
    /// What [`BatchSource`] prepares for it.
    type Batch: Send;

    /// Every trained parameter. Asked once, before training; the tensors become views of one flat buffer.
    fn parameters(&self) -> Vec<Parameter>;

    /// State that training moves without a gradient, such as the running means and variances of batch normalisation.
    /// It is part of checkpoints and of the best epoch's weights, and is written to in place. Asked once, before
    /// training.
    fn buffers(&self) -> Vec<NamedTensor> {
        Vec::new()
    }

    /// Forward and backward: **adds** the gradient of `scale` times the batch's mean loss to the parameters'
    /// gradients, and gives that mean loss, unscaled: a scalar in double precision beside the parameters, so that on a GPU
    /// nobody has to wait for it. Whatever is random follows from `seed`, which is another one for every micro-batch,
    /// and the same one when the run is resumed.
    fn train_step(&mut self, batch: Self::Batch, scale: f64, seed: u64) -> Result<Tensor, Cause>;

    /// Figures on held-out data, none of them NaN; higher is better for the one that decides the best epoch.
    /// Long evaluations ask the observer and give [`TrainError::Interrupted`]; they are run again on resume.
    fn evaluate(&mut self, observer: &dyn Observer) -> Result<BTreeMap<String, f64>, TrainError>;

    /// What the last evaluation tells of the model's health, where it tells anything.
    fn evaluation_signs(&self) -> Option<EvaluationSigns> {
        None
    }

    /// The largest absolute output of the model for a batch, without dropout: to explain a breakdown.
    fn largest_logit(&self, _batch: &Self::Batch) -> Option<f64> {
        None
    }
}

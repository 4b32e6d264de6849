//! What can end a training run before its time.

use crate::checkpoint::CheckpointError;

/// Any failure of a task, boxed: the loop only passes it on.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a run did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The user asked to stop; the checkpoint resumes the run.
    #[error("interrupted; the same command resumes it")]
    Interrupted,
    /// Settings that do not fit the data.
    #[error("{0}")]
    Config(String),
    /// Loss or gradients left the range of numbers.
    #[error("{0}")]
    NonFinite(Box<NonFinite>),
    /// A checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The task failed.
    #[error("{what}")]
    Task {
        /// What was being done.
        what: String,
        /// What went wrong below.
        #[source]
        source: Cause,
    },
}

impl TrainError {
    /// A failure of the task while doing `what`.
    pub fn task(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Task { what: what.into(), source: source.into() }
    }
}

/// Where a run broke down, and the largest values found there.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "training diverged at step {step} (epoch {epoch}, batch {batch}): loss {loss}, gradient norm {gradient_norm}; \
     largest weight {} in {}, largest gradient {} in {}. {} \
     A lower learning rate, a longer warm-up or a smaller max_grad_norm usually helps",
    largest_weight.value, largest_weight.name, largest_gradient.value, largest_gradient.name,
    kept_words(*.last_good)
)]
pub struct NonFinite {
    /// Update, from 1.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u32,
    /// First micro-batch of the update, from 1.
    pub batch: usize,
    /// Mean loss of the update.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// The parameter that holds the largest value.
    pub largest_weight: Extreme,
    /// The parameter that holds the largest (or the first non-finite) gradient.
    pub largest_gradient: Extreme,
    /// Step of the checkpoint that is kept, if one was written.
    pub last_good: Option<u64>,
}

fn kept_words(last_good: Option<u64>) -> String {
    match last_good {
        Some(step) => format!("The checkpoint of step {step} is kept."),
        None => "No checkpoint had been written yet.".to_owned(),
    }
}

/// The largest absolute value of a set of tensors, and which tensor has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Extreme {
    /// Parameter name.
    pub name: String,
    /// Absolute value; NaN or infinite where one was found.
    pub value: f64,
}

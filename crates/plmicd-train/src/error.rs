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
    /// Training broke down.
    #[error("{0}")]
    Diverged(Box<Divergence>),
    /// Another process of the run has gone, or does not answer.
    #[error(
        "the processes that train together have lost one another: {0}\nhint: the log of the process that failed first says \
         why; the same command goes on from the last checkpoint"
    )]
    Peers(String),
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

/// How a run broke down.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Loss or gradient is not a finite number.
    NonFinite,
    /// A dev figure is not a finite number.
    NonFiniteDev {
        /// Its name.
        metric: String,
    },
    /// The loss has stayed far above its lowest level.
    LossExploded {
        /// Median of the last 50 losses.
        level: f64,
        /// The lowest it had been.
        lowest: f64,
    },
    /// The loss no longer depends on any parameter.
    NoGradient {
        /// Updates in a row.
        updates: usize,
    },
    /// Every dev example gets the same scores.
    ScoresEqual,
    /// The dev metric has fallen to what predicting every label gives.
    Forgotten {
        /// Its name.
        metric: String,
        /// Now.
        value: f64,
        /// At its best.
        best: f64,
    },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NonFinite => write!(f, "loss or gradient is not a finite number"),
            Self::NonFiniteDev { metric } => write!(f, "dev {metric} is not a finite number"),
            Self::LossExploded { level, lowest } => write!(
                f,
                "over the last {} steps the loss is about {level:.3e}, but it had been down to {lowest:.3e}",
                crate::guard::WINDOW
            ),
            Self::NoGradient { updates } => {
                write!(f, "for {updates} steps every gradient has been 0 although the loss is not")
            }
            Self::ScoresEqual => write!(f, "every dev example gets the same scores"),
            Self::Forgotten { metric, value, best } => write!(
                f,
                "dev {metric} is {value:.4}, as if every label were predicted, but it had been {best:.4}"
            ),
        }
    }
}

/// Where a run broke down, and the largest values found there.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "training {} at step {step} (epoch {epoch}, batch {batch}): {fault}; loss {loss}, gradient norm {gradient_norm}; \
     largest weight {} in {}, largest gradient {} in {}{}. {} \
     A lower learning rate, a longer warm-up or a smaller max_grad_norm usually helps",
    if matches!(fault, Fault::NonFinite | Fault::NonFiniteDev { .. } | Fault::LossExploded { .. }) { "diverged" } else { "collapsed" },
    largest_weight.value, largest_weight.name, largest_gradient.value, largest_gradient.name,
    logit_words(*.largest_logit), kept_words(*.last_good)
)]
pub struct Divergence {
    /// What was noticed.
    pub fault: Fault,
    /// Update, from 1.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u32,
    /// First micro-batch of the update, from 1; the last one where an evaluation tells.
    pub batch: usize,
    /// Mean loss of the update.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// The parameter that holds the largest value.
    pub largest_weight: Extreme,
    /// The parameter that holds the largest (or the first non-finite) gradient.
    pub largest_gradient: Extreme,
    /// The largest absolute output of the model for the update's first micro-batch, where the task can tell.
    pub largest_logit: Option<f64>,
    /// Step of the checkpoint that is kept, if one was written.
    pub last_good: Option<u64>,
}

fn logit_words(largest: Option<f64>) -> String {
    largest.map_or_else(String::new, |value| format!(", largest logit {value}"))
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

//! One training loop for every task: fine-tuning, pretraining, baselines.
//!
//! [`Trainer::run`] is the loop; a [`Task`] brings model, loss and evaluation, a [`BatchSource`] the examples.
//! What a run computes depends on [`TrainerConfig`], the task and the examples alone, and a run that was stopped
//! and resumed ends with the same bytes as one that was not (on the CPU, with the same number of threads).

mod checkpoint;
mod config;
mod error;
mod guard;
mod observer;
mod optimizer;
mod peers;
mod prefetch;
mod progress;
mod sampler;
mod schedule;
pub mod seed;
mod share;
mod state;
mod task;
mod tensor_file;
mod trainer;

pub use checkpoint::{CheckpointError, CheckpointStore, Kept, Restored};
pub use config::{AccumulationRule, AdamVariant, OptimizerConfig, Order, Schedule, TrainerConfig};
pub use error::{Cause, Divergence, Extreme, Fault, TrainError};
pub use observer::{Observer, StepReport, Unobserved};
pub use peers::Peers;
pub use progress::{BestEpoch, DevRecord, EpochRecord, Progress, StepHistory, StepRecord};
pub use sampler::Sampler;
pub use schedule::LrSchedule;
pub use task::{BatchSource, EvaluationSigns, NamedTensor, Parameter, Task};
pub use trainer::{Checkpoints, Outcome, Reading, Trainer};

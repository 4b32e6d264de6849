//! Who watches a run, and may ask it to stop.

use crate::progress::{DevRecord, EpochRecord, StepRecord};

/// Where a run stands after an update.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// The update's figures.
    pub record: StepRecord,
    /// Updates the run will make if nothing stops it early.
    pub total_steps: u64,
    /// Epoch, from 1.
    pub epoch: u32,
    /// Examples trained on so far, over all epochs.
    pub examples: u64,
    /// Examples of all planned epochs.
    pub total_examples: u64,
}

/// Receives what a run reports. Called from the training thread only; must not block for long.
pub trait Observer {
    /// Whether to save a checkpoint and stop.
    fn interrupted(&self) -> bool;

    /// After every update.
    fn step(&self, report: &StepReport);

    /// `done` of `total` held-out examples are scored.
    fn evaluating(&self, done: u64, total: u64);

    /// After every evaluation; `best` where its weights are the best so far.
    fn epoch(&self, record: &EpochRecord, best: bool);

    /// After every evaluation inside an epoch.
    fn midway(&self, _record: &DevRecord) {}

    /// Once, where a run goes on from a checkpoint: what it holds of the part before.
    fn resumed(&self, _steps: &[StepRecord], _epochs: &[EpochRecord], _midway: &[DevRecord]) {}

    /// Something the user should know, without stopping.
    fn warn(&self, message: &str);

    /// A fact worth a line in the log.
    fn note(&self, message: &str);
}

/// Watches nothing and never stops a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn interrupted(&self) -> bool {
        false
    }

    fn step(&self, _report: &StepReport) {}

    fn evaluating(&self, _done: u64, _total: u64) {}

    fn epoch(&self, _record: &EpochRecord, _best: bool) {}

    fn warn(&self, _message: &str) {}

    fn note(&self, _message: &str) {}
}

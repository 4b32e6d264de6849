//! The course of a training run: `training.json` of a `model` or an `encoder`.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};

/// What happened in training. It holds no wall-clock times: they would make equal models differ in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingHistory {
    /// The seed everything random derives from.
    pub seed: u64,
    /// Number format of the matrix products, as it was really computed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// One record for each epoch finished, in order.
    pub epochs: Vec<EpochRecord>,
    /// Evaluations inside epochs, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub midway: Vec<DevRecord>,
    /// Training loss and learning rate over the steps, thinned.
    pub steps: Vec<StepRecord>,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: u32,
    /// Whether training ended before its last epoch because dev metrics no longer rose.
    pub stopped_early: bool,
    /// Optimizer steps done.
    pub total_steps: u64,
    /// Number of trained parameters.
    pub parameters: u64,
}

/// One epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: u32,
    /// Optimizer steps done at its end.
    pub step: u64,
    /// Mean loss over its training notes.
    pub train_loss: f64,
    /// Mean loss over the dev notes.
    pub dev_loss: Option<f64>,
    /// Dev metrics by name.
    pub dev: BTreeMap<String, f64>,
}

/// An evaluation inside an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DevRecord {
    /// Optimizer steps done before it.
    pub step: u64,
    /// Mean loss over the dev notes.
    pub dev_loss: Option<f64>,
    /// Dev metrics by name.
    pub dev: BTreeMap<String, f64>,
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// From 1.
    pub step: u64,
    /// Training loss of the step's notes (a mean over the steps since the record before, if thinned).
    pub loss: f64,
    /// Learning rate of the first parameter group.
    pub learning_rate: f64,
}

impl StepRecord {
    /// At most `most` of these records; each stands for the steps since the one before, with their mean loss.
    pub fn thinned(records: &[StepRecord], most: usize) -> Vec<StepRecord> {
        let stride = records.len().div_ceil(most.max(1)).max(1);
        let merged = records.chunks(stride).filter_map(|steps| {
            let loss = steps.iter().map(|step| step.loss).sum::<f64>() / steps.len() as f64;
            Some(StepRecord { loss, ..*steps.last()? })
        });
        merged.collect()
    }
}

impl TrainingHistory {
    /// Name of the file.
    pub const FILE: &'static str = "training.json";
    /// Version of the file.
    pub const SCHEMA: u32 = 1;

    /// Reads the file.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        read_versioned(path, Self::SCHEMA)
    }

    /// Writes the file. Every number must be finite.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        write_versioned(path, Self::SCHEMA, self)
    }
}

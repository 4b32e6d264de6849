//! Where a run stands, and what it has recorded so far.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The position of a run between two updates. Together with the flat tensors it is the whole state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Epoch being trained, from 0.
    pub epoch: u32,
    /// Next micro-batch of that epoch.
    pub batch: usize,
    /// The epoch is trained, and its evaluation is due.
    pub evaluating: bool,
    /// Updates done.
    pub step: u64,
    /// Sum of the losses of this epoch's examples so far.
    pub loss_sum: f64,
    /// Examples of this epoch so far.
    pub examples: u64,
    /// Epochs done.
    pub epochs: Vec<EpochRecord>,
    /// The best of them, where a metric decides.
    pub best: Option<BestEpoch>,
    /// Evaluations inside epochs.
    #[serde(default)]
    pub midway: Vec<DevRecord>,
}

/// An evaluation inside an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevRecord {
    /// Updates done before it.
    pub step: u64,
    /// What it gave.
    pub dev: BTreeMap<String, f64>,
}

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: u32,
    /// Updates done at its end.
    pub step: u64,
    /// Mean loss over its examples, each taken when its batch was trained on.
    pub train_loss: f64,
    /// What the evaluation gave.
    pub dev: BTreeMap<String, f64>,
}

/// The epoch whose weights are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestEpoch {
    /// From 1.
    pub epoch: u32,
    /// Its metric.
    pub value: f64,
}

/// One update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRecord {
    /// From 1.
    pub step: u64,
    /// Mean loss over the update's examples.
    pub loss: f64,
    /// Learning rate of the encoder (the base rate).
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
}

/// Every update of a run, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepHistory(Vec<StepRecord>);

impl StepHistory {
    /// The updates, oldest first.
    pub fn records(&self) -> &[StepRecord] {
        &self.0
    }

    pub(crate) fn push(&mut self, record: StepRecord) {
        self.0.push(record);
    }

    /// As an f64 tensor of updates x (loss, learning rate, gradient norm).
    pub(crate) fn to_tensor(&self) -> Tensor {
        let flat: Vec<f64> = self
            .0
            .iter()
            .flat_map(|record| [record.loss, record.learning_rate, record.gradient_norm])
            .collect();
        Tensor::from_slice(&flat).view([self.0.len() as i64, 3])
    }

    /// The inverse of [`Self::to_tensor`]; `None` where the tensor is not one.
    pub(crate) fn from_tensor(tensor: &Tensor) -> Option<Self> {
        let [updates, 3] = tensor.size()[..] else { return None };
        let flat = Vec::<f64>::try_from(&tensor.contiguous().view([updates * 3])).ok()?;
        let record = |(i, values): (usize, &[f64])| StepRecord {
            step: i as u64 + 1,
            loss: values[0],
            learning_rate: values[1],
            gradient_norm: values[2],
        };
        Some(Self(flat.chunks_exact(3).enumerate().map(record).collect()))
    }
}

//! The course of the training as the artifact `encoder` keeps it.

use std::collections::BTreeMap;

use plmicd_data::{DevRecord, EpochRecord, StepRecord, TrainingHistory};
use plmicd_train::Outcome;

use crate::config::LOG_LIKELIHOOD;

/// Records of single steps kept, at most.
const MAX_STEPS: usize = 2000;

/// The run as `training.json` has it.
pub(crate) fn history(outcome: &Outcome, seed: u64) -> TrainingHistory {
    let epochs = outcome.epochs.iter().map(|record| {
        let (dev_loss, dev) = figures(&record.dev);
        EpochRecord { epoch: record.epoch, step: record.step, train_loss: record.train_loss, dev_loss, dev }
    });
    let midway = outcome.midway.iter().map(|record| {
        let (dev_loss, dev) = figures(&record.dev);
        DevRecord { step: record.step, dev_loss, dev }
    });
    let steps = outcome.steps.records().iter().map(|record| StepRecord {
        step: record.step,
        loss: record.loss,
        learning_rate: record.learning_rate,
    });
    TrainingHistory {
        seed,
        precision: None,
        epochs: epochs.collect(),
        midway: midway.collect(),
        steps: StepRecord::thinned(&steps.collect::<Vec<_>>(), MAX_STEPS),
        best_epoch: outcome.best_epoch,
        stopped_early: outcome.stopped_early,
        total_steps: outcome.steps.records().len() as u64,
        parameters: outcome.parameters,
    }
}

/// The dev loss, and the other figures without the one that is the loss once more, for the trainer.
fn figures(dev: &BTreeMap<String, f64>) -> (Option<f64>, BTreeMap<String, f64>) {
    let mut dev = dev.clone();
    let loss = dev.remove("loss");
    dev.remove(LOG_LIKELIHOOD);
    (loss, dev)
}

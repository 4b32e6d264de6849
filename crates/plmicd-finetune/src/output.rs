//! What the artifact `model` holds beside weights and config.

use plmicd_data::{EpochRecord, StepRecord, TrainingHistory};
use plmicd_train::Outcome;

/// Records of single steps kept, at most.
const MAX_STEPS: usize = 2000;

/// The run as `training.json` has it.
pub(crate) fn history(outcome: &Outcome, seed: u64) -> TrainingHistory {
    let epochs = outcome.epochs.iter().map(|record| {
        let mut dev = record.dev.clone();
        let dev_loss = dev.remove("loss");
        EpochRecord { epoch: record.epoch, step: record.step, train_loss: record.train_loss, dev_loss, dev }
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
        midway: Vec::new(),
        steps: StepRecord::thinned(&steps.collect::<Vec<_>>(), MAX_STEPS),
        best_epoch: outcome.best_epoch,
        stopped_early: outcome.stopped_early,
        total_steps: outcome.steps.records().len() as u64,
        parameters: outcome.parameters,
    }
}

//! What the artifact `model` holds beside weights and config.

use camino::Utf8Path;
use plmicd_data::{EpochRecord, StepRecord, TrainingHistory};
use plmicd_pipeline::{Input, StageError};
use plmicd_train::Outcome;

/// Records of single steps kept, at most.
const MAX_STEPS: usize = 2000;

/// Files of the token shards that travel with the model: with them a text can be scored without the shards.
const TOKENIZER_FILES: [&str; 7] = [
    "special_tokens.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
];

/// Copies the tokenizer.
pub(crate) fn copy_tokenizer(shards: &Input, out: &Utf8Path) -> Result<(), StageError> {
    for name in TOKENIZER_FILES {
        let source = shards.file(name);
        if source.exists() {
            // Read and written, not copied: a copy would be read-only like the store's file.
            fs_err::write(out.join(name), fs_err::read(source)?)?;
        }
    }
    Ok(())
}

/// The run as `training.json` has it.
pub(crate) fn history(outcome: &Outcome, seed: u64) -> TrainingHistory {
    let epochs = outcome.epochs.iter().map(|record| {
        let mut dev = record.dev.clone();
        let dev_loss = dev.remove("loss");
        EpochRecord { epoch: record.epoch, step: record.step, train_loss: record.train_loss, dev_loss, dev }
    });
    TrainingHistory {
        seed,
        epochs: epochs.collect(),
        steps: thin(outcome, MAX_STEPS),
        best_epoch: outcome.best_epoch,
        stopped_early: outcome.stopped_early,
        total_steps: outcome.steps.records().len() as u64,
        parameters: outcome.parameters,
    }
}

/// At most `most` records; each stands for the steps since the one before, with their mean loss.
fn thin(outcome: &Outcome, most: usize) -> Vec<StepRecord> {
    let records = outcome.steps.records();
    let stride = records.len().div_ceil(most).max(1);
    let merged = records.chunks(stride).filter_map(|steps| {
        let last = steps.last()?;
        let loss = steps.iter().map(|step| step.loss).sum::<f64>() / steps.len() as f64;
        Some(StepRecord { step: last.step, loss, learning_rate: last.learning_rate })
    });
    merged.collect()
}

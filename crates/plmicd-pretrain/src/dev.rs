//! Naming hidden tokens of the dev notes after an epoch.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use plmicd_nn::{INFERENCE_TOKENS, MaskedScore};
use plmicd_train::{Observer, TrainError};

use crate::config::LOG_LIKELIHOOD;
use crate::sequences::SequenceSet;
use crate::task::{PretrainTask, masked_batch};

/// Figures on the dev notes, in which the same tokens are hidden after every epoch: `loss` (mean cross-entropy of a
/// hidden token in nats), `log_likelihood` (its negative), `perplexity` (its exponential), `masked_accuracy` (share of
/// the hidden tokens named right).
pub(crate) fn evaluate(
    task: &PretrainTask<'_>,
    set: &SequenceSet,
    observer: &dyn Observer,
) -> Result<BTreeMap<String, f64>, TrainError> {
    let lengths = set.lengths();
    let mut sum = MaskedScore::default();
    let mut done = 0;
    for batch in batches(&lengths) {
        if observer.interrupted() {
            return Err(TrainError::Interrupted);
        }
        let sequences = batch.iter().map(|&index| set.sequence(index)).collect();
        let masked = masked_batch(sequences, task.pad, task.model.device(), |row, sequence| {
            task.masking.hide(sequence, &mut task.dev_random(batch[row]))
        });
        let score = task
            .model
            .score(&masked)
            .map_err(|source| TrainError::task("naming hidden tokens of dev notes", source))?;
        sum.loss_sum += score.loss_sum;
        sum.correct += score.correct;
        sum.tokens += score.tokens;
        done += batch.len() as u64;
        observer.evaluating(done, set.len() as u64);
    }
    let loss = sum.loss_sum / sum.tokens as f64;
    Ok(BTreeMap::from([
        ("loss".to_owned(), loss),
        (LOG_LIKELIHOOD.to_owned(), -loss),
        ("perplexity".to_owned(), loss.exp()),
        ("masked_accuracy".to_owned(), sum.correct as f64 / sum.tokens as f64),
    ]))
}

/// Sequences of similar length together, longest first, up to [`INFERENCE_TOKENS`] tokens with padding.
fn batches(lengths: &[u32]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| Reverse(lengths[index]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut most = 0;
    for index in order {
        match batches.last_mut() {
            Some(batch) if batch.len() < most => batch.push(index),
            _ => {
                most = (INFERENCE_TOKENS / lengths[index].max(1) as usize).max(1);
                batches.push(vec![index]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_sequence_once_and_no_more_tokens_than_allowed() {
        let lengths: Vec<u32> = (0..1000).map(|i| 3 + (i * 7919) % 510).collect();
        let batches = batches(&lengths);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        for batch in &batches {
            let longest = batch.iter().map(|&index| lengths[index]).max().unwrap_or(0);
            assert!(batch.len() * longest as usize <= INFERENCE_TOKENS);
        }
        assert!(batches.len() < 20, "{} batches", batches.len());
    }
}

//! Which part of every update a process works on.
//!
//! Where an update has at least as many micro-batches as there are processes, they are dealt out whole, so every
//! micro-batch is computed exactly as by one process. Otherwise each micro-batch is divided: its examples are dealt out.

use std::ops::Range;

use crate::config::{AccumulationRule, TrainerConfig};
use crate::sampler::Sampler;

/// This process's part of a micro-batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    /// The micro-batch, by its number in the epoch.
    pub batch: usize,
    /// What its randomness depends on beside the epoch.
    pub place: Vec<u64>,
    pub examples: Vec<usize>,
    /// Factor on its mean loss in the gradient.
    pub weight: f64,
    /// Its share of the update's examples.
    pub share: f64,
}

/// This process's part of an update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Update {
    /// The micro-batches of all processes.
    pub range: Range<usize>,
    /// Their examples.
    pub examples: usize,
    pub pieces: Vec<Piece>,
}

/// The updates of an epoch's micro-batches from `start` on, as process `rank` of `size` sees them.
pub(crate) fn updates(
    sampler: &Sampler,
    config: &TrainerConfig,
    plan: &[Vec<usize>],
    start: usize,
    (rank, size): (usize, usize),
) -> Vec<Update> {
    let accumulation = config.accumulation.max(1);
    let is_dealt = accumulation >= size;
    let mut updates = Vec::new();
    let mut start = start;
    while start < plan.len() {
        let range = sampler.update_range(start);
        start = range.end;
        let examples: usize = plan[range.clone()].iter().map(Vec::len).sum();
        let mut pieces = Vec::new();
        for (turn, batch) in range.clone().enumerate() {
            let whole = &plan[batch];
            let own: Vec<usize> = match is_dealt {
                true if turn % size == rank => whole.clone(),
                true => Vec::new(),
                false => whole.iter().copied().skip(rank).step_by(size).collect(),
            };
            if own.is_empty() {
                continue;
            }
            let mut place = vec![batch as u64];
            if !is_dealt {
                place.push(rank as u64);
            }
            let share = own.len() as f64 / examples as f64;
            let weight = match config.accumulation_rule {
                AccumulationRule::Batch => share,
                AccumulationRule::Published => own.len() as f64 / whole.len() as f64 / accumulation as f64,
            };
            pieces.push(Piece { batch, place, examples: own, weight, share });
        }
        updates.push(Update { range, examples, pieces });
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OptimizerConfig, Order};

    fn config(batch_size: usize, accumulation: usize) -> TrainerConfig {
        TrainerConfig {
            epochs: 1,
            max_steps: None,
            batch_size,
            accumulation,
            accumulation_rule: AccumulationRule::Batch,
            order: Order::Shuffled,
            seed: 1,
            optimizer: OptimizerConfig::default(),
            best_metric: None,
            early_stopping_patience: 0,
            evaluate_every: None,
        }
    }

    #[test]
    fn processes_share_every_update_without_rest_or_repetition() {
        for (batch_size, accumulation, examples) in [(8, 1, 75), (1, 8, 75), (4, 3, 50), (3, 2, 7), (1, 1, 5)]
        {
            let config = config(batch_size, accumulation);
            let sampler = Sampler::new(vec![1; examples], &config);
            let plan = sampler.epoch(0);
            let alone = updates(&sampler, &config, &plan, 0, (0, 1));
            for size in 1..6 {
                let parts: Vec<Vec<Update>> =
                    (0..size).map(|rank| updates(&sampler, &config, &plan, 0, (rank, size))).collect();
                for (at, whole) in alone.iter().enumerate() {
                    let pieces = || parts.iter().flat_map(|part| &part[at].pieces);
                    assert!(parts.iter().all(|part| part[at].range == whole.range));
                    let mut seen: Vec<usize> = pieces().flat_map(|piece| piece.examples.clone()).collect();
                    let mut all: Vec<usize> = plan[whole.range.clone()].concat();
                    seen.sort_unstable();
                    all.sort_unstable();
                    assert_eq!(seen, all);
                    for sum in [
                        pieces().map(|piece| piece.share).sum::<f64>(),
                        pieces().map(|piece| piece.weight).sum(),
                    ] {
                        assert!((sum - 1.0).abs() < 1e-12);
                    }
                }
            }
        }
    }

    #[test]
    fn whole_micro_batches_keep_their_seeds_and_parts_have_their_own() {
        let dealt = config(4, 4);
        let sampler = Sampler::new(vec![1; 16], &dealt);
        let plan = sampler.epoch(0);
        let second = updates(&sampler, &dealt, &plan, 0, (1, 2));
        let places: Vec<_> =
            second[0].pieces.iter().map(|piece| (piece.batch, piece.place.clone())).collect();
        assert_eq!(places, [(1, vec![1]), (3, vec![3])]);
        let divided = config(4, 1);
        let sampler = Sampler::new(vec![1; 16], &divided);
        let plan = sampler.epoch(0);
        let second = updates(&sampler, &divided, &plan, 0, (1, 2));
        assert_eq!(second[0].pieces[0].place, [0, 1]);
        assert_eq!(second[0].pieces[0].examples, [plan[0][1], plan[0][3]]);
        // Going on in the middle of an epoch.
        assert_eq!(updates(&sampler, &divided, &plan, 2, (1, 2)), second[2..]);
    }
}

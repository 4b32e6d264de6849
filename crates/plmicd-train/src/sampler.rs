//! Which examples each micro-batch of an epoch holds: a function of (seed, epoch) and nothing else.

use std::ops::Range;

use rand::seq::SliceRandom;

use crate::config::{AccumulationRule, Order, TrainerConfig};
use crate::seed;

/// Batches that are sorted by length together, where [`Order::SimilarLength`]: large enough that a batch holds
/// notes of nearly one length, small enough that which notes meet stays random.
const BATCHES_PER_GROUP: usize = 50;

/// The order of a training set through the epochs.
#[derive(Clone, Debug)]
pub struct Sampler {
    lengths: Vec<u32>,
    batch_size: usize,
    accumulation: usize,
    rule: AccumulationRule,
    order: Order,
    seed: u64,
}

impl Sampler {
    /// Over examples of these lengths (in any unit: they only group similar ones).
    pub fn new(lengths: Vec<u32>, config: &TrainerConfig) -> Self {
        Self {
            lengths,
            batch_size: config.batch_size.max(1),
            accumulation: config.accumulation.max(1),
            rule: config.accumulation_rule,
            order: config.order,
            seed: config.seed,
        }
    }

    /// Examples in an epoch.
    pub fn num_examples(&self) -> usize {
        self.lengths.len()
    }

    /// Micro-batches in every epoch; the last of a group may be short.
    pub fn batches_per_epoch(&self) -> usize {
        self.lengths.len().div_ceil(self.batch_size)
    }

    /// Updates planned for every epoch: one every `accumulation` micro-batches and one at the end. With
    /// [`AccumulationRule::Published`] an epoch may have one more.
    pub fn updates_per_epoch(&self) -> u64 {
        self.batches_per_epoch().div_ceil(self.accumulation) as u64
    }

    /// The micro-batches, from `start` on, that make up one update.
    pub fn update_range(&self, start: usize) -> Range<usize> {
        let count = match self.rule {
            AccumulationRule::Published if start == 0 => 1,
            _ => self.accumulation,
        };
        start..(start + count).min(self.batches_per_epoch())
    }

    /// The micro-batches of `epoch` (from 0), each a list of example indices. Every example occurs once.
    pub fn epoch(&self, epoch: u32) -> Vec<Vec<usize>> {
        let mut examples: Vec<usize> = (0..self.lengths.len()).collect();
        if self.order == Order::AsStored {
            return cut(&examples, self.batch_size);
        }
        let mut random = seed::generator(self.seed, "sampler", &[u64::from(epoch)]);
        examples.shuffle(&mut random);
        if self.order == Order::Shuffled {
            return cut(&examples, self.batch_size);
        }
        for group in examples.chunks_mut(self.batch_size * BATCHES_PER_GROUP) {
            // Stable, so that equal lengths keep their random order.
            group.sort_by_key(|&example| self.lengths[example]);
        }
        let mut batches = cut(&examples, self.batch_size);
        batches.shuffle(&mut random);
        batches
    }
}

fn cut(examples: &[usize], size: usize) -> Vec<Vec<usize>> {
    examples.chunks(size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OptimizerConfig;

    fn sampler(examples: u32, batch_size: usize, order: Order, seed: u64) -> Sampler {
        let config = TrainerConfig {
            epochs: 1,
            max_steps: None,
            batch_size,
            accumulation: 4,
            accumulation_rule: AccumulationRule::Batch,
            order,
            seed,
            optimizer: OptimizerConfig::default(),
            best_metric: None,
            early_stopping_patience: 0,
            evaluate_every: None,
        };
        // Lengths in no order, each several times.
        let lengths = (0..examples).map(|i| (i * 7919) % 97).collect();
        Sampler::new(lengths, &config)
    }

    #[test]
    fn every_example_occurs_once_an_epoch() {
        for order in [Order::SimilarLength, Order::Shuffled, Order::AsStored] {
            for examples in [1, 7, 8, 9, 1000, 1003] {
                let sampler = sampler(examples, 8, order, 1);
                let batches = sampler.epoch(3);
                assert_eq!(batches.len(), sampler.batches_per_epoch());
                assert!(batches.iter().all(|batch| (1..=8).contains(&batch.len())));
                let mut seen = batches.concat();
                seen.sort_unstable();
                assert_eq!(seen, (0..examples as usize).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        for order in [Order::SimilarLength, Order::Shuffled] {
            let one = sampler(200, 8, order, 1);
            assert_eq!(one.epoch(0), one.epoch(0));
            assert_ne!(one.epoch(0), one.epoch(1));
            assert_ne!(one.epoch(0), sampler(200, 8, order, 2).epoch(0));
        }
    }

    #[test]
    fn similar_lengths_share_a_batch_and_batches_come_in_random_order() {
        let spread = |sampler: &Sampler| -> u32 {
            let batches = sampler.epoch(0);
            let spread_of = |batch: &Vec<usize>| {
                let lengths = batch.iter().map(|&i| sampler.lengths[i]);
                lengths.clone().max().unwrap_or(0) - lengths.min().unwrap_or(0)
            };
            batches.iter().map(spread_of).sum()
        };
        let grouped = sampler(2000, 8, Order::SimilarLength, 1);
        assert!(spread(&grouped) * 10 < spread(&sampler(2000, 8, Order::Shuffled, 1)));
        let firsts: Vec<u32> = grouped.epoch(0).iter().map(|batch| grouped.lengths[batch[0]]).collect();
        assert!(firsts.windows(2).any(|pair| pair[0] > pair[1] + 20), "batches must not rise in length");
    }

    #[test]
    fn updates_come_every_n_micro_batches_and_at_the_end() {
        let sampler = sampler(75, 8, Order::Shuffled, 1);
        assert_eq!(sampler.batches_per_epoch(), 10);
        assert_eq!(sampler.updates_per_epoch(), 3);
        assert_eq!(sampler.update_range(0), 0..4);
        assert_eq!(sampler.update_range(8), 8..10);
    }

    /// The update steps of the published code: golden/heads/optimizer_and_schedule.json.
    #[test]
    fn published_updates_come_after_the_first_micro_batch_and_every_nth_from_there() {
        for (micro_batches, accumulation, after, planned) in [
            (1, 8, vec![0], 1),
            (8, 8, vec![0, 7], 1),
            (9, 8, vec![0, 8], 2),
            (16, 8, vec![0, 8, 15], 2),
            (17, 8, vec![0, 8, 16], 3),
            (20, 8, vec![0, 8, 16, 19], 3),
            (10, 1, (0..10).collect(), 10),
        ] {
            let mut sampler = sampler(micro_batches, 1, Order::Shuffled, 1);
            (sampler.accumulation, sampler.rule) = (accumulation, AccumulationRule::Published);
            let mut ends = Vec::new();
            let mut start = 0;
            while start < micro_batches as usize {
                let range = sampler.update_range(start);
                ends.push(range.end - 1);
                start = range.end;
            }
            assert_eq!(ends, after, "{micro_batches} micro-batches");
            assert_eq!(sampler.updates_per_epoch(), planned);
        }
    }
}

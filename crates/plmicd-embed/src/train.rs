//! Strands side by side, round by round.
//!
//! In a round every strand learns a unit of its own from the same vectors. Then the changes of the strands are added to
//! the shared vectors, row by row, in the order of the strands. Where several strands changed a row, each from the same
//! start, the plain sum may go too far: a row that each of them used often is already where each of them wants it. So
//! the sum is scaled by `1 / (1 + (strands - 1) min(1, uses / 16))`, with the mean uses a strand made of the row: nearly
//! the sum for rows that are used now and then, the mean for those that are used all the time.

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::config::EmbedConfig;
use crate::random::Random;
use crate::strand::{Rows, Setting, Strand};
use crate::words::{NegativeSampler, Words};

/// Uses of a row by one strand in a round from which on strands are averaged, not added up.
const SATURATED_USES: f32 = 16.0;

/// Rows that a worker merges at a time.
const ROWS_AT_A_TIME: usize = 512;

/// The vectors while they are learnt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vectors {
    /// Rows [V,E] of words as they predict: the embeddings.
    pub inputs: Vec<f32>,
    /// Rows [V,E] of words as they are predicted.
    pub outputs: Vec<f32>,
}

impl Vectors {
    /// Inputs uniform between plus and minus half of one by `width`, outputs 0, as in word2vec.
    pub fn start(words: usize, width: usize, seed: u64) -> Self {
        let row = |word: usize| {
            let mut random = Random::new(seed, [u64::MAX, word as u64]);
            (0..width).map(move |_| ((random.uniform() - 0.5) / width as f64) as f32)
        };
        Self { inputs: (0..words).flat_map(row).collect(), outputs: vec![0.0; words * width] }
    }
}

/// Learning under way.
pub(crate) struct Learning<'a> {
    words: &'a Words,
    setting: Setting<'a>,
    strands: Vec<Strand>,
    workers: &'a ThreadPool,
    pub vectors: Vectors,
    /// Rounds done, over all epochs, in this process.
    round: u32,
}

impl<'a> Learning<'a> {
    pub fn new(words: &'a Words, config: &'a EmbedConfig, workers: &'a ThreadPool, vectors: Vectors) -> Self {
        let count = words.counts.len();
        let strand = |_| Strand::new(count, config.dimensions);
        let negatives = NegativeSampler::new(&words.counts);
        let setting = Setting::new(config, words.kept_shares(config.subsample), negatives);
        Self {
            words,
            setting,
            strands: (0..config.strands).map(strand).collect(),
            workers,
            vectors,
            round: 0,
        }
    }

    /// One pass over the notes; the mean loss of a pair. `after` is told the words done in this epoch after every round
    /// and stops by an error.
    pub fn epoch<E>(&mut self, epoch: u32, mut after: impl FnMut(u64) -> Result<(), E>) -> Result<f64, E> {
        let (mut loss, mut pairs, mut done) = (0.0, 0u64, 0u64);
        let count = self.setting.config.strands;
        for (round, units) in self.words.units.chunks(count).enumerate() {
            self.round += 1;
            let rate = self.rate(epoch, done);
            let (number, place) = (self.round, round * count);
            let (words, setting, vectors) = (self.words, &self.setting, &self.vectors);
            let strands = &mut self.strands[..units.len()];
            self.workers.install(|| {
                strands.par_iter_mut().zip(units).enumerate().for_each(|(at, (strand, unit))| {
                    let random = Random::new(setting.config.seed, [u64::from(epoch), (place + at) as u64]);
                    let notes = &words.notes[unit.clone()];
                    strand.learn(notes, setting, &vectors.inputs, &vectors.outputs, rate, number, random);
                });
            });
            for strand in &self.strands[..units.len()] {
                loss += strand.loss;
                pairs += strand.pairs;
            }
            self.merge(units.len());
            done += units.iter().map(|unit| self.words.words_of(unit)).sum::<u64>();
            after(done)?;
        }
        Ok(loss / pairs.max(1) as f64)
    }

    /// Falls in a straight line over all words of all epochs.
    fn rate(&self, epoch: u32, done: u64) -> f32 {
        let config = self.setting.config;
        let total = self.words.total as f64 * f64::from(config.epochs);
        let progress = (self.words.total as f64 * f64::from(epoch) + done as f64) / total;
        let fall = (config.learning_rate - config.min_learning_rate) * progress;
        (config.learning_rate - fall) as f32
    }

    fn merge(&mut self, count: usize) {
        let (width, round) = (self.setting.config.dimensions, self.round);
        let strands = &self.strands[..count];
        let inputs: Vec<&Rows> = strands.iter().map(|strand| &strand.inputs).collect();
        let outputs: Vec<&Rows> = strands.iter().map(|strand| &strand.outputs).collect();
        let vectors = &mut self.vectors;
        self.workers.install(|| {
            merge_rows(&mut vectors.inputs, &inputs, width, round);
            merge_rows(&mut vectors.outputs, &outputs, width, round);
        });
    }
}

/// Adds what strands changed to the shared rows.
fn merge_rows(shared: &mut [f32], strands: &[&Rows], width: usize, round: u32) {
    shared.par_chunks_mut(width * ROWS_AT_A_TIME).enumerate().for_each(|(chunk, rows)| {
        let mut change = vec![0.0f32; width];
        for (at, row) in rows.chunks_mut(width).enumerate() {
            let word = chunk * ROWS_AT_A_TIME + at;
            let (mut touching, mut uses) = (0u32, 0u32);
            for (own, used) in strands.iter().filter_map(|strand| strand.changed(word, round)) {
                if touching == 0 {
                    change.fill(0.0);
                }
                change.iter_mut().zip(own).zip(&*row).for_each(|((change, own), old)| *change += own - old);
                touching += 1;
                uses += used;
            }
            if touching == 0 {
                continue;
            }
            let saturation = (uses as f32 / touching as f32 / SATURATED_USES).min(1.0);
            let share = 1.0 / (1.0 + (touching - 1) as f32 * saturation);
            row.iter_mut().zip(&change).for_each(|(value, change)| *value += change * share);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_one_strand_is_taken_as_it_is() {
        // With one strand there is nothing to merge: as if the text were learnt in one go.
        let notes: Vec<Vec<u32>> = (0..40).map(|n| (0..100).map(|i| (i * 7 + n) % 11).collect()).collect();
        let counts = (0..11).map(|w| notes.iter().flatten().filter(|x| **x == w).count() as u64).collect();
        let words = Words::for_tests(notes, counts);
        let config = EmbedConfig { dimensions: 12, strands: 1, subsample: 0.0, ..EmbedConfig::default() };
        let workers = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let mut learning = Learning::new(&words, &config, &workers, Vectors::start(11, 12, 1));
        let before = learning.vectors.clone();
        let first = learning.epoch(0, |_| Ok::<_, ()>(())).unwrap();
        assert!(learning.vectors != before);
        let mut last = first;
        for epoch in 1..5 {
            last = learning.epoch(epoch, |_| Ok::<_, ()>(())).unwrap();
        }
        assert!(last < first, "{first} {last}");
    }
}

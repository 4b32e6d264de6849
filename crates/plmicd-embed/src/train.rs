//! Strands side by side, round by round.
//!
//! In a round every strand learns a unit of its own from the same vectors. Then the changes of the strands are added to
//! the shared vectors, row by row, in the order of the strands. A sum is what one strand alone would have learnt as long
//! as rows hardly move within a round: else each strand makes the same way again from the same start. So a round is only
//! as long as the row that is used most allows, and a text that leaves too little to share has fewer strands.

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::config::EmbedConfig;
use crate::random::Random;
use crate::strand::{Rows, Setting, Strand};
use crate::words::{NegativeSampler, Text, Words};

/// Uses of a row in a round, times the step width, up to which the sum of the strands' changes is as good as learning in
/// one go. Measured: at twice this the first epoch begins to suffer, the last one not yet.
const WAY_OF_A_ROUND: f64 = 8.0;

/// Words that are worth handing to another thread.
const MIN_UNIT_WORDS: usize = 32;

/// More words at a time gain nothing, and interrupts should not wait.
const MAX_UNIT_WORDS: usize = 2000;

/// Keeps the draws of what is left out apart from those of the units.
const THINNING: u64 = 1 << 63;

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

    /// Whether learning has not run away.
    pub fn are_finite(&self) -> bool {
        self.inputs.par_iter().chain(&self.outputs).all(|value| value.is_finite())
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
    pub fn epoch<E: Send>(
        &mut self,
        epoch: u32,
        after: impl FnMut(u64) -> Result<(), E> + Send,
    ) -> Result<f64, E> {
        // Rounds are short: from inside the pool they begin and end without waking this thread.
        self.workers.install(|| self.rounds(epoch, after))
    }

    fn rounds<E>(&mut self, epoch: u32, mut after: impl FnMut(u64) -> Result<(), E>) -> Result<f64, E> {
        let (mut loss, mut pairs, mut before, mut unit) = (0.0, 0u64, 0u64, 0u64);
        let (count, unit_words) = self.strands_and_unit_words(self.rate(epoch, 0));
        for block in &self.words.blocks {
            let text = self.thinned_out(epoch, block);
            let words = self.words.words_of(block);
            let done = |place: usize| before + (words as f64 * place as f64 / text.len() as f64) as u64;
            for start in (0..text.len()).step_by(count * unit_words) {
                self.round += 1;
                let end = (start + count * unit_words).min(text.len());
                let (rate, round) = (self.rate(epoch, done(start)), self.round);
                let (setting, vectors) = (&self.setting, &self.vectors);
                let strands = &mut self.strands[..(end - start).div_ceil(unit_words)];
                strands.par_iter_mut().enumerate().for_each(|(at, strand)| {
                    let random = Random::new(setting.config.seed, [u64::from(epoch), unit + at as u64]);
                    let from = start + at * unit_words;
                    let places = from..(from + unit_words).min(end);
                    let (inputs, outputs) = (&vectors.inputs, &vectors.outputs);
                    strand.learn(&text, places, setting, inputs, outputs, rate, round, random);
                });
                for strand in &*strands {
                    loss += strand.loss;
                    pairs += strand.pairs;
                }
                let used = strands.len();
                unit += used as u64;
                self.merge(used);
                after(done(end))?;
            }
            before += words;
        }
        Ok(loss / pairs.max(1) as f64)
    }

    /// How many strands learn side by side at this step width, and how many words each in a round.
    fn strands_and_unit_words(&self, rate: f32) -> (usize, usize) {
        let uses = self.words.uses_of_busiest(&self.setting.kept_shares, self.setting.config);
        let words = (WAY_OF_A_ROUND / (f64::from(rate) * uses)) as usize;
        match self.setting.config.strands.min(words / MIN_UNIT_WORDS) {
            0 | 1 => (1, MAX_UNIT_WORDS),
            strands => (strands, (words / strands).min(MAX_UNIT_WORDS)),
        }
    }

    /// A block of notes without the words that are left out in this epoch.
    fn thinned_out(&self, epoch: u32, block: &Range<usize>) -> Text {
        let (setting, notes) = (&self.setting, &self.words.notes[block.clone()]);
        let kept = |(at, note): (usize, &Vec<u32>)| -> Vec<u32> {
            let place = THINNING | (block.start + at) as u64;
            let mut random = Random::new(setting.config.seed, [u64::from(epoch), place]);
            let mut is_kept = |word: &u32| {
                let share = setting.kept_shares[*word as usize];
                share >= 1.0 || random.uniform() < share
            };
            note.iter().copied().filter(|word| is_kept(word)).collect()
        };
        let kept: Vec<Vec<u32>> = notes.par_iter().enumerate().map(kept).collect();
        Text::of(kept)
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
        rayon::join(
            || merge_rows(&mut vectors.inputs, &inputs, width, round),
            || merge_rows(&mut vectors.outputs, &outputs, width, round),
        );
    }
}

/// Adds what strands changed to the shared rows. Only rows that were touched are looked at: a round is short, and the
/// vocabulary may be large.
fn merge_rows(shared: &mut [f32], strands: &[&Rows], width: usize, round: u32) {
    let rows_at_a_time = (shared.len() / width).div_ceil(rayon::current_num_threads());
    shared.par_chunks_mut(width * rows_at_a_time).enumerate().for_each(|(chunk, rows)| {
        let mut change = vec![0.0f32; width];
        let first = chunk * rows_at_a_time;
        let here = first..first + rows.len() / width;
        for (at, strand) in strands.iter().enumerate() {
            for &word in strand.touched().iter().filter(|word| here.contains(&(**word as usize))) {
                if strands[..at].iter().any(|earlier| earlier.changed(word, round).is_some()) {
                    continue;
                }
                let row = &mut rows[(word as usize - first) * width..][..width];
                let mut all =
                    strands[at..].iter().filter_map(|strand| strand.changed(word, round)).peekable();
                if let (Some(own), None) = (all.next(), all.peek()) {
                    row.copy_from_slice(own);
                    continue;
                }
                change.fill(0.0);
                for own in strands[at..].iter().filter_map(|strand| strand.changed(word, round)) {
                    change
                        .iter_mut()
                        .zip(own)
                        .zip(&*row)
                        .for_each(|((change, own), old)| *change += own - old);
                }
                row.iter_mut().zip(&change).for_each(|(value, change)| *value += change);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EmbedModel;

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

    /// Notes of the words of twenty subjects, each word as frequent as its rank has it (Zipf), with neighbours that go
    /// together.
    fn zipf(words: usize, vocabulary: usize) -> Words {
        let mut random = Random::new(7, [0, 0]);
        let mut sum = 0.0;
        let sums: Vec<f64> = (0..vocabulary)
            .map(|rank| {
                sum += 1.0 / (rank as f64 + 2.7);
                sum
            })
            .collect();
        let notes: Vec<Vec<u32>> = (0..words / 500)
            .map(|at| {
                let subject = at % 20;
                let mut note = Vec::with_capacity(500);
                while note.len() < 500 {
                    let drawn = random.uniform() * sum;
                    let mut word = sums.partition_point(|sum| *sum < drawn).min(vocabulary - 1);
                    if word >= 20 && random.uniform() < 0.7 {
                        word = (word / 20 * 20 + subject).min(vocabulary - 1);
                    }
                    note.push(word as u32);
                    if word >= 20 && random.uniform() < 0.3 {
                        note.push((word ^ 1).min(vocabulary - 1) as u32);
                    }
                }
                note
            })
            .collect();
        let mut counts = vec![0; vocabulary];
        notes.iter().flatten().for_each(|word| counts[*word as usize] += 1);
        Words::for_tests(notes, counts)
    }

    /// The last loss, and the mean cosine of words at random.
    fn learnt(words: &Words, config: &EmbedConfig) -> (f64, f64) {
        let workers = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let (count, width) = (words.counts.len(), config.dimensions);
        let mut learning = Learning::new(words, config, &workers, Vectors::start(count, width, config.seed));
        let mut loss = 0.0;
        for epoch in 0..config.epochs {
            loss = learning.epoch(epoch, |_| Ok::<_, ()>(())).unwrap();
        }
        assert!(learning.vectors.are_finite());
        let row = |word: usize| &learning.vectors.inputs[word * width..][..width];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let mut random = Random::new(3, [0, 0]);
        let (mut cosines, mut pairs) = (0.0, 0);
        while pairs < 2000 {
            let (one, other) = (random.below(count), random.below(count));
            if one != other && words.counts[one] > 0 && words.counts[other] > 0 {
                let (one, other) = (row(one), row(other));
                cosines += dot(one, other) / (dot(one, one) * dot(other, other)).sqrt();
                pairs += 1;
            }
        }
        (loss, cosines / 2000.0)
    }

    #[test]
    fn strands_side_by_side_learn_as_much_as_one() {
        let words = zipf(85_000, 1874);
        for model in [EmbedModel::SkipGram, EmbedModel::Cbow] {
            let config = EmbedConfig { model, ..EmbedConfig::default() };
            let (loss, cosine) = learnt(&words, &config);
            let (loss_of_one, cosine_of_one) = learnt(&words, &EmbedConfig { strands: 1, ..config });
            assert!((loss / loss_of_one - 1.0).abs() < 0.1, "{model:?}: {loss} {loss_of_one}");
            assert!(cosine < cosine_of_one + 0.1, "{model:?}: {cosine} {cosine_of_one}");
        }
    }

    #[test]
    fn rounds_are_as_long_as_the_busiest_row_allows() {
        let plan = |words: &Words, rate, strands| {
            let workers = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let config = EmbedConfig { strands, ..EmbedConfig::default() };
            let start = Vectors::start(words.counts.len(), config.dimensions, 1);
            Learning::new(words, &config, &workers, start).strands_and_unit_words(rate)
        };
        let words = zipf(100_000, 1874);
        let (strands, unit) = plan(&words, 0.025, 8);
        assert!(strands == 8 && (MIN_UNIT_WORDS..200).contains(&unit), "{strands} {unit}");
        let (strands, unit) = plan(&words, 0.0001, 8);
        assert_eq!((strands, unit), (8, MAX_UNIT_WORDS));
        assert_eq!(plan(&words, 0.9, 8), (1, MAX_UNIT_WORDS));
        assert_eq!(plan(&words, 0.025, 1), (1, MAX_UNIT_WORDS));
    }
}

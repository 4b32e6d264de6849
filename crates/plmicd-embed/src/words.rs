//! The training notes as words, and what follows from how often each occurs.

use std::ops::Range;

use camino::Utf8Path;
use plmicd_data::{ShardReader, SpecialTokens, Split, counted};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::config::{EmbedConfig, EmbedModel};
use crate::random::Random;

/// Words, about, of the notes that are thinned out at a time.
const BLOCK_WORDS: usize = 1 << 17;

/// Notes between two looks at the interrupt flag while reading.
const STEP: u64 = 1000;

/// The training notes without words that are left out altogether.
pub(crate) struct Words {
    /// Word ids of each note.
    pub notes: Vec<Vec<u32>>,
    /// How often each word occurs in them; 0 where it is left out.
    pub counts: Vec<u64>,
    /// Words in all.
    pub total: u64,
    /// Notes `start..end` of each block that is thinned out at a time.
    pub blocks: Vec<Range<usize>>,
}

impl Words {
    /// Reads the training notes of token shards. Padding and words below `min_count` are left out.
    ///
    /// # Errors
    /// No notes, an id outside the vocabulary, fewer than two distinct words.
    pub fn read(
        dir: &Utf8Path,
        tokens: &SpecialTokens,
        config: &EmbedConfig,
        context: &StageContext<'_>,
    ) -> Result<Self, StageError> {
        let failed = |error| StageError::because("reading the training notes", error);
        let reader = ShardReader::open(dir, Split::Train).map_err(failed)?;
        let total = reader.num_notes();
        let mut counts = vec![0u64; tokens.vocab_size];
        let mut notes: Vec<Vec<u32>> = Vec::new();
        for note in reader {
            let note = note.map_err(failed)?;
            let mut words = Vec::with_capacity(note.tokens.len());
            for token in note.tokens {
                match usize::try_from(token).ok().and_then(|id| counts.get_mut(id)) {
                    Some(count) => *count += 1,
                    None => {
                        let message = format!(
                            "train split, note {}: token id {token}, but the vocabulary has {} tokens",
                            note.note_id, tokens.vocab_size
                        );
                        return Err(BadInput::new(dir, message).column("tokens").into());
                    }
                }
                words.push(token as u32);
            }
            notes.push(words);
            let done = notes.len() as u64;
            if done.is_multiple_of(STEP) {
                context.check_interrupt()?;
                context.progress("reading train notes", done, Some(total), "notes");
            }
        }
        if let Some(pad) = tokens.pad {
            counts[pad as usize] = 0;
        }
        counts.iter_mut().filter(|count| **count < config.min_count).for_each(|count| *count = 0);
        let distinct = counts.iter().filter(|count| **count > 0).count();
        if distinct < 2 {
            let message = format!(
                "{} with {} that occur {} times or more: nothing to learn from",
                counted(notes.len() as u64, "training notes"),
                counted(distinct as u64, "distinct words"),
                config.min_count
            );
            return Err(BadInput::new(dir, message).into());
        }
        notes.iter_mut().for_each(|note| note.retain(|word| counts[*word as usize] > 0));
        context.note(format!(
            "{}, {} words, {distinct} of {} distinct ones",
            counted(notes.len() as u64, "training notes"),
            counts.iter().sum::<u64>(),
            tokens.vocab_size
        ));
        Ok(Self::new(notes, counts))
    }

    #[cfg(test)]
    pub fn for_tests(notes: Vec<Vec<u32>>, counts: Vec<u64>) -> Self {
        Self::new(notes, counts)
    }

    fn new(notes: Vec<Vec<u32>>, counts: Vec<u64>) -> Self {
        let mut blocks = Vec::new();
        let (mut start, mut words) = (0, 0);
        for (at, note) in notes.iter().enumerate() {
            words += note.len();
            if words >= BLOCK_WORDS || at + 1 == notes.len() {
                blocks.push(start..at + 1);
                (start, words) = (at + 1, 0);
            }
        }
        Self { total: counts.iter().sum(), notes, counts, blocks }
    }

    /// Words of a block.
    pub fn words_of(&self, block: &Range<usize>) -> u64 {
        self.notes[block.clone()].iter().map(|note| note.len() as u64).sum()
    }

    /// The share of each word's occurrences that is kept: `sqrt(t / f) + t / f` for a word with the share `f` of the
    /// text, 1 at most (as word2vec does it).
    pub fn kept_shares(&self, subsample: f64) -> Vec<f64> {
        let share = |count: u64| {
            if subsample == 0.0 || count == 0 {
                return 1.0;
            }
            let ratio = subsample * self.total as f64 / count as f64;
            (ratio.sqrt() + ratio).min(1.0)
        };
        self.counts.iter().map(|&count| share(count)).collect()
    }

    /// How often, on average, the most used row is changed for a word of the thinned-out text: an output as a true or a
    /// drawn word, an input by what the true word and all drawn ones ask of it.
    pub fn uses_of_busiest(&self, kept_shares: &[f64], config: &EmbedConfig) -> f64 {
        let largest = |weights: &dyn Fn(usize) -> f64| {
            let of_all = || (0..self.counts.len()).map(weights);
            of_all().fold(0.0, f64::max) / of_all().sum::<f64>()
        };
        let share = largest(&|word| self.counts[word] as f64 * kept_shares[word]);
        let drawn = largest(&|word| (self.counts[word] as f64).powf(0.75));
        // Windows are drawn from 1 up to `window`, on either side.
        let (around, negative) = ((config.window + 1) as f64, config.negative as f64);
        let predictions = match config.model {
            EmbedModel::SkipGram => around,
            EmbedModel::Cbow => 1.0,
        };
        (predictions * (share + negative * drawn)).max(around * share * (1.0 + negative))
    }
}

/// Notes as one pass reads them: without the words that are left out this time.
#[derive(Debug, Default)]
pub(crate) struct Text {
    words: Vec<u32>,
    /// Where each note ends.
    ends: Vec<usize>,
}

impl Text {
    /// Notes joined, each its own stretch.
    pub fn of(notes: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let mut text = Self::default();
        for note in notes {
            text.words.extend(note);
            text.ends.push(text.words.len());
        }
        text
    }

    /// Words of all notes.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// The notes that a range of places reaches into, each with those of its places that are in the range.
    pub fn notes_in(&self, range: Range<usize>) -> impl Iterator<Item = (&[u32], Range<usize>)> {
        let first = self.ends.partition_point(|end| *end <= range.start);
        let begin = |at: usize| if at == 0 { 0 } else { self.ends[at - 1] };
        let notes = (first..self.ends.len()).take_while(move |at| begin(*at) < range.end);
        notes.filter(move |at| begin(*at) < self.ends[*at]).map(move |at| {
            let (start, end) = (begin(at), self.ends[at]);
            (&self.words[start..end], range.start.max(start) - start..range.end.min(end) - start)
        })
    }
}

/// Draws words by their frequency to the power of 3/4, in constant time (Walker's alias method in Vose's form).
pub(crate) struct NegativeSampler {
    /// Words with a count.
    words: Vec<u32>,
    /// For each place: the share of draws that stay there, and where the others go.
    places: Vec<(f64, u32)>,
}

impl NegativeSampler {
    pub fn new(counts: &[u64]) -> Self {
        let words: Vec<u32> =
            (0u32..).zip(counts).filter(|(_, count)| **count > 0).map(|(id, _)| id).collect();
        let weights: Vec<f64> = words.iter().map(|id| (counts[*id as usize] as f64).powf(0.75)).collect();
        let mean = weights.iter().sum::<f64>() / words.len() as f64;
        let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let mut places: Vec<(f64, u32)> = (0..words.len() as u32).map(|at| (1.0, at)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..words.len()).partition(|&at| shares[at] < 1.0);
        while let (Some(&few), Some(&many)) = (small.last(), large.last()) {
            small.pop();
            places[few] = (shares[few], many as u32);
            shares[many] -= 1.0 - shares[few];
            if shares[many] < 1.0 {
                large.pop();
                small.push(many);
            }
        }
        Self { words, places }
    }

    pub fn draw(&self, random: &mut Random) -> u32 {
        let at = random.below(self.words.len());
        let (share, other) = self.places[at];
        let place = if random.uniform() < share { at } else { other as usize };
        self.words[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_frequencies() {
        let counts = [0, 1, 16, 81, 0, 256];
        let sampler = NegativeSampler::new(&counts);
        let mut random = Random::new(3, [0, 0]);
        let mut drawn = [0u32; 6];
        const DRAWS: u32 = 200_000;
        for _ in 0..DRAWS {
            drawn[sampler.draw(&mut random) as usize] += 1;
        }
        // To the power of 3/4: 1, 8, 27, 64 of 100.
        for (word, expected) in [(0, 0.0), (1, 0.01), (2, 0.08), (3, 0.27), (4, 0.0), (5, 0.64)] {
            let share = f64::from(drawn[word]) / f64::from(DRAWS);
            assert!((share - expected).abs() < 0.005, "word {word}: {share}");
        }
    }

    #[test]
    fn blocks_hold_every_note_once() {
        let notes: Vec<Vec<u32>> = [100_000, 60_000, 1, 0, 200_000, 3].iter().map(|&n| vec![0; n]).collect();
        let words = Words::new(notes, vec![360_004, 0]);
        assert_eq!(words.blocks, [0..2, 2..5, 5..6]);
        assert_eq!(words.blocks.iter().map(|block| words.words_of(block)).sum::<u64>(), words.total);
    }

    #[test]
    fn ranges_of_a_text_stay_inside_notes() {
        let text = Text::of([vec![1, 2, 3], vec![], vec![4, 5], vec![6]]);
        let parts = |range| -> Vec<(Vec<u32>, Range<usize>)> {
            text.notes_in(range).map(|(note, places)| (note.to_vec(), places)).collect()
        };
        assert_eq!(text.len(), 6);
        assert_eq!(parts(1..4), [(vec![1, 2, 3], 1..3), (vec![4, 5], 0..1)]);
        assert_eq!(parts(4..6), [(vec![4, 5], 1..2), (vec![6], 0..1)]);
        assert!(parts(6..6).is_empty());
    }

    #[test]
    fn the_busiest_row_is_that_of_the_most_frequent_word() {
        let words = Words::new(vec![], vec![81, 16, 1, 0]);
        let uses = |model, kept: [f64; 4]| {
            let config = EmbedConfig { model, window: 4, negative: 2, ..EmbedConfig::default() };
            words.uses_of_busiest(&kept, &config)
        };
        // Drawn to the power of 3/4: 27, 8, 1 of 36. A word has 5 around it on average.
        let all = [1.0; 4];
        let share = 81.0 / 98.0;
        assert!((uses(EmbedModel::Cbow, all) - 5.0 * share * 3.0).abs() < 1e-12);
        let kept = [16.0 / 81.0, 1.0, 1.0, 1.0];
        let outputs = 5.0 * (16.0 / 33.0 + 2.0 * 27.0 / 36.0);
        assert!((uses(EmbedModel::SkipGram, kept) - outputs).abs() < 1e-12);
    }

    #[test]
    fn frequent_words_are_thinned_out() {
        let words = Words::new(vec![], vec![900_000, 100, 99_900]);
        let kept = words.kept_shares(1e-3);
        assert!((kept[0] - ((1e-3f64 / 0.9).sqrt() + 1e-3 / 0.9)).abs() < 1e-12);
        assert_eq!(kept[1], 1.0);
        assert!(words.kept_shares(0.0).iter().all(|share| *share == 1.0));
    }
}

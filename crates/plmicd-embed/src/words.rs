//! The training notes as words, and what follows from how often each occurs.

use camino::Utf8Path;
use plmicd_data::{ShardReader, SpecialTokens, Split};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::config::EmbedConfig;
use crate::random::Random;

/// Words of a unit of work, about: enough to be worth a copy of the rows it touches, few enough that the results of
/// strands side by side still go together.
const UNIT_WORDS: usize = 2000;

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
    /// Notes `start..end` of each unit of work.
    pub units: Vec<std::ops::Range<usize>>,
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
                "the {} training notes have {distinct} distinct words that occur {} times or more: nothing to learn from",
                notes.len(),
                config.min_count
            );
            return Err(BadInput::new(dir, message).into());
        }
        notes.iter_mut().for_each(|note| note.retain(|word| counts[*word as usize] > 0));
        context.note(format!(
            "{} training notes, {} words, {distinct} of {} distinct ones",
            notes.len(),
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
        let mut units = Vec::new();
        let (mut start, mut words) = (0, 0);
        for (at, note) in notes.iter().enumerate() {
            words += note.len();
            if words >= UNIT_WORDS || at + 1 == notes.len() {
                units.push(start..at + 1);
                (start, words) = (at + 1, 0);
            }
        }
        Self { total: counts.iter().sum(), notes, counts, units }
    }

    /// Words of a unit of work.
    pub fn words_of(&self, unit: &std::ops::Range<usize>) -> u64 {
        self.notes[unit.clone()].iter().map(|note| note.len() as u64).sum()
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
    fn units_hold_every_note_once() {
        let notes: Vec<Vec<u32>> = [1500, 600, 1, 0, 5000, 3].iter().map(|&n| vec![0; n]).collect();
        let words = Words::new(notes, vec![7104, 0]);
        assert_eq!(words.units, [0..2, 2..5, 5..6]);
        assert_eq!(words.units.iter().map(|unit| words.words_of(unit)).sum::<u64>(), words.total);
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

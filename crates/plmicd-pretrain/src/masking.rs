//! Hiding tokens (Devlin et al. 2019, section 3.1 and appendix A): a share of a sequence's tokens has to be named;
//! in the place of most stands the mask token, of some a random one, and some are left as they are.

use std::ops::Range;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::config::PretrainConfig;
use crate::start::Specials;

/// How tokens are hidden.
pub(crate) struct Masking {
    rate: f64,
    mask_token_share: f64,
    random_token_share: f64,
    vocab_size: i64,
    specials: Specials,
    /// Whether each token begins a word, for whole-word masking.
    word_starts: Option<Vec<bool>>,
}

/// A token to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    /// Its place in the sequence.
    pub place: usize,
    /// What stood there.
    pub token: i64,
}

impl Masking {
    pub fn new(
        config: &PretrainConfig,
        vocab_size: usize,
        specials: Specials,
        word_starts: Option<Vec<bool>>,
    ) -> Self {
        Self {
            rate: config.mask_rate,
            mask_token_share: config.mask_token_share,
            random_token_share: config.random_token_share,
            vocab_size: vocab_size as i64,
            specials,
            word_starts,
        }
    }

    /// Hides tokens of a sequence in place and says which, in order: the nearest whole number to `mask_rate` of its
    /// ordinary tokens, but at least one. Special tokens are never hidden, nor put in the place of others.
    ///
    /// Of whole words, as many are taken in random order as do not exceed that number; at least one.
    pub fn hide(&self, sequence: &mut [i64], random: &mut ChaCha8Rng) -> Vec<Hidden> {
        let mut places: Vec<usize> =
            (0..sequence.len()).filter(|&at| !self.specials.contains(sequence[at])).collect();
        if places.is_empty() {
            return Vec::new();
        }
        let number = ((places.len() as f64 * self.rate).round() as usize).max(1);
        let mut chosen = match &self.word_starts {
            None => places.partial_shuffle(random, number).0.to_vec(),
            Some(starts) => choose_words(words(sequence, &places, starts), number, random),
        };
        chosen.sort_unstable();
        let hidden = chosen.into_iter().map(|place| {
            let token = sequence[place];
            sequence[place] = self.shown(token, random);
            Hidden { place, token }
        });
        hidden.collect()
    }

    /// What the model sees in the place of a hidden token.
    fn shown(&self, token: i64, random: &mut ChaCha8Rng) -> i64 {
        let fate: f64 = random.random();
        if fate < self.mask_token_share {
            i64::from(self.specials.mask)
        } else if fate < self.mask_token_share + self.random_token_share {
            loop {
                let other = random.random_range(0..self.vocab_size);
                if !self.specials.contains(other) {
                    return other;
                }
            }
        } else {
            token
        }
    }
}

/// The ordinary tokens at `places` as words: stretches of neighbours of which only the first begins a word.
fn words(sequence: &[i64], places: &[usize], starts: &[bool]) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for &place in places {
        let begins = starts.get(sequence[place] as usize).copied().unwrap_or(true);
        match words.last_mut() {
            Some(word) if word.end == place && !begins => word.end += 1,
            _ => words.push(place..place + 1),
        }
    }
    words
}

fn choose_words(mut words: Vec<Range<usize>>, number: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    words.shuffle(random);
    let mut chosen: Vec<usize> = Vec::new();
    for word in &words {
        if chosen.len() + word.len() <= number {
            chosen.extend(word.clone());
        }
    }
    if chosen.is_empty() {
        // Every word is longer than that.
        chosen.extend(words.swap_remove(0));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use plmicd_train::seed;

    use super::*;

    const SPECIALS: Specials = Specials { cls: Some(2), sep: Some(3), pad: 0, mask: 4, unk: Some(1) };

    fn masking(word_starts: Option<Vec<bool>>) -> Masking {
        Masking::new(&PretrainConfig::default(), 1000, SPECIALS, word_starts)
    }

    fn sequence(tokens: usize) -> Vec<i64> {
        let ordinary = (0..tokens).map(|i| 5 + (i as i64 * 37) % 995);
        std::iter::once(2).chain(ordinary).chain([3]).collect()
    }

    /// Share of what is hidden, of the mask token, of other tokens and of unchanged ones: 2,000 sequences of 126.
    #[test]
    fn shares_are_those_of_the_paper() {
        let masking = masking(None);
        let (mut hidden, mut masked, mut kept, mut total) = (0.0f64, 0.0, 0.0, 0.0);
        let mut by_place = vec![0.0; 128];
        for index in 0..2000 {
            let before = sequence(126);
            let mut after = before.clone();
            let found = masking.hide(&mut after, &mut seed::generator(1, "test", &[index]));
            assert_eq!(found.len(), 19, "the nearest number to 0.15 x 126");
            assert!(found.windows(2).all(|pair| pair[0].place < pair[1].place));
            for (place, (&old, &new)) in before.iter().zip(&after).enumerate() {
                let is_hidden = found.iter().any(|hidden| hidden.place == place && hidden.token == old);
                assert!(is_hidden || old == new, "nothing else changes");
                assert!(new == 4 || old == new || !SPECIALS.contains(new));
            }
            for one in found {
                by_place[one.place] += 1.0;
                hidden += 1.0;
                masked += f64::from(after[one.place] == 4);
                kept += f64::from(after[one.place] == one.token);
            }
            total += 126.0;
        }
        assert!((hidden / total - 19.0 / 126.0).abs() < 1e-12);
        // Five standard deviations of 38,000 draws.
        assert!((masked / hidden - 0.8).abs() < 0.0103, "{}", masked / hidden);
        assert!((kept / hidden - (0.1 + 0.1 / 995.0)).abs() < 0.0078, "{}", kept / hidden);
        // Every place alike, and the special tokens' never.
        assert_eq!((by_place[0], by_place[127]), (0.0, 0.0));
        let expected = hidden / 126.0;
        let spread = by_place[1..127].iter().map(|n| (n - expected).powi(2)).sum::<f64>() / expected;
        // Chi-squared with 125 degrees of freedom has mean 125 and standard deviation 16.
        assert!((40.0..210.0).contains(&spread), "{spread}");
    }

    #[test]
    fn what_is_hidden_depends_on_the_counters_alone() {
        let masking = masking(None);
        let hide = |counters: &[u64]| {
            let mut tokens = sequence(60);
            let hidden = masking.hide(&mut tokens, &mut seed::generator(7, "masking", counters));
            (tokens, hidden)
        };
        assert_eq!(hide(&[1, 2]), hide(&[1, 2]));
        assert_ne!(hide(&[1, 2]), hide(&[1, 3]));
        assert_ne!(hide(&[1, 2]), hide(&[2, 2]));
    }

    #[test]
    fn short_sequences_have_one_hidden_token_and_bare_frames_none() {
        let masking = masking(None);
        let mut random = seed::generator(1, "test", &[]);
        assert_eq!(masking.hide(&mut sequence(1), &mut random).len(), 1);
        assert_eq!(masking.hide(&mut sequence(9), &mut random).len(), 1);
        assert_eq!(masking.hide(&mut sequence(10), &mut random).len(), 2);
        assert!(masking.hide(&mut [2, 1, 3, 0, 0], &mut random).is_empty());
    }

    /// Even ids begin words.
    fn even_starts() -> Option<Vec<bool>> {
        Some((0..1000).map(|id| id % 2 == 0).collect())
    }

    #[test]
    fn words_are_hidden_whole() {
        let masking = masking(even_starts());
        // Words of 1, 2 and 3 tokens; the first one was cut at the sequence's start, an unknown token parts two.
        let mut tokens = vec![2, 7];
        for word in 0..20i64 {
            let first = 10 + 10 * word;
            tokens.extend((0..=word % 3).map(|i| if i == 0 { first } else { first + 2 * i - 1 }));
        }
        tokens.extend([1, 9, 3]);
        let places: Vec<usize> = (0..tokens.len()).filter(|&at| !SPECIALS.contains(tokens[at])).collect();
        let all = words(&tokens, &places, masking.word_starts.as_ref().expect("given"));
        assert_eq!(all.len(), 22);
        let mut seen = 0.0;
        for index in 0..500 {
            let mut random = seed::generator(3, "test", &[index]);
            let hidden = masking.hide(&mut tokens.clone(), &mut random);
            let places: Vec<usize> = hidden.iter().map(|hidden| hidden.place).collect();
            for word in &all {
                let inside = word.clone().filter(|place| places.contains(place)).count();
                assert!(inside == 0 || inside == word.len(), "{word:?} is hidden in part");
            }
            assert!((1..=6).contains(&places.len()), "0.15 x 41 tokens");
            seen += places.len() as f64;
        }
        assert!(seen / 500.0 > 5.5, "close to the number: {}", seen / 500.0);
    }

    #[test]
    fn a_word_longer_than_the_share_is_still_hidden() {
        let masking = masking(even_starts());
        let mut tokens = vec![2, 10, 11, 13, 3];
        let hidden = masking.hide(&mut tokens, &mut seed::generator(3, "test", &[]));
        assert_eq!(hidden.len(), 3);
    }
}

//! Learning pieces by merging the most frequent pair, again and again (byte-pair encoding, Sennrich et al. 2016,
//! section 3.2; WordPiece vocabularies are learnt the same way, with `##` before continuing pieces).
//!
//! Not the library's trainer: that one numbers pieces in the order of a randomly seeded hash map, so that two runs
//! give two vocabularies. Here the result is a function of the word counts.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Index of a piece in the vocabulary.
pub type PieceId = u32;
type Pair = (PieceId, PieceId);

/// What is learnt.
#[derive(Debug, PartialEq, Eq)]
pub struct Learnt {
    /// Pieces by id: those given at the start, then new ones in the order of learning.
    pub pieces: Vec<String>,
    /// Merges in the order of learning, each once.
    pub merges: Vec<Pair>,
    /// The piece that each merge gives.
    pub results: Vec<PieceId>,
}

impl Learnt {
    /// The merges as texts of pieces.
    pub fn merges_in_words(&self) -> Vec<(String, String)> {
        let text = |id: PieceId| self.pieces[id as usize].clone();
        self.merges.iter().map(|&(first, second)| (text(first), text(second))).collect()
    }

    /// For each piece from `base` on, the pieces below `base` that it is made of.
    pub fn made_of(&self, base: usize) -> Vec<Vec<PieceId>> {
        let mut made: Vec<Vec<PieceId>> = vec![Vec::new(); self.pieces.len() - base];
        let parts = |made: &[Vec<PieceId>], id: PieceId| match (id as usize).checked_sub(base) {
            None => vec![id],
            Some(at) => made[at].clone(),
        };
        for ((first, second), result) in self.merges.iter().zip(&self.results) {
            let Some(at) = (*result as usize).checked_sub(base) else { continue };
            // A piece that two pairs give keeps its first meaning.
            if made[at].is_empty() {
                made[at] = [parts(&made, *first), parts(&made, *second)].concat();
            }
        }
        made
    }
}

/// Word as pieces, and how often it occurs.
pub struct Word {
    /// Its pieces, at the start its characters.
    pub pieces: Vec<PieceId>,
    /// Occurrences.
    pub count: u64,
}

/// Merges until the vocabulary has `size` pieces or no pair occurs `min_frequency` times. Of pairs that are equally
/// frequent, the one with the smaller ids wins.
///
/// `prefix` marks continuing pieces and is dropped where two pieces are joined. `watch` is told the size of the
/// vocabulary now and then, and ends the work by an error.
pub fn learn<E>(
    mut words: Vec<Word>,
    mut pieces: Vec<String>,
    prefix: &str,
    size: usize,
    min_frequency: u64,
    mut watch: impl FnMut(usize) -> Result<(), E>,
) -> Result<Learnt, E> {
    let mut ids: HashMap<String, PieceId> = pieces.iter().cloned().zip(0..).collect();
    let mut pairs = Pairs::default();
    for (at, word) in words.iter().enumerate() {
        pairs.add(word, at);
    }
    pairs.settle();

    let (mut merges, mut results) = (Vec::new(), Vec::new());
    let mut merged: HashSet<Pair> = HashSet::new();
    while pieces.len() < size {
        if merges.len().is_multiple_of(256) {
            watch(pieces.len())?;
        }
        let Some(pair) = pairs.most_frequent(min_frequency) else { break };
        let tail = &pieces[pair.1 as usize];
        let joined = format!("{}{}", pieces[pair.0 as usize], tail.strip_prefix(prefix).unwrap_or(tail));
        // Two ways of joining may give the same piece, which then keeps its id.
        let id = *ids.entry(joined).or_insert_with_key(|joined| {
            pieces.push(joined.clone());
            (pieces.len() - 1) as PieceId
        });
        if merged.insert(pair) {
            merges.push(pair);
            results.push(id);
        }
        for at in pairs.take_words(pair) {
            let word = &mut words[at];
            pairs.remove(word);
            join(&mut word.pieces, pair, id);
            pairs.add(word, at);
        }
        pairs.settle();
    }
    Ok(Learnt { pieces, merges, results })
}

/// Replaces every occurrence of `pair`, from the left.
fn join(pieces: &mut Vec<PieceId>, pair: Pair, id: PieceId) {
    let mut kept = 0;
    let mut at = 0;
    while at < pieces.len() {
        if at + 1 < pieces.len() && (pieces[at], pieces[at + 1]) == pair {
            pieces[kept] = id;
            at += 2;
        } else {
            pieces[kept] = pieces[at];
            at += 1;
        }
        kept += 1;
    }
    pieces.truncate(kept);
}

/// How often each pair of neighbours occurs, and in which words.
#[derive(Default)]
struct Pairs {
    found: HashMap<Pair, Found>,
    /// Candidates with the count they had when pushed; checked when taken.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    /// Pairs whose count has grown since they were last queued.
    grown: Vec<Pair>,
}

#[derive(Default)]
struct Found {
    count: u64,
    /// Words it was ever seen in, some of them more than once, some no longer.
    words: Vec<usize>,
}

impl Pairs {
    fn add(&mut self, word: &Word, at: usize) {
        for pair in word.pieces.windows(2).map(|pair| (pair[0], pair[1])) {
            let found = self.found.entry(pair).or_default();
            found.count += word.count;
            if found.words.last() != Some(&at) {
                found.words.push(at);
            }
            self.grown.push(pair);
        }
    }

    fn remove(&mut self, word: &Word) {
        for pair in word.pieces.windows(2).map(|pair| (pair[0], pair[1])) {
            if let Some(found) = self.found.get_mut(&pair) {
                found.count -= word.count;
            }
        }
    }

    /// Queues the pairs that have grown.
    fn settle(&mut self) {
        self.grown.sort_unstable();
        self.grown.dedup();
        for pair in self.grown.drain(..) {
            self.queue.push((self.found[&pair].count, Reverse(pair)));
        }
    }

    fn most_frequent(&mut self, min_frequency: u64) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.found.get(&pair).map_or(0, |found| found.count);
            if now == count && count >= min_frequency.max(1) {
                return Some(pair);
            }
            // It has become rarer: its turn comes later. Had it grown, it would be queued again already.
            if now > 0 && now < count {
                self.queue.push((now, Reverse(pair)));
            }
        }
        None
    }

    /// The words of a pair that is about to be merged.
    fn take_words(&mut self, pair: Pair) -> Vec<usize> {
        let mut words =
            self.found.get_mut(&pair).map(|found| std::mem::take(&mut found.words)).unwrap_or_default();
        words.sort_unstable();
        words.dedup();
        words
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    /// Words spelled in single letters, `a` being piece 0.
    fn run(words: &[(&str, u64)], prefix: &str, size: usize, min_frequency: u64) -> Learnt {
        let mut pieces: Vec<String> = ('a'..='z').map(String::from).collect();
        if !prefix.is_empty() {
            pieces.extend(('a'..='z').map(|c| format!("{prefix}{c}")));
        }
        let words = words
            .iter()
            .map(|(word, count)| {
                let pieces = word
                    .bytes()
                    .enumerate()
                    .map(|(i, b)| u32::from(b - b'a') + if i > 0 && !prefix.is_empty() { 26 } else { 0 });
                Word { pieces: pieces.collect(), count: *count }
            })
            .collect();
        learn::<Infallible>(words, pieces, prefix, size, min_frequency, |_| Ok(())).unwrap()
    }

    #[test]
    fn the_published_example() {
        // Sennrich et al. 2016: low 5, lower 2, newest 6, widest 3 (without the end-of-word mark).
        let learnt = run(&[("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)], "", 26 + 4, 1);
        assert_eq!(learnt.pieces[26..], ["es", "est", "lo", "low"]);
    }

    #[test]
    fn ties_go_to_the_smaller_ids() {
        let learnt = run(&[("zz", 4), ("ab", 4), ("ba", 4)], "", 28, 1);
        assert_eq!(learnt.pieces[26..], ["ab", "ba"]);
    }

    #[test]
    fn rare_pairs_stay_apart_and_repeats_are_joined_from_the_left() {
        let learnt = run(&[("aaa", 2), ("bc", 1)], "", 100, 2);
        assert_eq!(learnt.pieces[26..], ["aa", "aaa"]);
        assert_eq!(learnt.merges, [(0, 0), (26, 0)]);
    }

    #[test]
    fn continuing_pieces_keep_their_prefix() {
        let learnt = run(&[("abc", 3), ("bcbc", 2)], "##", 52 + 3, 1);
        assert_eq!(learnt.pieces[52..], ["##bc", "abc", "b##c"].map(|p| p.replace("b##c", "bc")));
    }

    /// The same by recounting everything after each merge.
    fn plain(words: &[(Vec<PieceId>, u64)], pieces: usize, size: usize, min_frequency: u64) -> Vec<Pair> {
        let mut words = words.to_vec();
        let mut names: Vec<Vec<PieceId>> = (0..pieces as PieceId).map(|id| vec![id]).collect();
        let mut merges: Vec<Pair> = Vec::new();
        while names.len() < size {
            let mut counts: BTreeMap<Pair, u64> = BTreeMap::new();
            for (word, count) in &words {
                for pair in word.windows(2) {
                    *counts.entry((pair[0], pair[1])).or_default() += count;
                }
            }
            let Some((&pair, _)) = counts
                .iter()
                .filter(|&(_, &count)| count >= min_frequency)
                .max_by_key(|&(&pair, &count)| (count, Reverse(pair)))
            else {
                break;
            };
            let joined = [names[pair.0 as usize].clone(), names[pair.1 as usize].clone()].concat();
            let id = names.iter().position(|name| *name == joined).unwrap_or_else(|| {
                names.push(joined);
                names.len() - 1
            });
            if !merges.contains(&pair) {
                merges.push(pair);
            }
            for (word, _) in &mut words {
                join(word, pair, id as PieceId);
            }
        }
        merges
    }

    #[test]
    fn equals_recounting_on_many_small_corpora() {
        let mut state = 1_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..60 {
            let words: Vec<(Vec<PieceId>, u64)> = (0..12)
                .map(|_| ((0..1 + next(9)).map(|_| next(3) as PieceId).collect(), 1 + next(4)))
                .collect();
            let expected = plain(&words, 3, 20, 2);
            let words = words.into_iter().map(|(pieces, count)| Word { pieces, count }).collect();
            let pieces = ["a", "b", "c"].map(str::to_owned).to_vec();
            let learnt = learn::<Infallible>(words, pieces, "", 20, 2, |_| Ok(())).unwrap();
            assert_eq!(learnt.merges, expected);
        }
    }
}

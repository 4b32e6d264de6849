//! Bootstrap standard errors of the areas under the ROC curve.
//!
//! A resample gives each note a weight: how often it was drawn. With weights, the area is
//! `sum_ij w_i w_j [s_i > s_j] / (P N)` over true pairs `i` and false pairs `j`, a tie counting half, `P` and `N` the
//! weights of either kind. The order of the scores is the same in every resample, so pairs are put in order once, and
//! 32 resamples are then summed up side by side. Pairs below every true one add the same whatever they are, and are
//! never looked at.

use std::ops::Range;

use rayon::prelude::*;

use crate::data::Scored;
use crate::positives::Positives;
use crate::resample::{draw, standard_error};

/// Resamples that are summed up side by side: 128 bytes of weights a note.
const TOGETHER: usize = 32;
/// Groups of resamples that are held at once: 4 KiB of weights a note.
const HELD: usize = 32;
/// Pairs whose weights are added up in 32 bits, which a note drawn less than 65,536 times cannot overflow.
const ADDED: usize = 1 << 16;
/// Labels whose columns are gathered together: one cache line of `f32`.
const BLOCK: usize = 16;

/// Weights of one note in resamples side by side.
type Lane = [u32; TOGETHER];

/// Bootstrap standard errors over notes of [`micro_auc`](crate::micro_auc) and [`macro_auc`](crate::macro_auc), on the
/// same samples of notes as [`bootstrap`](crate::bootstrap). Resamples in which an area is undefined are left out; `None`
/// where it is in all of them.
pub fn bootstrap_areas(scored: &Scored<'_>, resamples: usize, seed: u64) -> [Option<f64>; 2] {
    let notes = scored.truth().num_notes();
    let groups = resamples.div_ceil(TOGETHER);
    let [mut micros, mut macros] = [Vec::new(), Vec::new()];
    for first in (0..groups).step_by(HELD) {
        let weights = weights(notes, first..groups.min(first + HELD), seed);
        micros.extend(micro(scored, &weights));
        macros.extend(macro_(scored, &weights));
    }
    // The last group holds more than were asked for.
    [micros, macros]
        .map(|values| standard_error(&values.into_iter().take(resamples).flatten().collect::<Vec<f64>>()))
}

/// For each group of resamples the weights of every note.
fn weights(notes: usize, groups: Range<usize>, seed: u64) -> Vec<Vec<Lane>> {
    groups
        .into_par_iter()
        .map(|group| {
            let mut lanes = vec![[0; TOGETHER]; notes];
            let mut times = vec![0; notes];
            for at in 0..TOGETHER {
                draw(&mut times, seed, (group * TOGETHER + at) as u64);
                lanes.iter_mut().zip(&times).for_each(|(lane, times)| lane[at] = *times);
            }
            lanes
        })
        .collect()
}

/// The area over all pairs, in every resample.
fn micro(scored: &Scored<'_>, weights: &[Vec<Lane>]) -> Vec<Option<f64>> {
    let truth = scored.truth();
    let positives: Vec<(f32, u32)> = (0..truth.num_notes())
        .flat_map(|note| truth.row(note).iter().map(move |label| (note, *label)))
        .map(|(note, label)| (scored.row(note)[label as usize], note as u32))
        .collect();
    let distinct = Positives::new(positives.iter().map(|(score, _)| *score).collect());
    let keys: Vec<Vec<u32>> = (0..truth.num_notes())
        .into_par_iter()
        .map(|note| scored.row(note).iter().filter_map(|score| place(&distinct, *score)).collect())
        .collect();
    let pairs = || (0u32..).zip(&keys).flat_map(|(note, keys)| keys.iter().map(move |key| (*key, note)));
    let order = Order::new(&distinct, &positives, pairs);
    drop(keys);
    let all = scored.scores().len() as u64;
    weights.par_iter().flat_map_iter(|weights| order.areas(weights, all)).collect()
}

/// The mean of the labels' areas that are defined, in every resample.
fn macro_(scored: &Scored<'_>, weights: &[Vec<Lane>]) -> Vec<Option<f64>> {
    let truth = scored.truth();
    let (notes, labels) = (truth.num_notes(), truth.num_labels());
    let mut positives: Vec<Vec<(f32, u32)>> = vec![Vec::new(); labels];
    for note in 0..notes {
        for &label in truth.row(note) {
            positives[label as usize].push((scored.row(note)[label as usize], note as u32));
        }
    }
    let resamples = weights.len() * TOGETHER;
    // Blocks are added up in their order, so that the sums do not depend on the number of threads.
    let blocks: Vec<Vec<(f64, u32)>> = positives
        .par_chunks(BLOCK)
        .enumerate()
        .map(|(block, positives)| {
            let first = block * BLOCK;
            let distinct: Vec<Positives> = positives
                .iter()
                .map(|of_label| Positives::new(of_label.iter().map(|(score, _)| *score).collect()))
                .collect();
            let mut keys: Vec<Vec<(u32, u32)>> = vec![Vec::new(); positives.len()];
            for note in 0..notes {
                let row = &scored.row(note)[first..first + positives.len()];
                for ((keys, distinct), &score) in keys.iter_mut().zip(&distinct).zip(row) {
                    keys.extend(place(distinct, score).map(|key| (key, note as u32)));
                }
            }
            let mut sums = vec![(0.0, 0); resamples];
            for ((positives, distinct), keys) in positives.iter().zip(&distinct).zip(&keys) {
                if positives.is_empty() {
                    continue;
                }
                let order = Order::new(distinct, positives, || keys.iter().copied());
                let areas = weights.iter().flat_map(|weights| order.areas(weights, notes as u64));
                for (sum, area) in sums.iter_mut().zip(areas) {
                    if let Some(area) = area {
                        *sum = (sum.0 + area, sum.1 + 1);
                    }
                }
            }
            sums
        })
        .collect();
    (0..resamples)
        .map(|at| {
            let (sum, count) =
                blocks.iter().fold((0.0, 0), |(sum, count), block| (sum + block[at].0, count + block[at].1));
            (count > 0).then(|| sum / f64::from(count))
        })
        .collect()
}

/// Where a score lies among the distinct scores of true pairs: `2 k` if it equals the one of number `k`, `2 k + 1` if
/// it lies between this and the next, `None` if it is below all.
fn place(distinct: &Positives, score: f32) -> Option<u32> {
    let below = distinct.slot(score).checked_sub(1)?;
    Some(2 * below as u32 + u32::from(distinct.distinct[below] != score))
}

/// Pairs in the order of their scores, as the numbers of their notes.
struct Order {
    /// True pairs by their scores; those of the distinct score `k` from `positive_starts[k]` on.
    positives: Vec<u32>,
    positive_starts: Vec<usize>,
    /// All pairs that are not below every true one, by their places.
    others: Vec<u32>,
    other_starts: Vec<usize>,
}

impl Order {
    fn new<I: Iterator<Item = (u32, u32)>>(
        distinct: &Positives,
        positives: &[(f32, u32)],
        others: impl Fn() -> I,
    ) -> Self {
        let count = distinct.distinct.len();
        let own = || {
            let place = |score| distinct.slot(score).saturating_sub(1) as u32;
            positives.iter().map(move |(score, note)| (place(*score), *note))
        };
        let (positives, positive_starts) = sorted(count, own);
        let (others, other_starts) = sorted(2 * count, others);
        Self { positives, positive_starts, others, other_starts }
    }

    /// The areas in resamples side by side, `all` pairs in each; `None` where no pair or every pair is true.
    fn areas(&self, weights: &[Lane], all: u64) -> [Option<f64>; TOGETHER] {
        let sum = |notes: &[u32]| {
            let mut total = [0u64; TOGETHER];
            for notes in notes.chunks(ADDED) {
                let mut sum = [0u32; TOGETHER];
                for note in notes {
                    sum.iter_mut().zip(&weights[*note as usize]).for_each(|(sum, weight)| *sum += weight);
                }
                total.iter_mut().zip(sum).for_each(|(total, sum)| *total += u64::from(sum));
            }
            total
        };
        // In half-points: twice the weight of true pairs below a pair, once that of those equal to it.
        let (mut below, mut missed) = ([0u64; TOGETHER], [0u64; TOGETHER]);
        for at in 0..self.positive_starts.len() - 1 {
            let here = sum(&self.positives[self.positive_starts[at]..self.positive_starts[at + 1]]);
            let [start, middle, end] = [0, 1, 2].map(|next| self.other_starts[2 * at + next]);
            let (equal, above) = (sum(&self.others[start..middle]), sum(&self.others[middle..end]));
            for lane in 0..TOGETHER {
                let (before, here) = (below[lane], here[lane]);
                missed[lane] += equal[lane] * (2 * before + here) + above[lane] * 2 * (before + here);
                below[lane] = before + here;
            }
        }
        std::array::from_fn(|lane| {
            let (positives, missed) = (below[lane], missed[lane]);
            let negatives = all - positives;
            // Of the points over all pairs, those of true pairs among themselves make up a half each.
            let points = (2 * positives * all).checked_sub(missed + positives * positives)?;
            (positives > 0 && negatives > 0).then(|| points as f64 / (2 * positives * negatives) as f64)
        })
    }
}

/// Notes by ascending place below `count`, and where each place starts; one more start than places.
fn sorted<I: Iterator<Item = (u32, u32)>>(count: usize, pairs: impl Fn() -> I) -> (Vec<u32>, Vec<usize>) {
    let mut starts = vec![0; count + 1];
    pairs().for_each(|(place, _)| starts[place as usize + 1] += 1);
    for place in 0..count {
        starts[place + 1] += starts[place];
    }
    let mut next = starts.clone();
    let mut notes = vec![0; starts[count]];
    for (place, note) in pairs() {
        notes[next[place as usize]] = note;
        next[place as usize] += 1;
    }
    (notes, starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auc::{label_aucs, macro_auc, micro_auc};
    use crate::data::Truth;

    /// Scores with many ties; the last label is true for every note, the one before for none.
    fn example(notes: usize, labels: usize) -> (Vec<f32>, Truth) {
        let mut state = 7u64;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut scores = Vec::new();
        let mut rows = Vec::new();
        for _ in 0..notes {
            let mut row: Vec<i32> = (0..labels as i32 - 2).filter(|_| next(5) == 0).collect();
            row.push(labels as i32 - 1);
            for label in 0..labels as i32 {
                let lift = if row.contains(&label) { 4 } else { 0 };
                scores.push((next(12) + lift) as f32 / 16.0);
            }
            rows.push(row);
        }
        (scores, Truth::new(labels, &rows).unwrap())
    }

    /// The notes as often as they were drawn.
    fn drawn(scores: &[f32], truth: &Truth, times: &[u32]) -> (Vec<f32>, Truth) {
        let labels = truth.num_labels();
        let chosen = || times.iter().enumerate().flat_map(|(note, n)| std::iter::repeat_n(note, *n as usize));
        let rows: Vec<Vec<i32>> =
            chosen().map(|note| truth.row(note).iter().map(|id| *id as i32).collect()).collect();
        let scores = chosen().flat_map(|note| scores[note * labels..(note + 1) * labels].to_vec()).collect();
        (scores, Truth::new(labels, &rows).unwrap())
    }

    #[test]
    fn resampled_areas_are_those_of_the_notes_drawn() {
        let (scores, truth) = example(23, 21);
        let scored = Scored::new(&scores, &truth).unwrap();
        let weights = weights(23, 0..2, 3);
        let (micros, macros) = (micro(&scored, &weights), macro_(&scored, &weights));
        assert_eq!((micros.len(), macros.len()), (64, 64));
        let mut times = vec![0; 23];
        for resample in 0..40 {
            draw(&mut times, 3, resample as u64);
            let (scores, truth) = drawn(&scores, &truth, &times);
            let scored = Scored::new(&scores, &truth).unwrap();
            let (micro, expected) = (micros[resample].unwrap(), micro_auc(&scored).unwrap());
            assert!((micro - expected).abs() < 1e-12, "{resample}: {micro}, expected {expected}");
            let (macro_, expected) = (macros[resample].unwrap(), macro_auc(&label_aucs(&scored)).unwrap().0);
            assert!((macro_ - expected).abs() < 1e-12, "{resample}: {macro_}, expected {expected}");
        }
        let errors = bootstrap_areas(&scored, 40, 3);
        assert!(errors.iter().all(|error| error.is_some_and(|error| error > 0.0)), "{errors:?}");
    }

    #[test]
    fn without_a_true_pair_there_is_no_standard_error() {
        let truth = Truth::new(2, &[vec![], vec![]]).unwrap();
        let scores = [0.1, 0.2, 0.3, 0.4];
        let scored = Scored::new(&scores, &truth).unwrap();
        assert_eq!(bootstrap_areas(&scored, 10, 1), [None, None]);
        assert_eq!(bootstrap_areas(&scored, 0, 1), [None, None]);
        let none = Truth::new(2, &[] as &[Vec<i32>]).unwrap();
        assert_eq!(bootstrap_areas(&Scored::new(&[], &none).unwrap(), 10, 1), [None, None]);
    }
}

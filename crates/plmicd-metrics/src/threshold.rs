//! The best global threshold, exactly.
//!
//! A threshold only matters through the set of pairs it predicts, so there are as many different decisions
//! as distinct scores: 30 million on a MIMIC-III dev set. Few of them can be best. Lowering the threshold past
//! a score that no true pair has adds only false positives, which lowers F1; so the best decision ends at
//! the score of some true pair, and it is enough to know, for each distinct score of a true pair, how many
//! pairs score at least that much. One parallel pass bins all scores between those of the true pairs.
//!
//! **Choice of the number.** The threshold lies midway between the lowest score predicted and the next lower
//! score of any pair (0 if there is none): the decision with the widest margin to both. If the midpoint is no
//! `f32` of its own, it is the lower score itself, which the strict comparison does not predict.
//!
//! **Ties.** Among thresholds of equal value the highest is taken: fewest predictions, same value.
//! Values are compared as fractions of integers or in fixed point, never as rounded sums.

use rayon::prelude::*;

use crate::counts::{LabelCounts, ratio};
use crate::data::{Scope, Scored};
use crate::macro_search;
use crate::positives::Positives;

/// Points of a curve, at most.
pub const MAX_CURVE_POINTS: usize = 200;

/// A threshold and the value it reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BestThreshold {
    /// Predict where the score is greater.
    pub threshold: f32,
    /// The objective there.
    pub value: f64,
}

impl BestThreshold {
    /// What to do without any true pair: every threshold is as good.
    pub(crate) const UNDECIDED: Self = Self { threshold: 0.5, value: 0.0 };
}

/// The threshold of the highest micro F1, `2 TP / (P + T)` over all pairs.
pub fn best_micro_f1(scored: &Scored<'_>) -> BestThreshold {
    let positives = Positives::new(scored.positive_scores());
    let true_pairs = positives.from[0];
    let (counts, highest) = bin(scored.scores(), &positives);
    let mut best: Option<(u64, u64, usize)> = None;
    let mut predicted = 0;
    for (index, &score) in positives.distinct.iter().enumerate().rev() {
        predicted += counts[index + 1];
        // No threshold from 0 up predicts a score of 0.
        if score == 0.0 {
            break;
        }
        let (numerator, denominator) = (2 * positives.from[index], predicted + true_pairs);
        let better = best.is_none_or(|(n, d, _)| {
            u128::from(numerator) * u128::from(d) > u128::from(n) * u128::from(denominator)
        });
        if better {
            best = Some((numerator, denominator, index));
        }
    }
    best.map_or(BestThreshold::UNDECIDED, |(numerator, denominator, index)| BestThreshold {
        threshold: between(highest[index], positives.distinct[index]),
        value: numerator as f64 / denominator as f64,
    })
}

/// The threshold of the highest mean of the labels' F1. Labels that never occur have F1 0 at every
/// threshold, so the mean over all labels and that over the present ones are highest together; `value` is
/// the mean over all.
pub fn best_macro_f1(scored: &Scored<'_>) -> BestThreshold {
    let Some(threshold) = macro_search::best(scored) else { return BestThreshold::UNDECIDED };
    let counts = LabelCounts::at(scored, &Scope::everything(scored.truth()), threshold);
    BestThreshold { threshold, value: counts.macro_f1_all_labels() }
}

/// Bins all scores between the distinct scores of the positives: for each slot (see [`Positives::slot`]),
/// the number of scores and the highest of them.
fn bin(scores: &[f32], positives: &Positives) -> (Vec<u64>, Vec<Option<f32>>) {
    let slots = positives.distinct.len() + 1;
    let empty = || (vec![0u64; slots], vec![None::<f32>; slots]);
    scores
        .par_chunks(chunk_len(scores.len()))
        .map(|scores| {
            let (mut counts, mut highest) = empty();
            for &score in scores {
                let slot = positives.slot(score);
                counts[slot] += 1;
                if highest[slot].is_none_or(|other| score > other) {
                    highest[slot] = Some(score);
                }
            }
            (counts, highest)
        })
        .reduce(empty, |(mut counts, mut highest), (other_counts, other_highest)| {
            counts.iter_mut().zip(other_counts).for_each(|(a, b)| *a += b);
            // `None` is below every `Some`.
            highest.iter_mut().zip(other_highest).for_each(|(a, b)| {
                if b > *a {
                    *a = b;
                }
            });
            (counts, highest)
        })
}

/// One chunk a thread: each has its own bins.
fn chunk_len(len: usize) -> usize {
    len.div_ceil(rayon::current_num_threads()).max(1)
}

/// A threshold that predicts `score`, which is above 0, but not `lower`.
pub(crate) fn between(lower: Option<f32>, score: f32) -> f32 {
    let lower = lower.unwrap_or(0.0);
    let middle = f64::midpoint(f64::from(lower), f64::from(score)) as f32;
    if middle < score { middle } else { lower }
}

/// Metrics at one threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Predict where the score is greater.
    pub threshold: f32,
    /// Micro F1; 0 if nothing is predicted or true.
    pub micro_f1: f64,
    /// Mean of the F1 of all labels.
    pub macro_f1_all_labels: f64,
}

/// Thresholds to draw a curve over, ascending, at most [`MAX_CURVE_POINTS`]: 0.00, 0.01, ..., 0.99; evenly
/// spaced quantiles of the scores of true pairs, for models whose scores crowd at one end; and `chosen`.
pub fn curve_thresholds(scored: &Scored<'_>, chosen: f32) -> Vec<f32> {
    const GRID: u8 = 100;
    let quantiles = MAX_CURVE_POINTS - usize::from(GRID) - 1;
    let distinct = Positives::new(scored.positive_scores()).distinct;
    let mut thresholds: Vec<f32> = (0..GRID).map(|i| f32::from(i) / f32::from(GRID)).collect();
    if !distinct.is_empty() {
        thresholds.extend((0..quantiles).map(|i| distinct[i * (distinct.len() - 1) / (quantiles - 1)]));
    }
    thresholds.push(chosen);
    thresholds.sort_unstable_by(f32::total_cmp);
    thresholds.dedup();
    thresholds
}

/// Micro and macro F1 at each of the ascending `thresholds`, in one pass over the scores.
pub fn curve(scored: &Scored<'_>, thresholds: &[f32]) -> Vec<CurvePoint> {
    let (notes, labels) = (scored.truth().num_notes(), scored.truth().num_labels());
    let bins = thresholds.len() + 1;
    // A score in bin b exceeds the first b thresholds.
    let bin_of = |score: f32| thresholds.partition_point(|threshold| *threshold < score);
    let zero = || (vec![0u32; bins * labels], vec![0u32; bins * labels]);
    let rows: Vec<usize> = (0..notes).collect();
    let (mut hits, mut predicted) = rows
        .par_chunks(chunk_len(notes))
        .map(|rows| {
            let (mut hits, mut predicted) = zero();
            for &note in rows {
                let row = scored.row(note);
                for (label, &score) in row.iter().enumerate() {
                    predicted[bin_of(score) * labels + label] += 1;
                }
                for &label in scored.truth().row(note) {
                    hits[bin_of(row[label as usize]) * labels + label as usize] += 1;
                }
            }
            (hits, predicted)
        })
        .reduce(zero, |(mut hits, mut predicted), (other_hits, other_predicted)| {
            hits.iter_mut().zip(other_hits).for_each(|(a, b)| *a += b);
            predicted.iter_mut().zip(other_predicted).for_each(|(a, b)| *a += b);
            (hits, predicted)
        });
    // From counts per bin to counts of that bin and those above.
    for counts in [&mut hits, &mut predicted] {
        for at in (0..(bins - 1) * labels).rev() {
            counts[at] += counts[at + labels];
        }
    }
    let positives = scored.truth().label_counts();
    let wide = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).collect();
    thresholds
        .iter()
        .enumerate()
        .map(|(index, &threshold)| {
            let bin = (index + 1) * labels..(index + 2) * labels;
            let counts = LabelCounts {
                notes: notes as u64,
                true_positives: wide(&hits[bin.clone()]),
                predicted: wide(&predicted[bin]),
                positives: positives.clone(),
            };
            CurvePoint {
                threshold,
                micro_f1: counts.micro_f1().unwrap_or(0.0),
                macro_f1_all_labels: counts.macro_f1_all_labels(),
            }
        })
        .collect()
}

/// Micro F1 at a fixed threshold; 0 if nothing is predicted or true.
pub fn micro_f1_at(scored: &Scored<'_>, threshold: f32) -> f64 {
    let true_positives = scored.positive_scores().iter().filter(|score| **score > threshold).count() as u64;
    let predicted = scored.scores().par_iter().filter(|score| **score > threshold).count() as u64;
    ratio(2 * true_positives, predicted + scored.truth().positives()).unwrap_or(0.0)
}

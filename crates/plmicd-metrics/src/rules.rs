//! Decision rules beyond one threshold: thresholds of single codes, the same number of codes for every note, and the
//! published grids.

use rayon::prelude::*;

use crate::counts::LabelCounts;
use crate::data::{Scope, Scored};
use crate::instance::Counts;
use crate::predictions::{Predictions, Rule};
use crate::resample::{Interval, draw};
use crate::threshold::{BestThreshold, between, curve};

/// The threshold of the highest instance F1, the harmonic mean of mean precision and mean recall of the notes (as
/// [`crate::InstanceMetrics::f1`]): a sweep over every distinct score from the top. The highest of several.
pub fn best_instance_f1(scored: &Scored<'_>) -> BestThreshold {
    let truth = scored.truth();
    // Lowering the threshold past scores that no true pair has only lowers precision: as for micro F1, the best
    // decision ends at the score of some true pair, and nothing below the lowest of these matters.
    let Some(lowest) = scored.positive_scores().into_iter().min_by(f32::total_cmp) else {
        return BestThreshold::UNDECIDED;
    };
    let mut events: Vec<(f32, u32, bool)> = (0..truth.num_notes())
        .into_par_iter()
        .flat_map_iter(|note| {
            let mut true_labels = truth.row(note).iter().copied().peekable();
            (0u32..).zip(scored.row(note)).filter_map(move |(label, &score)| {
                let is_true = true_labels.next_if_eq(&label).is_some();
                (score > 0.0 && score >= lowest).then_some((score, note as u32, is_true))
            })
        })
        .collect();
    events.par_sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut notes: Vec<Counts> = (0..truth.num_notes())
        .map(|note| Counts { positives: truth.row(note).len() as u64, ..Counts::default() })
        .collect();
    let (mut precision, mut recall) = (0.0, 0.0);
    let mut best: Option<(f64, usize)> = None;
    let mut has_positive = false;
    for (at, &(score, note, is_true)) in events.iter().enumerate() {
        let counts = &mut notes[note as usize];
        precision -= counts.precision();
        recall -= counts.recall();
        counts.predicted += 1;
        counts.hits += u64::from(is_true);
        precision += counts.precision();
        recall += counts.recall();
        has_positive |= is_true;
        if events.get(at + 1).is_some_and(|next| next.0 == score) {
            continue;
        }
        let value = crate::counts::harmonic_mean(precision, recall) / truth.num_notes() as f64;
        // The running sums carry rounding: what is not clearly better is no better.
        if has_positive && best.is_none_or(|(other, _)| value > other + 1e-12) {
            best = Some((value, at));
        }
        has_positive = false;
    }
    let Some((_, at)) = best else { return BestThreshold::UNDECIDED };
    let score = events[at].0;
    let lower = scored.scores().par_iter().copied().filter(|other| *other < score).max_by(f32::total_cmp);
    let threshold = between(lower, score);
    let value = crate::InstanceMetrics::at(scored, &Scope::everything(truth), threshold).f1;
    BestThreshold { threshold, value }
}

/// The best of some ascending thresholds by micro F1; the first of several. `None` of none.
pub fn best_of_grid(scored: &Scored<'_>, grid: &[f32]) -> Option<BestThreshold> {
    let mut best: Option<BestThreshold> = None;
    for point in curve(scored, grid) {
        if best.is_none_or(|best| point.micro_f1 > best.value) {
            best = Some(BestThreshold { threshold: point.threshold, value: point.micro_f1 });
        }
    }
    best
}

/// The grid that PLM-ICD's evaluation tries: 0.20, 0.25, ... 0.50.
pub fn plm_icd_grid() -> Vec<f32> {
    [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5].to_vec()
}

/// The grid of Edin et al. 2023: 100 points from 0 to 1, both ends among them.
pub fn edin_grid() -> Vec<f32> {
    (0..100u8).map(|i| f32::from(i) / 99.0).collect()
}

/// A threshold for each label (Y): that of its own highest F1, drawn towards `global` where it rests on few notes:
/// `w t_l + (1 - w) global` with `w = n / (n + shrinkage)` for a label with `n` positives; `global` itself below
/// `min_support` positives.
pub fn per_label_thresholds(scored: &Scored<'_>, global: f32, min_support: u64, shrinkage: f64) -> Vec<f32> {
    let truth = scored.truth();
    let mut positives: Vec<Vec<f32>> = vec![Vec::new(); truth.num_labels()];
    for note in 0..truth.num_notes() {
        for &label in truth.row(note) {
            positives[label as usize].push(scored.row(note)[label as usize]);
        }
    }
    positives
        .par_iter_mut()
        .enumerate()
        .map(|(label, positives)| {
            let support = positives.len() as u64;
            if support < min_support.max(1) {
                return global;
            }
            positives.sort_unstable_by(f32::total_cmp);
            let column = (0..truth.num_notes()).map(|note| scored.row(note)[label]);
            let Some(own) = best_of_label(positives, column) else { return global };
            let weight = support as f64 / (support as f64 + shrinkage);
            (weight * f64::from(own) + (1.0 - weight) * f64::from(global)) as f32
        })
        .collect()
}

/// The threshold of the highest F1 of one label: its positives' scores ascending, and all its scores.
fn best_of_label(positives: &[f32], column: impl Iterator<Item = f32>) -> Option<f32> {
    let lowest = positives[0];
    let mut below: Option<f32> = None;
    let mut scores: Vec<f32> = Vec::new();
    for score in column {
        if score >= lowest {
            scores.push(score);
        } else if below.is_none_or(|other| score > other) {
            below = Some(score);
        }
    }
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    let total = positives.len() as u64;
    let mut best: Option<(u64, u64, usize)> = None;
    for (at, &score) in scores.iter().enumerate() {
        if score == 0.0 || scores.get(at + 1) == Some(&score) {
            continue;
        }
        let hits = total - positives.partition_point(|other| *other < score) as u64;
        let (numerator, denominator) = (2 * hits, at as u64 + 1 + total);
        if best.is_none_or(|(n, d, _)| numerator * d > n * denominator) {
            best = Some((numerator, denominator, at));
        }
    }
    best.map(|(_, _, at)| between(scores.get(at + 1).copied().or(below), scores[at]))
}

/// The threshold for the labels marked in `apart` (Y) with which micro F1 over all labels is highest while the others keep
/// `global`: exactly, by a sweep over their scores. It is 1, which no score exceeds, where predicting none of them is best.
/// The highest of several.
pub fn best_threshold_apart(scored: &Scored<'_>, apart: &[bool], global: f32) -> BestThreshold {
    let truth = scored.truth();
    let is_apart = |label: u32| apart.get(label as usize).copied().unwrap_or(false);
    // Of the other labels: pairs predicted, and rightly so. Of these: their scores, and whether they are true.
    type Found = (u64, u64, Vec<(f32, bool)>);
    let join = |mut a: Found, b: Found| {
        a.2.extend(b.2);
        (a.0 + b.0, a.1 + b.1, a.2)
    };
    let (predicted, hits, mut scores) = (0..truth.num_notes())
        .into_par_iter()
        .fold(Found::default, |mut found, note| {
            let mut true_labels = truth.row(note).iter().copied().peekable();
            for (label, &score) in (0u32..).zip(scored.row(note)) {
                let is_true = true_labels.next_if_eq(&label).is_some();
                if is_apart(label) {
                    found.2.push((score, is_true));
                } else if score > global {
                    found.0 += 1;
                    found.1 += u64::from(is_true);
                }
            }
            found
        })
        .reduce(Found::default, join);
    // Which of several equal pairs comes first makes no difference.
    scores.par_sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let value = |hits: u64, predicted: u64| (2 * hits, predicted + truth.positives());
    let (mut best, mut threshold) = (value(hits, predicted), 1.0);
    let (mut own_hits, mut own_predicted) = (0, 0);
    for (at, &(score, is_true)) in scores.iter().enumerate() {
        own_predicted += 1;
        own_hits += u64::from(is_true);
        let next = scores.get(at + 1).map(|next| next.0);
        // No threshold from 0 up predicts a score of 0.
        if score == 0.0 || next == Some(score) {
            continue;
        }
        let here = value(hits + own_hits, predicted + own_predicted);
        if u128::from(here.0) * u128::from(best.1) > u128::from(best.0) * u128::from(here.1) {
            (best, threshold) = (here, between(next, score));
        }
    }
    BestThreshold { threshold, value: crate::counts::ratio(best.0, best.1).unwrap_or(0.0) }
}

/// The `k` for which predicting every note's `k` highest labels has the highest micro F1, with that value; the
/// smallest of several. `None` without a true pair.
pub fn best_top_k(scored: &Scored<'_>, largest: usize) -> Option<(usize, f64)> {
    let truth = scored.truth();
    let ranking = crate::Ranking::new(scored, &Scope::everything(truth));
    let notes = truth.num_notes() as u64;
    let mut best: Option<(usize, f64)> = None;
    for k in 1..=largest.min(truth.num_labels()) {
        let hits = ranking.hits_within(k);
        let value = (2 * hits) as f64 / (k as u64 * notes + truth.positives()) as f64;
        if hits > 0 && best.is_none_or(|(_, other)| value > other) {
            best = Some((k, value));
        }
    }
    best
}

/// Micro F1 of a rule; 0 if nothing is predicted or true.
pub fn micro_f1_of(scored: &Scored<'_>, rule: &Rule) -> f64 {
    let predictions = Predictions::new(scored, rule);
    let scope = Scope::everything(scored.truth());
    LabelCounts::of(&predictions, scored.truth(), &scope).micro_f1().unwrap_or(0.0)
}

/// How far the best threshold and its value move when the notes are others of the same kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stability {
    /// Of the threshold of the highest micro F1 among `thresholds`.
    pub threshold: Interval,
    /// Mean of those thresholds: the bagged choice (Breiman 1996), which moves less with the notes than a single one.
    pub mean_threshold: f64,
    /// Of micro F1 there.
    pub value: Interval,
}

/// Bootstrap over notes of the choice among the ascending `thresholds` by micro F1. Resamples in which it is 0 at all of
/// them are left out; `None` where it is in every one, or without notes.
pub fn stability(scored: &Scored<'_>, thresholds: &[f32], resamples: usize, seed: u64) -> Option<Stability> {
    let truth = scored.truth();
    let notes = truth.num_notes();
    if notes == 0 || resamples == 0 || thresholds.is_empty() {
        return None;
    }
    let steps = thresholds.len();
    // Per note and threshold: pairs predicted, and rightly so.
    let counts: Vec<(u32, u32)> = (0..notes)
        .into_par_iter()
        .flat_map_iter(|note| {
            let row = scored.row(note);
            let mut bins = vec![(0u32, 0u32); steps + 1];
            // A score in bin b exceeds the first b thresholds.
            let bin_of = |score: f32| thresholds.partition_point(|threshold| *threshold < score);
            row.iter().for_each(|score| bins[bin_of(*score)].0 += 1);
            truth.row(note).iter().for_each(|label| bins[bin_of(row[*label as usize])].1 += 1);
            for at in (0..steps).rev() {
                let above = bins[at + 1];
                bins[at].0 += above.0;
                bins[at].1 += above.1;
            }
            bins.into_iter().skip(1)
        })
        .collect();
    let choices: Vec<Option<(f64, f64)>> = (0..resamples as u64)
        .into_par_iter()
        .map_init(
            || (vec![0u32; notes], vec![(0u64, 0u64); steps]),
            |(times, sums), resample| {
                draw(times, seed, resample);
                sums.fill((0, 0));
                let mut positives = 0;
                for (note, &times) in times.iter().enumerate().filter(|(_, times)| **times > 0) {
                    let times = u64::from(times);
                    positives += times * truth.row(note).len() as u64;
                    let row = &counts[note * steps..(note + 1) * steps];
                    for (sum, count) in sums.iter_mut().zip(row) {
                        sum.0 += times * u64::from(count.0);
                        sum.1 += times * u64::from(count.1);
                    }
                }
                let value = |(predicted, hits): (u64, u64)| {
                    crate::counts::ratio(2 * hits, predicted + positives).unwrap_or(0.0)
                };
                let values: Vec<f64> = sums.iter().map(|sum| value(*sum)).collect();
                let best = values.iter().copied().fold(0.0, f64::max);
                // Nothing true was drawn or found: no threshold is better than another.
                let last = values.iter().rposition(|value| *value == best && best > 0.0)?;
                // As in the search: of several, the highest that lie beside each other, and their middle.
                let first =
                    values[..last].iter().rposition(|value| *value != best).map_or(0, |below| below + 1);
                Some(((f64::from(thresholds[first]) + f64::from(thresholds[last])) / 2.0, best))
            },
        )
        .collect();
    let choices: Vec<(f64, f64)> = choices.into_iter().flatten().collect();
    Some(Stability {
        threshold: Interval::of_percentiles(choices.iter().map(|choice| choice.0).collect())?,
        mean_threshold: choices.iter().map(|choice| choice.0).sum::<f64>() / choices.len() as f64,
        value: Interval::of_percentiles(choices.iter().map(|choice| choice.1).collect())?,
    })
}

//! Metrics of the order of a note's scores.
//!
//! **Ties.** Labels of equal score are ranked by label id, the lower first. The published implementations
//! leave this to their sort, so under ties their values are one of several; ours is one of them, and always
//! the same.

use rayon::prelude::*;

use crate::counts::{harmonic_mean, mean, ratio};
use crate::data::{Scope, Scored};

/// Where the true labels of each note stand in the order of its scores.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// Labels ranked.
    num_labels: usize,
    /// For each note in scope, the 1-based ranks of its true labels, ascending.
    ranks: Vec<Vec<u32>>,
}

impl Ranking {
    /// Ranks the scope's labels for each of its notes.
    pub fn new(scored: &Scored<'_>, scope: &Scope) -> Self {
        let ranks = scope
            .notes
            .par_iter()
            .map(|&note| true_ranks(scored.row(note), scored.truth().row(note), scope.labels.as_deref()))
            .collect();
        let num_labels = (0..scored.truth().num_labels()).filter(|label| scope.has_label(*label)).count();
        Self { num_labels, ranks }
    }

    /// True labels among the `k` highest scores of each note, summed over notes.
    pub fn hits_within(&self, k: usize) -> u64 {
        self.ranks.iter().map(|ranks| hits(ranks, k)).sum()
    }

    /// For each note in scope, the 1-based ranks of its true labels, ascending.
    pub fn ranks(&self) -> &[Vec<u32>] {
        &self.ranks
    }

    /// Mean over notes of (true labels among the `k` highest scores) / `k` (CAML `precision_at_k`; where
    /// there are fewer than `k` labels, their number takes the place of `k`). 0 without notes.
    pub fn precision_at(&self, k: usize) -> f64 {
        let k = k.min(self.num_labels);
        self.mean(|ranks| ratio(hits(ranks, k), k as u64))
    }

    /// Mean over notes of (true labels among the `k` highest scores) / (true labels), 0 for a note without
    /// any (CAML `recall_at_k`).
    pub fn recall_at(&self, k: usize) -> f64 {
        self.mean(|ranks| ratio(hits(ranks, k), ranks.len() as u64))
    }

    /// Harmonic mean of [`Self::precision_at`] and [`Self::recall_at`] (CAML `f1_at_k`).
    pub fn f1_at(&self, k: usize) -> f64 {
        harmonic_mean(self.precision_at(k), self.recall_at(k))
    }

    /// Mean over notes of R-precision: the share of true labels among as many highest scores as there are
    /// true labels; 0 for a note without any (Edin et al. 2023, `precision@recall`).
    pub fn r_precision(&self) -> f64 {
        self.mean(|ranks| ratio(hits(ranks, ranks.len()), ranks.len() as u64))
    }

    /// Mean average precision: the mean over notes of `(1/n) sum_i i / r_i`, where `r_1 < ... < r_n` are the
    /// ranks of the true labels; 0 for a note without any (Edin et al. 2023, `MeanAveragePrecision`).
    pub fn mean_average_precision(&self) -> f64 {
        self.mean(|ranks| {
            let precisions = (1u32..).zip(ranks).map(|(i, rank)| f64::from(i) / f64::from(*rank));
            (!ranks.is_empty()).then(|| precisions.sum::<f64>() / ranks.len() as f64)
        })
    }

    fn mean(&self, value: impl Fn(&[u32]) -> Option<f64>) -> f64 {
        mean(&self.ranks.iter().map(|ranks| value(ranks).unwrap_or(0.0)).collect::<Vec<_>>())
    }
}

/// The lowest and the highest value of each metric at `k`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AtBounds {
    /// Of [`Ranking::precision_at`].
    pub precision: [f64; 2],
    /// Of [`Ranking::recall_at`].
    pub recall: [f64; 2],
    /// Of [`Ranking::f1_at`].
    pub f1: [f64; 2],
}

/// The lowest and the highest value at `k` that any order of tied labels gives: labels of the same score as the
/// `k`-th may stand before or behind one another. Both are the metric itself where no note has such a tie. Over all
/// labels; 0 without notes.
pub fn at_bounds(scored: &Scored<'_>, k: usize) -> AtBounds {
    let truth = scored.truth();
    let k = k.min(truth.num_labels());
    let hits: Vec<[u64; 2]> = (0..truth.num_notes())
        .into_par_iter()
        .map(|note| {
            let row = scored.row(note);
            if k == 0 {
                return [0, 0];
            }
            let mut order = row.to_vec();
            let (_, kth, _) = order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            let kth = *kth;
            let above = row.iter().filter(|score| **score > kth).count();
            let tied = row.iter().filter(|score| **score == kth).count();
            let count = |is: fn(f32, f32) -> bool| {
                truth.row(note).iter().filter(|label| is(row[**label as usize], kth)).count()
            };
            let (true_above, true_tied) = (count(|a, b| a > b), count(|a, b| a == b));
            // `places` of the tied labels stand among the k highest.
            let places = k - above;
            let fewest = places.saturating_sub(tied - true_tied);
            [fewest, places.min(true_tied)].map(|tied| (true_above + tied) as u64)
        })
        .collect();
    let average = |end: usize, whole: &dyn Fn(usize) -> u64| {
        let shares = hits.iter().enumerate().map(|(note, hits)| ratio(hits[end], whole(note)).unwrap_or(0.0));
        mean(&shares.collect::<Vec<_>>())
    };
    let precision = [0, 1].map(|end| average(end, &|_| k as u64));
    let recall = [0, 1].map(|end| average(end, &|note| truth.row(note).len() as u64));
    // The order with the fewest hits in every note is the worst for both, hence for their harmonic mean.
    let f1 = [0, 1].map(|end| harmonic_mean(precision[end], recall[end]));
    AtBounds { precision, recall, f1 }
}

fn hits(ranks: &[u32], k: usize) -> u64 {
    ranks.partition_point(|rank| *rank as usize <= k) as u64
}

/// 1-based ranks of the true labels of one note, ascending. One pass over the scores, each placed among the
/// few true ones by binary search: no sort of the whole row.
fn true_ranks(row: &[f32], truth: &[u32], keep: Option<&[bool]>) -> Vec<u32> {
    // Adding 0 turns a negative zero into zero, as which it counts below.
    let mut order: Vec<(f32, u32)> = truth.iter().map(|&label| (row[label as usize] + 0.0, label)).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let Some(&(lowest, _)) = order.last() else { return Vec::new() };
    // passed[i]: labels that stand behind exactly i true labels (or are the i-th), hence before the i-th.
    let mut passed = vec![0u32; order.len() + 1];
    for (label, &score) in (0u32..).zip(row) {
        if score >= lowest && keep.is_none_or(|keep| keep[label as usize]) {
            let ahead =
                order.partition_point(|&(other, id)| other > score || (other == score && id <= label));
            passed[ahead] += 1;
        }
    }
    let mut before = 0;
    passed[..order.len()]
        .iter()
        .map(|count| {
            before += count;
            before + 1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Truth;

    #[test]
    fn bounds_by_hand() {
        let truth = Truth::new(4, &[vec![0, 1, 3], vec![2], vec![]]).unwrap();
        // Of the first note one of labels 1 and 2 is among the two highest; of the second any two.
        let scores = [0.9, 0.5, 0.5, 0.1, 0.3, 0.3, 0.3, 0.3, 0.4, 0.3, 0.2, 0.1];
        let found = at_bounds(&Scored::new(&scores, &truth).unwrap(), 2);
        assert_eq!(found.precision, [0.5 / 3.0, 1.5 / 3.0]);
        assert_eq!(found.recall, [(1.0 / 3.0) / 3.0, (2.0 / 3.0 + 1.0) / 3.0]);
        let harmonic = |a: f64, b: f64| 2.0 * a * b / (a + b);
        for end in 0..2 {
            assert!((found.f1[end] - harmonic(found.precision[end], found.recall[end])).abs() < 1e-12);
        }
    }
}

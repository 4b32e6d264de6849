//! Metrics of the order of a note's scores.
//!
//! **Ties.** Labels of equal score are ranked by label id, the lower first. The published implementations
//! leave this to their sort, so under ties their values are one of several; ours is one of them, and always
//! the same. [`Ties`] gives the bounds of all of them.

use rayon::prelude::*;

use crate::counts::{harmonic_mean, mean, ratio};
use crate::data::{Scope, Scored};

/// The order of labels of the same score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// By label id, the lower first.
    #[default]
    ById,
    /// True labels first. Each true label has its best rank then, so every metric is the highest that ties allow.
    TrueFirst,
    /// True labels last: the lowest that ties allow.
    TrueLast,
}

/// Where the true labels of each note stand in the order of its scores.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// Labels ranked.
    num_labels: usize,
    /// For each note in scope, the 1-based ranks of its true labels, ascending.
    ranks: Vec<Vec<u32>>,
}

impl Ranking {
    /// Ranks the scope's labels for each of its notes, ties by label id.
    pub fn new(scored: &Scored<'_>, scope: &Scope) -> Self {
        Self::with_ties(scored, scope, Ties::default())
    }

    /// Ranks the scope's labels for each of its notes.
    pub fn with_ties(scored: &Scored<'_>, scope: &Scope, ties: Ties) -> Self {
        let keep = scope.labels.as_deref();
        let of_note = |note: usize| true_ranks(scored.row(note), scored.truth().row(note), keep, ties);
        let ranks = scope.notes.par_iter().map(|&note| of_note(note)).collect();
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

    /// Precision, recall and F1 at each `k`, R-precision and mean average precision, under their names.
    pub fn metrics(&self, ks: &[usize]) -> Vec<(String, f64)> {
        let at = |&k: &usize| {
            [
                (format!("precision_at_{k}"), self.precision_at(k)),
                (format!("recall_at_{k}"), self.recall_at(k)),
                (format!("f1_at_{k}"), self.f1_at(k)),
            ]
        };
        let mut metrics: Vec<(String, f64)> = ks.iter().flat_map(at).collect();
        metrics.push(("r_precision".to_owned(), self.r_precision()));
        metrics.push(("mean_average_precision".to_owned(), self.mean_average_precision()));
        metrics
    }

    fn mean(&self, value: impl Fn(&[u32]) -> Option<f64>) -> f64 {
        mean(&self.ranks.iter().map(|ranks| value(ranks).unwrap_or(0.0)).collect::<Vec<_>>())
    }
}

fn hits(ranks: &[u32], k: usize) -> u64 {
    ranks.partition_point(|rank| *rank as usize <= k) as u64
}

/// 1-based ranks of the true labels of one note, ascending. One pass over the scores, each placed among the
/// few true ones by binary search: no sort of the whole row.
fn true_ranks(row: &[f32], truth: &[u32], keep: Option<&[bool]>, ties: Ties) -> Vec<u32> {
    // Adding 0 turns a negative zero into zero, as which it counts below.
    let mut order: Vec<(f32, u32)> = truth.iter().map(|&label| (row[label as usize] + 0.0, label)).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let Some(&(lowest, _)) = order.last() else { return Vec::new() };
    // passed[i]: labels that stand behind exactly i true labels (or are the i-th), hence before the i-th. With true labels
    // first, only labels of higher scores stand before; with true labels last, all of the same score do.
    let mut passed = vec![0u32; order.len() + 1];
    for (label, &score) in (0u32..).zip(row) {
        if score >= lowest && keep.is_none_or(|keep| keep[label as usize]) {
            let ahead = order.partition_point(|&(other, id)| match ties {
                Ties::ById => other > score || (other == score && id <= label),
                Ties::TrueFirst => other >= score,
                Ties::TrueLast => other > score,
            });
            passed[ahead] += 1;
        }
    }
    let mut before = 0;
    (0..order.len())
        .map(|at| {
            before += passed[at];
            // Of the labels counted so far, the true ones do not stand before one another where they are tied.
            let counted = match ties {
                Ties::ById => at,
                Ties::TrueFirst => order.partition_point(|&(other, _)| other > order[at].0),
                Ties::TrueLast => order.partition_point(|&(other, _)| other >= order[at].0),
            };
            before - counted as u32 + at as u32 + 1
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
        let scored = Scored::new(&scores, &truth).unwrap();
        let ranked = |ties| Ranking::with_ties(&scored, &Scope::everything(&truth), ties);
        let [low, own, high] = [Ties::TrueLast, Ties::ById, Ties::TrueFirst].map(ranked);
        assert_eq!(low.ranks(), [vec![1, 3, 4], vec![4], vec![]]);
        assert_eq!(own.ranks(), [vec![1, 2, 4], vec![3], vec![]]);
        assert_eq!(high.ranks(), [vec![1, 2, 4], vec![1], vec![]]);
        assert_eq!([low.precision_at(2), high.precision_at(2)], [0.5 / 3.0, 1.5 / 3.0]);
        assert_eq!([low.r_precision(), high.r_precision()], [(2.0 / 3.0) / 3.0, (2.0 / 3.0 + 1.0) / 3.0]);
    }
}

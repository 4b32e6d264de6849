//! Counts per label at a threshold, and the metrics that follow from them.
//!
//! Notation: for label `l`, `TP_l` notes for which it is rightly predicted, `P_l` notes for which it is
//! predicted, `T_l` notes that have it; sums over labels without index.

use rayon::prelude::*;

use crate::data::{Scope, Scored, Truth};
use crate::predictions::{Predictions, common};

/// The constant that CAML and Edin et al. add to denominators.
const EPSILON: f64 = 1e-10;

/// Counts of every label in scope, in label order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCounts {
    /// Notes counted over.
    pub notes: u64,
    /// `TP_l`.
    pub true_positives: Vec<u64>,
    /// `P_l`.
    pub predicted: Vec<u64>,
    /// `T_l`.
    pub positives: Vec<u64>,
}

impl LabelCounts {
    /// Counts at a threshold (score strictly greater) over the scope's notes and labels.
    pub fn at(scored: &Scored<'_>, scope: &Scope, threshold: f32) -> Self {
        let labels = scored.truth().num_labels();
        let zero = || (vec![0u32; labels], vec![0u32; labels], vec![0u32; labels]);
        let (true_positives, predicted, positives) = scope
            .notes
            .par_chunks(64)
            .fold(zero, |mut counts, notes| {
                for &note in notes {
                    let row = scored.row(note);
                    for (count, &score) in counts.1.iter_mut().zip(row) {
                        *count += u32::from(score > threshold);
                    }
                    for &label in scored.truth().row(note) {
                        counts.2[label as usize] += 1;
                        counts.0[label as usize] += u32::from(row[label as usize] > threshold);
                    }
                }
                counts
            })
            .reduce(zero, |a, b| (add(a.0, &b.0), add(a.1, &b.1), add(a.2, &b.2)));
        let select = |counts: Vec<u32>| -> Vec<u64> {
            let counts = counts.into_iter().enumerate();
            counts.filter(|(label, _)| scope.has_label(*label)).map(|(_, n)| u64::from(n)).collect()
        };
        Self {
            notes: scope.num_notes() as u64,
            true_positives: select(true_positives),
            predicted: select(predicted),
            positives: select(positives),
        }
    }

    /// Counts of decisions over the scope's notes and labels.
    ///
    /// # Panics
    /// If decisions and truth are not of the same notes and labels.
    pub fn of(predictions: &Predictions, truth: &Truth, scope: &Scope) -> Self {
        let labels = truth.num_labels();
        assert_eq!(predictions.lists().num_labels(), labels, "the same labels");
        assert_eq!(predictions.lists().num_notes(), truth.num_notes(), "the same notes");
        let (mut hits, mut predicted, mut positives) = (vec![0; labels], vec![0; labels], vec![0; labels]);
        for &note in &scope.notes {
            let (guess, true_labels) = (predictions.row(note), truth.row(note));
            guess.iter().for_each(|label| predicted[*label as usize] += 1);
            true_labels.iter().for_each(|label| positives[*label as usize] += 1);
            common(guess, true_labels).for_each(|label| hits[label as usize] += 1);
        }
        let select = |counts: Vec<u64>| -> Vec<u64> {
            counts
                .into_iter()
                .enumerate()
                .filter(|(label, _)| scope.has_label(*label))
                .map(|(_, n)| n)
                .collect()
        };
        Self {
            notes: scope.num_notes() as u64,
            true_positives: select(hits),
            predicted: select(predicted),
            positives: select(positives),
        }
    }

    /// The counts of some labels, by position.
    pub fn subset(&self, keep: impl Fn(usize) -> bool) -> Self {
        let select = |counts: &[u64]| -> Vec<u64> {
            counts.iter().enumerate().filter(|(label, _)| keep(*label)).map(|(_, n)| *n).collect()
        };
        Self {
            notes: self.notes,
            true_positives: select(&self.true_positives),
            predicted: select(&self.predicted),
            positives: select(&self.positives),
        }
    }

    /// `TP / P`; `None` if nothing is predicted (CAML: NaN).
    pub fn micro_precision(&self) -> Option<f64> {
        ratio(sum(&self.true_positives), sum(&self.predicted))
    }

    /// `TP / T`; `None` if nothing is true.
    pub fn micro_recall(&self) -> Option<f64> {
        ratio(sum(&self.true_positives), sum(&self.positives))
    }

    /// `2 TP / (P + T)`, the harmonic mean of micro precision and recall; `None` if nothing is predicted or
    /// true. Without predictions it is 0 (CAML: NaN).
    pub fn micro_f1(&self) -> Option<f64> {
        ratio(2 * sum(&self.true_positives), sum(&self.predicted) + sum(&self.positives))
    }

    /// `TP / (P + T - TP)`, the Jaccard index of the predicted and the true pairs, which CAML calls accuracy.
    pub fn micro_accuracy(&self) -> Option<f64> {
        let true_positives = sum(&self.true_positives);
        ratio(true_positives, sum(&self.predicted) + sum(&self.positives) - true_positives)
    }

    /// False positives per true negative pair and false positive: `(P - TP) / (notes x labels - T)`.
    pub fn micro_false_positive_rate(&self) -> Option<f64> {
        let negatives = self.notes * self.positives.len() as u64 - sum(&self.positives);
        ratio(sum(&self.predicted) - sum(&self.true_positives), negatives)
    }

    /// Mean over labels of `TP_l / (P_l + 1e-10)` (CAML `macro_precision`): 0 for a label never predicted.
    pub fn macro_precision(&self) -> f64 {
        self.mean(|tp, p, _| tp / (p + EPSILON))
    }

    /// Mean over labels of `TP_l / (T_l + 1e-10)` (CAML `macro_recall`): 0 for a label that never occurs.
    pub fn macro_recall(&self) -> f64 {
        self.mean(|tp, _, t| tp / (t + EPSILON))
    }

    /// Mean over labels of `TP_l / (P_l + T_l - TP_l + 1e-10)` (CAML `macro_accuracy`).
    pub fn macro_accuracy(&self) -> f64 {
        self.mean(|tp, p, t| tp / (p + t - tp + EPSILON))
    }

    /// CAML's macro F1: the harmonic mean **of macro precision and macro recall**, 0 if both are 0. It is
    /// not the mean of the labels' F1 (CAML `macro_f1`; also PLM-ICD, MultiResCNN, LAAT, MSMN).
    pub fn macro_f1_caml(&self) -> f64 {
        harmonic_mean(self.macro_precision(), self.macro_recall())
    }

    /// F1 of each label, `2 TP_l / (P_l + T_l)`, 0 where nothing is predicted or true.
    pub fn label_f1s(&self) -> Vec<f64> {
        (0..self.positives.len())
            .map(|label| {
                let (tp, p, t) = (self.true_positives[label], self.predicted[label], self.positives[label]);
                ratio(2 * tp, p + t).unwrap_or(0.0)
            })
            .collect()
    }

    /// Mean of the labels' F1 over all labels; those that never occur count as 0 (scikit-learn's
    /// `f1_score(average="macro", zero_division=0)`; GKI-ICD's `f1_macro`; Edin's `f1_macro_mullenbach` but
    /// for its 1e-10).
    pub fn macro_f1_all_labels(&self) -> f64 {
        mean(&self.label_f1s())
    }

    /// Mean of the labels' F1 over the labels that occur, every note counted.
    pub fn macro_f1_present_labels(&self) -> f64 {
        let present = |(label, f1)| (self.positives[label] > 0).then_some(f1);
        mean(&self.label_f1s().into_iter().enumerate().filter_map(present).collect::<Vec<_>>())
    }

    /// Mean over labels of `TP_l / (TP_l + (FP_l + FN_l) / 2 + 1e-10)` (Edin et al. 2023, `F1Score`).
    pub fn macro_f1_edin(&self) -> f64 {
        self.mean(|tp, p, t| tp / (0.5 * (p + t) + EPSILON))
    }

    /// Mean over labels of `FP_l / (FP_l + TN_l + 1e-10)` (Edin et al. 2023, `FPR`).
    pub fn macro_false_positive_rate(&self) -> f64 {
        let notes = self.notes as f64;
        self.mean(|tp, p, t| (p - tp) / (notes - t + EPSILON))
    }

    /// Mean of a function of `TP_l`, `P_l` and `T_l` over labels; 0 without labels.
    fn mean(&self, value: impl Fn(f64, f64, f64) -> f64) -> f64 {
        let values: Vec<f64> = (0..self.positives.len())
            .map(|label| {
                let counts = [self.true_positives[label], self.predicted[label], self.positives[label]];
                let [tp, p, t] = counts.map(|count| count as f64);
                value(tp, p, t)
            })
            .collect();
        mean(&values)
    }
}

/// `2ab / (a + b)`, 0 if both are 0.
pub(crate) fn harmonic_mean(a: f64, b: f64) -> f64 {
    if a + b == 0.0 { 0.0 } else { 2.0 * a * b / (a + b) }
}

/// Mean in order; 0 if empty.
pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// `a / b`, `None` if `b` is 0.
pub(crate) fn ratio(a: u64, b: u64) -> Option<f64> {
    (b != 0).then(|| a as f64 / b as f64)
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

fn add(mut a: Vec<u32>, b: &[u32]) -> Vec<u32> {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}

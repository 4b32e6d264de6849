//! Metrics computed note by note, then averaged.

use rayon::prelude::*;

use crate::counts::{harmonic_mean, mean, ratio};
use crate::data::{Scope, Scored, Truth};
use crate::predictions::{Predictions, common};

/// Means over notes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceMetrics {
    /// Mean of `TP / P` of a note, 0 where nothing is predicted (CAML `inst_precision`).
    pub precision: f64,
    /// Mean of `TP / T` of a note, 0 where nothing is true (CAML `inst_recall`).
    pub recall: f64,
    /// Harmonic mean of the two means (CAML `inst_f1`).
    pub f1: f64,
    /// Share of notes whose predicted labels are exactly the true ones (Edin et al. 2023,
    /// `ExactMatchRatio`).
    pub exact_match_ratio: f64,
}

impl InstanceMetrics {
    /// Of decisions, over the scope's notes and labels. All 0 without notes.
    pub fn of(predictions: &Predictions, truth: &Truth, scope: &Scope) -> Self {
        let counts = |note: usize| {
            let (guess, true_labels) = (predictions.row(note), truth.row(note));
            let predicted = guess.iter().filter(|label| scope.has_label(**label as usize)).count();
            Counts {
                hits: common(guess, true_labels).count() as u64,
                predicted: predicted as u64,
                positives: true_labels.len() as u64,
            }
        };
        Self::mean(scope.notes.par_iter().map(|note| counts(*note)).collect())
    }

    /// At a threshold (score strictly greater) over the scope's notes and labels. All 0 without notes.
    pub fn at(scored: &Scored<'_>, scope: &Scope, threshold: f32) -> Self {
        let rows: Vec<Counts> = scope
            .notes
            .par_iter()
            .map(|&note| {
                let (row, truth) = (scored.row(note), scored.truth().row(note));
                let predicted = match &scope.labels {
                    None => row.iter().filter(|score| **score > threshold).count(),
                    Some(keep) => {
                        row.iter().zip(keep).filter(|(score, keep)| **keep && **score > threshold).count()
                    }
                } as u64;
                let hit = |label: &&u32| row[**label as usize] > threshold;
                Counts {
                    hits: truth.iter().filter(hit).count() as u64,
                    predicted,
                    positives: truth.len() as u64,
                }
            })
            .collect();
        Self::mean(rows)
    }

    fn mean(rows: Vec<Counts>) -> Self {
        let average = |get: fn(&Counts) -> f64| mean(&rows.iter().map(get).collect::<Vec<_>>());
        let (precision, recall) = (average(Counts::precision), average(Counts::recall));
        Self {
            precision,
            recall,
            f1: harmonic_mean(precision, recall),
            exact_match_ratio: average(|row| f64::from(u8::from(row.is_exact()))),
        }
    }
}

/// What one note counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub hits: u64,
    pub predicted: u64,
    pub positives: u64,
}

impl Counts {
    /// `TP / P`, 0 where nothing is predicted.
    pub fn precision(&self) -> f64 {
        ratio(self.hits, self.predicted).unwrap_or(0.0)
    }

    /// `TP / T`, 0 where nothing is true.
    pub fn recall(&self) -> f64 {
        ratio(self.hits, self.positives).unwrap_or(0.0)
    }

    pub fn is_exact(&self) -> bool {
        self.hits == self.predicted && self.hits == self.positives
    }
}

//! Metrics computed note by note, then averaged.

use rayon::prelude::*;

use crate::counts::{harmonic_mean, mean, ratio};
use crate::data::{Scope, Scored};

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
    /// At a threshold (score strictly greater) over the scope's notes and labels. All 0 without notes.
    pub fn at(scored: &Scored<'_>, scope: &Scope, threshold: f32) -> Self {
        let rows: Vec<(f64, f64, f64)> = scope
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
                let true_positives = truth.iter().filter(hit).count() as u64;
                let exact = true_positives == predicted && true_positives == truth.len() as u64;
                (
                    ratio(true_positives, predicted).unwrap_or(0.0),
                    ratio(true_positives, truth.len() as u64).unwrap_or(0.0),
                    f64::from(u8::from(exact)),
                )
            })
            .collect();
        let average = |get: fn(&(f64, f64, f64)) -> f64| mean(&rows.iter().map(get).collect::<Vec<_>>());
        let (precision, recall) = (average(|row| row.0), average(|row| row.1));
        Self {
            precision,
            recall,
            f1: harmonic_mean(precision, recall),
            exact_match_ratio: average(|row| row.2),
        }
    }
}

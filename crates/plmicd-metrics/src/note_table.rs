//! What each note contributes to the headline metrics, so that they can be computed again and again on other
//! selections of notes: for bootstrap intervals and randomisation tests.
//!
//! A note's contribution is small (its labels, its predicted labels, a few ranks), so a thousand selections of 3,372
//! notes of 8,922 labels take a second. Metrics that need all scores again (AUC) have no place here.

use crate::counts::{LabelCounts, harmonic_mean};
use crate::data::{MetricsError, Truth};
use crate::instance::Counts;
use crate::predictions::{Predictions, common};

/// What is kept of a split's notes.
#[derive(Clone, Debug, PartialEq)]
pub struct NoteTable {
    truth: Truth,
    predictions: Predictions,
    /// For each note the 1-based ranks of its true labels in the order of its scores, ascending; empty without scores.
    ranks: Option<Vec<Vec<u32>>>,
}

/// The names of the metrics that do not depend on the order of scores, in order.
const BASE: [&str; 10] = [
    "micro_precision",
    "micro_recall",
    "micro_f1",
    "macro_f1_caml",
    "macro_f1_all_labels",
    "macro_f1_present_labels",
    "instance_precision",
    "instance_recall",
    "instance_f1",
    "exact_match_ratio",
];

impl NoteTable {
    /// Takes truth and decisions on the same notes, and ranks where there are scores.
    ///
    /// # Errors
    /// [`MetricsError::Shape`] if they are not of the same notes and labels.
    pub fn new(
        truth: Truth,
        predictions: Predictions,
        ranks: Option<Vec<Vec<u32>>>,
    ) -> Result<Self, MetricsError> {
        let (notes, labels) = (truth.num_notes(), truth.num_labels());
        let same = predictions.lists().num_notes() == notes
            && predictions.lists().num_labels() == labels
            && ranks.as_ref().is_none_or(|ranks| ranks.len() == notes);
        if !same {
            return Err(MetricsError::Shape { scores: predictions.lists().num_notes(), notes, labels });
        }
        Ok(Self { truth, predictions, ranks })
    }

    /// From lists as files hold them: true and predicted label ids and ranks of each note, ascending.
    ///
    /// # Errors
    /// Lists that do not ascend or leave the label space, or are not of the same number of notes.
    pub fn from_lists(
        num_labels: usize,
        labels: &[Vec<i32>],
        predicted: &[Vec<i32>],
        ranks: &[Vec<i32>],
    ) -> Result<Self, MetricsError> {
        let truth = Truth::new(num_labels, labels)?;
        let predictions = Predictions::from_ids(num_labels, predicted)?;
        let ranks =
            ranks.iter().map(|ranks| ranks.iter().map(|rank| rank.unsigned_abs()).collect()).collect();
        Self::new(truth, predictions, Some(ranks))
    }

    /// Number of notes (B).
    pub fn num_notes(&self) -> usize {
        self.truth.num_notes()
    }

    /// The truth.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The decisions.
    pub fn predictions(&self) -> &Predictions {
        &self.predictions
    }

    /// The ranks of the true labels, where there are scores.
    pub fn ranks(&self) -> Option<&[Vec<u32>]> {
        self.ranks.as_deref()
    }

    /// The names of the metrics, in the order of [`Tally::values`].
    pub fn names(&self, ks: &[usize]) -> Vec<String> {
        let mut names: Vec<String> = BASE.iter().map(|name| (*name).to_owned()).collect();
        if self.ranks.is_some() {
            names.push("mean_average_precision".to_owned());
            names.push("r_precision".to_owned());
            for k in ks {
                names.push(format!("precision_at_{k}"));
                names.push(format!("recall_at_{k}"));
            }
        }
        names
    }

    /// The metrics of all notes.
    pub fn values(&self, ks: &[usize]) -> Vec<f64> {
        let mut tally = Tally::new(self, ks);
        (0..self.num_notes()).for_each(|note| tally.add(self, note, 1));
        tally.values()
    }
}

/// Sums over a selection of notes, out of one table or of two on the same labels.
#[derive(Clone, Debug)]
pub struct Tally {
    notes: u64,
    /// True positives, predicted and positives of each label.
    labels: LabelCounts,
    precision: f64,
    recall: f64,
    exact: u64,
    /// Mean average precision, R-precision, then precision and recall at each k.
    ranked: Option<Vec<f64>>,
    ks: Vec<usize>,
}

impl Tally {
    /// Of nothing yet.
    pub fn new(table: &NoteTable, ks: &[usize]) -> Self {
        let zeros = || vec![0; table.truth.num_labels()];
        Self {
            notes: 0,
            labels: LabelCounts { notes: 0, true_positives: zeros(), predicted: zeros(), positives: zeros() },
            precision: 0.0,
            recall: 0.0,
            exact: 0,
            ranked: table.ranks.as_ref().map(|_| vec![0.0; 2 + 2 * ks.len()]),
            ks: ks.to_vec(),
        }
    }

    /// Back to nothing.
    pub fn clear(&mut self) {
        self.notes = 0;
        for counts in
            [&mut self.labels.true_positives, &mut self.labels.predicted, &mut self.labels.positives]
        {
            counts.fill(0);
        }
        (self.precision, self.recall, self.exact) = (0.0, 0.0, 0);
        if let Some(ranked) = &mut self.ranked {
            ranked.fill(0.0);
        }
    }

    /// Adds a note of a table, `times` over.
    pub fn add(&mut self, table: &NoteTable, note: usize, times: u32) {
        if times == 0 {
            return;
        }
        let (guess, true_labels) = (table.predictions.row(note), table.truth.row(note));
        let (count, weight) = (u64::from(times), f64::from(times));
        self.notes += count;
        guess.iter().for_each(|label| self.labels.predicted[*label as usize] += count);
        true_labels.iter().for_each(|label| self.labels.positives[*label as usize] += count);
        let mut hits = 0;
        for label in common(guess, true_labels) {
            self.labels.true_positives[label as usize] += count;
            hits += 1;
        }
        let counts = Counts { hits, predicted: guess.len() as u64, positives: true_labels.len() as u64 };
        self.precision += weight * counts.precision();
        self.recall += weight * counts.recall();
        self.exact += count * u64::from(counts.is_exact());
        if let (Some(ranked), Some(ranks)) = (&mut self.ranked, &table.ranks) {
            let ranks = &ranks[note];
            let total = ranks.len() as f64;
            let within = |k: usize| ranks.partition_point(|rank| *rank as usize <= k) as f64;
            if !ranks.is_empty() {
                let found = (1u32..).zip(ranks).map(|(i, rank)| f64::from(i) / f64::from(*rank));
                ranked[0] += weight * found.sum::<f64>() / total;
                ranked[1] += weight * within(ranks.len()) / total;
            }
            for (index, &k) in self.ks.iter().enumerate() {
                let k = k.min(table.truth.num_labels());
                ranked[2 + 2 * index] += weight * within(k) / k.max(1) as f64;
                ranked[3 + 2 * index] += if ranks.is_empty() { 0.0 } else { weight * within(k) / total };
            }
        }
    }

    /// The metrics in the order of [`NoteTable::names`]; what is undefined is 0. All 0 without notes.
    pub fn values(&mut self) -> Vec<f64> {
        self.values_or(0.0)
    }

    /// [`Tally::values`] with another number for what is undefined.
    pub(crate) fn values_or(&mut self, undefined: f64) -> Vec<f64> {
        self.labels.notes = self.notes;
        let notes = self.notes.max(1) as f64;
        let (precision, recall) = (self.precision / notes, self.recall / notes);
        let mut values = vec![
            self.labels.micro_precision().unwrap_or(undefined),
            self.labels.micro_recall().unwrap_or(undefined),
            self.labels.micro_f1().unwrap_or(undefined),
            self.labels.macro_f1_caml(),
            self.labels.macro_f1_all_labels(),
            self.labels.macro_f1_present_labels(),
            precision,
            recall,
            harmonic_mean(precision, recall),
            self.exact as f64 / notes,
        ];
        values.extend(self.ranked.iter().flatten().map(|sum| sum / notes));
        values
    }
}

//! What metrics are computed on: scores, truth, and a choice of notes and labels.

use std::fmt;

use rayon::prelude::*;

/// Scores and truth do not fit together, or a value is out of range.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricsError {
    /// There are not notes x labels scores.
    Shape {
        /// Scores given.
        scores: usize,
        /// Notes of the truth.
        notes: usize,
        /// Labels of the truth.
        labels: usize,
    },
    /// A score is not a probability.
    Score {
        /// Row.
        note: usize,
        /// Column.
        label: usize,
        /// The value.
        value: f32,
    },
    /// A note's label ids do not ascend or are outside the label space.
    Truth {
        /// Row.
        note: usize,
        /// The label id at fault.
        label: i32,
    },
}

impl fmt::Display for MetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { scores, notes, labels } => {
                write!(f, "{scores} scores, expected {notes} notes x {labels} labels")
            }
            Self::Score { note, label, value } => {
                write!(f, "note {note}, label {label}: score {value}, expected a probability in [0, 1]")
            }
            Self::Truth { note, label } => {
                write!(f, "note {note}: label id {label}, expected ascending ids inside the label space")
            }
        }
    }
}

impl std::error::Error for MetricsError {}

/// The true labels of every note, as lists of label ids: of 8,922 labels a note has about 16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    num_labels: usize,
    /// Where each note's ids start in `ids`; one more than notes.
    starts: Vec<usize>,
    ids: Vec<u32>,
}

impl Truth {
    /// Takes the label ids of each note: ascending, from 0 to below `num_labels`.
    pub fn new<R: AsRef<[i32]>>(num_labels: usize, rows: &[R]) -> Result<Self, MetricsError> {
        let mut truth = Self { num_labels, starts: Vec::with_capacity(rows.len() + 1), ids: Vec::new() };
        truth.starts.push(0);
        for (note, row) in rows.iter().enumerate() {
            let mut previous = None;
            for &label in row.as_ref() {
                let id =
                    u32::try_from(label).ok().filter(|&id| (id as usize) < num_labels && previous < Some(id));
                previous = Some(id.ok_or(MetricsError::Truth { note, label })?);
                truth.ids.extend(id);
            }
            truth.starts.push(truth.ids.len());
        }
        Ok(truth)
    }

    /// From lists that are known to ascend and to stay inside the label space.
    pub(crate) fn from_rows(num_labels: usize, rows: &[Vec<u32>]) -> Self {
        let mut starts = Vec::with_capacity(rows.len() + 1);
        starts.push(0);
        let mut ids = Vec::with_capacity(rows.iter().map(Vec::len).sum());
        for row in rows {
            ids.extend_from_slice(row);
            starts.push(ids.len());
        }
        Self { num_labels, starts, ids }
    }

    /// Number of notes (B).
    pub fn num_notes(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of labels (Y).
    pub fn num_labels(&self) -> usize {
        self.num_labels
    }

    /// Label ids of a note, ascending.
    pub fn row(&self, note: usize) -> &[u32] {
        &self.ids[self.starts[note]..self.starts[note + 1]]
    }

    /// Number of true (note, label) pairs.
    pub fn positives(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Notes that have each label (Y).
    pub fn label_counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.num_labels];
        for &id in &self.ids {
            counts[id as usize] += 1;
        }
        counts
    }
}

/// Scores beside the truth: the input of most metrics.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    scores: &'a [f32],
    truth: &'a Truth,
}

impl<'a> Scored<'a> {
    /// Takes probabilities, row-major, notes x labels (B x Y). Checks shape and range.
    pub fn new(scores: &'a [f32], truth: &'a Truth) -> Result<Self, MetricsError> {
        let (notes, labels) = (truth.num_notes(), truth.num_labels());
        if scores.len() != notes * labels {
            return Err(MetricsError::Shape { scores: scores.len(), notes, labels });
        }
        match scores.par_iter().position_first(|score| !(0.0..=1.0).contains(score)) {
            Some(at) => Err(MetricsError::Score { note: at / labels, label: at % labels, value: scores[at] }),
            None => Ok(Self { scores, truth }),
        }
    }

    /// The truth.
    pub fn truth(&self) -> &'a Truth {
        self.truth
    }

    /// All scores, row-major.
    pub fn scores(&self) -> &'a [f32] {
        self.scores
    }

    /// Scores of a note (Y).
    pub fn row(&self, note: usize) -> &'a [f32] {
        let width = self.truth.num_labels;
        &self.scores[note * width..(note + 1) * width]
    }

    /// Scores of the true pairs, in note order.
    pub(crate) fn positive_scores(&self) -> Vec<f32> {
        let notes = 0..self.truth.num_notes();
        notes
            .flat_map(|note| self.truth.row(note).iter().map(move |&label| self.row(note)[label as usize]))
            .collect()
    }
}

/// The notes and labels that count.
#[derive(Clone, Debug)]
pub struct Scope {
    pub(crate) notes: Vec<usize>,
    /// Whether each label counts; `None` if all do.
    pub(crate) labels: Option<Vec<bool>>,
}

impl Scope {
    /// Every note and every label.
    pub fn everything(truth: &Truth) -> Self {
        Self { notes: (0..truth.num_notes()).collect(), labels: None }
    }

    /// The labels that are true somewhere and the notes with at least one label: what Edin et al. 2023
    /// (section 3.2) compute their metrics on.
    pub fn present(truth: &Truth) -> Self {
        Self {
            notes: (0..truth.num_notes()).filter(|&note| !truth.row(note).is_empty()).collect(),
            labels: Some(truth.label_counts().into_iter().map(|count| count > 0).collect()),
        }
    }

    /// Number of notes that count.
    pub fn num_notes(&self) -> usize {
        self.notes.len()
    }

    /// Whether a label counts.
    pub fn has_label(&self, label: usize) -> bool {
        self.labels.as_ref().is_none_or(|labels| labels[label])
    }
}

//! The baseline that does not read: every note gets the same most frequent train codes.

use std::collections::BTreeMap;

use plmicd_data::FrequentCodes;
use plmicd_metrics::{LabelCounts, Truth, summary};

/// The codes to predict for every note.
pub(crate) struct FrequentCodesModel {
    /// Label ids, the most frequent in train first; of equal frequency the lower id first.
    ranked: Vec<usize>,
    /// How many of them are predicted.
    codes: usize,
    dev_micro_f1: f64,
}

impl FrequentCodesModel {
    /// Chooses the number of codes that maximises micro F1 on dev (the smallest of several).
    pub fn choose(train_counts: &[u64], dev: &Truth) -> Self {
        let mut ranked: Vec<usize> =
            (0..train_counts.len()).filter(|label| train_counts[*label] > 0).collect();
        ranked.sort_by_key(|label| std::cmp::Reverse(train_counts[*label]));
        let positives = dev.label_counts();
        let (mut codes, mut dev_micro_f1, mut hits) = (0, 0.0, 0);
        for (at, label) in ranked.iter().enumerate() {
            hits += positives[*label];
            let predicted = (at as u64 + 1) * dev.num_notes() as u64;
            let f1 = (2 * hits) as f64 / (predicted + dev.positives()).max(1) as f64;
            if f1 > dev_micro_f1 {
                (codes, dev_micro_f1) = (at + 1, f1);
            }
        }
        Self { ranked, codes, dev_micro_f1 }
    }

    /// What is stored of the choice.
    pub fn summary(&self) -> FrequentCodes {
        FrequentCodes { codes: self.codes as u64, dev_micro_f1: self.dev_micro_f1 }
    }

    /// Its metrics: those that follow from counts per label, precision at each `k` with the
    /// codes ranked by train frequency, and the AUC of scores that are the same for every note (0.5 for
    /// each label).
    pub fn evaluate(&self, truth: &Truth, ks: &[usize]) -> BTreeMap<String, f64> {
        let notes = truth.num_notes() as u64;
        let positives = truth.label_counts();
        let mut true_positives = vec![0; positives.len()];
        let mut predicted = vec![0; positives.len()];
        for &label in &self.ranked[..self.codes] {
            true_positives[label] = positives[label];
            predicted[label] = notes;
        }
        let mut metrics = summary::of_counts(&LabelCounts {
            notes,
            true_positives,
            predicted,
            positives: positives.clone(),
        });
        for &k in ks {
            let top = &self.ranked[..k.min(self.ranked.len())];
            let hits: u64 = top.iter().map(|label| positives[*label]).sum();
            let precision = hits as f64 / (k.min(positives.len()) as u64 * notes).max(1) as f64;
            metrics.insert(format!("precision_at_{k}"), precision);
        }
        if positives.iter().any(|count| (1..notes).contains(count)) {
            metrics.insert("macro_auc".to_owned(), 0.5);
        }
        metrics
    }
}

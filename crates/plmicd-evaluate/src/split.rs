//! One split: its metrics and its per-code table.

use plmicd_data::{CodeResult, LabelSpace, Scores, SplitEvaluation};
use plmicd_metrics::{LabelCounts, MetricsError, Scope, Scored, Truth, at_threshold, ranking_and_auc};

use crate::baseline::FrequentCodesModel;

/// What is needed to evaluate a split.
pub(crate) struct Task<'a> {
    pub scores: &'a Scores,
    pub truth: &'a Truth,
    pub labels: &'a LabelSpace,
    pub train_counts: Option<&'a [u64]>,
    pub frequent: Option<&'a FrequentCodesModel>,
    pub threshold: f32,
    pub ks: &'a [usize],
}

/// The metrics of the split, and a row for each label in order.
pub(crate) fn evaluate(task: &Task<'_>) -> Result<(SplitEvaluation, Vec<CodeResult>), MetricsError> {
    let scored = Scored::new(&task.scores.scores, task.truth)?;
    let counts = LabelCounts::at(&scored, &Scope::everything(task.truth), task.threshold);
    let (ranking, areas) = ranking_and_auc(&scored, task.ks);
    let mut metrics = at_threshold(&scored, task.threshold);
    metrics.extend(ranking);
    metrics.extend(by_system(&counts, task.labels));
    let evaluation = SplitEvaluation {
        notes: task.truth.num_notes() as u64,
        labels: task.labels.len() as u64,
        labels_present: counts.positives.iter().filter(|count| **count > 0).count() as u64,
        metrics,
        metrics_at_half: at_threshold(&scored, 0.5),
        baseline_frequent_codes: task.frequent.map(|model| model.evaluate(task.truth, task.ks)),
    };
    Ok((evaluation, code_results(task, &counts, &areas)))
}

/// Micro F1 of diagnoses and of procedures, where the label space has both.
fn by_system(counts: &LabelCounts, labels: &LabelSpace) -> Vec<(String, f64)> {
    let labels = labels.labels();
    let diagnoses = counts.subset(|label| labels[label].system.is_diagnosis());
    let procedures = counts.subset(|label| labels[label].system.is_procedure());
    if diagnoses.positives.is_empty() || procedures.positives.is_empty() {
        return Vec::new();
    }
    [("micro_f1_diagnoses", diagnoses), ("micro_f1_procedures", procedures)]
        .into_iter()
        .filter_map(|(name, counts)| Some((name.to_owned(), counts.micro_f1()?)))
        .collect()
}

fn code_results(task: &Task<'_>, counts: &LabelCounts, areas: &[Option<f64>]) -> Vec<CodeResult> {
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let f1s = counts.label_f1s();
    let rows = task.labels.labels().iter().enumerate().map(|(index, label)| {
        let true_positives = counts.true_positives[index];
        CodeResult {
            code: label.code.clone(),
            system: label.system,
            description: label.description.clone().unwrap_or_default(),
            train_count: task.train_counts.map(|train| train[index]),
            positives: counts.positives[index],
            predicted: counts.predicted[index],
            true_positives,
            precision: share(true_positives, counts.predicted[index]),
            recall: share(true_positives, counts.positives[index]),
            f1: f1s[index],
            auc: areas[index],
        }
    });
    rows.collect()
}

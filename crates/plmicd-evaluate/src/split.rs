//! One split: its metrics, its per-code table and its notes' outcomes.

use std::collections::BTreeMap;

use plmicd_data::{
    Calibration, CodeResult, Interval, LabelSpace, NoteOutcomes, PrecisionRecallPoint, ReliabilityBin,
    Scores, SplitEvaluation,
};
use plmicd_metrics::summary::{of_decisions, ranking_and_auc, tie_bounds};
use plmicd_metrics::{
    LabelCounts, MetricsError, NoteTable, Predictions, Ranking, Rule, Scope, Scored, Truth, at_threshold,
    bootstrap, bootstrap_areas, label_average_precisions, micro_average_precision, precision_recall_curve,
};

use crate::baseline::FrequentCodesModel;
use crate::breakdown;
use crate::config::EvaluateConfig;

/// Bins of the reliability curve.
const RELIABILITY_BINS: usize = 15;
/// Points of the precision-recall curve, at most.
const CURVE_POINTS: usize = 200;

/// What is needed to evaluate a split.
pub(crate) struct Task<'a> {
    pub scores: &'a Scores,
    pub truth: &'a Truth,
    pub labels: &'a LabelSpace,
    pub train_counts: Option<&'a [u64]>,
    pub frequent: Option<&'a FrequentCodesModel>,
    pub rule: &'a Rule,
    pub config: &'a EvaluateConfig,
}

/// What comes of it.
pub(crate) struct Results {
    pub evaluation: SplitEvaluation,
    /// A row a label, in order.
    pub codes: Vec<CodeResult>,
    pub outcomes: NoteOutcomes,
}

/// Evaluates the split.
pub(crate) fn evaluate(task: &Task<'_>) -> Result<Results, MetricsError> {
    let scored = Scored::new(&task.scores.scores, task.truth)?;
    let predictions = Predictions::new(&scored, task.rule);
    let everything = Scope::everything(task.truth);
    let counts = LabelCounts::of(&predictions, task.truth, &everything);
    let (ranking, areas) = ranking_and_auc(&scored, &task.config.k);
    let precisions = label_average_precisions(&scored);

    let mut metrics = of_decisions(&predictions, task.truth);
    metrics.extend(ranking);
    let present: Vec<f64> = precisions.iter().copied().flatten().collect();
    if let Some((mean, _)) = plmicd_metrics::mean_and_deviation(&present) {
        metrics.insert("macro_average_precision".to_owned(), mean);
    }
    metrics
        .extend(micro_average_precision(&scored).map(|value| ("micro_average_precision".to_owned(), value)));
    let systems = breakdown::by_system(&counts, task.labels);
    for (name, system) in &systems {
        metrics.extend(system.get("micro_f1").map(|value| (format!("micro_f1_{name}"), *value)));
    }
    let ranks = Ranking::new(&scored, &everything).ranks().to_vec();
    let outcomes = NoteOutcomes {
        note_ids: task.scores.note_ids.clone(),
        labels: lists(task.truth),
        predicted: lists(predictions.lists()),
        ranks: ranks.iter().map(|ranks| ranks.iter().map(|rank| *rank as i32).collect()).collect(),
    };
    let evaluation = SplitEvaluation {
        notes: task.truth.num_notes() as u64,
        labels: task.labels.len() as u64,
        labels_present: counts.positives.iter().filter(|count| **count > 0).count() as u64,
        metrics,
        metrics_at_half: at_threshold(&scored, 0.5),
        intervals: BTreeMap::new(),
        tie_bounds: tie_bounds(&scored, &task.config.k),
        systems,
        frequency_bins: task
            .train_counts
            .map_or_else(Vec::new, |train| breakdown::by_frequency(&counts, train, &areas, &precisions)),
        chapters: breakdown::by_chapter(&counts, task.labels),
        levels: breakdown::by_level(&predictions, task.truth, task.labels),
        calibration: calibration(&scored),
        precision_recall: precision_recall_curve(&scored, CURVE_POINTS)
            .into_iter()
            .map(|point| PrecisionRecallPoint {
                score: f64::from(point.score),
                precision: point.precision,
                recall: point.recall,
            })
            .collect(),
        baseline_frequent_codes: task.frequent.map(|model| model.evaluate(task.truth, &task.config.k)),
    };
    let codes = code_results(task, &counts, &areas, &precisions);
    let table = NoteTable::new(task.truth.clone(), predictions, Some(ranks))?;
    let intervals = intervals(&evaluation.metrics, &table, &scored, task.config);
    let evaluation = SplitEvaluation { intervals, ..evaluation };
    Ok(Results { evaluation, codes, outcomes })
}

fn lists(truth: &Truth) -> Vec<Vec<i32>> {
    (0..truth.num_notes()).map(|note| truth.row(note).iter().map(|id| *id as i32).collect()).collect()
}

/// Around the metrics as they are reported, of those that can be computed again on resamples.
fn intervals(
    metrics: &BTreeMap<String, f64>,
    table: &NoteTable,
    scored: &Scored<'_>,
    config: &EvaluateConfig,
) -> BTreeMap<String, Interval> {
    let resamples = usize::try_from(config.resamples).unwrap_or(usize::MAX);
    let errors = bootstrap(table, &config.k, resamples, config.seed);
    let areas = bootstrap_areas(scored, resamples, config.seed);
    let areas = ["micro_auc", "macro_auc"].map(str::to_owned).into_iter().zip(areas);
    let named = table.names(&config.k).into_iter().zip(errors).chain(areas);
    named
        .filter_map(|(name, error)| {
            let i = plmicd_metrics::Interval::around(*metrics.get(&name)?, error?);
            Some((name, Interval { low: i.low, high: i.high, standard_error: i.standard_error }))
        })
        .collect()
}

fn calibration(scored: &Scored<'_>) -> Calibration {
    let found = plmicd_metrics::Calibration::new(scored, RELIABILITY_BINS);
    Calibration {
        expected_calibration_error: found.expected_calibration_error,
        brier: found.brier,
        bins: found
            .bins
            .into_iter()
            .map(|bin| ReliabilityBin {
                pairs: bin.pairs,
                mean_score: bin.mean_score,
                share_true: bin.share_true,
            })
            .collect(),
    }
}

fn code_results(
    task: &Task<'_>,
    counts: &LabelCounts,
    areas: &[Option<f64>],
    precisions: &[Option<f64>],
) -> Vec<CodeResult> {
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
            average_precision: precisions[index],
        }
    });
    rows.collect()
}

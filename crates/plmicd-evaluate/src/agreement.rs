//! Do the inputs belong together? Each check names the first offender.

use camino::Utf8Path;
use plmicd_data::{LabelSpace, Scores, SplitEvaluation, Thresholds};
use plmicd_pipeline::{BadInput, StageError};

/// The scores have one column a label.
pub(crate) fn check_width(path: &Utf8Path, scores: &Scores, labels: &LabelSpace) -> Result<(), StageError> {
    if scores.num_labels == labels.len() {
        return Ok(());
    }
    let message =
        format!("scores of {} labels, but {} lists {}", scores.num_labels, LabelSpace::FILE, labels.len());
    Err(BadInput::new(path, message).column("scores").into())
}

/// A rule with a threshold per label has one for each.
pub(crate) fn check_per_label(
    path: &Utf8Path,
    thresholds: &Thresholds,
    labels: &LabelSpace,
) -> Result<(), StageError> {
    match &thresholds.per_label {
        Some(per_label) if per_label.len() != labels.len() => {
            let message = format!("thresholds of {} labels for scores of {}", per_label.len(), labels.len());
            let hint = "choose the threshold on the scores that you evaluate";
            Err(BadInput::new(path, message).hint(hint).into())
        }
        _ => Ok(()),
    }
}

/// The threshold was made from these scores: it gives on dev the value that is stored with it.
pub(crate) fn check_threshold(
    path: &Utf8Path,
    thresholds: &Thresholds,
    scores_path: &Utf8Path,
    dev: &SplitEvaluation,
) -> Result<(), StageError> {
    let found = dev.metrics.get("micro_f1").copied().unwrap_or(0.0);
    if (found - thresholds.rule_dev_micro_f1).abs() < 1e-9 {
        return Ok(());
    }
    let message = format!(
        "rule {} with threshold {} should give micro_f1 = {} on dev, but on {scores_path} it gives {found}",
        thresholds.rule.as_str(),
        thresholds.threshold,
        thresholds.rule_dev_micro_f1
    );
    Err(BadInput::new(path, message).hint("choose the threshold on the scores that you evaluate").into())
}

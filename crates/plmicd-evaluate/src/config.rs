//! Settings of the stage.

use plmicd_data::Split;
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// The `k` of precision, recall and F1 at `k`.
    pub k: Vec<usize>,
    /// The splits to evaluate.
    pub splits: Vec<Split>,
    /// Bootstrap samples of the notes for the intervals; 0 for none.
    pub resamples: u64,
    /// Decides these samples.
    pub seed: u64,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self { k: vec![5, 8, 15], splits: vec![Split::Dev, Split::Test], resamples: 1000, seed: 1 }
    }
}

impl EvaluateConfig {
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if self.k.contains(&0) {
            issues.push(ConfigIssue::new("k", "every k must be at least 1"));
        }
        if let Some(k) = repeated(&self.k) {
            issues.push(ConfigIssue::new("k", format!("{k} is given twice")));
        }
        if self.resamples > 100_000 {
            issues.push(ConfigIssue::new("resamples", "more than 100,000 samples tell nothing more"));
        }
        if self.splits.is_empty() {
            issues.push(ConfigIssue::new("splits", "expected at least one of dev and test"));
        }
        if self.splits.contains(&Split::Train) {
            let message = "train is not scored; expected dev, test or both";
            issues.push(ConfigIssue::new("splits", message));
        }
        if let Some(split) = repeated(&self.splits) {
            issues.push(ConfigIssue::new("splits", format!("{split} is given twice")));
        }
        issues
    }
}

fn repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    values.iter().enumerate().find(|(at, value)| values[..*at].contains(value)).map(|(_, value)| value)
}

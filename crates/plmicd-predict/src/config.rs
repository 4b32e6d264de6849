//! Settings of the stage.

use plmicd_data::Split;
use plmicd_nn::Precision;
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the stage `predict`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PredictConfig {
    /// The splits to score: `dev` is what thresholds are chosen on, `test` what they are judged on.
    pub splits: Vec<Split>,
    /// Tokens that go through the model at once, padding included; a longer note goes alone. It bounds memory and
    /// moves scores by rounding only.
    pub batch_tokens: usize,
    /// Number format of matrix products: `auto` (bf16 where the hardware multiplies it faster), `fp32`, `bf16`, or `tf32`
    /// (GPUs).
    pub precision: Precision,
}

impl Default for PredictConfig {
    fn default() -> Self {
        Self {
            splits: vec![Split::Dev, Split::Test],
            batch_tokens: plmicd_nn::INFERENCE_TOKENS,
            precision: Precision::Auto,
        }
    }
}

impl PredictConfig {
    /// What the types cannot express.
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if self.splits.is_empty() {
            issues.push(ConfigIssue::new("splits", "expected at least one of \"train\", \"dev\", \"test\""));
        }
        for (at, split) in self.splits.iter().enumerate() {
            if self.splits[..at].contains(split) {
                issues.push(ConfigIssue::new(format!("splits.{at}"), format!("\"{split}\" is named twice")));
            }
        }
        if self.batch_tokens == 0 {
            issues.push(ConfigIssue::new("batch_tokens", "expected at least 1"));
        }
        issues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_located() {
        assert!(PredictConfig::default().issues().is_empty());
        let config = PredictConfig {
            splits: vec![Split::Test, Split::Dev, Split::Test],
            batch_tokens: 0,
            ..PredictConfig::default()
        };
        let paths: Vec<String> = config.issues().into_iter().map(|issue| issue.path).collect();
        assert_eq!(paths, ["splits.2", "batch_tokens"]);
        let none = PredictConfig { splits: Vec::new(), ..PredictConfig::default() };
        assert_eq!(none.issues()[0].path, "splits");
    }
}

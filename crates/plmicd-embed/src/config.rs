//! Settings of the stage.

use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What predicts what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EmbedModel {
    /// Each word of the window predicts the word in its middle.
    #[default]
    SkipGram,
    /// The mean of the window's words predicts the word in its middle.
    Cbow,
}

/// Settings of the stage `embed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedConfig {
    /// `skip-gram` (LAAT's) or `cbow` (CAML's).
    pub model: EmbedModel,
    /// Width of the vectors.
    pub dimensions: usize,
    /// Words on either side of the middle one, at most: each window is drawn from 1 up to this.
    pub window: usize,
    /// Words that occur more rarely in the training notes are left out; their vectors stay as they start.
    pub min_count: u64,
    /// Words drawn at random for each true one, to be told from it.
    pub negative: usize,
    /// Frequent words are left out at random, the more the more frequent they are beyond this share of the text; 0 keeps
    /// all.
    pub subsample: f64,
    /// Passes over the training notes.
    pub epochs: u32,
    /// Step width at the start.
    pub learning_rate: f64,
    /// Step width at the end; it falls in a straight line.
    pub min_learning_rate: f64,
    /// Stretches of text that are learnt side by side before their results become one, at most: a text whose words recur too
    /// often has fewer. It bounds how many threads help, and is part of the result; the number of threads is not.
    pub strands: usize,
    /// Decides everything random: start, windows, which words are left out or drawn.
    pub seed: u64,
}

impl Default for EmbedConfig {
    fn default() -> Self {
        Self {
            model: EmbedModel::SkipGram,
            dimensions: 100,
            window: 5,
            min_count: 1,
            negative: 5,
            subsample: 1e-3,
            epochs: 5,
            learning_rate: 0.025,
            min_learning_rate: 1e-4,
            strands: 8,
            seed: 1,
        }
    }
}

impl EmbedConfig {
    /// What types cannot express.
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        let mut require = |ok: bool, path: &str, message: &str| {
            if !ok {
                issues.push(ConfigIssue::new(path, message));
            }
        };
        require(self.dimensions > 0, "dimensions", "expected at least 1");
        require(self.window > 0, "window", "expected at least 1");
        require(self.min_count > 0, "min_count", "expected at least 1");
        require(self.negative > 0, "negative", "expected at least 1");
        require(self.epochs > 0, "epochs", "expected at least 1");
        require((1..=1024).contains(&self.strands), "strands", "expected 1 to 1024");
        require(
            (0.0..1.0).contains(&self.subsample),
            "subsample",
            "expected 0 (off) or a share of the text below 1",
        );
        require(
            self.learning_rate > 0.0 && self.learning_rate < 1.0,
            "learning_rate",
            "expected a number above 0 and below 1",
        );
        require(
            self.min_learning_rate > 0.0 && self.min_learning_rate <= self.learning_rate,
            "min_learning_rate",
            "expected a number above 0, no larger than learning_rate",
        );
        issues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_located() {
        assert!(EmbedConfig::default().issues().is_empty());
        let bad = EmbedConfig {
            dimensions: 0,
            window: 0,
            min_count: 0,
            negative: 0,
            subsample: f64::NAN,
            epochs: 0,
            learning_rate: 2.0,
            min_learning_rate: 3.0,
            strands: 0,
            ..EmbedConfig::default()
        };
        let paths: Vec<String> = bad.issues().into_iter().map(|issue| issue.path).collect();
        let expected = [
            "dimensions",
            "window",
            "min_count",
            "negative",
            "epochs",
            "strands",
            "subsample",
            "learning_rate",
            "min_learning_rate",
        ];
        assert_eq!(paths, expected);
    }
}

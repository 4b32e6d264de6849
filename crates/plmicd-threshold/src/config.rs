//! Settings of the stage.

use plmicd_data::DecisionRule;
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the one threshold is chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The highest micro F1 on dev, found exactly among all distinct scores.
    #[default]
    MicroF1,
    /// The mean of the thresholds of the highest micro F1 over `resamples` bootstrap samples of the dev notes.
    BaggedMicroF1,
    /// The highest mean of the labels' F1 on dev, found exactly.
    MacroF1,
    /// The highest instance F1 on dev (harmonic mean of the notes' mean precision and recall), found exactly.
    InstanceF1,
    /// The value of `fixed`, whatever the scores.
    Fixed,
}

impl Objective {
    /// Name in `thresholds.json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MicroF1 => "micro_f1",
            Self::BaggedMicroF1 => "bagged_micro_f1",
            Self::MacroF1 => "macro_f1",
            Self::InstanceF1 => "instance_f1",
            Self::Fixed => "fixed",
        }
    }
}

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConfig {
    /// What the one threshold is chosen for: `micro_f1`, `bagged_micro_f1` (its mean over samples of the dev notes),
    /// `macro_f1` (mean of the labels' F1), `instance_f1` or `fixed`.
    pub objective: Objective,
    /// The threshold itself, from 0 to below 1, with `objective = "fixed"`; not used otherwise.
    pub fixed: f64,
    /// How scores become decisions: `global` (that threshold), `per_code`, `unseen_apart` (one of its own for all codes
    /// without training notes; reads the input `shards`), `top_k` or `expected_count`.
    pub rule: DecisionRule,
    /// With `per_code`: fewest dev notes that a code needs for a threshold of its own.
    pub min_support: u64,
    /// With `per_code`: a code with as many dev notes as this has the mean of its own threshold and the global one;
    /// with more, it is nearer to its own. 0 draws nothing.
    pub shrinkage: f64,
    /// With `top_k`: codes for every note; unset, the number of the highest dev micro F1, up to 200.
    pub k: Option<u64>,
    /// Bootstrap samples of the dev notes for the stability of the choice and for `bagged_micro_f1`; 0 for none.
    pub resamples: u64,
    /// Decides these samples.
    pub seed: u64,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        Self {
            objective: Objective::MicroF1,
            fixed: 0.5,
            rule: DecisionRule::Global,
            min_support: 5,
            shrinkage: 10.0,
            k: None,
            resamples: 1000,
            seed: 1,
        }
    }
}

impl ThresholdConfig {
    pub(crate) fn issues(&self, has_shards: bool) -> Vec<ConfigIssue> {
        let default = Self::default();
        let mut issues = Vec::new();
        let mut issue = |wrong: bool, path: &str, message: &str| {
            if wrong {
                issues.push(ConfigIssue::new(path, message));
            }
        };
        issue(!(0.0..1.0).contains(&self.fixed), "fixed", "expected a number from 0 to below 1");
        issue(
            self.objective != Objective::Fixed && self.fixed != default.fixed,
            "fixed",
            "has no effect unless objective = \"fixed\"; set that, or leave it out",
        );
        let per_code = self.rule == DecisionRule::PerCode;
        let only_per_code = "has no effect unless rule = \"per_code\"; set that, or leave it out";
        issue(!per_code && self.min_support != default.min_support, "min_support", only_per_code);
        issue(!per_code && self.shrinkage != default.shrinkage, "shrinkage", only_per_code);
        issue(self.min_support == 0, "min_support", "a code without dev notes has no threshold of its own");
        issue(
            !(self.shrinkage >= 0.0 && self.shrinkage.is_finite()),
            "shrinkage",
            "expected a number of notes from 0 on",
        );
        issue(
            self.rule == DecisionRule::UnseenApart && !has_shards,
            "rule",
            "\"unseen_apart\" has to know the training notes: wire the token shards to the input `shards`",
        );
        issue(
            self.rule != DecisionRule::TopK && self.k.is_some(),
            "k",
            "has no effect unless rule = \"top_k\"; set that, or leave it out",
        );
        issue(self.k == Some(0), "k", "expected at least one code a note");
        issue(
            self.objective == Objective::BaggedMicroF1 && self.resamples == 0,
            "resamples",
            "objective = \"bagged_micro_f1\" needs samples; leave it out for 1000",
        );
        issue(self.resamples > 100_000, "resamples", "more than 100,000 samples tell nothing more");
        issues
    }
}

//! Decision thresholds: `thresholds.json`.

use std::collections::BTreeMap;

use camino::Utf8Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};

/// The decision rule and how it was found. With a threshold, a label is predicted when its score is **greater than** it,
/// both compared as 32-bit floats, as the published implementations do: a score of 0.3 does not exceed a threshold of
/// 0.3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// How scores become decisions.
    pub rule: DecisionRule,
    /// What was maximised on dev: `micro_f1`, `macro_f1` (the mean of the F1 of all labels), `instance_f1`, or `fixed`
    /// for a given threshold.
    pub objective: String,
    /// The threshold for every label; with rule `per_code`, what those of single labels are drawn towards; with
    /// `unseen_apart`, that of the labels with training notes.
    pub threshold: f64,
    /// Dev value of the objective at that one threshold (micro F1 where it is fixed).
    pub dev_value: f64,
    /// Dev micro F1 of the rule itself.
    pub rule_dev_micro_f1: f64,
    /// The threshold of each label in label order, with rules `per_code` and `unseen_apart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_label: Option<Vec<f64>>,
    /// Labels predicted for every note, with rule `top_k`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<u64>,
    /// What the published grids would have chosen by dev micro F1: `plm_icd` (0.20, 0.25, ... 0.50) and `edin` (100
    /// points from 0 to 1).
    pub grids: BTreeMap<String, GridChoice>,
    /// How far the choice moves over bootstrap samples of the dev notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<Stability>,
    /// Dev values over thresholds, ascending, at most 200 points.
    pub curve: Vec<CurvePoint>,
}

/// How scores become decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionRule {
    /// One threshold for every code.
    #[default]
    Global,
    /// A threshold for each code with enough dev notes, drawn towards the global one.
    PerCode,
    /// One threshold for the codes that have training notes, another one for those that have none.
    UnseenApart,
    /// The same number of codes for every note: those of the highest scores.
    TopK,
    /// As many codes as the sum of a note's scores says, rounded: those of the highest scores.
    ExpectedCount,
}

impl DecisionRule {
    /// Name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::PerCode => "per_code",
            Self::UnseenApart => "unseen_apart",
            Self::TopK => "top_k",
            Self::ExpectedCount => "expected_count",
        }
    }
}

/// What a grid would have chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridChoice {
    /// The first threshold of the highest dev micro F1.
    pub threshold: f64,
    /// That value.
    pub dev_micro_f1: f64,
}

/// Bootstrap of the choice of one threshold by micro F1, over the points of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// Samples of the dev notes.
    pub resamples: u64,
    /// Of the chosen threshold.
    pub threshold: Interval,
    /// Of its dev micro F1.
    pub micro_f1: Interval,
}

/// A 95 % interval: percentiles for thresholds, the value and 1.96 standard errors for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Standard deviation over resamples.
    pub standard_error: f64,
}

/// Dev metrics at one threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The threshold.
    pub threshold: f64,
    /// Micro F1 on dev.
    pub micro_f1: f64,
    /// Mean of the F1 of all labels on dev, where it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
}

impl Thresholds {
    /// Name of the file.
    pub const FILE: &'static str = "thresholds.json";
    /// Version of the file.
    pub const SCHEMA: u32 = 2;

    /// Reads the file.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        let found: Self = read_versioned(path, Self::SCHEMA)?;
        if !(0.0..=1.0).contains(&found.threshold) {
            let message = format!("threshold {} is not between 0 and 1", found.threshold);
            return Err(DataError::file(path, message));
        }
        let per_label = found.per_label.as_deref().unwrap_or_default();
        if let Some(at) = per_label.iter().position(|threshold| !(0.0..=1.0).contains(threshold)) {
            let message = format!("threshold {} of label {at} is not between 0 and 1", per_label[at]);
            return Err(DataError::file(path, message));
        }
        let missing = match found.rule {
            DecisionRule::PerCode | DecisionRule::UnseenApart => {
                found.per_label.is_none().then_some("per_label")
            }
            DecisionRule::TopK => found.k.is_none().then_some("k"),
            DecisionRule::Global | DecisionRule::ExpectedCount => None,
        };
        if let Some(missing) = missing {
            let message = format!("rule {} needs `{missing}`", found.rule.as_str());
            return Err(DataError::file(path, message));
        }
        Ok(found)
    }

    /// Writes the file.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        write_versioned(path, Self::SCHEMA, self)
    }
}

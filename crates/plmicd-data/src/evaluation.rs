//! Results: `metrics.json` and `per_code.csv` of an `evaluation`.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::code::CodeSystem;
use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};
use crate::split::Split;
use crate::thresholds::{DecisionRule, Interval};

/// `metrics.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The decision threshold that `metrics` were computed at (score greater than it).
    pub threshold: f64,
    /// What the threshold maximises on dev.
    pub objective: String,
    /// How scores became decisions; `threshold` alone decides with rule `global`.
    pub rule: DecisionRule,
    /// Bootstrap samples behind every interval.
    pub resamples: u64,
    /// Results of each split.
    pub splits: BTreeMap<Split, SplitEvaluation>,
    /// The baseline that predicts the same frequent codes for every note, where train counts are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<FrequentCodes>,
}

/// Results on one split. A metric that is undefined there (micro precision without any prediction) is left
/// out of its map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitEvaluation {
    /// Notes.
    pub notes: u64,
    /// Labels in the label space.
    pub labels: u64,
    /// Labels true for at least one note.
    pub labels_present: u64,
    /// Metrics at the decision threshold.
    pub metrics: BTreeMap<String, f64>,
    /// The metrics that depend on the threshold, at 0.5.
    pub metrics_at_half: BTreeMap<String, f64>,
    /// 95 % bootstrap intervals over notes, of the metrics that the decisions and the order of scores alone decide.
    pub intervals: BTreeMap<String, Interval>,
    /// The lowest and the highest value that the order of tied scores allows, where they differ, for each figure that is taken
    /// from that order: precision, recall and F1 at k, R-precision, average precision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tie_bounds: BTreeMap<String, [f64; 2]>,
    /// `diagnoses` and `procedures`, where the label space has both: the metrics over their labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub systems: BTreeMap<String, BTreeMap<String, f64>>,
    /// By how many train notes have a code, where train counts are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frequency_bins: Vec<FrequencyBin>,
    /// The labels of each chapter that the label space has, in the order of the classifications.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chapters: Vec<ChapterPart>,
    /// `category` and `chapter`: the metrics where a code of the right group is right.
    pub levels: BTreeMap<String, BTreeMap<String, f64>>,
    /// Do scores mean what they say?
    pub calibration: Calibration,
    /// Precision over recall, from the highest score down, at most 200 points.
    pub precision_recall: Vec<PrecisionRecallPoint>,
    /// Metrics of the frequent-codes baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_frequent_codes: Option<BTreeMap<String, f64>>,
}

/// The codes that so many train notes have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrequencyBin {
    /// Fewest train notes.
    pub at_least: u64,
    /// Most train notes; none for the last bin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
    /// Labels in the bin.
    pub labels: u64,
    /// Those of them that are true for at least one note.
    pub labels_present: u64,
    /// True (note, label) pairs.
    pub positives: u64,
    /// Metrics over the labels of the bin.
    pub metrics: BTreeMap<String, f64>,
}

impl FrequencyBin {
    /// `unseen`, `1-5`, `over 100`.
    pub fn name(&self) -> String {
        match (self.at_least, self.at_most) {
            (0, Some(0)) => "unseen".to_owned(),
            (low, Some(high)) => format!("{low}-{high}"),
            (low, None) => format!("over {}", low.saturating_sub(1)),
        }
    }
}

/// The codes of one chapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChapterPart {
    /// Its classification.
    pub system: CodeSystem,
    /// Its range of categories, such as `390-459`.
    pub chapter: String,
    /// Its heading; empty where it has none.
    pub title: String,
    /// Labels in it.
    pub labels: u64,
    /// Those of them that are true for at least one note.
    pub labels_present: u64,
    /// True (note, label) pairs.
    pub positives: u64,
    /// Metrics over its labels.
    pub metrics: BTreeMap<String, f64>,
}

/// Calibration over all (note, label) pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error.
    pub expected_calibration_error: f64,
    /// Brier score.
    pub brier: f64,
    /// Bins of equal width over scores from 0 to 1.
    pub bins: Vec<ReliabilityBin>,
}

/// One bin of the reliability curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Pairs in it.
    pub pairs: u64,
    /// Their mean score; 0 in an empty bin.
    pub mean_score: f64,
    /// The share of them that is true; 0 in an empty bin.
    pub share_true: f64,
}

/// One point of precision over recall.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecisionRecallPoint {
    /// Predicting what scores at least this.
    pub score: f64,
    /// `TP / P`.
    pub precision: f64,
    /// `TP / T`.
    pub recall: f64,
}

/// The frequent-codes baseline: every note gets the `codes` most frequent codes of the train split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrequentCodes {
    /// How many codes; the number that maximises dev micro F1.
    pub codes: u64,
    /// Dev micro F1 with them.
    pub dev_micro_f1: f64,
}

/// One row of `per_code.csv`: a code's results on the test split (or on dev where only dev is evaluated).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodeResult {
    /// The code.
    pub code: String,
    /// Its system.
    pub system: CodeSystem,
    /// Its description; empty if unknown.
    pub description: String,
    /// Train notes that have it, where known.
    pub train_count: Option<u64>,
    /// Notes that have it.
    pub positives: u64,
    /// Notes for which it is predicted.
    pub predicted: u64,
    /// Notes for which it is rightly predicted.
    pub true_positives: u64,
    /// Precision; 0 if never predicted.
    pub precision: f64,
    /// Recall; 0 if it never occurs.
    pub recall: f64,
    /// F1; 0 if both are 0.
    pub f1: f64,
    /// Area under the ROC curve, where the split has notes with and without the code.
    pub auc: Option<f64>,
    /// Average precision, where any note has the code.
    pub average_precision: Option<f64>,
}

/// Writes `per_code.csv`.
pub fn write_per_code(path: &Utf8Path, rows: &[CodeResult]) -> Result<(), DataError> {
    let mut writer = csv::Writer::from_writer(std::io::BufWriter::new(fs_err::File::create(path)?));
    for row in rows {
        writer.serialize(row).map_err(|error| csv_error(path, &error))?;
    }
    writer.flush()?;
    Ok(())
}

/// Reads `per_code.csv`.
pub fn read_per_code(path: &Utf8Path) -> Result<Vec<CodeResult>, DataError> {
    let mut reader = csv::Reader::from_reader(fs_err::File::open(path)?);
    reader.deserialize().map(|row| row.map_err(|error| csv_error(path, &error))).collect()
}

fn csv_error(path: &Utf8Path, error: &csv::Error) -> DataError {
    let line = error.position().map_or(0, csv::Position::line);
    DataError::file(path, format!("line {line}: {error}"))
}

impl Evaluation {
    /// Name of the file.
    pub const FILE: &'static str = "metrics.json";
    /// Name of the per-code table.
    pub const PER_CODE_FILE: &'static str = "per_code.csv";
    /// Version of both files.
    pub const SCHEMA: u32 = 2;

    /// Reads the file.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        read_versioned(path, Self::SCHEMA)
    }

    /// Writes the file.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        write_versioned(path, Self::SCHEMA, self)
    }
}

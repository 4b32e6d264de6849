//! Results: `metrics.json` and `per_code.csv` of an `evaluation`.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::code::CodeSystem;
use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};
use crate::split::Split;

/// `metrics.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The decision threshold that `metrics` were computed at (score greater than it).
    pub threshold: f64,
    /// What the threshold maximises on dev.
    pub objective: String,
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
    /// Metrics of the frequent-codes baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_frequent_codes: Option<BTreeMap<String, f64>>,
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
    pub const SCHEMA: u32 = 1;

    /// Reads the file.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        read_versioned(path, Self::SCHEMA)
    }

    /// Writes the file.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        write_versioned(path, Self::SCHEMA, self)
    }
}

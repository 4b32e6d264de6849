//! Decision thresholds: `thresholds.json`.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};

/// The decision threshold and how it was found. A label is predicted when its score is **greater than**
/// the threshold: see [`Thresholds::predicts`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// What was maximised on dev: `micro_f1`, `macro_f1` (the mean of the F1 of all
    /// labels), or `fixed` for a given threshold.
    pub objective: String,
    /// The threshold, for every label.
    pub threshold: f64,
    /// Dev value of the objective at the threshold (micro F1 where it is fixed).
    pub dev_value: f64,
    /// Dev values over thresholds, ascending, at most 200 points.
    pub curve: Vec<CurvePoint>,
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
    pub const SCHEMA: u32 = 1;

    /// Whether a label with this score is predicted. Both sides are compared as 32-bit floats, as the
    /// published implementations do: a score of 0.3 does not exceed a threshold of 0.3.
    pub fn predicts(&self, score: f32) -> bool {
        score > self.threshold as f32
    }

    /// Reads the file.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        let found: Self = read_versioned(path, Self::SCHEMA)?;
        if !(0.0..=1.0).contains(&found.threshold) {
            let message = format!("threshold {} is not between 0 and 1", found.threshold);
            return Err(DataError::file(path, message));
        }
        Ok(found)
    }

    /// Writes the file.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        write_versioned(path, Self::SCHEMA, self)
    }
}

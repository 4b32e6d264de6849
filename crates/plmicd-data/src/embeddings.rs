//! What an `embeddings` artifact holds: a vector for every word id, and the tokenizer that gives the ids.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};

/// The vectors' place: a safetensors file with one fp32 matrix, a row for each id.
#[derive(Clone, Copy, Debug)]
pub struct WordVectors;

impl WordVectors {
    /// Name of the file.
    pub const FILE: &'static str = "embeddings.safetensors";
    /// Name of the matrix.
    pub const TENSOR: &'static str = "word_vectors";
}

/// `stats.json` of an `embeddings` artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbedStats {
    /// Words learnt from, without those left out.
    pub words: u64,
    /// Distinct ones.
    pub distinct: u64,
    /// Mean loss of a pair of each epoch.
    pub losses: Vec<f64>,
}

impl EmbedStats {
    /// Name of the file.
    pub const FILE: &'static str = "stats.json";
    /// Version of the file's layout.
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

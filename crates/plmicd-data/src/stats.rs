//! Counts of data sets: `stats.json` of `notes` and of `token-shards`. Aggregates only.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::code::CodeSystem;
use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};
use crate::split::Split;

/// Spread of a count over notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Sum over all notes.
    pub total: u64,
    /// Smallest.
    pub min: u64,
    /// Nearest-rank 50th percentile.
    pub median: u64,
    /// Mean.
    pub mean: f64,
    /// Nearest-rank 95th percentile.
    pub p95: u64,
    /// Largest.
    pub max: u64,
}

impl Summary {
    /// The spread of `values` (one a note); all zero if there are none. Percentiles are nearest-rank: the
    /// smallest value with at least that share of the values at or below it.
    pub fn of(mut values: Vec<u64>) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        values.sort_unstable();
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        let total: u64 = values.iter().sum();
        Self {
            total,
            min: values[0],
            median: rank(50),
            mean: total as f64 / values.len() as f64,
            p95: rank(95),
            max: values[values.len() - 1],
        }
    }
}

/// `stats.json` of a `notes` artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CorpusStats {
    /// The source read, such as `mimic3`.
    pub source: String,
    /// Counts of each split.
    pub splits: BTreeMap<Split, SplitStats>,
    /// Size of the label space.
    pub labels: u64,
    /// Labels of each code system.
    pub labels_by_system: BTreeMap<CodeSystem, u64>,
    /// Labels without a description of their own or of an ancestor.
    pub labels_without_description: u64,
    /// Labels that have no description of their own and took that of a related code.
    #[serde(default)]
    pub labels_described_by_relative: u64,
    /// Subjects with notes in more than one split. 0 unless given splits leak.
    #[serde(default)]
    pub leaking_subjects: u64,
    /// What was left out and why, in the order of the steps.
    pub exclusions: Vec<Exclusion>,
    /// What published studies count on the same data and cohort, where they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedCount>,
}

/// A published count beside ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedCount {
    /// What is counted: `train notes`, `labels`, `test codes` (occurrences), `labels in dev`.
    pub quantity: String,
    /// As published.
    pub published: u64,
    /// As found.
    pub found: u64,
}

/// Counts of one split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitStats {
    /// Notes.
    pub notes: u64,
    /// Patients.
    pub subjects: u64,
    /// Words of a note.
    pub words: Summary,
    /// Codes of a note.
    pub codes: Summary,
    /// Labels that occur at least once.
    pub labels_present: u64,
    /// Those of them that occur in train as well.
    #[serde(default)]
    pub labels_seen_in_train: u64,
    /// Codes of all notes, repeated as they occur, whose label occurs in train.
    #[serde(default)]
    pub codes_seen_in_train: u64,
}

/// Rows, notes or codes that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// Why, in one phrase.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Of what: `rows`, `notes`, `codes`.
    pub unit: String,
}

impl CorpusStats {
    /// Name of the file.
    pub const FILE: &'static str = "stats.json";
    /// Version of the file.
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

/// `stats.json` of a `token-shards` artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenStats {
    /// Size of the vocabulary, added tokens included.
    pub vocab_size: u64,
    /// Counts of each split.
    pub splits: BTreeMap<Split, TokenSplitStats>,
}

/// Token counts of one split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenSplitStats {
    /// Notes.
    pub notes: u64,
    /// Words of a note.
    pub words: Summary,
    /// Tokens of a note, without special tokens.
    pub tokens: Summary,
    /// Labels of a note.
    pub labels: Summary,
    /// Tokens that stand for what the vocabulary cannot express.
    pub unknown_tokens: u64,
    /// Their share of all tokens.
    #[serde(default)]
    pub unknown_rate: f64,
    /// Fragmentation ratio: tokens a word (Huang et al. 2022, Table 6).
    #[serde(default)]
    pub fragmentation: f64,
    /// Share of the notes with more tokens than each of the lengths at which models cut.
    #[serde(default)]
    pub share_beyond: BTreeMap<u64, f64>,
}

impl TokenStats {
    /// Name of the file.
    pub const FILE: &'static str = "stats.json";
    /// Version of the file.
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

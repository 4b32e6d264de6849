//! The label space: the codes a model predicts, in a fixed order.

use std::collections::HashMap;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::code::CodeSystem;
use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};

/// One code that a model predicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The code as the data set writes it (dotted where the source's rules dot it).
    pub code: String,
    /// Where the code comes from.
    pub system: CodeSystem,
    /// Its description, where the source gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The ancestor or prefix code whose description this is, if it is not the code's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description_of: Option<String>,
}

/// Unique codes in a fixed order. A label's index in it is its id everywhere: token shards, head weights,
/// columns of scores.
#[derive(Clone, Debug)]
pub struct LabelSpace {
    labels: Vec<Label>,
    index: HashMap<String, usize>,
}

#[derive(Serialize, Deserialize)]
struct LabelsFile {
    labels: Vec<Label>,
}

impl LabelSpace {
    /// Name of the file in every artifact that holds one.
    pub const FILE: &'static str = "labels.json";
    /// Version of that file.
    pub const SCHEMA: u32 = 1;

    /// Takes the labels in this order. Fails on an empty or repeated code.
    pub fn new(labels: Vec<Label>) -> Result<Self, DataError> {
        let mut index = HashMap::with_capacity(labels.len());
        for (position, label) in labels.iter().enumerate() {
            if label.code.is_empty() {
                return Err(DataError::Label { index: position, message: "its code is empty".to_owned() });
            }
            if let Some(first) = index.insert(label.code.clone(), position) {
                let message = format!("code `{}` is also that of label {first}", label.code);
                return Err(DataError::Label { index: position, message });
            }
        }
        Ok(Self { labels, index })
    }

    /// Number of labels (Y).
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels, in order.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The id of a code.
    pub fn index_of(&self, code: &str) -> Option<usize> {
        self.index.get(code).copied()
    }

    /// Index of the first label whose code or system differs, counting a missing label as different.
    /// Descriptions do not matter: they do not decide what an id means.
    pub fn first_difference(&self, other: &Self) -> Option<usize> {
        let same = |a: &Label, b: &Label| a.code == b.code && a.system == b.system;
        let common = self.labels.iter().zip(&other.labels).position(|(a, b)| !same(a, b));
        common.or_else(|| (self.len() != other.len()).then(|| self.len().min(other.len())))
    }

    /// Reads `labels.json`.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        let file: LabelsFile = read_versioned(path, Self::SCHEMA)?;
        Self::new(file.labels).map_err(|error| DataError::file(path, error.to_string()))
    }

    /// Writes `labels.json`.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            labels: &'a [Label],
        }
        write_versioned(path, Self::SCHEMA, &Borrowed { labels: &self.labels })
    }
}

impl PartialEq for LabelSpace {
    fn eq(&self, other: &Self) -> bool {
        self.labels == other.labels
    }
}

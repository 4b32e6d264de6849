//! What training and prediction need to know of a tokenizer, so that they need no tokenizer library.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::json::{read_json, read_versioned, write_json, write_versioned};

/// `special_tokens.json` of a `token-shards` artifact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Put before a sequence (`[CLS]`, `<s>`).
    pub cls: Option<i32>,
    /// Put after a sequence (`[SEP]`, `</s>`).
    pub sep: Option<i32>,
    /// Fills a short sequence.
    pub pad: Option<i32>,
    /// Stands for a hidden token in masked language modelling.
    pub mask: Option<i32>,
    /// Stands for what the vocabulary cannot express.
    pub unk: Option<i32>,
    /// Number of ids, added tokens included.
    pub vocab_size: usize,
}

impl SpecialTokens {
    /// Name of the file.
    pub const FILE: &'static str = "special_tokens.json";

    /// Reads the file.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        read_json(path)
    }

    /// Writes the file.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        write_json(path, self)
    }
}

/// Files of token shards that travel with an encoder or a model: with them a text can be read without the shards.
const TOKENIZER_FILES: [&str; 7] = [
    SpecialTokens::FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
];

/// Copies the tokenizer of `from` into `to`, both folders; of its files, those that are there.
pub fn copy_tokenizer(from: &Utf8Path, to: &Utf8Path) -> std::io::Result<()> {
    for name in TOKENIZER_FILES {
        let source = from.join(name);
        if source.exists() {
            // Read and written, not copied: a copy would be read-only like the store's file.
            fs_err::write(to.join(name), fs_err::read(source)?)?;
        }
    }
    Ok(())
}

/// `label_tokens.json` of a `token-shards` artifact: the descriptions of the labels as token ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelTokens {
    /// In label order, without special tokens; empty where a label has no description.
    pub tokens: Vec<Vec<i32>>,
}

impl LabelTokens {
    /// Name of the file.
    pub const FILE: &'static str = "label_tokens.json";
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

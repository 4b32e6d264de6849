//! What training and prediction need to know of a tokenizer, so that they need no tokenizer library.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::json::{read_json, read_versioned, write_json, write_versioned};
use crate::text_form::TextForm;

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

    /// So many more embeddings than ids an encoder of the same vocabulary may have: tables are padded to round sizes, and
    /// published ones keep rows for tokens that were never given. With more it is another vocabulary's encoder.
    pub const SPARE_EMBEDDINGS: usize = 1024;

    /// Whether an encoder with so many token embeddings can be that of this vocabulary.
    pub fn fits(&self, embeddings: i64) -> bool {
        let ids = self.vocab_size as i64;
        (ids..=ids + Self::SPARE_EMBEDDINGS as i64).contains(&embeddings)
    }

    /// Reads the file.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        read_json(path)
    }

    /// Writes the file.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        write_json(path, self)
    }
}

/// `extended_vocabulary.json` of a tokenizer that was made by adding pieces to another: what each new piece was before,
/// so that an encoder of the smaller vocabulary can give it a meaning to start from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedVocabulary {
    /// Number of ids before; the first new id.
    pub base_size: usize,
    /// For each new id in order, the old ids that stood for its text.
    pub pieces: Vec<Vec<i32>>,
}

impl ExtendedVocabulary {
    /// Name of the file.
    pub const FILE: &'static str = "extended_vocabulary.json";
    /// Version of the file's layout.
    pub const SCHEMA: u32 = 1;

    /// Reads the file of a folder; `None` if there is none.
    ///
    /// # Errors
    /// The file is damaged, or a new piece stands for none or for unknown old ones.
    pub fn read(dir: &Utf8Path) -> Result<Option<Self>, DataError> {
        let path = dir.join(Self::FILE);
        if !path.exists() {
            return Ok(None);
        }
        let read: Self = read_versioned(&path, Self::SCHEMA)?;
        let old = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < read.base_size);
        if let Some(at) = read.pieces.iter().position(|ids| ids.is_empty() || !ids.iter().all(old)) {
            let message = format!("piece {at} does not stand for ids below {}", read.base_size);
            return Err(DataError::file(&path, message));
        }
        Ok(Some(read))
    }

    /// What an encoder has to learn of before it can read shards: the extension of their tokenizer, unless the encoder
    /// has it already.
    ///
    /// # Errors
    /// The encoder has another one.
    pub fn missing_in(encoder: &Utf8Path, shards: &Utf8Path) -> Result<Option<Self>, DataError> {
        let Some(wanted) = Self::read(shards)? else { return Ok(None) };
        match Self::read(encoder)? {
            None => Ok(Some(wanted)),
            Some(known) if known == wanted => Ok(None),
            Some(known) => {
                let message = format!(
                    "the encoder was made for a vocabulary extended from {} to {} ids, the notes use another one, \
                     extended from {} to {}",
                    known.base_size,
                    known.size(),
                    wanted.base_size,
                    wanted.size()
                );
                Err(DataError::file(&encoder.join(Self::FILE), message))
            }
        }
    }

    /// Writes the file into a folder.
    pub fn write(&self, dir: &Utf8Path) -> Result<(), DataError> {
        write_versioned(&dir.join(Self::FILE), Self::SCHEMA, self)
    }

    /// Number of ids.
    pub fn size(&self) -> usize {
        self.base_size + self.pieces.len()
    }
}

/// Files of token shards that travel with an encoder or a model: with them a text can be read without the shards.
const TOKENIZER_FILES: [&str; 9] = [
    SpecialTokens::FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    ExtendedVocabulary::FILE,
    TextForm::FILE,
];

/// Copies the tokenizer, and the form of the texts it is for, of `from` into `to`, both folders; of its files, those that are there.
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

//! Text of a note: the published cleaning rules, reproduced exactly.
//!
//! Python's idea of a word character, of a numeric string and of lower case decides what a corpus
//! looks like, so its tables are pinned here (`unicode_tables.rs`) and do not move with the Rust release.

mod caml;
mod edin;
mod python;
#[rustfmt::skip]
mod unicode_tables;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a note's text is cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TextCleaning {
    /// CAML's tokens (Mullenbach et al. 2018): runs of word characters, purely numeric ones dropped,
    /// lower-cased, joined by one space.
    #[default]
    Caml,
    /// As in the source: cased, with punctuation and line ends.
    Raw,
    /// Edin et al. 2023: lower-cased, everything but ASCII letters and digits replaced by a space,
    /// free-standing numbers dropped (those at the very start or end of a note survive).
    Edin,
}

impl TextCleaning {
    /// The cleaned text. Time and space are linear in the note's length.
    pub fn apply(self, text: &str) -> String {
        match self {
            Self::Caml => caml::clean(text),
            Self::Raw => text.to_owned(),
            Self::Edin => edin::clean(text),
        }
    }
}

/// Number of words: pieces between white space.
pub fn count_words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

//! The parts that special tokens play, and their ids.

use camino::Utf8Path;
use plmicd_data::SpecialTokens;
use plmicd_pipeline::{BadInput, StageError};
use serde_json::{Map, Value};
use tokenizers::Tokenizer;

/// Tokens of a vocabulary we train, in the order of their ids.
#[derive(Clone, Copy, Debug)]
pub struct Roles<'a> {
    /// Put before a sequence.
    pub cls: &'a str,
    /// Put after a sequence.
    pub sep: &'a str,
    /// Fills short sequences.
    pub pad: &'a str,
    /// Hides a token.
    pub mask: &'a str,
    /// Stands for what cannot be expressed.
    pub unk: &'a str,
}

/// BERT's.
pub const BERT: Roles<'static> =
    Roles { cls: "[CLS]", sep: "[SEP]", pad: "[PAD]", mask: "[MASK]", unk: "[UNK]" };
/// RoBERTa's.
pub const ROBERTA: Roles<'static> =
    Roles { cls: "<s>", sep: "</s>", pad: "<pad>", mask: "<mask>", unk: "<unk>" };

/// File that names the special tokens.
pub const MAP: &str = "special_tokens_map.json";

/// Key of further special tokens in Hugging Face's files.
pub const EXTRA: &str = "additional_special_tokens";

impl<'a> Roles<'a> {
    /// These names, others where the user or a file gives them; keys with or without `_token`.
    pub fn named(self, names: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        names.fold(self, |roles, (key, name)| match key.strip_suffix("_token").unwrap_or(key) {
            "cls" => Self { cls: name, ..roles },
            "sep" => Self { sep: name, ..roles },
            "pad" => Self { pad: name, ..roles },
            "mask" => Self { mask: name, ..roles },
            "unk" => Self { unk: name, ..roles },
            _ => roles,
        })
    }

    /// Key in Hugging Face's files and token.
    pub fn entries(self) -> [(&'static str, &'a str); 5] {
        [
            ("cls_token", self.cls),
            ("mask_token", self.mask),
            ("pad_token", self.pad),
            ("sep_token", self.sep),
            ("unk_token", self.unk),
        ]
    }
}

/// Finds the id of each part: as named in `special_tokens_map.json` or `tokenizer_config.json`, else by the names
/// that BERT and RoBERTa use.
///
/// # Errors
/// A named token is not in the vocabulary, or an id does not fit.
pub fn find(
    tokenizer: &Tokenizer,
    map: Option<&Map<String, Value>>,
    config: Option<&Map<String, Value>>,
    dir: &Utf8Path,
) -> Result<SpecialTokens, StageError> {
    let id = |role: &str, bert: &str, roberta: &str| -> Result<Option<i32>, StageError> {
        for (file, object) in [("special_tokens_map.json", map), ("tokenizer_config.json", config)] {
            let Some(name) = object.and_then(|object| token_text(object.get(role)?)) else { continue };
            let Some(id) = tokenizer.token_to_id(name) else {
                let message = format!("names `{name}`, which the vocabulary does not have");
                return Err(BadInput::new(dir.join(file), message).column(role).into());
            };
            return Ok(Some(signed(id, dir)?));
        }
        let found = [bert, roberta].into_iter().find_map(|name| tokenizer.token_to_id(name));
        found.map(|id| signed(id, dir)).transpose()
    };
    let largest = tokenizer.get_vocab(true).into_values().max();
    let largest =
        largest.ok_or_else(|| StageError::from(BadInput::new(dir, "the tokenizer's vocabulary is empty")))?;
    Ok(SpecialTokens {
        cls: id("cls_token", BERT.cls, ROBERTA.cls)?,
        sep: id("sep_token", BERT.sep, ROBERTA.sep)?,
        pad: id("pad_token", BERT.pad, ROBERTA.pad)?,
        mask: id("mask_token", BERT.mask, ROBERTA.mask)?,
        unk: id("unk_token", BERT.unk, ROBERTA.unk)?,
        vocab_size: signed(largest, dir)? as usize + 1,
    })
}

/// A token is a string, or an object with its `content`.
pub fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn signed(id: u32, dir: &Utf8Path) -> Result<i32, StageError> {
    i32::try_from(id).map_err(|_| BadInput::new(dir, format!("token id {id} does not fit 31 bits")).into())
}

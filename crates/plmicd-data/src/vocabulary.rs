//! Whether two folders' tokenizers give their ids to the same tokens.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::Deserialize;

use crate::error::DataError;
use crate::json::read_json;

const FILE: &str = "tokenizer.json";

/// What is read of a `tokenizer.json`.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    vocab: Vocabulary,
}

/// Unigram models list their pieces with a score each, all others give each token its id.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vocabulary {
    Ids(BTreeMap<String, i64>),
    Pieces(Vec<(String, f64)>),
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self::Ids(BTreeMap::new())
    }
}

#[derive(Deserialize)]
struct Added {
    id: i64,
    content: String,
}

/// The tokens of the `tokenizer.json` in a folder by their ids; `None` where there is none.
fn tokens(dir: &Utf8Path) -> Result<Option<BTreeMap<i64, String>>, DataError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let read: Tokenizer = read_json(&path)?;
    let mut tokens: BTreeMap<i64, String> = match read.model.vocab {
        Vocabulary::Ids(ids) => ids.into_iter().map(|(token, id)| (id, token)).collect(),
        Vocabulary::Pieces(pieces) => (0..).zip(pieces).map(|(id, (piece, _))| (id, piece)).collect(),
    };
    tokens.extend(read.added_tokens.into_iter().map(|added| (added.id, added.content)));
    Ok(Some(tokens))
}

/// Checks that the tokens of `notes`, a folder, are those that `encoder`, another one, was trained on, as far as both have a
/// `tokenizer.json`. Ids that only one of them has are not looked at: vocabularies are extended.
///
/// # Errors
/// An id that stands for different tokens; a file that is no tokenizer's.
pub fn check_same_tokens(encoder: &Utf8Path, notes: &Utf8Path) -> Result<(), DataError> {
    match first_other_token(encoder, notes)? {
        None => Ok(()),
        // The tokens themselves come from notes.
        Some(id) => {
            let message = format!(
                "id {id} is another token than in {FILE} of the encoder or model: tokenize the notes with the tokenizer \
                 that belongs to it"
            );
            Err(DataError::file(&notes.join(FILE), message))
        }
    }
}

fn first_other_token(one: &Utf8Path, other: &Utf8Path) -> Result<Option<i64>, DataError> {
    let (Some(one), Some(other)) = (tokens(one)?, tokens(other)?) else { return Ok(None) };
    let differs = |(id, token): &(&i64, &String)| other.get(id).is_some_and(|theirs| theirs != *token);
    Ok(one.iter().find(differs).map(|(&id, _)| id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_other_tokens_are_found() {
        let folder = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            fs_err::write(dir.path().join("tokenizer.json"), text).unwrap();
            dir
        };
        let base = folder(
            r#"{"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<mask>"}]}"#,
        );
        let bare =
            folder(r#"{"model": {"type": "BPE", "vocab": {"b": 1, "a": 0, "<mask>": 2}, "merges": []}}"#);
        let extended = folder(r#"{"model": {"vocab": {"a": 0, "b": 1, "<mask>": 2, "ab": 3}}}"#);
        let other = folder(r#"{"model": {"vocab": {"a": 0, "<mask>": 1, "b": 2}}}"#);
        let pieces = folder(r#"{"model": {"type": "Unigram", "vocab": [["a", -1.5], ["c", -2]]}}"#);
        let none = tempfile::tempdir().unwrap();
        let first = |one: &tempfile::TempDir, other: &tempfile::TempDir| {
            let path = |dir: &tempfile::TempDir| Utf8Path::from_path(dir.path()).unwrap().to_owned();
            first_other_token(&path(one), &path(other)).unwrap()
        };
        for same in [&bare, &extended, &none] {
            assert_eq!((first(&base, same), first(same, &base)), (None, None));
        }
        assert_eq!((first(&base, &other), first(&base, &pieces)), (Some(1), Some(1)));
    }
}

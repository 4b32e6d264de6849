//! Which tokens begin a word: what whole-word masking has to know of a tokenizer.

use camino::Utf8Path;
use plmicd_pipeline::{BadInput, StageError};
use serde_json::Value;

/// Whether each id of a vocabulary begins a word, read from `tokenizer.json`.
///
/// WordPiece: all but those with the continuation prefix. Byte-level BPE: those that begin with a blank or a line
/// end, so punctuation belongs to the word before it, as in RoBERTa's own whole-word masking. Added tokens do.
///
/// # Errors
/// No such file, or a tokenizer of another kind.
pub(crate) fn word_starts(path: &Utf8Path, vocab_size: usize) -> Result<Vec<bool>, StageError> {
    let hint = "use whole_words = false, or a WordPiece or byte-level BPE tokenizer";
    let bad = |message: String| StageError::from(BadInput::new(path, message).hint(hint));
    if !path.exists() {
        return Err(bad("there is no such file in the token shards; whole_words needs it".to_owned()));
    }
    let file: Value = serde_json::from_slice(&fs_err::read(path)?)
        .map_err(|error| bad(format!("not a tokenizer: {error}")))?;
    let model = &file["model"];
    let kind = model["type"].as_str().unwrap_or("unnamed");
    let prefix = match kind {
        "WordPiece" => Some(model["continuing_subword_prefix"].as_str().unwrap_or("##")),
        "BPE" if is_byte_level(&file["pre_tokenizer"]) => None,
        _ => {
            let message = format!("whole_words knows no word starts of a tokenizer of type \"{kind}\"");
            return Err(bad(message));
        }
    };
    let begins = |token: &str| match prefix {
        Some(prefix) => !token.starts_with(prefix),
        // Byte-level BPE writes a blank, a line end and a tab so.
        None => token.starts_with(['Ġ', 'Ċ', 'ĉ', 'č']),
    };
    let vocabulary =
        model["vocab"].as_object().ok_or_else(|| bad("the model has no vocabulary".to_owned()))?;
    let mut starts = vec![true; vocab_size];
    for (token, id) in vocabulary {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        if let Some(start) = id.and_then(|id| starts.get_mut(id)) {
            *start = begins(token);
        }
    }
    for added in file["added_tokens"].as_array().into_iter().flatten() {
        let id = added["id"].as_u64().and_then(|id| usize::try_from(id).ok());
        if let Some(start) = id.and_then(|id| starts.get_mut(id)) {
            *start = true;
        }
    }
    Ok(starts)
}

/// Whether a pre-tokenizer, or one of a sequence of them, is `ByteLevel`.
fn is_byte_level(pre_tokenizer: &Value) -> bool {
    let parts = pre_tokenizer["pretokenizers"].as_array();
    pre_tokenizer["type"] == "ByteLevel" || parts.into_iter().flatten().any(is_byte_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(text: &str) -> Result<Vec<bool>, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = Utf8Path::from_path(dir.path()).expect("UTF-8").join("tokenizer.json");
        fs_err::write(&path, text).expect("written");
        word_starts(&path, 5).map_err(|error| error.to_string())
    }

    #[test]
    fn pieces_of_words_are_told_apart() {
        let word_piece = r###"{"added_tokens": [{"id": 4, "content": "##x"}],
            "model": {"type": "WordPiece", "continuing_subword_prefix": "##",
                      "vocab": {"a": 0, "##a": 1, "#": 2, "b": 3, "##x": 4}}}"###;
        assert_eq!(starts(word_piece).expect("known"), [true, false, true, true, true]);
        let bytes = r#"{"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
            "model": {"type": "BPE", "vocab": {"a": 0, "Ġa": 1, ",": 2, "Ċ": 3, "Ġ": 9}}}"#;
        assert_eq!(starts(bytes).expect("known"), [false, true, false, true, true]);
    }

    #[test]
    fn other_tokenizers_are_refused_by_name() {
        let wrong = starts(r#"{"model": {"type": "Unigram", "vocab": []}}"#).expect_err("unknown");
        assert!(wrong.contains("tokenizer.json") && wrong.contains("\"Unigram\""), "{wrong}");
        assert!(starts("{").expect_err("damaged").contains("not a tokenizer"));
    }
}

//! Adding pieces to an existing vocabulary: the merges go on where the base stopped, on the notes as the base splits
//! them. So every text that holds none of the new pieces keeps its ids.

use std::collections::BTreeMap;

use camino::Utf8Path;
use plmicd_data::{ExtendedVocabulary, write_json};
use plmicd_pipeline::{BadInput, Input, StageContext, StageError};
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::{Model, ModelWrapper, Tokenizer};

use crate::batches::workers;
use crate::config::VocabularyConfig;
use crate::load::{Loaded, write_tokenizer};
use crate::merges::{Learnt, Word};
use crate::special;
use crate::vocabulary::{
    CONTINUING, MAX_WORD_CHARS, counted, learn_watched, write_byte_level, write_wordpiece,
};
use crate::word_counts::Splitting;

/// Learns further pieces for the tokenizer of `base`.
pub fn run(config: &VocabularyConfig, base: &Input, context: &StageContext<'_>) -> Result<(), StageError> {
    let loaded = Loaded::read(&base.dir)?;
    let prefix = match loaded.tokenizer.get_model() {
        ModelWrapper::WordPiece(model) if model.continuing_subword_prefix == CONTINUING => CONTINUING,
        ModelWrapper::BPE(model)
            if [&model.continuing_subword_prefix, &model.end_of_word_suffix]
                .into_iter()
                .all(|affix| affix.as_deref().unwrap_or_default().is_empty()) =>
        {
            ""
        }
        _ => return Err(unknown(&base.dir)),
    };
    let splitting = Splitting::of_tokenizer(&loaded.tokenizer).ok_or_else(|| unknown(&base.dir))?;
    let start = pieces(&loaded, &base.dir)?;
    let size = start.len();
    if config.size <= size {
        return Err(StageError::failed(format!(
            "size = {} leaves no room for new pieces: the base vocabulary has {size} entries already",
            config.size
        )));
    }
    let counts = counted(config, &splitting, context)?;
    let words = as_split_by(&loaded, counts, context)?;
    let learnt = learn_watched(config, words, start, prefix, context)?;

    let out = context.output_dir();
    let as_ids = |ids: Vec<u32>| ids.into_iter().map(|id| id as i32).collect();
    let extended = ExtendedVocabulary {
        base_size: size,
        pieces: learnt.made_of(size).into_iter().map(as_ids).collect(),
    };
    loaded.write_companions(out)?;
    name_special(&loaded, out)?;
    write(&loaded.tokenizer, &learnt, out)?;
    extended.write(out).map_err(|error| StageError::because("writing the tokenizer", error))
}

/// Names the special tokens for readers that know nothing of the base's model, unless the base names them itself.
fn name_special(loaded: &Loaded, dir: &Utf8Path) -> Result<(), StageError> {
    let path = dir.join(special::MAP);
    if path.exists() {
        return Ok(());
    }
    let ids = &loaded.special;
    let roles = [("cls", ids.cls), ("mask", ids.mask), ("pad", ids.pad), ("sep", ids.sep), ("unk", ids.unk)];
    let names: BTreeMap<String, String> = roles
        .into_iter()
        .filter_map(|(role, id)| Some((format!("{role}_token"), loaded.tokenizer.id_to_token(id? as u32)?)))
        .collect();
    write_json(&path, &names).map_err(|error| StageError::because("writing the tokenizer", error))
}

fn unknown(dir: &Utf8Path) -> StageError {
    BadInput::new(
        dir,
        "this tokenizer cannot be extended; expected BERT's WordPiece or byte-level BPE as RoBERTa has it",
    )
    .into()
}

/// The entries of the vocabulary in the order of their ids.
fn pieces(loaded: &Loaded, dir: &Utf8Path) -> Result<Vec<String>, StageError> {
    let mut by_id: Vec<(u32, String)> =
        loaded.tokenizer.get_vocab(false).into_iter().map(|(piece, id)| (id, piece)).collect();
    by_id.sort_unstable();
    let whole = by_id.iter().zip(0..).all(|((id, _), place)| *id == place);
    if !whole || loaded.special.vocab_size != by_id.len() {
        let message = format!(
            "its vocabulary has {} entries, its largest id is {}: a vocabulary with gaps or with tokens added beyond it \
             cannot be extended",
            by_id.len(),
            loaded.special.vocab_size.saturating_sub(1)
        );
        return Err(BadInput::new(dir, message).into());
    }
    Ok(by_id.into_iter().map(|(_, piece)| piece).collect())
}

/// The words as the base's pieces; without those it cannot express or does not look at, long ones.
fn as_split_by(
    loaded: &Loaded,
    counts: BTreeMap<String, u64>,
    context: &StageContext<'_>,
) -> Result<Vec<Word>, StageError> {
    let model = loaded.tokenizer.get_model();
    let unknown = loaded.special.unk.map(|id| id as u32);
    let counts: Vec<(String, u64)> = counts.into_iter().collect();
    let split = |(word, count): &(String, u64)| -> tokenizers::Result<Option<Word>> {
        if word.chars().nth(MAX_WORD_CHARS).is_some() {
            return Ok(None);
        }
        let pieces: Vec<u32> = model.tokenize(word)?.into_iter().map(|token| token.id).collect();
        let known = !pieces.iter().any(|id| Some(*id) == unknown);
        Ok(known.then_some(Word { pieces, count: *count }))
    };
    let words: tokenizers::Result<Vec<Option<Word>>> =
        workers(context)?.install(|| counts.par_iter().map(split).collect());
    let words = words.map_err(|error| StageError::because("splitting words as the base does", error))?;
    Ok(words.into_iter().flatten().collect())
}

/// Vocabulary files and `tokenizer.json`, the latter the base's with more entries.
fn write(base: &Tokenizer, learnt: &Learnt, dir: &Utf8Path) -> Result<(), StageError> {
    let failed = |error: tokenizers::Error| StageError::because("writing the tokenizer", error);
    let json_failed = |error: serde_json::Error| StageError::because("writing the tokenizer", error);
    let text = base.to_string(false).map_err(failed)?;
    let mut whole: Value = serde_json::from_str(&text).map_err(json_failed)?;
    let ids: serde_json::Map<String, Value> =
        learnt.pieces.iter().zip(0..).map(|(piece, id)| (piece.clone(), json!(id))).collect();
    whole["model"]["vocab"] = Value::Object(ids);
    match base.get_model() {
        ModelWrapper::BPE(_) => {
            let old: Vec<(String, String)> =
                serde_json::from_value(whole["model"]["merges"].take()).map_err(json_failed)?;
            let merges = [old, learnt.merges_in_words()].concat();
            whole["model"]["merges"] = json!(merges);
            write_byte_level(&learnt.pieces, &merges, dir)?;
        }
        _ => write_wordpiece(&learnt.pieces, dir)?,
    }
    let bytes = serde_json::to_vec(&whole).map_err(json_failed)?;
    write_tokenizer(&Tokenizer::from_bytes(bytes).map_err(failed)?, dir)
}

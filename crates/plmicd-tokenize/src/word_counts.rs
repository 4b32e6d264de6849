//! How often each word occurs, a word being what the tokenizer's own splitting makes of a text.

use std::collections::{BTreeMap, HashMap};

use camino::Utf8Path;
use plmicd_data::Split;
use plmicd_pipeline::{StageContext, StageError};
use rayon::prelude::*;
use tokenizers::normalizers::{BertNormalizer, Lowercase};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use crate::batches::{for_each_batch, workers};
use crate::chunks::Cutting;
use crate::config::VocabularyModel;

type Counts = HashMap<String, u64>;

/// Counts the words of a split's notes. Gives the counts and the number of notes.
///
/// Pieces of text are counted first and split into words once each: splitting is what takes the time.
pub fn count(
    notes: &Utf8Path,
    split: Split,
    model: VocabularyModel,
    lowercase: bool,
    context: &StageContext<'_>,
) -> Result<(BTreeMap<String, u64>, u64), StageError> {
    let workers = workers(context)?;
    let cutting = match model {
        VocabularyModel::Wordpiece => Cutting::Blanks,
        VocabularyModel::ByteLevelBpe => Cutting::BeforeBlank,
    };
    let mut pieces = Counts::new();
    let mut num_notes = 0;
    for_each_batch(notes, "counting words", context, |batch| {
        let texts: Vec<&str> =
            batch.iter().filter(|note| note.split == split).map(|note| note.text.as_str()).collect();
        num_notes += texts.len() as u64;
        let counted: Vec<HashMap<&str, u64>> =
            workers.install(|| texts.par_chunks(64).map(|texts| count_pieces(texts, cutting)).collect());
        for (piece, count) in counted.into_iter().flatten() {
            add(&mut pieces, piece, count);
        }
        Ok(())
    })?;
    let pieces: Vec<(String, u64)> = pieces.into_iter().collect();
    let counted: Vec<Counts> = workers
        .install(|| {
            pieces
                .par_chunks(4096)
                .map(|pieces| count_words(pieces, model, lowercase))
                .collect::<Result<_, _>>()
        })
        .map_err(|e| StageError::because("splitting notes into words", e))?;
    let mut words = BTreeMap::new();
    for (word, count) in counted.into_iter().flatten() {
        *words.entry(word).or_default() += count;
    }
    Ok((words, num_notes))
}

fn count_pieces<'a>(texts: &[&'a str], cutting: Cutting) -> HashMap<&'a str, u64> {
    let mut counts = HashMap::new();
    for piece in texts.iter().flat_map(|text| cutting.pieces(text)) {
        *counts.entry(piece).or_default() += 1;
    }
    counts
}

fn count_words(
    pieces: &[(String, u64)],
    model: VocabularyModel,
    lowercase: bool,
) -> tokenizers::Result<Counts> {
    let mut counts = Counts::new();
    for (piece, count) in pieces {
        let mut text = NormalizedString::from(piece.as_str());
        match model {
            VocabularyModel::Wordpiece => {
                BertNormalizer::new(true, true, None, lowercase).normalize(&mut text)?
            }
            VocabularyModel::ByteLevelBpe if lowercase => Lowercase.normalize(&mut text)?,
            VocabularyModel::ByteLevelBpe => {}
        }
        let mut text = PreTokenizedString::from(text);
        match model {
            VocabularyModel::Wordpiece => BertPreTokenizer.pre_tokenize(&mut text)?,
            VocabularyModel::ByteLevelBpe => {
                ByteLevel::default().add_prefix_space(false).pre_tokenize(&mut text)?;
            }
        }
        for (word, _, _) in text.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            add(&mut counts, word, *count);
        }
    }
    Ok(counts)
}

fn add(counts: &mut Counts, word: &str, count: u64) {
    match counts.get_mut(word) {
        Some(total) => *total += count,
        None => {
            counts.insert(word.to_owned(), count);
        }
    }
}

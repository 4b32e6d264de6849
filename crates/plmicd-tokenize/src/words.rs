//! A vocabulary of whole words, for word-level models: those that enough training notes use (as in CAML, where a word
//! must occur in three).

use std::borrow::Cow;
use std::collections::HashMap;

use camino::Utf8Path;
use plmicd_data::NoteWriter;
use plmicd_pipeline::{BadInput, StageContext, StageError};
use rayon::prelude::*;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, Tokenizer};

use crate::batches::{for_each_batch, workers};
use crate::config::VocabularyConfig;
use crate::load::write_tokenizer;
use crate::special::Roles;
use crate::word_counts::Sample;

/// How often a word occurs, and in how many notes.
#[derive(Clone, Copy, Default)]
struct Count {
    notes: u64,
    occurrences: u64,
}

type Counts = HashMap<String, Count>;

/// Learns the words: special tokens, then words by the number of notes that have them.
///
/// # Errors
/// There are no words, or none occurs in enough notes.
pub fn learn(
    config: &VocabularyConfig,
    roles: Roles<'_>,
    context: &StageContext<'_>,
) -> Result<Vec<String>, StageError> {
    let counts = count(config, context)?;
    let (distinct, occurrences) = (counts.len(), counts.values().map(|count| count.occurrences).sum::<u64>());
    let mut words: Vec<(String, Count)> =
        counts.into_iter().filter(|(_, count)| count.notes >= config.min_documents).collect();
    words.sort_unstable_by(|a, b| b.1.notes.cmp(&a.1.notes).then_with(|| a.0.cmp(&b.0)));
    let mut pieces: Vec<String> = [roles.pad, roles.unk].map(str::to_owned).to_vec();
    pieces.extend_from_slice(&config.extra_tokens);
    words.retain(|(word, _)| !pieces.contains(word));
    let frequent = words.len();
    words.truncate(config.size.saturating_sub(pieces.len()));
    let covered: u64 = words.iter().map(|(_, count)| count.occurrences).sum();
    context.note(format!(
        "{} of {distinct} distinct words are kept: {frequent} occur in at least {} notes; they cover {:.2} % of the text",
        words.len(),
        config.min_documents,
        100.0 * covered as f64 / occurrences.max(1) as f64
    ));
    if words.is_empty() {
        return Err(StageError::failed(format!(
            "no word occurs in {} training notes (min_documents)",
            config.min_documents
        )));
    }
    pieces.extend(words.into_iter().map(|(word, _)| word));
    Ok(pieces)
}

fn count(config: &VocabularyConfig, context: &StageContext<'_>) -> Result<Counts, StageError> {
    let path = context.input("notes")?.file(NoteWriter::FILE);
    let sample = Sample { split: config.split, share: config.sample, seed: config.seed };
    let workers = workers(context)?;
    let mut counts = Counts::new();
    let mut num_notes = 0u64;
    for_each_batch(&path, "counting words", context, |batch| {
        let texts: Vec<&str> =
            batch.iter().filter(|note| sample.takes(note)).map(|note| note.text.as_str()).collect();
        num_notes += texts.len() as u64;
        let counted: Vec<Counts> = workers
            .install(|| texts.par_chunks(64).map(|texts| count_texts(texts, config.lowercase)).collect());
        for (word, count) in counted.into_iter().flatten() {
            let total = counts.entry(word).or_default();
            total.notes += count.notes;
            total.occurrences += count.occurrences;
        }
        Ok(())
    })?;
    if counts.is_empty() {
        let message = format!("the {} split has {num_notes} notes and no words to learn from", config.split);
        return Err(BadInput::new(path, message).into());
    }
    Ok(counts)
}

fn count_texts(texts: &[&str], lowercase: bool) -> Counts {
    /// A word's count, and the last text that had it.
    type Seen = (Count, usize);
    let mut counts: HashMap<String, Seen> = HashMap::new();
    for (number, text) in texts.iter().enumerate() {
        for word in folded(text, lowercase).split_whitespace() {
            match counts.get_mut(word) {
                Some((count, last)) => {
                    count.occurrences += 1;
                    count.notes += u64::from(*last != number);
                    *last = number;
                }
                None => {
                    counts.insert(word.to_owned(), (Count { notes: 1, occurrences: 1 }, number));
                }
            }
        }
    }
    counts.into_iter().map(|(word, (count, _))| (word, count)).collect()
}

/// The text as the tokenizer's normalizer leaves it: each character lower-cased by itself.
fn folded(text: &str, lowercase: bool) -> Cow<'_, str> {
    match lowercase && text.chars().any(|c| !c.is_lowercase() && c.is_alphabetic()) {
        true => Cow::Owned(text.chars().flat_map(char::to_lowercase).collect()),
        false => Cow::Borrowed(text),
    }
}

/// Writes `tokenizer.json`.
pub fn write(
    config: &VocabularyConfig,
    roles: Roles<'_>,
    pieces: &[String],
    dir: &Utf8Path,
) -> Result<(), StageError> {
    let failed = |error: tokenizers::Error| StageError::because("building the tokenizer", error);
    let special: Vec<AddedToken> = [roles.pad, roles.unk]
        .into_iter()
        .chain(config.extra_tokens.iter().map(String::as_str))
        .map(|token| AddedToken::from(token, true))
        .collect();
    let ids = pieces.iter().cloned().zip(0u32..).collect();
    let model = WordLevel::builder().vocab(ids).unk_token(roles.unk.to_owned()).build().map_err(failed)?;
    let mut tokenizer = Tokenizer::new(model);
    if config.lowercase {
        tokenizer.with_normalizer(Some(Lowercase)).map_err(failed)?;
    }
    tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
    tokenizer.add_special_tokens(special).map_err(failed)?;
    write_tokenizer(&tokenizer, dir)
}

//! How often each word occurs, a word being what the tokenizer's own splitting makes of a text.

use std::collections::{BTreeMap, HashMap};

use camino::Utf8Path;
use plmicd_data::{Note, Split};
use plmicd_pipeline::{StageContext, StageError};
use rayon::prelude::*;
use tokenizers::normalizers::{BertNormalizer, Lowercase};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{
    NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, PreTokenizerWrapper, Tokenizer,
};

use crate::batches::{for_each_batch, workers};
use crate::chunks::Cutting;
use crate::config::VocabularyModel;

type Counts = HashMap<String, u64>;

/// How texts become words: the first steps of a tokenizer.
pub struct Splitting {
    cutting: Cutting,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: PreTokenizerWrapper,
}

impl Splitting {
    /// As a vocabulary of this kind will split them.
    pub fn of_model(model: VocabularyModel, lowercase: bool) -> Self {
        match model {
            VocabularyModel::Wordpiece => Self {
                cutting: Cutting::Blanks,
                normalizer: Some(BertNormalizer::new(true, true, None, lowercase).into()),
                pre_tokenizer: BertPreTokenizer.into(),
            },
            VocabularyModel::Word => Self {
                cutting: Cutting::WhiteSpace,
                normalizer: lowercase.then(|| Lowercase.into()),
                pre_tokenizer: WhitespaceSplit.into(),
            },
            VocabularyModel::ByteLevelBpe => Self {
                cutting: Cutting::BeforeBlank,
                normalizer: lowercase.then(|| Lowercase.into()),
                pre_tokenizer: ByteLevel::default().add_prefix_space(false).into(),
            },
        }
    }

    /// As this tokenizer splits them; `None` if it is not known to treat words by themselves.
    pub fn of_tokenizer(tokenizer: &Tokenizer) -> Option<Self> {
        Some(Self {
            cutting: Cutting::of(tokenizer)?,
            normalizer: tokenizer.get_normalizer().cloned(),
            pre_tokenizer: tokenizer.get_pre_tokenizer()?.clone(),
        })
    }
}

/// Which notes are counted.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The split.
    pub split: Split,
    /// Share of its notes.
    pub share: f64,
    /// Chooses them.
    pub seed: u64,
}

impl Sample {
    /// Whether a note is among them.
    pub fn takes(self, note: &Note) -> bool {
        note.split == self.split && (self.share >= 1.0 || uniform(&note.note_id, self.seed) < self.share)
    }
}

/// A number from 0 to below 1 that follows from the id and the seed: FNV-1a, then SplitMix64's mixing.
fn uniform(id: &str, seed: u64) -> f64 {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut word = (hash ^ seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Counts the words of the notes. Gives the counts and the number of notes.
///
/// Pieces of text are counted first and split into words once each: splitting is what takes the time.
pub fn count(
    notes: &Utf8Path,
    sample: Sample,
    splitting: &Splitting,
    context: &StageContext<'_>,
) -> Result<(BTreeMap<String, u64>, u64), StageError> {
    let workers = workers(context)?;
    let mut pieces = Counts::new();
    let mut num_notes = 0;
    for_each_batch(notes, "counting words", context, |batch| {
        let texts: Vec<&str> =
            batch.iter().filter(|note| sample.takes(note)).map(|note| note.text.as_str()).collect();
        num_notes += texts.len() as u64;
        let counted: Vec<HashMap<&str, u64>> = workers
            .install(|| texts.par_chunks(64).map(|texts| count_pieces(texts, splitting.cutting)).collect());
        for (piece, count) in counted.into_iter().flatten() {
            add(&mut pieces, piece, count);
        }
        Ok(())
    })?;
    let pieces: Vec<(String, u64)> = pieces.into_iter().collect();
    let counted: Vec<Counts> = workers
        .install(|| {
            pieces.par_chunks(4096).map(|pieces| count_words(pieces, splitting)).collect::<Result<_, _>>()
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

fn count_words(pieces: &[(String, u64)], splitting: &Splitting) -> tokenizers::Result<Counts> {
    let mut counts = Counts::new();
    for (piece, count) in pieces {
        let mut text = NormalizedString::from(piece.as_str());
        if let Some(normalizer) = &splitting.normalizer {
            normalizer.normalize(&mut text)?;
        }
        let mut text = PreTokenizedString::from(text);
        splitting.pre_tokenizer.pre_tokenize(&mut text)?;
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

//! The stage `vocabulary`: a tokenizer learnt from the training notes, alone or on top of another.

use std::collections::{BTreeMap, HashMap};

use camino::Utf8Path;
use fs_err as fs;
use plmicd_data::{NoteWriter, kind, write_json};
use plmicd_pipeline::{BadInput, ConfigIssue, InputSpec, Stage, StageContext, StageError};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::config::{VocabularyConfig, VocabularyModel};
use crate::extend;
use crate::load::{read_tokenizer, write_tokenizer};
use crate::merges::{Learnt, Word, learn};
use crate::special::{BERT, EXTRA, ROBERTA, Roles};
use crate::word_counts::{self, Sample, Splitting};
use crate::words;

/// WordPiece's mark of pieces that continue a word.
pub(crate) const CONTINUING: &str = "##";

/// Characters a WordPiece vocabulary learns at most; words with rarer ones become the unknown token.
const MAX_ALPHABET: usize = 1000;

/// Longer words become the unknown token in BERT's tokenizer, so nothing is learnt from them.
pub(crate) const MAX_WORD_CHARS: usize = 100;

/// Training notes to `tokenizer`, in Hugging Face layout.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary;

impl Stage for Vocabulary {
    type Config = VocabularyConfig;

    const NAME: &'static str = "vocabulary";
    const VERSION: u32 = 3;
    const OUTPUT: &'static str = kind::TOKENIZER;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str =
        "A WordPiece, byte-level BPE or word tokenizer learnt from the training notes";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 2] = [
            InputSpec::required("notes", &[kind::NOTES]),
            InputSpec::optional("base", &[kind::TOKENIZER, kind::HF_MODEL, kind::ENCODER]),
        ];
        &INPUTS
    }

    fn check(config: &Self::Config, wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues(wired.contains(&"base"))
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        if let Some(base) = context.optional_input("base") {
            return extend::run(config, base, context);
        }
        let roles = roles(config);
        let counts = || counted(config, &Splitting::of_model(config.model, config.lowercase), context);
        let ((start, words), prefix) = match config.model {
            VocabularyModel::Wordpiece => {
                (wordpiece_start(counts()?, roles, &config.extra_tokens), CONTINUING)
            }
            VocabularyModel::ByteLevelBpe => (byte_level_start(counts()?, roles, &config.extra_tokens), ""),
            VocabularyModel::Word => {
                let pieces = words::learn(config, roles, context)?;
                let learnt = Learnt { pieces, merges: Vec::new(), results: Vec::new() };
                return write(config, roles, &learnt, context.output_dir());
            }
        };
        if start.len() > config.size {
            return Err(StageError::failed(format!(
                "size = {} is too small: special tokens and single characters take {} entries",
                config.size,
                start.len()
            )));
        }
        let learnt = learn_watched(config, words, start, prefix, context)?;
        write(config, roles, &learnt, context.output_dir())
    }
}

/// The words of the notes and how often they occur.
///
/// # Errors
/// There are none.
pub(crate) fn counted(
    config: &VocabularyConfig,
    splitting: &Splitting,
    context: &StageContext<'_>,
) -> Result<BTreeMap<String, u64>, StageError> {
    let notes = context.input("notes")?.file(NoteWriter::FILE);
    let sample = Sample { split: config.split, share: config.sample, seed: config.seed };
    let (counts, num_notes) = word_counts::count(&notes, sample, splitting, context)?;
    if counts.is_empty() {
        let message = format!("the {} split has {num_notes} notes and no words to learn from", config.split);
        return Err(BadInput::new(notes, message).into());
    }
    context.note(format!("{} distinct words in {num_notes} notes", counts.len()));
    Ok(counts)
}

/// Learns pieces, telling how far it is.
pub(crate) fn learn_watched(
    config: &VocabularyConfig,
    words: Vec<Word>,
    start: Vec<String>,
    prefix: &str,
    context: &StageContext<'_>,
) -> Result<Learnt, StageError> {
    let before = start.len();
    let learnt = learn(words, start, prefix, config.size, config.min_frequency, |size| {
        context.progress("learning pieces", size as u64, Some(config.size as u64), "pieces");
        context.check_interrupt()
    })?;
    context.note(format!("{} entries, {} of them learnt", learnt.pieces.len(), learnt.pieces.len() - before));
    if learnt.pieces.len() < config.size {
        context.warn(format!(
            "the notes give only {} of {} entries (no further pair occurs {} times)",
            learnt.pieces.len(),
            config.size,
            config.min_frequency
        ));
    }
    Ok(learnt)
}

/// The special tokens: BERT's or RoBERTa's, where the user does not name them.
fn roles(config: &VocabularyConfig) -> Roles<'_> {
    let usual = match config.model {
        VocabularyModel::Wordpiece | VocabularyModel::Word => BERT,
        VocabularyModel::ByteLevelBpe => ROBERTA,
    };
    usual.named(config.special_tokens.entries().into_iter())
}

/// Special tokens, then every character alone and as a continuation, by code point.
fn wordpiece_start(
    counts: BTreeMap<String, u64>,
    roles: Roles<'_>,
    extra: &[String],
) -> (Vec<String>, Vec<Word>) {
    let mut frequency: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in &counts {
        for c in word.chars() {
            *frequency.entry(c).or_default() += count;
        }
    }
    let mut alphabet: Vec<(char, u64)> = frequency.into_iter().collect();
    alphabet.sort_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
    alphabet.truncate(MAX_ALPHABET);
    alphabet.sort_unstable();
    let alphabet: Vec<char> = alphabet.into_iter().map(|(c, _)| c).collect();

    let mut pieces: Vec<String> =
        [roles.pad, roles.unk, roles.cls, roles.sep, roles.mask].map(str::to_owned).to_vec();
    pieces.extend_from_slice(extra);
    let first = pieces.len() as u32;
    pieces.extend(alphabet.iter().map(|c| c.to_string()));
    pieces.extend(alphabet.iter().map(|c| format!("{CONTINUING}{c}")));
    let position: HashMap<char, u32> = alphabet.iter().copied().zip(0..).collect();
    let continuing = first + alphabet.len() as u32;
    let words = counts.into_iter().filter_map(|(word, count)| {
        if word.chars().nth(MAX_WORD_CHARS).is_some() {
            return None;
        }
        let pieces = word
            .chars()
            .enumerate()
            .map(|(i, c)| Some(position.get(&c)? + if i == 0 { first } else { continuing }))
            .collect::<Option<Vec<u32>>>()?;
        Some(Word { pieces, count })
    });
    let words = words.collect();
    (pieces, words)
}

/// Special tokens, then the 256 bytes by their stand-in characters.
fn byte_level_start(
    counts: BTreeMap<String, u64>,
    roles: Roles<'_>,
    extra: &[String],
) -> (Vec<String>, Vec<Word>) {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut pieces: Vec<String> =
        [roles.cls, roles.pad, roles.sep, roles.unk, roles.mask].map(str::to_owned).to_vec();
    pieces.extend_from_slice(extra);
    let first = pieces.len() as u32;
    pieces.extend(alphabet.iter().map(|c| c.to_string()));
    let position: HashMap<char, u32> = alphabet.into_iter().zip(first..).collect();
    let words = counts
        .into_iter()
        .map(|(word, count)| Word { pieces: word.chars().map(|c| position[&c]).collect(), count })
        .collect();
    (pieces, words)
}

/// Vocabulary files first; `tokenizer.json` is then what any reader makes of them.
fn write(
    config: &VocabularyConfig,
    roles: Roles<'_>,
    learnt: &Learnt,
    dir: &Utf8Path,
) -> Result<(), StageError> {
    match config.model {
        VocabularyModel::Wordpiece => write_wordpiece(&learnt.pieces, dir)?,
        VocabularyModel::ByteLevelBpe => write_byte_level(&learnt.pieces, &learnt.merges_in_words(), dir)?,
        VocabularyModel::Word => words::write(config, roles, &learnt.pieces, dir)?,
    }
    let settings = tokenizer_config(config, roles);
    json_file(dir, "tokenizer_config.json", &settings)?;
    json_file(dir, "special_tokens_map.json", &special_tokens_map(config, roles))?;
    let settings: Map<String, Value> = settings.into_iter().collect();
    let tokenizer = read_tokenizer(dir, Some(&settings))?;
    write_tokenizer(&tokenizer, dir)
}

/// `vocab.txt`.
pub(crate) fn write_wordpiece(pieces: &[String], dir: &Utf8Path) -> Result<(), StageError> {
    Ok(fs::write(dir.join("vocab.txt"), pieces.join("\n") + "\n")?)
}

/// `vocab.json` and `merges.txt`.
pub(crate) fn write_byte_level(
    pieces: &[String],
    merges: &[(String, String)],
    dir: &Utf8Path,
) -> Result<(), StageError> {
    json_file(dir, "vocab.json", &Ids(pieces))?;
    let mut text = "#version: 0.2\n".to_owned();
    for (first, second) in merges {
        text += &format!("{first} {second}\n");
    }
    Ok(fs::write(dir.join("merges.txt"), text)?)
}

fn json_file(dir: &Utf8Path, name: &str, value: &impl Serialize) -> Result<(), StageError> {
    write_json(&dir.join(name), value).map_err(|e| StageError::because("writing the tokenizer", e))
}

fn special_tokens_map(config: &VocabularyConfig, roles: Roles<'_>) -> BTreeMap<String, Value> {
    let has = |role: &str| config.model != VocabularyModel::Word || matches!(role, "pad_token" | "unk_token");
    let entries = roles.entries().into_iter().filter(|(role, _)| has(role));
    let mut map: BTreeMap<String, Value> =
        entries.map(|(role, token)| (role.to_owned(), json!(token))).collect();
    if !config.extra_tokens.is_empty() {
        map.insert(EXTRA.to_owned(), json!(config.extra_tokens));
    }
    map
}

/// What `transformers` reads beside `tokenizer.json`.
fn tokenizer_config(config: &VocabularyConfig, roles: Roles<'_>) -> BTreeMap<String, Value> {
    let mut settings = special_tokens_map(config, roles);
    settings.insert("do_lower_case".to_owned(), json!(config.lowercase));
    let class = match config.model {
        VocabularyModel::Wordpiece => {
            settings.insert("strip_accents".to_owned(), Value::Null);
            settings.insert("tokenize_chinese_chars".to_owned(), json!(true));
            "BertTokenizer"
        }
        VocabularyModel::ByteLevelBpe => {
            settings.insert("add_prefix_space".to_owned(), json!(false));
            settings.insert("bos_token".to_owned(), json!(roles.cls));
            settings.insert("eos_token".to_owned(), json!(roles.sep));
            // RobertaTokenizer has no lower-casing; the generic class takes `tokenizer.json` as it is.
            if config.lowercase { "PreTrainedTokenizerFast" } else { "RobertaTokenizer" }
        }
        VocabularyModel::Word => "PreTrainedTokenizerFast",
    };
    settings.insert("tokenizer_class".to_owned(), json!(class));
    settings
}

/// `vocab.json` in the order of the ids.
struct Ids<'a>(&'a [String]);

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, piece) in self.0.iter().enumerate() {
            map.serialize_entry(piece, &id)?;
        }
        map.end()
    }
}

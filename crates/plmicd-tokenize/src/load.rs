//! Any tokenizer folder of Hugging Face's layouts: `tokenizer.json` (older ones without `model.type` too), BERT's
//! `vocab.txt`, RoBERTa's `vocab.json` with `merges.txt`.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use plmicd_data::{ExtendedVocabulary, SpecialTokens};
use plmicd_pipeline::{BadInput, StageError};
use serde_json::{Map, Value};
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, Lowercase};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::special::{self, BERT, ROBERTA, Roles};

/// Files that describe a tokenizer beside `tokenizer.json`; copied along where they exist.
const COMPANIONS: [&str; 7] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    ExtendedVocabulary::FILE,
];

/// A tokenizer ready to encode whole notes.
pub struct Loaded {
    /// Truncation and padding are off, whatever the file says.
    pub tokenizer: Tokenizer,
    /// Ids of the special tokens, size of the vocabulary.
    pub special: SpecialTokens,
    dir: Utf8PathBuf,
}

impl Loaded {
    /// Reads the folder.
    ///
    /// # Errors
    /// No known file, a damaged one, a named special token missing, more ids than the model beside it has
    /// embeddings.
    pub fn read(dir: &Utf8Path) -> Result<Self, StageError> {
        let config = read_object(&dir.join("tokenizer_config.json"))?;
        let map = read_object(&dir.join("special_tokens_map.json"))?;
        let mut tokenizer = read_tokenizer(dir, config.as_ref())?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| StageError::because("switching truncation off", e))?;
        let special = special::find(&tokenizer, map.as_ref(), config.as_ref(), dir)?;
        check_embeddings(dir, special.vocab_size)?;
        Ok(Self { tokenizer, special, dir: dir.to_owned() })
    }

    /// Writes the tokenizer as used: `tokenizer.json`, and the files it came with.
    pub fn write(&self, dir: &Utf8Path) -> Result<(), StageError> {
        self.write_companions(dir)?;
        write_tokenizer(&self.tokenizer, dir)
    }

    /// Writes the files it came with, as they are.
    pub fn write_companions(&self, dir: &Utf8Path) -> Result<(), StageError> {
        for name in COMPANIONS {
            let source = self.dir.join(name);
            if source.exists() {
                // Not `copy`, which would carry over a store file's read-only mode.
                fs::write(dir.join(name), fs::read(source)?)?;
            }
        }
        Ok(())
    }
}

/// Copies the tokenizer of a Hugging Face folder as `tokenize` would use it: `tokenizer.json`, the files it came with, and
/// `special_tokens.json`. For models that come with their own tokenizer and were not trained here.
///
/// # Errors
/// As [`Loaded::read`].
pub fn copy_published(from: &Utf8Path, to: &Utf8Path) -> Result<SpecialTokens, StageError> {
    let loaded = Loaded::read(from)?;
    loaded.write(to)?;
    let path = to.join(SpecialTokens::FILE);
    loaded.special.write(&path).map_err(|e| StageError::because("writing the special tokens", e))?;
    Ok(loaded.special)
}

/// Writes `tokenizer.json`.
pub fn write_tokenizer(tokenizer: &Tokenizer, dir: &Utf8Path) -> Result<(), StageError> {
    let text = tokenizer.to_string(false).map_err(|e| StageError::because("writing tokenizer.json", e))?;
    fs::write(dir.join("tokenizer.json"), text)?;
    Ok(())
}

/// Reads the tokenizer of a folder; `config` is its `tokenizer_config.json`.
pub fn read_tokenizer(dir: &Utf8Path, config: Option<&Map<String, Value>>) -> Result<Tokenizer, StageError> {
    let (whole, words) = (dir.join("tokenizer.json"), dir.join("vocab.txt"));
    let (pieces, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
    if whole.exists() {
        let mut bytes = fs::read(&whole)?;
        if let Some(settled) = config.and_then(|config| settle_normalizer(&bytes, config)) {
            bytes = settled;
        }
        return Tokenizer::from_bytes(bytes).map_err(|e| bad(&whole, "not a tokenizer we can read", &*e));
    }
    // The older layout: names and further tokens stand in files of their own.
    let mut settings = config.cloned().unwrap_or_default();
    settings.extend(read_object(&dir.join("special_tokens_map.json"))?.unwrap_or_default());
    if words.exists() {
        let mut tokenizer =
            bert(&words, &settings).map_err(|e| bad(&words, "not a WordPiece vocabulary", &*e))?;
        add_further(&mut tokenizer, dir)?;
        return Ok(tokenizer);
    }
    if pieces.exists() && merges.exists() {
        let mut tokenizer = roberta(&pieces, &merges, &settings)
            .map_err(|e| bad(&pieces, "not a byte-level BPE vocabulary with its merges", &*e))?;
        add_further(&mut tokenizer, dir)?;
        return Ok(tokenizer);
    }
    Err(BadInput::new(
        dir,
        "no tokenizer; expected tokenizer.json, or vocab.txt, or vocab.json with merges.txt",
    )
    .into())
}

/// `tokenizer.json` with what `tokenizer_config.json` says of BERT's normalizer, where they differ: `transformers` 4, with
/// which nearly all published models were trained, heeds the latter. `None` where there is nothing to settle.
fn settle_normalizer(bytes: &[u8], config: &Map<String, Value>) -> Option<Vec<u8>> {
    const SETTINGS: [(&str, &str); 3] = [
        ("do_lower_case", "lowercase"),
        ("strip_accents", "strip_accents"),
        ("tokenize_chinese_chars", "handle_chinese_chars"),
    ];
    let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or("BertTokenizer");
    let named: Vec<(&str, &Value)> =
        SETTINGS.into_iter().filter_map(|(named, own)| Some((own, config.get(named)?))).collect();
    if !class.starts_with("BertTokenizer") || named.is_empty() {
        return None;
    }
    let mut whole: Value = serde_json::from_slice(bytes).ok()?;
    let normalizer =
        whole.get_mut("normalizer").filter(|normalizer| normalizer["type"] == "BertNormalizer")?;
    if named.iter().all(|(own, value)| normalizer[*own] == **value) {
        return None;
    }
    named.into_iter().for_each(|(own, value)| normalizer[own] = value.clone());
    serde_json::to_vec(&whole).ok()
}

fn bad(file: &Utf8Path, what: &str, error: &(dyn std::error::Error + 'static)) -> StageError {
    BadInput::new(file, format!("{what}: {error}")).into()
}

/// The tokens of `added_tokens.json`, which come after those of the vocabulary.
///
/// # Errors
/// Their ids leave a gap or are another token's.
fn add_further(tokenizer: &mut Tokenizer, dir: &Utf8Path) -> Result<(), StageError> {
    let path = dir.join("added_tokens.json");
    let Some(added) = read_object(&path)? else { return Ok(()) };
    let mut by_id: Vec<(u64, String)> = Vec::with_capacity(added.len());
    for (token, id) in added {
        let Some(id) = id.as_u64() else {
            return Err(BadInput::new(&path, "expected an id for each token").column(token).into());
        };
        by_id.push((id, token));
    }
    by_id.sort();
    for (id, token) in by_id {
        if tokenizer.token_to_id(&token).is_none() {
            tokenizer
                .add_tokens([AddedToken::from(token.clone(), false)])
                .map_err(|error| bad(&path, "a token cannot be added", &*error))?;
        }
        let found = tokenizer.token_to_id(&token);
        if found.map(u64::from) != Some(id) {
            let message = format!(
                "gives the token id {id}, but after the vocabulary it would be {}",
                found.map_or_else(|| "none".to_owned(), |found| found.to_string())
            );
            return Err(BadInput::new(&path, message).column(token).into());
        }
    }
    Ok(())
}

/// The special tokens as the files name them.
fn named<'a>(settings: &'a Map<String, Value>, usual: Roles<'a>) -> Roles<'a> {
    usual.named(settings.iter().filter_map(|(key, value)| Some((key.as_str(), special::token_text(value)?))))
}

/// As `transformers` builds `BertTokenizerFast` from `vocab.txt`.
fn bert(vocabulary: &Utf8Path, config: &Map<String, Value>) -> tokenizers::Result<Tokenizer> {
    let roles = named(config, BERT);
    let model = WordPiece::from_file(vocabulary.as_str()).unk_token(roles.unk.to_owned()).build()?;
    let mut tokenizer = Tokenizer::new(model);
    let strip_accents = config.get("strip_accents").and_then(Value::as_bool);
    tokenizer.with_normalizer(Some(BertNormalizer::new(
        true,
        flag(config, "tokenize_chinese_chars", true),
        strip_accents,
        flag(config, "do_lower_case", true),
    )))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    let (cls, sep) = ends(&tokenizer, roles)?;
    tokenizer.with_post_processor(Some(BertProcessing::new(sep, cls)));
    tokenizer.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    add_special(&mut tokenizer, roles, config, false)?;
    Ok(tokenizer)
}

/// As `transformers` builds `RobertaTokenizerFast` from `vocab.json` and `merges.txt`.
fn roberta(
    vocabulary: &Utf8Path,
    merges: &Utf8Path,
    config: &Map<String, Value>,
) -> tokenizers::Result<Tokenizer> {
    let roles = named(config, ROBERTA);
    let model = BPE::from_file(vocabulary.as_str(), merges.as_str()).build()?;
    let mut tokenizer = Tokenizer::new(model);
    if flag(config, "do_lower_case", false) {
        tokenizer.with_normalizer(Some(Lowercase))?;
    }
    let add_prefix_space = flag(config, "add_prefix_space", false);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(add_prefix_space)));
    let (cls, sep) = ends(&tokenizer, roles)?;
    tokenizer.with_post_processor(Some(RobertaProcessing::new(sep, cls).add_prefix_space(add_prefix_space)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    add_special(&mut tokenizer, roles, config, true)?;
    Ok(tokenizer)
}

fn flag(config: &Map<String, Value>, name: &str, default: bool) -> bool {
    config.get(name).and_then(Value::as_bool).unwrap_or(default)
}

type NamedId = (String, u32);

fn ends(tokenizer: &Tokenizer, roles: Roles<'_>) -> tokenizers::Result<(NamedId, NamedId)> {
    let named = |token: &str| -> tokenizers::Result<NamedId> {
        let id = tokenizer.token_to_id(token).ok_or_else(|| format!("the token `{token}` is missing"))?;
        Ok((token.to_owned(), id))
    };
    Ok((named(roles.cls)?, named(roles.sep)?))
}

/// Marks the special tokens that the vocabulary has, so that they are found in text before it is split. RoBERTa's
/// mask takes the blank before it.
fn add_special(
    tokenizer: &mut Tokenizer,
    roles: Roles<'_>,
    config: &Map<String, Value>,
    byte_level: bool,
) -> tokenizers::Result<()> {
    let further = config.get(special::EXTRA).and_then(Value::as_array).into_iter().flatten();
    let known: Vec<AddedToken> = roles
        .entries()
        .into_iter()
        .map(|(_, token)| token)
        .chain(further.filter_map(special::token_text))
        .filter(|token| tokenizer.token_to_id(token).is_some())
        .map(|token| AddedToken::from(token, true).lstrip(byte_level && token == roles.mask))
        .collect();
    tokenizer.add_special_tokens(known)?;
    Ok(())
}

/// A JSON object, `None` if the file is absent.
pub fn read_object(path: &Utf8Path) -> Result<Option<Map<String, Value>>, StageError> {
    if !path.exists() {
        return Ok(None);
    }
    let object: Map<String, Value> = serde_json::from_slice(&fs::read(path)?).map_err(|error| {
        BadInput::new(path, format!("not a JSON object: {error}")).line(error.line() as u64)
    })?;
    Ok(Some(object))
}

/// In a model folder, every id must have a row in the model's embedding table.
fn check_embeddings(dir: &Utf8Path, vocab_size: usize) -> Result<(), StageError> {
    let path = dir.join("config.json");
    let rows = read_object(&path)?.and_then(|config| config.get("vocab_size")?.as_u64());
    match rows {
        Some(rows) if vocab_size as u64 > rows => Err(BadInput::new(
            &path,
            format!("the model has {rows} embeddings, its tokenizer {vocab_size} ids"),
        )
        .column("vocab_size")
        .hint("the tokenizer files belong to another model")
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_the_same_with_and_without_tokenizer_json() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(folder.path()).expect("UTF-8");
        fs::write(dir.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\npain\nPain\n")
            .expect("written");
        let ids = |config: &str| {
            fs::write(dir.join("tokenizer_config.json"), config).expect("written");
            let loaded = Loaded::read(dir).expect("a tokenizer");
            loaded.tokenizer.encode_fast("Pain", false).expect("encoded").get_ids().to_vec()
        };
        assert_eq!((ids("{}"), ids("{\"do_lower_case\": false}")), (vec![5], vec![6]));
        fs::write(dir.join("tokenizer_config.json"), "{}").expect("written");
        let lower = Loaded::read(dir).expect("a tokenizer");
        write_tokenizer(&lower.tokenizer, dir).expect("written");
        assert_eq!((ids("{}"), ids("{\"do_lower_case\": false}")), (vec![5], vec![6]));
        // The general class takes the file as it is.
        let general = "{\"do_lower_case\": false, \"tokenizer_class\": \"PreTrainedTokenizerFast\"}";
        assert_eq!(ids(general), [5]);
    }
}

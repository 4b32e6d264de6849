//! Ids of hard text equal Python's (`scripts/python_ids.py` made the expected ones), however the tokenizer is
//! stored.

use std::collections::BTreeMap;

use camino::Utf8Path;
use plmicd_data::{ShardReader, Split};
use plmicd_tokenize::{Tokenize, TokenizeConfig};
use serde::Deserialize;

use crate::support::{Dir, notes, published, run};

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    tokenizers: Vec<OfTokenizer>,
}

#[derive(Deserialize)]
struct OfTokenizer {
    name: String,
    ids: Vec<Vec<i32>>,
    long_tokens: usize,
    long_checksum: u64,
}

fn expected(name: &str) -> (Vec<String>, OfTokenizer) {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/python_ids.json");
    let all: Expected = serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap();
    (all.texts, all.tokenizers.into_iter().find(|of| of.name == name).unwrap())
}

fn long_note() -> String {
    let parts: Vec<String> = (0..20_000).map(|i| format!("word{} sodium {i}, stable.", i % 997)).collect();
    parts.join(" ")
}

fn checksum(ids: &[i32]) -> u64 {
    let modulus = 1_u128 << 61;
    ids.iter().fold(0, |value, &id| ((u128::from(value) * 1_000_003 + id as u128) % modulus) as u64)
}

fn check(name: &str, folder: &Utf8Path, kind: &str) {
    let (texts, expected) = expected(name);
    let long = long_note();
    let rows: Vec<(Split, &str)> =
        texts.iter().map(String::as_str).chain([long.as_str()]).map(|text| (Split::Train, text)).collect();
    let corpus = notes(&rows);
    let inputs = [("notes", "notes", corpus.path.as_path()), ("tokenizer", kind, folder)];
    let out = run::<Tokenize>(&TokenizeConfig::default(), &inputs, 2).unwrap();
    let encoded: Vec<Vec<i32>> =
        ShardReader::open(&out.path, Split::Train).unwrap().map(|note| note.unwrap().tokens).collect();
    assert_eq!(encoded.len(), texts.len() + 1);
    for (i, (ids, wanted)) in encoded.iter().zip(&expected.ids).enumerate() {
        assert_eq!(ids, wanted, "text {i} of {name}");
    }
    let long = &encoded[texts.len()];
    assert_eq!((long.len(), checksum(long)), (expected.long_tokens, expected.long_checksum));
}

/// A folder with some of a tokenizer's files.
fn part(folder: &Utf8Path, names: &[&str], extra: BTreeMap<&str, &str>) -> Dir {
    let dir = Dir::new();
    for name in names {
        fs_err::copy(folder.join(name), dir.path.join(name)).unwrap();
    }
    for (name, text) in extra {
        fs_err::write(dir.path.join(name), text).unwrap();
    }
    dir
}

#[test]
fn bert_with_truncation_and_padding_in_its_file() {
    let Some(folder) = published("bert-base-uncased") else { return };
    check("bert-base-uncased", &folder, "hf-model");
}

#[test]
fn bert_from_its_vocabulary() {
    let Some(folder) = published("bert-base-uncased") else { return };
    check("bert-base-uncased", &part(&folder, &["vocab.txt"], BTreeMap::new()).path, "tokenizer");
    check(
        "bert-base-uncased",
        &part(&folder, &["vocab.txt", "tokenizer_config.json"], BTreeMap::new()).path,
        "tokenizer",
    );
}

#[test]
fn roberta_in_the_older_format() {
    let Some(folder) = published("roberta-base") else { return };
    check("roberta-base", &folder, "tokenizer");
}

#[test]
fn roberta_from_vocabulary_and_merges() {
    let Some(folder) = published("roberta-base") else { return };
    check("roberta-base", &part(&folder, &["vocab.json", "merges.txt"], BTreeMap::new()).path, "tokenizer");
}

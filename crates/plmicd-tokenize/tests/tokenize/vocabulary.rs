//! The stage `vocabulary`: deterministic, complete, loadable.

use plmicd_data::{ShardReader, SpecialTokens, Split};
use plmicd_tokenize::{Tokenize, TokenizeConfig, Vocabulary, VocabularyConfig, VocabularyModel};
use serde_json::Value;

use crate::support::{Dir, corpus_dir, notes, run};

fn config(model: VocabularyModel, size: usize) -> VocabularyConfig {
    VocabularyConfig { model, size, ..VocabularyConfig::default() }
}

fn learn(config: &VocabularyConfig, notes: &Dir, threads: usize) -> Dir {
    run::<Vocabulary>(config, &[("notes", "notes", &notes.path)], threads).unwrap()
}

fn encode(text: &str, tokenizer: &Dir) -> (Vec<i32>, SpecialTokens) {
    let corpus = notes(&[(Split::Test, text)]);
    let inputs =
        [("notes", "notes", corpus.path.as_path()), ("tokenizer", "tokenizer", tokenizer.path.as_path())];
    let out = run::<Tokenize>(&TokenizeConfig::default(), &inputs, 1).unwrap();
    let note = ShardReader::open(&out.path, Split::Test).unwrap().next().unwrap().unwrap();
    (note.tokens, SpecialTokens::read(&out.path.join("special_tokens.json")).unwrap())
}

#[test]
fn same_bytes_whatever_the_threads() {
    let notes = corpus_dir();
    for model in [VocabularyModel::Wordpiece, VocabularyModel::ByteLevelBpe] {
        let config = config(model, 400);
        let first = learn(&config, &notes, 1).digests();
        assert_eq!(first, learn(&config, &notes, 4).digests());
        assert!(first.contains_key("tokenizer.json") && first.contains_key("special_tokens_map.json"));
    }
}

#[test]
fn wordpiece_learns_words_and_pieces() {
    let tokenizer = learn(&config(VocabularyModel::Wordpiece, 300), &corpus_dir(), 2);
    let vocabulary = fs_err::read_to_string(tokenizer.path.join("vocab.txt")).unwrap();
    let pieces: Vec<&str> = vocabulary.lines().collect();
    assert_eq!(pieces[..5], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]);
    assert!(pieces.contains(&"hypertension") && pieces.contains(&"cafe"), "lower-cased, accents dropped");
    let (ids, special) = encode("Patient HYPERTENSION xq", &tokenizer);
    let named: Vec<&str> = ids.iter().map(|&id| pieces[id as usize]).collect();
    assert_eq!(named, ["patient", "hypertension", "[UNK]"]);
    assert_eq!(
        (special.pad, special.unk, special.cls, special.sep, special.mask),
        (Some(0), Some(1), Some(2), Some(3), Some(4))
    );
    assert_eq!(special.vocab_size, pieces.len());
    // Every character is known, so an unseen word of known characters is not unknown.
    let (ids, special) = encode("nathydet", &tokenizer);
    assert!(ids.len() > 1 && !ids.contains(&special.unk.unwrap()));
}

#[test]
fn byte_level_bpe_expresses_anything() {
    let tokenizer = learn(&config(VocabularyModel::ByteLevelBpe, 420), &corpus_dir(), 2);
    let vocabulary: serde_json::Map<String, Value> =
        serde_json::from_slice(&fs_err::read(tokenizer.path.join("vocab.json")).unwrap()).unwrap();
    assert_eq!(vocabulary["<s>"], 0);
    assert!(vocabulary.contains_key("Ġhypertension"));
    let merges = fs_err::read_to_string(tokenizer.path.join("merges.txt")).unwrap();
    assert!(merges.starts_with("#version: 0.2\n"));
    let (ids, special) = encode("漢字 \u{1}", &tokenizer);
    assert!(!ids.is_empty() && !ids.contains(&special.unk.unwrap()));
    assert_eq!(special.vocab_size, vocabulary.len());
    assert_eq!(
        (special.cls, special.pad, special.sep, special.unk, special.mask),
        (Some(0), Some(1), Some(2), Some(3), Some(4))
    );
}

#[test]
fn case_is_kept_on_request() {
    let cased = |model, size| {
        let config = VocabularyConfig { lowercase: false, ..config(model, size) };
        let tokenizer = learn(&config, &corpus_dir(), 1);
        assert_ne!(encode("Café", &tokenizer).0, encode("café", &tokenizer).0);
        let lower = VocabularyConfig { lowercase: true, ..config };
        let tokenizer = learn(&lower, &corpus_dir(), 1);
        assert_eq!(encode("Café", &tokenizer).0, encode("café", &tokenizer).0);
    };
    cased(VocabularyModel::Wordpiece, 300);
    cased(VocabularyModel::ByteLevelBpe, 420);
}

#[test]
fn held_out_notes_are_not_seen() {
    let seen = |split| {
        let notes = notes(&[(Split::Train, "alpha alpha beta beta"), (split, "zzz zzz zzz")]);
        let tokenizer = learn(&config(VocabularyModel::Wordpiece, 64), &notes, 1);
        fs_err::read_to_string(tokenizer.path.join("vocab.txt"))
            .unwrap()
            .lines()
            .any(|piece| piece.contains('z'))
    };
    assert!(seen(Split::Train) && !seen(Split::Test));
}

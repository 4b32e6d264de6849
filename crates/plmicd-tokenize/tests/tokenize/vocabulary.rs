//! The stage `vocabulary`: deterministic, complete, loadable.

use camino::Utf8Path;
use plmicd_data::{ExtendedVocabulary, ShardReader, SpecialTokens, Split};
use plmicd_tokenize::{
    SpecialNames, Tokenize, TokenizeConfig, Vocabulary, VocabularyConfig, VocabularyModel,
};
use serde_json::Value;

use crate::support::{Dir, corpus_dir, notes, published, run};

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
    for model in [VocabularyModel::Wordpiece, VocabularyModel::ByteLevelBpe, VocabularyModel::Word] {
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
fn whole_words_are_those_of_enough_notes() {
    let texts = [
        "Alpha alpha beta",
        "ALPHA gamma\u{a0}beta",
        "alpha Gamma",
        "delta delta delta delta",
        "beta alpha [UNK]",
    ];
    let rows: Vec<(Split, &str)> = texts.iter().map(|text| (Split::Train, *text)).collect();
    let config = VocabularyConfig { min_documents: 2, ..config(VocabularyModel::Word, 100) };
    let tokenizer = learn(&config, &notes(&rows), 2);
    let file: Value =
        serde_json::from_slice(&fs_err::read(tokenizer.path.join("tokenizer.json")).unwrap()).unwrap();
    assert_eq!(file["model"]["type"], "WordLevel");
    // By the number of notes, not of occurrences; equal ones in order of the words.
    let expected = serde_json::json!({"[PAD]": 0, "[UNK]": 1, "alpha": 2, "beta": 3, "gamma": 4});
    assert_eq!(file["model"]["vocab"], expected);
    let (ids, special) = encode(" Beta\talpha zeta\nGAMMA ", &tokenizer);
    assert_eq!(ids, [3, 2, 1, 4]);
    assert_eq!((special.pad, special.unk, special.cls, special.sep), (Some(0), Some(1), None, None));
    assert_eq!(special.vocab_size, 5);
    // A limit keeps the words of the most notes.
    let small = learn(&VocabularyConfig { size: 3, ..config }, &notes(&rows), 1);
    assert_eq!(encode("alpha beta", &small).0, [2, 1]);
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

#[test]
fn special_tokens_have_the_names_that_the_user_gives() {
    let special_tokens = SpecialNames { cls: Some("[START]".to_owned()), ..SpecialNames::default() };
    let extra_tokens = vec!["[DEID]".to_owned()];
    for (model, size) in [(VocabularyModel::Wordpiece, 300), (VocabularyModel::ByteLevelBpe, 420)] {
        let config = VocabularyConfig {
            special_tokens: special_tokens.clone(),
            extra_tokens: extra_tokens.clone(),
            ..config(model, size)
        };
        let tokenizer = learn(&config, &corpus_dir(), 1);
        let (ids, special) = encode("[DEID] [START]", &tokenizer);
        assert!(ids.contains(&5) && ids.contains(&special.cls.unwrap()), "{model:?}: {ids:?}");
        // The same from the older files alone.
        fs_err::remove_file(tokenizer.path.join("tokenizer.json")).unwrap();
        assert_eq!(encode("[DEID] [START]", &tokenizer), (ids, special));
    }
}

#[test]
fn a_sample_follows_from_its_seed() {
    let vocabulary = |sample, seed| {
        let config = VocabularyConfig { sample, seed, ..config(VocabularyModel::Wordpiece, 200) };
        learn(&config, &corpus_dir(), 1).digests()["tokenizer.json"].clone()
    };
    assert_eq!(vocabulary(0.1, 1), vocabulary(0.1, 1));
    assert_ne!(vocabulary(0.1, 1), vocabulary(0.1, 2));
    assert_eq!(vocabulary(1.0, 1), vocabulary(1.0, 2));
}

/// Notes about what general vocabularies break up.
fn domain_notes() -> Dir {
    let text = "pneumothorax and cholecystectomy, pneumothorax; levothyroxine cholecystectomy Pneumothorax";
    notes(&[(Split::Train, text), (Split::Train, text), (Split::Test, "held out electroencephalography")])
}

#[test]
fn a_vocabulary_goes_on_where_another_stops() {
    for (name, size, model) in
        [("bert-base-uncased", 30_522, "vocab.txt"), ("roberta-base", 50_265, "merges.txt")]
    {
        let Some(base) = published(name) else { return };
        let more = 40;
        let config = VocabularyConfig { size: size + more, ..VocabularyConfig::default() };
        let inputs = [("notes", "notes", domain_notes()), ("base", "tokenizer", Dir::at(&base))];
        let inputs: Vec<(&str, &str, &Utf8Path)> =
            inputs.iter().map(|(slot, kind, dir)| (*slot, *kind, dir.path.as_path())).collect();
        let extended = run::<Vocabulary>(&config, &inputs, 2).unwrap();
        assert!(extended.path.join(model).exists());
        let names = fs_err::read_to_string(extended.path.join("special_tokens_map.json")).unwrap();
        assert!(names.contains("\"mask_token\""), "{name}: {names}");
        let known = ExtendedVocabulary::read(&extended.path).unwrap().unwrap();
        assert!(known.base_size == size && known.pieces.len() <= more && known.pieces.len() > 10);

        // Words of the notes become one token; other texts keep their ids; held-out notes are not looked at.
        let old = Dir::at(&base);
        for word in [" pneumothorax", " cholecystectomy"] {
            assert!(encode(word, &old).0.len() > 1, "{name} breaks {word}");
            let (ids, special) = encode(word, &extended);
            assert_eq!(ids.len(), 1, "{name} {word}");
            assert_eq!(special.vocab_size, known.size());
            // The new piece stands for what the old tokenizer made of the word.
            assert_eq!(known.pieces[ids[0] as usize - size], encode(word, &old).0, "{name} {word}");
        }
        for text in ["The patient was discharged home.", "electroencephalography"] {
            assert_eq!(encode(text, &old).0, encode(text, &extended).0, "{name}: {text}");
        }
        let small = VocabularyConfig { size: 1000, ..VocabularyConfig::default() };
        let error = run::<Vocabulary>(&small, &inputs, 1).err().unwrap().to_string();
        assert!(error.contains(&format!("has {size} entries already")), "{error}");
    }
}

#[test]
fn a_further_token_of_the_older_layout_keeps_its_id() {
    let Some(base) = published("bert-base-uncased") else { return };
    let folder = Dir::new();
    fs_err::copy(base.join("vocab.txt"), folder.path.join("vocab.txt")).unwrap();
    let write = |text: &str| fs_err::write(folder.path.join("added_tokens.json"), text).unwrap();
    write(r#"{"mrsa": 30523, "icd9": 30522}"#);
    let (ids, special) = encode("the mrsa", &folder);
    assert_eq!((ids.last(), special.vocab_size), (Some(&30523), 30524));
    write(r#"{"mrsa": 40000}"#);
    let corpus = notes(&[(Split::Test, "x")]);
    let inputs =
        [("notes", "notes", corpus.path.as_path()), ("tokenizer", "tokenizer", folder.path.as_path())];
    let error = run::<Tokenize>(&TokenizeConfig::default(), &inputs, 1).err().unwrap().to_string();
    assert!(error.contains("added_tokens.json") && error.contains("40000"), "{error}");
}

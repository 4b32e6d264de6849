//! Bad input names the file and both sides of a contradiction.

use camino::Utf8Path;
use plmicd_data::Split;
use plmicd_tokenize::{Tokenize, TokenizeConfig, Vocabulary, VocabularyConfig, VocabularyModel};

use crate::encode::small_bert;
use crate::support::{Dir, notes, run};

fn tokenize(tokenizer: &Utf8Path) -> String {
    let corpus = notes(&[(Split::Train, "secret words")]);
    let inputs = [("notes", "notes", corpus.path.as_path()), ("tokenizer", "tokenizer", tokenizer)];
    let error = run::<Tokenize>(&TokenizeConfig::default(), &inputs, 1).map(|_| ()).unwrap_err();
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        message += &format!(": {source}");
    }
    assert!(!message.contains("secret"), "{message}");
    message
}

fn with(tokenizer: &Dir, file: &str, text: &str) -> String {
    fs_err::write(tokenizer.path.join(file), text).unwrap();
    tokenize(&tokenizer.path)
}

#[test]
fn tokenizer_folders() {
    let empty = Dir::new();
    assert!(
        tokenize(&empty.path)
            .contains("expected tokenizer.json, or vocab.txt, or vocab.json with merges.txt")
    );
    let message = with(&empty, "tokenizer.json", "{\"version\": \"1.0\", \"model\": {\"type\": \"Magic\"}}");
    assert!(message.contains("tokenizer.json: not a tokenizer we can read"), "{message}");
    let no_ends = Dir::new();
    let message = with(&no_ends, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\nword\n");
    assert!(
        message.contains("vocab.txt: not a WordPiece vocabulary: the token `[SEP]` is missing"),
        "{message}"
    );
}

#[test]
fn special_tokens_and_embeddings_must_fit() {
    let message =
        with(&small_bert(), "special_tokens_map.json", "{\"mask_token\": {\"content\": \"<hidden>\"}}");
    assert!(
        message.contains(
            "special_tokens_map.json, column mask_token: names `<hidden>`, which the vocabulary does not have"
        ),
        "{message}"
    );
    let message = with(&small_bert(), "tokenizer_config.json", "{\"mask_token\": \n nope}");
    assert!(message.contains("tokenizer_config.json:2: not a JSON object"), "{message}");
    let message = with(&small_bert(), "config.json", "{\"vocab_size\": 9}");
    assert!(message.contains("the model has 9 embeddings, its tokenizer 10 ids"), "{message}");
}

#[test]
fn codes_outside_the_label_space() {
    let corpus = notes(&[(Split::Train, "x"), (Split::Train, "y")]);
    let labels = fs_err::read_to_string(corpus.path.join("labels.json")).unwrap();
    fs_err::write(corpus.path.join("labels.json"), labels.replace("\"B\"", "\"C\"")).unwrap();
    let tokenizer = small_bert();
    let inputs =
        [("notes", "notes", corpus.path.as_path()), ("tokenizer", "tokenizer", tokenizer.path.as_path())];
    let error = run::<Tokenize>(&TokenizeConfig::default(), &inputs, 1).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("notes.parquet, column codes: note n1 has code B, which is not in labels.json"),
        "{error}"
    );
}

#[test]
fn vocabularies_need_words_and_room() {
    let learn = |rows: &[(Split, &str)], model, size| {
        let corpus = notes(rows);
        let config = VocabularyConfig { model, size, ..VocabularyConfig::default() };
        run::<Vocabulary>(&config, &[("notes", "notes", &corpus.path)], 1)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let message = learn(&[(Split::Dev, "words")], VocabularyModel::Wordpiece, 100);
    assert!(message.contains("the train split has 0 notes and no words to learn from"), "{message}");
    let message =
        learn(&[(Split::Train, "the quick brown fox jumps over a lazy dog")], VocabularyModel::Wordpiece, 40);
    assert!(
        message.contains("size = 40 is too small: special tokens and single characters take 57 entries"),
        "{message}"
    );
}

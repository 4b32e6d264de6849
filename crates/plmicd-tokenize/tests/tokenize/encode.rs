//! The stage `tokenize`: whole notes, in order, with labels and counts.

use plmicd_data::{LabelSpace, ShardReader, Split, TokenStats};
use plmicd_tokenize::{Tokenize, TokenizeConfig};

use crate::support::{Dir, notes, run};

/// A BERT vocabulary of a few words.
pub fn small_bert() -> Dir {
    let dir = Dir::new();
    let pieces = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nchest\npain\n##s\nno\n.\n";
    fs_err::write(dir.path.join("vocab.txt"), pieces).unwrap();
    dir
}

#[test]
fn notes_keep_their_order_labels_and_counts() {
    let texts: Vec<String> = (0..500).map(|i| format!("chest pains{} tumor", " no".repeat(i % 7))).collect();
    let rows: Vec<(Split, &str)> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| (if i % 5 == 0 { Split::Dev } else { Split::Train }, text.as_str()))
        .collect();
    let (corpus, tokenizer) = (notes(&rows), small_bert());
    let inputs =
        [("notes", "notes", corpus.path.as_path()), ("tokenizer", "tokenizer", tokenizer.path.as_path())];
    let config = TokenizeConfig { notes_per_shard: 64 };
    let out = run::<Tokenize>(&config, &inputs, 3).unwrap();
    assert_eq!(out.digests(), run::<Tokenize>(&config, &inputs, 1).unwrap().digests());
    assert!(out.path.join("train-00006.parquet").exists());

    let mut seen = Vec::new();
    for note in ShardReader::open(&out.path, Split::Train).unwrap() {
        let note = note.unwrap();
        let i: usize = note.note_id[1..].parse().unwrap();
        let mut expected = vec![5, 6, 7];
        expected.extend(vec![8; i % 7]);
        expected.push(1);
        assert_eq!(note.tokens, expected, "no special tokens around");
        assert_eq!(note.words as usize, 3 + i % 7);
        assert_eq!(note.labels, if i.is_multiple_of(2) { vec![0] } else { vec![0, 1] });
        seen.push(i);
    }
    let expected: Vec<usize> = (0..500).filter(|i| i % 5 != 0).collect();
    assert_eq!(seen, expected);

    let stats = TokenStats::read(&out.path.join("stats.json")).unwrap();
    assert_eq!(stats.vocab_size, 10);
    let dev = stats.splits[&Split::Dev].clone();
    assert_eq!((dev.notes, dev.unknown_tokens), (100, 100));
    assert_eq!(dev.unknown_rate, 100.0 / dev.tokens.total as f64);
    assert_eq!(dev.tokens.total, dev.words.total + 100, "one more piece than words");
    assert!((dev.fragmentation - dev.tokens.total as f64 / dev.words.total as f64).abs() < 1e-12);
    assert_eq!(dev.share_beyond.into_iter().collect::<Vec<_>>(), [(512, 0.0), (3072, 0.0), (6144, 0.0)]);
    assert_eq!(LabelSpace::read(&out.path.join("labels.json")).unwrap().len(), 2);
    assert!(!stats.splits.contains_key(&Split::Test));
}

#[test]
fn the_tokenizer_travels_with_the_shards_and_encodes_the_same() {
    let (corpus, tokenizer) = (notes(&[(Split::Test, "no chest pains.")]), small_bert());
    let inputs =
        [("notes", "notes", corpus.path.as_path()), ("tokenizer", "tokenizer", tokenizer.path.as_path())];
    let first = run::<Tokenize>(&TokenizeConfig::default(), &inputs, 1).unwrap();
    assert!(first.path.join("tokenizer.json").exists() && first.path.join("vocab.txt").exists());
    let inputs =
        [("notes", "notes", corpus.path.as_path()), ("tokenizer", "tokenizer", first.path.as_path())];
    let second = run::<Tokenize>(&TokenizeConfig::default(), &inputs, 1).unwrap();
    assert_eq!(first.digests(), second.digests());
}

//! Texts to token ids, remembering pieces met before.

use std::collections::HashMap;

use rayon::ThreadPool;
use rayon::prelude::*;
use tokenizers::Tokenizer;

use crate::chunks::Cutting;

/// Pieces remembered at most; at about 100 bytes each this is 50 MB.
const MAX_REMEMBERED: usize = 500_000;

/// Longer pieces are not worth remembering.
const MAX_PIECE_BYTES: usize = 48;

/// Texts that a worker takes at a time.
const TEXTS_AT_A_TIME: usize = 8;

/// Why a text could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer failed")]
pub struct EncodeError {
    /// Index of the text.
    pub index: usize,
    /// The library's error.
    #[source]
    pub source: tokenizers::Error,
}

/// Encodes batches of texts. What it remembers changes the speed, never the ids.
pub struct Encoder {
    tokenizer: Tokenizer,
    cutting: Option<Cutting>,
    remembered: HashMap<Box<str>, Box<[i32]>>,
}

/// Pieces met for the first time by one worker.
type Fresh<'a> = HashMap<&'a str, Box<[i32]>>;

impl Encoder {
    /// Encodes with this tokenizer, whose truncation and padding must be off.
    pub fn new(tokenizer: Tokenizer) -> Self {
        let cutting = Cutting::of(&tokenizer);
        Self { tokenizer, cutting, remembered: HashMap::new() }
    }

    /// Token ids of each text, without special tokens.
    pub fn encode(&mut self, texts: &[&str], workers: &ThreadPool) -> Result<Vec<Vec<i32>>, EncodeError> {
        let this = &*self;
        let done: Vec<(Vec<Vec<i32>>, Fresh<'_>)> = workers.install(|| {
            texts
                .par_chunks(TEXTS_AT_A_TIME)
                .enumerate()
                .map(|(chunk, texts)| {
                    let mut fresh = Fresh::new();
                    let ids = texts.iter().enumerate().map(|(i, text)| {
                        let index = chunk * TEXTS_AT_A_TIME + i;
                        this.encode_one(text, &mut fresh).map_err(|source| EncodeError { index, source })
                    });
                    Ok((ids.collect::<Result<_, _>>()?, fresh))
                })
                .collect::<Result<_, _>>()
        })?;
        let mut all = Vec::with_capacity(texts.len());
        for (ids, fresh) in done {
            all.extend(ids);
            for (piece, ids) in fresh {
                if self.remembered.len() < MAX_REMEMBERED {
                    self.remembered.entry(piece.into()).or_insert(ids);
                }
            }
        }
        Ok(all)
    }

    fn encode_one<'a>(&self, text: &'a str, fresh: &mut Fresh<'a>) -> tokenizers::Result<Vec<i32>> {
        let Some(cutting) = self.cutting else { return self.whole(text) };
        let mut ids = Vec::with_capacity(text.len() / 4);
        for piece in cutting.pieces(text) {
            if let Some(known) = self.remembered.get(piece).or_else(|| fresh.get(piece)) {
                ids.extend_from_slice(known);
                continue;
            }
            let new = self.whole(piece)?;
            ids.extend_from_slice(&new);
            if piece.len() <= MAX_PIECE_BYTES {
                fresh.insert(piece, new.into());
            }
        }
        Ok(ids)
    }

    fn whole(&self, text: &str) -> tokenizers::Result<Vec<i32>> {
        let encoding = self.tokenizer.encode_fast(text, false)?;
        Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use proptest::prelude::*;

    use super::*;
    use crate::config::VocabularyConfig;
    use crate::load::Loaded;
    use crate::special::BERT;
    use crate::words;

    /// Tokenizers of both kinds, with and without lower-casing.
    fn tokenizers() -> Vec<Tokenizer> {
        let bert = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##a\n##b\ne\n##e\n.\n'\n漢\ns\n##s\n";
        let merges = "#version: 0.2\nĠ a\na b\nĠa b\nà ©\n";
        let mut pieces: Vec<String> = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].map(str::to_owned).to_vec();
        let mut alphabet: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        pieces.extend(alphabet.iter().map(|c| c.to_string()));
        pieces.extend(["Ġa", "ab", "Ġab", "Ã©"].map(str::to_owned));
        let ids: std::collections::BTreeMap<&String, usize> = pieces.iter().zip(0..).collect();
        let vocabulary = serde_json::to_string(&ids).unwrap();
        let merges = merges.replace("à ©", "Ã ©");
        let mut made = Vec::new();
        for config in
            ["{}", "{\"do_lower_case\": true}", "{\"do_lower_case\": false, \"add_prefix_space\": true}"]
        {
            for files in [
                vec![("vocab.txt", bert)],
                vec![("vocab.json", vocabulary.as_str()), ("merges.txt", merges.as_str())],
            ] {
                let dir = tempfile::tempdir().unwrap();
                let root = Utf8Path::from_path(dir.path()).unwrap();
                fs_err::write(root.join("tokenizer_config.json"), config).unwrap();
                for (name, text) in files {
                    fs_err::write(root.join(name), text).unwrap();
                }
                made.push(Loaded::read(root).unwrap().tokenizer);
            }
        }
        for lowercase in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let root = Utf8Path::from_path(dir.path()).unwrap();
            let config = VocabularyConfig { lowercase, ..VocabularyConfig::default() };
            let pieces = ["[PAD]", "[UNK]", "a", "b", "ab", "é", "σ", "'s", "漢"].map(str::to_owned);
            words::write(&config, BERT, &pieces, root).unwrap();
            made.push(Loaded::read(root).unwrap().tokenizer);
        }
        made
    }

    fn text() -> impl Strategy<Value = String> {
        let parts = [
            " ", "  ", "\n", "\t", "\r\n", "\u{b}", "\u{85}", "\u{a0}", "\u{2028}", "\u{200b}", "\0", "a",
            "b", "ab", "A", "é", "e\u{301}", "\u{301}", "İ", "Σ", "漢", "1", "½", "'s", "'", ".", "-",
            "[MASK]", "<mask>", "<s>", "[cls]", "😀",
        ];
        proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..24)
            .prop_map(|parts| parts.concat())
    }

    #[test]
    fn pieces_give_the_ids_of_the_whole() {
        let workers = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let encoders: Vec<Encoder> = tokenizers().into_iter().map(Encoder::new).collect();
        assert!(encoders.iter().all(|encoder| encoder.cutting.is_some()));
        let encoders = std::cell::RefCell::new(encoders);
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        runner
            .run(&proptest::collection::vec(text(), 1..20), |texts| {
                for encoder in encoders.borrow_mut().iter_mut() {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    let whole: Vec<Vec<i32>> =
                        texts.iter().map(|text| encoder.whole(text).unwrap()).collect();
                    // Twice: fresh, then from memory.
                    prop_assert_eq!(&encoder.encode(&texts, &workers).unwrap(), &whole);
                    prop_assert_eq!(&encoder.encode(&texts, &workers).unwrap(), &whole);
                }
                Ok(())
            })
            .unwrap();
        assert!(encoders.into_inner().iter().all(|encoder| !encoder.remembered.is_empty()));
    }
}

//! Stages `vocabulary` (training notes to a tokenizer) and `tokenize` (notes and a tokenizer to token shards).
//!
//! | module | subject |
//! |---|---|
//! | `config` | what can be set |
//! | `batches` | notes in batches, bounded memory |
//! | `word_counts`, `merges`, `vocabulary` | learning a vocabulary |
//! | `words` | a vocabulary of whole words |
//! | `extend` | going on learning where another vocabulary stops |
//! | `load`, `special` | any Hugging Face tokenizer folder, the ids of its special tokens |
//! | `encoder`, `chunks` | texts to ids, remembering words met before |
//! | `tokenize`, `stats` | whole notes to ids, fragmentation and lengths |
//!
//! Encoding is done by the `tokenizers` library, the one behind Python's `transformers`, so ids are the same.

mod batches;
mod chunks;
mod config;
mod encoder;
mod extend;
mod load;
mod merges;
mod special;
mod stats;
mod tokenize;
mod vocabulary;
mod word_counts;
mod words;

pub use config::{SpecialNames, TokenizeConfig, VocabularyConfig, VocabularyModel};
pub use encoder::{EncodeError, Encoder};
pub use load::{Loaded, copy_published};
pub use tokenize::Tokenize;
pub use vocabulary::Vocabulary;

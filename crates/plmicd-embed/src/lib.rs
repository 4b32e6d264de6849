//! Stage `embed`: word embeddings by skip-gram or CBOW with negative sampling (Mikolov et al. 2013), from token shards.
//!
//! | module | subject |
//! |---|---|
//! | `config` | what can be set |
//! | `words` | the words of the training notes, their frequencies, the draws that follow from them |
//! | `strand` | a stretch of text learnt on a private copy of the rows it touches |
//! | `train` | strands side by side, round by round, and how their results become one |
//! | `stage`, `file` | the stage, and what it reads and writes |
//!
//! The same seed gives the same bytes, whatever the number of threads: what a strand computes depends on the vectors
//! at the start of its round alone, and the results are added up in a fixed order.

mod config;
mod file;
mod random;
mod stage;
mod strand;
mod train;
mod words;

pub use config::{EmbedConfig, EmbedModel};
pub use stage::Embed;

//! Stage `preprocess`: raw tables to notes and a label space. Stage `corpus`: texts without codes, to notes alone.
//!
//! | module | subject |
//! |---|---|
//! | `config` | what can be set |
//! | `mimic3`, `mimic4`, `mimic2`, `codiesp`, `caml_csv`, `own` | reading of each source |
//! | `mimic3::caml`, `mimic3::columns`, `mimic3::caml_files` | `compat = "caml"`: the published scripts' reading of codes, and their files |
//! | `table`, `feed`, `quotes`, `header` | delimited tables with located errors |
//! | `files`, `gzip` | opening and unpacking |
//! | `encoding` | Windows-1252 bytes in UTF-8 |
//! | `text` | the published cleaning rules, Python's character classes |
//! | `codes`, `descriptions` | dotted codes, their meaning in words |
//! | `label_list`, `published` | a label space given as a list; published counts beside ours |
//! | `level`, `cohort` | codes, categories or chapters; which of them remain |
//! | `splits`, `stratify` | who goes where |
//! | `text_corpus` | the stage `corpus` |
//! | `place` | where in the user's table something stands |
//! | `spill`, `write` | texts on disk between the passes, the artifact |
//!
//! Why the `csv` crate with rayon and not a data frame library: the work is one pass over one large table with
//! quoted line ends, in which every complaint must name its line and most of the bytes are thrown away at once.
//! A streaming parser does that in bounded memory with exact line numbers, and keeps the binary small.
//!
//! Published rules come from Mullenbach et al. 2018 (CAML) and Edin et al. 2023; codes are read as text and
//! without repetition, as the corrected studies do.

mod caml_csv;
mod codes;
mod codiesp;
mod cohort;
mod config;
mod corpus;
mod descriptions;
mod encoding;
mod feed;
mod files;
mod gzip;
mod header;
mod label_list;
mod level;
mod mimic2;
mod mimic3;
mod mimic4;
mod own;
mod place;
mod published;
mod quotes;
pub mod source_files;
mod spill;
mod splits;
mod stage;
mod stratify;
mod table;
mod text;
mod text_corpus;
mod write;

pub use codes::format_code;
pub use config::{CodeKinds, CodeLevel, Cohort, Compat, IcdVersion, Language, PreprocessConfig, Splits};
pub use label_list::label_space;
pub use mimic3::caml::caml_code;
pub use mimic3::columns::float as caml_float;
pub use own::{FoundText, TableColumns, read_texts, text_file_id};
pub use stage::Preprocess;
pub use text::{Deidentified, TextCleaning, TextRules, count_words};
pub use text_corpus::{CorpusConfig, TextCorpus};

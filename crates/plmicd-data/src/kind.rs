//! Names of the artifact kinds, as they appear in the store and in pipeline files.

/// Raw tables in MIMIC-III's shapes.
pub const MIMIC3: &str = "mimic3";
/// The discharge summaries of MIMIC-II with their codes.
pub const MIMIC2: &str = "mimic2";
/// Tables in the form of those that CAML's scripts write.
pub const CAML_CSV: &str = "caml-csv";
/// A label space as a list of codes.
pub const LABEL_LIST: &str = "label-list";
/// Raw tables of MIMIC-IV: its modules `hosp` and `note`.
pub const MIMIC4: &str = "mimic4";
/// The user's own notes and codes, one note a row.
pub const TABLE: &str = "table";
/// A folder of text files without codes.
pub const TEXT: &str = "text";
/// A CodiEsp distribution as published.
pub const CODIESP: &str = "codiesp";
/// Cleaned notes with codes and the label space.
pub const NOTES: &str = "notes";
/// A tokenizer in Hugging Face layout.
pub const TOKENIZER: &str = "tokenizer";
/// Token ids and label ids of every note.
pub const TOKEN_SHARDS: &str = "token-shards";
/// A folder in Hugging Face layout: encoder weights and tokenizer.
pub const HF_MODEL: &str = "hf-model";
/// An encoder pretrained here, in Hugging Face layout.
pub const ENCODER: &str = "encoder";
/// A vector for every word of a vocabulary.
pub const EMBEDDINGS: &str = "embeddings";
/// A fine-tuned coding model.
pub const MODEL: &str = "model";
/// A model's scores on the dev and test notes.
pub const SCORES: &str = "scores";
/// Tables of codes or scores that another program predicted.
pub const PREDICTIONS: &str = "predictions";
/// Decision thresholds.
pub const THRESHOLDS: &str = "thresholds";
/// Metrics.
pub const EVALUATION: &str = "evaluation";
/// A report for people.
pub const REPORT: &str = "report";
/// Codes and their descriptions.
pub const CODE_TABLE: &str = "code-table";

//! What flows between the stages: ICD codes, the label space, and typed readers and writers for every
//! artifact file.
//!
//! | module | files |
//! |---|---|
//! | [`label`] | `labels.json` |
//! | [`notes`] | `notes.parquet` of a `notes` artifact |
//! | [`shards`] | `{split}-NNNNN.parquet` of `token-shards` |
//! | [`tokens`] | `special_tokens.json` and `label_tokens.json` of `token-shards` |
//! | [`scores`] | `{split}.parquet` of `scores` |
//! | [`training`] | `training.json` of a `model` |
//! | [`thresholds`] | `thresholds.json` |
//! | [`evaluation`], [`outcomes`] | `metrics.json`, `per_code.csv`, `{split}_notes.parquet` of an `evaluation` |
//! | [`stats`] | `stats.json` of `notes` and `token-shards` |
//!
//! Writers are deterministic: the same rows give the same bytes. Readers check schema version, columns,
//! types and values, and name file, row and column in their errors; they never put note text there.

mod chapter;
pub mod code;
pub mod embeddings;
pub mod error;
pub mod evaluation;
mod header;
pub mod json;
pub mod kind;
pub mod label;
pub mod notes;
pub mod outcomes;
pub mod predictions;
pub mod scores;
pub mod shards;
pub mod split;
pub mod stats;
mod table;
pub mod text_form;
pub mod thresholds;
pub mod tokens;
mod train_counts;
pub mod training;
mod vocabulary;
mod words;

pub use code::{CodeSystem, IcdCode};
pub use embeddings::{EmbedStats, WordVectors};
pub use error::DataError;
pub use evaluation::{
    Calibration, ChapterPart, CodeResult, Evaluation, FrequencyBin, FrequentCodes, PrecisionRecallPoint,
    ReliabilityBin, SplitEvaluation, read_per_code, write_per_code,
};
pub use header::columns_found;
pub use json::{read_json, write_json};
pub use label::{Label, LabelSpace};
pub use notes::{Note, NoteReader, NoteWriter};
pub use outcomes::NoteOutcomes;
pub use predictions::PredictionWriter;
pub use scores::{ScoreWriter, Scores};
pub use shards::{ShardReader, ShardWriter, TokenizedNote};
pub use split::Split;
pub use stats::{CorpusStats, Exclusion, PublishedCount, SplitStats, Summary, TokenSplitStats, TokenStats};
pub use text_form::TextForm;
pub use thresholds::{CurvePoint, DecisionRule, GridChoice, Interval, Stability, Thresholds};
pub use tokens::{ExtendedVocabulary, LabelTokens, SpecialTokens, copy_tokenizer};
pub use train_counts::train_label_counts;
pub use training::{DevRecord, EpochRecord, StepRecord, TrainingHistory};
pub use vocabulary::check_same_tokens;
pub use words::counted;

//! Stage `finetune`: PLM-ICD (Huang, Tsai and Chen 2022), or a word-level model it is measured against, trained on token
//! shards.
//!
//! The stage from top to bottom is in `stage.rs`; the loop itself is `plmicd-train`'s, the model `plmicd-nn`'s.

mod card;
mod config;
mod dev;
mod memory;
mod notes;
mod observer;
mod output;
mod pairs;
mod peers;
mod presets;
mod published;
mod source;
mod stage;
mod start;
mod task;
mod word_config;
mod word_start;

pub use config::{BestMetric, BiasInit, DescriptionScales, EncoderShape, FinetuneConfig, LabelInit};
/// Settings of an imported model.
pub use plmicd_nn::{MaskConstant, Padding};
pub use presets::PRESETS;
pub use published::{CODE_FILE, ImportSettings, Imported, export_published, import_published};
pub use stage::Finetune;
pub use word_config::{Architecture, Hierarchy, WordModelSettings};

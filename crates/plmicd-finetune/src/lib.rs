//! Stage `finetune`: PLM-ICD (Huang, Tsai and Chen 2022) trained on token shards.
//!
//! The stage from top to bottom is in `stage.rs`; the loop itself is `plmicd-train`'s, the model `plmicd-nn`'s.

mod card;
mod config;
mod dev;
mod notes;
mod observer;
mod output;
mod pairs;
mod presets;
mod source;
mod stage;
mod start;
mod task;

pub use config::{BestMetric, DescriptionScales, EncoderShape, FinetuneConfig, LabelInit};
pub use presets::PRESETS;
pub use stage::Finetune;

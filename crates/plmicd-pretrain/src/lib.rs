//! Stage `pretrain`: masked language modelling (Devlin et al. 2019, Liu et al. 2019) on the notes of token shards,
//! from nothing or from a published checkpoint.
//!
//! The stage from top to bottom is in `stage.rs`; the loop itself is `plmicd-train`'s, the model `plmicd-nn`'s.

mod card;
mod config;
mod dev;
mod masking;
mod observer;
mod output;
mod packing;
mod peers;
mod sequences;
mod stage;
mod start;
mod task;
mod words;

pub use config::{BestMetric, EncoderShape, Family, Framing, PretrainConfig};
pub use stage::Pretrain;

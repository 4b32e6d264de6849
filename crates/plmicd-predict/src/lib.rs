//! Stage `predict`: a trained model and token shards to scores of every code for every note.
//!
//! [`Scorer`] is the model as a library: load a folder, score token ids.

mod config;
mod scorer;
mod so_far;
mod stage;

pub use config::PredictConfig;
pub use plmicd_nn::{INFERENCE_TOKENS, Precision};
pub use scorer::{ScoreError, Scorer};
pub use stage::Predict;

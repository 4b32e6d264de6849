//! What a model is made of: the encoder as Hugging Face's `config.json` describes it, and PLM-ICD's own settings.

mod encoder;
mod model;
mod variants;

pub use encoder::{EncoderConfig, HiddenAct, ModelType};
pub use model::{MaskConstant, ModelConfig, Padding, Projection};
pub use variants::{Attention, Pooling};

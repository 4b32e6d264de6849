//! PLM-ICD's model: BERT and RoBERTa encoders over segments of a note, label attention over the states of the
//! whole note, Hugging Face weights in and out.
//!
//! Tensor suffixes: `B` notes in a batch, `N` segments in a batch, `C` tokens in a segment, `T` tokens in a
//! note, `D` hidden size, `Y` labels, `H` heads.

mod config;
mod descriptions;
mod encoder;
mod error;
mod head;
mod icd_model;
mod label_attention;
mod layers;
mod layout;
mod longformer;
mod loss;
mod masked_lm;
mod model;
mod model_folder;
mod note_encoder;
mod parameters;
mod precision;
mod published;
mod scoring;
mod segment;
mod self_attention;
mod train_pass;
mod weights;
mod word_model;

pub use config::{
    Attention, EncoderConfig, HiddenAct, MaskConstant, ModelConfig, ModelType, Padding, Pooling, Projection,
};
pub use descriptions::{DescriptionInit, DescriptionReport};
pub use encoder::Encoder;
pub use error::NnError;
pub use head::{BertXmlAttention, CrossAttention, CrossWeights};
pub use icd_model::{Batching, IcdBatch, IcdModel};
pub use label_attention::{LabelAttention, OnePass, TwoPasses};
pub use layout::NoteLayout;
pub use longformer::Longformer;
pub use loss::{Asymmetric, Focal, LabelTargets, Loss, PositiveWeight, Reduction};
pub use masked_lm::{HeadStart, MaskedBatch, MaskedLm, MaskedScore};
pub use model::PlmIcd;
pub use note_encoder::NoteEncoder;
pub use parameters::NamedParameter;
pub use precision::Precision;
pub use published::PublishedFolder;
pub use scoring::{INFERENCE_TOKENS, inference_batches};
pub use segment::{SegmentBatch, Span, SpecialTokens, segment, with_special_tokens};
pub use self_attention::AttentionPath;
pub use train_pass::PhaseTimes;
pub use weights::{
    Growth, LoadReport, Mismatch, read_safetensors, read_torch_file, write_safetensors, write_torch_file,
};
pub use word_model::{WordArchitecture, WordBatch, WordLayout, WordModel, WordModelConfig};

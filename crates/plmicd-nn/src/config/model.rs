use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Attention, Pooling};
use crate::{Loss, Reduction};

/// Whether label attention sees the padding of a note's last segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// As the published implementation: every note of a batch is padded to the longest one, and label attention
    /// attends to the padding. A note's scores then depend on the notes it is batched with. Needed to reproduce
    /// published checkpoints.
    #[default]
    Attend,
    /// Padding is left out of label attention, and notes are not padded to each other.
    Mask,
}

/// What becomes of token states before they meet the label queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Projection {
    /// `Z = tanh(V H)`, as published.
    #[default]
    Tanh,
    /// `Z = H`: queries and token states live in one space.
    Identity,
}

/// What is added to the self-attention scores of masked tokens. It matters only for segments of nothing but
/// padding, which `padding = "attend"` can make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MaskConstant {
    /// -10,000, as in Transformers 4.5, which the published code used.
    #[default]
    Published,
    /// The most negative number, as in current Transformers.
    Modern,
}

impl MaskConstant {
    pub(crate) fn value(self) -> f64 {
        match self {
            MaskConstant::Published => -10_000.0,
            MaskConstant::Modern => f64::from(f32::MIN),
        }
    }
}

/// PLM-ICD's settings beside the encoder (paper, sections 3.2 and 3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Tokens in a segment, the unit the encoder sees.
    pub segment_length: usize,
    /// Tokens of a note that are read, the start and end token included.
    pub max_length: usize,
    /// What is done about notes longer than the encoder reads.
    #[serde(skip_serializing_if = "is_default")]
    pub pooling: Pooling,
    /// What weighs the tokens of a note for each label.
    #[serde(skip_serializing_if = "is_default")]
    pub attention: Attention,
    /// Whether label attention sees padding.
    pub padding: Padding,
    /// What becomes of token states before they meet the label queries.
    pub projection: Projection,
    /// What is added to the scores of masked tokens in self-attention.
    pub mask_constant: MaskConstant,
    /// What training minimises.
    pub loss: Loss,
    /// Over what the losses of the labels are averaged.
    #[serde(skip_serializing_if = "is_default")]
    pub loss_reduction: Reduction,
    /// Weight of R-Drop's term, which draws the answers of two passes with different dropout together; 0 trains with
    /// one pass.
    #[serde(skip_serializing_if = "is_default")]
    pub r_drop: f64,
    /// Labels handled at a time in label attention: bounds its memory, changes results by rounding only.
    #[serde(skip)]
    pub label_block: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            segment_length: 128,
            max_length: 3072,
            pooling: Pooling::default(),
            attention: Attention::default(),
            padding: Padding::default(),
            projection: Projection::default(),
            mask_constant: MaskConstant::default(),
            loss: Loss::default(),
            loss_reduction: Reduction::default(),
            r_drop: 0.0,
            label_block: 512,
        }
    }
}

/// Left out of files where it says nothing new, so that a model of the first kind is written as ever.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

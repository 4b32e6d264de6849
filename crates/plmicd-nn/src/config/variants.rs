//! How a note longer than the encoder becomes one answer, and what weighs its tokens: the variants that the paper
//! compares (Huang et al. 2022, section 4 and its tables of ablations), and PLM-CA's head.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ModelConfig, ModelType, Projection};

/// What is done about notes longer than the encoder reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Segments are encoded apart, their token states joined, and label attention reads all of them (the paper's
    /// segment pooling; `laat` in the published code).
    #[default]
    Segment,
    /// Every segment gets logits of its own, and a note the highest of each label (BERT-XML's way; `laat-split` in the
    /// published code; the paper's ablation without segment pooling).
    SegmentMax,
    /// Each segment is framed by start and end token; the mean of the pooled start tokens goes through a linear layer.
    ClsMean,
    /// The same with the sum (`cls-sum` in the published code).
    ClsSum,
    /// The same with the highest value of each dimension (`cls-max` in the published code).
    ClsMax,
    /// HIER-BERT: a second, small transformer reads the start tokens of the framed segments, and the highest value of
    /// each dimension goes through a linear layer.
    Hierarchical,
    /// The note is one sequence: a Longformer reads up to its 4,096 tokens through a window of `segment_length` with
    /// the start token seeing and seen by all; of BERT and RoBERTa's at most 512 the rest is cut off.
    Whole,
}

/// What weighs the tokens of a note for each label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Attention {
    /// LAAT's: `softmax(W tanh(V H))` over tokens, an output vector per label (Vu et al. 2020).
    #[default]
    Laat,
    /// CAML's: `softmax(W H)` over tokens, an output vector per label (Mullenbach et al. 2018).
    Caml,
    /// BERT-XML's: `softmax(W H)` over tokens, then a hidden layer and an output vector that all labels share
    /// (Zhang et al. 2020).
    BertXml,
    /// PLM-CA's cross-attention: keys and values of their own, LayerNorm, one output vector for all labels (Edin et
    /// al. 2024).
    Cross,
    /// None: the highest value of each dimension over all tokens goes through a linear layer.
    None,
}

impl Pooling {
    /// Whether every segment is framed by start and end token, rather than the note.
    pub fn frames_segments(self) -> bool {
        matches!(self, Pooling::ClsMean | Pooling::ClsSum | Pooling::ClsMax | Pooling::Hierarchical)
    }

    /// As configs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Pooling::Segment => "segment",
            Pooling::SegmentMax => "segment-max",
            Pooling::ClsMean => "cls-mean",
            Pooling::ClsSum => "cls-sum",
            Pooling::ClsMax => "cls-max",
            Pooling::Hierarchical => "hierarchical",
            Pooling::Whole => "whole",
        }
    }
}

impl Attention {
    /// As configs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Attention::Laat => "laat",
            Attention::Caml => "caml",
            Attention::BertXml => "bert-xml",
            Attention::Cross => "cross",
            Attention::None => "none",
        }
    }
}

impl ModelConfig {
    /// Whether label attention is CAML's, which is LAAT's without its projection.
    pub(crate) fn is_caml_attention(&self) -> bool {
        matches!(
            (self.attention, self.projection),
            (Attention::Caml, _) | (Attention::Laat, Projection::Identity)
        )
    }

    /// The `model_mode` by which the published PLM-ICD code calls such a model over an encoder of this family; none
    /// where it has no such model.
    pub fn published_mode(&self, encoder: ModelType) -> Option<&'static str> {
        if self.is_caml_attention() {
            return None;
        }
        match (self.pooling, self.attention, encoder) {
            (Pooling::Whole, Attention::Laat, ModelType::Longformer) => Some("laat"),
            (_, _, ModelType::Longformer) => None,
            (Pooling::Segment, Attention::Laat, _) => Some("laat"),
            (Pooling::SegmentMax, Attention::Laat, _) => Some("laat-split"),
            (Pooling::ClsSum, _, ModelType::Bert) => Some("cls-sum"),
            (Pooling::ClsMax, _, ModelType::Bert) => Some("cls-max"),
            _ => None,
        }
    }

    /// These settings with the pooling and attention of a published `model_mode` over an encoder of this family; none
    /// where there is no such mode.
    pub fn with_published_mode(self, mode: &str, encoder: ModelType) -> Option<ModelConfig> {
        let (pooling, attention) = match (mode, encoder) {
            // Whatever the mode says, the published Longformer has one head.
            (_, ModelType::Longformer) => (Pooling::Whole, Attention::Laat),
            ("laat", _) => (Pooling::Segment, Attention::Laat),
            ("laat-split", _) => (Pooling::SegmentMax, Attention::Laat),
            ("cls-sum", _) => (Pooling::ClsSum, Attention::None),
            ("cls-max", _) => (Pooling::ClsMax, Attention::None),
            _ => return None,
        };
        Some(ModelConfig { pooling, attention, ..self })
    }

    /// What is wrong with the combination of settings: the setting at fault and what was expected.
    pub fn conflict(&self) -> Option<(&'static str, String)> {
        let (pooling, attention) = (self.pooling.as_str(), self.attention.as_str());
        if self.pooling.frames_segments() && self.attention != Attention::None {
            let message = format!(
                "pooling = \"{pooling}\" makes one vector of a note, which leaves label attention nothing to weigh: \
                 set attention = \"none\""
            );
            return Some(("attention", message));
        }
        if self.projection != Projection::Tanh && self.attention != Attention::Laat {
            let message = format!(
                "only attention = \"laat\" has a projection, not \"{attention}\": leave it at \"tanh\""
            );
            return Some(("projection", message));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_configs() {
        for pooling in [
            Pooling::Segment,
            Pooling::SegmentMax,
            Pooling::ClsMean,
            Pooling::ClsSum,
            Pooling::ClsMax,
            Pooling::Hierarchical,
            Pooling::Whole,
        ] {
            assert_eq!(serde_json::to_value(pooling).unwrap(), pooling.as_str());
        }
        for attention in
            [Attention::Laat, Attention::Caml, Attention::BertXml, Attention::Cross, Attention::None]
        {
            assert_eq!(serde_json::to_value(attention).unwrap(), attention.as_str());
        }
    }

    #[test]
    fn settings_that_exclude_each_other_are_named() {
        let conflict = |pooling, attention, projection| {
            let config = ModelConfig { pooling, attention, projection, ..ModelConfig::default() };
            config.conflict().map(|(field, _)| field)
        };
        assert_eq!(conflict(Pooling::ClsSum, Attention::Laat, Projection::Tanh), Some("attention"));
        assert_eq!(conflict(Pooling::Hierarchical, Attention::None, Projection::Tanh), None);
        assert_eq!(conflict(Pooling::Segment, Attention::Caml, Projection::Identity), Some("projection"));
        assert_eq!(conflict(Pooling::Segment, Attention::Laat, Projection::Identity), None);
        assert_eq!(conflict(Pooling::SegmentMax, Attention::None, Projection::Tanh), None);
    }
}

//! What stands above the encoder: label attention over token states, or one vector a note and a linear layer.

mod bert_xml;
mod cross;
mod hierarchical;
mod linear;
mod pooled;
mod vector;

use plmicd_torch::Dropout;
use tch::Tensor;

use crate::config::{Attention, EncoderConfig, ModelConfig, Pooling};
use crate::label_attention::{LabelAttention, OnePass};
use crate::loss::Loss;
use crate::parameters::ParameterStore;
use crate::segment::SegmentBatch;
use crate::{NnError, Precision};

pub use bert_xml::BertXmlAttention;
pub use cross::{CrossAttention, CrossWeights};
use pooled::{Pieces, PooledAttention};
use vector::VectorHead;

/// The upper part of a model, as `pooling` and `attention` say.
#[derive(Debug)]
pub(crate) enum Head {
    /// Label attention over the token states of the note, or over those of each segment with the highest logit of all
    /// segments for each label.
    Labels { attention: LabelWise, per_segment: bool },
    /// One vector a note.
    Vector(VectorHead),
}

/// The kinds of label attention.
#[derive(Debug)]
pub(crate) enum LabelWise {
    /// LAAT's, and CAML's, which is the same without a projection.
    Laat(LabelAttention),
    BertXml(BertXmlAttention),
    Cross(CrossAttention),
}

/// The weights of a head that have a row for each label.
#[derive(Debug)]
pub(crate) struct LabelVectors<'a> {
    /// The queries [Y,D].
    pub queries: &'a Tensor,
    /// The output vectors [Y,D], where each label has its own.
    pub outputs: Option<&'a Tensor>,
    /// The output biases [Y], where each label has its own.
    pub biases: Option<&'a Tensor>,
}

impl Head {
    pub fn new(
        store: &mut ParameterStore,
        encoder: &EncoderConfig,
        config: &ModelConfig,
        num_labels: i64,
    ) -> Head {
        if config.attention == Attention::None {
            return Head::Vector(VectorHead::new(store, encoder, config, num_labels));
        }
        store.enter_head();
        let size = encoder.hidden_size;
        let attention = match config.attention {
            Attention::BertXml => LabelWise::BertXml(BertXmlAttention::new(store, size, num_labels)),
            Attention::Cross => LabelWise::Cross(CrossAttention::new(store, size, num_labels)),
            Attention::Caml => {
                let identity = crate::Projection::Identity;
                LabelWise::Laat(LabelAttention::new(store, size, num_labels, identity))
            }
            Attention::Laat | Attention::None => {
                LabelWise::Laat(LabelAttention::new(store, size, num_labels, config.projection))
            }
        };
        Head::Labels { attention, per_segment: config.pooling == Pooling::SegmentMax }
    }

    /// Number of labels, Y.
    pub fn num_labels(&self) -> i64 {
        match self {
            Head::Labels { attention, .. } => attention.parts().num_labels(),
            Head::Vector(head) => head.num_labels(),
        }
    }

    /// LAAT's or CAML's label attention over the whole note, where there is one.
    pub fn label_attention(&self) -> Option<&LabelAttention> {
        match self {
            Head::Labels { attention: LabelWise::Laat(attention), per_segment: false } => Some(attention),
            _ => None,
        }
    }

    /// The weights with a row for each label; none where notes are one vector.
    pub fn label_vectors(&self) -> Option<LabelVectors<'_>> {
        match self {
            Head::Labels { attention, .. } => Some(attention.vectors()),
            Head::Vector(_) => None,
        }
    }

    /// Chooses the number format of the matrix products; what they are added up in stays fp32.
    pub fn set_precision(&mut self, precision: Precision) {
        match self {
            Head::Labels { attention: LabelWise::Laat(attention), .. } => attention.set_precision(precision),
            Head::Labels { attention: LabelWise::BertXml(attention), .. } => {
                attention.set_precision(precision);
            }
            Head::Labels { attention: LabelWise::Cross(attention), .. } => attention.set_precision(precision),
            Head::Vector(head) => head.set_precision(precision),
        }
    }

    /// Logits [B,Y] of states [N,C,D] without gradients and without dropout, `label_block` labels at a time.
    pub fn logits(&self, states: &Tensor, batch: &SegmentBatch, label_block: usize) -> Tensor {
        match self {
            Head::Labels { attention: LabelWise::Laat(attention), per_segment: false } => {
                attention.logits(&states.flatten(0, 1), &batch.spans, label_block)
            }
            Head::Labels { attention, per_segment } => {
                let pieces = Pieces::of_batch(batch, *per_segment);
                pooled::logits(attention.parts(), &states.flatten(0, 1), &pieces, label_block)
            }
            Head::Vector(head) => tch::no_grad(|| head.logits(states, batch, &Dropout::off())),
        }
    }

    /// Logits [B,Y] of states [N,C,D] written out in differentiable operations, to test the others against.
    pub fn logits_reference(&self, states: &Tensor, batch: &SegmentBatch, dropout: &Dropout) -> Tensor {
        match self {
            Head::Labels { attention: LabelWise::Laat(attention), per_segment: false } => {
                attention.logits_reference(&states.flatten(0, 1), &batch.spans)
            }
            Head::Labels { attention, per_segment } => {
                let pieces = Pieces::of_batch(batch, *per_segment);
                pooled::logits_reference(attention.parts(), &states.flatten(0, 1), &pieces)
            }
            Head::Vector(head) => head.logits(states, batch, dropout),
        }
    }

    /// Loss and every gradient: those of `scale` times the mean loss are added to the `.grad` of the weights and
    /// returned for the states [N*C,D]. `states` [N,C,D] are detached from any graph; `targets` [B,Y]. Memory does not
    /// grow with the number of labels where there is label attention.
    pub fn pass(
        &self,
        states: &Tensor,
        batch: &SegmentBatch,
        targets: &Tensor,
        loss: Loss,
        scale: f64,
        label_block: usize,
        dropout: &Dropout,
    ) -> Result<OnePass, NnError> {
        check_targets(targets, batch.num_notes(), self.num_labels())?;
        match self {
            Head::Labels { attention: LabelWise::Laat(attention), per_segment: false } => {
                attention.one_pass(&states.flatten(0, 1), &batch.spans, targets, loss, scale, label_block)
            }
            Head::Labels { attention, per_segment } => {
                let pieces = Pieces::of_batch(batch, *per_segment);
                let states = states.flatten(0, 1);
                pooled::one_pass(attention.parts(), &states, &pieces, targets, loss, scale, label_block)
            }
            Head::Vector(head) => head.pass(states, batch, targets, loss, scale, dropout),
        }
    }
}

impl LabelWise {
    fn parts(&self) -> &dyn PooledAttention {
        match self {
            LabelWise::Laat(attention) => attention,
            LabelWise::BertXml(attention) => attention,
            LabelWise::Cross(attention) => attention,
        }
    }

    fn vectors(&self) -> LabelVectors<'_> {
        match self {
            LabelWise::Laat(attention) => LabelVectors {
                queries: attention.queries(),
                outputs: Some(attention.outputs()),
                biases: Some(attention.bias()),
            },
            LabelWise::BertXml(attention) => {
                LabelVectors { queries: PooledAttention::queries(attention), outputs: None, biases: None }
            }
            LabelWise::Cross(attention) => {
                LabelVectors { queries: PooledAttention::queries(attention), outputs: None, biases: None }
            }
        }
    }
}

fn check_targets(targets: &Tensor, notes: usize, num_labels: i64) -> Result<(), NnError> {
    if targets.size() == [notes as i64, num_labels] {
        return Ok(());
    }
    let message =
        format!("targets of shape {:?} do not fit {notes} notes and {num_labels} labels", targets.size());
    Err(NnError::Invalid(message))
}

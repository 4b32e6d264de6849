//! Notes as one vector each, and a linear layer over them: no label attention.

use plmicd_torch::{Dropout, backward_with_gradient};
use tch::{Kind, Tensor};

use super::hierarchical::SegmentTransformer;
use crate::config::{EncoderConfig, ModelConfig, Pooling};
use crate::label_attention::OnePass;
use crate::layers::Linear;
use crate::loss::Loss;
use crate::parameters::ParameterStore;
use crate::segment::SegmentBatch;
use crate::{NnError, Precision};

/// A vector a note, dropout, a linear layer.
#[derive(Debug)]
pub(crate) struct VectorHead {
    source: Source,
    classifier: Linear,
    dropout: f64,
}

/// Where a note's vector comes from.
#[derive(Debug)]
enum Source {
    /// The highest value of each dimension over the token states of the note, or over those of each segment, which
    /// then has logits of its own and gives the note the highest of each label.
    Tokens { per_segment: bool },
    /// The states of the segments' first tokens, through BERT's pooler (a dense layer and tanh), reduced over segments.
    Cls { pooler: Linear, pooling: Pooling },
    /// The same states, through a transformer over segments.
    Segments(SegmentTransformer),
}

impl VectorHead {
    pub fn new(
        store: &mut ParameterStore,
        encoder: &EncoderConfig,
        config: &ModelConfig,
        num_labels: i64,
    ) -> VectorHead {
        let size = encoder.hidden_size;
        let source = match config.pooling {
            Pooling::Segment | Pooling::Whole => Source::Tokens { per_segment: false },
            Pooling::SegmentMax => Source::Tokens { per_segment: true },
            Pooling::ClsMean | Pooling::ClsSum | Pooling::ClsMax => Source::Cls {
                // The pooler is the encoder's, pretrained with it.
                pooler: Linear::new(store, &format!("{}.pooler.dense", encoder.model_type), size, size),
                pooling: config.pooling,
            },
            Pooling::Hierarchical => {
                store.enter_head();
                Source::Segments(SegmentTransformer::new(store, encoder, config))
            }
        };
        store.enter_head();
        VectorHead {
            source,
            classifier: Linear::new(store, "classifier", size, num_labels),
            dropout: encoder.hidden_dropout_prob,
        }
    }

    /// Number of labels, Y.
    pub fn num_labels(&self) -> i64 {
        self.classifier.outputs()
    }

    /// Chooses the number format of the segment transformer's matrix products; the other products are small.
    pub fn set_precision(&mut self, precision: Precision) {
        if let Source::Segments(transformer) = &mut self.source {
            transformer.set_precision(precision);
        }
    }

    /// Logits [B,Y] of states [N,C,D]; differentiable.
    pub fn logits(&self, states: &Tensor, batch: &SegmentBatch, dropout: &Dropout) -> Tensor {
        let classify = |vectors: &Tensor| self.classifier.forward(&dropout.apply(vectors, self.dropout));
        match &self.source {
            Source::Tokens { per_segment: false } => {
                let flat = states.flatten(0, 1);
                let highest = batch.spans.iter().map(|s| flat.narrow(0, s.start, s.length).amax([0], false));
                classify(&Tensor::stack(&highest.collect::<Vec<_>>(), 0))
            }
            Source::Tokens { per_segment: true } => {
                let logits = classify(&self.highest_of_segments(states, batch));
                over_segments(&logits, batch, |segments| segments.amax([0], false))
            }
            Source::Cls { pooler, pooling } => {
                let pooled = pooler.forward(&states.select(1, 0)).tanh();
                let vectors = over_segments(&pooled, batch, |segments| match pooling {
                    Pooling::ClsSum => segments.sum_dim_intlist(0, false, Kind::Float),
                    Pooling::ClsMax => segments.max_dim(0, false).0,
                    _ => segments.mean_dim(0, false, Kind::Float),
                });
                classify(&vectors)
            }
            Source::Segments(transformer) => {
                classify(&transformer.forward(&states.select(1, 0), batch, dropout))
            }
        }
    }

    /// The highest values [N,D] over each segment's tokens.
    fn highest_of_segments(&self, states: &Tensor, batch: &SegmentBatch) -> Tensor {
        let (length, flat) = (states.size()[1], states.flatten(0, 1));
        let mut rows = Vec::with_capacity(batch.num_segments());
        for span in &batch.spans {
            for start in (0..span.length).step_by(length as usize) {
                let tokens = flat.narrow(0, span.start + start, length.min(span.length - start));
                rows.push(tokens.amax([0], false));
            }
        }
        Tensor::stack(&rows, 0)
    }

    /// See [`super::Head::pass`].
    pub fn pass(
        &self,
        states: &Tensor,
        batch: &SegmentBatch,
        targets: &Tensor,
        loss: Loss,
        scale: f64,
        dropout: &Dropout,
    ) -> Result<OnePass, NnError> {
        let leaf = states.detach().set_requires_grad(true);
        let logits = tch::with_grad(|| self.logits(&leaf, batch, dropout));
        let count = logits.numel().max(1) as f64;
        let (sum, gradient) = tch::no_grad(|| {
            let logits = logits.detach();
            let sum = loss.elementwise(&logits, targets).sum(logits.kind());
            (sum, loss.derivative(&logits, targets) * (scale / count))
        });
        backward_with_gradient(&logits, &gradient)?;
        Ok(OnePass { loss: sum / count, grad_states: leaf.grad().flatten(0, 1) })
    }
}

/// Rows [B,F] made of each note's rows [S,F] of `segments` [N,F].
fn over_segments(segments: &Tensor, batch: &SegmentBatch, reduce: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let mut rows = Vec::with_capacity(batch.num_notes());
    for (start, count) in batch.segments_of_notes() {
        rows.push(reduce(&segments.narrow(0, start, count)));
    }
    Tensor::stack(&rows, 0)
}

//! Label attention in one pass over blocks of labels: forward, or forward and backward, without ever storing a matrix
//! of all labels by all tokens.
//!
//! For a block of labels and one note: `A = softmax(W Z^T)`, `P = O H^T`, `logit = rowsum(A * P) + b` equals
//! `<O, A H> + b`. The loss is a sum over labels, so the block's gradient is known at once: with `g = dloss/dlogit`,
//! `dP = g A` and `dS = dP * (P - logit + b)`, then `dO += dP H`, `dW += dS Z`, `dH += dP^T O`, `dZ += dS^T W`, `db += g`.

use tch::{Device, Kind, Tensor};

use crate::segment::Span;
use crate::{LabelAttention, Loss, NnError};

/// What one pass over a batch yields beside the gradients it accumulates into the label attention's weights.
#[derive(Debug)]
pub struct OnePass {
    /// The loss, mean over notes and labels, without `scale`: a scalar.
    pub loss: Tensor,
    /// The gradient [R,D] of `scale` times the loss by the states.
    pub grad_states: Tensor,
}

/// The gradients of the label attention's weights, accumulated in place.
pub(super) struct HeadGradients {
    first: Option<Tensor>,
    second: Tensor,
    third: Tensor,
    bias: Tensor,
}

impl LabelAttention {
    /// Logits [B,Y] without gradients, `label_block` labels at a time. `states` [R,D] are the flattened states of a
    /// batch, of which note `i` reads `spans[i]`.
    pub fn logits(&self, states: &Tensor, spans: &[Span], label_block: usize) -> Tensor {
        tch::no_grad(|| {
            let kind = (states.kind(), states.device());
            let logits = Tensor::empty([spans.len() as i64, self.num_labels()], kind);
            let projected = self.project(states);
            let notes: Vec<_> = spans
                .iter()
                .map(|span| {
                    let low = |tensor: &Tensor| self.low(&tensor.narrow(0, span.start, span.length));
                    (low(states), low(&projected))
                })
                .collect();
            for block in self.label_blocks(labels_at_a_time(label_block, spans, states.device())) {
                let bias = block.of(&self.bias);
                for (note, (states, projected)) in (0..).zip(&notes) {
                    let scores = if self.is_fused(states) {
                        let (queries, products) = block.products(states, projected);
                        let (scores, _) = plmicd_torch::label_scores(&queries, &products)
                            .expect("two products of one shape on the CPU");
                        scores
                    } else {
                        block.score(states, projected).2
                    };
                    block.of(&logits.get(note)).copy_(&(scores + &bias));
                }
            }
            logits
        })
    }

    /// Loss and every gradient in one pass. `states` [R,D] as in [`LabelAttention::logits`], detached from any
    /// graph; `targets` [B,Y]. The gradients of `scale` times the mean loss are added to the `.grad` of the
    /// weights and returned for the states, to be fed into the encoder.
    pub fn one_pass(
        &self,
        states: &Tensor,
        spans: &[Span],
        targets: &Tensor,
        loss: Loss,
        scale: f64,
        label_block: usize,
    ) -> Result<OnePass, NnError> {
        let num_labels = self.num_labels();
        let expected = [spans.len() as i64, num_labels];
        if targets.size() != expected {
            return Err(NnError::Invalid(format!(
                "targets of shape {:?} do not fit {} notes and {num_labels} labels",
                targets.size(),
                spans.len()
            )));
        }
        let count = (spans.len() as i64 * num_labels).max(1) as f64;
        let gradients = self.gradients()?;
        tch::no_grad(|| {
            let pass = Pass::new(self, states);
            let mut total = Tensor::zeros([], (states.kind(), states.device()));
            let notes: Vec<Note> =
                (0..).zip(spans).map(|(note, span)| pass.note(self, span, targets.get(note))).collect();
            for block in self.label_blocks(labels_at_a_time(label_block, spans, states.device())) {
                for note in &notes {
                    total += self.block_pass(note, &block, loss, scale / count, &gradients);
                }
            }
            Ok(OnePass { loss: total / count, grad_states: pass.finish(self, &gradients) })
        })
    }

    /// One block of labels of one note; returns the sum of its losses.
    fn block_pass(
        &self,
        note: &Note,
        block: &LabelBlock,
        loss: Loss,
        scale: f64,
        gradients: &HeadGradients,
    ) -> Tensor {
        if self.is_fused(&note.states) {
            return self.fused_block_pass(note, block, loss, scale, gradients);
        }
        let scored = block.score(&note.states, &note.projected);
        let logits = &scored.2 + block.of(&self.bias);
        let targets = block.of(&note.targets);
        let grad_logits = loss.derivative(&logits, &targets) * scale;
        self.block_backward(note, block, scored, &grad_logits, gradients);
        loss.elementwise(&logits, &targets).sum(logits.kind())
    }

    /// The same where what lies between the matrix products is one operation.
    fn fused_block_pass(
        &self,
        note: &Note,
        block: &LabelBlock,
        loss: Loss,
        scale: f64,
        gradients: &HeadGradients,
    ) -> Tensor {
        let fits = "two products of one shape on the CPU";
        let (queries, products) = block.products(&note.states, &note.projected);
        let (scores, log_sums) = plmicd_torch::label_scores(&queries, &products).expect(fits);
        let logits = &scores + block.of(&self.bias);
        let targets = block.of(&note.targets);
        let grad_logits = (loss.derivative(&logits, &targets) * scale).contiguous();
        let _ = block.of(&gradients.bias).g_add_(&grad_logits);
        let (grad_scores, grad_products) = plmicd_torch::label_gradients(
            queries,
            products,
            &scores,
            &log_sums,
            &grad_logits,
            note.states.kind(),
        )
        .expect(fits);
        self.add_block(note, block, &grad_products, &grad_scores, gradients);
        loss.elementwise(&logits, &targets).sum(logits.kind())
    }

    /// Adds the gradients of a block of labels of one note, given those of its logits [L] and what
    /// [`LabelBlock::score`] gave.
    pub(super) fn block_backward(
        &self,
        note: &Note,
        block: &LabelBlock,
        scored: (Tensor, Tensor, Tensor),
        grad_logits: &Tensor,
        gradients: &HeadGradients,
    ) {
        let (mut attention, mut products, scores) = scored;
        let _ = block.of(&gradients.bias).g_add_(grad_logits);
        // dP = g A, in the place of A; dS = dP (P - (logit - b)), in the place of P.
        let grad_products = attention.g_mul_(&grad_logits.unsqueeze(1));
        let grad_scores = products.g_sub_(&scores.unsqueeze(1)).g_mul_(&grad_products);
        let (grad_products, grad_scores) = (self.low(&grad_products), self.low(&grad_scores));
        self.add_block(note, block, &grad_products, &grad_scores, gradients);
    }

    /// Adds what the gradients of a block's products make of those of weights and states.
    fn add_block(
        &self,
        note: &Note,
        block: &LabelBlock,
        grad_products: &Tensor,
        grad_scores: &Tensor,
        gradients: &HeadGradients,
    ) {
        self.add_product(&block.of(&gradients.third), grad_products, &note.states);
        self.add_product(&block.of(&gradients.second), grad_scores, &note.projected);
        self.add_product(&note.grad_states, &grad_products.transpose(0, 1), &block.outputs);
        self.add_product(&note.grad_projected, &grad_scores.transpose(0, 1), &block.queries);
    }

    /// `sum += a b`, with `sum` in fp32 whatever the product is computed in.
    pub(super) fn add_product(&self, sum: &Tensor, a: &Tensor, b: &Tensor) {
        plmicd_torch::add_product(sum, &self.low(a), &self.low(b)).expect("a sum of the product's shape");
    }

    /// Whether what lies between the matrix products is one operation: on the CPU, in fp32 and bf16.
    fn is_fused(&self, states: &Tensor) -> bool {
        states.device() == Device::Cpu && matches!(states.kind(), Kind::Float | Kind::BFloat16)
    }

    /// All labels, `label_block` at a time.
    pub(super) fn label_blocks(&self, label_block: usize) -> impl Iterator<Item = LabelBlock> + '_ {
        blocks(self.num_labels(), label_block).map(|(start, length)| {
            let low = |weights: &Tensor| self.low(&weights.narrow(0, start, length));
            LabelBlock { start, length, queries: low(&self.second), outputs: low(&self.third) }
        })
    }

    pub(super) fn gradients(&self) -> Result<HeadGradients, NnError> {
        Ok(HeadGradients {
            first: self.first.as_ref().map(plmicd_torch::grad_or_zeros).transpose()?,
            second: plmicd_torch::grad_or_zeros(&self.second)?,
            third: plmicd_torch::grad_or_zeros(&self.third)?,
            bias: plmicd_torch::grad_or_zeros(&self.bias)?,
        })
    }
}

/// A block of L labels, their query and output vectors [L,D] in the number format of matrix products.
pub(super) struct LabelBlock {
    start: i64,
    length: i64,
    queries: Tensor,
    outputs: Tensor,
}

impl LabelBlock {
    /// The rows of the block's labels.
    pub(super) fn of(&self, tensor: &Tensor) -> Tensor {
        tensor.narrow(0, self.start, self.length)
    }

    /// The products of the queries with projected states, and of the output vectors with states: [L,T] each, never bf16.
    /// States are in the number format of matrix products.
    fn products(&self, states: &Tensor, projected: &Tensor) -> (Tensor, Tensor) {
        let product = |weights: &Tensor, states: &Tensor| {
            plmicd_torch::wide_product(weights, &states.transpose(0, 1)).expect("states of the vectors' size")
        };
        (product(&self.queries, projected), product(&self.outputs, states))
    }

    /// `A` and `P` [L,T] and the logits without bias [L], all fp32.
    pub(super) fn score(&self, states: &Tensor, projected: &Tensor) -> (Tensor, Tensor, Tensor) {
        let (queries, products) = self.products(states, projected);
        let attention = queries.softmax(-1, None);
        let scores = (&attention * &products).sum_dim_intlist(-1, false, None);
        (attention, products, scores)
    }
}

/// The states of a batch on their way through the label attention, with their gradients.
pub(super) struct Pass<'a> {
    states: &'a Tensor,
    projected: Tensor,
    grad_states: Tensor,
    grad_projected: Tensor,
}

impl<'a> Pass<'a> {
    pub(super) fn new(head: &LabelAttention, states: &'a Tensor) -> Pass<'a> {
        let (projected, grad_states) = (head.project(states), states.zeros_like());
        let grad_projected = match head.first {
            Some(_) => projected.zeros_like(),
            // Without a projection both are gradients of the same states.
            None => grad_states.shallow_clone(),
        };
        Pass { states, projected, grad_states, grad_projected }
    }

    /// The part that a note reads.
    pub(super) fn note(&self, head: &LabelAttention, span: &Span, targets: Tensor) -> Note {
        let part = |tensor: &Tensor| tensor.narrow(0, span.start, span.length);
        Note {
            states: head.low(&part(self.states)),
            projected: head.low(&part(&self.projected)),
            grad_states: part(&self.grad_states),
            grad_projected: part(&self.grad_projected),
            targets,
        }
    }

    /// Takes the gradient through the projection; gives that of the states.
    pub(super) fn finish(self, head: &LabelAttention, gradients: &HeadGradients) -> Tensor {
        if let (Some(first), Some(grad_first)) = (&head.first, &gradients.first) {
            let before_tanh = Tensor::tanh_backward(&self.grad_projected, &self.projected);
            head.add_product(grad_first, &before_tanh.transpose(0, 1), self.states);
            head.add_product(&self.grad_states, &before_tanh, first);
        }
        self.grad_states
    }
}

/// The parts of a batch that belong to one note: views, but for `states` and `projected` where they were cast.
pub(super) struct Note {
    pub(super) states: Tensor,
    pub(super) projected: Tensor,
    grad_states: Tensor,
    grad_projected: Tensor,
    pub(super) targets: Tensor,
}

/// Bytes that what a block of labels makes of a note may take: on a GPU; on the CPU, where a block is small, about as much as
/// it does take.
const GPU_BLOCK_BYTES: i64 = 512 << 20;
const CPU_BLOCK_BYTES: i64 = 64 << 20;
/// Matrices of a block's labels by a note's tokens that are there at once, in fp32.
const BLOCK_MATRICES: i64 = 6;

/// What a block of labels of a note takes.
pub(crate) fn block_bytes(device: Device) -> i64 {
    if device == Device::Cpu { CPU_BLOCK_BYTES } else { GPU_BLOCK_BYTES }
}

/// On a GPU blocks are larger than `label_block`, where that fits in any case: many small operations would leave it idle.
fn labels_at_a_time(label_block: usize, spans: &[Span], device: Device) -> usize {
    let longest = spans.iter().map(|span| span.length).max().unwrap_or(0).max(1);
    match device {
        Device::Cpu => label_block,
        _ => label_block.max((GPU_BLOCK_BYTES / (4 * BLOCK_MATRICES * longest)) as usize),
    }
}

/// Starts and lengths of the blocks of labels.
pub(crate) fn blocks(num_labels: i64, label_block: usize) -> impl Iterator<Item = (i64, i64)> {
    let step = label_block.max(1);
    (0..num_labels).step_by(step).map(move |start| (start, (num_labels - start).min(step as i64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_on_a_gpu_are_as_large_as_memory_allows_whatever_the_number_of_labels() {
        let spans = [100, 3072].map(|length| Span { start: 0, length });
        assert_eq!(labels_at_a_time(512, &spans, Device::Cpu), 512);
        assert_eq!(labels_at_a_time(512, &spans, Device::Cuda(0)), 7281);
        assert_eq!(labels_at_a_time(9000, &spans, Device::Cuda(0)), 9000);
        assert!(labels_at_a_time(512, &[], Device::Cuda(0)) >= 512);
    }
}

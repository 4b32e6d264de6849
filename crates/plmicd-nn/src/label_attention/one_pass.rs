//! Label attention in one pass over blocks of labels: forward, or forward and backward, without ever storing a matrix
//! of all labels by all tokens.
//!
//! For a block of labels and one note: `A = softmax(W Z^T)`, `P = O H^T`, `logit = rowsum(A * P) + b` equals
//! `<O, A H> + b`. The loss is a sum over labels, so the block's gradient is known at once: with `g = dloss/dlogit`,
//! `dP = g A` and `dS = dP * (P - logit + b)`, then `dO += dP H`, `dW += dS Z`, `dH += dP^T O`, `dZ += dS^T W`, `db += g`.

use tch::{Device, Kind, Tensor};

use crate::precision::widened;
use crate::segment::Span;
use crate::{LabelAttention, Loss, NnError, Precision};

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
            let num_labels = self.num_labels();
            let logits = Tensor::empty([spans.len() as i64, num_labels], (states.kind(), states.device()));
            let projected = self.project(states);
            for (note, span) in spans.iter().enumerate() {
                let row = logits.get(note as i64);
                let states = self.low(&states.narrow(0, span.start, span.length));
                let projected = self.low(&projected.narrow(0, span.start, span.length));
                let fused = self.is_fused(&states);
                for (start, length) in blocks(num_labels, label_block) {
                    let scores = if fused {
                        let (queries, products) = self.products(&states, &projected, start, length);
                        let (scores, _) = plmicd_torch::label_scores(&queries, &products)
                            .expect("two products of one shape on the CPU");
                        scores
                    } else {
                        self.score_block(&states, &projected, start, length).2
                    };
                    row.narrow(0, start, length).copy_(&(scores + self.bias.narrow(0, start, length)));
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
            for (note, span) in spans.iter().enumerate() {
                let note = pass.note(self, span, targets.get(note as i64));
                for (start, length) in blocks(num_labels, label_block) {
                    total += self.block_pass(&note, start, length, loss, scale / count, &gradients);
                }
            }
            Ok(OnePass { loss: total / count, grad_states: pass.finish(self, &gradients) })
        })
    }

    /// One block of labels of one note; returns the sum of its losses.
    fn block_pass(
        &self,
        note: &Note,
        start: i64,
        length: i64,
        loss: Loss,
        scale: f64,
        gradients: &HeadGradients,
    ) -> Tensor {
        let block = |tensor: &Tensor| tensor.narrow(0, start, length);
        if self.is_fused(&note.states) {
            return self.fused_block_pass(note, start, length, loss, scale, gradients);
        }
        let scored = self.score_block(&note.states, &note.projected, start, length);
        let logits = &scored.2 + block(&self.bias);
        let targets = block(&note.targets);
        let grad_logits = loss.derivative(&logits, &targets) * scale;
        self.block_backward(note, start, length, scored, &grad_logits, gradients);
        loss.elementwise(&logits, &targets).sum(logits.kind())
    }

    /// The same where what lies between the matrix products is one operation.
    fn fused_block_pass(
        &self,
        note: &Note,
        start: i64,
        length: i64,
        loss: Loss,
        scale: f64,
        gradients: &HeadGradients,
    ) -> Tensor {
        let block = |tensor: &Tensor| tensor.narrow(0, start, length);
        let fits = "two products of one shape on the CPU";
        let (queries, products) = self.products(&note.states, &note.projected, start, length);
        let (scores, log_sums) = plmicd_torch::label_scores(&queries, &products).expect(fits);
        let logits = &scores + block(&self.bias);
        let targets = block(&note.targets);
        let grad_logits = (loss.derivative(&logits, &targets) * scale).contiguous();
        let _ = block(&gradients.bias).g_add_(&grad_logits);
        // Both become their own gradients.
        plmicd_torch::label_gradients(&queries, &products, &scores, &log_sums, &grad_logits).expect(fits);
        self.add_block(note, start, length, &products, &queries, gradients);
        loss.elementwise(&logits, &targets).sum(logits.kind())
    }

    /// Adds the gradients of a block of labels of one note, given those of its logits [L] and what
    /// [`Self::score_block`] gave.
    pub(super) fn block_backward(
        &self,
        note: &Note,
        start: i64,
        length: i64,
        scored: (Tensor, Tensor, Tensor),
        grad_logits: &Tensor,
        gradients: &HeadGradients,
    ) {
        let block = |tensor: &Tensor| tensor.narrow(0, start, length);
        let (mut attention, mut products, scores) = scored;
        let _ = block(&gradients.bias).g_add_(grad_logits);
        // dP = g A, in the place of A; dS = dP (P - (logit - b)), in the place of P.
        let grad_products = attention.g_mul_(&grad_logits.unsqueeze(1));
        let grad_scores = products.g_sub_(&scores.unsqueeze(1)).g_mul_(&grad_products);
        let (grad_products, grad_scores) = (self.low(&grad_products), self.low(&grad_scores));
        self.add_block(note, start, length, &grad_products, &grad_scores, gradients);
    }

    /// Adds what the gradients of a block's products make of those of weights and states.
    fn add_block(
        &self,
        note: &Note,
        start: i64,
        length: i64,
        grad_products: &Tensor,
        grad_scores: &Tensor,
        gradients: &HeadGradients,
    ) {
        let block = |tensor: &Tensor| tensor.narrow(0, start, length);
        self.add_product(&block(&gradients.third), grad_products, &note.states);
        self.add_product(&block(&gradients.second), grad_scores, &note.projected);
        self.add_product(&note.grad_states, &grad_products.transpose(0, 1), &block(&self.third));
        self.add_product(&note.grad_projected, &grad_scores.transpose(0, 1), &block(&self.second));
    }

    /// `sum += a b`, with `sum` in fp32 whatever the product is computed in.
    pub(super) fn add_product(&self, sum: &Tensor, a: &Tensor, b: &Tensor) {
        let mut sum = sum.shallow_clone();
        let _ = match self.precision {
            Precision::Bf16 => sum.g_add_(&self.low(a).matmul(&self.low(b))),
            _ => sum.addmm_(a, b),
        };
    }

    /// Whether what lies between the matrix products is one operation: on the CPU, in fp32 and bf16.
    fn is_fused(&self, states: &Tensor) -> bool {
        states.device() == Device::Cpu && matches!(states.kind(), Kind::Float | Kind::BFloat16)
    }

    /// The products of a block of label queries with projected states, and of its output vectors with states: [L,T]
    /// each, in the number format of matrix products.
    fn products(&self, states: &Tensor, projected: &Tensor, start: i64, length: i64) -> (Tensor, Tensor) {
        let product = |weights: &Tensor, states: &Tensor| {
            self.low(&weights.narrow(0, start, length)).matmul(&states.transpose(0, 1))
        };
        (product(&self.second, projected), product(&self.third, states))
    }

    /// `A` and `P` [L,T] and the logits without bias [L] of a block of labels, all fp32; `states` and `projected` are
    /// in the number format of matrix products.
    pub(super) fn score_block(
        &self,
        states: &Tensor,
        projected: &Tensor,
        start: i64,
        length: i64,
    ) -> (Tensor, Tensor, Tensor) {
        let block = |tensor: &Tensor| tensor.narrow(0, start, length);
        let product = |weights: &Tensor, states: &Tensor| {
            widened(self.low(&block(weights)).matmul(&states.transpose(0, 1)))
        };
        let attention = product(&self.second, projected).softmax(-1, None);
        let products = product(&self.third, states);
        let scores = (&attention * &products).sum_dim_intlist(-1, false, None);
        (attention, products, scores)
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

/// Starts and lengths of the blocks of labels.
pub(crate) fn blocks(num_labels: i64, label_block: usize) -> impl Iterator<Item = (i64, i64)> {
    let step = label_block.max(1);
    (0..num_labels).step_by(step).map(move |start| (start, (num_labels - start).min(step as i64)))
}

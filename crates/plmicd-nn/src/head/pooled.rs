//! Any label attention in one pass over blocks of labels: forward, or forward and backward, without a matrix of all
//! labels by all tokens.
//!
//! With keys `K`, values `U` and a block's queries `W`: `A = softmax(W K^T)`, `M = A U`, `logit = f(M)`, where `f` works
//! label by label. The loss is a sum over labels, so `dM` is known as soon as the block's logits are (through `f` by
//! autograd, on as many rows as the block has labels); then `dA = dM U^T`, `dS = A * (dA - rowsum(dM * M))`, and
//! `dW += dS K`, `dK += dS^T W`, `dU += A^T dM`.
//!
//! Where every segment has logits of its own (`S` segments of `C` tokens), the highest of a label takes the gradient.

use std::fmt::Debug;

use plmicd_torch::{backward_with_gradient, grad_or_zeros};
use tch::{Kind, Tensor};

use super::linear::{self, Linear};
use crate::NnError;
use crate::label_attention::{LabelAttention, OnePass, blocks};
use crate::loss::Loss;
use crate::precision::Precision;
use crate::segment::SegmentBatch;

/// What makes one label attention differ from another.
pub(crate) trait PooledAttention: Debug {
    /// The label queries `W` [Y,K].
    fn queries(&self) -> &Tensor;
    /// What queries meet, [R,K] of states [R,D]; differentiable.
    fn keys(&self, states: &Tensor) -> Tensor;
    /// What is averaged, [R,U] of states [R,D]; differentiable.
    fn values(&self, states: &Tensor) -> Tensor;
    /// The weights beside the queries that have a row for each label.
    fn per_label(&self) -> Vec<&Tensor>;
    /// Logits [S,L] of averages [S,L,U] of some labels, `rows` being theirs of [`PooledAttention::per_label`];
    /// differentiable.
    fn score(&self, pooled: &Tensor, rows: &[Tensor]) -> Tensor;
    /// The weights of [`PooledAttention::score`] where it is linear in the average.
    fn linear(&self) -> Option<Linear<'_>> {
        None
    }
    /// By what the products of queries and keys are divided.
    fn scale(&self) -> f64 {
        1.0
    }
    /// The number format of matrix products.
    fn precision(&self) -> Precision;

    /// Number of labels, Y.
    fn num_labels(&self) -> i64 {
        self.queries().size()[0]
    }
}

impl PooledAttention for LabelAttention {
    fn queries(&self) -> &Tensor {
        LabelAttention::queries(self)
    }

    fn keys(&self, states: &Tensor) -> Tensor {
        self.project(states)
    }

    fn values(&self, states: &Tensor) -> Tensor {
        states.shallow_clone()
    }

    fn per_label(&self) -> Vec<&Tensor> {
        vec![self.outputs(), self.bias()]
    }

    fn score(&self, pooled: &Tensor, rows: &[Tensor]) -> Tensor {
        (pooled * &rows[0]).sum_dim_intlist(-1, false, None) + &rows[1]
    }

    fn linear(&self) -> Option<Linear<'_>> {
        Some(Linear { outputs: self.outputs(), bias: self.bias() })
    }

    fn precision(&self) -> Precision {
        LabelAttention::precision(self)
    }
}

/// The rows of the flattened states that one note's label attention reads: `count` segments of `length` rows from
/// `start` on, of the last only the first `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    pub start: i64,
    pub count: i64,
    pub length: i64,
    pub last: i64,
}

impl Pieces {
    /// One per note: its segments, or all its tokens as one.
    pub fn of_batch(batch: &SegmentBatch, per_segment: bool) -> Vec<Pieces> {
        let length = batch.ids.size()[1];
        let piece = |span: &crate::Span| match per_segment {
            false => Pieces { start: span.start, count: 1, length: span.length, last: span.length },
            true => {
                let count = (span.length + length - 1) / length;
                let last = span.length - (count - 1) * length;
                Pieces { start: span.start, count, length, last }
            }
        };
        batch.spans.iter().map(piece).collect()
    }

    /// The note's part of `rows` [R,F] as [S,C,F].
    fn of(&self, rows: &Tensor) -> Tensor {
        rows.narrow(0, self.start, self.count * self.length).view([self.count, self.length, -1])
    }

    /// What is added to scores [S,L,C] so that nothing sees the rows beyond the last segment's end.
    fn mask(&self, like: &Tensor) -> Option<Tensor> {
        if self.last == self.length {
            return None;
        }
        let mask = Tensor::zeros([self.count, 1, self.length], (like.kind(), like.device()));
        let beyond = mask.select(0, self.count - 1).narrow(1, self.last, self.length - self.last);
        let _ = beyond.shallow_clone().fill_(f64::NEG_INFINITY);
        Some(mask)
    }
}

/// `A` [S,L,C] and `M` [S,L,U] of a block of queries [L,K], fp32; keys [S,C,K] and values [S,C,U] are in the number
/// format of matrix products.
fn pool(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: Option<&Tensor>,
    scale: f64,
) -> (Tensor, Tensor) {
    let mut scores = against(queries, keys);
    if scale != 1.0 {
        scores /= scale;
    }
    if let Some(mask) = mask {
        scores += mask;
    }
    let attention = scores.softmax(-1, None);
    let pooled = by_segment(&attention.to_kind(values.kind()), values);
    (attention, pooled)
}

/// The products [S,L,C] of vectors [L,D] with the rows of segments [S,C,D]; those of bf16 in fp32, as they were summed.
pub(super) fn against(vectors: &Tensor, segments: &Tensor) -> Tensor {
    match vectors.kind() {
        Kind::BFloat16 => {
            let (s, c, _) = segments.size3().expect("rows of segments are [S,C,D]");
            let rows = segments.flatten(0, 1).transpose(0, 1);
            let products = plmicd_torch::wide_product(vectors, &rows).expect("vectors of the rows' size");
            products.view([-1, s, c]).transpose(0, 1)
        }
        _ => vectors.matmul(&segments.transpose(1, 2)),
    }
}

/// The products [S,L,U] of `a` [S,L,C] and `b` [S,C,U] segment by segment; those of bf16 in fp32, as they were summed.
fn by_segment(a: &Tensor, b: &Tensor) -> Tensor {
    match a.kind() {
        Kind::BFloat16 => {
            let product = |segment| plmicd_torch::wide_product(&a.get(segment), &b.get(segment));
            let products = (0..a.size()[0]).map(|segment| product(segment).expect("matrices that fit"));
            Tensor::stack(&products.collect::<Vec<_>>(), 0)
        }
        _ => a.matmul(b),
    }
}

/// [S,L,C] -> [L,S*C].
pub(super) fn flat(x: &Tensor) -> Tensor {
    x.transpose(0, 1).flatten(1, 2)
}

/// The rows of a block of labels of the weights that have one for each.
fn rows(head: &dyn PooledAttention, start: i64, length: i64) -> Vec<Tensor> {
    head.per_label().into_iter().map(|weight| weight.narrow(0, start, length)).collect()
}

/// Logits [B,Y] without gradients, `label_block` labels at a time; `states` [R,D].
pub(super) fn logits(
    head: &dyn PooledAttention,
    states: &Tensor,
    notes: &[Pieces],
    label_block: usize,
) -> Tensor {
    tch::no_grad(|| {
        let low = |tensor: &Tensor| head.precision().operand(tensor);
        let num_labels = head.num_labels();
        let logits = Tensor::empty([notes.len() as i64, num_labels], (states.kind(), states.device()));
        let (keys, values) = (low(&head.keys(states)), low(&head.values(states)));
        for (note, pieces) in (0..).zip(notes) {
            let row = logits.get(note);
            let (keys, values, mask) = (pieces.of(&keys), pieces.of(&values), pieces.mask(states));
            for (start, length) in blocks(num_labels, label_block) {
                let block = |tensor: &Tensor| tensor.narrow(0, start, length);
                let queries = low(&block(head.queries()));
                let highest = match head.linear() {
                    Some(linear) => {
                        let outputs = low(&block(linear.outputs));
                        let (_, _, scores) =
                            linear::scores(&queries, &outputs, &keys, &values, mask.as_ref());
                        scores.amax([0], false) + block(linear.bias)
                    }
                    None => {
                        let (_, pooled) = pool(&queries, &keys, &values, mask.as_ref(), head.scale());
                        head.score(&pooled, &rows(head, start, length)).amax([0], false)
                    }
                };
                block(&row).copy_(&highest);
            }
        }
        logits
    })
}

/// Logits [B,Y] written out in differentiable operations.
pub(super) fn logits_reference(head: &dyn PooledAttention, states: &Tensor, notes: &[Pieces]) -> Tensor {
    let (keys, values) = (head.keys(states), head.values(states));
    let per_label: Vec<Tensor> = head.per_label().into_iter().map(Tensor::shallow_clone).collect();
    let note = |pieces: &Pieces| {
        let segment = |index: i64| {
            let length = if index + 1 == pieces.count { pieces.last } else { pieces.length };
            let part = |rows: &Tensor| rows.narrow(0, pieces.start + index * pieces.length, length);
            let scores = head.queries().matmul(&part(&keys).transpose(0, 1)) / head.scale();
            scores.softmax(-1, None).matmul(&part(&values))
        };
        let pooled: Vec<Tensor> = (0..pieces.count).map(segment).collect();
        head.score(&Tensor::stack(&pooled, 0), &per_label).max_dim(0, false).0
    };
    Tensor::stack(&notes.iter().map(note).collect::<Vec<_>>(), 0)
}

/// Loss and every gradient in one pass; see [`super::Head::pass`]. `states` [R,D].
pub(super) fn one_pass(
    head: &dyn PooledAttention,
    states: &Tensor,
    notes: &[Pieces],
    targets: &Tensor,
    loss: Loss,
    scale: f64,
    label_block: usize,
) -> Result<OnePass, NnError> {
    let num_labels = head.num_labels();
    let count = (notes.len() as i64 * num_labels).max(1) as f64;
    let leaf = states.detach().set_requires_grad(true);
    let (keys, values) = tch::with_grad(|| (head.keys(&leaf), head.values(&leaf)));
    let pass = Pass {
        head,
        loss,
        scale: scale / count,
        grad_queries: grad_or_zeros(head.queries())?,
        grad_per_label: head.per_label().into_iter().map(grad_or_zeros).collect::<Result<_, _>>()?,
    };
    let (grad_keys, grad_values) =
        tch::no_grad(|| (keys.detach().zeros_like(), values.detach().zeros_like()));
    let low = |tensor: &Tensor| head.precision().operand(&tensor.detach());
    let (low_keys, low_values) = (low(&keys), low(&values));
    let mut total = Tensor::zeros([], (states.kind(), states.device()));
    for (note, pieces) in (0..).zip(notes) {
        let note = Note {
            keys: pieces.of(&low_keys),
            values: pieces.of(&low_values),
            mask: pieces.mask(states),
            grad_keys: pieces.of(&grad_keys),
            grad_values: pieces.of(&grad_values),
            targets: targets.get(note),
        };
        for (start, length) in blocks(num_labels, label_block) {
            total += match (head.linear(), pass.grad_per_label.as_slice()) {
                (Some(linear), [outputs, bias]) => {
                    pass.linear_block(&note, &linear, [outputs, bias], start, length)
                }
                _ => pass.block(&note, start, length)?,
            };
        }
    }
    backward_with_gradient(&keys, &grad_keys)?;
    backward_with_gradient(&values, &grad_values)?;
    Ok(OnePass { loss: total / count, grad_states: leaf.grad() })
}

/// What the blocks of a pass share.
pub(super) struct Pass<'a> {
    pub head: &'a dyn PooledAttention,
    pub loss: Loss,
    /// That of the gradient of each logit.
    pub scale: f64,
    pub grad_queries: Tensor,
    pub grad_per_label: Vec<Tensor>,
}

/// The parts of a batch that belong to one note, [S,C,..]; the gradients are views.
pub(super) struct Note {
    pub keys: Tensor,
    pub values: Tensor,
    pub mask: Option<Tensor>,
    pub grad_keys: Tensor,
    pub grad_values: Tensor,
    pub targets: Tensor,
}

impl Pass<'_> {
    /// One block of labels of one note; returns the sum of its losses.
    fn block(&self, note: &Note, start: i64, length: i64) -> Result<Tensor, NnError> {
        let low = |tensor: &Tensor| self.head.precision().operand(tensor);
        let scale = self.head.scale();
        let block = |tensor: &Tensor| tensor.narrow(0, start, length);
        let queries = low(&block(&self.head.queries().detach()));
        let (attention, pooled) = pool(&queries, &note.keys, &note.values, note.mask.as_ref(), scale);

        // From averages to logits by autograd; weights with a row for each label as leaves of their own, so that no
        // block's gradient is as large as all labels'.
        let pooled = pooled.detach().set_requires_grad(true);
        let rows: Vec<Tensor> = rows(self.head, start, length)
            .into_iter()
            .map(|row| row.detach().set_requires_grad(true))
            .collect();
        let logits = tch::with_grad(|| self.head.score(&pooled, &rows).max_dim(0, false).0);
        let targets = block(&note.targets);
        let (sum, grad_logits) = tch::no_grad(|| {
            let logits = logits.detach();
            let sum = self.loss.elementwise(&logits, &targets).sum(logits.kind());
            (sum, self.loss.derivative(&logits, &targets) * self.scale)
        });
        backward_with_gradient(&logits, &grad_logits)?;

        tch::no_grad(|| {
            for (sum, row) in self.grad_per_label.iter().zip(&rows) {
                let _ = block(sum).g_add_(&row.grad());
            }
            let grad_pooled = pooled.grad();
            let inner = (&grad_pooled * pooled.detach()).sum_dim_intlist(-1, true, None);
            let grad_pooled = low(&grad_pooled);
            // dS = A (dA - rowsum(dM M)), in the place of dA.
            let mut grad_scores = by_segment(&grad_pooled, &note.values.transpose(1, 2));
            let _ = grad_scores.g_sub_(&inner).g_mul_(&attention);
            if scale != 1.0 {
                grad_scores /= scale;
            }
            let grad_scores = low(&grad_scores);
            let by_label = flat(&grad_scores);
            self.add_product(&block(&self.grad_queries), &by_label, &note.keys.flatten(0, 1));
            self.add_product(&note.grad_keys.flatten(0, 1), &by_label.transpose(0, 1), &queries);
            self.add_products(&note.grad_values, &low(&attention).transpose(1, 2), &grad_pooled);
        });
        Ok(sum)
    }

    /// `sum += a b` segment by segment, with `sum` in fp32 whatever the product is computed in.
    fn add_products(&self, sum: &Tensor, a: &Tensor, b: &Tensor) {
        match self.head.precision() {
            Precision::Bf16 => {
                for segment in 0..sum.size()[0] {
                    self.add_product(&sum.get(segment), &a.get(segment), &b.get(segment));
                }
            }
            _ => {
                let _ = sum.shallow_clone().baddbmm_(a, b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Padding;
    use tch::Device;

    #[test]
    fn a_notes_last_segment_ends_with_its_tokens() {
        let notes = [vec![5; 9], vec![6; 3]];
        let pieces = |padding| {
            let batch = SegmentBatch::new(&notes, 4, 0, padding, Device::Cpu).unwrap();
            Pieces::of_batch(&batch, true)
        };
        let piece = |start, count, last| Pieces { start, count, length: 4, last };
        assert_eq!(pieces(Padding::Mask), [piece(0, 3, 1), piece(12, 1, 3)]);
        assert_eq!(pieces(Padding::Attend), [piece(0, 3, 4), piece(12, 3, 4)]);
    }
}

//! R-Drop (Liang et al. 2021): the same notes go through the model twice with different dropout, and the two answers are
//! drawn together.
//!
//! Per logit, with `x` and `y` of the two passes and `p = sigmoid(x)`, `q = sigmoid(y)`: the mean of the two losses, and
//! `alpha` times the mean of the Kullback-Leibler divergences either way, which for two answers is
//! `(p - q) (x - y) / 2` (their equation 3 with the Bernoulli distribution of each label).

use tch::Tensor;

use super::one_pass::Pass;
use crate::segment::Span;
use crate::{LabelAttention, Loss, NnError};

/// What two passes over a batch yield beside the gradients they accumulate into the label attention's weights.
#[derive(Debug)]
pub struct TwoPasses {
    /// The loss, mean over notes and labels, without `scale`: a scalar.
    pub loss: Tensor,
    /// The gradients [R,D] of `scale` times the loss by the states of each pass.
    pub grad_states: [Tensor; 2],
}

impl LabelAttention {
    /// As [`LabelAttention::one_pass`] for the states of two passes of the same notes, whose answers are drawn together
    /// with weight `alpha`.
    pub fn two_passes(
        &self,
        states: [&Tensor; 2],
        spans: &[Span],
        targets: &Tensor,
        loss: Loss,
        alpha: f64,
        scale: f64,
        label_block: usize,
    ) -> Result<TwoPasses, NnError> {
        let num_labels = self.num_labels();
        let expected = [spans.len() as i64, num_labels];
        if targets.size() != expected || states[0].size() != states[1].size() {
            return Err(NnError::Invalid(format!(
                "targets of shape {:?} and states of shapes {:?} and {:?} do not fit {} notes and {num_labels} labels",
                targets.size(),
                states[0].size(),
                states[1].size(),
                spans.len()
            )));
        }
        let count = (spans.len() as i64 * num_labels).max(1) as f64;
        let gradients = self.gradients()?;
        tch::no_grad(|| {
            let passes = states.map(|states| Pass::new(self, states));
            let mut total = Tensor::zeros([], (states[0].kind(), states[0].device()));
            for (note, span) in spans.iter().enumerate() {
                let notes = passes.each_ref().map(|pass| pass.note(self, span, targets.get(note as i64)));
                for block in self.label_blocks(label_block) {
                    let targets = block.of(&notes[0].targets);
                    let scored = notes.each_ref().map(|note| block.score(&note.states, &note.projected));
                    let logits = scored.each_ref().map(|scored| &scored.2 + block.of(&self.bias));
                    let (value, by_logits) = together(loss, alpha, &logits, &targets);
                    total += value.sum(value.kind());
                    for ((note, scored), by_logits) in notes.iter().zip(scored).zip(by_logits) {
                        let by_logits = by_logits * (scale / count);
                        self.block_backward(note, &block, scored, &by_logits, &gradients);
                    }
                }
            }
            let grad_states = passes.map(|pass| pass.finish(self, &gradients));
            Ok(TwoPasses { loss: total / count, grad_states })
        })
    }
}

/// The loss of each label, and its derivatives by the logits of either pass.
fn together(loss: Loss, alpha: f64, logits: &[Tensor; 2], targets: &Tensor) -> (Tensor, [Tensor; 2]) {
    let [p, q] = logits.each_ref().map(Tensor::sigmoid);
    let (apart, beside) = (&logits[0] - &logits[1], &p - &q);
    let own = logits.each_ref().map(|logits| loss.elementwise(logits, targets) * 0.5);
    let value = &own[0] + &own[1] + &apart * &beside * (alpha / 2.0);
    let slopes = logits.each_ref().map(|logits| loss.derivative(logits, targets) * 0.5);
    let pull = |score: &Tensor| (score * (1.0 - score) * &apart + &beside) * (alpha / 2.0);
    let by_logits = [&slopes[0] + pull(&p), &slopes[1] - pull(&q)];
    (value, by_logits)
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn the_value_is_that_of_the_divergences_and_the_derivatives_are_autograds() {
        let first = Tensor::from_slice(&[-2.0f64, 0.3, 1.7, 1e-3]).set_requires_grad(true);
        let second = Tensor::from_slice(&[-1.5f64, 0.4, -0.6, -1e-3]).set_requires_grad(true);
        let targets = Tensor::from_slice(&[0.0f64, 1.0, 1.0, 0.0]);
        let (p, q) = (first.sigmoid(), second.sigmoid());
        let rest = |p: &Tensor| -> Tensor { 1.0 - p };
        let divergence = |p: &Tensor, q: &Tensor| p * (p / q).log() + rest(p) * (rest(p) / rest(q)).log();
        let loss = Loss::BinaryCrossEntropy;
        let expected = (loss.elementwise(&first, &targets) + loss.elementwise(&second, &targets)) * 0.5
            + (divergence(&p, &q) + divergence(&q, &p)) * (0.5 * 3.0);
        expected.sum(Kind::Double).backward();
        let logits = [first.detach(), second.detach()];
        let (value, by_logits) = together(loss, 3.0, &logits, &targets);
        let off = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap();
        assert!(off(&value, &expected.detach()) < 1e-12);
        assert!(off(&by_logits[0], &first.grad()) < 1e-12);
        assert!(off(&by_logits[1], &second.grad()) < 1e-12);
    }
}

//! Label attention from a given gradient of its logits: for losses that do not fall apart into labels, such as those of
//! label levels that depend on each other. Block by block like the one pass, at the price of a second forward pass.

use tch::Tensor;

use super::LabelAttention;
use super::one_pass::Pass;
use crate::NnError;
use crate::segment::Span;

impl LabelAttention {
    /// Adds to the `.grad` of the weights what the gradient [B,Y] of some loss by the logits makes of them, and returns the
    /// gradient [R,D] by the states. `states` [R,D] and `spans` as in [`LabelAttention::logits`].
    pub fn backward(
        &self,
        states: &Tensor,
        spans: &[Span],
        grad_logits: &Tensor,
        label_block: usize,
    ) -> Result<Tensor, NnError> {
        let num_labels = self.num_labels();
        let expected = [spans.len() as i64, num_labels];
        if grad_logits.size() != expected {
            return Err(NnError::Invalid(format!(
                "a gradient of shape {:?} does not fit {} notes and {num_labels} labels",
                grad_logits.size(),
                spans.len()
            )));
        }
        let gradients = self.gradients()?;
        tch::no_grad(|| {
            let pass = Pass::new(self, states);
            for (index, span) in spans.iter().enumerate() {
                let grad = grad_logits.get(index as i64);
                let note = pass.note(self, span, grad.shallow_clone());
                for block in self.label_blocks(label_block) {
                    let scored = block.score(&note.states, &note.projected);
                    self.block_backward(&note, &block, scored, &block.of(&grad), &gradients);
                }
            }
            Ok(pass.finish(self, &gradients))
        })
    }
}

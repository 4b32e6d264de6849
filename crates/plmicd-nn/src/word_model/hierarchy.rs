//! JointLAAT (Vu et al. 2020, section 3.4): coarser labels are scored first, and what they say is handed to the full
//! ones.
//!
//! `p = sigmoid(logits of level 0)`, `g = sigmoid(P p)`, `logit of level 1 = <O_D, A H> + <O_P, g> + b`, with `P` [G,C] and
//! the output vectors of level 1 [Y,D+G] split into `O_D` [Y,D] and `O_P` [Y,G].

use tch::{Device, Kind, Tensor};

use crate::parameters::{Init, ParameterStore};
use crate::segment::Span;
use crate::{LabelAttention, Loss, NnError};

/// The second level's part beside its own label attention.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    /// Scores the C coarser labels.
    coarse: LabelAttention,
    /// `P` [G,C].
    projection: Tensor,
    /// `O_P` [Y,G].
    outputs: Tensor,
    /// The coarser label of each label [Y], i64.
    parents: Tensor,
    /// Weights of the two losses; they add up to 1.
    weights: [f64; 2],
}

/// The coarser labels, C: one more than the largest.
pub(crate) fn num_parents(parents: &[usize]) -> i64 {
    parents.iter().max().map_or(0, |last| *last as i64 + 1)
}

impl Hierarchy {
    pub fn new(
        store: &mut ParameterStore,
        coarse: LabelAttention,
        parents: &[usize],
        projection_size: i64,
        level_weights: [f64; 2],
        device: Device,
    ) -> Hierarchy {
        let (num_coarse, num_labels) = (num_parents(parents), parents.len() as i64);
        // PyTorch's start of a linear layer.
        let bound = 1.0 / (num_coarse as f64).sqrt();
        let sum = level_weights[0] + level_weights[1];
        let ids: Vec<i64> = parents.iter().map(|parent| *parent as i64).collect();
        Hierarchy {
            coarse,
            projection: store.add(
                "parents.projection.weight",
                &[projection_size, num_coarse],
                Init::Uniform(bound),
                true,
            ),
            outputs: store.add("parents.output.weight", &[num_labels, projection_size], Init::Normal, true),
            parents: Tensor::from_slice(&ids).to_device(device),
            weights: level_weights.map(|weight| weight / sum),
        }
    }

    /// With given weights, in equal shares of the loss.
    #[cfg(test)]
    pub fn from_weights(
        coarse: LabelAttention,
        projection: Tensor,
        outputs: Tensor,
        parents: Tensor,
    ) -> Hierarchy {
        Hierarchy { coarse, projection, outputs, parents, weights: [0.5, 0.5] }
    }

    pub fn set_precision(&mut self, precision: crate::Precision) {
        self.coarse.set_precision(precision);
    }

    /// Logits of the coarser labels [B,C] and of the full ones [B,Y], without gradients.
    pub fn logits(
        &self,
        full: &LabelAttention,
        states: &Tensor,
        spans: &[Span],
        block: usize,
    ) -> (Tensor, Tensor) {
        tch::no_grad(|| {
            let coarse = self.coarse.logits(states, spans, block);
            let logits = full.logits(states, spans, block) + self.handed_down(&coarse);
            (coarse, logits)
        })
    }

    /// What the coarser labels' logits [B,C] add to those of the full ones [B,Y]; differentiable.
    fn handed_down(&self, coarse: &Tensor) -> Tensor {
        let projected = coarse.sigmoid().linear::<Tensor>(&self.projection, None).sigmoid();
        projected.linear::<Tensor>(&self.outputs, None)
    }

    /// Which coarser labels are true [B,C], from the full ones [B,Y].
    fn coarse_truth(&self, truth: &Tensor) -> Tensor {
        let shape = [truth.size()[0], self.coarse.num_labels()];
        let counts = Tensor::zeros(shape, (Kind::Float, truth.device()));
        counts.index_add(1, &self.parents, truth).clamp_max(1.0)
    }

    /// The loss and its gradients, as [`LabelAttention::one_pass`] gives them: first the logits without a graph, then
    /// their gradient through the small part that joins the levels, then each level's label attention.
    pub fn one_pass(
        &self,
        full: &LabelAttention,
        states: &Tensor,
        spans: &[Span],
        truth: &Tensor,
        loss: Loss,
        scale: f64,
        block: usize,
    ) -> Result<(Tensor, Tensor), NnError> {
        let leaf = |logits: Tensor| logits.detach().set_requires_grad(true);
        let coarse = leaf(self.coarse.logits(states, spans, block));
        let own = leaf(full.logits(states, spans, block));
        let joined = &own + self.handed_down(&coarse);
        let total = loss.mean(&coarse, &self.coarse_truth(truth)) * self.weights[0]
            + loss.mean(&joined, truth) * self.weights[1];
        (&total * scale).backward();
        let grad_states = full.backward(states, spans, &own.grad(), block)?;
        let grad_coarse = self.coarse.backward(states, spans, &coarse.grad(), block)?;
        Ok((total.detach(), grad_states + grad_coarse))
    }
}

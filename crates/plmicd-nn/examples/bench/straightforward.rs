//! The step as it is usually written: one padded note at a time, plain autograd through single operations and through
//! label attention with its matrix of labels by tokens, libtorch's dropout, AdamW tensor by tensor.

use plmicd_nn::{LabelTargets, PlmIcd};
use plmicd_torch::Dropout;
use tch::Tensor;

use crate::{Failure, SPECIALS};

pub struct Straightforward {
    moments: Vec<(Tensor, Tensor)>,
}

impl Straightforward {
    pub fn new(model: &PlmIcd) -> Straightforward {
        let zeros = |tensor: &Tensor| tch::no_grad(|| (tensor.zeros_like(), tensor.zeros_like()));
        let moments = model.parameters().into_iter().map(|p| zeros(&p.tensor));
        Straightforward { moments: moments.collect() }
    }

    /// One update; the mean loss. `model` is on the reference path.
    pub fn train_step(
        &mut self,
        model: &PlmIcd,
        notes: &[Vec<i32>],
        labels: &[Vec<i32>],
        step: u64,
    ) -> Result<f64, Failure> {
        let mut total = 0.0;
        for (tokens, labels) in notes.iter().zip(labels) {
            let batch = model.batch(&[tokens], &SPECIALS)?;
            let truth = LabelTargets::from_indices(&[labels], model.num_labels(), model.device())?;
            let loss = model.loss_reference(&batch, &truth, &Dropout::of_libtorch());
            (&loss / notes.len() as f64).backward();
            total += f64::try_from(loss)? / notes.len() as f64;
        }
        self.update(model, step);
        Ok(total)
    }

    /// PyTorch's AdamW, without weight decay, after clipping to a norm of 1.
    fn update(&mut self, model: &PlmIcd, step: u64) {
        let (beta1, beta2, rate, epsilon) = (0.9, 0.999, 5e-5, 1e-8);
        tch::no_grad(|| {
            let parameters = model.parameters();
            let norms: Vec<Tensor> = parameters.iter().map(|p| p.tensor.grad().norm()).collect();
            let norm = f64::try_from(Tensor::stack(&norms, 0).norm()).unwrap_or(f64::NAN);
            let clip = (1.0 / (norm + 1e-6)).min(1.0);
            let corrections = (1.0 - f64::powi(beta1, step as i32), 1.0 - f64::powi(beta2, step as i32));
            for (parameter, (first, second)) in parameters.into_iter().zip(&mut self.moments) {
                let mut gradient = parameter.tensor.grad();
                let _ = gradient.g_mul_scalar_(clip);
                let _ = first.g_mul_scalar_(beta1).g_add_(&(&gradient * (1.0 - beta1)));
                let _ = second.g_mul_scalar_(beta2).addcmul_(&gradient, &(&gradient * (1.0 - beta2)));
                let denominator = second.sqrt() / corrections.1.sqrt() + epsilon;
                let mut values = parameter.tensor;
                let _ = values.g_sub_(&(&*first * (rate / corrections.0) / denominator));
                values.zero_grad();
            }
        });
    }

    /// Scores, a note at a time. `model` is on the reference path.
    pub fn scores(model: &PlmIcd, notes: &[Vec<i32>]) -> Result<Tensor, Failure> {
        let rows: Result<Vec<Tensor>, Failure> = notes
            .iter()
            .map(|tokens| {
                let batch = model.batch(&[tokens], &SPECIALS)?;
                Ok(tch::no_grad(|| model.logits_reference(&batch)).sigmoid())
            })
            .collect();
        Ok(Tensor::cat(&rows?, 0))
    }
}

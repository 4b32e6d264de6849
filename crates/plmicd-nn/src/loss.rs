use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::NnError;

/// What training minimises. Each is a mean over notes and labels of a loss per logit, so that its gradient is known
/// label by label (which the one-pass label attention needs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Binary cross-entropy of each label (paper, equation 7).
    #[default]
    BinaryCrossEntropy,
}

impl Loss {
    /// The loss of each logit, in the shape of `logits`.
    pub fn elementwise(self, logits: &Tensor, targets: &Tensor) -> Tensor {
        match self {
            // softplus(x) - t x, in the form that neither overflows nor cancels.
            Loss::BinaryCrossEntropy => {
                logits.clamp_min(0.0) - logits * targets + (-logits.abs()).exp().log1p()
            }
        }
    }

    /// The derivative of [`Loss::elementwise`] by the logits.
    pub fn derivative(self, logits: &Tensor, targets: &Tensor) -> Tensor {
        match self {
            Loss::BinaryCrossEntropy => logits.sigmoid() - targets,
        }
    }

    /// The mean over all logits, differentiable.
    pub fn mean(self, logits: &Tensor, targets: &Tensor) -> Tensor {
        match self {
            Loss::BinaryCrossEntropy => {
                logits.binary_cross_entropy_with_logits::<Tensor>(targets, None, None, tch::Reduction::Mean)
            }
        }
    }
}

/// The true labels of the notes of a batch.
#[derive(Debug)]
pub struct LabelTargets {
    targets: Tensor,
}

impl LabelTargets {
    /// From the indices of each note's labels.
    pub fn from_indices<L: AsRef<[i32]>>(
        notes: &[L],
        num_labels: usize,
        device: Device,
    ) -> Result<LabelTargets, NnError> {
        let mut dense = vec![0f32; notes.len() * num_labels];
        for (note, labels) in notes.iter().enumerate() {
            for &label in labels.as_ref() {
                match usize::try_from(label) {
                    Ok(index) if index < num_labels => dense[note * num_labels + index] = 1.0,
                    _ => {
                        return Err(NnError::Invalid(format!(
                            "note {note} of the batch has label {label}, but the model has {num_labels} labels"
                        )));
                    }
                }
            }
        }
        let shape = [notes.len() as i64, num_labels as i64];
        Ok(LabelTargets { targets: Tensor::from_slice(&dense).view(shape).to_device(device) })
    }

    /// From a tensor [B,Y] of zeros and ones.
    pub fn from_dense(targets: &Tensor) -> LabelTargets {
        LabelTargets { targets: targets.to_kind(Kind::Float) }
    }

    /// [B,Y] fp32 of zeros and ones.
    pub fn tensor(&self) -> &Tensor {
        &self.targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_and_derivative_are_those_of_autograd() {
        let logits = Tensor::from_slice(&[-200.0f32, -3.0, 0.0, 0.5, 40.0, 200.0]).set_requires_grad(true);
        let targets = Tensor::from_slice(&[0.0f32, 1.0, 1.0, 0.0, 1.0, 1.0]);
        let loss = Loss::BinaryCrossEntropy;
        let mean = loss.mean(&logits, &targets);
        mean.backward();
        let ours = loss.elementwise(&logits, &targets).mean(Kind::Float);
        assert!((f64::try_from(&ours).unwrap() - f64::try_from(&mean).unwrap()).abs() < 1e-6);
        let difference = loss.derivative(&logits, &targets) / 6.0 - logits.grad();
        assert!(f64::try_from(difference.abs().max()).unwrap() < 1e-7);
    }

    #[test]
    fn labels_must_exist() {
        let targets = LabelTargets::from_indices(&[vec![2, 0], vec![]], 3, Device::Cpu).unwrap();
        assert_eq!(
            Vec::<f32>::try_from(targets.tensor().flatten(0, 1)).unwrap(),
            [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        );
        let wrong = LabelTargets::from_indices(&[[3]], 3, Device::Cpu).unwrap_err();
        assert!(wrong.to_string().contains("label 3"), "{wrong}");
    }
}

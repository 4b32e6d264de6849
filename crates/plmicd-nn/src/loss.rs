use plmicd_torch::upload;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::NnError;

/// The loss of each logit. Whatever is done with the sum of them, its gradient is known label by label, which the
/// one-pass label attention needs.
///
/// With `p = sigmoid(x)`, the loss of a logit `x` is `-log p` where the label is true and `-log(1 - p)` where it is not, in
/// the variants with factors before these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Binary cross-entropy of each label (paper, equation 7).
    #[default]
    BinaryCrossEntropy,
    /// The same with true labels counted more than once.
    WeightedBinaryCrossEntropy(PositiveWeight),
    /// Focal loss (Lin et al. 2017, equation 4): what is predicted well already counts little.
    Focal(Focal),
    /// Asymmetric loss (Ridnik et al. 2021, equations 4 to 7): focal with an exponent for each side, and labels that are
    /// absent beyond doubt do not count at all.
    Asymmetric(Asymmetric),
}

/// Settings of the weighted binary cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PositiveWeight {
    /// Factor of the loss of true labels.
    pub positive_weight: f64,
}

impl Default for PositiveWeight {
    fn default() -> Self {
        Self { positive_weight: 1.0 }
    }
}

/// Settings of the focal loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Focal {
    /// Exponent of `1 - p` (true labels) and `p` (others).
    pub gamma: f64,
}

impl Default for Focal {
    fn default() -> Self {
        Self { gamma: 2.0 }
    }
}

/// Settings of the asymmetric loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Asymmetric {
    /// Exponent of `1 - p` where the label is true.
    pub gamma_positive: f64,
    /// Exponent of `p` where it is not.
    pub gamma_negative: f64,
    /// Subtracted from `p` where the label is not true; what is below 0 then counts as 0.
    pub clip: f64,
}

impl Default for Asymmetric {
    fn default() -> Self {
        Self { gamma_positive: 0.0, gamma_negative: 4.0, clip: 0.05 }
    }
}

/// All losses in one form.
struct Factors {
    weight: f64,
    gamma_positive: f64,
    gamma_negative: f64,
    clip: f64,
}

/// Guards divisions by a probability that may be 0; far below what changes a result.
const TINY: f64 = 1e-12;

impl Loss {
    /// What is out of range: the setting below `loss`, and what was expected.
    pub fn issue(self) -> Option<(&'static str, &'static str)> {
        let Factors { weight, gamma_positive, gamma_negative, clip } = self.factors();
        let exponent = |gamma: f64| gamma.is_finite() && gamma >= 0.0;
        match self {
            _ if !(weight.is_finite() && weight > 0.0) => {
                Some(("weighted-binary-cross-entropy.positive_weight", "expected a number above 0"))
            }
            Loss::Focal(_) if !exponent(gamma_positive) => Some(("focal.gamma", "expected 0 or more")),
            _ if !exponent(gamma_positive) => Some(("asymmetric.gamma_positive", "expected 0 or more")),
            _ if !exponent(gamma_negative) => Some(("asymmetric.gamma_negative", "expected 0 or more")),
            _ if !(0.0..1.0).contains(&clip) => {
                Some(("asymmetric.clip", "expected a number from 0 up to, not including, 1"))
            }
            _ => None,
        }
    }

    fn factors(self) -> Factors {
        let plain = Factors { weight: 1.0, gamma_positive: 0.0, gamma_negative: 0.0, clip: 0.0 };
        match self {
            Loss::BinaryCrossEntropy => plain,
            Loss::WeightedBinaryCrossEntropy(PositiveWeight { positive_weight }) => {
                Factors { weight: positive_weight, ..plain }
            }
            Loss::Focal(Focal { gamma }) => Factors { gamma_positive: gamma, gamma_negative: gamma, ..plain },
            Loss::Asymmetric(Asymmetric { gamma_positive, gamma_negative, clip }) => {
                Factors { gamma_positive, gamma_negative, clip, ..plain }
            }
        }
    }

    /// The loss of each logit, in the shape of `logits`.
    pub fn elementwise(self, logits: &Tensor, targets: &Tensor) -> Tensor {
        if self == Loss::BinaryCrossEntropy {
            // softplus(x) - t x, in the form that neither overflows nor cancels.
            return logits.clamp_min(0.0) - logits * targets + (-logits.abs()).exp().log1p();
        }
        let factors = self.factors();
        let (p, q) = (logits.sigmoid(), (-logits).sigmoid());
        let present = power(&q, factors.gamma_positive) * logits.log_sigmoid() * -factors.weight;
        let (shifted, log_rest) = factors.absent(logits, &p, &q);
        let absent = power(&shifted, factors.gamma_negative) * log_rest * -1.0;
        chosen(&present, &absent, targets)
    }

    /// The derivative of [`Loss::elementwise`] by the logits.
    pub fn derivative(self, logits: &Tensor, targets: &Tensor) -> Tensor {
        if self == Loss::BinaryCrossEntropy {
            return logits.sigmoid() - targets;
        }
        let factors = self.factors();
        let (p, q) = (logits.sigmoid(), (-logits).sigmoid());
        // d/dx of -w q^g log p, with dp/dx = p q.
        let present = power(&q, factors.gamma_positive)
            * (&p * logits.log_sigmoid() * factors.gamma_positive - &q)
            * factors.weight;
        // d/dx of -s^g log(1 - s), with s = max(p - clip, 0).
        let (shifted, log_rest) = factors.absent(logits, &p, &q);
        // With ds/dx = p q and 1 - s = q + clip; without a clip both fractions are known, however small q or p is.
        let (first, second) = match factors.clip {
            0.0 => (p.shallow_clone(), q.shallow_clone()),
            clip => (&p * &q / (&q + clip), &p * &q / shifted.clamp_min(TINY)),
        };
        let slope = first - second * log_rest * factors.gamma_negative;
        let moves = p.gt(factors.clip).to_kind(p.kind());
        let absent = power(&shifted, factors.gamma_negative) * slope * moves;
        chosen(&present, &absent, targets)
    }

    /// The mean over all logits, differentiable.
    pub fn mean(self, logits: &Tensor, targets: &Tensor) -> Tensor {
        match self {
            Loss::BinaryCrossEntropy => {
                logits.binary_cross_entropy_with_logits::<Tensor>(targets, None, None, tch::Reduction::Mean)
            }
            _ => self.elementwise(logits, targets).mean(None::<Kind>),
        }
    }
}

impl Factors {
    /// `s = max(p - clip, 0)` and `log(1 - s)`, without the loss of digits near `p = 1`.
    fn absent(&self, logits: &Tensor, p: &Tensor, q: &Tensor) -> (Tensor, Tensor) {
        if self.clip == 0.0 {
            return (p.shallow_clone(), (-logits).log_sigmoid());
        }
        ((p - self.clip).clamp_min(0.0), (q + self.clip).clamp_max(1.0).log())
    }
}

/// `base` to the power of `exponent`, exactly 1 for 0.
fn power(base: &Tensor, exponent: f64) -> Tensor {
    if exponent == 0.0 { base.ones_like() } else { base.pow_tensor_scalar(exponent) }
}

/// `present` where the target is 1, `absent` where it is 0.
fn chosen(present: &Tensor, absent: &Tensor, targets: &Tensor) -> Tensor {
    present.where_self(&targets.gt(0.5), absent)
}

/// Over what the losses of the labels of a note are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// The mean over notes and labels, as published: with many labels, next to nothing is left of a note's few true
    /// ones.
    #[default]
    Mean,
    /// The sum over labels, the mean over notes.
    NoteSum,
}

impl Reduction {
    /// What the mean over notes and labels is multiplied by.
    pub fn factor(self, num_labels: usize) -> f64 {
        match self {
            Reduction::Mean => 1.0,
            Reduction::NoteSum => num_labels as f64,
        }
    }
}

/// The true labels of the notes of a batch.
#[derive(Debug)]
pub struct LabelTargets {
    targets: Tensor,
    /// The same as indices, ascending.
    labels: Vec<Vec<i64>>,
}

impl LabelTargets {
    /// From the indices of each note's labels.
    pub fn from_indices<L: AsRef<[i32]>>(
        notes: &[L],
        num_labels: usize,
        device: Device,
    ) -> Result<LabelTargets, NnError> {
        let mut dense = vec![0f32; notes.len() * num_labels];
        let mut indices = vec![Vec::new(); notes.len()];
        for (note, labels) in notes.iter().enumerate() {
            for &label in labels.as_ref() {
                match usize::try_from(label) {
                    Ok(index) if index < num_labels => {
                        dense[note * num_labels + index] = 1.0;
                        indices[note].push(i64::from(label));
                    }
                    _ => {
                        return Err(NnError::Invalid(format!(
                            "note {note} of the batch has label {label}, but the model has {num_labels} labels"
                        )));
                    }
                }
            }
        }
        for labels in &mut indices {
            labels.sort_unstable();
            labels.dedup();
        }
        let shape = [notes.len() as i64, num_labels as i64];
        Ok(LabelTargets { targets: upload(&dense, &shape, device), labels: indices })
    }

    /// From a tensor [B,Y] of zeros and ones.
    ///
    /// # Errors
    /// It has another number of dimensions.
    pub fn from_dense(targets: &Tensor) -> Result<LabelTargets, NnError> {
        let (notes, _) = targets.size2()?;
        let labels = |note| Vec::<i64>::try_from(targets.get(note).nonzero().flatten(0, -1));
        let labels = (0..notes).map(labels).collect::<Result<_, _>>()?;
        Ok(LabelTargets { targets: targets.to_kind(Kind::Float), labels })
    }

    /// The indices of each note's labels, ascending.
    pub(crate) fn labels(&self) -> &[Vec<i64>] {
        &self.labels
    }

    /// [B,Y] fp32 of zeros and ones.
    pub fn tensor(&self) -> &Tensor {
        &self.targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Loss; 6] = [
        Loss::BinaryCrossEntropy,
        Loss::WeightedBinaryCrossEntropy(PositiveWeight { positive_weight: 7.0 }),
        Loss::Focal(Focal { gamma: 2.0 }),
        Loss::Focal(Focal { gamma: 0.5 }),
        Loss::Asymmetric(Asymmetric { gamma_positive: 0.0, gamma_negative: 4.0, clip: 0.05 }),
        Loss::Asymmetric(Asymmetric { gamma_positive: 1.0, gamma_negative: 3.0, clip: 0.0 }),
    ];

    /// Each of some logits with either target, in double precision.
    fn grid(logits: &[f64]) -> (Tensor, Tensor) {
        let count = logits.len() as i64;
        let logits = Tensor::from_slice(logits).repeat([2]).set_requires_grad(true);
        let zero = Tensor::zeros([count], (Kind::Double, Device::Cpu));
        (logits, Tensor::cat(&[&zero, &zero.ones_like()], 0))
    }

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
    fn the_derivative_of_every_loss_is_that_of_autograd() {
        for loss in ALL {
            // Not at 0, where the stable form of the logarithm has a kink that cancels and autograd cannot see that.
            let (mut logits, targets) = grid(&[-9.0, -3.1, -2.9, -1.0, -0.2, 1e-3, 0.7, 2.5, 6.0, 12.0]);
            loss.elementwise(&logits, &targets).sum(Kind::Double).backward();
            let difference = (loss.derivative(&logits, &targets) - logits.grad()).abs().max();
            assert!(f64::try_from(difference).unwrap() < 1e-10, "{loss:?}");
            logits.zero_grad();
        }
    }

    #[test]
    fn every_loss_is_that_of_its_paper() {
        let (logits, targets) = grid(&[-2.0, 0.3, 1.7]);
        let values = |loss: Loss| Vec::<f64>::try_from(loss.elementwise(&logits, &targets)).unwrap();
        let logits: Vec<f64> = Vec::try_from(&logits).unwrap();
        for (at, &x) in logits.iter().enumerate() {
            let p = 1.0 / (1.0 + (-x).exp());
            let present = at >= 3;
            let shifted = (p - 0.05_f64).max(0.0);
            let expected = [
                if present { -p.ln() } else { -(1.0 - p).ln() },
                if present { -7.0 * p.ln() } else { -(1.0 - p).ln() },
                if present { -(1.0 - p).powi(2) * p.ln() } else { -p.powi(2) * (1.0 - p).ln() },
                if present { -(1.0 - p).sqrt() * p.ln() } else { -p.sqrt() * (1.0 - p).ln() },
                if present { -p.ln() } else { -shifted.powi(4) * (1.0 - shifted).ln() },
                if present { -(1.0 - p) * p.ln() } else { -p.powi(3) * (1.0 - p).ln() },
            ];
            for (loss, expected) in ALL.into_iter().zip(expected) {
                assert!((values(loss)[at] - expected).abs() < 1e-12, "{loss:?} at {x}");
            }
        }
    }

    #[test]
    fn no_loss_overflows_at_certain_logits() {
        for loss in ALL {
            let (logits, targets) = grid(&[-1e4, -200.0, 200.0, 1e4]);
            let logits = logits.to_kind(Kind::Float);
            let targets = targets.to_kind(Kind::Float);
            for value in [loss.elementwise(&logits, &targets), loss.derivative(&logits, &targets)] {
                assert_eq!(value.isfinite().all().int64_value(&[]), 1, "{loss:?}");
            }
        }
    }

    #[test]
    fn names_and_defaults_in_files() {
        let read = |text: &str| serde_json::from_str::<Loss>(text);
        assert_eq!(read("\"binary-cross-entropy\"").unwrap(), Loss::BinaryCrossEntropy);
        assert_eq!(read("{\"focal\": {}}").unwrap(), Loss::Focal(Focal { gamma: 2.0 }));
        let asymmetric = read("{\"asymmetric\": {\"clip\": 0.1}}").unwrap();
        assert_eq!(asymmetric, Loss::Asymmetric(Asymmetric { clip: 0.1, ..Asymmetric::default() }));
        assert!(read("{\"focal\": {\"clip\": 0.1}}").is_err());
        assert_eq!(asymmetric.issue(), None);
        let wrong = Loss::Asymmetric(Asymmetric { clip: 1.0, ..Asymmetric::default() });
        assert_eq!(wrong.issue().unwrap().0, "asymmetric.clip");
        let wrong = Loss::Focal(Focal { gamma: f64::NAN });
        assert_eq!(wrong.issue().unwrap().0, "focal.gamma");
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

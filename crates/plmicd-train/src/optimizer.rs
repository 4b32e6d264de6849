//! AdamW over flat parameters, in groups that differ by learning rate and weight decay.

use std::collections::BTreeMap;
use std::ops::Range;

use plmicd_torch::{AdamW, AdamWVariant, FlatEntry, FlatParameters, TorchError};
use tch::{Device, Tensor};

use crate::config::{AdamVariant, OptimizerConfig};
use crate::error::{Extreme, TrainError};
use crate::state::overwrite;
use crate::task::Parameter;

/// A stretch of the flat buffers whose values are updated alike.
struct Group {
    range: Range<i64>,
    is_head: bool,
    decays: bool,
}

/// The trained values with their gradients and AdamW's moments, each one flat tensor.
pub(crate) struct Optimizer {
    config: OptimizerConfig,
    flat: FlatParameters,
    groups: Vec<Group>,
    /// Running mean of the gradient.
    moment1: Tensor,
    /// Running mean of its square.
    moment2: Tensor,
    layout: String,
}

impl Optimizer {
    /// Makes the parameters views of flat buffers.
    pub(crate) fn new(parameters: Vec<Parameter>, config: &OptimizerConfig) -> Result<Self, TrainError> {
        let decays: Vec<bool> = parameters.iter().map(|parameter| parameter.decay).collect();
        let is_head: BTreeMap<String, bool> =
            parameters.iter().map(|parameter| (parameter.name.clone(), parameter.is_head)).collect();
        let tensors = parameters.into_iter().map(|parameter| (parameter.name, parameter.tensor)).collect();
        let flat = FlatParameters::adopt(tensors, &decays)
            .map_err(|source| TrainError::task("laying out the parameters", source))?;
        let is_head = |entry: &FlatEntry| is_head.get(&entry.name).copied().unwrap_or(false);
        let groups = flat.runs(|entry| (is_head(entry), entry.decay)).into_iter();
        let groups = groups.map(|(range, (is_head, decays))| Group { range, is_head, decays }).collect();
        let layout = flat.entries().iter().map(|entry| {
            format!("{} {:?} {} {} {}\n", entry.name, entry.shape, entry.offset, entry.decay, is_head(entry))
        });
        Ok(Self {
            config: config.clone(),
            groups,
            moment1: flat.values().zeros_like(),
            moment2: flat.values().zeros_like(),
            layout: layout.collect(),
            flat,
        })
    }

    /// Names, shapes, places and groups of the parameters, as text to be hashed.
    pub(crate) fn layout(&self) -> &str {
        &self.layout
    }

    /// Number of trained values.
    pub(crate) fn parameter_count(&self) -> u64 {
        self.flat.parameter_count()
    }

    /// Length of the flat buffers.
    pub(crate) fn numel(&self) -> i64 {
        self.flat.numel()
    }

    /// The gradients of everything, one flat tensor.
    pub(crate) fn gradients(&self) -> &Tensor {
        self.flat.grads()
    }

    pub(crate) fn zero_grad(&self) {
        self.flat.zero_grad();
    }

    /// Clips the gradient where that is asked for; its global norm before, a scalar beside it.
    pub(crate) fn clip(&self) -> Result<Tensor, TorchError> {
        match self.config.max_grad_norm {
            0.0 => plmicd_torch::grad_norm(self.flat.grads()),
            max_norm => plmicd_torch::clip_grad_norm(self.flat.grads(), max_norm),
        }
    }

    /// Update number `number` (from 1) at `factor` of the peak learning rates; none where the scalar `gate` is not finite.
    pub(crate) fn step(&self, factor: f64, number: u64, gate: &Tensor) -> Result<(), TorchError> {
        let config = &self.config;
        for group in &self.groups {
            let peak = match config.head_learning_rate {
                Some(rate) if group.is_head => rate,
                _ => config.learning_rate,
            };
            let rule = AdamW {
                variant: match config.variant {
                    AdamVariant::Torch => AdamWVariant::Torch,
                    AdamVariant::Hf45 => AdamWVariant::Hf45,
                },
                learning_rate: peak * factor,
                beta1: config.betas[0],
                beta2: config.betas[1],
                epsilon: config.epsilon,
                weight_decay: if group.decays { config.weight_decay } else { 0.0 },
            };
            let part = |buffer: &Tensor| {
                buffer.narrow(0, group.range.start, group.range.end - group.range.start).detach()
            };
            let (values, grads) = (part(self.flat.values()), part(self.flat.grads()));
            rule.step_if_finite(gate, &values, &grads, &part(&self.moment1), &part(&self.moment2), number)?;
        }
        Ok(())
    }

    /// A copy of the weights, on the CPU.
    pub(crate) fn weights(&self) -> Tensor {
        self.flat.values().detach().to_device(Device::Cpu).copy()
    }

    /// Puts back what [`Self::weights`] gave.
    pub(crate) fn set_weights(&self, weights: &Tensor) {
        overwrite(self.flat.values(), weights);
    }

    /// The tensors that a checkpoint holds, by name.
    pub(crate) fn state(&self) -> [(&'static str, &Tensor); 3] {
        [("values", self.flat.values()), ("moment1", &self.moment1), ("moment2", &self.moment2)]
    }

    /// Puts back what [`Self::state`] gave; the name of a tensor that is missing or of another shape otherwise.
    pub(crate) fn restore(&self, tensors: &BTreeMap<String, Tensor>) -> Result<(), &'static str> {
        for (name, own) in self.state() {
            let saved = tensors.get(name).filter(|saved| saved.size() == own.size()).ok_or(name)?;
            overwrite(own, saved);
        }
        Ok(())
    }

    /// The largest weight by absolute value, and whose it is.
    pub(crate) fn largest_weight(&self) -> Extreme {
        self.largest(self.flat.values())
    }

    /// The largest gradient by absolute value, and whose it is; the first one that is not a number wins.
    pub(crate) fn largest_gradient(&self) -> Extreme {
        self.largest(self.flat.grads())
    }

    fn largest(&self, buffer: &Tensor) -> Extreme {
        let mut largest = Extreme { name: "none".to_owned(), value: 0.0 };
        for entry in self.flat.entries().iter().filter(|entry| entry.numel > 0) {
            // NaN, where there is one, is the maximum.
            let value = buffer.narrow(0, entry.offset, entry.numel).abs().max().double_value(&[]);
            if value > largest.value || !value.is_finite() {
                largest = Extreme { name: entry.name.clone(), value };
            }
            if !value.is_finite() {
                break;
            }
        }
        largest
    }
}

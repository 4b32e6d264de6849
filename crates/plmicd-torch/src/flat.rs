use std::collections::BTreeSet;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::TorchError;
use crate::grad::set_grad;

/// Every parameter starts on a boundary of this many elements (64 bytes of fp32), as libtorch's own tensors do.
const ALIGNMENT: i64 = 16;

/// Where one parameter lies in the flat buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatEntry {
    pub name: String,
    pub shape: Vec<i64>,
    /// Elements before it.
    pub offset: i64,
    /// Elements of it.
    pub numel: i64,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// All parameters of a model as views of one fp32 buffer, and their gradients as views of another: the
/// optimizer, clipping, checkpointing and all-reduce each become one operation on one tensor.
///
/// Order: parameters with weight decay first, then those without, each in the order given. Gaps left by
/// alignment hold zeros, in values and gradients alike, so that no operation notices them.
#[derive(Debug)]
pub struct FlatParameters {
    values: Tensor,
    grads: Tensor,
    entries: Vec<FlatEntry>,
    decay_boundary: i64,
}

impl FlatParameters {
    /// Copies the parameters' values into one buffer and makes every tensor (all its shallow clones included) a
    /// view of it, with a view of the zeroed gradient buffer as its `.grad`. `decays[i]` says whether weight
    /// decay applies to `params[i]`. All must be distinct fp32 leaves on one device.
    pub fn adopt(params: Vec<(String, Tensor)>, decays: &[bool]) -> Result<FlatParameters, TorchError> {
        let device = check(&params, decays)?;
        let mut order: Vec<usize> = (0..params.len()).collect();
        order.sort_by_key(|&index| !decays[index]);

        let mut entries = Vec::with_capacity(params.len());
        let mut end = 0;
        let mut decay_boundary = 0;
        for &index in &order {
            let (name, tensor) = &params[index];
            let numel = i64::try_from(tensor.numel()).map_err(|e| TorchError::Invalid(e.to_string()))?;
            let entry = FlatEntry {
                name: name.clone(),
                shape: tensor.size(),
                offset: end,
                numel,
                decay: decays[index],
            };
            end = (end + numel + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            if entry.decay {
                decay_boundary = end;
            }
            entries.push(entry);
        }

        let values = Tensor::zeros([end], (Kind::Float, device));
        let grads = Tensor::zeros([end], (Kind::Float, device));
        let flat = FlatParameters { values, grads, entries, decay_boundary };
        tch::no_grad(|| -> Result<(), TorchError> {
            for (entry, &index) in flat.entries.iter().zip(&order) {
                let mut parameter = params[index].1.shallow_clone();
                let mut view = entry.view_of(&flat.values)?;
                view.f_copy_(&parameter)?;
                parameter.f_set_data(&view)?;
                set_grad(&parameter, &entry.view_of(&flat.grads)?)?;
            }
            Ok(())
        })?;
        Ok(flat)
    }

    /// The values of all parameters, `[numel]` fp32. Writing to it changes the model.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The gradients of all parameters, `[numel]` fp32, accumulated by every backward pass.
    pub fn grads(&self) -> &Tensor {
        &self.grads
    }

    /// Sets all gradients to zero in place.
    pub fn zero_grad(&self) {
        let _ = tch::no_grad(|| self.grads.shallow_clone().zero_());
    }

    /// Length of the flat buffers, alignment gaps included.
    pub fn numel(&self) -> i64 {
        self.values.size()[0]
    }

    /// Number of trainable values, without gaps.
    pub fn parameter_count(&self) -> u64 {
        self.entries.iter().map(|entry| entry.numel.unsigned_abs()).sum()
    }

    /// Elements before it take weight decay, elements from it on do not.
    pub fn decay_boundary(&self) -> i64 {
        self.decay_boundary
    }

    /// The parameters in the order of the buffers.
    pub fn entries(&self) -> &[FlatEntry] {
        &self.entries
    }

    /// The longest runs of neighbouring parameters with equal `key`, as ranges of the flat buffers that cover them
    /// without gaps: the groups an optimizer step with several learning rates goes through.
    pub fn runs<K: PartialEq>(&self, key: impl Fn(&FlatEntry) -> K) -> Vec<(Range<i64>, K)> {
        let mut runs: Vec<(Range<i64>, K)> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let end = self.entries.get(index + 1).map_or(self.numel(), |next| next.offset);
            let entry_key = key(entry);
            match runs.last_mut() {
                Some((range, last)) if *last == entry_key => range.end = end,
                _ => runs.push((entry.offset..end, entry_key)),
            }
        }
        runs
    }
}

impl FlatEntry {
    /// This parameter's part of a flat buffer (values, gradients or moments), in the parameter's shape.
    pub fn view_of(&self, buffer: &Tensor) -> Result<Tensor, TorchError> {
        Ok(buffer.f_narrow(0, self.offset, self.numel)?.f_view(self.shape.as_slice())?)
    }
}

fn check(params: &[(String, Tensor)], decays: &[bool]) -> Result<Device, TorchError> {
    let device = match params.first() {
        Some((_, first)) => first.device(),
        None => return Err(TorchError::Invalid("a model without parameters".to_owned())),
    };
    if decays.len() != params.len() {
        return Err(TorchError::Invalid(format!(
            "{} decay flags for {} parameters",
            decays.len(),
            params.len()
        )));
    }
    let mut names = BTreeSet::new();
    for (name, tensor) in params {
        if tensor.kind() != Kind::Float || tensor.device() != device || !tensor.is_leaf() {
            return Err(TorchError::Invalid(format!(
                "parameter {name} must be an fp32 leaf on {device:?}, not {:?} on {:?}",
                tensor.kind(),
                tensor.device(),
            )));
        }
        if !names.insert(name) {
            return Err(TorchError::Invalid(format!("two parameters are named {name}")));
        }
    }
    Ok(device)
}

//! Everything of a model that training moves: the flat parameters and the buffers.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use crate::optimizer::Optimizer;
use crate::task::NamedTensor;

/// What a buffer is called in a file, so that no buffer can be taken for a flat tensor.
const PREFIX: &str = "buffer.";

/// The buffers of a model under the names that files have for them.
pub(crate) struct Buffers(Vec<NamedTensor>);

impl Buffers {
    pub fn new(buffers: Vec<NamedTensor>) -> Self {
        let named = |buffer: NamedTensor| NamedTensor {
            name: format!("{PREFIX}{}", buffer.name),
            tensor: buffer.tensor,
        };
        Self(buffers.into_iter().map(named).collect())
    }

    /// Names and tensors, for a file.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|buffer| (buffer.name.as_str(), &buffer.tensor))
    }

    /// Names, shapes and types, as text to be hashed; empty where there are none.
    pub fn layout(&self) -> String {
        let line =
            |(name, tensor): (&str, &Tensor)| format!("{name} {:?} {:?}\n", tensor.size(), tensor.kind());
        self.entries().map(line).collect()
    }

    /// A copy, for [`Self::put_back`].
    pub fn copy(&self) -> Vec<Tensor> {
        self.0.iter().map(|buffer| buffer.tensor.detach().copy()).collect()
    }

    /// Puts back what [`Self::copy`] gave.
    pub fn put_back(&self, copies: &[Tensor]) {
        for ((_, own), copy) in self.entries().zip(copies) {
            overwrite(own, copy);
        }
    }

    /// Puts saved values back; the name of a tensor that is missing or of another shape otherwise.
    pub fn restore(&self, saved: &BTreeMap<String, Tensor>) -> Result<(), String> {
        for (name, own) in self.entries() {
            let fits = |saved: &&Tensor| saved.size() == own.size() && saved.kind() == own.kind();
            overwrite(own, saved.get(name).filter(fits).ok_or(name)?);
        }
        Ok(())
    }
}

/// A copy of weights and buffers, on the CPU.
pub(crate) struct Snapshot(BTreeMap<String, Tensor>);

/// What the weights are called in a snapshot.
const VALUES: &str = "values";

impl Snapshot {
    pub fn take(optimizer: &Optimizer, buffers: &Buffers) -> Self {
        let copy = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).copy();
        let mut tensors = BTreeMap::from([(VALUES.to_owned(), optimizer.weights())]);
        tensors.extend(buffers.entries().map(|(name, tensor)| (name.to_owned(), copy(tensor))));
        Self(tensors)
    }

    /// What a checkpoint gave back; the name of a tensor that is missing or of another shape otherwise.
    pub fn from_tensors(
        tensors: BTreeMap<String, Tensor>,
        optimizer: &Optimizer,
        buffers: &Buffers,
    ) -> Result<Self, String> {
        let fits = tensors.get(VALUES).is_some_and(|values| values.size() == [optimizer.numel()]);
        if !fits {
            return Err(VALUES.to_owned());
        }
        for (name, own) in buffers.entries() {
            let fits = tensors
                .get(name)
                .is_some_and(|saved| saved.size() == own.size() && saved.kind() == own.kind());
            if !fits {
                return Err(name.to_owned());
            }
        }
        Ok(Self(tensors))
    }

    pub fn tensors(&self) -> Vec<(&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
    }

    /// Puts the copy back. It was taken from these, or checked against them.
    pub fn put_back(&self, optimizer: &Optimizer, buffers: &Buffers) {
        if let Some(values) = self.0.get(VALUES) {
            optimizer.set_weights(values);
        }
        for (name, own) in buffers.entries() {
            if let Some(saved) = self.0.get(name) {
                overwrite(own, saved);
            }
        }
    }
}

/// Writes into a tensor in place.
pub(crate) fn overwrite(target: &Tensor, source: &Tensor) {
    tch::no_grad(|| target.shallow_clone().copy_(source));
}

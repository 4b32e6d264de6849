use std::convert::Infallible;
use std::time::Duration;

use tch::Tensor;

use super::{Meeting, Membership};
use crate::TorchError;

/// A key-value store in which processes meet; this build has none.
#[derive(Debug)]
pub struct Store(Infallible);

/// Processes that work together; this build has none.
#[derive(Debug)]
pub struct Group(Infallible);

impl Store {
    /// Refuses.
    pub fn open(_meeting: &Meeting) -> Result<Self, TorchError> {
        Err(TorchError::Invalid(
            "this build cannot train with several processes: build it with `--features distributed`"
                .to_owned(),
        ))
    }

    /// Puts a value.
    pub fn set(&self, _key: &str, _value: &[u8]) -> Result<(), TorchError> {
        match self.0 {}
    }

    /// Whether there is a value.
    pub fn has(&self, _key: &str) -> Result<bool, TorchError> {
        match self.0 {}
    }

    /// A value; waits for it.
    pub fn get(&self, _key: &str) -> Result<Vec<u8>, TorchError> {
        match self.0 {}
    }
}

impl Group {
    /// Joins.
    pub fn join(store: &Store, _membership: &Membership) -> Result<Self, TorchError> {
        match store.0 {}
    }

    /// Sums over all processes.
    pub fn all_reduce(&self, _tensor: &Tensor) -> Result<(), TorchError> {
        match self.0 {}
    }

    /// Gives everybody what `root` has.
    pub fn broadcast(&self, _tensor: &Tensor, _root: usize) -> Result<(), TorchError> {
        match self.0 {}
    }

    /// Ends what waits for others.
    pub fn abort(&self) {
        match self.0 {}
    }

    /// Waits, but not for ever.
    pub fn abort_after<T>(&self, _most: Duration, _wait: impl FnOnce() -> T) -> Option<T> {
        match self.0 {}
    }
}

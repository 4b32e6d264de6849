//! The other processes of a run that trains on several at once.
//!
//! Every process has the whole model and the whole training set. The micro-batches of an update are shared out, gradients
//! are summed over all, and each process applies the same update to the same weights. The first one (rank 0) evaluates,
//! judges and saves; what it found is told to the others, so that all take the same decisions.

use std::cell::Cell;
use std::time::Duration;

use plmicd_torch::TorchError;
use plmicd_torch::distributed::{Group, Meeting, Membership, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;

/// Between two looks for a value that another process is to give.
const PAUSE: Duration = Duration::from_millis(50);

/// This process's link to the others.
#[derive(Debug)]
pub struct Peers {
    // Dropped before the store that it works over.
    group: Group,
    store: Store,
    prefix: String,
    rank: usize,
    size: usize,
    said: Cell<u64>,
}

/// Keys of a group in the store.
fn key(prefix: &str, name: &str) -> String {
    format!("{prefix}/{name}")
}

impl Peers {
    /// Meets the others. `None` where the first process has ended without needing them.
    pub fn join(meeting: &Meeting, membership: &Membership) -> Result<Option<Self>, TrainError> {
        let failed = |source: TorchError| TrainError::task("meeting the other processes", source);
        let Membership { prefix, rank, size, .. } = membership.clone();
        let store = Store::open(meeting).map_err(failed)?;
        if rank == 0 {
            store.set(&key(&prefix, "begun"), b"").map_err(failed)?;
        } else {
            while !store.has(&key(&prefix, "begun")).map_err(failed)? {
                if store.has(&key(&prefix, Self::ENDED)).map_err(failed)? {
                    return Ok(None);
                }
                std::thread::sleep(PAUSE);
            }
        }
        let group = Group::join(&store, membership).map_err(failed)?;
        Ok(Some(Self { group, store, prefix, rank, size, said: Cell::new(0) }))
    }

    /// What the first process's caller puts under the prefix, followed by a slash, when that process has ended.
    pub const ENDED: &'static str = "ended";

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is the process that evaluates and saves.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Sums a gradient over all processes, in place, and with it the loss and whether anybody wants to stop.
    pub(crate) fn sum(
        &self,
        gradient: &Tensor,
        loss: f64,
        wants_stop: bool,
    ) -> Result<(f64, bool), TrainError> {
        let lost = |source| self.lost(source);
        self.group.all_reduce(gradient).map_err(lost)?;
        let few = Tensor::from_slice(&[loss, f64::from(u8::from(wants_stop))]);
        self.group.all_reduce(&few).map_err(lost)?;
        Ok((few.double_value(&[0]), few.double_value(&[1]) > 0.0))
    }

    /// Gives everybody the first process's tensor, in place.
    pub(crate) fn broadcast(&self, tensor: &Tensor) -> Result<(), TrainError> {
        self.group.broadcast(tensor, 0).map_err(|source| self.lost(source))
    }

    /// An f64 matrix of the first process, of a shape that all know.
    pub(crate) fn matrix(&self, own: &Tensor, shape: &[i64]) -> Result<Tensor, TrainError> {
        let tensor = match self.is_first() {
            true => own.copy(),
            false => Tensor::zeros(shape, (Kind::Double, Device::Cpu)),
        };
        if tensor.numel() > 0 {
            self.broadcast(&tensor)?;
        }
        Ok(tensor)
    }

    /// The first process tells everybody something (`own`, which the others leave out); all must come here the same number
    /// of times. The others wait however long it takes.
    pub(crate) fn tell<T: Serialize + DeserializeOwned>(&self, own: Option<T>) -> Result<T, TrainError> {
        let number = self.said.get();
        self.said.set(number + 1);
        let key = key(&self.prefix, &format!("said/{number}"));
        let lost = |source| self.lost(source);
        if let Some(own) = own {
            let text =
                serde_json::to_vec(&own).map_err(|error| TrainError::task("telling the others", error))?;
            self.store.set(&key, &text).map_err(lost)?;
            return Ok(own);
        }
        while !self.store.has(&key).map_err(lost)? {
            if self.store.has(&self::key(&self.prefix, Self::ENDED)).map_err(lost)? {
                return Err(TrainError::Peers("the first process has ended".to_owned()));
            }
            std::thread::sleep(PAUSE);
        }
        let text = self.store.get(&key).map_err(lost)?;
        serde_json::from_slice(&text).map_err(|error| TrainError::task("hearing the first process", error))
    }

    fn lost(&self, source: TorchError) -> TrainError {
        TrainError::Peers(format!("{source} (this is process {} of {})", self.rank, self.size))
    }
}

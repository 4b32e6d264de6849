//! The other processes of a run that trains on several at once.
//!
//! Every process has the whole model and the whole training set. The micro-batches of an update are shared out, gradients
//! are summed over all, and each process applies the same update to the same weights. The first one (rank 0) evaluates,
//! judges and saves; what it found is told to the others, so that all take the same decisions.

use std::cell::Cell;
use std::time::{Duration, Instant};

use plmicd_torch::TorchError;
use plmicd_torch::distributed::{Group, Meeting, Membership, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;

/// Between two looks for a value that another process is to give.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the first process waits for the others to have left.
const FAREWELL: Duration = Duration::from_secs(30);

/// This process's link to the others.
#[derive(Debug)]
pub struct Peers {
    // Left before the place is: whoever waits for this process in a sum learns at once that it has gone.
    group: Group,
    place: Place,
    said: Cell<u64>,
    /// How long the others are waited for.
    patience: Duration,
}

/// This process's place at the store where all meet.
#[derive(Debug)]
struct Place {
    store: Store,
    prefix: String,
    rank: usize,
    size: usize,
    /// Somebody has gone without a word: there is no waiting for them.
    is_broken: Cell<bool>,
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
        let place = Place { store, prefix, rank, size, is_broken: Cell::new(false) };
        Ok(Some(Self { group, place, said: Cell::new(0), patience: membership.timeout }))
    }

    /// What the first process's caller puts under the prefix, followed by a slash, when that process has ended.
    pub const ENDED: &'static str = "ended";

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.place.rank
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.place.size
    }

    /// Whether this is the process that evaluates and saves.
    pub fn is_first(&self) -> bool {
        self.place.rank == 0
    }

    /// Sums a gradient and a loss over all processes, in place; whether anybody wants to stop.
    pub(crate) fn sum(&self, gradient: &Tensor, loss: &Tensor, wants_stop: bool) -> Result<bool, TrainError> {
        let lost = |source| self.lost(source);
        // First, and between the CPUs: where a process has gone this fails, before a GPU is given a sum that would wait
        // for it without end.
        let nobody_stops = self.all(!wants_stop)?;
        self.group.all_reduce(gradient).map_err(lost)?;
        self.group.all_reduce(loss).map_err(lost)?;
        Ok(!nobody_stops)
    }

    /// Whether something holds for every process; between the CPUs.
    pub(crate) fn all(&self, holds: bool) -> Result<bool, TrainError> {
        let fails = Tensor::from_slice(&[i64::from(!holds)]);
        self.group.all_reduce(&fails).map_err(|source| self.lost(source))?;
        Ok(fails.int64_value(&[0]) == 0)
    }

    /// Looks at what follows from a sum that a GPU has queued. Fails where another process has gone before its GPU gave its
    /// part; what was computed from the sum is worth nothing then.
    pub(crate) fn look<T>(&self, look: impl FnOnce() -> T) -> Result<T, TrainError> {
        self.group.abort_after(self.patience, look).ok_or_else(|| {
            let seconds = self.patience.as_secs();
            self.lost(TorchError::Invalid(format!("a sum over all processes took more than {seconds} s")))
        })
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
        let key = key(&self.place.prefix, &format!("said/{number}"));
        let lost = |source| self.lost(source);
        if let Some(own) = own {
            let text =
                serde_json::to_vec(&own).map_err(|error| TrainError::task("telling the others", error))?;
            self.place.store.set(&key, &text).map_err(lost)?;
            return Ok(own);
        }
        while !self.place.store.has(&key).map_err(lost)? {
            if self.place.store.has(&self::key(&self.place.prefix, Self::ENDED)).map_err(lost)? {
                return Err(TrainError::Peers("the first process has ended".to_owned()));
            }
            std::thread::sleep(PAUSE);
        }
        let text = self.place.store.get(&key).map_err(lost)?;
        serde_json::from_slice(&text).map_err(|error| TrainError::task("hearing the first process", error))
    }

    fn lost(&self, source: TorchError) -> TrainError {
        self.place.is_broken.set(true);
        self.group.abort();
        TrainError::Peers(format!("{source} (this is process {} of {})", self.place.rank, self.place.size))
    }
}

impl Drop for Place {
    /// The first process leaves last: all have to hear what it told before the store may go with it, and before the stage
    /// counts as ended.
    fn drop(&mut self) {
        let left = |rank: usize| key(&self.prefix, &format!("left/{rank}"));
        if self.rank != 0 {
            // Where the store has gone nobody waits.
            let _ = self.store.set(&left(self.rank), b"");
            return;
        }
        let started = Instant::now();
        let has_left = |rank: usize| self.store.has(&left(rank)).unwrap_or(true);
        while !self.is_broken.get() && started.elapsed() < FAREWELL && !(1..self.size).all(has_left) {
            std::thread::sleep(PAUSE);
        }
    }
}

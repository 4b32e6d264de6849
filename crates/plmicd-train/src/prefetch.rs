//! Batches prepared ahead of the model, in order, on another thread.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::error::{Cause, TrainError};
use crate::task::BatchSource;

/// Batches that may wait for the model: enough that it never waits for them, few enough to be forgotten.
const AHEAD: usize = 4;

/// The consuming end.
pub(crate) struct Batches<B> {
    receive: Receiver<Result<B, Cause>>,
    waited: Duration,
}

impl<B> Batches<B> {
    /// The next batch. The caller asks for no more than were planned.
    pub(crate) fn next(&mut self) -> Result<B, TrainError> {
        let start = Instant::now();
        let batch = self.receive.recv();
        self.waited += start.elapsed();
        let batch = batch.map_err(|_| TrainError::task("preparing a batch", "the batches ran out"))?;
        batch.map_err(|source| TrainError::task("preparing a batch", source))
    }

    /// How long the model has waited for batches.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }
}

/// Runs `body` while another thread prepares `plan`'s batches for it. The thread ends with `body`.
pub(crate) fn with_batches<'p, S: BatchSource, R>(
    source: &S,
    plan: impl Iterator<Item = &'p [usize]> + Send + 'p,
    body: impl FnOnce(&mut Batches<S::Batch>) -> R,
) -> R {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(AHEAD);
        scope.spawn(move || {
            for examples in plan {
                // The receiver is gone once `body` has returned: then nobody wants the rest.
                if send.send(source.batch(examples)).is_err() {
                    break;
                }
            }
        });
        // Dropped here, inside the scope, so that a sender that waits is freed before it is joined.
        let mut batches = Batches { receive, waited: Duration::ZERO };
        body(&mut batches)
    })
}

//! Batches prepared ahead of the model, in order, on another thread.

use std::sync::mpsc::{Receiver, sync_channel};

use crate::error::{Cause, TrainError};
use crate::task::BatchSource;

/// Batches that may wait for the model: enough that it never waits for them, few enough to be forgotten.
const AHEAD: usize = 4;

/// The consuming end.
pub(crate) struct Batches<B>(Receiver<Result<B, Cause>>);

impl<B> Batches<B> {
    /// The next batch. The caller asks for no more than were planned.
    pub(crate) fn next(&mut self) -> Result<B, TrainError> {
        let batch =
            self.0.recv().map_err(|_| TrainError::task("preparing a batch", "the batches ran out"))?;
        batch.map_err(|source| TrainError::task("preparing a batch", source))
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
        let mut batches = Batches(receive);
        body(&mut batches)
    })
}

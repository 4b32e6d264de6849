//! One update of the weights, and the reading of its figures.

use plmicd_torch::{Fetch, TorchError};
use tch::{Kind, Tensor};

use super::Run;
use crate::error::{Fault, TrainError};
use crate::observer::StepReport;
use crate::prefetch::Batches;
use crate::progress::StepRecord;
use crate::seed;
use crate::share::{Piece, Update};
use crate::task::{BatchSource, Task};

/// An update that is made (on a GPU: queued), but of which nobody has looked at loss and gradient yet.
pub(super) struct Unread {
    /// This process's part of it.
    pieces: Vec<Piece>,
    examples: usize,
    /// Its first micro-batch's number in the epoch, from 1.
    batch: usize,
    step: u64,
    learning_rate: f64,
    /// Mean loss over its examples and norm of the gradient, on their way from where the model is.
    figures: Fetch,
}

impl Run<'_> {
    /// One update: the gradient of `accumulation` micro-batches as if they were one batch, then AdamW. With several
    /// processes, of this one's part of them, summed over all.
    ///
    /// Everything in `self` that a checkpoint holds changes only after the last micro-batch, so an interrupt
    /// between two of them saves the state before this update.
    pub(super) fn update<S, T>(
        &mut self,
        task: &mut T,
        source: &S,
        update: &Update,
        batches: &mut Batches<T::Batch>,
    ) -> Result<(), TrainError>
    where
        S: BatchSource,
        T: Task<Batch = S::Batch>,
    {
        self.optimizer.zero_grad();
        let buffers = self.buffers.copy();
        let mut loss = Tensor::zeros([], (Kind::Double, self.optimizer.gradients().device()));
        for piece in &update.pieces {
            if self.is_asked_to_stop() {
                self.buffers.put_back(&buffers);
                self.read(task, source)?;
                return self.stop();
            }
            let batch = batches.next()?;
            loss += self.backward(task, batch, piece)? * piece.share;
        }
        // The GPU has work for a whole update now, so it does not run dry while this one waits for the last one's figures.
        // They come before this one's step: where they are bad, the weights are still what the last one left.
        self.read(task, source)?;
        let mut stopping = false;
        if let Some(peers) = self.peers.clone() {
            let summed = peers.sum(self.optimizer.gradients(), &loss, self.observer.interrupted());
            // Where a process has gone, weights and moments are still those after the last update.
            stopping = summed.inspect_err(|_| {
                self.buffers.put_back(&buffers);
                self.save();
            })?;
        }
        let factor = self.schedule.factor(self.progress.step);
        let step = self.progress.step + 1;
        let torch = |source: TorchError| TrainError::task("updating the weights", source);
        let gradient_norm = self.optimizer.clip().map_err(torch)?;
        self.optimizer.step(factor, step, &(&gradient_norm + &loss)).map_err(torch)?;
        let figures = Tensor::stack(&[&loss, &gradient_norm].map(|figure| figure.to_kind(Kind::Double)), 0);
        self.unread = Some(Unread {
            pieces: update.pieces.clone(),
            examples: update.examples,
            batch: update.range.start + 1,
            step,
            learning_rate: self.config.optimizer.learning_rate * factor,
            figures: Fetch::begin(&figures).map_err(torch)?,
        });
        self.progress.step = step;
        self.progress.batch = update.range.end;
        if !self.reads_late || stopping {
            self.read(task, source)?;
        }
        match stopping {
            true => self.stop(),
            false => Ok(()),
        }
    }

    /// Adds the gradient of a part of the update after the current step; the mean loss of the part.
    fn backward<T: Task>(&self, task: &mut T, batch: T::Batch, piece: &Piece) -> Result<Tensor, TrainError> {
        let mut place = vec![u64::from(self.progress.epoch)];
        place.extend(&piece.place);
        let seed = seed::derive(self.config.seed, "dropout", &place);
        task.train_step(batch, piece.weight, seed)
            .map_err(|source| TrainError::task(format!("training step {}", self.progress.step + 1), source))
    }

    /// Looks at the figures of the last update, where nobody has yet: whether training has broken down, and what is told
    /// and kept of it. Has to be called before the state is saved or evaluated.
    pub(super) fn read<S, T>(&mut self, task: &mut T, source: &S) -> Result<(), TrainError>
    where
        S: BatchSource,
        T: Task<Batch = S::Batch>,
    {
        let Some(unread) = self.unread.take() else { return Ok(()) };
        let look = || unread.figures.wait();
        // Where a process has gone meanwhile, nothing is saved: the weights follow from half a sum.
        let figures = match &self.peers {
            Some(peers) if self.reads_late => peers.look(look)?,
            _ => look(),
        };
        let figures =
            figures.map_err(|source| TrainError::task(format!("training step {}", unread.step), source))?;
        let [loss, gradient_norm] = [0, 1].map(|at| figures.double_value(&[at]));
        let fault = match loss.is_finite() && gradient_norm.is_finite() {
            true => self.guard.update(loss, gradient_norm),
            false => Some(Fault::NonFinite),
        };
        if let Some(fault) = fault {
            return Err(self.broken_down(task, source, fault, &unread, (loss, gradient_norm)));
        }
        self.progress.loss_sum += loss * unread.examples as f64;
        self.progress.examples += unread.examples as u64;
        let record =
            StepRecord { step: unread.step, loss, learning_rate: unread.learning_rate, gradient_norm };
        self.history.push(record);
        let per_epoch = self.sampler.num_examples() as u64;
        self.observer.step(&StepReport {
            record,
            total_steps: self.total_steps,
            epoch: self.progress.epoch + 1,
            examples: u64::from(self.progress.epoch) * per_epoch + self.progress.examples,
            total_examples: u64::from(self.config.epochs) * per_epoch,
        });
        Ok(())
    }

    /// What is known of an update that went wrong.
    fn broken_down<S, T>(
        &self,
        task: &mut T,
        source: &S,
        fault: Fault,
        unread: &Unread,
        figures: (f64, f64),
    ) -> TrainError
    where
        S: BatchSource,
        T: Task<Batch = S::Batch>,
    {
        let batch = |piece: &Piece| source.batch(&piece.examples).ok();
        if self.reads_late {
            // The gradient is another update's by now. The weights are not: where it was not finite it was not applied.
            self.optimizer.zero_grad();
            for piece in &unread.pieces {
                if let Some(batch) = batch(piece) {
                    // What went wrong is told by the gradient it leaves.
                    let _ = self.backward(task, batch, piece);
                }
            }
        }
        let first = unread.pieces.first().and_then(batch);
        let largest_logit = first.and_then(|batch| task.largest_logit(&batch));
        self.diverged(fault, (unread.step, unread.batch), figures, largest_logit)
    }
}

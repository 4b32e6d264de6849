//! The training loop.

mod update;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::checkpoint::{CheckpointError, CheckpointStore, Kept, Restored};
use crate::config::TrainerConfig;
use crate::error::{Divergence, Fault, TrainError};
use crate::guard::{self, Guard};
use crate::observer::Observer;
use crate::optimizer::Optimizer;
use crate::peers::Peers;
use crate::prefetch::{Batches, with_batches};
use crate::progress::{BestEpoch, DevRecord, EpochRecord, Progress, StepHistory};
use crate::sampler::Sampler;
use crate::schedule::LrSchedule;
use crate::share::{self, Update};
use crate::state::{Buffers, Snapshot};
use crate::task::{BatchSource, Task};
use update::Unread;

/// Where and how often a run saves its state.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// A folder of this run's own.
    pub dir: Utf8PathBuf,
    /// At least this long between two checkpoints inside an epoch; zero saves after every update.
    pub every: Duration,
    /// Which ones stay beside the newest.
    pub kept: Kept,
    /// Names the inputs and settings outside [`TrainerConfig`] that the result depends on. A checkpoint under
    /// another identity is not resumed.
    pub identity: String,
}

/// Epochs after which a model that has learnt nothing is worth a warning.
const SLOW_START: u32 = 3;

/// A training run: settings and checkpoints.
#[derive(Clone, Debug)]
pub struct Trainer {
    /// What is computed.
    pub config: TrainerConfig,
    /// What is saved on the way.
    pub checkpoints: Checkpoints,
    /// The other processes that train with this one. Each has a task and examples of its own, the same.
    pub peers: Option<Rc<Peers>>,
    /// When the figures of an update are looked at. It decides nothing but when a breakdown is noticed.
    pub reading: Reading,
}

/// When loss and gradient norm of an update are looked at: whoever does so waits for all that the device has to do before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// At once on the CPU, late on a GPU.
    #[default]
    ByDevice,
    /// When the gradient of the next update is queued, so that a GPU always has work.
    Late,
}

/// A finished run. The task's parameters hold the best epoch's weights.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every update.
    pub steps: StepHistory,
    /// Every epoch.
    pub epochs: Vec<EpochRecord>,
    /// Every evaluation inside an epoch.
    pub midway: Vec<DevRecord>,
    /// Epoch (from 1) whose weights were kept.
    pub best_epoch: u32,
    /// Whether it ended before the planned epochs for want of a better dev metric.
    pub stopped_early: bool,
    /// Number of trained values.
    pub parameters: u64,
}

impl Trainer {
    /// Trains `task` on `source` to the end, from the newest checkpoint where there is one.
    pub fn run<S, T>(&self, task: &mut T, source: &S, observer: &dyn Observer) -> Result<Outcome, TrainError>
    where
        S: BatchSource,
        T: Task<Batch = S::Batch>,
    {
        let mut run = Run::start(self, task, source, observer)?;
        while !run.is_finished() {
            if !run.progress.evaluating {
                run.train_epoch(task, source)?;
                run.progress.evaluating = true;
                if run.is_save_due() {
                    run.save_if_sound();
                }
            }
            run.evaluate(task)?;
            run.save_if_sound();
        }
        run.tell_times();
        Ok(run.finish())
    }
}

/// What the first process tells of an evaluation.
#[derive(Debug, Serialize, Deserialize)]
enum Evaluated {
    Figures(BTreeMap<String, f64>),
    Interrupted,
    Failed,
}

/// A run under way.
struct Run<'a> {
    config: &'a TrainerConfig,
    observer: &'a dyn Observer,
    sampler: Sampler,
    schedule: LrSchedule,
    total_steps: u64,
    optimizer: Optimizer,
    buffers: Buffers,
    progress: Progress,
    history: StepHistory,
    guard: Guard,
    best: Option<Snapshot>,
    /// The first process's alone.
    store: Option<CheckpointStore>,
    peers: Option<Rc<Peers>>,
    /// The last update, while its figures are not known. Never part of a checkpoint: they are read before.
    unread: Option<Unread>,
    reads_late: bool,
    /// In this process: time of the epochs without the evaluations at their ends, and what of it the model waited for input.
    trained_for: Duration,
    waited_for_input: Duration,
    every: Duration,
    saved_at: Instant,
}

impl<'a> Run<'a> {
    /// Plans the run and takes up the newest checkpoint.
    fn start<S: BatchSource, T: Task>(
        trainer: &'a Trainer,
        task: &T,
        source: &S,
        observer: &'a dyn Observer,
    ) -> Result<Self, TrainError> {
        let config = &trainer.config;
        let sampler = Sampler::new(source.lengths(), config);
        if sampler.num_examples() == 0 {
            return Err(TrainError::Config("there is nothing to train on".to_owned()));
        }
        let planned = u64::from(config.epochs) * sampler.updates_per_epoch();
        let total_steps = config.max_steps.map_or(planned, |most| planned.min(most));
        let schedule = LrSchedule::new(&config.optimizer, total_steps).ok_or_else(|| {
            TrainError::Config(format!(
                "optimizer.warmup_steps = {}, but the whole run has only {total_steps} updates",
                config.optimizer.warmup_steps.unwrap_or(0)
            ))
        })?;
        let optimizer = Optimizer::new(task.parameters(), &config.optimizer)?;
        let reads_late = match trainer.reading {
            Reading::ByDevice => optimizer.gradients().device() != Device::Cpu,
            Reading::Late => true,
        };
        let buffers = Buffers::new(task.buffers());
        let identity = identity(trainer, source, &optimizer, &buffers);
        let is_first = trainer.peers.as_ref().is_none_or(|peers| peers.is_first());
        let (mut store, mut restored) = (None, None);
        if is_first {
            let Checkpoints { dir, kept, .. } = &trainer.checkpoints;
            let (opened, found, unusable) = CheckpointStore::open(dir, &identity, *kept)?;
            (store, restored) = (Some(opened), found);
            for reason in unusable {
                observer.warn(&format!("checkpoint left out: {reason}"));
            }
        }
        let mut run = Self {
            config,
            observer,
            sampler,
            schedule,
            total_steps,
            optimizer,
            buffers,
            progress: Progress::default(),
            history: StepHistory::default(),
            guard: Guard::new(config.order),
            best: None,
            store,
            peers: trainer.peers.clone(),
            unread: None,
            reads_late,
            trained_for: Duration::ZERO,
            waited_for_input: Duration::ZERO,
            every: trainer.checkpoints.every,
            saved_at: Instant::now(),
        };
        if let Some(restored) = restored {
            run.resume(restored)?;
        }
        run.agree(&identity)?;
        for record in run.history.records() {
            // What it thought of them was said when they were made.
            let _ = run.guard.update(record.loss, record.gradient_norm);
        }
        Ok(run)
    }

    /// Brings all processes to where the first one stands.
    fn agree(&mut self, identity: &str) -> Result<(), TrainError> {
        let Some(peers) = self.peers.clone() else { return Ok(()) };
        let own = peers.is_first().then(|| (identity.to_owned(), self.progress.clone()));
        let (of_first, progress) = peers.tell(own)?;
        let all_fit = peers.all(of_first == identity)?;
        if of_first != identity {
            return Err(TrainError::Config(format!(
                "process {} has other settings, notes or parameters than the first one",
                peers.rank()
            )));
        }
        // Before a GPU is given anything that would wait for the one that leaves.
        if !all_fit {
            return Err(TrainError::Config(format!(
                "another process has other settings, notes or parameters than the first one (this is process {} of {})",
                peers.rank(),
                peers.size()
            )));
        }
        for (_, tensor) in self.optimizer.state() {
            peers.broadcast(tensor)?;
        }
        for (_, tensor) in self.buffers.entries() {
            peers.broadcast(tensor)?;
        }
        let shape = [progress.step as i64, 3];
        let history = peers.matrix(&self.history.to_tensor(), &shape)?;
        self.history = StepHistory::from_tensor(&history).unwrap_or_default();
        self.progress = progress;
        self.observer.note(&format!("process {} of {} that train together", peers.rank(), peers.size()));
        Ok(())
    }

    fn is_first(&self) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.is_first())
    }

    fn resume(&mut self, restored: Restored) -> Result<(), TrainError> {
        let damaged = |what: &str| CheckpointError::Damaged {
            file: "state.safetensors".into(),
            message: format!("tensor `{what}` is missing or of another shape"),
        };
        let history = restored.tensors.get("history").and_then(StepHistory::from_tensor);
        self.history = history.ok_or_else(|| damaged("history"))?;
        self.optimizer.restore(&restored.tensors).map_err(damaged)?;
        self.buffers.restore(&restored.tensors).map_err(|name| damaged(&name))?;
        self.progress = restored.progress;
        if let Some(tensors) = restored.best {
            let best = Snapshot::from_tensors(tensors, &self.optimizer, &self.buffers);
            self.best = Some(best.map_err(|name| damaged(&name))?);
        }
        self.observer.note(&format!(
            "resumed at step {} of {} (epoch {})",
            self.progress.step,
            self.total_steps,
            self.progress.epoch + 1
        ));
        self.observer.resumed(self.history.records(), &self.progress.epochs, &self.progress.midway);
        Ok(())
    }

    /// Only between epochs: after the last update, before which a checkpoint may have been saved, an evaluation is still
    /// to come.
    fn is_finished(&self) -> bool {
        let is_between = !self.progress.evaluating && self.progress.batch == 0;
        is_between && (self.is_trained() || self.ran_out_of_patience())
    }

    /// Whether every planned update is done.
    fn is_trained(&self) -> bool {
        self.progress.epoch >= self.config.epochs || self.progress.step >= self.total_steps
    }

    fn ran_out_of_patience(&self) -> bool {
        let patience = self.config.early_stopping_patience;
        let Some(best) = &self.progress.best else { return false };
        patience > 0 && self.progress.epoch - best.epoch >= patience
    }

    /// Trains from the current position to the end of the epoch (or of the planned updates).
    fn train_epoch<S, T>(&mut self, task: &mut T, source: &S) -> Result<(), TrainError>
    where
        S: BatchSource,
        T: Task<Batch = S::Batch>,
    {
        let plan = self.sampler.epoch(self.progress.epoch);
        let place = self.peers.as_ref().map_or((0, 1), |peers| (peers.rank(), peers.size()));
        let updates = share::updates(&self.sampler, self.config, &plan, self.progress.batch, place);
        let pieces = updates.iter().flat_map(|update| &update.pieces);
        let start = Instant::now();
        with_batches(source, pieces.map(|piece| piece.examples.as_slice()), |batches| {
            let trained = self.train_updates(task, source, &updates, batches);
            self.trained_for += start.elapsed();
            self.waited_for_input += batches.waited();
            trained
        })
    }

    fn train_updates<S, T>(
        &mut self,
        task: &mut T,
        source: &S,
        updates: &[Update],
        batches: &mut Batches<T::Batch>,
    ) -> Result<(), TrainError>
    where
        S: BatchSource,
        T: Task<Batch = S::Batch>,
    {
        for update in updates {
            if self.progress.step >= self.total_steps {
                break;
            }
            if self.is_midway_due() {
                self.read(task, source)?;
                self.evaluate_midway(task)?;
            }
            self.update(task, source, update, batches)?;
            if self.is_save_due() {
                self.read(task, source)?;
                self.save_if_sound();
            }
        }
        self.read(task, source)
    }

    /// Whether input was prepared fast enough.
    fn tell_times(&self) {
        let (trained, waited) = (self.trained_for.as_secs_f64(), self.waited_for_input.as_secs_f64());
        if trained == 0.0 {
            return;
        }
        self.observer.note(&format!(
            "waited {waited:.1} s for input in {trained:.1} s of training ({:.1} %)",
            100.0 * waited / trained
        ));
    }

    /// What broke down at an update and a micro-batch, both from 1.
    fn diverged(
        &self,
        fault: Fault,
        (step, batch): (u64, usize),
        (loss, gradient_norm): (f64, f64),
        largest_logit: Option<f64>,
    ) -> TrainError {
        TrainError::Diverged(Box::new(Divergence {
            fault,
            step,
            epoch: self.progress.epoch + 1,
            batch,
            loss,
            gradient_norm,
            largest_weight: self.optimizer.largest_weight(),
            largest_gradient: self.optimizer.largest_gradient(),
            largest_logit,
            last_good: self.store.as_ref().and_then(CheckpointStore::last_step),
        }))
    }

    /// Stops where an evaluation shows that the model has collapsed.
    fn judge<T: Task>(&self, task: &T, dev: &BTreeMap<String, f64>) -> Result<(), TrainError> {
        let signs = task.evaluation_signs();
        let infinite = dev.iter().find(|(_, value)| !value.is_finite());
        let fault = match infinite {
            Some((name, _)) => Some(Fault::NonFiniteDev { metric: name.clone() }),
            None => signs.as_ref().and_then(|signs| guard::judge(signs, dev, &self.progress)),
        };
        if let Some(fault) = fault {
            let last = self.history.records().last();
            let figures = last.map_or((0.0, 0.0), |last| (last.loss, last.gradient_norm));
            return Err(self.diverged(fault, (self.progress.step, self.progress.batch), figures, None));
        }
        let Some(signs) = signs else { return Ok(()) };
        if self.progress.epoch + 1 >= SLOW_START && guard::is_uninformed(&signs, dev) {
            self.observer.warn(&format!(
                "after {} epochs dev {} is still what predicting every label gives: is the learning rate too low, or \
                 did training break down at the start?",
                self.progress.epoch + 1,
                signs.metric
            ));
        }
        Ok(())
    }

    /// Whether an evaluation inside the epoch is due. It follows from what a checkpoint holds, so a run that was
    /// stopped meanwhile does it on resuming.
    fn is_midway_due(&self) -> bool {
        let step = self.progress.step;
        let is_due = self.config.evaluate_every.is_some_and(|every| step.is_multiple_of(every));
        let is_done = self.progress.midway.last().is_some_and(|last| last.step == step);
        // At the ends of epochs their own evaluation tells.
        self.progress.batch > 0 && is_due && !is_done
    }

    fn evaluate_midway<T: Task>(&mut self, task: &mut T) -> Result<(), TrainError> {
        let record = DevRecord { step: self.progress.step, dev: self.evaluation(task)? };
        self.observer.midway(&record);
        self.progress.midway.push(record);
        Ok(())
    }

    /// The task's evaluation, judged (every figure has to be a number); where it is interrupted, the state before it is
    /// saved. The first process tells the others what came of it.
    fn evaluation<T: Task>(&mut self, task: &mut T) -> Result<BTreeMap<String, f64>, TrainError> {
        if let Some(peers) = self.peers.clone().filter(|peers| !peers.is_first()) {
            return match peers.tell(None)? {
                Evaluated::Figures(dev) => Ok(dev),
                Evaluated::Interrupted => Err(TrainError::Interrupted),
                Evaluated::Failed => {
                    Err(TrainError::Peers("the first process failed at the evaluation".to_owned()))
                }
            };
        }
        let dev = task.evaluate(self.observer).and_then(|dev| self.judge(task, &dev).map(|()| dev));
        if let Some(peers) = &self.peers {
            peers.tell(Some(match &dev {
                Ok(dev) => Evaluated::Figures(dev.clone()),
                Err(TrainError::Interrupted) => Evaluated::Interrupted,
                Err(_) => Evaluated::Failed,
            }))?;
        }
        if matches!(dev, Err(TrainError::Interrupted)) {
            self.save();
        }
        dev
    }

    /// Evaluates the epoch just trained and keeps its weights where they are the best so far.
    fn evaluate<T: Task>(&mut self, task: &mut T) -> Result<(), TrainError> {
        let dev = self.evaluation(task)?;
        let epoch = self.progress.epoch + 1;
        let mut is_best = self.config.best_metric.is_none();
        if let Some(name) = &self.config.best_metric {
            let value = dev.get(name).copied().ok_or_else(|| {
                let given: Vec<&str> = dev.keys().map(String::as_str).collect();
                TrainError::Config(format!("the evaluation gives no `{name}`; it gives {}", given.join(", ")))
            })?;
            if self.progress.best.as_ref().is_none_or(|best| value > best.value) {
                self.progress.best = Some(BestEpoch { epoch, value });
                self.best = self.is_first().then(|| Snapshot::take(&self.optimizer, &self.buffers));
                is_best = true;
            }
        }
        let record = EpochRecord {
            epoch,
            step: self.progress.step,
            train_loss: self.progress.loss_sum / self.progress.examples.max(1) as f64,
            dev,
        };
        self.observer.epoch(&record, is_best);
        self.progress.epochs.push(record);
        self.progress.epoch = epoch;
        self.progress.batch = 0;
        self.progress.loss_sum = 0.0;
        self.progress.examples = 0;
        self.progress.evaluating = false;
        Ok(())
    }

    /// In the middle of an update. Alone, a process stops before any micro-batch; several stop together, after an update.
    fn is_asked_to_stop(&self) -> bool {
        self.peers.is_none() && self.observer.interrupted()
    }

    /// Saves the state and stops.
    fn stop(&mut self) -> Result<(), TrainError> {
        self.save();
        Err(TrainError::Interrupted)
    }

    fn is_save_due(&self) -> bool {
        self.saved_at.elapsed() >= self.every
    }

    /// Saves a checkpoint, unless the last losses say that it would not be a good one to go back to.
    fn save_if_sound(&mut self) {
        if !self.guard.is_suspicious() {
            self.save();
        }
    }

    /// Saves a checkpoint, where this process is the one that does. For the others too it is no longer due then: as long as
    /// it is, every update's figures are read at once.
    fn save(&mut self) {
        self.write_checkpoint();
        self.saved_at = Instant::now();
    }

    /// Where that fails the previous checkpoint stays and training goes on: a full disk may be emptied by the next
    /// attempt.
    fn write_checkpoint(&mut self) {
        let Some(store) = &mut self.store else { return };
        let history = self.history.to_tensor();
        let [values, moment1, moment2] = self.optimizer.state();
        let mut tensors = vec![values, moment1, moment2, ("history", &history)];
        tensors.extend(self.buffers.entries());
        let best = self.best.as_ref().map(Snapshot::tensors);
        if let Err(error) = store.save(&self.progress, &tensors, best.as_deref()) {
            let kept = match store.last_step() {
                Some(step) => format!("the one of step {step} stays"),
                None => "there is none yet".to_owned(),
            };
            self.observer
                .warn(&format!("checkpoint of step {} not written: {error}; {kept}", self.progress.step));
        }
    }

    /// Leaves the best epoch's weights in the parameters.
    fn finish(self) -> Outcome {
        if let Some(best) = &self.best {
            best.put_back(&self.optimizer, &self.buffers);
        }
        let last = self.progress.epochs.len() as u32;
        Outcome {
            best_epoch: self.progress.best.as_ref().map_or(last, |best| best.epoch),
            stopped_early: !self.is_trained(),
            steps: self.history,
            epochs: self.progress.epochs,
            midway: self.progress.midway,
            parameters: self.optimizer.parameter_count(),
        }
    }
}

/// Digest of everything a checkpoint depends on: settings, inputs, examples, and the parameters' layout.
fn identity<S: BatchSource>(
    trainer: &Trainer,
    source: &S,
    optimizer: &Optimizer,
    buffers: &Buffers,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(trainer.checkpoints.identity.as_bytes());
    // Struct order, no maps: the same text every time. These types always serialise.
    part(serde_json::to_string(&trainer.config).unwrap_or_default().as_bytes());
    let lengths: Vec<u8> = source.lengths().iter().flat_map(|length| length.to_le_bytes()).collect();
    part(&lengths);
    part(optimizer.layout().as_bytes());
    let buffers = buffers.layout();
    if !buffers.is_empty() {
        part(buffers.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

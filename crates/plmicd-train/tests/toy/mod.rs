//! A two-layer classifier on invented points: small enough to train hundreds of times in a test.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use camino::Utf8Path;
use plmicd_torch::Dropout;
use plmicd_train::{
    AccumulationRule, BatchSource, Cause, Checkpoints, EpochRecord, EvaluationSigns, Kept, NamedTensor,
    Observer, OptimizerConfig, Order, Outcome, Parameter, Reading, StepRecord, StepReport, Task, TrainError,
    Trainer, TrainerConfig,
};
use tch::{Device, Kind, Tensor};

const FEATURES: i64 = 6;
const HIDDEN: i64 = 8;
const LABELS: i64 = 3;

/// `count` points whose labels a linear rule decides.
pub struct Points {
    inputs: Vec<[f32; FEATURES as usize]>,
}

impl Points {
    pub fn new(count: usize) -> Self {
        let value = |i: usize, j: usize| ((i * 31 + j * 17 + i * j * 7) % 23) as f32 / 11.0 - 1.0;
        Self { inputs: (0..count).map(|i| std::array::from_fn(|j| value(i, j))).collect() }
    }

    fn tensors(&self, examples: &[usize]) -> (Tensor, Tensor) {
        let inputs: Vec<f32> = examples.iter().flat_map(|&i| self.inputs[i]).collect();
        let inputs = Tensor::from_slice(&inputs).view([examples.len() as i64, FEATURES]);
        let truth =
            (inputs.narrow(1, 0, LABELS) - inputs.narrow(1, LABELS, LABELS)).gt(0.0).to_kind(Kind::Float);
        (inputs, truth)
    }
}

impl BatchSource for Points {
    type Batch = (Tensor, Tensor);

    fn lengths(&self) -> Vec<u32> {
        (0..self.inputs.len() as u32).map(|i| i % 13).collect()
    }

    fn batch(&self, examples: &[usize]) -> Result<Self::Batch, Cause> {
        Ok(self.tensors(examples))
    }
}

/// The classifier, with dropout, which a resumed run must draw as the uninterrupted one does.
pub struct Toy {
    body: Tensor,
    head: Tensor,
    bias: Tensor,
    /// Running mean of the inputs and number of batches, as batch normalisation keeps them.
    running: Tensor,
    batches: Tensor,
    dropout: f64,
    held_out: Points,
    /// Makes the loss NaN at this call of `train_step`, counted from 0, and wherever its seed comes again.
    pub poison: Option<usize>,
    poisoned: Option<u64>,
    /// From this call of `train_step` on every label is turned round, and the loss a thousandfold.
    pub turned_from: Option<usize>,
    /// The loss depends on no parameter.
    pub cut_off: bool,
    /// From this call of `train_step` on, evaluations see a model that ignores its input.
    pub blind_from: Option<usize>,
    /// Evaluations give a figure that is no number.
    pub unbounded: bool,
    calls: usize,
    spread: Option<f64>,
}

impl Toy {
    pub fn new(dropout: f64) -> Self {
        let normal = |shape: &[i64], seed| {
            let values = Tensor::empty(shape, (Kind::Float, Device::Cpu));
            plmicd_torch::fill_normal(&values, 0.0, 0.3, seed).unwrap();
            values.set_requires_grad(true)
        };
        Self {
            body: normal(&[HIDDEN, FEATURES], 7),
            head: normal(&[LABELS, HIDDEN], 8),
            bias: Tensor::zeros([LABELS], (Kind::Float, Device::Cpu)).set_requires_grad(true),
            running: Tensor::zeros([FEATURES], (Kind::Float, Device::Cpu)),
            batches: Tensor::zeros([], (Kind::Int64, Device::Cpu)),
            dropout,
            held_out: Points::new(40),
            poison: None,
            poisoned: None,
            turned_from: None,
            cut_off: false,
            blind_from: None,
            unbounded: false,
            calls: 0,
            spread: None,
        }
    }

    fn logits(&self, inputs: &Tensor, dropout: &Dropout) -> Tensor {
        let hidden = dropout.apply(&inputs.matmul(&self.body.tr()).tanh(), self.dropout);
        hidden.matmul(&self.head.tr()) + &self.bias
    }

    /// The bytes of all weights.
    pub fn bytes(&self) -> Vec<u8> {
        bytes_of(&[&self.body, &self.head, &self.bias])
    }

    /// The bytes of the buffers.
    pub fn buffer_bytes(&self) -> Vec<u8> {
        bytes_of(&[&self.running, &self.batches])
    }
}

fn bytes_of(tensors: &[&Tensor]) -> Vec<u8> {
    let mut all = Vec::new();
    for tensor in tensors {
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
        all.extend(bytes);
    }
    all
}

impl Task for Toy {
    type Batch = (Tensor, Tensor);

    fn parameters(&self) -> Vec<Parameter> {
        let parameter = |name: &str, tensor: &Tensor, decay, is_head| Parameter {
            name: name.to_owned(),
            tensor: tensor.shallow_clone(),
            decay,
            is_head,
        };
        vec![
            parameter("body.weight", &self.body, true, false),
            parameter("head.bias", &self.bias, false, true),
            parameter("head.weight", &self.head, true, true),
        ]
    }

    fn buffers(&self) -> Vec<NamedTensor> {
        let buffer = |name: &str, tensor: &Tensor| NamedTensor {
            name: name.to_owned(),
            tensor: tensor.shallow_clone(),
        };
        vec![buffer("running", &self.running), buffer("batches", &self.batches)]
    }

    fn train_step(&mut self, (inputs, truth): Self::Batch, scale: f64, seed: u64) -> Result<Tensor, Cause> {
        let logits = self.logits(&inputs, &Dropout::seeded(seed));
        let mut loss =
            logits.binary_cross_entropy_with_logits::<Tensor>(&truth, None, None, tch::Reduction::Mean);
        if self.poison == Some(self.calls) {
            self.poisoned = Some(seed);
        }
        if self.poisoned == Some(seed) {
            loss *= f64::NAN;
        }
        if self.turned_from.is_some_and(|from| self.calls >= from) {
            loss = (logits.binary_cross_entropy_with_logits::<Tensor>(
                &(1.0f64 - &truth),
                None,
                None,
                tch::Reduction::Mean,
            ) + 1.0)
                * 1000.0;
        }
        self.calls += 1;
        if !self.cut_off {
            (&loss * scale).backward();
        }
        tch::no_grad(|| {
            let mean = inputs.mean_dim([0i64].as_slice(), false, Kind::Float);
            self.running.shallow_clone().copy_(&(&self.running * 0.9 + mean * 0.1));
            self.batches.shallow_clone().copy_(&(&self.batches + 1));
        });
        Ok(loss.detach().to_kind(Kind::Double))
    }

    fn evaluate(&mut self, observer: &dyn Observer) -> Result<BTreeMap<String, f64>, TrainError> {
        if observer.interrupted() {
            return Err(TrainError::Interrupted);
        }
        let all: Vec<usize> = (0..40).collect();
        let (inputs, truth) = self.held_out.tensors(&all);
        let mut logits = tch::no_grad(|| self.logits(&inputs, &Dropout::off()));
        if self.blind_from.is_some_and(|from| self.calls >= from) {
            logits = logits.mean_dim([0i64].as_slice(), true, Kind::Float).expand_as(&logits);
        }
        let range =
            logits.sigmoid().amax([0i64].as_slice(), false) - logits.sigmoid().amin([0i64].as_slice(), false);
        self.spread = Some(range.max().double_value(&[]));
        let right = logits.gt(0.0).eq_tensor(&truth.gt(0.5));
        let share = right.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        let perplexity = if self.unbounded { f64::INFINITY } else { 1.0 };
        Ok(BTreeMap::from([("accuracy".to_owned(), share), ("perplexity".to_owned(), perplexity)]))
    }

    fn evaluation_signs(&self) -> Option<EvaluationSigns> {
        let score_spread = self.spread;
        Some(EvaluationSigns { score_spread, metric: "accuracy", uninformed: 0.0 })
    }

    fn largest_logit(&self, (inputs, _): &Self::Batch) -> Option<f64> {
        tch::no_grad(|| self.logits(inputs, &Dropout::off())).abs().max().f_double_value(&[]).ok()
    }
}

/// libtorch's generator is one for the whole process: tests that draw from it must not run at the same time.
pub fn alone() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    // Tensors this small gain nothing from more, and threads that wait for each other lose much on a busy machine.
    plmicd_torch::set_intra_op_threads(1);
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the run to stop once it has been asked more than `after` times, and notes what it is told.
#[derive(Default)]
pub struct Watcher {
    pub after: Option<usize>,
    pub asked: Cell<usize>,
    pub warnings: RefCell<Vec<String>>,
    pub notes: RefCell<Vec<String>>,
    pub steps: RefCell<Vec<StepRecord>>,
}

impl Observer for Watcher {
    fn interrupted(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.after.is_some_and(|after| self.asked.get() > after)
    }

    fn step(&self, report: &StepReport) {
        self.steps.borrow_mut().push(report.record);
    }

    fn evaluating(&self, _done: u64, _total: u64) {}

    fn epoch(&self, _record: &EpochRecord, _best: bool) {}

    fn warn(&self, message: &str) {
        self.warnings.borrow_mut().push(message.to_owned());
    }

    fn note(&self, message: &str) {
        self.notes.borrow_mut().push(message.to_owned());
    }
}

/// 3 epochs of 75 points: 10 micro-batches and 4 updates each.
pub fn config() -> TrainerConfig {
    TrainerConfig {
        epochs: 3,
        max_steps: None,
        batch_size: 8,
        accumulation: 3,
        accumulation_rule: AccumulationRule::Batch,
        order: Order::SimilarLength,
        seed: 5,
        optimizer: OptimizerConfig {
            learning_rate: 0.01,
            head_learning_rate: Some(0.05),
            weight_decay: 0.01,
            ..Default::default()
        },
        best_metric: Some("accuracy".to_owned()),
        early_stopping_patience: 0,
        evaluate_every: None,
    }
}

pub fn trainer(dir: &Utf8Path, config: TrainerConfig) -> Trainer {
    let checkpoints = Checkpoints {
        dir: dir.to_owned(),
        every: Duration::from_secs(3600),
        kept: Kept::default(),
        identity: "toy".to_owned(),
    };
    Trainer { config, checkpoints, peers: None, reading: Reading::default() }
}

/// A whole run in a folder of its own.
pub fn train(config: TrainerConfig, dropout: f64, points: usize) -> (Toy, Outcome) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = Utf8Path::from_path(dir.path()).expect("UTF-8").to_owned();
    let mut toy = Toy::new(dropout);
    let outcome = trainer(&dir, config)
        .run(&mut toy, &Points::new(points), &Watcher::default())
        .expect("the run finishes");
    (toy, outcome)
}

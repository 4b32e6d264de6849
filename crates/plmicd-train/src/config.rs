//! Settings of a training run, as they appear in stage configs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate moves after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Falls in a straight line to 0 at the last planned update (PLM-ICD's).
    #[default]
    Linear,
    /// Stays where warm-up ended.
    Constant,
    /// Falls along half a cosine to 0 at the last planned update.
    Cosine,
}

/// Which AdamW.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdamVariant {
    /// PyTorch's: epsilon is added to the bias-corrected root; decay before the step.
    #[default]
    #[serde(rename = "torch")]
    Torch,
    /// Transformers 4.5.0's, which PLM-ICD's code used: epsilon is added to the uncorrected root, and the decay
    /// follows the step.
    #[serde(rename = "hf-4.5")]
    Hf45,
}

/// AdamW, its learning rates and their schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Peak learning rate of the encoder, and of everything where `head_learning_rate` is absent.
    pub learning_rate: f64,
    /// Peak learning rate of the layers that start from nothing (projection, label queries, outputs).
    /// They can take ten times the encoder's and more.
    pub head_learning_rate: Option<f64>,
    /// Decay rates of the running means of the gradient and of its square.
    pub betas: [f64; 2],
    /// Guards the division; see `variant` for where it is added.
    pub epsilon: f64,
    /// Decoupled weight decay per update, times the learning rate; never applied to biases and LayerNorm.
    pub weight_decay: f64,
    /// `torch`, or `hf-4.5` (with `epsilon = 1e-6`) to repeat the published training.
    pub variant: AdamVariant,
    /// Updates of linear warm-up from 0. Replaces `warmup_fraction` where given; PLM-ICD on MIMIC-III: 2000.
    pub warmup_steps: Option<u64>,
    /// Warm-up as a share of all planned updates.
    pub warmup_fraction: f64,
    /// Shape after warm-up: `linear`, `constant` or `cosine`.
    pub schedule: Schedule,
    /// The gradient is scaled down to this global norm where it is longer; 0 switches clipping off.
    pub max_grad_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 5e-5,
            head_learning_rate: None,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            variant: AdamVariant::Torch,
            warmup_steps: None,
            warmup_fraction: 0.1,
            schedule: Schedule::Linear,
            max_grad_norm: 1.0,
        }
    }
}

impl OptimizerConfig {
    /// What is out of range: field (dotted below this config) and what was expected.
    pub fn issues(&self) -> Vec<(String, String)> {
        let mut issues = Vec::new();
        let mut require = |ok: bool, field: &str, message: &str| {
            if !ok {
                issues.push((field.to_owned(), message.to_owned()));
            }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        require(positive(self.learning_rate), "learning_rate", "expected a number above 0");
        if let Some(rate) = self.head_learning_rate {
            require(positive(rate), "head_learning_rate", "expected a number above 0");
        }
        let rates = self.betas.iter().all(|beta| (0.0..1.0).contains(beta));
        require(rates, "betas", "expected two numbers from 0 up to, not including, 1");
        require(positive(self.epsilon), "epsilon", "expected a number above 0");
        let decay = self.weight_decay.is_finite() && self.weight_decay >= 0.0;
        require(decay, "weight_decay", "expected 0 or more");
        let share = (0.0..1.0).contains(&self.warmup_fraction);
        require(share, "warmup_fraction", "expected a share from 0 up to, not including, 1");
        let norm = self.max_grad_norm.is_finite() && self.max_grad_norm >= 0.0;
        require(norm, "max_grad_norm", "expected 0 (off) or a number above it");
        issues
    }
}

/// How the examples of an epoch are ordered and cut into batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Shuffled, then examples of similar length put into the same batch within large random groups, then the
    /// batches shuffled: less work is spent on short notes that wait for long ones.
    #[default]
    SimilarLength,
    /// Shuffled, cut into batches as they come (the published training).
    Shuffled,
    /// As stored, every epoch the same: for comparisons with other implementations.
    AsStored,
}

/// Which micro-batches make up an update, where `accumulation` is more than 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccumulationRule {
    /// Each `accumulation` micro-batches one after the other; the last update of an epoch has what is left. The
    /// gradient is that of one batch of all their examples.
    #[default]
    Batch,
    /// As the published code does: an update comes after micro-batches 1, 1 + n, 1 + 2n, ... of an epoch and after its
    /// last one, each micro-batch counts one n-th, and training ends at the number of updates planned for `batch`.
    Published,
}

impl AccumulationRule {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything that decides what a training run computes, apart from the task itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerConfig {
    /// Passes over the training examples, at most.
    pub epochs: u32,
    /// Updates at which to stop even in the middle of an epoch; the schedule then ends there too.
    pub max_steps: Option<u64>,
    /// Examples per micro-batch.
    pub batch_size: usize,
    /// Micro-batches per update.
    pub accumulation: usize,
    /// Which of them make up an update.
    #[serde(default, skip_serializing_if = "AccumulationRule::is_default")]
    pub accumulation_rule: AccumulationRule,
    /// Order of the examples.
    pub order: Order,
    /// Seed of everything random.
    pub seed: u64,
    /// Optimizer and schedule.
    pub optimizer: OptimizerConfig,
    /// Name of the dev metric (higher is better) whose best epoch is kept; the last epoch where absent.
    pub best_metric: Option<String>,
    /// Epochs without a better `best_metric` after which training stops; 0 never stops early.
    pub early_stopping_patience: u32,
    /// Updates between two evaluations inside an epoch, which only inform; none where absent.
    pub evaluate_every: Option<u64>,
}

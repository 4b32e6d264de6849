//! The command line of the benchmark.

use plmicd_nn::Precision;
use tch::Device;

use crate::Failure;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Train,
    Predict,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    /// Notes of a step; the device's usual number where absent.
    notes: Option<usize>,
    /// Tokens of a note, special tokens included.
    pub tokens: usize,
    pub segment: usize,
    pub labels: i64,
    pub layers: i64,
    pub hidden: i64,
    pub heads: i64,
    pub vocabulary: i64,
    /// Repetitions, of which the fastest counts.
    pub steps: u64,
    pub plain_steps: u64,
    /// Whether the straightforward way is measured, too.
    pub straightforward: bool,
    /// What the device is fast in where empty.
    precisions: Vec<Precision>,
    /// GiB that training may take in all; everything is kept where absent.
    pub memory: Option<f64>,
    pub threads: Option<usize>,
    pub device: String,
}

pub const USAGE: &str = "bench train|predict [--notes N] [--tokens N] [--segment N] [--labels N] [--layers N] \
    [--hidden N] [--heads N] [--vocabulary N] [--steps N] [--plain-steps N] [--no-plain] [--precision fp32,tf32,bf16] \
    [--memory GIB] [--threads N] [--device cpu|cuda]";

impl Options {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, Failure> {
        let mode = match words.next().as_deref() {
            Some("train") => Mode::Train,
            Some("predict") => Mode::Predict,
            _ => return Err(USAGE.into()),
        };
        let mut options = Options {
            mode,
            notes: None,
            tokens: 3072,
            segment: 128,
            labels: 8922,
            layers: 12,
            hidden: 768,
            heads: 12,
            vocabulary: 50_265,
            steps: 3,
            plain_steps: 2,
            straightforward: true,
            precisions: Vec::new(),
            memory: None,
            threads: None,
            device: "auto".to_owned(),
        };
        while let Some(word) = words.next() {
            if word == "--no-plain" {
                options.straightforward = false;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value; {USAGE}"))?;
            match word.as_str() {
                "--notes" => options.notes = Some(value.parse()?),
                "--tokens" => options.tokens = value.parse()?,
                "--segment" => options.segment = value.parse()?,
                "--labels" => options.labels = value.parse()?,
                "--layers" => options.layers = value.parse()?,
                "--hidden" => options.hidden = value.parse()?,
                "--heads" => options.heads = value.parse()?,
                "--vocabulary" => options.vocabulary = value.parse()?,
                "--steps" => options.steps = value.parse()?,
                "--plain-steps" => options.plain_steps = value.parse()?,
                "--memory" => options.memory = Some(value.parse()?),
                "--threads" => options.threads = Some(value.parse()?),
                "--device" => options.device = value,
                "--precision" => {
                    options.precisions = value.split(',').map(precision).collect::<Result<_, _>>()?;
                }
                other => return Err(format!("{other} is unknown; {USAGE}").into()),
            }
        }
        Ok(options)
    }

    /// Notes of a step: the paper's batch on a GPU, less where it takes long.
    pub fn notes(&self, device: Device) -> usize {
        self.notes.unwrap_or(if device == Device::Cpu { 2 } else { 8 })
    }

    /// The number formats that are measured. bf16 without instructions for it is emulated, and takes minutes.
    pub fn precisions(&self, device: Device) -> Vec<Precision> {
        if !self.precisions.is_empty() {
            return self.precisions.clone();
        }
        let has_bf16 = plmicd_torch::fast_bf16(device);
        let all =
            [(Precision::Fp32, true), (Precision::Tf32, device != Device::Cpu), (Precision::Bf16, has_bf16)];
        all.into_iter().filter_map(|(precision, is_fast)| is_fast.then_some(precision)).collect()
    }
}

fn precision(word: &str) -> Result<Precision, Failure> {
    match word {
        "fp32" => Ok(Precision::Fp32),
        "tf32" => Ok(Precision::Tf32),
        "bf16" => Ok(Precision::Bf16),
        other => Err(format!("precision {other} is unknown; {USAGE}").into()),
    }
}

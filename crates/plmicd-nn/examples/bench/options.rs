//! The command line of the benchmark.

use plmicd_nn::Precision;

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
    /// Notes of a step.
    pub notes: usize,
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
    pub precisions: Vec<Precision>,
    /// GiB that training may take in all; everything is kept where absent.
    pub memory: Option<f64>,
    pub threads: Option<usize>,
    pub device: String,
}

pub const USAGE: &str = "bench train|predict [--notes N] [--tokens N] [--segment N] [--labels N] [--layers N] \
    [--hidden N] [--heads N] [--vocabulary N] [--steps N] [--plain-steps N] [--no-plain] [--precision fp32,bf16] \
    [--memory GIB] [--threads N] [--device cpu|cuda]";

impl Options {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, Failure> {
        let mode = match words.next().as_deref() {
            Some("train") => Mode::Train,
            Some("predict") => Mode::Predict,
            _ => return Err(USAGE.into()),
        };
        // bf16 without instructions for it is emulated, and takes minutes.
        let mut options = Options {
            mode,
            notes: 2,
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
        let mut named = None;
        while let Some(word) = words.next() {
            if word == "--no-plain" {
                options.straightforward = false;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value; {USAGE}"))?;
            match word.as_str() {
                "--notes" => options.notes = value.parse()?,
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
                "--precision" => named = Some(value),
                other => return Err(format!("{other} is unknown; {USAGE}").into()),
            }
        }
        let named = named.unwrap_or_else(|| match options.device == "cpu" || options.device == "auto" {
            true if !plmicd_torch::cpu_capabilities().fast_bf16() => "fp32".to_owned(),
            _ => "fp32,bf16".to_owned(),
        });
        for word in named.split(',') {
            options.precisions.push(match word {
                "fp32" => Precision::Fp32,
                "bf16" => Precision::Bf16,
                other => return Err(format!("precision {other} is unknown; {USAGE}").into()),
            });
        }
        Ok(options)
    }
}

//! Times training steps and scoring at the paper's setting, with random weights, beside the same done the
//! straightforward way: `make bench-train`, `make bench-predict`, or
//! `cargo run --release -p plmicd-nn --example bench -- train --notes 8 --steps 3`.
#![allow(clippy::print_stdout)]

mod machine;
mod options;
mod straightforward;

use std::time::{Duration, Instant};

use machine::Peak;
use options::{Mode, Options};
use plmicd_nn::{
    AttentionPath, EncoderConfig, LabelTargets, ModelConfig, Padding, PhaseTimes, PlmIcd, Precision,
    SpecialTokens,
};
use plmicd_torch::{AdamW, AdamWVariant, FlatParameters, peak_memory, reset_peak_memory};
use straightforward::Straightforward;
use tch::{Device, Tensor};

type Failure = Box<dyn std::error::Error>;

const SPECIALS: SpecialTokens = SpecialTokens { cls: Some(0), sep: Some(2), pad: 1 };

fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    let device = plmicd_torch::resolve_device(&options.device)?;
    if let Some(threads) = options.threads {
        plmicd_torch::set_intra_op_threads(threads);
    }
    let capabilities = plmicd_torch::cpu_capabilities();
    println!(
        "libtorch {} on {device:?}, {} threads, CPU kernels for {}, bf16 instructions: {}",
        plmicd_torch::libtorch_version(),
        plmicd_torch::intra_op_threads(),
        capabilities.dispatch,
        if plmicd_torch::fast_bf16(device) { "yes" } else { "no" }
    );
    let (notes, precisions) = (options.notes(device), options.precisions(device));
    println!(
        "{} layers x {}, {} heads, vocabulary {}, {} labels; {} notes of {} tokens in segments of {}",
        options.layers,
        options.hidden,
        options.heads,
        options.vocabulary,
        options.labels,
        notes,
        options.tokens,
        options.segment,
    );
    let peak = Peak::measure(device, &precisions);
    println!("matrix products, {0} x {0}: {1}", peak.size, peak);
    let mut setting = Setting::new(&options, notes, precisions, device)?;
    match options.mode {
        Mode::Train => train(&options, &mut setting, &peak),
        Mode::Predict => predict(&options, &mut setting, &peak),
    }
}

/// What both ways compute on.
struct Setting {
    model: PlmIcd,
    notes: Vec<Vec<i32>>,
    labels: Vec<Vec<i32>>,
    precisions: Vec<Precision>,
    device: Device,
    /// Floating-point operations of the matrix products of one forward pass over all notes.
    forward_operations: f64,
}

impl Setting {
    fn new(
        options: &Options,
        count: usize,
        precisions: Vec<Precision>,
        device: Device,
    ) -> Result<Setting, Failure> {
        let encoder = EncoderConfig {
            pad_token_id: SPECIALS.pad,
            ..EncoderConfig::small(options.vocabulary, options.hidden, options.layers, options.heads)
        };
        let config = ModelConfig {
            max_length: options.tokens,
            segment_length: options.segment,
            padding: Padding::Mask,
            ..ModelConfig::default()
        };
        let model = PlmIcd::new(&encoder, config, options.labels as usize, 1, device)?;
        let token = |note: usize, i: usize| {
            3 + ((i * 7919 + note * 104_729) as i64 % (options.vocabulary - 3)) as i32
        };
        let notes: Vec<Vec<i32>> =
            (0..count).map(|note| (0..options.tokens - 2).map(|i| token(note, i)).collect()).collect();
        // 15 codes a note, as on MIMIC-III.
        let labels: Vec<Vec<i32>> = (0..count as i64)
            .map(|note| {
                let mut codes: Vec<i32> =
                    (0..15).map(|i| ((note * 613 + i * 587) % options.labels) as i32).collect();
                codes.sort_unstable();
                codes.dedup();
                codes
            })
            .collect();
        let (d, t, y) = (options.hidden as f64, options.tokens as f64, options.labels as f64);
        let layer = 2.0 * t * 12.0 * d * d + 4.0 * t * options.segment as f64 * d;
        let label_attention = 2.0 * t * d * d + 4.0 * y * t * d;
        let forward_operations = count as f64 * (options.layers as f64 * layer + label_attention);
        Ok(Setting { model, notes, labels, precisions, device, forward_operations })
    }

    fn targets(&self) -> Result<LabelTargets, Failure> {
        Ok(LabelTargets::from_indices(&self.labels, self.model.num_labels(), self.device)?)
    }

    fn tokens(&self) -> f64 {
        self.notes.iter().map(|note| note.len() + 2).sum::<usize>() as f64
    }

    /// One line of figures for work of `operations` done in `time`.
    fn report(&self, what: &str, time: Duration, operations: f64, peak: Option<f64>) {
        let memory = peak_memory(self.device).map_or(0, |bytes| bytes >> 20);
        let seconds = time.as_secs_f64();
        let rate = operations / seconds;
        let share = peak.map_or(String::new(), |peak| format!(" ({:.0} % of the peak)", 100.0 * rate / peak));
        println!(
            "{what}: {seconds:.2} s, {:.3} notes/s, {:.0} tokens/s, {:.1} GFLOP/s{share}, peak memory {memory} MiB",
            self.notes.len() as f64 / seconds,
            self.tokens() / seconds,
            rate / 1e9,
        );
    }
}

/// Waits for a GPU's queue, so that a clock read afterwards means something.
fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

fn timed<R>(device: Device, work: impl FnOnce() -> Result<R, Failure>) -> Result<(R, Duration), Failure> {
    wait(device);
    let start = Instant::now();
    let result = work()?;
    wait(device);
    Ok((result, start.elapsed()))
}

/// Our way: states kept, gradients and moments in flat buffers.
fn train(options: &Options, setting: &mut Setting, peak: &Peak) -> Result<(), Failure> {
    let operations = 3.0 * setting.forward_operations;
    let mut plain_time = None;
    if options.straightforward {
        reset_peak_memory(setting.device);
        let mut plain = Straightforward::new(&setting.model);
        setting.model.set_attention_path(AttentionPath::Reference);
        let mut best: Option<(Duration, f64)> = None;
        for step in 0..options.plain_steps {
            let (loss, time) = timed(setting.device, || {
                plain.train_step(&setting.model, &setting.notes, &setting.labels, step + 1)
            })?;
            if best.is_none_or(|(shortest, _)| time < shortest) {
                best = Some((time, loss));
            }
        }
        if let Some((time, loss)) = best {
            setting.report("straightforward fp32 step", time, operations, peak.of(Precision::Fp32));
            println!("  loss {loss:.6}");
            plain_time = Some(time);
        }
        setting.model.set_attention_path(AttentionPath::Fused);
    }

    let parameters = setting.model.parameters();
    let decays: Vec<bool> = parameters.iter().map(|p| p.decay).collect();
    let named = parameters.into_iter().map(|p| (p.name, p.tensor)).collect();
    let flat = FlatParameters::adopt(named, &decays)?;
    let (first, second) = (flat.values().zeros_like(), flat.values().zeros_like());
    if let Some(gib) = options.memory {
        // Weights, gradients and moments take 16 bytes a value.
        let fixed = 16.0 * flat.numel() as f64;
        setting.model.set_kept_bytes(Some((gib * f64::from(1 << 30) - fixed).max(0.0) as u64));
    }
    let rule = AdamW {
        variant: AdamWVariant::Torch,
        learning_rate: 5e-5,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    for precision in setting.precisions.clone() {
        setting.model.set_precision(precision);
        reset_peak_memory(setting.device);
        let mut best: Option<(Duration, [Duration; 2], PhaseTimes, f64)> = None;
        // On a GPU one more step that waits between phases tells how long each takes.
        let watched = u64::from(setting.device != Device::Cpu);
        for step in 1..=options.steps + watched {
            let is_watched = step > options.steps;
            setting.model.wait_after_phases(is_watched);
            let _ = setting.model.take_phase_times();
            let mut phases = [Duration::ZERO; 2];
            let (loss, time) = timed(setting.device, || {
                let start = Instant::now();
                let batch = setting.model.batch(&setting.notes, &SPECIALS)?;
                let truth = setting.targets()?;
                phases[0] = start.elapsed();
                flat.zero_grad();
                let loss = setting.model.train_step(&batch, &truth, 1.0, step)?;
                if is_watched {
                    wait(setting.device);
                }
                let start = Instant::now();
                let _ = plmicd_torch::clip_grad_norm(flat.grads(), 1.0)?;
                rule.step(&flat.values().detach(), flat.grads(), &first, &second, step)?;
                if is_watched {
                    wait(setting.device);
                }
                phases[1] = start.elapsed();
                Ok(f64::try_from(loss)?)
            })?;
            let times = setting.model.take_phase_times();
            match &mut best {
                Some((_, of_phases, of_model, _)) if is_watched => (*of_phases, *of_model) = (phases, times),
                Some((shortest, ..)) if time >= *shortest => {}
                _ => best = Some((time, phases, times, loss)),
            }
        }
        setting.model.wait_after_phases(false);
        let Some((time, [input, optimizer], phases, loss)) = best else { continue };
        setting.report(&format!("{} step", precision.as_str()), time, operations, peak.of(precision));
        println!(
            "  input {:.3} s, encoder forward {:.2} s and backward {:.2} s, label attention {:.2} s, optimizer {:.2} s; loss {loss:.6}",
            input.as_secs_f64(),
            phases.encoder_forward.as_secs_f64(),
            phases.encoder_backward.as_secs_f64(),
            phases.label_attention.as_secs_f64(),
            optimizer.as_secs_f64(),
        );
        if let Some(plain) = plain_time {
            println!(
                "  {:.2} times as fast as the straightforward step",
                plain.as_secs_f64() / time.as_secs_f64()
            );
        }
    }
    Ok(())
}

fn predict(options: &Options, setting: &mut Setting, peak: &Peak) -> Result<(), Failure> {
    let operations = setting.forward_operations;
    let mut plain: Option<(Duration, Tensor)> = None;
    if options.straightforward {
        reset_peak_memory(setting.device);
        setting.model.set_attention_path(AttentionPath::Reference);
        for _ in 0..options.plain_steps {
            let run = || Straightforward::scores(&setting.model, &setting.notes);
            let (scores, time) = timed(setting.device, run)?;
            if plain.as_ref().is_none_or(|(shortest, _)| time < *shortest) {
                plain = Some((time, scores));
            }
        }
        if let Some((time, _)) = &plain {
            setting.report("straightforward fp32 forward", *time, operations, peak.of(Precision::Fp32));
        }
        setting.model.set_attention_path(AttentionPath::Fused);
    }
    for precision in setting.precisions.clone() {
        setting.model.set_precision(precision);
        setting.model.hold_weights();
        reset_peak_memory(setting.device);
        let mut best: Option<(Duration, Duration, Tensor)> = None;
        for _ in 0..options.steps {
            let mut input = Duration::ZERO;
            let (scores, time) = timed(setting.device, || {
                let start = Instant::now();
                let batch = setting.model.batch(&setting.notes, &SPECIALS)?;
                input = start.elapsed();
                Ok(setting.model.scores(&batch))
            })?;
            if best.as_ref().is_none_or(|(shortest, ..)| time < *shortest) {
                best = Some((time, input, scores));
            }
        }
        let Some((time, input, scores)) = best else { continue };
        setting.report(&format!("{} forward", precision.as_str()), time, operations, peak.of(precision));
        println!("  input {:.3} s", input.as_secs_f64());
        if let Some((plain, expected)) = &plain {
            let off = f64::try_from((scores - expected).abs().max())?;
            println!(
                "  {:.2} times as fast as the straightforward forward; scores differ by {off:.1e} at most",
                plain.as_secs_f64() / time.as_secs_f64()
            );
        }
        setting.model.release_weights();
    }
    Ok(())
}

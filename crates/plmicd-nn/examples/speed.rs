//! Measures label attention in one pass against plain autograd, a small model's training step, and fp32 against
//! bf16 on the paper's full-length note:
//! `cargo run -p plmicd-nn --example speed [repetitions]`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use plmicd_nn::{
    EncoderConfig, LabelAttention, LabelTargets, Loss, ModelConfig, Padding, PlmIcd, Precision, Span,
    SpecialTokens,
};
use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let repetitions: u32 = std::env::args().nth(1).map_or(Ok(3), |text| text.parse())?;
    println!("libtorch {} on {} threads", plmicd_torch::libtorch_version(), plmicd_torch::intra_op_threads());
    label_attention(repetitions)?;
    small_step(repetitions * 5)?;
    full_length(repetitions)
}

/// The shortest of several runs, in seconds.
fn fastest(repetitions: u32, mut run: impl FnMut()) -> f64 {
    let times = (0..=repetitions).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// The paper's full-length note: 3,072 tokens, hidden size 768, 8,922 labels.
fn label_attention(repetitions: u32) -> Result<(), Box<dyn std::error::Error>> {
    let (tokens, hidden, labels) = (3072, 768, 8922);
    plmicd_torch::manual_seed(1);
    let draw = |shape: &[i64], scale: f64| {
        let drawn: Tensor = Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale;
        drawn.set_requires_grad(true)
    };
    let states = draw(&[tokens, hidden], 1.0);
    let weights = [
        draw(&[hidden, hidden], 0.02),
        draw(&[labels, hidden], 0.02),
        draw(&[labels, hidden], 0.02),
        draw(&[labels], 0.0),
    ];
    let [first, second, third, bias] = weights.each_ref().map(Tensor::shallow_clone);
    let head = LabelAttention::from_weights(Some(first), second, third, bias);
    let spans = [Span { start: 0, length: tokens }];
    let truth: Vec<i32> = (0..labels as i32).step_by(600).collect();
    let truth = LabelTargets::from_indices(&[truth], labels as usize, Device::Cpu)?;
    println!("label attention, forward and backward, {labels} labels x {tokens} tokens x {hidden}:");

    let autograd = fastest(repetitions, || {
        Loss::BinaryCrossEntropy.mean(&head.logits_reference(&states, &spans), truth.tensor()).backward();
    });
    println!("  plain autograd        {autograd:.3} s");
    let detached = states.detach();
    for block in [64, 128, 256, 512, 1024, 2048] {
        let one_pass = fastest(repetitions, || {
            head.one_pass(&detached, &spans, truth.tensor(), Loss::BinaryCrossEntropy, 1.0, block)
                .expect("the shapes fit");
        });
        let logits = fastest(repetitions, || drop(head.logits(&detached, &spans, block)));
        let ratio = autograd / one_pass;
        println!(
            "  one pass, blocks of {block:4}: {one_pass:.3} s ({ratio:.2}x); forward alone {logits:.3} s"
        );
    }
    Ok(())
}

/// A model trained from scratch: 4 layers, hidden size 128, 4 notes of 512 tokens, 50 labels.
fn small_step(repetitions: u32) -> Result<(), Box<dyn std::error::Error>> {
    println!("training step, 4 layers x 128, 4 notes of 512 tokens, 50 labels:");
    let specials = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
    let notes: Vec<Vec<i32>> =
        (0..4).map(|note| (0..510).map(|i| 4 + (i * 31 + note) % 7_000).collect()).collect();
    let truth = LabelTargets::from_indices(&[[0, 1], [2, 3], [4, 5], [6, 7]], 50, Device::Cpu)?;
    for (hidden_dropout, attention_dropout) in [(0.1, 0.1), (0.1, 0.0), (0.0, 0.0)] {
        let mut encoder = EncoderConfig::small(8_000, 128, 4, 4);
        (encoder.hidden_dropout_prob, encoder.attention_probs_dropout_prob) =
            (hidden_dropout, attention_dropout);
        let config = ModelConfig { max_length: 512, padding: Padding::Mask, ..ModelConfig::default() };
        let model = PlmIcd::new(&encoder, config, 50, 1, Device::Cpu)?;
        let batch = model.batch(&notes, &specials)?;
        let step = fastest(repetitions, || {
            model.train_step(&batch, &truth, 1.0, 1).expect("the batch fits");
        });
        let autograd =
            fastest(repetitions, || model.loss_reference(&batch, &truth, &Dropout::seeded(1)).backward());
        let scores = fastest(repetitions, || drop(model.scores(&batch)));
        println!(
            "  dropout {hidden_dropout}, in attention {attention_dropout}: {:.1} ms; by autograd {:.1} ms; scores {:.1} ms",
            1e3 * step,
            1e3 * autograd,
            1e3 * scores,
        );
    }
    Ok(())
}

/// The paper's model on one full-length note: RoBERTa-base's size, 3,072 tokens, 8,922 labels. fp32 and bf16 take
/// turns, so that whatever else the machine does slows both.
fn full_length(repetitions: u32) -> Result<(), Box<dyn std::error::Error>> {
    println!("12 layers x 768, one note of 3,072 tokens, 8,922 labels (training with dropout 0.1):");
    let specials = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
    let note: Vec<i32> = (0..3_070).map(|i| 4 + (i * 31) % 50_000).collect();
    let truth = LabelTargets::from_indices(&[[0, 17, 600]], 8_922, Device::Cpu)?;
    let encoder = EncoderConfig::small(50_265, 768, 12, 12);
    let config = ModelConfig { padding: Padding::Mask, ..ModelConfig::default() };
    let mut model = PlmIcd::new(&encoder, config, 8_922, 1, Device::Cpu)?;
    let batch = model.batch(&[note], &specials)?;
    let mut best = [[f64::INFINITY; 2]; 2];
    for _ in 0..repetitions {
        for (precision, best) in [Precision::Fp32, Precision::Bf16].into_iter().zip(&mut best) {
            model.set_precision(precision);
            best[0] = best[0].min(fastest(1, || {
                model.train_step(&batch, &truth, 1.0, 1).expect("the batch fits");
            }));
            best[1] = best[1].min(fastest(1, || drop(model.scores(&batch))));
        }
    }
    for (at, what) in ["forward and backward", "scores"].into_iter().enumerate() {
        let (fp32, bf16) = (best[0][at], best[1][at]);
        println!("  {what}: fp32 {fp32:.2} s, bf16 {bf16:.2} s ({:.2}x)", fp32 / bf16);
    }
    Ok(())
}

//! Times every metric on a matrix of MIMIC-III's test size (3,372 notes x 8,922 labels).
//!
//! `cargo run --release -p plmicd-metrics --example bench_metrics [NOTES LABELS]`
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use plmicd_metrics::{
    Scored, Truth, at_threshold, best_macro_f1, best_micro_f1, curve, curve_thresholds, ranking_and_auc,
};

fn main() {
    let mut sizes = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let (notes, labels) = (sizes.next().unwrap_or(3_372), sizes.next().unwrap_or(8_922));
    let (scores, rows) = matrix(notes, labels);
    let truth = Truth::new(labels, &rows).expect("ids ascend");
    println!(
        "{notes} notes x {labels} labels, {} true pairs, {} threads",
        truth.positives(),
        rayon::current_num_threads()
    );
    let scored = time("check", || Scored::new(&scores, &truth).expect("scores are probabilities"));
    let best = time("best threshold for micro F1", || best_micro_f1(&scored));
    time("best threshold for macro F1", || best_macro_f1(&scored));
    time("threshold curve", || curve(&scored, &curve_thresholds(&scored, best.threshold)));
    time("metrics at the threshold", || at_threshold(&scored, best.threshold));
    time("ranking and AUC", || ranking_and_auc(&scored, &[5, 8, 15]));
}

fn time<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = black_box(run());
    println!("{:>8.3} s  {what}", start.elapsed().as_secs_f64());
    result
}

/// Labels of falling frequency (16 a note on average) and scores such as a model gives: a label's frequency
/// on the log-odds scale, raised where it is true, with noise.
fn matrix(notes: usize, labels: usize) -> (Vec<f32>, Vec<Vec<i32>>) {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let harmonic: f32 = (1..=labels).map(|rank| 1.0 / rank as f32).sum();
    let frequency: Vec<f32> = (1..=labels).map(|rank| (16.0 / harmonic / rank as f32).min(0.6)).collect();
    let mut scores = Vec::with_capacity(notes * labels);
    let mut rows = Vec::with_capacity(notes);
    for _ in 0..notes {
        let mut row = Vec::new();
        for (label, &frequency) in (0i32..).zip(&frequency) {
            let is_true = uniform() < frequency;
            row.extend(is_true.then_some(label));
            let noise = 2.0 * (uniform() + uniform() + uniform() - 1.5);
            let logit = (frequency / (1.0 - frequency)).ln() + noise + if is_true { 3.0 } else { 0.0 };
            scores.push(1.0 / (1.0 + (-logit).exp()));
        }
        rows.push(row);
    }
    (scores, rows)
}

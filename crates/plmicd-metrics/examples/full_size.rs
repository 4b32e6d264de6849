//! Times the metrics at the size of MIMIC-III's test set, beside the same figures computed label by label the
//! straightforward way: `make bench-evaluate`, or `cargo run --release -p plmicd-metrics --example full_size
//! [NOTES [LABELS]]`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use plmicd_metrics::rules::{
    best_instance_f1, best_of_grid, best_top_k, edin_grid, per_label_thresholds, stability,
};
use plmicd_metrics::summary::{of_decisions, ranking_and_auc};
use plmicd_metrics::{
    Calibration, NoteTable, Predictions, Ranking, Rule, Scope, Scored, Truth, at_threshold, best_macro_f1,
    best_micro_f1, bootstrap, bootstrap_areas, compare, curve, curve_thresholds, label_average_precisions,
    micro_average_precision, precision_recall_curve,
};

fn main() {
    let mut sizes = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let (notes, labels) = (sizes.next().unwrap_or(3372), sizes.next().unwrap_or(8922));
    println!("{notes} notes x {labels} labels, {} threads", rayon::current_num_threads());
    let (scores, truth) = synthetic(notes, labels);
    let scored = Scored::new(&scores, &truth).expect("probabilities");

    println!("\nthreshold stage");
    let chosen = timed("  best micro F1, exactly", || best_micro_f1(&scored));
    timed("  best macro F1, exactly", || best_macro_f1(&scored));
    timed("  best instance F1, exactly", || best_instance_f1(&scored));
    timed("  grid of 100 points", || best_of_grid(&scored, &edin_grid()));
    let points = curve_thresholds(&scored, chosen.threshold);
    timed("  curve of 200 points", || curve(&scored, &points));
    timed("  threshold of each label", || per_label_thresholds(&scored, chosen.threshold, 5, 10.0));
    timed("  best number of labels", || best_top_k(&scored, 200));
    timed("  stability, 1,000 samples", || stability(&scored, &points, 1000, 1));

    println!("\nevaluate stage");
    let start = Instant::now();
    let predictions = Predictions::new(&scored, &Rule::Global(chosen.threshold));
    timed("  metrics of the decisions", || of_decisions(&predictions, &truth));
    timed("  the same at 0.5", || at_threshold(&scored, 0.5));
    timed("  ranking and areas", || ranking_and_auc(&scored, &[5, 8, 15]));
    timed("  average precision of each label", || label_average_precisions(&scored));
    timed("  average precision, curve", || {
        (micro_average_precision(&scored), precision_recall_curve(&scored, 200))
    });
    timed("  calibration", || Calibration::new(&scored, 15));
    println!("  all of it: {:.2} s", start.elapsed().as_secs_f64());
    let ranks = Ranking::new(&scored, &Scope::everything(&truth)).ranks().to_vec();
    let table = NoteTable::new(truth.clone(), predictions.clone(), Some(ranks)).expect("the same notes");
    timed("  bootstrap, 1,000 samples", || bootstrap(&table, &[5, 8, 15], 1000, 1));
    timed("  bootstrap of both AUCs, 1,000 samples", || bootstrap_areas(&scored, 1000, 1));
    timed("  randomisation test, 10,000 trials", || compare(&table, &table, &[5, 8, 15], 10_000, 1));

    println!("\nlabel by label, the straightforward way");
    let ours = Instant::now();
    let (fast, areas) = (at_threshold(&scored, 0.5), ranking_and_auc(&scored, &[8]));
    let ours = ours.elapsed().as_secs_f64();
    let theirs = Instant::now();
    let slow = straightforward(&scored);
    let theirs = theirs.elapsed().as_secs_f64();
    assert!((fast["micro_f1"] - slow.0).abs() < 1e-9 && (areas.0["macro_auc"] - slow.1).abs() < 1e-9);
    println!("  micro F1, macro AUC, P@8: {theirs:.2} s; ours with all their relatives: {ours:.2} s");
    println!("  ratio {:.1}", theirs / ours);
    if let Some(peak) = peak_memory() {
        println!("\npeak memory {peak} (the scores alone are {} MB)", scores.len() * 4 / 1_000_000);
    }
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = run();
    println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
    value
}

/// Long-tailed labels, about 16 a note; true pairs score high more often than others.
fn synthetic(notes: usize, labels: usize) -> (Vec<f32>, Truth) {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 / f64::from(1u32 << 24)).max(1e-9)
    };
    let mut scores = Vec::with_capacity(notes * labels);
    let mut rows: Vec<Vec<i32>> = Vec::with_capacity(notes);
    for _ in 0..notes {
        let mut row: Vec<i32> = (0..16)
            .map(|_| ((labels as f64).powf(uniform()) as i32 - 1).clamp(0, labels as i32 - 1))
            .collect();
        row.sort_unstable();
        row.dedup();
        let start = scores.len();
        scores.extend((0..labels).map(|_| (0.3 * uniform().powi(6)) as f32));
        for label in &row {
            scores[start + *label as usize] = uniform().powf(0.7) as f32;
        }
        rows.push(row);
    }
    (scores, Truth::new(labels, &rows).expect("ascending"))
}

/// Micro F1 at 0.5, macro AUC and P@8 as a first version would compute them: a column at a time, sorting.
fn straightforward(scored: &Scored<'_>) -> (f64, f64, f64) {
    let truth = scored.truth();
    let (notes, labels) = (truth.num_notes(), truth.num_labels());
    let mut dense = vec![false; notes * labels];
    for note in 0..notes {
        truth.row(note).iter().for_each(|label| dense[note * labels + *label as usize] = true);
    }
    let (mut hits, mut wrong, mut areas) = (0u64, 0u64, Vec::new());
    for label in 0..labels {
        let mut column: Vec<(f32, bool)> =
            (0..notes).map(|note| (scored.row(note)[label], dense[note * labels + label])).collect();
        hits += column.iter().filter(|(score, is_true)| *score > 0.5 && *is_true).count() as u64;
        wrong += column.iter().filter(|(score, is_true)| (*score > 0.5) != *is_true).count() as u64;
        let positives = column.iter().filter(|(_, is_true)| *is_true).count();
        if positives == 0 || positives == notes {
            continue;
        }
        column.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut below, mut points, mut at) = (0.0, 0.0, 0);
        while at < notes {
            let tied = column[at..].iter().take_while(|other| other.0 == column[at].0).count();
            let here = column[at..at + tied].iter().filter(|(_, is_true)| *is_true).count() as f64;
            let others = tied as f64 - here;
            points += here * (below + others / 2.0);
            below += others;
            at += tied;
        }
        areas.push(points / (positives as f64 * (notes - positives) as f64));
    }
    let mut precision = 0.0;
    for note in 0..notes {
        let mut order: Vec<usize> = (0..labels).collect();
        order.sort_by(|a, b| scored.row(note)[*b].total_cmp(&scored.row(note)[*a]));
        precision +=
            order[..8.min(labels)].iter().filter(|label| dense[note * labels + **label]).count() as f64;
    }
    let micro = 2.0 * hits as f64 / (2 * hits + wrong) as f64;
    (micro, areas.iter().sum::<f64>() / areas.len() as f64, precision / 8.0 / notes as f64)
}

fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(format!("{} MB", kib / 1000))
}

//! Against what the published programs make of the same numbers.
#![allow(clippy::print_stderr)] // A skipped test says why.

use camino::Utf8PathBuf;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::batch::WordBatch;
use super::convolution::{Convolution, ResidualBlock, convolved};
use super::descriptions::DescriptionEncoder;
use super::hierarchy::Hierarchy;
use crate::segment::Span;
use crate::{LabelAttention, Loss, Padding};

const TOLERANCE: f64 = 1e-5;

fn read(name: &str) -> Option<Value> {
    let path = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/heads").join(name);
    if !path.exists() {
        eprintln!("skipped: {path} is not here");
        return None;
    }
    Some(serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap())
}

/// Nested lists of numbers as one fp32 tensor.
fn tensor(value: &Value) -> Tensor {
    fn collect(value: &Value, depth: usize, shape: &mut Vec<i64>, flat: &mut Vec<f64>) {
        match value {
            Value::Array(values) => {
                if shape.len() == depth {
                    shape.push(values.len() as i64);
                }
                values.iter().for_each(|value| collect(value, depth + 1, shape, flat));
            }
            number => flat.push(number.as_f64().unwrap()),
        }
    }
    let (mut shape, mut flat) = (Vec::new(), Vec::new());
    collect(value, 0, &mut shape, &mut flat);
    Tensor::from_slice(&flat).view(shape.as_slice()).to_kind(Kind::Float)
}

#[track_caller]
fn assert_close(ours: &Tensor, expected: &Tensor) {
    assert_eq!(ours.size(), expected.size());
    let difference = f64::try_from((ours - expected).abs().max()).unwrap();
    assert!(difference < TOLERANCE, "{difference}");
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

fn words(value: &Value) -> Vec<Vec<i32>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn batch(notes: &[Vec<i32>], gap: usize) -> WordBatch {
    let notes: Vec<&[i32]> = notes.iter().map(Vec::as_slice).collect();
    WordBatch::new(&notes, 0, gap, Padding::Attend, Device::Cpu).unwrap()
}

/// CAML's layers with the golden weights.
fn caml(weights: &Value) -> (Tensor, Convolution, LabelAttention) {
    let weight = |name: &str| tensor(&weights[name]);
    let conv = Convolution::from_weights(weight("conv.weight"), Some(weight("conv.bias")));
    let head =
        LabelAttention::from_weights(None, weight("U.weight"), weight("final.weight"), weight("final.bias"));
    (weight("embed.weight"), conv, head)
}

/// States of notes as published: padded to each other, and padding attended.
fn caml_states(embed: &Tensor, conv: &Convolution, notes: &Value) -> (Tensor, Vec<Span>) {
    let batch = batch(&words(notes), conv.kernel() as usize / 2);
    convolved(conv, &Tensor::embedding(embed, &batch.ids, 0, false, false), &batch)
}

#[test]
fn caml_scores_notes_as_published() {
    let Some(file) = read("caml.json") else { return };
    let case = &file["caml_and_drcaml"];
    let (embed, conv, head) = caml(&case["weights"]);
    let (states, spans) = caml_states(&embed, &conv, &case["x"]);
    // An even width makes one state more than there are words.
    assert_eq!(spans[1].length, 8);
    let logits = head.logits(&states, &spans, 3);
    assert_close(&logits, &tensor(&case["logits"]));
    let expected = tensor(&case["attention"]);
    for (note, span) in spans.iter().enumerate() {
        let attention = head.attention(&states.narrow(0, span.start, span.length));
        assert_close(&attention, &expected.get(note as i64));
    }
    let loss = Loss::BinaryCrossEntropy.mean(&logits, &tensor(&case["y"]));
    assert!((number(&loss) - case["bce"].as_f64().unwrap()).abs() < TOLERANCE);
}

#[test]
fn dr_caml_adds_the_published_description_term() {
    let Some(file) = read("caml.json") else { return };
    let weights = &file["caml_and_drcaml"]["weights"];
    let weight = |name: &str| tensor(&weights[name]);
    let conv = Convolution::from_weights(weight("label_conv.weight"), Some(weight("label_conv.bias")));
    let encoder = DescriptionEncoder::from_weights(
        weight("desc_embedding.weight"),
        conv,
        weight("label_fc1.weight"),
        weight("label_fc1.bias"),
    );
    let lambda = file["caml_and_drcaml"]["lambda"].as_f64().unwrap();
    for name in ["caml_and_drcaml", "drcaml_single_label"] {
        let case = &file[name];
        let truth: Vec<Vec<f64>> = serde_json::from_value(case["y"].clone()).unwrap();
        let given: Vec<Vec<Vec<i32>>> = serde_json::from_value(case["desc"].clone()).unwrap();
        // Descriptions there belong to a note's labels in order, padded to each other within the note.
        let mut expected = 0.0;
        for (row, descriptions) in truth.iter().zip(&given) {
            let labels: Vec<i64> = (0i64..).zip(row).filter(|(_, t)| **t > 0.0).map(|(at, _)| at).collect();
            let mut by_label = vec![Vec::new(); row.len()];
            for (label, words) in labels.iter().zip(descriptions) {
                by_label[*label as usize] = words.clone();
            }
            let term = encoder.term(&weight("final.weight"), &[labels], &by_label, lambda).unwrap();
            expected += number(&term.unwrap()) / truth.len() as f64;
        }
        let published = case["loss_with_description_term"].as_f64().unwrap() - case["bce"].as_f64().unwrap();
        assert!((expected - published).abs() < TOLERANCE, "{name}: {expected} {published}");
    }
}

#[test]
fn joint_laat_scores_both_levels_as_published() {
    let Some(file) = read("heads.json") else { return };
    let case = &file["jointlaat_hierarchical"];
    let weight = |name: &str| tensor(&case["weights"][name]);
    let x = tensor(&case["x"]);
    let (b, t, d) = x.size3().unwrap();
    let (states, spans) =
        (x.view([b * t, d]), (0..b).map(|note| Span { start: note * t, length: t }).collect::<Vec<_>>());
    let attention = |level: usize| {
        let third = weight(&format!("attention.third_linears.{level}.weight"));
        LabelAttention::from_weights(
            Some(weight(&format!("attention.first_linears.{level}.weight"))),
            weight(&format!("attention.second_linears.{level}.weight")),
            third.narrow(1, 0, d).contiguous(),
            weight(&format!("attention.third_linears.{level}.bias")),
        )
    };
    let own = weight("attention.third_linears.1.weight");
    let hierarchy = Hierarchy::from_weights(
        attention(0),
        weight("projection_linears.0.weight"),
        own.narrow(1, d, own.size()[1] - d).contiguous(),
        Tensor::from_slice(&[0i64, 0, 1, 2, 2]),
    );
    let (coarse, full) = hierarchy.logits(&attention(1), &states, &spans, 2);
    assert_close(&coarse, &tensor(&case["logits_level0"]));
    assert_close(&full, &tensor(&case["logits_level1"]));
}

#[test]
fn residual_blocks_normalise_as_published() {
    let Some(file) = read("heads.json") else { return };
    for kernel in [3, 9] {
        let case = &file[format!("multirescnn_residual_block_k{kernel}_eval")];
        let block = ResidualBlock::from_weights(|name| tensor(&case["weights"][name]));
        let forward = |case: &Value, training| {
            let x = tensor(&case["x"]);
            let (b, e, t) = x.size3().unwrap();
            // In a row, with room between the notes.
            let gap = kernel / 2;
            let width = t + gap;
            let row = Tensor::zeros([e, gap + b * width], (Kind::Float, Device::Cpu));
            let mut inside = Vec::new();
            for note in 0..b {
                let start = gap + note * width;
                row.narrow(1, start, t).copy_(&x.get(note));
                inside.extend(start..start + t);
            }
            let states =
                block.forward(&row.unsqueeze(0), &Tensor::from_slice(&inside), training).squeeze_dim(0);
            let notes: Vec<Tensor> = (0..b).map(|note| states.narrow(1, gap + note * width, t)).collect();
            assert!(number(&states.narrow(1, gap + t, gap).abs().max()) == 0.0, "nothing between the notes");
            Tensor::stack(&notes, 0)
        };
        tch::no_grad(|| {
            assert_close(&forward(case, false), &tensor(&case["y"]));
            let training = &file[format!("multirescnn_residual_block_k{kernel}_train_nodrop")];
            let mut with_x = training.clone();
            if with_x["x"].is_null() {
                with_x["x"] = case["x"].clone();
            }
            assert_close(&forward(&with_x, true), &tensor(&training["y"]));
            for (name, buffer) in block.buffers() {
                let part = if name.ends_with("mean") { "running_mean_after" } else { "running_var_after" };
                assert_close(&buffer, &tensor(&training[part][name]));
            }
        });
    }
}

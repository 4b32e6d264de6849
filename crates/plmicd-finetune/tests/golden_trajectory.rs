//! Twelve updates of a tiny RoBERTa PLM-ICD in PyTorch, repeated through our trainer: `model/training-trajectory`
//! of the golden cases.
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::collections::BTreeMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_nn::{LabelTargets, ModelConfig, Padding, PlmIcd, SegmentBatch, Span, read_safetensors};
use plmicd_train::{
    AccumulationRule, BatchSource, Cause, Checkpoints, Kept, Observer, OptimizerConfig, Order, Parameter,
    Reading, Schedule, Task, TrainError, Trainer, TrainerConfig, Unobserved,
};
use tch::{Device, Tensor};

const SEGMENT: i64 = 16;

/// The stored micro-batches, one note each, in order.
struct Stored(Vec<[Vec<i64>; 2]>, Vec<Vec<f32>>);

impl BatchSource for Stored {
    type Batch = (SegmentBatch, LabelTargets);

    fn lengths(&self) -> Vec<u32> {
        vec![1; self.0.len()]
    }

    fn batch(&self, examples: &[usize]) -> Result<Self::Batch, Cause> {
        let [ids, mask] = &self.0[examples[0]];
        let labels = &self.1[examples[0]];
        let segments = SegmentBatch {
            ids: Tensor::from_slice(ids).view([-1, SEGMENT]),
            mask: Tensor::from_slice(mask).view([-1, SEGMENT]),
            spans: vec![Span { start: 0, length: ids.len() as i64 }],
            note_of_segment: vec![0; ids.len() / SEGMENT as usize],
            lengths: vec![mask.iter().sum::<i64>() as usize],
        };
        Ok((segments, LabelTargets::from_dense(&Tensor::from_slice(labels).view([1, -1]))?))
    }
}

struct Golden(PlmIcd);

impl Task for Golden {
    type Batch = (SegmentBatch, LabelTargets);

    fn parameters(&self) -> Vec<Parameter> {
        let parameters = self.0.parameters().into_iter();
        parameters
            .map(|p| Parameter { name: p.name, tensor: p.tensor, decay: p.decay, is_head: p.is_head })
            .collect()
    }

    fn train_step(&mut self, (segments, truth): Self::Batch, scale: f64, seed: u64) -> Result<Tensor, Cause> {
        Ok(self.0.train_step(&segments, &truth, scale, seed)?)
    }

    fn evaluate(&mut self, _observer: &dyn Observer) -> Result<BTreeMap<String, f64>, TrainError> {
        Ok(BTreeMap::new())
    }
}

fn numbers(expected: &serde_json::Value, name: &str) -> Vec<f64> {
    let values = expected[name].as_array().expect("a list");
    values.iter().map(|value| value.as_f64().expect("a number")).collect()
}

#[test]
fn twelve_updates_follow_pytorchs() {
    let golden =
        Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/model/training-trajectory");
    if !golden.exists() {
        eprintln!("skipped: no golden cases at {golden}");
        return;
    }
    let text = std::fs::read_to_string(golden.join("expected.json")).expect("expected.json");
    let expected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let config =
        ModelConfig { segment_length: SEGMENT as usize, padding: Padding::Attend, ..ModelConfig::default() };
    let (model, _) = PlmIcd::from_published(&golden, config, Device::Cpu).expect("the initial weights");

    let stored = read_safetensors(&golden.join("batches.safetensors")).expect("batches");
    let ints = |tensor: &Tensor| Vec::<i64>::try_from(tensor.flatten(0, -1)).expect("integers");
    let (mut notes, mut labels) = (Vec::new(), Vec::new());
    for step in 0..12 {
        for micro in 0..2 {
            let tensor = |name: &str| &stored[&format!("{step}.{micro}.{name}")];
            notes.push([ints(tensor("input_ids")), ints(tensor("attention_mask"))]);
            labels.push(Vec::<f32>::try_from(tensor("labels").flatten(0, -1)).expect("floats"));
        }
    }

    let dir = tempfile::tempdir().expect("a temporary folder");
    let trainer = Trainer {
        config: TrainerConfig {
            epochs: 1,
            max_steps: None,
            batch_size: 1,
            accumulation: 2,
            accumulation_rule: AccumulationRule::Batch,
            order: Order::AsStored,
            seed: 1,
            optimizer: OptimizerConfig {
                learning_rate: 1e-3,
                weight_decay: 0.01,
                warmup_steps: Some(4),
                schedule: Schedule::Linear,
                max_grad_norm: 0.0,
                ..OptimizerConfig::default()
            },
            best_metric: None,
            early_stopping_patience: 0,
            evaluate_every: None,
        },
        checkpoints: Checkpoints {
            dir: Utf8PathBuf::from_path_buf(dir.path().to_owned()).expect("UTF-8"),
            every: Duration::from_secs(3600),
            kept: Kept::default(),
            identity: String::new(),
        },
        peers: None,
        reading: Reading::default(),
    };
    let mut task = Golden(model);
    let outcome = trainer.run(&mut task, &Stored(notes, labels), &Unobserved).expect("trains");

    let steps = outcome.steps.records();
    let rates = numbers(&expected, "step_learning_rates");
    let norms = numbers(&expected, "step_gradient_norms");
    let losses = numbers(&expected, "step_losses");
    assert_eq!(steps.len(), losses.len());
    for (step, ((loss, rate), norm)) in steps.iter().zip(losses.into_iter().zip(rates).zip(norms)) {
        assert!(
            (step.loss - loss).abs() < 1e-5,
            "update {}: loss {} instead of {loss}",
            step.step,
            step.loss
        );
        assert!((step.learning_rate - rate).abs() < 1e-12, "update {}", step.step);
        assert!(
            (step.gradient_norm - norm).abs() < 1e-4,
            "update {}: {} {norm}",
            step.step,
            step.gradient_norm
        );
    }
    let last = read_safetensors(&golden.join("final.safetensors")).expect("final weights");
    let parameters = task.0.parameters();
    assert_eq!(parameters.len(), last.len());
    for parameter in parameters {
        let wanted = &last[&parameter.name];
        let difference = (parameter.tensor.detach() - wanted).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{} differs by {difference}", parameter.name);
    }
}

//! A GPU against the CPU: the same models, the same losses, gradients and scores up to rounding. `make test-gpu` runs it;
//! without a GPU nothing is compared, and that is said.
#![allow(clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{difference, word_config};
use plmicd_nn::{
    Attention, EncoderConfig, IcdModel, LabelTargets, ModelConfig, ModelType, Padding, PlmIcd, Pooling,
    Precision, SpecialTokens, WordArchitecture, WordModel, WordModelConfig,
};
use plmicd_torch::{AdamW, AdamWVariant, Fetch, FlatParameters, upload};
use tch::{Device, Kind, Tensor};

const SPECIALS: SpecialTokens = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
const WORDS: SpecialTokens = SpecialTokens { cls: None, sep: None, pad: 0 };
const LABELS: usize = 23;

/// Whether products may round to TF32 is a setting of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn gpu() -> Option<(Device, MutexGuard<'static, ()>)> {
    match plmicd_torch::resolve_device("auto") {
        Ok(device) if device.is_cuda() => {
            Some((device, ALONE.lock().unwrap_or_else(PoisonError::into_inner)))
        }
        other => {
            eprintln!("skipped: no GPU ({other:?})");
            None
        }
    }
}

fn encoder(family: ModelType, dropout: f64) -> EncoderConfig {
    EncoderConfig {
        model_type: family,
        hidden_dropout_prob: dropout,
        attention_probs_dropout_prob: dropout,
        initializer_range: 0.3,
        ..EncoderConfig::small(50, 64, 2, 4)
    }
}

fn plm_icd(family: ModelType, pooling: Pooling, attention: Attention, device: Device) -> PlmIcd {
    let config = ModelConfig {
        segment_length: 8,
        max_length: 64,
        pooling,
        attention,
        padding: Padding::Mask,
        ..ModelConfig::default()
    };
    PlmIcd::new(&encoder(family, 0.0), config, LABELS, 1, device).unwrap()
}

fn word_model(architecture: WordArchitecture, device: Device) -> IcdModel {
    let config = WordModelConfig { vocab_size: 50, max_length: 64, ..word_config(architecture) };
    IcdModel::Word(Box::new(WordModel::new(config, LABELS, 1, device).unwrap()))
}

/// Every kind of model, by name.
fn models(device: Device) -> Vec<(String, IcdModel)> {
    let all = [Attention::Laat, Attention::Caml, Attention::BertXml, Attention::Cross, Attention::None];
    let mut kinds = Vec::new();
    for attention in all {
        for pooling in [Pooling::Segment, Pooling::SegmentMax, Pooling::Whole] {
            kinds.push((ModelType::Roberta, pooling, attention));
        }
        kinds.push((ModelType::Longformer, Pooling::Whole, attention));
    }
    for pooling in [Pooling::ClsMean, Pooling::ClsMax, Pooling::Hierarchical] {
        kinds.push((ModelType::Bert, pooling, Attention::None));
    }
    let encoders = kinds.into_iter().map(|(family, pooling, attention)| {
        let name = format!("{family:?} {pooling:?} {attention:?}");
        (name, IcdModel::PlmIcd(Box::new(plm_icd(family, pooling, attention, device))))
    });
    let words = [WordArchitecture::BiLstm, WordArchitecture::Cnn, WordArchitecture::MultiResCnn]
        .map(|architecture| (format!("{architecture:?}"), word_model(architecture, device)));
    encoders.chain(words).collect()
}

fn notes() -> Vec<Vec<i32>> {
    [30, 6, 13].iter().map(|&length| (0..length).map(|i| 4 + (i * 7 + length) % 46).collect()).collect()
}

fn truth(device: Device) -> LabelTargets {
    LabelTargets::from_indices(&[vec![0, 5, 22], vec![7], vec![]], LABELS, device).unwrap()
}

fn specials(model: &IcdModel) -> &'static SpecialTokens {
    match model {
        IcdModel::PlmIcd(_) => &SPECIALS,
        IcdModel::Word(_) => &WORDS,
    }
}

/// Loss, scores and gradients of a step, on the CPU.
fn step(model: &mut IcdModel) -> (f64, Tensor, BTreeMap<String, Tensor>) {
    let batch = model.batch(&notes(), specials(model)).unwrap();
    let scores = model.scores(&batch).unwrap().to_device(Device::Cpu);
    let truth = truth(model.device());
    let loss = model.train_step(&batch, &truth, 1.0, 1).unwrap().double_value(&[]);
    let gradients = model
        .parameters()
        .into_iter()
        .filter(|parameter| parameter.tensor.grad().defined())
        .map(|parameter| (parameter.name, parameter.tensor.grad().to_device(Device::Cpu)))
        .collect();
    (loss, scores, gradients)
}

#[test]
fn every_model_computes_the_same() {
    let Some((gpu, _alone)) = gpu() else { return };
    for ((name, mut here), (_, mut there)) in models(Device::Cpu).into_iter().zip(models(gpu)) {
        for model in [&mut here, &mut there] {
            model.set_precision(Precision::Fp32);
        }
        let (loss, scores, gradients) = step(&mut here);
        let (found_loss, found_scores, found_gradients) = step(&mut there);
        assert!((found_loss - loss).abs() < 1e-5, "{name}: {found_loss} {loss}");
        assert!(difference(&found_scores, &scores) < 1e-4, "{name}");
        assert_eq!(found_gradients.len(), gradients.len(), "{name}");
        for (parameter, gradient) in &gradients {
            let largest = f64::try_from(gradient.abs().max()).unwrap();
            let off = difference(&found_gradients[parameter], gradient);
            assert!(off < 1e-3 * largest.max(1e-2), "{name} {parameter}: {off:e} of {largest:e}");
        }
    }
}

#[test]
fn bf16_and_tf32_stay_near_fp32() {
    let Some((gpu, _alone)) = gpu() else { return };
    for precision in [Precision::Tf32, Precision::Bf16] {
        for ((name, mut here), (_, mut there)) in models(Device::Cpu).into_iter().zip(models(gpu)) {
            here.set_precision(Precision::Fp32);
            there.set_precision(precision);
            let (loss, scores, _) = step(&mut here);
            let (found_loss, found_scores, gradients) = step(&mut there);
            assert!((found_loss - loss).abs() < 0.05 * loss.max(1.0), "{precision:?} {name}");
            let off = difference(&found_scores, &scores);
            // Weights of 0.3 make attention sharp: far more so than trained ones.
            assert!(off < 0.15, "{precision:?} {name}: {off}");
            assert!(gradients.values().all(|gradient| gradient.kind() == Kind::Float), "{name}");
        }
    }
}

/// Notes of several parts, with dropout: the same seed drops the same, whatever is computed twice in parts of one size.
#[test]
fn what_is_computed_twice_on_a_gpu_is_computed_alike() {
    let Some((gpu, _alone)) = gpu() else { return };
    let config =
        ModelConfig { segment_length: 8, max_length: 6000, padding: Padding::Mask, ..ModelConfig::default() };
    let mut model = PlmIcd::new(&encoder(ModelType::Roberta, 0.1), config, LABELS, 1, gpu).unwrap();
    let notes: Vec<Vec<i32>> =
        [5301, 300, 2405].iter().map(|&length| (0..length).map(|i| 4 + (i * 7) % 46).collect()).collect();
    let batch = model.batch(&notes, &SPECIALS).unwrap();
    // Parts stay as small as they may be, and with this one of them is kept.
    let two_parts = 2 * model.kept_bytes_of(2048);
    let mut loss = |kept: u64, seed: u64| {
        model.set_kept_bytes(Some(kept));
        model.train_step(&batch, &truth(gpu), 1.0, seed).unwrap().double_value(&[])
    };
    let first = loss(0, 1);
    assert!(first.is_finite());
    for kept in [0, two_parts] {
        assert!((loss(kept, 1) - first).abs() < 1e-5);
    }
    assert!((loss(0, 2) - first).abs() > 1e-6);
}

#[test]
fn the_optimizer_takes_the_same_step() {
    let Some((gpu, _alone)) = gpu() else { return };
    let after = |device: Device, variant: AdamWVariant| {
        let value = Tensor::zeros([1000], (Kind::Float, Device::Cpu));
        plmicd_torch::fill_normal(&value, 0.0, 1.0, 3).unwrap();
        let parameter = value.to_device(device).set_requires_grad(true);
        let flat = FlatParameters::adopt(vec![("w".to_owned(), parameter)], &[true]).unwrap();
        let (first, second) = (flat.values().zeros_like(), flat.values().zeros_like());
        let rule = AdamW {
            variant,
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        };
        for step in 1..=3 {
            tch::no_grad(|| flat.grads().shallow_clone().copy_(&(flat.values() * step as f64)));
            let norm = plmicd_torch::clip_grad_norm(flat.grads(), 1.0).unwrap();
            let norm = Fetch::begin(&norm).unwrap().wait().unwrap();
            assert!(norm.device() == Device::Cpu && norm.double_value(&[]) > 1.0);
            rule.step(&flat.values().detach(), flat.grads(), &first, &second, step).unwrap();
        }
        flat.values().detach().to_device(Device::Cpu)
    };
    for variant in [AdamWVariant::Torch, AdamWVariant::Hf45] {
        assert!(difference(&after(gpu, variant), &after(Device::Cpu, variant)) < 1e-5, "{variant:?}");
    }
}

#[test]
fn what_goes_to_a_gpu_comes_back() {
    let Some((gpu, _alone)) = gpu() else { return };
    let values: Vec<f32> = (0..100_000).map(|i| i as f32).collect();
    let there = upload(&values, &[100, 1000], gpu);
    let back = Fetch::begin(&(&there * 2.0)).unwrap();
    // Queued later, into the same memory perhaps.
    let _ = &there * 3.0;
    assert_eq!(Vec::<f32>::try_from(back.wait().unwrap().flatten(0, 1)).unwrap()[99_999], 199_998.0);
}

//! AdamW against the traces of the published implementations, and what flat kernels promise.
#![allow(clippy::print_stderr)]

use std::path::Path;

use plmicd_torch::{AdamW, AdamWVariant, clip_grad_norm, grad_norm, intra_op_threads, set_intra_op_threads};
use tch::{Device, Kind, Tensor};

/// The objective of the traces: `sum c * (p - t)^2` in double precision, decreased by `steps` of AdamW with the
/// recorded learning rates.
fn follow_trace(name: &str, variant: AdamWVariant) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/golden/heads/optimizer_and_schedule.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no golden folder");
        return;
    };
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let case = &golden[name];
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let values = Tensor::from_slice(&[0.5f64, -1.25, 2.0, 0.001]);
    let target = Tensor::from_slice(&[0.0f64, 1.0, -1.0, 0.0]);
    let curvature = Tensor::from_slice(&[1.0f64, 0.25, 3.0, 0.0001]);
    let (first, second) = (values.zeros_like(), values.zeros_like());
    let trace = case["trace"].as_array().unwrap();
    assert_eq!(trace.len(), 8);
    for (index, entry) in trace.iter().enumerate() {
        let difference = &values - &target;
        let loss = f64::try_from((&curvature * &difference * &difference).sum(Kind::Double)).unwrap();
        assert!((loss - number(&entry["loss_before"])).abs() < 1e-12 * loss, "{name}, step {index}");
        let grads = &curvature * difference * 2.0;
        let adamw = AdamW {
            variant,
            learning_rate: number(&entry["lr_used"]),
            beta1: number(&case["betas"][0]),
            beta2: number(&case["betas"][1]),
            epsilon: number(&case["eps"]),
            weight_decay: number(&case["weight_decay"]),
        };
        adamw.step(&values, &grads, &first, &second, index as u64 + 1).unwrap();
        let after: Vec<f64> = Vec::try_from(&values).unwrap();
        for (ours, theirs) in after.iter().zip(entry["param_after"].as_array().unwrap()) {
            assert!((ours - number(theirs)).abs() < 1e-12, "{name}, step {index}: {ours} and {theirs}");
        }
    }
}

#[test]
fn adamw_of_transformers_4_5() {
    follow_trace("hf_adamw_4_5_0", AdamWVariant::Hf45);
}

#[test]
fn adamw_of_transformers_4_5_with_decay() {
    follow_trace("hf_adamw_4_5_0_wd", AdamWVariant::Hf45);
}

#[test]
fn adamw_of_pytorch() {
    follow_trace("torch_adamw", AdamWVariant::Torch);
}

fn norm(norm: Result<Tensor, plmicd_torch::TorchError>) -> f64 {
    norm.unwrap().double_value(&[])
}

fn settings() -> AdamW {
    AdamW {
        variant: AdamWVariant::Torch,
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    }
}

#[test]
fn the_same_bytes_for_any_number_of_threads() {
    plmicd_torch::manual_seed(5);
    let numel = 1_000_003;
    let start = Tensor::randn([numel], (Kind::Float, Device::Cpu));
    let grads = Tensor::randn([numel], (Kind::Float, Device::Cpu));
    let before = intra_op_threads();
    let run = |threads| {
        set_intra_op_threads(threads);
        let values = start.copy();
        let (first, second) = (values.zeros_like(), values.zeros_like());
        for step in 1..4 {
            settings().step(&values, &grads, &first, &second, step).unwrap();
        }
        (Vec::<f32>::try_from(values).unwrap(), norm(grad_norm(&grads)).to_bits())
    };
    let (one, four) = (run(1), run(4));
    set_intra_op_threads(before);
    assert!(one == four);
}

#[test]
fn single_precision_follows_the_formula() {
    let values = Tensor::from_slice(&[1.0f32, -2.0]);
    let grads = Tensor::from_slice(&[0.5f32, -0.25]);
    let (first, second) = (values.zeros_like(), values.zeros_like());
    settings().step(&values, &grads, &first, &second, 1).unwrap();
    // After the first step the bias-corrected ratio is the gradient's sign.
    let expected = [1.0 * (1.0 - 1e-5) - 1e-3, -2.0 * (1.0 - 1e-5) + 1e-3];
    for (ours, theirs) in Vec::<f32>::try_from(values).unwrap().iter().zip(expected) {
        assert!((f64::from(*ours) - theirs).abs() < 1e-6);
    }
}

#[test]
fn clipping_scales_to_the_norm_and_leaves_small_gradients() {
    let grads = Tensor::from_slice(&[3.0f32, 4.0]);
    assert_eq!(norm(clip_grad_norm(&grads, 10.0)), 5.0);
    assert_eq!(Vec::<f32>::try_from(&grads).unwrap(), [3.0, 4.0]);
    assert_eq!(norm(clip_grad_norm(&grads, 1.0)), 5.0);
    assert!((norm(grad_norm(&grads)) - 1.0).abs() < 1e-6);
    for wrong in [f32::NAN, f32::INFINITY] {
        let broken = Tensor::from_slice(&[wrong, 1.0]);
        assert!(!norm(clip_grad_norm(&broken, 1.0)).is_finite());
        assert_eq!(broken.double_value(&[1]), 1.0);
    }
}

#[test]
fn a_step_without_a_finite_gate_changes_nothing() {
    let tensors =
        [[1.0f32, 2.0], [0.5, 0.25], [0.1, 0.1], [0.2, 0.2]].map(|values| Tensor::from_slice(&values));
    let before = tensors.each_ref().map(Tensor::copy);
    let step = |gate: f64| {
        let [values, grads, first, second] = &tensors;
        settings().step_if_finite(&Tensor::from(gate), values, grads, first, second, 1).unwrap();
    };
    step(f64::NAN);
    step(f64::INFINITY);
    assert!(tensors == before);
    step(3.0);
    assert!(tensors[0] != before[0] && tensors[2] != before[2] && tensors[3] != before[3]);
}

#[test]
fn misfits_are_refused() {
    let two = Tensor::zeros([2], (Kind::Float, Device::Cpu));
    let three = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    assert!(settings().step(&two, &three, &two, &two, 1).is_err());
    assert!(settings().step(&two, &two, &two, &two, 0).is_err());
    let strided = Tensor::zeros([2, 4], (Kind::Float, Device::Cpu)).transpose(0, 1);
    assert!(grad_norm(&strided).is_err());
}

//! Twelve updates of the published training recipe: the same losses, gradient norms and final weights.

mod common;

use common::{difference, golden, published_batch, published_model, tensors};
use plmicd_nn::{LabelTargets, MaskConstant, ModelConfig};
use plmicd_torch::{AdamW, AdamWVariant, FlatParameters, grad_norm};

#[test]
fn the_published_trajectory_is_followed() {
    let folder = "model/training-trajectory";
    let Some(expected) = golden(&format!("{folder}/expected.json")) else { return };
    let expected: serde_json::Value =
        serde_json::from_str(&fs_err::read_to_string(expected).unwrap()).unwrap();
    let batches = tensors(&format!("{folder}/batches.safetensors")).unwrap();
    let config =
        ModelConfig { segment_length: 16, mask_constant: MaskConstant::Modern, ..ModelConfig::default() };
    let model = published_model(folder, config).unwrap();
    let parameters = model.parameters();
    let decays: Vec<bool> = parameters.iter().map(|parameter| parameter.decay).collect();
    let named = parameters.iter().map(|p| (p.name.clone(), p.tensor.shallow_clone())).collect();
    let flat = FlatParameters::adopt(named, &decays).unwrap();
    let (first, second) = (flat.values().zeros_like(), flat.values().zeros_like());

    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let accumulation = expected["gradient_accumulation"].as_i64().unwrap();
    for step in 0..expected["total_steps"].as_u64().unwrap() {
        let at = |list: &str| number(&expected[list][step as usize]);
        flat.zero_grad();
        let mut loss = 0.0;
        for micro in 0..accumulation {
            let part = |name: &str| &batches[&format!("{step}.{micro}.{name}")];
            let batch = published_batch(part("input_ids"), part("attention_mask"));
            let truth = LabelTargets::from_dense(part("labels")).unwrap();
            let scale = 1.0 / accumulation as f64;
            loss += scale * model.train_step(&batch, &truth, scale, 0).unwrap().double_value(&[]);
        }
        assert!((loss - at("step_losses")).abs() < 1e-5, "step {step}: loss {loss}");
        let norm = grad_norm(flat.grads()).unwrap().double_value(&[]);
        assert!((norm - at("step_gradient_norms")).abs() < 1e-5, "step {step}: gradient norm {norm}");
        for (range, decay) in flat.runs(|entry| entry.decay) {
            let part = |buffer: &tch::Tensor| buffer.narrow(0, range.start, range.end - range.start);
            let adamw = AdamW {
                variant: AdamWVariant::Torch,
                learning_rate: at("step_learning_rates"),
                beta1: number(&expected["betas"][0]),
                beta2: number(&expected["betas"][1]),
                epsilon: number(&expected["eps"]),
                weight_decay: if decay { number(&expected["weight_decay"]) } else { 0.0 },
            };
            adamw
                .step(&part(flat.values()), &part(flat.grads()), &part(&first), &part(&second), step + 1)
                .unwrap();
        }
    }
    let last = tensors(&format!("{folder}/final.safetensors")).unwrap();
    assert_eq!(last.len(), model.parameters().len());
    for parameter in model.parameters() {
        let off = difference(&parameter.tensor, &last[&parameter.name]);
        assert!(off < 1e-4, "{}: {off:e}", parameter.name);
    }
}

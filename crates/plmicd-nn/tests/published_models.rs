//! Whole tiny models against what the published implementation makes of them.

mod common;

use std::collections::BTreeMap;

use common::{difference, published_batch, published_model, scalar, tensors};
use plmicd_nn::{
    AttentionPath, LabelTargets, MaskConstant, ModelConfig, ModelType, PlmIcd, Pooling, SegmentBatch,
};
use plmicd_torch::Dropout;
use tch::Tensor;

const TOLERANCE: f64 = 1e-5;

fn config() -> ModelConfig {
    // The golden models ran under a current Transformers.
    ModelConfig {
        segment_length: 16,
        max_length: 4096,
        mask_constant: MaskConstant::Modern,
        ..ModelConfig::default()
    }
}

/// The settings of a golden folder: what its `note.json` calls the mode.
fn config_of(name: &str) -> ModelConfig {
    let (mode, encoder) = match name {
        "roberta-laat-split" => ("laat-split", ModelType::Roberta),
        "bert-cls-sum" => ("cls-sum", ModelType::Bert),
        "bert-cls-max" => ("cls-max", ModelType::Bert),
        "longformer-laat" => ("laat", ModelType::Longformer),
        _ => ("laat", ModelType::Roberta),
    };
    config().with_published_mode(mode, encoder).expect("a published mode")
}

struct Case {
    model: PlmIcd,
    io: BTreeMap<String, Tensor>,
    batch: SegmentBatch,
    truth: LabelTargets,
}

fn case(name: &str) -> Option<Case> {
    let io = tensors(&format!("model/{name}/io.safetensors"))?;
    let model = published_model(&format!("model/{name}"), config_of(name))?;
    let (ids, mask) = (&io["input_ids"], &io["attention_mask"]);
    let batch = match model.config().pooling {
        // A note is one sequence.
        Pooling::Whole => published_batch(&ids.flatten(1, 2).unsqueeze(1), &mask.flatten(1, 2).unsqueeze(1)),
        _ => published_batch(ids, mask),
    };
    let truth = LabelTargets::from_dense(&io["labels"]).unwrap();
    Some(Case { model, io, batch, truth })
}

fn close(name: &str, what: &str, ours: &Tensor, theirs: &Tensor) {
    let off = difference(ours, theirs);
    assert!(off < TOLERANCE, "{name}: {what} is off by {off:e}");
}

fn check_forward(name: &str) {
    let Some(mut case) = case(name) else { return };
    for path in [AttentionPath::Fused, AttentionPath::Reference] {
        case.model.set_attention_path(path);
        let states = case.model.encoder().hidden_states(&case.batch.ids, &case.batch.mask);
        if let Some(first) = case.io.get("first_layer_hidden_state") {
            close(name, "the first layer", &states[1], first);
        }
        close(name, "the last layer", &states[states.len() - 1], &case.io["last_hidden_state"]);
        for block in [1, 5, 37, 512] {
            case.model.set_label_block(block);
            close(name, "logits", &case.model.logits(&case.batch), &case.io["logits"]);
        }
        close(name, "scores", &case.model.scores(&case.batch), &case.io["logits"].sigmoid());
        let loss = scalar(&case.model.loss_reference(&case.batch, &case.truth, &Dropout::off()));
        assert!((loss - scalar(&case.io["loss"])).abs() < TOLERANCE, "{name}: loss {loss}");
    }
}

fn check_gradients(name: &str) {
    let Some(mut case) = case(name) else { return };
    let given: Vec<String> =
        case.io.keys().filter_map(|key| key.strip_prefix("grad.")).map(str::to_owned).collect();
    assert!(given.len() >= 7, "{name}: {given:?}");
    for block in [8, 512] {
        case.model.set_label_block(block);
        for mut parameter in case.model.parameters() {
            parameter.tensor.zero_grad();
        }
        let loss = case.model.train_step(&case.batch, &case.truth, 1.0, 0).unwrap().double_value(&[]);
        assert!((loss - scalar(&case.io["loss"])).abs() < TOLERANCE, "{name}: loss {loss}");
        let parameters = case.model.parameters();
        for wanted in &given {
            let parameter =
                parameters.iter().find(|parameter| parameter.name == *wanted).expect("a known name");
            close(name, wanted, &parameter.tensor.grad(), &case.io[&format!("grad.{wanted}")]);
        }
    }
}

#[test]
fn roberta_forward() {
    check_forward("roberta-laat");
}

#[test]
fn roberta_gradients() {
    check_gradients("roberta-laat");
}

#[test]
fn roberta_with_a_single_note_forward() {
    check_forward("roberta-laat-single");
}

#[test]
fn roberta_with_a_single_note_gradients() {
    check_gradients("roberta-laat-single");
}

#[test]
fn bert_forward() {
    check_forward("bert-laat");
}

#[test]
fn bert_gradients() {
    check_gradients("bert-laat");
}

#[test]
fn logits_per_segment_forward() {
    check_forward("roberta-laat-split");
}

#[test]
fn logits_per_segment_gradients() {
    check_gradients("roberta-laat-split");
}

#[test]
fn summed_start_tokens_forward() {
    check_forward("bert-cls-sum");
}

#[test]
fn summed_start_tokens_gradients() {
    check_gradients("bert-cls-sum");
}

#[test]
fn highest_start_tokens_forward() {
    check_forward("bert-cls-max");
}

#[test]
fn highest_start_tokens_gradients() {
    check_gradients("bert-cls-max");
}

#[test]
fn longformer_forward() {
    check_forward("longformer-laat");
}

/// For segments of padding alone the mask constant matters to BERT and not to RoBERTa, all of whose padding
/// shares one position.
#[test]
fn the_mask_constant_of_transformers_4_5_differs_for_bert_alone() {
    for (name, differs) in [("bert-laat", true), ("roberta-laat", false)] {
        let Some(case) = case(name) else { return };
        let older = ModelConfig { mask_constant: MaskConstant::Published, ..config() };
        let Some(older) = published_model(&format!("model/{name}"), older) else { return };
        let off = difference(&older.logits(&case.batch), &case.io["logits"]);
        assert_eq!(off > TOLERANCE, differs, "{name}: {off:e}");
    }
}

//! Every pooling with every attention: one pass against plain autograd, independence of the batch, files.

mod common;

use std::collections::BTreeMap;

use camino::Utf8Path;
use common::{difference, scalar};
use plmicd_nn::{
    Attention, AttentionPath, EncoderConfig, LabelTargets, ModelConfig, ModelType, NamedParameter, Padding,
    PlmIcd, Pooling, Precision, SpecialTokens,
};
use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

const SPECIALS: SpecialTokens = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
const LABELS: usize = 23;

/// Every combination that can be built: family of the encoder, pooling, attention.
fn combinations() -> Vec<(ModelType, Pooling, Attention)> {
    let all = [Attention::Laat, Attention::Caml, Attention::BertXml, Attention::Cross, Attention::None];
    let mut found = Vec::new();
    for attention in all {
        for pooling in [Pooling::Segment, Pooling::SegmentMax, Pooling::Whole] {
            found.push((ModelType::Bert, pooling, attention));
        }
        found.push((ModelType::Longformer, Pooling::Whole, attention));
    }
    for pooling in [Pooling::ClsMean, Pooling::ClsSum, Pooling::ClsMax, Pooling::Hierarchical] {
        found.push((ModelType::Bert, pooling, Attention::None));
    }
    found.push((ModelType::Roberta, Pooling::ClsMean, Attention::None));
    found
}

fn encoder(family: ModelType) -> EncoderConfig {
    EncoderConfig {
        model_type: family,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        // Weights large enough for attention to be far from uniform.
        initializer_range: 0.3,
        ..EncoderConfig::small(50, 16, 2, 2)
    }
}

fn model(family: ModelType, pooling: Pooling, attention: Attention, padding: Padding) -> PlmIcd {
    let config = ModelConfig {
        segment_length: 8,
        max_length: 64,
        pooling,
        attention,
        padding,
        ..ModelConfig::default()
    };
    PlmIcd::new(&encoder(family), config, LABELS, 1, Device::Cpu).unwrap()
}

fn notes() -> Vec<Vec<i32>> {
    [30, 6, 13].iter().map(|&length| (0..length).map(|i| 4 + (i * 7 + length) % 46).collect()).collect()
}

fn truth() -> LabelTargets {
    LabelTargets::from_indices(&[vec![0, 5, 22], vec![7], vec![]], LABELS, Device::Cpu).unwrap()
}

/// The gradients, each then cleared.
fn gradients(model: &PlmIcd) -> BTreeMap<String, Tensor> {
    let take = |parameter: NamedParameter| {
        let gradient = parameter.tensor.grad();
        assert!(gradient.defined(), "{}", parameter.name);
        let copy = gradient.copy();
        let mut tensor = parameter.tensor;
        tensor.zero_grad();
        (parameter.name, copy)
    };
    model.parameters().into_iter().map(take).collect()
}

#[test]
fn a_step_equals_autograd_in_loss_and_every_gradient() {
    for (family, pooling, attention) in combinations() {
        for padding in [Padding::Attend, Padding::Mask] {
            let case = format!("{family} {pooling:?} {attention:?} {padding:?}");
            let mut model = model(family, pooling, attention, padding);
            let batch = model.batch(&notes(), &SPECIALS).unwrap();
            let scale = 0.25;
            let reference = model.loss_reference(&batch, &truth(), &Dropout::seeded(1));
            (&reference * scale).backward();
            let expected = gradients(&model);
            for block in [7, 512] {
                model.set_label_block(block);
                let loss = model.train_step(&batch, &truth(), scale, 1).unwrap().double_value(&[]);
                assert!((loss - scalar(&reference)).abs() < 1e-5, "{case} {block}");
                for (name, gradient) in gradients(&model) {
                    let off = difference(&gradient, &expected[&name]);
                    let largest = f64::try_from(expected[&name].abs().max()).unwrap();
                    assert!(off < 1e-5 * largest.max(0.1), "{case} {block} {name}: {off:e} of {largest:e}");
                }
            }
        }
    }
}

#[test]
fn inference_in_blocks_equals_the_reference() {
    for (family, pooling, attention) in combinations() {
        for padding in [Padding::Attend, Padding::Mask] {
            let mut model = model(family, pooling, attention, padding);
            let batch = model.batch(&notes(), &SPECIALS).unwrap();
            let loss = scalar(&model.loss_reference(&batch, &truth(), &Dropout::off()));
            for block in [1, 4, 100] {
                model.set_label_block(block);
                let logits = model.logits(&batch);
                assert!(!logits.requires_grad());
                let ours = scalar(&model.config().loss.mean(&logits, truth().tensor()));
                assert!((ours - loss).abs() < 1e-5, "{family} {pooling:?} {attention:?}: {ours} for {loss}");
            }
        }
    }
}

#[test]
fn masked_notes_do_not_depend_on_their_batch() {
    let notes = notes();
    for (family, pooling, attention) in combinations() {
        let off = |padding| {
            let model = model(family, pooling, attention, padding);
            let together = model.logits(&model.batch(&notes, &SPECIALS).unwrap());
            let offs = (0..notes.len()).map(|note| {
                let alone = model.logits(&model.batch(&notes[note..=note], &SPECIALS).unwrap());
                difference(&alone.get(0), &together.get(note as i64))
            });
            offs.fold(0.0, f64::max)
        };
        let (mask, attend) = (off(Padding::Mask), off(Padding::Attend));
        assert!(mask < 2e-5, "{family} {pooling:?} {attention:?}: {mask:e}");
        assert!(attend > 1e-4, "{family} {pooling:?} {attention:?}: {attend:e}");
    }
}

#[test]
fn a_saved_model_is_the_same_model() {
    for (family, pooling, attention) in combinations() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let model = model(family, pooling, attention, Padding::Mask);
        model.save(path).unwrap();
        let loaded = PlmIcd::load(path, Device::Cpu).unwrap();
        assert_eq!(loaded.config(), model.config());
        let batch = model.batch(&notes(), &SPECIALS).unwrap();
        assert!(model.logits(&batch).equal(&loaded.logits(&batch)), "{family} {pooling:?} {attention:?}");
        let config: serde_json::Value =
            serde_json::from_str(&fs_err::read_to_string(path.join("config.json")).unwrap()).unwrap();
        let mode = model.config().published_mode(family);
        assert_eq!(config.get("model_mode").and_then(|mode| mode.as_str()), mode);
        if family == ModelType::Longformer {
            assert_eq!(config["attention_window"], serde_json::json!([8, 8]));
        }
    }
}

#[test]
fn bf16_stays_near_fp32_with_fp32_gradients() {
    for (family, pooling, attention) in combinations() {
        let case = format!("{family} {pooling:?} {attention:?}");
        let mut model = model(family, pooling, attention, Padding::Mask);
        let batch = model.batch(&notes(), &SPECIALS).unwrap();
        let scores = model.scores(&batch);
        let loss = model.train_step(&batch, &truth(), 1.0, 1).unwrap().double_value(&[]);
        let _ = gradients(&model);
        model.set_precision(Precision::Bf16);
        let low = model.scores(&batch);
        assert_eq!(low.kind(), Kind::Float);
        let off = difference(&low, &scores);
        assert!(off > 0.0 && off < 0.1, "{case} scores: {off:e}");
        let low_loss = model.train_step(&batch, &truth(), 1.0, 1).unwrap().double_value(&[]);
        assert!((low_loss - loss).abs() < 0.03 * loss, "{case}: {low_loss} for {loss}");
        assert!(gradients(&model).values().all(|gradient| gradient.kind() == Kind::Float));
    }
}

#[test]
fn the_sliding_window_equals_full_attention_under_its_mask() {
    for padding in [Padding::Attend, Padding::Mask] {
        let mut model = model(ModelType::Longformer, Pooling::Whole, Attention::Laat, padding);
        let batch = model.batch(&notes(), &SPECIALS).unwrap();
        let loss = model.train_step(&batch, &truth(), 1.0, 1).unwrap().double_value(&[]);
        let (windows, ours) = (model.encoder().hidden_states(&batch.ids, &batch.mask), gradients(&model));
        model.set_attention_path(AttentionPath::Reference);
        let expected = model.train_step(&batch, &truth(), 1.0, 1).unwrap().double_value(&[]);
        assert!((loss - expected).abs() < 1e-6);
        let full = model.encoder().hidden_states(&batch.ids, &batch.mask);
        assert_eq!((full.len(), full[0].size()), (3, batch.ids.size().into_iter().chain([16]).collect()));
        for (a, b) in windows.iter().zip(&full) {
            assert!(difference(a, b) < 1e-5);
        }
        for (name, gradient) in gradients(&model) {
            let largest = f64::try_from(gradient.abs().max()).unwrap();
            assert!(difference(&gradient, &ours[&name]) < 1e-5 * largest.max(0.1), "{name}");
        }
    }
}

/// A token of a Longformer's first layer is moved by the tokens of its window and by the first one, by no other.
#[test]
fn a_window_ends_where_it_should() {
    let model = model(ModelType::Longformer, Pooling::Whole, Attention::Laat, Padding::Mask);
    let ids = Tensor::from_slice(&(4i64..36).collect::<Vec<_>>()).unsqueeze(0);
    let mask = ids.ones_like();
    let states = |ids: &Tensor| model.encoder().hidden_states(ids, &mask)[1].get(0);
    let before = states(&ids);
    for changed in [0i64, 10, 31] {
        let other = ids.copy();
        let _ = other.narrow(1, changed, 1).fill_(40);
        let moved: Vec<bool> =
            (0..32).map(|t| difference(&states(&other).get(t), &before.get(t)) > 1e-6).collect();
        for (token, moved) in (0i64..).zip(moved) {
            let near = (token - changed).abs() <= 4 || token == 0 || changed == 0;
            assert_eq!(moved, near, "{changed} {token}");
        }
    }
}

#[test]
fn memory_of_a_pass_does_not_depend_on_the_labels() {
    // What a pass keeps is bounded by the label block: the same note with a hundred times the labels, in blocks of
    // the same size, gives gradients of the queries alone that grow.
    let config = ModelConfig {
        segment_length: 8,
        max_length: 64,
        attention: Attention::Cross,
        label_block: 16,
        padding: Padding::Mask,
        ..ModelConfig::default()
    };
    let model = PlmIcd::new(&encoder(ModelType::Bert), config, 100 * LABELS, 1, Device::Cpu).unwrap();
    let batch = model.batch(&notes(), &SPECIALS).unwrap();
    let truth = LabelTargets::from_indices(&[vec![0], vec![700], vec![]], 100 * LABELS, Device::Cpu).unwrap();
    let reference = model.loss_reference(&batch, &truth, &Dropout::seeded(1));
    reference.backward();
    let expected = gradients(&model);
    let loss = model.train_step(&batch, &truth, 1.0, 1).unwrap().double_value(&[]);
    assert!((loss - scalar(&reference)).abs() < 1e-5);
    for (name, gradient) in gradients(&model) {
        let largest = f64::try_from(expected[&name].abs().max()).unwrap();
        assert!(difference(&gradient, &expected[&name]) < 1e-5 * largest.max(0.1), "{name}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refuse = |family, change: fn(&mut ModelConfig)| {
        let mut config = ModelConfig { segment_length: 8, max_length: 64, ..ModelConfig::default() };
        change(&mut config);
        PlmIcd::new(&encoder(family), config, LABELS, 1, Device::Cpu).unwrap_err().to_string()
    };
    let message = refuse(ModelType::Longformer, |_| {});
    assert!(message.contains("a Longformer reads them whole: set pooling = \"whole\""), "{message}");
    let message = refuse(ModelType::Longformer, |c| {
        c.pooling = Pooling::Whole;
        c.segment_length = 7;
    });
    assert!(message.contains("it must be even"), "{message}");
    let message = refuse(ModelType::Bert, |c| c.pooling = Pooling::ClsMean);
    assert!(message.contains("set attention = \"none\""), "{message}");
}

#[test]
fn fresh_poolers_are_reported_and_pretrained_ones_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path()).unwrap();
    let config = |pooling, attention| ModelConfig {
        segment_length: 8,
        max_length: 64,
        pooling,
        attention,
        ..ModelConfig::default()
    };
    let bare = config(Pooling::Segment, Attention::Laat);
    let pooled = config(Pooling::ClsSum, Attention::None);
    let load = || PlmIcd::from_hf_encoder(path, pooled.clone(), 4, 8, Device::Cpu).unwrap();
    PlmIcd::new(&encoder(ModelType::Bert), bare, 3, 5, Device::Cpu).unwrap().save(path).unwrap();
    assert_eq!(load().1.missing, ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]);
    let source = PlmIcd::new(&encoder(ModelType::Bert), pooled.clone(), 3, 5, Device::Cpu).unwrap();
    source.save(path).unwrap();
    let (model, report) = load();
    assert!(report.missing.is_empty(), "{report}");
    let pooler = |model: &PlmIcd| {
        let found = model.parameters().into_iter().find(|p| p.name == "bert.pooler.dense.weight").unwrap();
        assert!(!found.is_head);
        found.tensor
    };
    assert!(pooler(&model).equal(&pooler(&source)));
}

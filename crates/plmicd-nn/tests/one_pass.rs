//! One pass over label blocks against plain autograd, and what masking padding promises.

mod common;

use std::collections::BTreeMap;

use common::{difference, scalar};
use plmicd_nn::{
    AttentionPath, EncoderConfig, LabelAttention, LabelTargets, Loss, ModelConfig, Padding, PlmIcd,
    Precision, Projection, Span, SpecialTokens,
};
use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

const SPECIALS: SpecialTokens = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
const LABELS: usize = 23;

fn model(padding: Padding, projection: Projection) -> PlmIcd {
    let mut encoder = EncoderConfig::small(50, 16, 2, 2);
    (encoder.hidden_dropout_prob, encoder.attention_probs_dropout_prob) = (0.0, 0.0);
    // Weights large enough for attention to be far from uniform.
    encoder.initializer_range = 0.3;
    let config =
        ModelConfig { segment_length: 8, max_length: 64, padding, projection, ..ModelConfig::default() };
    PlmIcd::new(&encoder, config, LABELS, 1, Device::Cpu).unwrap()
}

fn notes() -> Vec<Vec<i32>> {
    [30, 6, 13].iter().map(|&length| (0..length).map(|i| 4 + (i * 7 + length) % 46).collect()).collect()
}

fn truth() -> LabelTargets {
    LabelTargets::from_indices(&[vec![0, 5, 22], vec![7], vec![]], LABELS, Device::Cpu).unwrap()
}

fn gradients(model: &PlmIcd) -> BTreeMap<String, Tensor> {
    let take = |parameter: plmicd_nn::NamedParameter| {
        let gradient = parameter.tensor.grad();
        // A parameter that takes no part (rows of unused positions aside) has no gradient at all.
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
    for padding in [Padding::Attend, Padding::Mask] {
        for projection in [Projection::Tanh, Projection::Identity] {
            let mut model = model(padding, projection);
            let batch = model.batch(&notes(), &SPECIALS).unwrap();
            let scale = 0.25;
            // Segments of nothing but padding round otherwise in libtorch's fused attention, which these keep.
            if padding == Padding::Mask {
                model.set_attention_path(AttentionPath::Reference);
            }
            let reference = model.loss_reference(&batch, &truth(), &Dropout::seeded(1));
            (&reference * scale).backward();
            let expected = gradients(&model);
            model.set_attention_path(AttentionPath::Fused);
            for block in [1, 5, 23, 512] {
                model.set_label_block(block);
                let loss = model.train_step(&batch, &truth(), scale, 1).unwrap().double_value(&[]);
                assert!((loss - scalar(&reference)).abs() < 1e-6, "{padding:?} {projection:?} {block}");
                for (name, gradient) in gradients(&model) {
                    let off = difference(&gradient, &expected[&name]);
                    let largest = f64::try_from(expected[&name].abs().max()).unwrap();
                    assert!(
                        off < 1e-5 * largest.max(1e-2),
                        "{padding:?} {projection:?} {block} {name}: {off:e}"
                    );
                }
            }
        }
    }
}

/// Several groups of notes and parts of a group, dropout in every place.
#[test]
fn what_is_computed_twice_is_computed_alike() {
    for (precision, r_drop) in [(Precision::Fp32, 0.0), (Precision::Bf16, 0.0), (Precision::Fp32, 2.0)] {
        let encoder = EncoderConfig::small(50, 16, 2, 2);
        let config = ModelConfig {
            segment_length: 8,
            max_length: 4500,
            padding: Padding::Mask,
            r_drop,
            ..ModelConfig::default()
        };
        let mut model = PlmIcd::new(&encoder, config, LABELS, 1, Device::Cpu).unwrap();
        model.set_precision(precision);
        let notes: Vec<Vec<i32>> =
            [4301, 300, 2405].iter().map(|&length| (0..length).map(|i| 4 + (i * 7) % 46).collect()).collect();
        let batch = model.batch(&notes, &SPECIALS).unwrap();
        let loss = model.train_step(&batch, &truth(), 1.0, 1).unwrap().double_value(&[]);
        let expected = gradients(&model);
        let one_part = model.kept_bytes_of(1536);
        for most in [Some(0), Some(2 * one_part), None] {
            model.set_kept_bytes(most);
            let again = model.train_step(&batch, &truth(), 1.0, 1).unwrap().double_value(&[]);
            assert_eq!(again.to_bits(), loss.to_bits(), "{precision:?} {r_drop} {most:?}");
            for (name, gradient) in gradients(&model) {
                assert!(gradient.equal(&expected[&name]), "{precision:?} {r_drop} {most:?} {name}");
            }
        }
        assert_ne!(
            model.train_step(&batch, &truth(), 1.0, 2).unwrap().double_value(&[]).to_bits(),
            loss.to_bits()
        );
    }
}

#[test]
fn gradients_of_several_steps_add_up() {
    let model = model(Padding::Mask, Projection::Tanh);
    let batch = model.batch(&notes(), &SPECIALS).unwrap();
    let _ = model.train_step(&batch, &truth(), 1.0, 1).unwrap();
    let once = gradients(&model);
    let _ = model.train_step(&batch, &truth(), 0.5, 1).unwrap();
    let _ = model.train_step(&batch, &truth(), 0.5, 1).unwrap();
    for (name, twice) in gradients(&model) {
        assert!(difference(&twice, &once[&name]) < 1e-6, "{name}");
    }
}

#[test]
fn masked_notes_do_not_depend_on_their_batch() {
    let notes = notes();
    let alone_and_together = |padding| {
        let model = model(padding, Projection::Tanh);
        let together = model.scores(&model.batch(&notes, &SPECIALS).unwrap());
        let offs: Vec<f64> = (0..notes.len())
            .map(|note| {
                let alone = model.scores(&model.batch(&notes[note..=note], &SPECIALS).unwrap());
                difference(&alone.get(0), &together.get(note as i64))
            })
            .collect();
        offs.into_iter().fold(0.0, f64::max)
    };
    assert!(alone_and_together(Padding::Mask) < 1e-6);
    // As published they do.
    assert!(alone_and_together(Padding::Attend) > 1e-4);
}

#[test]
fn inference_in_blocks_equals_the_reference() {
    let mut model = model(Padding::Mask, Projection::Tanh);
    let batch = model.batch(&notes(), &SPECIALS).unwrap();
    let states = model.encoder().forward(&batch.ids, &batch.mask, &Dropout::off()).flatten(0, 1);
    let expected = model.label_attention().unwrap().logits_reference(&states, &batch.spans);
    for block in [1, 4, 23, 100] {
        model.set_label_block(block);
        let logits = model.logits(&batch);
        assert!(!logits.requires_grad());
        assert!(difference(&logits, &expected) < 1e-5);
        assert!(difference(&model.scores(&batch), &expected.sigmoid()) < 1e-6);
    }
}

/// In double precision the two paths agree to rounding, so single precision's difference is rounding, too.
#[test]
fn double_precision_agrees_to_rounding() {
    let normal = |shape: &[i64], seed| {
        let values = Tensor::empty(shape, (Kind::Double, Device::Cpu));
        plmicd_torch::fill_normal(&values, 0.0, 1.0, seed).unwrap();
        values
    };
    let draw = |shape: &[i64], seed| normal(shape, seed).set_requires_grad(true);
    let (states, first, second) = (draw(&[40, 6], 1), draw(&[6, 6], 2), draw(&[9, 6], 3));
    let (third, bias) = (draw(&[9, 6], 4), draw(&[9], 5));
    let targets = normal(&[2, 9], 6).greater(0.0).to_kind(Kind::Double);
    let spans = [Span { start: 0, length: 21 }, Span { start: 24, length: 16 }];
    let clone = |tensor: &Tensor| tensor.shallow_clone();
    let head = LabelAttention::from_weights(Some(clone(&first)), clone(&second), clone(&third), clone(&bias));

    let reference = Loss::BinaryCrossEntropy.mean(&head.logits_reference(&states, &spans), &targets);
    reference.backward();
    let weights = [&first, &second, &third, &bias];
    let expected: Vec<Tensor> = weights.iter().map(|weight| weight.grad().copy()).collect();
    weights.iter().for_each(|weight| weight.shallow_clone().zero_grad());

    let pass = head.one_pass(&states.detach(), &spans, &targets, Loss::BinaryCrossEntropy, 1.0, 4).unwrap();
    assert!(difference(&pass.loss, &reference) < 1e-13);
    assert!(difference(&pass.grad_states, &states.grad()) < 1e-13);
    for (weight, expected) in weights.iter().zip(&expected) {
        assert!(difference(&weight.grad(), expected) < 1e-13);
    }
}

#[test]
fn targets_must_fit() {
    let model = model(Padding::Mask, Projection::Tanh);
    let batch = model.batch(&notes(), &SPECIALS).unwrap();
    let two = LabelTargets::from_indices(&[vec![0], vec![1]], LABELS, Device::Cpu).unwrap();
    assert!(
        model.train_step(&batch, &two, 1.0, 1).unwrap_err().to_string().contains("3 notes and 23 labels")
    );
}

#[test]
fn bf16_stays_near_fp32_with_fp32_gradients() {
    for padding in [Padding::Attend, Padding::Mask] {
        let mut model = model(padding, Projection::Tanh);
        model.set_label_block(5);
        let batch = model.batch(&notes(), &SPECIALS).unwrap();
        let scores = model.scores(&batch);
        let loss = model.train_step(&batch, &truth(), 1.0, 1).unwrap().double_value(&[]);
        let expected = gradients(&model);

        model.set_precision(Precision::Bf16);
        let low = model.scores(&batch);
        assert_eq!(low.kind(), Kind::Float);
        // Not the same bits: bf16 was really computed in.
        let off = difference(&low, &scores);
        assert!(off > 0.0 && off < 0.05, "{padding:?} scores: {off:e}");
        let low_loss = model.train_step(&batch, &truth(), 1.0, 1).unwrap().double_value(&[]);
        assert!((low_loss - loss).abs() < 0.02 * loss, "{padding:?}: {low_loss} for {loss}");
        for (name, gradient) in gradients(&model) {
            assert_eq!(gradient.kind(), Kind::Float, "{name}");
            // A key's bias moves every score of a query alike: its gradient is 0 but for rounding.
            if name.ends_with("key.bias") {
                continue;
            }
            let norm = |tensor: &Tensor| f64::try_from(tensor.norm()).unwrap();
            let off = norm(&(&gradient - &expected[&name])) / norm(&expected[&name]);
            assert!(off < 0.1, "{padding:?} {name}: {off:e}");
        }

        model.set_precision(Precision::Fp32);
        assert!(model.scores(&batch).equal(&scores), "{padding:?}");
    }
}

//! What training may be told beside the published recipe: losses, their reduction, frozen layers, biases, centred
//! descriptions.

mod common;

use std::collections::BTreeMap;

use common::{difference, scalar};
use plmicd_nn::{
    Asymmetric, DescriptionInit, EncoderConfig, Focal, LabelTargets, Loss, ModelConfig, NamedParameter,
    Padding, PlmIcd, PositiveWeight, Reduction, SegmentBatch, SpecialTokens,
};
use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

const SPECIALS: SpecialTokens = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
const LABELS: usize = 7;

fn model(change: impl Fn(&mut ModelConfig)) -> PlmIcd {
    let mut config =
        ModelConfig { segment_length: 8, max_length: 32, padding: Padding::Mask, ..ModelConfig::default() };
    config.label_block = 3;
    change(&mut config);
    let mut encoder = EncoderConfig::small(40, 12, 2, 3);
    encoder.hidden_dropout_prob = 0.0;
    encoder.attention_probs_dropout_prob = 0.0;
    encoder.initializer_range = 0.3;
    PlmIcd::new(&encoder, config, LABELS, 1, Device::Cpu).unwrap()
}

fn example(model: &PlmIcd) -> (SegmentBatch, LabelTargets) {
    let notes: [Vec<i32>; 3] = [(5..25).collect(), vec![30, 31], (8..16).collect()];
    let truth = LabelTargets::from_indices(&[vec![0, 4], vec![], vec![6]], LABELS, Device::Cpu).unwrap();
    (model.batch(&notes, &SPECIALS).unwrap(), truth)
}

fn gradients(parameters: Vec<NamedParameter>) -> BTreeMap<String, Tensor> {
    parameters
        .into_iter()
        .filter(|parameter| parameter.tensor.grad().defined())
        .map(|parameter| (parameter.name, parameter.tensor.grad().copy()))
        .collect()
}

#[test]
fn one_pass_equals_autograd_for_every_loss_and_reduction() {
    let losses = [
        Loss::BinaryCrossEntropy,
        Loss::WeightedBinaryCrossEntropy(PositiveWeight { positive_weight: 5.0 }),
        Loss::Focal(Focal::default()),
        Loss::Asymmetric(Asymmetric::default()),
    ];
    for loss in losses {
        for loss_reduction in [Reduction::Mean, Reduction::NoteSum] {
            let change = |config: &mut ModelConfig| {
                config.loss = loss;
                config.loss_reduction = loss_reduction;
            };
            let (ours, plain) = (model(change), model(change));
            let (batch, truth) = example(&ours);
            let value = ours.train_step(&batch, &truth, 1.0, 0).unwrap().double_value(&[]);
            let reference = plain.loss_reference(&batch, &truth, &Dropout::off());
            reference.backward();
            let expected = scalar(&reference);
            assert!((value - expected).abs() < 1e-5 * expected, "{loss:?}: {value}, expected {expected}");
            let found = ours.loss(&ours.logits(&batch), &truth).double_value(&[]);
            assert!((found - expected).abs() < 1e-5 * expected, "{loss:?}: {found}, expected {expected}");
            let (ours, plain) = (gradients(ours.parameters()), gradients(plain.parameters()));
            assert_eq!(ours.len(), plain.len());
            for (name, gradient) in &plain {
                let off = difference(&ours[name], gradient);
                assert!(off < 1e-5, "{loss:?}, {loss_reduction:?}: {name} is off by {off:e}");
            }
        }
    }
}

#[test]
fn a_sum_over_labels_is_the_mean_times_their_number() {
    let mean = model(|_| {});
    let sum = model(|config| config.loss_reduction = Reduction::NoteSum);
    let (batch, truth) = example(&mean);
    let [small, large] =
        [&mean, &sum].map(|model| model.train_step(&batch, &truth, 1.0, 0).unwrap().double_value(&[]));
    assert!((small * LABELS as f64 - large).abs() < 1e-6, "{small} and {large}");
}

#[test]
fn frozen_layers_take_no_gradient_and_no_decay_and_the_rest_takes_the_same() {
    let whole = model(|_| {});
    let (batch, truth) = example(&whole);
    let _ = whole.train_step(&batch, &truth, 1.0, 0).unwrap();
    let expected = gradients(whole.parameters());
    for layers in [1, 2] {
        let mut frozen = model(|_| {});
        frozen.freeze_lower_layers(layers).unwrap();
        let _ = frozen.train_step(&batch, &truth, 1.0, 0).unwrap();
        let parameters = frozen.parameters();
        let trained = |name: &str| match name.strip_prefix("bert.encoder.layer.") {
            Some(rest) => rest[..1].parse::<usize>().unwrap() >= layers,
            None => !name.starts_with("bert."),
        };
        for parameter in &parameters {
            assert_eq!(parameter.tensor.requires_grad(), trained(&parameter.name), "{}", parameter.name);
            assert!(!parameter.decay || trained(&parameter.name), "{}", parameter.name);
        }
        let found = gradients(parameters);
        for (name, gradient) in &expected {
            match found.get(name) {
                Some(own) if trained(name) => assert!(difference(own, gradient) < 1e-6, "{name}"),
                None if !trained(name) => {}
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    let message = model(|_| {}).freeze_lower_layers(3).unwrap_err().to_string();
    assert_eq!(message, "3 layers to freeze, but the encoder has 2");
}

#[test]
fn centred_descriptions_have_no_direction_in_common() {
    let descriptions: Vec<Option<Vec<i32>>> = (0..LABELS as i32).map(|at| Some(vec![10 + at, 20])).collect();
    let common = |centre: bool| {
        let model = model(|_| {});
        let init = DescriptionInit { centre, ..DescriptionInit::default() };
        model.init_labels_from_descriptions(&descriptions, &SPECIALS, &init).unwrap();
        let queries = model.parameters().into_iter().find(|p| p.name == "second_linear.weight").unwrap();
        let queries = queries.tensor.detach();
        let lengths = queries.linalg_norm(2.0, -1, false, None::<Kind>);
        assert!(difference(&lengths, &(lengths.ones_like() * init.query_scale)) < 1e-5);
        f64::try_from(queries.mean_dim(0, false, Kind::Float).norm()).unwrap()
    };
    // Scaling to one length afterwards leaves a little of it.
    assert!(common(true) < 0.5 * common(false), "{} and {}", common(true), common(false));
}

#[test]
fn biases_are_set_one_by_one() {
    let model = model(|_| {});
    let biases: Vec<f32> = (0..LABELS).map(|label| label as f32 - 3.0).collect();
    let (batch, _) = example(&model);
    let before = model.logits(&batch);
    model.set_label_biases(&biases).unwrap();
    let moved = model.logits(&batch) - before;
    assert!(difference(&moved, &Tensor::from_slice(&biases).expand_as(&moved)) < 1e-5);
    assert!(model.set_label_biases(&biases[1..]).is_err());
}

#[test]
fn without_dropout_r_drop_changes_nothing() {
    let (plain, twice) = (model(|_| {}), model(|config| config.r_drop = 5.0));
    let (batch, truth) = example(&plain);
    let expected = plain.train_step(&batch, &truth, 1.0, 3).unwrap().double_value(&[]);
    let found = twice.train_step(&batch, &truth, 1.0, 3).unwrap().double_value(&[]);
    assert!((expected - found).abs() < 1e-6, "{found}, expected {expected}");
    let (plain, twice) = (gradients(plain.parameters()), gradients(twice.parameters()));
    for (name, gradient) in &plain {
        assert!(difference(&twice[name], gradient) < 1e-5, "{name}");
    }
}

#[test]
fn r_drop_equals_autograd_over_two_passes() {
    let two = model(|config| config.r_drop = 5.0);
    let (batch, truth) = example(&two);
    let states = two.encoder().forward(&batch.ids, &batch.mask, &Dropout::off()).flatten(0, 1).detach();
    // Two passes as dropout might leave them.
    let passes = [states.copy(), &states * 0.8 + 0.1].map(|states| states.set_requires_grad(true));
    let head = two.label_attention().unwrap();
    let [x, y] = passes.each_ref().map(|states| head.logits_reference(states, &batch.spans));
    let loss = Loss::BinaryCrossEntropy;
    let own = (loss.mean(&x, truth.tensor()) + loss.mean(&y, truth.tensor())) * 0.5;
    let reference = own + ((x.sigmoid() - y.sigmoid()) * (&x - &y) * (5.0 / 2.0)).mean(Kind::Float);
    reference.backward();
    let expected = gradients(two.parameters());
    for parameter in two.parameters() {
        let mut tensor = parameter.tensor;
        tensor.zero_grad();
    }
    let detached = passes.each_ref().map(Tensor::detach);
    let ours = head.two_passes(detached.each_ref(), &batch.spans, truth.tensor(), loss, 5.0, 1.0, 3).unwrap();
    assert!((scalar(&ours.loss) - scalar(&reference)).abs() < 1e-5);
    for (ours, states) in ours.grad_states.iter().zip(&passes) {
        assert!(difference(ours, &states.grad()) < 1e-6);
    }
    let found = gradients(two.parameters());
    for (name, gradient) in expected.iter().filter(|(name, _)| !name.starts_with("bert.")) {
        assert!(difference(&found[name], gradient) < 1e-5, "{name}");
    }
    assert!(
        head.two_passes(detached.each_ref(), &batch.spans[..1], truth.tensor(), loss, 5.0, 1.0, 3).is_err()
    );
}

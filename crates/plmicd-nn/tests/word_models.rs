//! Word-level models whole: notes by themselves and together, gradients, files.

mod common;

use camino::Utf8Path;
use common::word_config as config;
use plmicd_nn::{
    IcdModel, LabelTargets, Padding, SpecialTokens, WordArchitecture, WordModel, WordModelConfig,
};
use tch::{Device, Kind, Tensor};

const LABELS: usize = 5;
const SPECIALS: SpecialTokens = SpecialTokens { cls: None, sep: None, pad: 0 };

/// LAAT, JointLAAT, CAML, DR-CAML, MultiResCNN.
fn configs() -> Vec<WordModelConfig> {
    let joint = WordModelConfig { parents: Some(vec![0, 0, 1, 2, 1]), ..config(WordArchitecture::BiLstm) };
    let described = WordModelConfig { description_weight: Some(0.5), ..config(WordArchitecture::Cnn) };
    vec![
        config(WordArchitecture::BiLstm),
        joint,
        config(WordArchitecture::Cnn),
        described,
        config(WordArchitecture::MultiResCnn),
    ]
}

fn model(config: &WordModelConfig) -> WordModel {
    let mut model = WordModel::new(config.clone(), LABELS, 7, Device::Cpu).unwrap();
    model.set_descriptions(vec![vec![3, 4], vec![], vec![5], vec![6, 7, 8, 9, 10], vec![11, 3]]);
    model
}

fn notes() -> Vec<Vec<i32>> {
    vec![vec![3, 4, 5, 6, 7, 8, 9], vec![10, 11], (0..20).map(|i| 3 + i % 27).collect(), vec![12]]
}

fn truth() -> LabelTargets {
    LabelTargets::from_indices(&[vec![0, 2], vec![1], vec![0, 3, 4], vec![]], LABELS, Device::Cpu).unwrap()
}

fn largest(tensor: &Tensor) -> f64 {
    f64::try_from(tensor.abs().max()).unwrap()
}

#[test]
fn a_notes_scores_do_not_depend_on_the_others_of_its_batch() {
    for config in configs() {
        let model = model(&config);
        let together = model.scores(&model.batch(&notes(), &SPECIALS).unwrap());
        for (row, note) in notes().iter().enumerate() {
            let alone = model.scores(&model.batch(&[note], &SPECIALS).unwrap());
            let difference = largest(&(alone.get(0) - together.get(row as i64)));
            assert!(difference < 1e-6, "{:?}: {difference}", config.architecture);
        }
        // As published they do, where padding is attended.
        let attend = self::model(&WordModelConfig { padding: Padding::Attend, ..config.clone() });
        let together = attend.scores(&attend.batch(&notes(), &SPECIALS).unwrap());
        let alone = attend.scores(&attend.batch(&notes()[1..2], &SPECIALS).unwrap());
        assert!(largest(&(alone.get(0) - together.get(1))) > 1e-5, "{:?}", config.architecture);
        // The longest note has no padding, and is the same either way.
        let masked = model.scores(&model.batch(&notes()[2..3], &SPECIALS).unwrap());
        assert!(largest(&(masked.get(0) - together.get(2))) < 1e-6, "{:?}", config.architecture);
    }
}

/// The loss of a training step, leaving the gradients in the parameters.
fn step(model: &WordModel, seed: u64) -> f64 {
    let batch = model.batch(&notes(), &SPECIALS).unwrap();
    for parameter in model.parameters() {
        let _ = plmicd_torch::grad_or_zeros(&parameter.tensor).unwrap().zero_();
    }
    model.train_step(&batch, &truth(), 1.0, seed).unwrap().double_value(&[])
}

#[test]
fn a_single_word_leaves_finite_statistics() {
    let model = model(&config(WordArchitecture::MultiResCnn));
    let batch = model.batch(&notes()[3..], &SPECIALS).unwrap();
    let truth = LabelTargets::from_indices(&[vec![0]], LABELS, Device::Cpu).unwrap();
    let loss = model.train_step(&batch, &truth, 1.0, 1).unwrap().double_value(&[]);
    assert!(loss.is_finite(), "{loss}");
    for (name, buffer) in model.buffers() {
        assert!(buffer.isfinite().all().int64_value(&[]) == 1, "{name}");
    }
    assert!(step(&model, 1).is_finite());
}

#[test]
fn gradients_are_those_of_small_changes() {
    for config in configs() {
        let model = model(&config);
        step(&model, 1);
        let gradients: Vec<Tensor> =
            model.parameters().iter().map(|parameter| parameter.tensor.grad().copy()).collect();
        for (parameter, gradient) in model.parameters().iter().zip(&gradients) {
            // Along the gradient's own direction the loss changes by its length.
            let length = f64::try_from(gradient.square().sum(Kind::Double)).unwrap().sqrt();
            assert!(length.is_finite(), "{}", parameter.name);
            if length < 1e-7 {
                continue;
            }
            let direction = gradient / length;
            let mut tensor = parameter.tensor.detach();
            let width = 0.02;
            let mut at = |factor: f64| {
                tch::no_grad(|| {
                    let _ = tensor.g_add_(&(&direction * factor));
                });
                let loss = step(&model, 1);
                tch::no_grad(|| {
                    let _ = tensor.g_sub_(&(&direction * factor));
                });
                loss
            };
            // Central differences with the error of second order taken out (Richardson).
            let near = (at(width / 2.0) - at(-width / 2.0)) / width;
            let far = (at(width) - at(-width)) / (2.0 * width);
            let slope = (4.0 * near - far) / 3.0;
            let tolerance = 2e-2 * length + 2e-5;
            assert!(
                (slope - length).abs() < tolerance,
                "{:?} {}: {slope} {length}",
                config.architecture,
                parameter.name
            );
        }
    }
}

#[test]
fn dropout_follows_from_the_seed_alone() {
    for config in configs() {
        let model = model(&WordModelConfig { dropout: 0.3, ..config });
        let first = step(&model, 1);
        assert_eq!(first, step(&model, 1));
        assert_ne!(first, step(&model, 2));
    }
}

#[test]
fn training_lowers_the_loss_and_what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    for config in configs() {
        let frozen = WordModelConfig { freeze_embeddings: true, ..config.clone() };
        for config in [config, frozen] {
            let model = model(&config);
            let vectors = Tensor::zeros([30, 6], (Kind::Float, Device::Cpu));
            plmicd_torch::fill_normal(&vectors, 0.0, 1.0, 11).unwrap();
            model.set_embeddings(&vectors, true).unwrap();
            let first = step(&model, 0);
            for _ in 0..200 {
                step(&model, 0);
                tch::no_grad(|| {
                    for parameter in model.parameters() {
                        let _ = parameter.tensor.detach().g_sub_(&(parameter.tensor.grad() * 1.5));
                    }
                });
            }
            let last = step(&model, 0);
            assert!(last < 0.3 * first, "{:?}: {first} {last}", config.architecture);
            let batch = model.batch(&notes(), &SPECIALS).unwrap();
            let scores = model.scores(&batch);
            let model = IcdModel::Word(Box::new(model));
            model.save(folder).unwrap();
            let loaded = IcdModel::load(folder, Device::Cpu).unwrap();
            let batch = loaded.batch(&notes(), &SPECIALS).unwrap();
            assert!(loaded.scores(&batch).unwrap().equal(&scores));
            assert_eq!(loaded.buffers().len(), model.buffers().len());
            assert_eq!(loaded.parameters().len(), model.parameters().len());
            assert_eq!((loaded.num_labels(), loaded.vocab_size()), (LABELS, 30));
        }
    }
}

#[test]
fn frozen_embeddings_are_no_parameters_and_padding_stays_zero() {
    for freeze_embeddings in [false, true] {
        let config = WordModelConfig { freeze_embeddings, ..config(WordArchitecture::Cnn) };
        let model = model(&config);
        let vectors = Tensor::ones([30, 6], (Kind::Float, Device::Cpu)) * 2.0;
        model.set_embeddings(&vectors, true).unwrap();
        let embeddings = model.parameters().into_iter().find(|p| p.name == "embeddings.weight");
        assert_eq!(embeddings.is_none(), freeze_embeddings);
        if let Some(embeddings) = embeddings {
            step(&model, 0);
            assert_eq!(largest(&embeddings.tensor.get(0)), 0.0);
            assert_eq!(largest(&embeddings.tensor.grad().get(0)), 0.0);
            let length = f64::try_from(embeddings.tensor.get(5).square().sum(Kind::Double)).unwrap();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
        let wrong = model.set_embeddings(&Tensor::ones([30, 5], (Kind::Float, Device::Cpu)), false);
        assert!(wrong.unwrap_err().to_string().contains("[30, 5]"));
    }
}

#[test]
fn labels_never_seen_are_scored_by_their_descriptions() {
    let config = WordModelConfig { description_weight: Some(0.5), ..config(WordArchitecture::Cnn) };
    let model = model(&config);
    let batch = model.batch(&notes(), &SPECIALS).unwrap();
    let before = model.scores(&batch);
    // Label 1 has no description, label 3 has; both were never true.
    assert_eq!(model.describe_unseen(&[true, false, true, false, true]), 1);
    let after = model.scores(&batch);
    for label in 0..LABELS as i64 {
        let change = largest(&(after.select(1, label) - before.select(1, label)));
        assert_eq!(change > 1e-4, label == 3, "label {label}: {change}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let check = |change: fn(&mut WordModelConfig), word: &str| {
        let mut config = config(WordArchitecture::MultiResCnn);
        change(&mut config);
        let wrong = WordModel::new(config, LABELS, 0, Device::Cpu).unwrap_err().to_string();
        assert!(wrong.contains(word), "{wrong}");
    };
    check(|c| c.kernel_sizes = vec![3, 4], "odd widths");
    check(|c| c.parents = Some(vec![0]), "1 labels have a coarser one");
    check(|c| c.pad_token_id = 30, "pad_token_id");
    check(|c| c.filter_maps = 0, "filter_maps");
    let model = model(&config(WordArchitecture::Cnn));
    let unknown = model.batch(&[[30]], &SPECIALS).unwrap_err().to_string();
    assert!(unknown.contains("token 30"), "{unknown}");
    let other = SpecialTokens { pad: 1, ..SPECIALS };
    assert!(model.batch(&[[3]], &other).is_err());
}

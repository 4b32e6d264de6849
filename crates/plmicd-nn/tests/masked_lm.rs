//! Masked language models against what Transformers makes of them, and against plain autograd.

mod common;

use std::collections::BTreeMap;

use camino::Utf8Path;
use common::{difference, golden, scalar, tensors};
use plmicd_nn::{
    EncoderConfig, HeadStart, MaskedBatch, MaskedLm, ModelType, Precision, read_safetensors,
    write_safetensors,
};
use tch::{Device, Kind, Reduction, Tensor};

const TOLERANCE: f64 = 1e-5;

/// A tiny model without dropout.
fn tiny(model_type: ModelType) -> EncoderConfig {
    EncoderConfig {
        model_type,
        intermediate_size: 24,
        max_position_embeddings: 20,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        pad_token_id: i64::from(model_type == ModelType::Roberta),
        ..EncoderConfig::small(50, 16, 2, 2)
    }
}

/// The places whose label is not -100.
fn batch(ids: &Tensor, mask: &Tensor, labels: &Tensor) -> MaskedBatch {
    let labels = labels.flatten(0, -1);
    let positions = labels.not_equal(-100).nonzero().view([-1]);
    let targets = labels.index_select(0, &positions);
    MaskedBatch { ids: ids.shallow_clone(), mask: mask.shallow_clone(), positions, targets }
}

fn published(name: &str) -> Option<(MaskedLm, BTreeMap<String, Tensor>)> {
    let io = tensors(&format!("model/{name}/io.safetensors"))?;
    let folder = golden(&format!("model/{name}"))?;
    let mut config = EncoderConfig::read(&folder.join("config.json")).unwrap();
    config.hidden_dropout_prob = 0.0;
    config.attention_probs_dropout_prob = 0.0;
    let model = MaskedLm::new(&config, 3, Device::Cpu).unwrap();
    let (report, head) = model.load(&folder, None).unwrap();
    assert_eq!(head, HeadStart::Loaded);
    assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{report}");
    Some((model, io))
}

fn check_published(name: &str) {
    let Some((mut model, io)) = published(name) else { return };
    let logits = model.logits(&io["input_ids"], &io["attention_mask"]);
    let off = difference(&logits, &io["logits"]);
    assert!(off < TOLERANCE, "{name}: logits are off by {off:e}");
    let batch = batch(&io["input_ids"], &io["attention_mask"], &io["labels"]);
    let wanted = scalar(&io["loss"]);
    // One hidden token at a time, seven, all.
    for logits_at_a_time in [1, 7 * 300, 1 << 25] {
        model.set_logits_at_a_time(logits_at_a_time);
        let score = model.score(&batch).unwrap();
        let loss = score.loss_sum / score.tokens as f64;
        assert!((loss - wanted).abs() < TOLERANCE, "{name}: loss {loss} instead of {wanted}");
        assert_eq!(score.tokens as i64, batch.targets.size()[0]);
        let best = io["logits"].flatten(0, 1).index_select(0, &batch.positions).argmax(1, false);
        let right = i64::try_from(best.eq_tensor(&batch.targets).sum(Kind::Int64)).unwrap();
        assert_eq!(score.correct as i64, right);
        let loss = model.train_step(&batch, 1.0, 0).unwrap().double_value(&[]);
        assert!((loss - wanted).abs() < TOLERANCE, "{name}: loss {loss} instead of {wanted}");
    }
}

#[test]
fn bert_as_published() {
    check_published("bert-mlm");
}

#[test]
fn roberta_as_published() {
    check_published("roberta-mlm");
}

/// Rounded products move loss and gradients a little and no weight's format.
#[test]
fn bf16_stays_close() {
    for model_type in [ModelType::Bert, ModelType::Roberta] {
        let mut model = MaskedLm::new(&tiny(model_type), 5, Device::Cpu).unwrap();
        let batch = random_batch(1);
        let step = |model: &MaskedLm| -> (f64, Tensor) {
            model.parameters().into_iter().for_each(|mut parameter| parameter.tensor.zero_grad());
            let loss = model.train_step(&batch, 1.0, 0).unwrap().double_value(&[]);
            let gradients: Vec<Tensor> =
                model.parameters().iter().map(|p| p.tensor.grad().flatten(0, -1).copy()).collect();
            (loss, Tensor::cat(&gradients, 0))
        };
        let (loss, gradients) = step(&model);
        model.set_precision(Precision::Bf16);
        let (rounded_loss, rounded) = step(&model);
        assert!(
            rounded_loss != loss && (rounded_loss - loss).abs() < 2e-2 * loss,
            "{rounded_loss} for {loss}"
        );
        let off = scalar(&(&rounded - &gradients).norm()) / scalar(&gradients.norm());
        assert!(off < 5e-2, "{model_type}: gradients are off by {off:e}");
        assert!(model.parameters().iter().all(|parameter| parameter.tensor.kind() == Kind::Float));
        let score = model.score(&batch).unwrap();
        assert!((score.loss_sum / score.tokens as f64 - rounded_loss).abs() < 1e-3);
    }
}

fn random_batch(seed: i64) -> MaskedBatch {
    let ids: Vec<i64> = (0..36).map(|i| 5 + (i * 7919 + seed * 31) % 45).collect();
    let mut labels = vec![-100; 36];
    for place in [2, 3, 9, 17, 30] {
        labels[place] = (place as i64 * 13 + seed) % 50;
    }
    let mask: Vec<i64> = (0..36).map(|i| i64::from(i < 32)).collect();
    let tensor = |values: &[i64]| Tensor::from_slice(values).view([3, 12]);
    batch(&tensor(&ids), &tensor(&mask), &tensor(&labels))
}

/// Gradients of the block-wise step against autograd over all tokens, the unhidden ones ignored.
#[test]
fn gradients_are_those_of_plain_autograd() {
    for model_type in [ModelType::Bert, ModelType::Roberta] {
        let mut model = MaskedLm::new(&tiny(model_type), 5, Device::Cpu).unwrap();
        let batch = random_batch(1);
        let labels = Tensor::full([36], -100, (Kind::Int64, Device::Cpu));
        let labels = labels.index_copy(0, &batch.positions, &batch.targets);
        let reference = reference_logits(&model, &batch);
        let loss = reference.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
        (&loss * 0.5).backward();
        let wanted: Vec<(String, Tensor)> =
            model.parameters().into_iter().map(|p| (p.name, p.tensor.grad().copy())).collect();
        for logits_at_a_time in [1, 2 * 50, 1 << 25] {
            model.set_logits_at_a_time(logits_at_a_time);
            for mut parameter in model.parameters() {
                parameter.tensor.zero_grad();
            }
            let ours = model.train_step(&batch, 0.5, 0).unwrap().double_value(&[]);
            assert!((ours - scalar(&loss)).abs() < 1e-6);
            for (parameter, (name, gradient)) in model.parameters().iter().zip(&wanted) {
                let off = difference(&parameter.tensor.grad(), gradient);
                assert!(off < 1e-6, "{model_type}: {name} is off by {off:e}");
            }
        }
    }
}

/// The head written out on the encoder's states, from the parameters' names.
fn reference_logits(model: &MaskedLm, batch: &MaskedBatch) -> Tensor {
    let parameters: BTreeMap<String, Tensor> =
        model.parameters().into_iter().map(|p| (p.name, p.tensor)).collect();
    let (dense, norm, bias, root) = match model.encoder().config().model_type {
        ModelType::Bert => (
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.bias",
            "bert",
        ),
        ModelType::Roberta | ModelType::Longformer => {
            ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "roberta")
        }
    };
    let of = |name: &str, part: &str| &parameters[&format!("{name}.{part}")];
    let states = model.encoder().forward(&batch.ids, &batch.mask, &plmicd_torch::Dropout::off());
    let states = states.flatten(0, 1).linear(of(dense, "weight"), Some(of(dense, "bias"))).gelu("none");
    let states = states.layer_norm([16], Some(of(norm, "weight")), Some(of(norm, "bias")), 1e-12, false);
    let words = &parameters[&format!("{root}.embeddings.word_embeddings.weight")];
    states.linear(words, Some(&parameters[bias]))
}

#[test]
fn what_is_saved_is_loaded_and_the_decoder_is_the_embeddings() {
    for (model_type, decoder, head) in
        [(ModelType::Bert, "cls.predictions.decoder", "cls."), (ModelType::Roberta, "lm_head.decoder", "lm_")]
    {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let model = MaskedLm::new(&tiny(model_type), 5, Device::Cpu).unwrap();
        model.save(dir).unwrap();
        let weights = dir.join("model.safetensors");
        let mut saved = read_safetensors(&weights).unwrap();
        assert!(saved.keys().all(|name| !name.starts_with(decoder)), "the decoder is not stored twice");
        let config = EncoderConfig::read(&dir.join("config.json")).unwrap();
        assert_eq!(config.other["tie_word_embeddings"], true);

        let other = MaskedLm::new(&config, 6, Device::Cpu).unwrap();
        let batch = random_batch(2);
        assert_ne!(other.score(&batch).unwrap(), model.score(&batch).unwrap());
        assert_eq!(other.load(dir, None).unwrap().1, HeadStart::Loaded);
        assert_eq!(other.score(&batch).unwrap(), model.score(&batch).unwrap());

        // A copy of the embeddings beside them, and the bias under its other name.
        let words = saved[&format!("{model_type}.embeddings.word_embeddings.weight")].copy();
        let bias =
            saved.keys().find(|name| **name == format!("{head}predictions.bias") || *name == "lm_head.bias");
        let bias = bias.cloned().unwrap();
        let moved = saved.remove(&bias).unwrap() + 1.0;
        saved.insert(format!("{decoder}.bias"), moved);
        saved.insert(format!("{decoder}.weight"), words.copy());
        let write = |saved: &BTreeMap<String, Tensor>| {
            let all: Vec<(&str, &Tensor)> =
                saved.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            write_safetensors(&weights, &all).unwrap();
        };
        write(&saved);
        let (report, _) = other.load(dir, None).unwrap();
        assert!(report.unexpected.is_empty(), "{report}");
        let parameters = other.parameters();
        let loaded = &parameters.iter().find(|p| p.name == bias).unwrap().tensor;
        assert!(loaded.equal(&saved[&format!("{decoder}.bias")]));

        // A decoder of its own where the config does not tie it.
        saved.insert(format!("{decoder}.weight"), words + 1.0);
        write(&saved);
        let mut untied = config.clone();
        untied.other.insert("tie_word_embeddings".to_owned(), false.into());
        let untied = MaskedLm::new(&untied, 6, Device::Cpu).unwrap();
        let wrong = untied.load(dir, None).unwrap_err().to_string();
        assert!(wrong.contains(decoder) && wrong.contains("tie_word_embeddings"), "{wrong}");
        other.load(dir, None).unwrap();

        // Part of a head, then none.
        saved.remove(&format!("{decoder}.bias"));
        write(&saved);
        let wrong = other.load(dir, None).unwrap_err().to_string();
        assert!(wrong.contains("missing") && wrong.contains(&bias), "{wrong}");
        saved.retain(|name, _| !name.starts_with(head));
        write(&saved);
        assert_eq!(other.load(dir, None).unwrap().1, HeadStart::Fresh);
    }
}

#[test]
fn a_batch_without_hidden_tokens_is_refused() {
    let model = MaskedLm::new(&tiny(ModelType::Bert), 5, Device::Cpu).unwrap();
    let mut batch = random_batch(1);
    batch.positions = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
    batch.targets = batch.positions.copy();
    assert!(model.train_step(&batch, 1.0, 0).unwrap_err().to_string().contains("no token"));
    assert!(model.score(&batch).is_err());
}

//! Making, saving and loading models; label vectors from descriptions.

mod common;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use common::difference;
use plmicd_nn::{
    DescriptionInit, EncoderConfig, LabelTargets, ModelConfig, Padding, PlmIcd, Projection, SpecialTokens,
    read_safetensors, write_safetensors,
};
use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

const SPECIALS: SpecialTokens = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };

fn config() -> ModelConfig {
    ModelConfig { segment_length: 8, max_length: 32, padding: Padding::Mask, ..ModelConfig::default() }
}

fn small(seed: u64) -> PlmIcd {
    PlmIcd::new(&EncoderConfig::small(40, 12, 2, 3), config(), 7, seed, Device::Cpu).unwrap()
}

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, path)
}

fn values(model: &PlmIcd) -> BTreeMap<String, Tensor> {
    model
        .parameters()
        .into_iter()
        .map(|parameter| (parameter.name, parameter.tensor.detach().copy()))
        .collect()
}

#[test]
fn weights_depend_on_the_seed_alone() {
    let first = values(&small(1));
    let _ = Tensor::randn([7], (Kind::Float, Device::Cpu));
    let again = values(&small(1));
    assert!(first.iter().all(|(name, tensor)| again[name].equal(tensor)));
    let other = values(&small(2));
    assert!(!other["second_linear.weight"].equal(&first["second_linear.weight"]));
    // Drawn apart, not from one stream.
    assert!(!first["second_linear.weight"].equal(&first["third_linear.weight"]));
}

#[test]
fn weights_start_as_published() {
    let encoder = EncoderConfig::small(5_000, 64, 1, 2);
    let model = PlmIcd::new(&encoder, config(), 3, 9, Device::Cpu).unwrap();
    let values = values(&model);
    let words = &values["bert.embeddings.word_embeddings.weight"];
    assert_eq!(f64::try_from(words.get(0).abs().max()).unwrap(), 0.0);
    assert!((f64::try_from(words.std(true)).unwrap() - 0.02).abs() < 2e-4);
    assert!(f64::try_from(words.mean(Kind::Float)).unwrap().abs() < 2e-4);
    for (name, tensor) in &values {
        if name.ends_with("bias") {
            assert!(tensor.equal(&tensor.zeros_like()), "{name}");
        } else if name.ends_with("LayerNorm.weight") {
            assert!(tensor.equal(&tensor.ones_like()), "{name}");
        }
    }
}

#[test]
fn decay_and_head_are_told_apart() {
    let flags: BTreeMap<String, (bool, bool)> =
        small(1).parameters().into_iter().map(|p| (p.name, (p.decay, p.is_head))).collect();
    assert_eq!(flags["bert.encoder.layer.0.attention.self.query.weight"], (true, false));
    assert_eq!(flags["bert.encoder.layer.0.attention.self.query.bias"], (false, false));
    assert_eq!(flags["bert.encoder.layer.1.output.LayerNorm.weight"], (false, false));
    assert_eq!(flags["second_linear.weight"], (true, true));
    assert_eq!(flags["third_linear.bias"], (false, true));
    assert_eq!(flags.len(), 5 + 2 * 16 + 4);
}

#[test]
fn a_saved_model_is_the_same_model() {
    let (_guard, path) = folder();
    let mut encoder = EncoderConfig::small(40, 12, 2, 3);
    encoder.other.insert("id2label".to_owned(), serde_json::json!({"0": "LABEL_0"}));
    encoder.other.insert("tokenizer_class".to_owned(), serde_json::json!("BertTokenizer"));
    let config = ModelConfig { projection: Projection::Identity, ..config() };
    let model = PlmIcd::new(&encoder, config, 7, 1, Device::Cpu).unwrap();
    model.save(&path).unwrap();
    let loaded = PlmIcd::load(&path, Device::Cpu).unwrap();
    assert_eq!(loaded.config(), model.config());
    let (before, after) = (values(&model), values(&loaded));
    assert!(before.len() == after.len() && before.iter().all(|(name, tensor)| after[name].equal(tensor)));
    let batch = model.batch(&[vec![5, 6, 7], vec![8; 20]], &SPECIALS).unwrap();
    assert!(model.scores(&batch).equal(&loaded.scores(&batch)));

    let bytes = |file: &str| fs_err::read(path.join(file)).unwrap();
    let (config, weights) = (bytes("config.json"), bytes("model.safetensors"));
    loaded.save(&path).unwrap();
    assert!(config == bytes("config.json") && weights == bytes("model.safetensors"));
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    // Without the published projection it is no model of the published code.
    assert_eq!(config["architectures"][0], "BertModel");
    assert_eq!(config["tokenizer_class"], "BertTokenizer");
    assert_eq!(config["plmicd"]["projection"], "identity");
    assert!(config.get("id2label").is_none() && config["plmicd"].get("label_block").is_none());
}

/// Writes `model`'s encoder as a Hugging Face folder, with tensors renamed (or dropped) by `rename`.
fn hf_folder(model: &PlmIcd, path: &Utf8Path, rename: impl Fn(&str) -> Option<String>) {
    let config = serde_json::to_string(&model.encoder().config().to_json()).unwrap();
    fs_err::write(path.join("config.json"), config).unwrap();
    let mut tensors: Vec<(String, Tensor)> = model
        .parameters()
        .into_iter()
        .filter(|parameter| !parameter.is_head)
        .filter_map(|parameter| Some((rename(&parameter.name)?, parameter.tensor.detach())))
        .collect();
    tensors.push(("pooler.dense.weight".to_owned(), Tensor::zeros([12, 12], (Kind::Float, Device::Cpu))));
    tensors.push(("embeddings.position_ids".to_owned(), Tensor::zeros([1, 512], (Kind::Float, Device::Cpu))));
    let tensors: Vec<(&str, &Tensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_safetensors(&path.join("model.safetensors"), &tensors).unwrap();
}

#[test]
fn bare_and_older_encoders_are_read() {
    let (_guard, path) = folder();
    let source = small(5);
    hf_folder(&source, &path, |name| {
        let name = name.strip_prefix("bert.").unwrap();
        Some(name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"))
    });
    let (model, report) = PlmIcd::from_hf_encoder(&path, config(), 4, 8, Device::Cpu).unwrap();
    assert_eq!(report.unexpected, ["embeddings.position_ids", "pooler.dense.weight"]);
    assert!(report.missing.is_empty() && report.mismatched.is_empty());
    let (source, model) = (values(&source), values(&model));
    for (name, tensor) in source.iter().filter(|(name, _)| name.starts_with("bert.")) {
        assert!(model[name].equal(tensor), "{name}");
    }
    // The head is fresh, and of the number of labels asked for.
    assert_eq!(model["third_linear.weight"].size(), [4, 12]);
}

#[test]
fn an_incomplete_or_misshapen_encoder_is_refused() {
    let (_guard, path) = folder();
    let load = || PlmIcd::from_hf_encoder(&path, config(), 4, 8, Device::Cpu).unwrap_err().to_string();
    let source = small(5);
    hf_folder(&source, &path, |name| {
        (!name.contains("layer.1.output.dense.weight")).then(|| name.to_owned())
    });
    let message = load();
    assert!(message.contains("model.safetensors: does not fit a bert model"), "{message}");
    assert!(message.contains("1 missing: bert.encoder.layer.1.output.dense.weight"), "{message}");

    hf_folder(&source, &path, |name| Some(name.to_owned()));
    let config = fs_err::read_to_string(path.join("config.json")).unwrap();
    fs_err::write(path.join("config.json"), config.replace("\"vocab_size\":40", "\"vocab_size\":41"))
        .unwrap();
    let message = load();
    assert!(message.contains("word_embeddings.weight is [40, 12], expected [41, 12]"), "{message}");

    fs_err::remove_file(path.join("model.safetensors")).unwrap();
    assert!(load().contains("expected a Hugging Face model folder"), "{}", load());
    fs_err::write(path.join("config.json"), "{\"model_type\": \"gpt2\"}").unwrap();
    assert!(load().contains("config.json: model_type \"gpt2\" is not supported"), "{}", load());
}

#[test]
fn a_model_of_another_kind_is_refused() {
    let (_guard, path) = folder();
    hf_folder(&small(5), &path, |name| Some(name.to_owned()));
    let message = PlmIcd::load(&path, Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("no \"plmicd\" section"), "{message}");
    let message = PlmIcd::from_published(&path, config(), Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("third_linear.bias"), "{message}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let encoder = EncoderConfig::small(40, 12, 2, 3);
    let refuse = |config: ModelConfig, labels| {
        PlmIcd::new(&encoder, config, labels, 1, Device::Cpu).unwrap_err().to_string()
    };
    assert!(refuse(ModelConfig { segment_length: 513, ..config() }, 4).contains("1 to 512 tokens"));
    assert!(refuse(ModelConfig { max_length: 2, ..config() }, 4).contains("max_length is 2"));
    assert!(refuse(config(), 0).contains("at least one label"));
    let model = small(1);
    let wrong = model.batch(&[vec![40]], &SPECIALS).unwrap_err().to_string();
    assert!(wrong.contains("note 0 of the batch has token 40"), "{wrong}");
    let wrong = model.batch(&[vec![4]], &SpecialTokens { pad: 1, ..SPECIALS }).unwrap_err().to_string();
    assert!(wrong.contains("pad_token_id is 0"), "{wrong}");
}

#[test]
fn dropout_follows_the_seed_and_rests_in_inference() {
    let model = small(1);
    let batch = model.batch(&[vec![5, 6, 7], vec![8; 20]], &SPECIALS).unwrap();
    let truth = LabelTargets::from_indices(&[vec![0], vec![1]], 7, Device::Cpu).unwrap();
    let loss = |seed| model.train_step(&batch, &truth, 1.0, seed).unwrap().double_value(&[]).to_bits();
    assert_eq!(loss(1), loss(1));
    assert_ne!(loss(1), loss(2));
    assert!(model.logits(&batch).equal(&model.logits(&batch)));
}

#[test]
fn label_vectors_come_from_descriptions() {
    let model = small(4);
    let before = values(&model);
    let long: Vec<i32> = (4..24).collect();
    let descriptions =
        [Some(vec![5, 6]), None, Some(long.clone()), Some(vec![]), Some(vec![9]), None, Some(vec![9])];
    let init = DescriptionInit::default();
    let report = model.init_labels_from_descriptions(&descriptions, &SPECIALS, &init).unwrap();
    assert_eq!((report.described, report.undescribed), (4, 3));
    let after = values(&model);
    let row = |name: &str, label: i64| after[name].get(label);
    for label in [0, 2, 4, 6] {
        let query = row("second_linear.weight", label);
        assert!((f64::try_from(query.norm()).unwrap() - 2.0).abs() < 1e-5);
        assert!(difference(&(query / 4.0), &row("third_linear.weight", label)) < 1e-6);
    }
    for label in [1, 3, 5] {
        assert!(row("second_linear.weight", label).equal(&before["second_linear.weight"].get(label)));
    }
    assert!(after["third_linear.bias"].equal(&Tensor::full([7], -2.5, (Kind::Float, Device::Cpu))));
    assert!(row("second_linear.weight", 4).equal(&row("second_linear.weight", 6)));

    // By hand: the mean state of the first 8 tokens of the long one, without special tokens or padding.
    let ids = Tensor::from_slice(&long[..8]).to_kind(Kind::Int64).unsqueeze(0);
    let states = model.encoder().forward(&ids, &ids.ones_like(), &Dropout::off()).get(0);
    let mean = states.mean_dim(0, false, Kind::Float);
    let unit = &mean / mean.norm();
    assert!(difference(&(unit * 2.0), &row("second_linear.weight", 2)) < 1e-5);

    let wrong = model.init_labels_from_descriptions(&[None], &SPECIALS, &init).unwrap_err();
    assert!(wrong.to_string().contains("1 descriptions for 7 labels"));
}

#[test]
fn published_tensors_are_read_back_under_their_names() {
    let (_guard, path) = folder();
    small(1).save(&path).unwrap();
    let names: Vec<String> = read_safetensors(&path.join("model.safetensors")).unwrap().into_keys().collect();
    for name in ["first_linear.weight", "second_linear.weight", "third_linear.weight", "third_linear.bias"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    assert!(names.iter().any(|name| name == "bert.encoder.layer.1.attention.output.LayerNorm.bias"));
    let (model, report) = PlmIcd::from_published(&path, config(), Device::Cpu).unwrap();
    assert_eq!(model.num_labels(), 7);
    assert_eq!(report.to_string(), "every tensor found");
}

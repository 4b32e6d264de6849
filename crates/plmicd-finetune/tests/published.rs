//! Published checkpoints in and out: the golden models, and what is wrong with a folder.
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{CodeSystem, Label, LabelSpace, SpecialTokens};
use plmicd_finetune::{CODE_FILE, ImportSettings, export_published, import_published};
use plmicd_nn::{MaskConstant, Padding, PlmIcd, PublishedFolder, SegmentBatch, Span, read_safetensors};
use tch::{Device, Kind, Tensor};

/// Labels of the golden models.
const LABELS: usize = 37;

struct Place {
    _folder: tempfile::TempDir,
    path: Utf8PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).expect("UTF-8");
        Self { _folder: folder, path }
    }

    /// An empty folder with the special tokens of an encoder's tokenizer.
    fn out(&self, name: &str, pad: i32, vocab_size: usize) -> Utf8PathBuf {
        let out = self.path.join(name);
        fs_err::create_dir(&out).expect("a folder");
        let tokens =
            SpecialTokens { cls: Some(2), sep: Some(3), pad: Some(pad), mask: None, unk: None, vocab_size };
        tokens.write(&out.join(SpecialTokens::FILE)).expect("written");
        out
    }
}

fn golden(name: &str) -> Option<Utf8PathBuf> {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/model").join(name);
    if !path.exists() {
        eprintln!("skipped: {path} is absent");
        return None;
    }
    Some(path)
}

/// Codes whose order is not that of their bytes, so that exporting has to turn them round.
fn labels(count: usize) -> LabelSpace {
    let code = |at: usize| format!("{:03}.{}", 999 - at, at % 10);
    let label = |at: usize| Label {
        code: code(at),
        system: CodeSystem::Icd9Diagnosis,
        description: None,
        description_of: None,
    };
    LabelSpace::new((0..count).map(label).collect()).expect("different codes")
}

fn settings() -> ImportSettings {
    ImportSettings { segment_length: Some(16), ..ImportSettings::default() }
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    f64::try_from((a - b).abs().max()).expect("a number")
}

/// The golden notes as the published code gives them to the model.
fn batch(ids: &Tensor, mask: &Tensor) -> SegmentBatch {
    let (b, n, c) = ids.size3().expect("three dimensions");
    let tokens = mask.sum_dim_intlist([1, 2].as_slice(), false, Kind::Int64);
    SegmentBatch {
        ids: ids.view([b * n, c]),
        mask: mask.view([b * n, c]),
        spans: (0..b).map(|note| Span { start: note * n * c, length: n * c }).collect(),
        note_of_segment: (0..b as usize).flat_map(|note| std::iter::repeat_n(note, n as usize)).collect(),
        lengths: Vec::<i64>::try_from(tokens).expect("counts").into_iter().map(|n| n as usize).collect(),
    }
}

fn check_round_trip(name: &str, pad: i32) {
    let Some(golden) = golden(name) else { return };
    let place = Place::new();
    let (list, labels) = (Utf8Path::new("codes.txt"), labels(LABELS));
    let model = place.out("model", pad, 300);
    let imported = import_published(&golden, (list, &labels), &settings(), &model).expect("imported");
    // Its config.json was written by a current Transformers.
    assert_eq!(imported.config.mask_constant, MaskConstant::Modern);
    assert_eq!(imported.config.padding, Padding::Attend);
    assert!(imported.report.missing.is_empty(), "{}", imported.report);

    let io = read_safetensors(&golden.join("io.safetensors")).expect("golden values");
    let batch = batch(&io["input_ids"], &io["attention_mask"]);
    let loaded = PlmIcd::load(&model, Device::Cpu).expect("a model");
    let logits = loaded.logits(&batch);
    assert!(difference(&logits, &io["logits"]) < 1e-5, "{name}: {}", difference(&logits, &io["logits"]));

    let exported = place.path.join("exported");
    fs_err::create_dir(&exported).expect("a folder");
    export_published(&model, &exported).expect("exported");
    let said = PublishedFolder::read(&exported).expect("a published folder");
    assert_eq!(said.config, imported.config);
    let (back, report) =
        PlmIcd::from_published(&exported, said.config, Device::Cpu).expect("a published checkpoint");
    assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{report}");
    // Label l of ours is row 36 - l of theirs: the codes are in falling order. A matrix product may round otherwise
    // where its rows are in another order.
    let turned = back.logits(&batch).flip([1]);
    assert!(difference(&turned, &logits) < 1e-6, "{name}: off by {}", difference(&turned, &logits));
    let codes = fs_err::read_to_string(exported.join(CODE_FILE)).expect("a list");
    let mut expected: Vec<&str> = labels.labels().iter().map(|label| label.code.as_str()).collect();
    expected.sort_unstable();
    assert_eq!(codes.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_published_roberta_predicts_the_same_and_comes_out_as_it_went_in() {
    check_round_trip("roberta-laat", 1);
}

#[test]
fn a_published_bert_predicts_the_same_and_comes_out_as_it_went_in() {
    check_round_trip("bert-laat", 0);
}

#[test]
fn the_other_published_modes_do_so_too() {
    check_round_trip("roberta-laat-split", 1);
    check_round_trip("bert-cls-sum", 0);
    check_round_trip("bert-cls-max", 0);
}

#[test]
fn what_does_not_fit_is_named() {
    let Some(golden) = golden("roberta-laat") else { return };
    let place = Place::new();
    let list = Utf8Path::new("codes.txt");
    let fails = |labels: &LabelSpace, out: &Utf8Path, parts: &[&str]| {
        let error = import_published(&golden, (list, labels), &settings(), out).expect_err("it does not fit");
        let message = error.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(!out.join("model.safetensors").exists());
    };
    let other = place.out("few", 1, 300);
    fails(&labels(36), &other, &["codes.txt: lists 36 codes, but the checkpoint's head scores 37"]);
    let other = place.out("large", 1, 301);
    fails(&labels(37), &other, &["config.json: 300 embeddings, but the tokenizer has 301 tokens"]);
    let other = place.out("pad", 0, 300);
    fails(&labels(37), &other, &["config.json: pad_token_id is 1, but the tokenizer's is 0"]);
    let long = ImportSettings { segment_length: Some(128), ..ImportSettings::default() };
    let out = place.out("long", 1, 300);
    let error = import_published(&golden, (list, &labels(37)), &long, &out).expect_err("too long");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("segment_length is 128, but the encoder reads 1 to 64 tokens"), "{cause}");
}

#[test]
fn a_folder_of_another_model_is_refused() {
    let Some(golden) = golden("roberta-mlm") else { return };
    let place = Place::new();
    let out = place.out("mlm", 1, 300);
    let list = Utf8Path::new("codes.txt");
    let error =
        import_published(&golden, (list, &labels(37)), &settings(), &out).expect_err("no label attention");
    let message = error.to_string();
    assert!(message.contains("model.safetensors: has no third_linear.bias"), "{message}");
}

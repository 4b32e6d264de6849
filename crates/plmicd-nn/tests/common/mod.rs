//! What the parity tests share: the golden folder and comparisons.
#![allow(clippy::print_stderr, dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use camino::Utf8PathBuf;
use plmicd_nn::{
    Loss, ModelConfig, Padding, PlmIcd, Reduction, SegmentBatch, Span, WordArchitecture, WordModelConfig,
    read_safetensors,
};
use tch::{Device, Kind, Tensor};

/// A file or folder below the golden folder; none, with the reason printed, where there is no such folder.
pub fn golden(part: &str) -> Option<Utf8PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden").join(part);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    Some(Utf8PathBuf::from_path_buf(path).unwrap())
}

/// The largest absolute difference.
pub fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    f64::try_from((a.detach() - b.detach()).abs().max()).unwrap()
}

pub fn scalar(tensor: &Tensor) -> f64 {
    f64::try_from(tensor.sum(Kind::Double)).unwrap()
}

/// A batch from the published layout: `ids` and `mask` [B,N,C], padding attended.
pub fn published_batch(ids: &Tensor, mask: &Tensor) -> SegmentBatch {
    let (b, n, c) = ids.size3().unwrap();
    let tokens = Vec::<i64>::try_from(mask.sum_dim_intlist([1, 2].as_slice(), false, Kind::Int64)).unwrap();
    SegmentBatch {
        ids: ids.view([b * n, c]),
        mask: mask.view([b * n, c]),
        spans: (0..b).map(|note| Span { start: note * n * c, length: n * c }).collect(),
        note_of_segment: (0..b as usize).flat_map(|note| std::iter::repeat_n(note, n as usize)).collect(),
        lengths: tokens.into_iter().map(|tokens| tokens as usize).collect(),
    }
}

/// The tensors of a `.safetensors` file of the golden folder.
pub fn tensors(part: &str) -> Option<BTreeMap<String, Tensor>> {
    golden(part).map(|path| read_safetensors(&path).unwrap())
}

/// A published model of the golden folder, with dropout 0 for training steps.
pub fn published_model(folder: &str, config: ModelConfig) -> Option<PlmIcd> {
    let source = golden(folder)?;
    let copy = tempfile::tempdir().unwrap();
    let copy = camino::Utf8Path::from_path(copy.path()).unwrap();
    for entry in source.read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        fs_err::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let text = fs_err::read_to_string(copy.join("config.json")).unwrap();
    let mut fields: serde_json::Value = serde_json::from_str(&text).unwrap();
    fields["hidden_dropout_prob"] = 0.0.into();
    fields["attention_probs_dropout_prob"] = 0.0.into();
    fs_err::write(copy.join("config.json"), fields.to_string()).unwrap();
    let (model, _) = PlmIcd::from_published(copy, config, Device::Cpu).unwrap();
    Some(model)
}

/// A small word-level model without dropout.
pub fn word_config(architecture: WordArchitecture) -> WordModelConfig {
    WordModelConfig {
        architecture,
        vocab_size: 30,
        pad_token_id: 0,
        embedding_size: 6,
        freeze_embeddings: false,
        hidden_size: 4,
        projection_size: 3,
        kernel_sizes: match architecture {
            WordArchitecture::MultiResCnn => vec![3, 7],
            _ => vec![4],
        },
        filter_maps: 5,
        dropout: 0.0,
        max_length: 12,
        padding: Padding::Mask,
        parents: None,
        parent_projection_size: 3,
        level_weights: [2.0, 3.0],
        description_weight: None,
        loss: Loss::BinaryCrossEntropy,
        loss_reduction: Reduction::Mean,
    }
}

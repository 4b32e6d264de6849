//! Settings of word-level models.

use plmicd_nn::{Attention, Pooling, WordArchitecture, WordModelConfig};
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{BiasInit, FinetuneConfig, LabelInit};

/// What reads the notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// A transformer over segments: PLM-ICD.
    #[default]
    Transformer,
    /// A bidirectional LSTM over words: LAAT and JointLAAT.
    BiLstm,
    /// One convolution over words: CAML and DR-CAML.
    Cnn,
    /// Convolutions of several widths with residual blocks: MultiResCNN.
    MultiResCnn,
}

impl Architecture {
    /// The word-level one, if it is one.
    pub(crate) fn word_level(self) -> Option<WordArchitecture> {
        match self {
            Architecture::Transformer => None,
            Architecture::BiLstm => Some(WordArchitecture::BiLstm),
            Architecture::Cnn => Some(WordArchitecture::Cnn),
            Architecture::MultiResCnn => Some(WordArchitecture::MultiResCnn),
        }
    }
}

/// A level of coarser labels that is scored first and handed to the full ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hierarchy {
    /// None.
    #[default]
    None,
    /// The categories: what stands before a code's dot (JointLAAT).
    ThreeCharacter,
}

/// Layers of a word-level model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WordModelSettings {
    /// Width of word embeddings that start from nothing; wired ones have their own.
    pub embedding_size: usize,
    /// Whether embeddings stay as they start, as in LAAT.
    pub freeze_embeddings: bool,
    /// Whether wired embeddings are first divided by their length, as CAML's code does.
    pub unit_embeddings: bool,
    /// `bi-lstm`: width of a direction's states.
    pub hidden_size: usize,
    /// `bi-lstm`: width of the projection before the label queries.
    pub projection_size: usize,
    /// Convolutions: maps of each width.
    pub filter_maps: usize,
    /// Convolutions: widths in words; those of CAML and MultiResCNN where absent.
    pub kernel_sizes: Option<Vec<usize>>,
    /// `three-character`: categories are scored first, and what they say is handed to the full codes (JointLAAT).
    pub hierarchy: Hierarchy,
    /// JointLAAT: width of what the categories' probabilities are projected to.
    pub parent_projection_size: usize,
    /// `cnn`: weight of the term that draws output vectors towards the codes' descriptions (DR-CAML); none where absent.
    pub description_weight: Option<f64>,
}

impl Default for WordModelSettings {
    fn default() -> Self {
        Self {
            embedding_size: 100,
            freeze_embeddings: false,
            unit_embeddings: false,
            hidden_size: 512,
            projection_size: 512,
            filter_maps: 50,
            kernel_sizes: None,
            hierarchy: Hierarchy::None,
            parent_projection_size: 128,
            description_weight: None,
        }
    }
}

impl WordModelSettings {
    /// Widths of the convolutions.
    pub(crate) fn kernels(&self, architecture: WordArchitecture) -> Vec<i64> {
        match (&self.kernel_sizes, architecture) {
            (Some(sizes), _) => sizes.iter().map(|size| *size as i64).collect(),
            (None, WordArchitecture::MultiResCnn) => vec![3, 5, 9, 15, 19, 25],
            (None, _) => vec![10],
        }
    }
}

/// What the layers' types cannot express, and what does not go with a transformer or with words. `wired`: the inputs
/// that the pipeline fills.
pub(crate) fn issues(config: &FinetuneConfig, wired: &[&str]) -> Vec<ConfigIssue> {
    let mut issues = Vec::new();
    let mut require = |ok: bool, path: &str, message: &str| {
        if !ok {
            issues.push(ConfigIssue::new(path, message));
        }
    };
    let words = &config.word_model;
    let Some(architecture) = config.architecture.word_level() else {
        require(
            !wired.contains(&"embeddings"),
            "architecture",
            "a transformer has no use for the input `embeddings`: remove it, or choose \"bi-lstm\", \"cnn\" or \"multi-res-cnn\"",
        );
        require(
            *words == WordModelSettings::default(),
            "word_model",
            "these settings are those of word-level models, but architecture = \"transformer\"",
        );
        return issues;
    };
    require(
        !wired.contains(&"encoder"),
        "architecture",
        "a word-level model has no use for the input `encoder`: remove it, or choose \"transformer\"",
    );
    require(config.encoder.is_none(), "encoder", "a word-level model has no encoder: remove it");
    require(
        config.label_init == LabelInit::Random,
        "label_init",
        "label vectors of word-level models start from nothing: expected \"random\"",
    );
    require(
        config.pooling == Pooling::default() && config.attention == Attention::default(),
        "architecture",
        "a word-level model has its own reading of long notes and its own label attention: leave pooling and attention out",
    );
    require(config.r_drop == 0.0, "r_drop", "only for transformers");
    require(config.frozen_layers == 0, "frozen_layers", "only for transformers");
    require(config.bias_init == BiasInit::Constant, "bias_init", "only for transformers");
    let wired_embeddings = wired.contains(&"embeddings");
    require(
        wired_embeddings || !words.freeze_embeddings,
        "word_model.freeze_embeddings",
        "embeddings that never learnt anything would stay so: wire the input `embeddings`",
    );
    require(
        wired_embeddings || !words.unit_embeddings,
        "word_model.unit_embeddings",
        "it is about the input `embeddings`, which is not wired",
    );
    let lstm = architecture == WordArchitecture::BiLstm;
    require(
        words.hierarchy == Hierarchy::None || lstm,
        "word_model.hierarchy",
        "categories are scored first only with architecture = \"bi-lstm\"",
    );
    require(
        words.description_weight.is_none() || architecture == WordArchitecture::Cnn,
        "word_model.description_weight",
        "the description term goes with architecture = \"cnn\" only",
    );
    let weight = words.description_weight.unwrap_or(1.0);
    require(weight.is_finite() && weight > 0.0, "word_model.description_weight", "expected a number above 0");
    let shape = WordModelConfig {
        vocab_size: 2,
        pad_token_id: 0,
        ..layers(config, architecture, words.embedding_size as i64)
    };
    // Dropout and the maximum length are checked for all architectures.
    if let Err(message) =
        (WordModelConfig { dropout: 0.0, max_length: 1, description_weight: None, ..shape }).check(1)
    {
        issues.push(ConfigIssue::new("word_model", message));
    }
    issues
}

/// The layers, without what only the data tell: vocabulary, parents, weights of levels.
pub(crate) fn layers(
    config: &FinetuneConfig,
    architecture: WordArchitecture,
    embedding_size: i64,
) -> WordModelConfig {
    let words = &config.word_model;
    let published_dropout = if architecture == WordArchitecture::BiLstm { 0.3 } else { 0.2 };
    WordModelConfig {
        architecture,
        vocab_size: 0,
        pad_token_id: 0,
        embedding_size,
        freeze_embeddings: words.freeze_embeddings,
        hidden_size: words.hidden_size as i64,
        projection_size: words.projection_size as i64,
        kernel_sizes: words.kernels(architecture),
        filter_maps: words.filter_maps as i64,
        dropout: config.dropout.unwrap_or(published_dropout),
        max_length: config.max_length,
        padding: config.padding,
        parents: None,
        parent_projection_size: words.parent_projection_size as i64,
        level_weights: [1.0, 1.0],
        description_weight: words.description_weight,
        loss: config.loss,
        loss_reduction: config.loss_reduction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EncoderShape;

    fn paths(config: &FinetuneConfig, wired: &[&str]) -> Vec<String> {
        issues(config, wired).into_iter().map(|issue| issue.path).collect()
    }

    fn cnn(change: fn(&mut WordModelSettings)) -> FinetuneConfig {
        let mut config = FinetuneConfig { architecture: Architecture::Cnn, ..FinetuneConfig::default() };
        change(&mut config.word_model);
        config
    }

    #[test]
    fn every_architecture_is_sound_by_default() {
        for architecture in
            [Architecture::Transformer, Architecture::BiLstm, Architecture::Cnn, Architecture::MultiResCnn]
        {
            let config = FinetuneConfig { architecture, ..FinetuneConfig::default() };
            assert!(paths(&config, &[]).is_empty(), "{architecture:?}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_located() {
        assert_eq!(paths(&FinetuneConfig::default(), &["embeddings"]), ["architecture"]);
        let words = WordModelSettings { filter_maps: 10, ..WordModelSettings::default() };
        let transformer = FinetuneConfig { word_model: words, ..FinetuneConfig::default() };
        assert_eq!(paths(&transformer, &[]), ["word_model"]);
        assert_eq!(paths(&cnn(|_| ()), &["encoder"]), ["architecture"]);
        let encoder = FinetuneConfig { encoder: Some(EncoderShape::default()), ..cnn(|_| ()) };
        assert_eq!(paths(&encoder, &[]), ["encoder"]);
        let described = FinetuneConfig { label_init: LabelInit::Descriptions, ..cnn(|_| ()) };
        assert_eq!(paths(&described, &[]), ["label_init"]);
        assert_eq!(paths(&cnn(|w| w.freeze_embeddings = true), &[]), ["word_model.freeze_embeddings"]);
        assert!(paths(&cnn(|w| w.freeze_embeddings = true), &["embeddings"]).is_empty());
        assert_eq!(paths(&cnn(|w| w.unit_embeddings = true), &[]), ["word_model.unit_embeddings"]);
        assert_eq!(paths(&cnn(|w| w.hierarchy = Hierarchy::ThreeCharacter), &[]), ["word_model.hierarchy"]);
        assert_eq!(
            paths(&cnn(|w| w.description_weight = Some(-1.0)), &[]),
            ["word_model.description_weight"]
        );
        assert_eq!(paths(&cnn(|w| w.kernel_sizes = Some(vec![3, 5])), &[]), ["word_model"]);
        assert_eq!(paths(&cnn(|w| w.filter_maps = 0), &[]), ["word_model"]);
    }
}

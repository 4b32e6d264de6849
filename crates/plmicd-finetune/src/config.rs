//! Settings of the stage, and what can be said against them before anything runs.

use plmicd_nn::{
    Attention, DescriptionInit, EncoderConfig, Loss, ModelConfig, Padding, Pooling, Precision, Projection,
    Reduction,
};
use plmicd_pipeline::ConfigIssue;
use plmicd_train::{AccumulationRule, OptimizerConfig, Order, TrainerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::word_config::{self, Architecture, WordModelSettings};

/// Where label queries and output vectors start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LabelInit {
    /// From normal(0, `initializer_range`), as published.
    #[default]
    Random,
    /// From the encoder's states of each code's description: decides everything where training notes are few.
    Descriptions,
}

/// How descriptions become label vectors: `v` is the mean token state of a description, scaled to length 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DescriptionScales {
    /// Whether the mean over all codes is subtracted from the mean token states first: what all descriptions share
    /// then says nothing.
    pub centre: bool,
    /// The query row is this times `v`.
    pub query: f64,
    /// The output row is this times `v`.
    pub output: f64,
    /// Every output bias: negative, since most codes are absent from most notes.
    pub bias: f64,
}

impl Default for DescriptionScales {
    fn default() -> Self {
        Self { centre: false, query: 2.0, output: 0.5, bias: -2.5 }
    }
}

/// Where the output biases start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BiasInit {
    /// One value for all codes: 0 with random label vectors (published), `description_scales.bias` with those from
    /// descriptions.
    #[default]
    Constant,
    /// The log odds of each code among the training notes, one note with it and one without it added. What is
    /// frequent need not be learnt any more.
    Prior,
}

/// Which epoch's weights are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BestMetric {
    /// That of the highest dev micro F1, each epoch at its own best threshold.
    #[default]
    MicroF1,
    /// That of the highest dev mean average precision, which needs no threshold.
    MeanAveragePrecision,
    /// That of the highest dev precision among the 5 labels of highest score.
    #[serde(rename = "precision_at_5")]
    PrecisionAt5,
    /// That of the highest dev precision among the 8 labels of highest score.
    #[serde(rename = "precision_at_8")]
    PrecisionAt8,
    /// That of the highest dev precision among the 15 labels of highest score.
    #[serde(rename = "precision_at_15")]
    PrecisionAt15,
    /// The last one's, as in the published training. Needs no dev split.
    LastEpoch,
}

impl BestMetric {
    /// The dev figure that decides; none for the last epoch.
    pub fn figure(self) -> Option<&'static str> {
        match self {
            Self::MicroF1 => Some("micro_f1"),
            Self::MeanAveragePrecision => Some("mean_average_precision"),
            Self::PrecisionAt5 => Some("precision_at_5"),
            Self::PrecisionAt8 => Some("precision_at_8"),
            Self::PrecisionAt15 => Some("precision_at_15"),
            Self::LastEpoch => None,
        }
    }
}

/// A BERT encoder to be trained from nothing, where the pipeline wires no `encoder`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderShape {
    /// Width of the token states (D). A multiple of `num_attention_heads`.
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer (H).
    pub num_attention_heads: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
}

impl Default for EncoderShape {
    fn default() -> Self {
        Self { hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4, intermediate_size: 1024 }
    }
}

/// Settings of the stage `finetune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// What reads the notes: `transformer` (PLM-ICD), or over whole words `bi-lstm` (LAAT), `cnn` (CAML) or
    /// `multi-res-cnn` (MultiResCNN).
    pub architecture: Architecture,
    /// Layers of a word-level model.
    pub word_model: WordModelSettings,
    /// Tokens of a note that are read, start and end token included; the rest is cut off.
    pub max_length: usize,
    /// Tokens of a segment (C): what the encoder sees at once.
    pub segment_length: usize,
    /// What is done about notes longer than the encoder reads: `segment` (the paper's), `segment-max`, `cls-mean`,
    /// `cls-sum`, `cls-max`, `hierarchical` or `whole`.
    pub pooling: Pooling,
    /// What weighs the tokens of a note for each label: `laat` (the paper's), `caml`, `bert-xml`, `cross` or `none`.
    pub attention: Attention,
    /// Whether label attention sees padding: `mask` (a note's scores depend on the note alone), or `attend` as
    /// published.
    pub padding: Padding,
    /// What stands between token states and label queries: `tanh` as published, or `identity`, which leaves queries
    /// and tokens in one space and so goes with `label_init = "descriptions"`.
    pub projection: Projection,
    /// Where label vectors start: `random`, or `descriptions`.
    pub label_init: LabelInit,
    /// How descriptions become label vectors.
    pub description_scales: DescriptionScales,
    /// Where output biases start: `constant`, or `prior`.
    pub bias_init: BiasInit,
    /// The loss of each code: `binary-cross-entropy` (published), `weighted-binary-cross-entropy`, `focal` or
    /// `asymmetric`, the latter three as tables of their settings.
    pub loss: Loss,
    /// Over what it is averaged: `mean` over notes and codes (published), or `note-sum`, the sum over the codes of a
    /// note.
    pub loss_reduction: Reduction,
    /// Weight of R-Drop's term: every note goes through the model twice with different dropout, and the two answers are
    /// drawn together. 0 goes through once.
    pub r_drop: f64,
    /// Layers of the encoder, from the lowest, that are not trained, nor are its embeddings; 0 trains everything.
    pub frozen_layers: usize,
    /// The encoder to train from nothing where none is wired.
    pub encoder: Option<EncoderShape>,
    /// Dropout of the encoder's layers and attention; the encoder's own setting (0.1 from nothing) where absent.
    pub dropout: Option<f64>,
    /// Passes over the training notes, at most.
    pub epochs: u32,
    /// Updates at which to stop even inside an epoch; the schedule then ends there too.
    pub max_steps: Option<u64>,
    /// Notes that go through the model at once.
    pub batch_size: usize,
    /// Batches per update: `batch_size` times this is the batch in the sense of the papers.
    pub accumulation: usize,
    /// Which batches make up an update: `batch`, or `published`, the first one of an epoch alone as in the published
    /// code.
    pub accumulation_rule: AccumulationRule,
    /// Order of the notes: `similar-length`, `shuffled`, or `as-stored`.
    pub order: Order,
    /// Optimizer, learning rates and schedule.
    pub optimizer: OptimizerConfig,
    /// Which epoch's weights are kept: `micro_f1`, `mean_average_precision`, `precision_at_5`, `precision_at_8`,
    /// `precision_at_15` (the best on dev), or `last_epoch`.
    pub best_metric: BestMetric,
    /// Epochs without a better dev `best_metric` after which training stops; 0 never stops early.
    pub early_stopping_patience: u32,
    /// Number format of matrix products: `auto` (bf16 where the hardware multiplies it faster), `fp32`, `bf16`, or `tf32`
    /// (GPUs).
    pub precision: Precision,
    /// Decides everything random: initial weights, order of the notes, dropout.
    pub seed: u64,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::Transformer,
            word_model: WordModelSettings::default(),
            max_length: 3072,
            segment_length: 128,
            pooling: Pooling::Segment,
            attention: Attention::Laat,
            padding: Padding::Mask,
            projection: Projection::Tanh,
            label_init: LabelInit::Random,
            description_scales: DescriptionScales::default(),
            bias_init: BiasInit::Constant,
            loss: Loss::BinaryCrossEntropy,
            loss_reduction: Reduction::Mean,
            r_drop: 0.0,
            frozen_layers: 0,
            encoder: None,
            dropout: None,
            epochs: 20,
            max_steps: None,
            batch_size: 8,
            accumulation: 1,
            accumulation_rule: AccumulationRule::Batch,
            order: Order::SimilarLength,
            optimizer: OptimizerConfig::default(),
            best_metric: BestMetric::MicroF1,
            early_stopping_patience: 0,
            precision: Precision::Auto,
            seed: 1,
        }
    }
}

impl FinetuneConfig {
    /// What the types cannot express. `wired`: the inputs that the pipeline fills.
    pub(crate) fn issues(&self, wired: &[&str]) -> Vec<ConfigIssue> {
        let encoder_wired = wired.contains(&"encoder");
        let mut issues = word_config::issues(self, wired);
        let mut require = |ok: bool, path: &str, message: &str| {
            if !ok {
                issues.push(ConfigIssue::new(path, message));
            }
        };
        require(self.segment_length >= 4, "segment_length", "expected at least 4 tokens");
        let segments = self.architecture == Architecture::Transformer;
        require(self.max_length > 0, "max_length", "expected at least 1");
        require(
            !segments || self.max_length == 0 || self.max_length >= self.segment_length,
            "max_length",
            "expected at least one segment: no less than segment_length",
        );
        require(self.epochs > 0, "epochs", "expected at least 1");
        require(self.max_steps != Some(0), "max_steps", "expected at least 1");
        require(self.batch_size > 0, "batch_size", "expected at least 1");
        require(self.accumulation > 0, "accumulation", "expected at least 1");
        if let Some((field, message)) = self.model().conflict() {
            require(false, field, &message);
        }
        require(
            self.label_init == LabelInit::Random || self.attention != Attention::None,
            "label_init",
            "attention = \"none\" has no label vectors to start from descriptions",
        );
        if let Some(dropout) = self.dropout {
            require(
                (0.0..1.0).contains(&dropout),
                "dropout",
                "expected a share from 0 up to, not including, 1",
            );
        }
        let scales = &self.description_scales;
        let finite = scales.query.is_finite() && scales.output.is_finite() && scales.bias.is_finite();
        require(finite, "description_scales", "expected finite numbers");
        require(
            self.early_stopping_patience == 0 || self.best_metric != BestMetric::LastEpoch,
            "early_stopping_patience",
            "early stopping needs a dev metric, but best_metric = \"last_epoch\"",
        );
        if let Some(shape) = &self.encoder {
            require(
                !encoder_wired,
                "encoder",
                "an encoder to train from nothing, but the input `encoder` is wired: remove one of the two",
            );
            let sizes = [
                ("hidden_size", shape.hidden_size),
                ("num_hidden_layers", shape.num_hidden_layers),
                ("num_attention_heads", shape.num_attention_heads),
                ("intermediate_size", shape.intermediate_size),
            ];
            for (name, size) in sizes {
                require(size > 0, &format!("encoder.{name}"), "expected at least 1");
            }
            require(
                shape.num_attention_heads == 0 || shape.hidden_size.is_multiple_of(shape.num_attention_heads),
                "encoder.hidden_size",
                "expected a multiple of num_attention_heads",
            );
        }
        require(
            self.frozen_layers == 0 || encoder_wired,
            "frozen_layers",
            "an encoder that is trained from nothing cannot keep layers as they are",
        );
        let label_wise = matches!(self.attention, Attention::Laat | Attention::Caml);
        let whole_note = matches!(self.pooling, Pooling::Segment | Pooling::Whole);
        require(
            self.bias_init == BiasInit::Constant || label_wise,
            "bias_init",
            "only attention = \"laat\" and \"caml\" have a bias for each code",
        );
        require(
            self.r_drop == 0.0 || (label_wise && whole_note),
            "r_drop",
            "only for attention = \"laat\" or \"caml\" over the whole note",
        );
        let weight = self.r_drop.is_finite() && self.r_drop >= 0.0;
        require(weight, "r_drop", "expected 0 (off) or a number above it");
        if let Some((field, message)) = self.loss.issue() {
            require(false, &format!("loss.{field}"), message);
        }
        for (field, message) in self.optimizer.issues() {
            issues.push(ConfigIssue::new(format!("optimizer.{field}"), message));
        }
        issues
    }

    /// The model's part of the settings.
    pub(crate) fn model(&self) -> ModelConfig {
        ModelConfig {
            segment_length: self.segment_length,
            max_length: self.max_length,
            pooling: self.pooling,
            attention: self.attention,
            padding: self.padding,
            projection: self.projection,
            loss: self.loss,
            loss_reduction: self.loss_reduction,
            r_drop: self.r_drop,
            ..ModelConfig::default()
        }
    }

    /// The encoder to train from nothing, over a vocabulary of this size.
    pub(crate) fn fresh_encoder(&self, vocab_size: usize, pad: i32) -> EncoderConfig {
        let shape = self.encoder.clone().unwrap_or_default();
        let base = EncoderConfig::small(
            vocab_size as i64,
            shape.hidden_size as i64,
            shape.num_hidden_layers as i64,
            shape.num_attention_heads as i64,
        );
        EncoderConfig {
            intermediate_size: shape.intermediate_size as i64,
            max_position_embeddings: base.max_position_embeddings.max(self.segment_length as i64),
            pad_token_id: i64::from(pad),
            ..base
        }
    }

    /// How descriptions become label vectors.
    pub(crate) fn description_init(&self) -> DescriptionInit {
        let DescriptionScales { centre, query, output, bias } = self.description_scales;
        DescriptionInit { centre, query_scale: query, output_scale: output, bias }
    }

    /// The trainer's part of the settings.
    pub(crate) fn trainer(&self) -> TrainerConfig {
        TrainerConfig {
            epochs: self.epochs,
            max_steps: self.max_steps,
            batch_size: self.batch_size,
            accumulation: self.accumulation,
            accumulation_rule: self.accumulation_rule,
            order: self.order,
            seed: self.seed,
            optimizer: self.optimizer.clone(),
            best_metric: self.best_metric.figure().map(str::to_owned),
            early_stopping_patience: self.early_stopping_patience,
            evaluate_every: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use plmicd_nn::Focal;

    use super::*;

    fn paths(config: &FinetuneConfig, encoder_wired: bool) -> Vec<String> {
        config
            .issues(if encoder_wired { &["encoder"] } else { &[] })
            .into_iter()
            .map(|issue| issue.path)
            .collect()
    }

    #[test]
    fn defaults_are_sound_and_survive_json() {
        let config = FinetuneConfig::default();
        assert!(paths(&config, true).is_empty() && paths(&config, false).is_empty());
        let json = serde_json::to_string(&config).expect("plain data");
        assert_eq!(serde_json::from_str::<FinetuneConfig>(&json).expect("its own output"), config);
        assert_eq!(serde_json::from_str::<FinetuneConfig>("{}").expect("all defaults"), config);
    }

    #[test]
    fn each_wrong_value_is_located() {
        let check = |change: fn(&mut FinetuneConfig), expected: &str| {
            let mut config = FinetuneConfig::default();
            change(&mut config);
            assert_eq!(paths(&config, true), [expected]);
        };
        check(|c| c.segment_length = 2, "segment_length");
        check(|c| c.max_length = 100, "max_length");
        check(|c| c.batch_size = 0, "batch_size");
        check(|c| c.accumulation = 0, "accumulation");
        check(|c| c.epochs = 0, "epochs");
        check(|c| c.dropout = Some(1.0), "dropout");
        check(|c| c.optimizer.learning_rate = -1.0, "optimizer.learning_rate");
        check(|c| c.optimizer.betas = [0.9, 1.0], "optimizer.betas");
        check(|c| c.encoder = Some(EncoderShape::default()), "encoder");
        check(|c| c.r_drop = -1.0, "r_drop");
        check(|c| c.loss = Loss::Focal(Focal { gamma: -1.0 }), "loss.focal.gamma");
        let early = |c: &mut FinetuneConfig| {
            c.best_metric = BestMetric::LastEpoch;
            c.early_stopping_patience = 2;
        };
        check(early, "early_stopping_patience");
    }

    #[test]
    fn heads_must_divide_the_width_of_a_fresh_encoder() {
        let shape = EncoderShape { hidden_size: 100, num_attention_heads: 3, ..EncoderShape::default() };
        let config = FinetuneConfig { encoder: Some(shape), ..FinetuneConfig::default() };
        assert_eq!(paths(&config, false), ["encoder.hidden_size"]);
    }

    #[test]
    fn what_is_trained_from_nothing_is_trained_whole() {
        let config = FinetuneConfig { frozen_layers: 2, ..FinetuneConfig::default() };
        assert_eq!(paths(&config, false), ["frozen_layers"]);
        assert!(paths(&config, true).is_empty());
    }
}

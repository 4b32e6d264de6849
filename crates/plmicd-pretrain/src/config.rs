//! Settings of the stage, and what can be said against them before anything runs.

use plmicd_nn::{EncoderConfig, ModelType, Precision};
use plmicd_pipeline::ConfigIssue;
use plmicd_train::{AccumulationRule, OptimizerConfig, Order, TrainerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the dev figure that rises as perplexity falls: the mean log-likelihood of a hidden token.
pub(crate) const LOG_LIKELIHOOD: &str = "log_likelihood";

/// Where start and end tokens stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// Around every sequence, as BERT and RoBERTa were pretrained.
    #[default]
    Sequence,
    /// Around every note: its sequences are then the segments that fine-tuning cuts.
    Note,
}

/// Which epoch's weights are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BestMetric {
    /// That of the lowest dev perplexity.
    #[default]
    Perplexity,
    /// The last one's. Needs no dev split.
    LastEpoch,
}

/// Kind of encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Devlin et al. 2019.
    #[default]
    Bert,
    /// Liu et al. 2019.
    Roberta,
}

/// An encoder to be trained from nothing, where the pipeline wires none. It has room for 512 tokens at a time, or
/// `sequence_length` where that is more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderShape {
    /// `bert` or `roberta`.
    pub model_type: Family,
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
        Self {
            model_type: Family::Bert,
            hidden_size: 256,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            intermediate_size: 1024,
        }
    }
}

/// Settings of the stage `pretrain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Tokens of a sequence, special tokens included.
    pub sequence_length: usize,
    /// Where start and end tokens stand: around every `sequence`, or around every `note`.
    pub framing: Framing,
    /// Whether a sequence may run on into the next note; otherwise the last one of a note is short.
    pub cross_notes: bool,
    /// Share of the tokens of a sequence that are hidden and have to be named.
    pub mask_rate: f64,
    /// Share of the hidden tokens in whose place the model sees the mask token.
    pub mask_token_share: f64,
    /// Share of the hidden tokens in whose place it sees a random one. The rest it sees as they are.
    pub random_token_share: f64,
    /// Hide whole words rather than single pieces of them (WordPiece and byte-level BPE).
    pub whole_words: bool,
    /// The encoder to train from nothing where none is wired.
    pub encoder: Option<EncoderShape>,
    /// Dropout of the encoder's layers and attention, also of the encoder that comes out; its own setting (0.1 from
    /// nothing) where absent.
    pub dropout: Option<f64>,
    /// Passes over the training notes, at most. Every pass hides other tokens.
    pub epochs: u32,
    /// Updates at which to stop even inside an epoch; the schedule then ends there too.
    pub max_steps: Option<u64>,
    /// Sequences that go through the model at once.
    pub batch_size: usize,
    /// Batches per update: `batch_size` times this is the batch in the sense of the papers.
    pub accumulation: usize,
    /// Order of the sequences: `similar-length`, `shuffled`, or `as-stored`.
    pub order: Order,
    /// Optimizer, learning rate and schedule.
    pub optimizer: OptimizerConfig,
    /// Which epoch's weights are kept: `perplexity` (the lowest on the dev notes) or `last_epoch`.
    pub best_metric: BestMetric,
    /// Epochs without a lower dev perplexity after which training stops; 0 never stops early.
    pub early_stopping_patience: u32,
    /// Updates between two looks at the dev notes inside an epoch, for long epochs; only at its end where absent.
    pub evaluate_every: Option<u64>,
    /// Number format of matrix products: `auto` (bf16 where the hardware multiplies it faster), `fp32`, `bf16`, or `tf32`
    /// (GPUs).
    pub precision: Precision,
    /// Decides everything random: initial weights, order, what is hidden, dropout.
    pub seed: u64,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            sequence_length: 128,
            framing: Framing::Sequence,
            cross_notes: false,
            mask_rate: 0.15,
            mask_token_share: 0.8,
            random_token_share: 0.1,
            whole_words: false,
            encoder: None,
            dropout: None,
            epochs: 10,
            max_steps: None,
            batch_size: 32,
            accumulation: 1,
            order: Order::SimilarLength,
            optimizer: OptimizerConfig::default(),
            best_metric: BestMetric::Perplexity,
            early_stopping_patience: 0,
            evaluate_every: None,
            precision: Precision::Auto,
            seed: 1,
        }
    }
}

impl PretrainConfig {
    /// What the types cannot express. `encoder_wired`: the pipeline fills the input `encoder`.
    pub(crate) fn issues(&self, encoder_wired: bool) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        let mut require = |ok: bool, path: &str, message: &str| {
            if !ok {
                issues.push(ConfigIssue::new(path, message));
            }
        };
        require(self.sequence_length >= 8, "sequence_length", "expected at least 8 tokens");
        let is_share = |x: f64| (0.0..=1.0).contains(&x);
        require(
            self.mask_rate > 0.0 && self.mask_rate < 1.0,
            "mask_rate",
            "expected a share between 0 and 1, without the ends",
        );
        require(is_share(self.mask_token_share), "mask_token_share", "expected a share from 0 to 1");
        require(
            is_share(self.random_token_share) && self.mask_token_share + self.random_token_share <= 1.0,
            "random_token_share",
            "expected a share from 0 to 1, and no more than mask_token_share leaves",
        );
        require(self.epochs > 0, "epochs", "expected at least 1");
        require(self.max_steps != Some(0), "max_steps", "expected at least 1");
        require(self.evaluate_every != Some(0), "evaluate_every", "expected at least 1");
        require(self.batch_size > 0, "batch_size", "expected at least 1");
        require(self.accumulation > 0, "accumulation", "expected at least 1");
        if let Some(dropout) = self.dropout {
            require(
                (0.0..1.0).contains(&dropout),
                "dropout",
                "expected a share from 0 up to, not including, 1",
            );
        }
        require(
            self.optimizer.head_learning_rate.is_none(),
            "optimizer.head_learning_rate",
            "pretraining has no label attention; remove it",
        );
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
        for (field, message) in self.optimizer.issues() {
            issues.push(ConfigIssue::new(format!("optimizer.{field}"), message));
        }
        issues
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
        let positions = base.max_position_embeddings.max(self.sequence_length as i64);
        let config = EncoderConfig {
            intermediate_size: shape.intermediate_size as i64,
            max_position_embeddings: positions,
            pad_token_id: i64::from(pad),
            ..base
        };
        match shape.model_type {
            Family::Bert => config,
            // RoBERTa's tokens use no position up to the padding token's, and have one type.
            Family::Roberta => EncoderConfig {
                model_type: ModelType::Roberta,
                max_position_embeddings: positions + i64::from(pad) + 1,
                type_vocab_size: 1,
                layer_norm_eps: 1e-5,
                ..config
            },
        }
    }

    /// The trainer's part of the settings.
    pub(crate) fn trainer(&self) -> TrainerConfig {
        TrainerConfig {
            epochs: self.epochs,
            max_steps: self.max_steps,
            batch_size: self.batch_size,
            accumulation: self.accumulation,
            accumulation_rule: AccumulationRule::Batch,
            order: self.order,
            seed: self.seed,
            optimizer: self.optimizer.clone(),
            best_metric: match self.best_metric {
                BestMetric::Perplexity => Some(LOG_LIKELIHOOD.to_owned()),
                BestMetric::LastEpoch => None,
            },
            early_stopping_patience: self.early_stopping_patience,
            evaluate_every: self.evaluate_every,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(config: &PretrainConfig, encoder_wired: bool) -> Vec<String> {
        config.issues(encoder_wired).into_iter().map(|issue| issue.path).collect()
    }

    #[test]
    fn defaults_are_sound_and_survive_json() {
        let config = PretrainConfig::default();
        assert!(paths(&config, true).is_empty() && paths(&config, false).is_empty());
        let json = serde_json::to_string(&config).expect("plain data");
        assert_eq!(serde_json::from_str::<PretrainConfig>(&json).expect("its own output"), config);
        assert_eq!(serde_json::from_str::<PretrainConfig>("{}").expect("all defaults"), config);
    }

    #[test]
    fn each_wrong_value_is_located() {
        let check = |change: fn(&mut PretrainConfig), expected: &str| {
            let mut config = PretrainConfig::default();
            change(&mut config);
            assert_eq!(paths(&config, true), [expected]);
        };
        check(|c| c.sequence_length = 7, "sequence_length");
        check(|c| c.mask_rate = 0.0, "mask_rate");
        check(|c| c.mask_rate = f64::NAN, "mask_rate");
        check(|c| c.mask_token_share = -0.1, "mask_token_share");
        check(|c| c.random_token_share = 0.3, "random_token_share");
        check(|c| c.epochs = 0, "epochs");
        check(|c| c.max_steps = Some(0), "max_steps");
        check(|c| c.evaluate_every = Some(0), "evaluate_every");
        check(|c| c.batch_size = 0, "batch_size");
        check(|c| c.accumulation = 0, "accumulation");
        check(|c| c.dropout = Some(1.0), "dropout");
        check(|c| c.optimizer.head_learning_rate = Some(1e-3), "optimizer.head_learning_rate");
        check(|c| c.optimizer.epsilon = 0.0, "optimizer.epsilon");
        check(|c| c.encoder = Some(EncoderShape::default()), "encoder");
        let early = |c: &mut PretrainConfig| {
            c.best_metric = BestMetric::LastEpoch;
            c.early_stopping_patience = 2;
        };
        check(early, "early_stopping_patience");
    }

    #[test]
    fn a_fresh_roberta_has_room_for_as_many_tokens_as_a_bert() {
        for model_type in [Family::Bert, Family::Roberta] {
            let shape = EncoderShape { model_type, ..EncoderShape::default() };
            let config = PretrainConfig { encoder: Some(shape), ..PretrainConfig::default() };
            assert_eq!(config.fresh_encoder(1000, 1).max_sequence_length(), 512);
            let long = PretrainConfig { sequence_length: 600, ..config };
            assert_eq!(long.fresh_encoder(1000, 1).max_sequence_length(), 600);
        }
    }
}

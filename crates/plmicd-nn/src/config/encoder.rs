use std::collections::BTreeMap;
use std::fmt;

use camino::Utf8Path;
use serde_json::{Map, Value, json};
use tch::Tensor;

use crate::NnError;

/// The encoder families that can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelType {
    Bert,
    Roberta,
    /// RoBERTa with a sliding window of attention.
    Longformer,
}

impl ModelType {
    /// Hugging Face's name, also the prefix of the encoder's tensors.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelType::Bert => "bert",
            ModelType::Roberta => "roberta",
            ModelType::Longformer => "longformer",
        }
    }
}

const SUPPORTED: &str = "\"bert\", \"roberta\" and \"longformer\"";

/// The activation between the two layers of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenAct {
    /// `x * Phi(x)` with the exact error function.
    Gelu,
    /// GELU's tanh approximation (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    Relu,
}

impl HiddenAct {
    pub(crate) fn apply(self, x: &Tensor) -> Tensor {
        match self {
            HiddenAct::Gelu => x.gelu("none"),
            HiddenAct::GeluTanh => x.gelu("tanh"),
            HiddenAct::Relu => x.relu(),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            HiddenAct::Gelu => "gelu",
            HiddenAct::GeluTanh => "gelu_new",
            HiddenAct::Relu => "relu",
        }
    }
}

/// An encoder as Hugging Face's `config.json` describes it (`model_type` bert, roberta or longformer). Fields that do not matter
/// here are kept and written back.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    pub model_type: ModelType,
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    pub intermediate_size: i64,
    pub hidden_act: HiddenAct,
    pub hidden_dropout_prob: f64,
    pub attention_probs_dropout_prob: f64,
    /// Rows of the position table. RoBERTa and Longformer use none of its first `pad_token_id + 1` for tokens.
    pub max_position_embeddings: i64,
    pub type_vocab_size: i64,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub pad_token_id: i64,
    /// Everything else of the file.
    pub other: BTreeMap<String, Value>,
}

impl EncoderConfig {
    /// Its size for people: `12 layers of width 768, vocabulary 50265`.
    pub fn outline(&self) -> String {
        let ending = if self.num_hidden_layers == 1 { "" } else { "s" };
        format!(
            "{} layer{ending} of width {}, vocabulary {}",
            self.num_hidden_layers, self.hidden_size, self.vocab_size
        )
    }

    /// A BERT to be trained from scratch: feed-forward blocks four times as wide as `hidden_size`, 512 positions,
    /// padding token 0, dropout 0.1.
    pub fn small(vocab_size: i64, hidden_size: i64, layers: i64, heads: i64) -> EncoderConfig {
        EncoderConfig {
            model_type: ModelType::Bert,
            vocab_size,
            hidden_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            intermediate_size: 4 * hidden_size,
            hidden_act: HiddenAct::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
            other: BTreeMap::new(),
        }
    }

    /// Reads a `config.json`. Absent fields take the values Transformers gives them.
    pub fn read(path: &Utf8Path) -> Result<EncoderConfig, NnError> {
        let text = fs_err::read_to_string(path)?;
        let value: Value = serde_json::from_str(&text).map_err(|e| NnError::file(path, e.to_string()))?;
        match value {
            Value::Object(fields) => {
                EncoderConfig::from_json(fields).map_err(|message| NnError::file(path, message))
            }
            _ => Err(NnError::file(path, "expected a JSON object, as Hugging Face's config.json")),
        }
    }

    /// Builds the configuration from the fields of a `config.json`; the error says which field is wrong.
    pub fn from_json(fields: Map<String, Value>) -> Result<EncoderConfig, String> {
        let mut fields = Fields(fields.into_iter().collect());
        let model_type = match fields.take("model_type").as_ref().and_then(Value::as_str) {
            Some("bert") => ModelType::Bert,
            Some("roberta") => ModelType::Roberta,
            Some("longformer") => ModelType::Longformer,
            Some(other) => {
                return Err(format!("model_type \"{other}\" is not supported; supported are {SUPPORTED}"));
            }
            None => return Err(format!("model_type is missing; supported are {SUPPORTED}")),
        };
        let (vocab_size, pad_token_id) = match model_type {
            ModelType::Bert => (30_522, 0),
            ModelType::Roberta => (50_265, 1),
            ModelType::Longformer => (30_522, 1),
        };
        if let Some(kind) = fields.take("position_embedding_type")
            && kind != "absolute"
        {
            return Err(format!(
                "position_embedding_type {kind} is not supported; supported is \"absolute\""
            ));
        }
        let config = EncoderConfig {
            model_type,
            vocab_size: fields.positive("vocab_size", vocab_size)?,
            hidden_size: fields.positive("hidden_size", 768)?,
            num_hidden_layers: fields.positive("num_hidden_layers", 12)?,
            num_attention_heads: fields.positive("num_attention_heads", 12)?,
            intermediate_size: fields.positive("intermediate_size", 3072)?,
            hidden_act: fields.activation()?,
            hidden_dropout_prob: fields.number("hidden_dropout_prob", 0.1, 0.0..1.0)?,
            attention_probs_dropout_prob: fields.number("attention_probs_dropout_prob", 0.1, 0.0..1.0)?,
            max_position_embeddings: fields.positive("max_position_embeddings", 512)?,
            type_vocab_size: fields.positive("type_vocab_size", 2)?,
            initializer_range: fields.number("initializer_range", 0.02, 0.0..f64::INFINITY)?,
            layer_norm_eps: fields.number("layer_norm_eps", 1e-12, 0.0..f64::INFINITY)?,
            pad_token_id: fields.whole("pad_token_id", pad_token_id)?,
            other: fields.0,
        };
        config.check()?;
        Ok(config)
    }

    /// The fields of a `config.json`, sorted by name, those of [`EncoderConfig::other`] included.
    pub fn to_json(&self) -> BTreeMap<String, Value> {
        let mut fields = self.other.clone();
        let known = [
            ("model_type", json!(self.model_type.as_str())),
            ("vocab_size", json!(self.vocab_size)),
            ("hidden_size", json!(self.hidden_size)),
            ("num_hidden_layers", json!(self.num_hidden_layers)),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("hidden_act", json!(self.hidden_act.as_str())),
            ("hidden_dropout_prob", json!(self.hidden_dropout_prob)),
            ("attention_probs_dropout_prob", json!(self.attention_probs_dropout_prob)),
            ("max_position_embeddings", json!(self.max_position_embeddings)),
            ("position_embedding_type", json!("absolute")),
            ("type_vocab_size", json!(self.type_vocab_size)),
            ("initializer_range", json!(self.initializer_range)),
            ("layer_norm_eps", json!(self.layer_norm_eps)),
            ("pad_token_id", json!(self.pad_token_id)),
        ];
        fields.extend(known.map(|(name, value)| (name.to_owned(), value)));
        fields
    }

    /// The longest sequence the position table has room for.
    pub fn max_sequence_length(&self) -> i64 {
        match self.model_type {
            ModelType::Bert => self.max_position_embeddings,
            ModelType::Roberta | ModelType::Longformer => {
                self.max_position_embeddings - self.pad_token_id - 1
            }
        }
    }

    /// Checks what single fields cannot show.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.hidden_size % self.num_attention_heads != 0 {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !(0..self.vocab_size).contains(&self.pad_token_id) {
            return Err(format!(
                "pad_token_id {} is not a token of a vocabulary of {}",
                self.pad_token_id, self.vocab_size
            ));
        }
        if self.max_sequence_length() < 1 {
            return Err(format!(
                "max_position_embeddings {} leaves no position for a token",
                self.max_position_embeddings
            ));
        }
        Ok(())
    }
}

impl fmt::Display for ModelType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The fields of a file not yet taken.
struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// Absent and null are the same to Transformers.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn positive(&mut self, name: &str, default: i64) -> Result<i64, String> {
        match self.whole(name, default)? {
            0 => Err(format!("{name} is 0, expected at least 1")),
            value => Ok(value),
        }
    }

    fn whole(&mut self, name: &str, default: i64) -> Result<i64, String> {
        match self.take(name) {
            None => Ok(default),
            Some(value) => value
                .as_i64()
                .filter(|&number| (0..=i64::from(i32::MAX)).contains(&number))
                .ok_or_else(|| format!("{name} is {value}, expected a whole number")),
        }
    }

    fn number(&mut self, name: &str, default: f64, range: std::ops::Range<f64>) -> Result<f64, String> {
        match self.take(name) {
            None => Ok(default),
            Some(value) => value.as_f64().filter(|number| range.contains(number)).ok_or_else(|| {
                format!(
                    "{name} is {value}, expected a number of at least {} and below {}",
                    range.start, range.end
                )
            }),
        }
    }

    fn activation(&mut self) -> Result<HiddenAct, String> {
        match self.take("hidden_act") {
            None => Ok(HiddenAct::Gelu),
            Some(value) => match value.as_str() {
                Some("gelu") => Ok(HiddenAct::Gelu),
                Some("gelu_new" | "gelu_pytorch_tanh") => Ok(HiddenAct::GeluTanh),
                Some("relu") => Ok(HiddenAct::Relu),
                _ => Err(format!(
                    "hidden_act {value} is not supported; supported are \"gelu\", \"gelu_new\", \
                     \"gelu_pytorch_tanh\" and \"relu\""
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EncoderConfig, String> {
        EncoderConfig::from_json(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn absent_fields_take_the_familys_defaults() {
        let bert = parse(r#"{"model_type": "bert"}"#).unwrap();
        assert_eq!((bert.vocab_size, bert.pad_token_id, bert.max_sequence_length()), (30_522, 0, 512));
        let roberta = parse(r#"{"model_type": "roberta", "max_position_embeddings": 514}"#).unwrap();
        assert_eq!(
            (roberta.vocab_size, roberta.pad_token_id, roberta.max_sequence_length()),
            (50_265, 1, 512)
        );
    }

    #[test]
    fn unknown_fields_survive() {
        let config = parse(r#"{"model_type": "bert", "gradient_checkpointing": false}"#).unwrap();
        let again = EncoderConfig::from_json(config.to_json().into_iter().collect()).unwrap();
        assert_eq!(config, again);
        assert_eq!(again.other["gradient_checkpointing"], false);
    }

    #[test]
    fn wrong_fields_are_named() {
        for (text, expected) in [
            (r#"{"model_type": "deberta"}"#, "\"deberta\" is not supported; supported are \"bert\""),
            (r#"{}"#, "model_type is missing"),
            (r#"{"model_type": "bert", "hidden_size": "768"}"#, "hidden_size is \"768\""),
            (r#"{"model_type": "bert", "hidden_size": 770}"#, "not a multiple of num_attention_heads"),
            (r#"{"model_type": "bert", "hidden_act": "swish"}"#, "hidden_act \"swish\""),
            (r#"{"model_type": "bert", "hidden_dropout_prob": 1.0}"#, "hidden_dropout_prob is 1.0"),
            (r#"{"model_type": "bert", "position_embedding_type": "relative_key"}"#, "\"absolute\""),
            (r#"{"model_type": "bert", "num_hidden_layers": 0}"#, "at least 1"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}

//! Model folders: an encoder in Hugging Face's layout, a published PLM-ICD checkpoint, a model of our own. All are
//! a `config.json` beside tensors under the published names.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use crate::weights::{Growth, Wanted, fill};
use crate::{
    Attention, EncoderConfig, LoadReport, ModelConfig, ModelType, NnError, PlmIcd, read_safetensors,
    read_torch_file, write_safetensors,
};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// The older name and layout, read only.
pub(crate) const TORCH_WEIGHTS: &str = "pytorch_model.bin";
/// The section of `config.json` that is ours.
pub(crate) const SECTION: &str = "plmicd";

/// Fields of an encoder's `config.json` that tell of the task it was trained for and of the number format its tensors
/// were in, not of what is written from it: that is fp32, which readers take where nothing is said.
pub(crate) const OF_THE_SOURCE: [&str; 6] =
    ["id2label", "label2id", "problem_type", "num_labels", "torch_dtype", "dtype"];

/// Our section of `config.json`.
#[derive(Serialize, Deserialize)]
struct Section {
    num_labels: usize,
    #[serde(flatten)]
    config: ModelConfig,
}

impl PlmIcd {
    /// A model whose encoder comes from a Hugging Face folder and whose label attention is fresh (drawn from `seed`).
    /// Fails if a tensor of the encoder is missing or of another shape; what the file holds beyond is reported.
    pub fn from_hf_encoder(
        folder: &Utf8Path,
        config: ModelConfig,
        num_labels: usize,
        seed: u64,
        device: Device,
    ) -> Result<(PlmIcd, LoadReport), NnError> {
        let encoder_config = EncoderConfig::read(&folder.join(CONFIG))?;
        let model = PlmIcd::new(&encoder_config, config, num_labels, seed, device)?;
        let report = model.load_encoder(folder, None)?;
        Ok((model, report))
    }

    /// Takes the encoder's weights from a Hugging Face folder. Fails if a tensor of the encoder is missing or of
    /// another shape; what the file holds beyond is reported.
    /// `growth` gives rows to the pieces by which the encoder's vocabulary was extended.
    pub fn load_encoder(&self, folder: &Utf8Path, growth: Option<Growth<'_>>) -> Result<LoadReport, NnError> {
        self.fill_from(folder, Wanted::Encoder, growth)
    }

    /// A published PLM-ICD checkpoint: the number of labels is that of its `third_linear`, or of its `classifier` where
    /// it has no label attention. `config` must be the one it was trained with; of that `config.json` says the mode
    /// ([`ModelConfig::with_published_mode`]).
    pub fn from_published(
        folder: &Utf8Path,
        config: ModelConfig,
        device: Device,
    ) -> Result<(PlmIcd, LoadReport), NnError> {
        let encoder_config = EncoderConfig::read(&folder.join(CONFIG))?;
        let (file, tensors) = read_weights(folder)?;
        let bias = match config.attention {
            Attention::None => "classifier.bias",
            _ => "third_linear.bias",
        };
        let num_labels = match tensors.get(bias).map(Tensor::size).as_deref() {
            Some(&[labels]) => labels as usize,
            _ => {
                let message = format!("has no {bias} of one dimension: not a PLM-ICD model");
                return Err(NnError::file(file, message));
            }
        };
        let model = PlmIcd::new(&encoder_config, config, num_labels, 0, device)?;
        let report =
            fill(&model.parameters(), tensors, encoder_config.model_type, Wanted::Everything, &file)?;
        Ok((model, report))
    }

    /// A model that [`PlmIcd::save`] wrote.
    pub fn load(folder: &Utf8Path, device: Device) -> Result<PlmIcd, NnError> {
        let path = folder.join(CONFIG);
        let mut encoder_config = EncoderConfig::read(&path)?;
        let section = encoder_config.other.remove(SECTION).ok_or_else(|| {
            NnError::file(&path, format!("has no \"{SECTION}\" section: not a model of ours"))
        })?;
        let section: Section = serde_json::from_value(section)
            .map_err(|e| NnError::file(&path, format!("section \"{SECTION}\": {e}")))?;
        let model = PlmIcd::new(&encoder_config, section.config, section.num_labels, 0, device)?;
        model.fill_from(folder, Wanted::Everything, None)?;
        Ok(model)
    }

    /// Writes `config.json` and `model.safetensors` into an existing folder, each complete or not at all; the same
    /// bytes for the same model.
    pub fn save(&self, folder: &Utf8Path) -> Result<(), NnError> {
        let parameters = self.parameters();
        let tensors: Vec<(&str, &Tensor)> =
            parameters.iter().map(|parameter| (parameter.name.as_str(), &parameter.tensor)).collect();
        write_safetensors(&folder.join(WEIGHTS), &tensors)?;
        write_json(&folder.join(CONFIG), &self.config_json(self.config())?)
    }

    /// `config.json` of a model with these settings as the published code expects it, plus our section.
    pub(crate) fn config_json(&self, config: &ModelConfig) -> Result<Value, NnError> {
        let encoder = self.encoder().config();
        let mut fields = encoder.to_json();
        for stale in OF_THE_SOURCE {
            fields.remove(stale);
        }
        let family = match encoder.model_type {
            ModelType::Bert => "Bert",
            ModelType::Roberta => "Roberta",
            ModelType::Longformer => "Longformer",
        };
        // What the published code cannot load is an encoder with more to it.
        let mode = config.published_mode(encoder.model_type);
        let architecture = match mode {
            Some(_) => format!("{family}ForMultilabelClassification"),
            None => format!("{family}Model"),
        };
        if encoder.model_type == ModelType::Longformer {
            let windows = vec![config.segment_length; encoder.num_hidden_layers.max(0) as usize];
            fields.insert("attention_window".to_owned(), json!(windows));
        }
        let section = Section { num_labels: self.num_labels(), config: config.clone() };
        let section = serde_json::to_value(section).map_err(|e| NnError::Invalid(e.to_string()))?;
        fields.insert("architectures".to_owned(), json!([architecture]));
        fields.remove("model_mode");
        if let Some(mode) = mode {
            fields.insert("model_mode".to_owned(), json!(mode));
        }
        fields.insert(SECTION.to_owned(), section);
        Ok(sorted(Value::Object(fields.into_iter().collect())))
    }

    fn fill_from(
        &self,
        folder: &Utf8Path,
        wanted: Wanted,
        growth: Option<Growth<'_>>,
    ) -> Result<LoadReport, NnError> {
        let (file, mut tensors) = read_weights(folder)?;
        if let Some(growth) = growth {
            growth.apply(&mut tensors, self.encoder().config().model_type, &file)?;
        }
        let report = fill(&self.parameters(), tensors, self.encoder().config().model_type, wanted, &file)?;
        tracing::debug!(file = %file, %report, "weights loaded");
        Ok(report)
    }
}

/// The tensors of a model folder and the file they came from.
pub(crate) fn read_weights(folder: &Utf8Path) -> Result<(Utf8PathBuf, BTreeMap<String, Tensor>), NnError> {
    let file = folder.join(WEIGHTS);
    if file.exists() {
        let tensors = read_safetensors(&file)?;
        return Ok((file, tensors));
    }
    let older = folder.join(TORCH_WEIGHTS);
    if older.exists() {
        let tensors = read_torch_file(&older)?;
        return Ok((older, tensors));
    }
    let expected = "not found; expected a Hugging Face model folder with config.json and model.safetensors (or pytorch_model.bin)";
    Err(NnError::file(file, expected))
}

/// Objects sorted by key at every depth, whatever order the JSON library keeps.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> = fields.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(Map::from_iter(fields))
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

pub(crate) fn write_json(path: &Utf8Path, value: &Value) -> Result<(), NnError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| NnError::file(path, e.to_string()))?;
    text.push('\n');
    let partial = path.with_extension("json.partial");
    fs_err::write(&partial, text)?;
    Ok(fs_err::rename(partial, path)?)
}

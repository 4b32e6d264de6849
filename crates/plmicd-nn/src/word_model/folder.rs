//! Word-level models as folders: `config.json` with our section, `model.safetensors` with every tensor.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::model_folder::{CONFIG, SECTION, WEIGHTS, sorted, write_json};
use crate::{NnError, WordModel, WordModelConfig, read_safetensors, write_safetensors};

/// What `model_type` of `config.json` says.
const MODEL_TYPE: &str = "plmicd-word-model";

/// Whether a `config.json` is that of a word-level model.
pub(crate) fn is_word_model(config: &Value) -> bool {
    config.get("model_type").is_some_and(|kind| kind == MODEL_TYPE)
}

/// Our section of `config.json`.
#[derive(Serialize, Deserialize)]
struct Section {
    num_labels: usize,
    word_model: WordModelConfig,
}

impl WordModel {
    /// A model that [`WordModel::save`] wrote; `config` is its `config.json`.
    pub(crate) fn load(folder: &Utf8Path, mut config: Value, device: Device) -> Result<WordModel, NnError> {
        let path = folder.join(CONFIG);
        let section = config.get_mut(SECTION).map(Value::take).unwrap_or_default();
        let section: Section = serde_json::from_value(section)
            .map_err(|e| NnError::file(&path, format!("section \"{SECTION}\": {e}")))?;
        let model = WordModel::new(section.word_model, section.num_labels, 0, device)?;
        let file = folder.join(WEIGHTS);
        let mut tensors = read_safetensors(&file)?;
        for (name, own) in model.tensors() {
            let Some(saved) = tensors.remove(&name) else {
                return Err(NnError::file(file, format!("has no tensor `{name}`")));
            };
            if saved.size() != own.size() {
                let message = format!("tensor `{name}` is {:?}, expected {:?}", saved.size(), own.size());
                return Err(NnError::file(file, message));
            }
            tch::no_grad(|| own.shallow_clone().copy_(&saved));
        }
        match tensors.into_keys().next() {
            Some(name) => Err(NnError::file(file, format!("has a tensor `{name}` that the model does not"))),
            None => Ok(model),
        }
    }

    /// Writes `config.json` and `model.safetensors` into an existing folder, each complete or not at all; the same bytes
    /// for the same model.
    pub fn save(&self, folder: &Utf8Path) -> Result<(), NnError> {
        let tensors = self.tensors();
        let tensors: Vec<(&str, &Tensor)> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        write_safetensors(&folder.join(WEIGHTS), &tensors)?;
        let section = Section { num_labels: self.num_labels(), word_model: self.config().clone() };
        let section = serde_json::to_value(section).map_err(|e| NnError::Invalid(e.to_string()))?;
        let config = self.config();
        let fields = json!({
            "model_type": MODEL_TYPE,
            "vocab_size": config.vocab_size,
            "pad_token_id": config.pad_token_id,
            SECTION: section,
        });
        write_json(&folder.join(CONFIG), &sorted(fields))
    }

    /// Every tensor of the model by name: trained, frozen, and moved by batch normalisation.
    fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors: Vec<(String, Tensor)> =
            self.parameters().into_iter().map(|parameter| (parameter.name, parameter.tensor)).collect();
        if self.config().freeze_embeddings {
            tensors.push(("embeddings.weight".to_owned(), self.embeddings.shallow_clone()));
        }
        tensors.extend(self.buffers());
        tensors
    }
}

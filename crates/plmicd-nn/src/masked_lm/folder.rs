//! Masked language models on disk, in Hugging Face's layout (`BertForMaskedLM`, `RobertaForMaskedLM`).

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde_json::{Value, json};
use tch::Tensor;

use super::{MaskedLm, names};
use crate::model_folder::{CONFIG, OF_THE_SOURCE, SECTION, WEIGHTS, read_weights, sorted, write_json};
use crate::weights::{Growth, Wanted, fill};
use crate::{LoadReport, ModelType, NamedParameter, NnError, write_safetensors};

/// Where a head came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStart {
    /// The checkpoint held one.
    Loaded,
    /// The checkpoint is of a bare encoder or of another task: the head keeps its fresh weights.
    Fresh,
}

impl MaskedLm {
    /// Takes the weights of a Hugging Face folder: the encoder's, which must all be there, and the head's, of which
    /// all must be there or none. What the file holds beyond is reported.
    ///
    /// # Errors
    /// Besides those of the files: part of a head, or a decoder that is not the word embeddings.
    /// `growth` gives rows to the pieces by which the encoder's vocabulary was extended.
    pub fn load(
        &self,
        folder: &Utf8Path,
        growth: Option<Growth<'_>>,
    ) -> Result<(LoadReport, HeadStart), NnError> {
        let (file, mut tensors) = read_weights(folder)?;
        let model_type = self.encoder.config().model_type;
        let tied = self.encoder.config().other.get("tie_word_embeddings") != Some(&Value::Bool(false));
        drop_decoder(&mut tensors, model_type, tied).map_err(|message| NnError::file(&file, message))?;
        if let Some(growth) = growth {
            growth.apply(&mut tensors, model_type, &file)?;
        }
        let is_encoder = |name: &str| name.starts_with(&format!("{model_type}."));
        let (encoder, head): (Vec<NamedParameter>, Vec<NamedParameter>) =
            self.parameters().into_iter().partition(|parameter| is_encoder(&parameter.name));
        let names = names(model_type);
        // Older checkpoints call LayerNorm's tensors otherwise; these two parts have one name everywhere.
        let start =
            if tensors.contains_key(names.bias) || tensors.keys().any(|name| name.starts_with(names.dense)) {
                HeadStart::Loaded
            } else {
                HeadStart::Fresh
            };
        let wanted: Vec<NamedParameter> = match start {
            HeadStart::Loaded => encoder.into_iter().chain(head).collect(),
            HeadStart::Fresh => encoder,
        };
        let report = fill(&wanted, tensors, model_type, Wanted::Everything, &file)?;
        Ok((report, start))
    }

    /// Writes `config.json` and `model.safetensors` into an existing folder, each complete or not at all; the same
    /// bytes for the same model. The decoder is not written: readers tie it to the word embeddings.
    pub fn save(&self, folder: &Utf8Path) -> Result<(), NnError> {
        let parameters = self.parameters();
        let tensors: Vec<(&str, &Tensor)> =
            parameters.iter().map(|parameter| (parameter.name.as_str(), &parameter.tensor)).collect();
        write_safetensors(&folder.join(WEIGHTS), &tensors)?;
        write_json(&folder.join(CONFIG), &self.config_json())
    }

    fn config_json(&self) -> Value {
        let config = self.encoder.config();
        let mut fields = config.to_json();
        for stale in OF_THE_SOURCE.into_iter().chain(["model_mode", SECTION]) {
            fields.remove(stale);
        }
        let architecture = match config.model_type {
            ModelType::Bert => "BertForMaskedLM",
            ModelType::Roberta => "RobertaForMaskedLM",
            ModelType::Longformer => "LongformerForMaskedLM",
        };
        fields.insert("architectures".to_owned(), json!([architecture]));
        fields.insert("tie_word_embeddings".to_owned(), json!(true));
        sorted(Value::Object(fields.into_iter().collect()))
    }
}

/// Removes the decoder from a checkpoint's tensors: it is the word embeddings once more, and its bias the head's.
fn drop_decoder(
    tensors: &mut BTreeMap<String, Tensor>,
    model_type: ModelType,
    tied: bool,
) -> Result<(), String> {
    let names = names(model_type);
    if let Some(bias) = tensors.remove(&format!("{}.bias", names.decoder)) {
        tensors.entry(names.bias.to_owned()).or_insert(bias);
    }
    let decoder = format!("{}.weight", names.decoder);
    let Some(weight) = tensors.remove(&decoder) else { return Ok(()) };
    let bare = "embeddings.word_embeddings.weight";
    let full = format!("{model_type}.{bare}");
    let own = tensors.get(&full).or_else(|| tensors.get(bare));
    let same = own.is_some_and(|own| own.size() == weight.size() && own.equal(&weight));
    if same || tied {
        // As Transformers: where the config ties them, the word embeddings decide.
        return Ok(());
    }
    Err(format!(
        "{decoder} is not {full} and config.json says tie_word_embeddings = false; only a decoder tied to the word \
         embeddings can be trained here"
    ))
}

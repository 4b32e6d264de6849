//! Checkpoints of the published PLM-ICD code: what their `config.json` says beside the encoder, and writing them.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use crate::model_folder::{CONFIG, SECTION, TORCH_WEIGHTS, WEIGHTS, sorted, write_json};
use crate::{
    Attention, EncoderConfig, MaskConstant, ModelConfig, ModelType, NnError, PlmIcd, Projection,
    write_safetensors, write_torch_file,
};

/// The published code's `model_mode` where a checkpoint has none.
const LAAT: &str = "laat";
/// Label queries that read the token states themselves become a published model by `V = s I` and `W / s`:
/// `tanh(s h) / s` is `h` but for a share of `(s h)² / 3`, 2e-8 of a state of 1 and 2e-6 of one of 10. A power of two, so
/// that the two scalings are exact.
const ALMOST_LINEAR: f64 = 1.0 / 4096.0;
/// From this version on Transformers masks self-attention with the most negative number.
const MODERN_MASK: (u32, u32) = (4, 20);

/// What a published checkpoint folder says of its model.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedFolder {
    /// `config.json`.
    pub file: Utf8PathBuf,
    /// The settings that it holds, and the published code's for what it does not.
    pub config: ModelConfig,
    /// The version of Transformers that wrote it, where it says so.
    pub transformers: Option<String>,
}

impl PublishedFolder {
    /// Reads `config.json`. The published code stores neither the segment length nor the maximal length: they are
    /// 128 and 3,072 (its README) unless the folder was exported by us. The constant that masks self-attention is
    /// that of the version of Transformers that wrote the file, of the version the code is pinned to where it does
    /// not say. A Longformer's window is its segment length.
    ///
    /// # Errors
    /// No such file, not JSON, an encoder that cannot be built, an unknown `model_mode`.
    pub fn read(folder: &Utf8Path) -> Result<PublishedFolder, NnError> {
        let file = folder.join(CONFIG);
        let encoder = EncoderConfig::read(&file)?;
        let fields = encoder.other;
        let transformers = fields.get("transformers_version").and_then(Value::as_str).map(str::to_owned);
        let config = match fields.get(SECTION) {
            Some(Value::Object(section)) => {
                let mut section = section.clone();
                section.remove("num_labels");
                serde_json::from_value(Value::Object(section))
                    .map_err(|e| NnError::file(&file, format!("section \"{SECTION}\": {e}")))?
            }
            _ => {
                let mode = fields.get("model_mode").map_or(Some(LAAT), Value::as_str).unwrap_or("not a text");
                let window = fields.get("attention_window");
                let window = window.and_then(|window| window.get(0).unwrap_or(window).as_u64());
                let plain = ModelConfig::default();
                let config = ModelConfig {
                    mask_constant: match transformers.as_deref().and_then(version) {
                        Some(version) if version >= MODERN_MASK => MaskConstant::Modern,
                        _ => MaskConstant::Published,
                    },
                    segment_length: match encoder.model_type {
                        ModelType::Longformer => {
                            window.map_or(plain.segment_length, |window| window as usize)
                        }
                        _ => plain.segment_length,
                    },
                    ..plain
                };
                config.with_published_mode(mode, encoder.model_type).ok_or_else(|| {
                    let message = format!(
                        "model_mode is \"{mode}\"; expected \"laat\", \"laat-split\", \"cls-sum\" or \"cls-max\""
                    );
                    NnError::file(&file, message)
                })?
            }
        };
        Ok(PublishedFolder { file, config, transformers })
    }
}

/// Major and minor number.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

impl PlmIcd {
    /// The settings and the `model_mode` under which the published code has this model. CAML's attention is there LAAT's
    /// with a projection that is almost linear.
    fn published_form(&self) -> Result<(ModelConfig, &'static str), NnError> {
        let mut published = self.config().clone();
        if published.is_caml_attention() {
            published.attention = Attention::Laat;
            published.projection = Projection::Tanh;
        }
        let family = self.encoder().config().model_type;
        match published.published_mode(family) {
            Some(mode) => Ok((published, mode)),
            None => Err(NnError::Invalid(format!(
                "the published code has no model with pooling = \"{}\" and attention = \"{}\" over a {family} encoder",
                self.config().pooling.as_str(),
                self.config().attention.as_str()
            ))),
        }
    }

    /// Writes a folder that the published code loads: `config.json`, `pytorch_model.bin` (which its version of
    /// Transformers reads) and `model.safetensors` (which later ones prefer). `codes` names the labels; `order`
    /// gives the label of each row of the published head, since that code numbers labels in the order of their
    /// codes' bytes. Returns the published code's `model_mode`.
    ///
    /// # Errors
    /// The model is one that the published code does not have; `order` does not hold every label once.
    pub fn save_published(
        &self,
        folder: &Utf8Path,
        codes: &[&str],
        order: &[usize],
    ) -> Result<&'static str, NnError> {
        let (published, mode) = self.published_form()?;
        let mut places: Vec<usize> = order.to_vec();
        places.sort_unstable();
        if codes.len() != self.num_labels() || !places.into_iter().eq(0..codes.len()) {
            return Err(NnError::Invalid(format!(
                "{} codes and {} places for {} labels",
                codes.len(),
                order.len(),
                self.num_labels()
            )));
        }
        let rows: Vec<i64> = order.iter().map(|&label| label as i64).collect();
        let rows = Tensor::from_slice(&rows).to_device(self.device());
        let mut tensors: Vec<(String, Tensor)> = self
            .parameters()
            .into_iter()
            .map(|parameter| {
                let by_label = ["second_linear.", "third_linear.", "classifier."]
                    .iter()
                    .any(|layer| parameter.name.starts_with(layer));
                let tensor = parameter.tensor.detach();
                let tensor = if by_label { tensor.index_select(0, &rows) } else { tensor };
                (parameter.name, tensor)
            })
            .collect();
        if self.config().is_caml_attention() {
            for (name, queries) in &mut tensors {
                if name == "second_linear.weight" {
                    *queries = &*queries / ALMOST_LINEAR;
                }
            }
            let identity = Tensor::eye(self.encoder().config().hidden_size, (Kind::Float, self.device()));
            tensors.push(("first_linear.weight".to_owned(), identity * ALMOST_LINEAR));
        }
        let tensors: Vec<(&str, &Tensor)> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        write_torch_file(&folder.join(TORCH_WEIGHTS), &tensors)?;
        write_safetensors(&folder.join(WEIGHTS), &tensors)?;

        let Value::Object(mut fields) = self.config_json(&published)? else {
            return Err(NnError::Invalid("config.json is no object".to_owned()));
        };
        let name_of = |row: usize| codes[order[row]];
        let id2label: Map<String, Value> =
            (0..order.len()).map(|row| (row.to_string(), json!(name_of(row)))).collect();
        let label2id: Map<String, Value> =
            (0..order.len()).map(|row| (name_of(row).to_owned(), json!(row))).collect();
        fields.insert("id2label".to_owned(), Value::Object(id2label));
        fields.insert("label2id".to_owned(), Value::Object(label2id));
        write_json(&folder.join(CONFIG), &sorted(Value::Object(fields)))?;
        Ok(mode)
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use tch::Device;

    use super::*;
    use crate::{Pooling, SpecialTokens};

    fn folder(config: &str) -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().to_path_buf()).unwrap();
        fs_err::write(path.join(CONFIG), config).unwrap();
        (folder, path)
    }

    fn read(extra: &str) -> Result<PublishedFolder, NnError> {
        let shape = r#""vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16"#;
        let (_keep, path) = folder(&format!("{{\"model_type\": \"bert\", {shape}{extra}}}"));
        PublishedFolder::read(&path)
    }

    #[test]
    fn what_the_file_does_not_say_is_as_the_published_code_has_it() {
        let plain = read("").unwrap();
        assert_eq!(plain.config, ModelConfig::default());
        assert_eq!(plain.config.mask_constant, MaskConstant::Published);
        for (version, expected) in [
            ("4.5.0", MaskConstant::Published),
            ("4.19.2", MaskConstant::Published),
            ("4.20.0", MaskConstant::Modern),
            ("5.0", MaskConstant::Modern),
            ("odd", MaskConstant::Published),
        ] {
            let read = read(&format!(r#", "transformers_version": "{version}""#)).unwrap();
            assert_eq!(read.config.mask_constant, expected, "{version}");
        }
    }

    #[test]
    fn other_modes_are_named() {
        let split = read(r#", "model_mode": "laat-split""#).unwrap();
        assert_eq!(split.config.pooling, Pooling::SegmentMax);
        let wrong = read(r#", "model_mode": "cls-mean""#).unwrap_err().to_string();
        assert!(wrong.contains("config.json: model_mode is \"cls-mean\"; expected \"laat\", "), "{wrong}");
    }

    #[test]
    fn rows_are_written_in_the_order_asked_for() {
        let encoder = EncoderConfig::small(20, 8, 1, 2);
        let config = ModelConfig { segment_length: 8, max_length: 64, ..ModelConfig::default() };
        let model = PlmIcd::new(&encoder, config.clone(), 3, 7, Device::Cpu).unwrap();
        let (_keep, path) = folder("{}");
        assert!(model.save_published(&path, &["b", "a", "c"], &[1, 0, 0]).is_err());
        model.save_published(&path, &["b", "a", "c"], &[1, 0, 2]).unwrap();
        let said = PublishedFolder::read(&path).unwrap();
        assert_eq!(said.config, config);
        for file in [TORCH_WEIGHTS, WEIGHTS] {
            let (read, report) = PlmIcd::from_published(&path, said.config.clone(), Device::Cpu).unwrap();
            assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{report}");
            for (ours, theirs) in model.parameters().iter().zip(read.parameters()) {
                let expected = match ours.name.split('.').next() {
                    Some("second_linear" | "third_linear") => {
                        ours.tensor.index_select(0, &Tensor::from_slice(&[1i64, 0, 2]))
                    }
                    _ => ours.tensor.shallow_clone(),
                };
                assert!(expected.equal(&theirs.tensor), "{file}: {}", ours.name);
            }
            // The next round reads the other file.
            let _ = fs_err::remove_file(path.join(WEIGHTS));
        }
        let config: Value =
            serde_json::from_str(&fs_err::read_to_string(path.join(CONFIG)).unwrap()).unwrap();
        assert_eq!(config["id2label"]["0"], "a");
        assert_eq!(config["label2id"]["b"], 1);
    }

    #[test]
    fn queries_without_a_projection_get_an_almost_linear_one() {
        let encoder = EncoderConfig { initializer_range: 0.3, ..EncoderConfig::small(50, 16, 2, 2) };
        for (attention, projection) in
            [(Attention::Laat, Projection::Identity), (Attention::Caml, Projection::Tanh)]
        {
            let config = ModelConfig {
                attention,
                projection,
                segment_length: 8,
                max_length: 64,
                ..ModelConfig::default()
            };
            let model = PlmIcd::new(&encoder, config, 3, 7, Device::Cpu).unwrap();
            let (_keep, path) = folder("{}");
            // The published code would find no first_linear in these and draw one.
            model.save(&path).unwrap();
            let plain: Value =
                serde_json::from_str(&fs_err::read_to_string(path.join(CONFIG)).unwrap()).unwrap();
            assert_eq!(plain.get("model_mode"), None);

            model.save_published(&path, &["a", "b", "c"], &[0, 1, 2]).unwrap();
            let said = PublishedFolder::read(&path).unwrap().config;
            assert_eq!((said.attention, said.projection), (Attention::Laat, Projection::Tanh));
            let (read, report) = PlmIcd::from_published(&path, said, Device::Cpu).unwrap();
            assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{report}");
            let specials = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
            let notes: Vec<Vec<i32>> =
                [30, 13].map(|length| (0..length).map(|i| 4 + i * 7 % 46).collect()).into();
            let logits = |model: &PlmIcd| model.logits(&model.batch(&notes, &specials).unwrap());
            let (ours, theirs) = (logits(&model), logits(&read));
            let off = f64::try_from((&ours - &theirs).abs().max()).unwrap();
            let spread = f64::try_from(ours.std(true)).unwrap();
            assert!(off < 1e-5 && spread > 0.01, "{attention:?}: {off:e}, spread {spread:e}");
        }
    }

    #[test]
    fn what_the_published_code_lacks_is_refused() {
        let encoder = EncoderConfig::small(20, 8, 1, 2);
        let (_keep, path) = folder("{}");
        let config = ModelConfig { attention: Attention::Cross, segment_length: 8, ..ModelConfig::default() };
        let model = PlmIcd::new(&encoder, config, 1, 7, Device::Cpu).unwrap();
        let wrong = model.save_published(&path, &["a"], &[0]).unwrap_err().to_string();
        assert!(wrong.contains("attention = \"cross\" over a bert encoder"), "{wrong}");
    }
}

//! Models of the published PLM-ICD code: in, as the artifact `model` that the stage would have made; and out.

use std::fmt;

use camino::Utf8Path;
use plmicd_data::{LabelSpace, SpecialTokens, copy_tokenizer};
use plmicd_nn::{LoadReport, MaskConstant, ModelConfig, NnError, Padding, PlmIcd, PublishedFolder};
use plmicd_pipeline::{BadInput, StageError};
use serde::Serialize;
use tch::Device;

/// Settings that a published checkpoint does not hold; those that are absent are its own or the published code's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImportSettings {
    /// Tokens of a note that are read, start and end token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Tokens of a segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_length: Option<usize>,
    /// Whether label attention sees padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding: Option<Padding>,
    /// What is added to the self-attention scores of masked tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_constant: Option<MaskConstant>,
}

/// What was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The settings the model will be scored with.
    pub config: ModelConfig,
    /// How the tensors of the checkpoint met those of the model.
    pub report: LoadReport,
    /// Number of codes.
    pub labels: usize,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        write!(
            f,
            "{} codes; {} tokens in segments of {}, padding {}, mask constant {}; {}",
            self.labels,
            config.max_length,
            config.segment_length,
            name(&config.padding),
            name(&config.mask_constant),
            self.report
        )
    }
}

/// The name of a setting's value.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

/// Makes a `model` of a published checkpoint folder in `out`, where its tokenizer and `special_tokens.json` lie already.
/// `labels` has the order of the checkpoint's label list.
///
/// # Errors
/// `config.json` or the weights are missing or damaged, or do not fit the labels or the tokenizer.
pub fn import_published(
    checkpoint: &Utf8Path,
    labels: (&Utf8Path, &LabelSpace),
    settings: &ImportSettings,
    out: &Utf8Path,
) -> Result<Imported, StageError> {
    let failed = |error| located(error, "importing the model");
    let published = PublishedFolder::read(checkpoint).map_err(failed)?;
    let config = ModelConfig {
        max_length: settings.max_length.unwrap_or(published.config.max_length),
        segment_length: settings.segment_length.unwrap_or(published.config.segment_length),
        padding: settings.padding.unwrap_or(published.config.padding),
        mask_constant: settings.mask_constant.unwrap_or(published.config.mask_constant),
        ..published.config.clone()
    };
    let (model, report) = PlmIcd::from_published(checkpoint, config.clone(), Device::Cpu).map_err(failed)?;
    let (list, labels) = labels;
    if labels.len() != model.num_labels() {
        let message =
            format!("lists {} codes, but the checkpoint's head scores {}", labels.len(), model.num_labels());
        let hint =
            "give the list the model was trained with (the published code's --code_file), a code a line";
        return Err(BadInput::new(list, message).hint(hint).into());
    }
    check_tokenizer(&published, &model, out)?;
    let written = |error| StageError::because("writing the model", error);
    model.save(out).map_err(failed)?;
    labels.write(&out.join(LabelSpace::FILE)).map_err(written)?;
    fs_err::write(out.join("README.md"), card(&config, labels.len()))?;
    Ok(Imported { config, report, labels: labels.len() })
}

/// A complaint about a file as one about the input.
fn located(error: NnError, doing: &str) -> StageError {
    match error {
        NnError::File { file, message } => BadInput::new(file, message).into(),
        error => StageError::because(doing, error),
    }
}

/// The tokenizer must be the encoder's.
fn check_tokenizer(published: &PublishedFolder, model: &PlmIcd, out: &Utf8Path) -> Result<(), StageError> {
    let read = |error| StageError::because("reading the tokenizer", error);
    let tokens = SpecialTokens::read(&out.join(SpecialTokens::FILE)).map_err(read)?;
    let encoder = model.encoder().config();
    let message = if tokens.vocab_size as i64 > encoder.vocab_size {
        format!("{} embeddings, but the tokenizer has {} tokens", encoder.vocab_size, tokens.vocab_size)
    } else if tokens.pad.map(i64::from) != Some(encoder.pad_token_id) {
        let found = tokens.pad.map_or("none".to_owned(), |pad| pad.to_string());
        format!("pad_token_id is {}, but the tokenizer's is {found}", encoder.pad_token_id)
    } else if tokens.cls.is_none() || tokens.sep.is_none() {
        "the tokenizer has no start or end token, which the published code puts around every note".to_owned()
    } else {
        return Ok(());
    };
    let hint = "the tokenizer is that of the encoder the model was trained from; name its folder";
    Err(BadInput::new(&published.file, message).hint(hint).into())
}

fn card(config: &ModelConfig, labels: usize) -> String {
    let mut text = format!(
        "# PLM-ICD model\n\nImported from a checkpoint of the published PLM-ICD code; what it was trained on is not known here. \
         It scores {labels} codes on {} tokens of a note in segments of {}.\n",
        config.max_length, config.segment_length
    );
    if config.padding == Padding::Attend {
        text.push_str(
            "\nLabel attention sees padding, as in the published code: every note is scored alone, as that code \
             does with a batch of 1.\n",
        );
    }
    text
}

/// Name of the list of codes in an exported folder: the published code's `--code_file`.
pub const CODE_FILE: &str = "ALL_CODES.txt";

/// Writes a `model` as a folder that the published code loads: its `config.json`, weights and tokenizer, and the list of
/// codes in [`CODE_FILE`]. Rows of the head are put into the order of the codes' bytes, in which that code numbers labels.
///
/// # Errors
/// A file of the model is missing or damaged, the published code cannot express the model, or writing fails.
pub fn export_published(model: &Utf8Path, out: &Utf8Path) -> Result<(), StageError> {
    let read = |error| StageError::because("reading the model's codes", error);
    let failed = |error| located(error, "exporting the model");
    let labels = LabelSpace::read(&model.join(LabelSpace::FILE)).map_err(read)?;
    let loaded = PlmIcd::load(model, Device::Cpu).map_err(failed)?;
    let codes: Vec<&str> = labels.labels().iter().map(|label| label.code.as_str()).collect();
    let mut order: Vec<usize> = (0..codes.len()).collect();
    order.sort_by_key(|&label| codes[label]);
    let mode = loaded.save_published(out, &codes, &order).map_err(failed)?;
    copy_tokenizer(model, out)?;
    let list: String = order.iter().map(|&label| format!("{}\n", codes[label])).collect();
    fs_err::write(out.join(CODE_FILE), list)?;
    fs_err::write(out.join("README.md"), exported_card(loaded.config(), mode, codes.len()))?;
    Ok(())
}

fn exported_card(config: &ModelConfig, mode: &str, labels: usize) -> String {
    let mut text = format!(
        "# PLM-ICD model in the published code's layout\n\nScores {labels} codes, listed in `{CODE_FILE}` in the order of the \
         head's rows.\n\n```sh\npython run_icd.py --model_name_or_path THIS_FOLDER --code_file THIS_FOLDER/{CODE_FILE} \\\n  \
         --model_mode {mode} --max_length {} --chunk_size {} --num_train_epochs 0 …\n```\n",
        config.max_length, config.segment_length
    );
    if config.padding == Padding::Mask {
        text.push_str(
            "\nThe model was trained with padding masked in label attention, which the published code does not do: \
             there its scores differ a little, the more a note is padded.\n",
        );
    }
    text
}

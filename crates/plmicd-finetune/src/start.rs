//! The model at the start of training.

use camino::Utf8Path;
use plmicd_data::{ExtendedVocabulary, LabelSpace, LabelTokens, SpecialTokens};
use plmicd_nn::{EncoderConfig, Growth, IcdModel, ModelType, PlmIcd, Pooling};
use plmicd_pipeline::{BadInput, Input, StageContext, StageError};
use plmicd_train::seed;
use tch::Device;

use crate::config::{BiasInit, FinetuneConfig, LabelInit};
use crate::memory;
use crate::notes::NoteSet;

/// The special tokens in the model's terms.
pub(crate) fn model_specials(
    path: &Utf8Path,
    specials: &SpecialTokens,
) -> Result<plmicd_nn::SpecialTokens, StageError> {
    let Some(pad) = specials.pad else {
        return Err(BadInput::new(path, "the tokenizer has no padding token, which segments need")
            .column("pad")
            .into());
    };
    Ok(plmicd_nn::SpecialTokens {
        cls: specials.cls.map(i64::from),
        sep: specials.sep.map(i64::from),
        pad: i64::from(pad),
    })
}

/// The encoder's shape: the wired encoder's, or a fresh one's. Checks that it fits the shards' vocabulary.
pub(crate) fn encoder_config(
    config: &FinetuneConfig,
    encoder: Option<&Input>,
    specials: &SpecialTokens,
    extended: Option<&ExtendedVocabulary>,
    context: &StageContext<'_>,
) -> Result<EncoderConfig, StageError> {
    let mut shape = match encoder {
        None => config.fresh_encoder(specials.vocab_size, specials.pad.unwrap_or(0)),
        Some(input) => {
            let path = input.file("config.json");
            let mut shape = EncoderConfig::read(&path)
                .map_err(|e| StageError::because("reading the encoder's config", e))?;
            if let Some(extended) = extended {
                grow(&path, &mut shape, extended, context)?;
            }
            check_vocabulary(&path, &shape, specials, context)?;
            shape
        }
    };
    if let Some(dropout) = config.dropout {
        shape.hidden_dropout_prob = dropout;
        shape.attention_probs_dropout_prob = dropout;
    }
    let longest = shape.max_sequence_length();
    if config.pooling != Pooling::Whole && config.segment_length as i64 > longest {
        return Err(StageError::failed(format!(
            "segment_length is {}, but the encoder reads at most {longest} tokens at a time",
            config.segment_length
        )));
    }
    Ok(shape)
}

/// Makes room for the pieces by which the tokenizer was extended.
fn grow(
    path: &Utf8Path,
    shape: &mut EncoderConfig,
    extended: &ExtendedVocabulary,
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    if shape.vocab_size < extended.base_size as i64 {
        let message = format!(
            "the encoder has {} token embeddings, but the notes' vocabulary extends one of {}",
            shape.vocab_size, extended.base_size
        );
        let hint = "extend the tokenizer that belongs to this encoder";
        return Err(BadInput::new(path, message).column("vocab_size").hint(hint).into());
    }
    context.note(format!(
        "vocabulary extended from {} to {} ids: new embeddings start as the mean of their pieces'",
        extended.base_size,
        extended.size()
    ));
    shape.vocab_size = extended.size() as i64;
    Ok(())
}

fn check_vocabulary(
    path: &Utf8Path,
    shape: &EncoderConfig,
    specials: &SpecialTokens,
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    let rows = shape.vocab_size;
    let hint = "give the stage `tokenize` the tokenizer that belongs to this encoder";
    if !specials.fits(rows) {
        let message = format!(
            "the encoder has {rows} token embeddings, but the notes use a vocabulary of {}",
            specials.vocab_size
        );
        return Err(BadInput::new(path, message).column("vocab_size").hint(hint).into());
    }
    if specials.pad.is_some_and(|pad| i64::from(pad) != shape.pad_token_id) {
        let message = format!(
            "the encoder pads with token {}, but the notes' tokenizer with {}",
            shape.pad_token_id,
            specials.pad.unwrap_or(0)
        );
        return Err(BadInput::new(path, message).column("pad_token_id").hint(hint).into());
    }
    if rows > specials.vocab_size as i64 {
        context.warn(format!(
            "the encoder has {rows} token embeddings, but the notes use a vocabulary of {}: well if the rest is \
             unused, wrong if the notes were tokenized with another tokenizer",
            specials.vocab_size
        ));
    }
    Ok(())
}

/// Makes the model: encoder weights from the wired encoder or from the seed, label vectors from the seed or from
/// descriptions.
pub(crate) fn model(
    config: &FinetuneConfig,
    shape: &EncoderConfig,
    shards: &Input,
    labels: &LabelSpace,
    train: &NoteSet,
    specials: &plmicd_nn::SpecialTokens,
    extended: Option<&ExtendedVocabulary>,
    device: Device,
    context: &StageContext<'_>,
) -> Result<IcdModel, StageError> {
    let failed = |error| StageError::because("building the model", error);
    let start = seed::derive(config.seed, "model", &[]);
    let mut model = PlmIcd::new(shape, config.model(), labels.len(), start, device).map_err(failed)?;
    match context.optional_input("encoder") {
        Some(input) => {
            let growth = extended.map(|e| Growth { base_size: e.base_size, pieces: &e.pieces });
            let report = model.load_encoder(&input.dir, growth).map_err(failed)?;
            context.note(format!("encoder: {report}"));
            if report.missing.iter().any(|name| name.contains(".pooler.")) {
                context.warn(format!(
                    "the encoder has no pooler, which pooling = \"{}\" reads: a fresh one is trained",
                    config.pooling.as_str()
                ));
            }
        }
        None => context.note("encoder: trained from nothing, no pretrained one is wired".to_owned()),
    }
    let family = match shape.model_type {
        ModelType::Bert => "BERT",
        ModelType::Roberta => "RoBERTa",
        ModelType::Longformer => "Longformer",
    };
    context.note(format!("{family} encoder, {}; {} labels", shape.outline(), labels.len()));
    if config.label_init == LabelInit::Descriptions {
        let descriptions = read_descriptions(shards, labels, "label_init = \"descriptions\"")?;
        let report = model
            .init_labels_from_descriptions(&descriptions, specials, &config.description_init())
            .map_err(|error| StageError::because("setting label vectors from descriptions", error))?;
        context.note(format!(
            "label vectors: {} from descriptions, {} without one stay random",
            report.described, report.undescribed
        ));
    }
    if config.bias_init == BiasInit::Prior {
        let biases = log_odds(&train.labels, labels.len());
        model.set_label_biases(&biases).map_err(failed)?;
    }
    if config.frozen_layers > 0 {
        model.freeze_lower_layers(config.frozen_layers).map_err(failed)?;
        context.note(format!(
            "the encoder's embeddings and {} of its {} layers are kept as they are",
            config.frozen_layers, shape.num_hidden_layers
        ));
    }
    context.tell(config.precision.explain(&context.runtime().device, device));
    // Only now: label vectors start from fp32 states.
    model.set_precision(config.precision);
    memory::bound(&mut model, context);
    Ok(IcdModel::PlmIcd(Box::new(model)))
}

/// The descriptions of the labels as token ids; `setting` is what asks for them.
pub(crate) fn read_descriptions(
    shards: &Input,
    labels: &LabelSpace,
    setting: &str,
) -> Result<Vec<Option<Vec<i32>>>, StageError> {
    let path = shards.file(LabelTokens::FILE);
    if !path.exists() {
        let hint = format!("{setting} needs it: make the token shards again with this version's `tokenize`");
        return Err(BadInput::new(path, "there is no such file in the token shards").hint(hint).into());
    }
    let file = LabelTokens::read(&path)
        .map_err(|error| StageError::because("reading the labels' descriptions", error))?;
    if file.tokens.len() != labels.len() {
        let message = format!("{} descriptions for {} labels", file.tokens.len(), labels.len());
        return Err(BadInput::new(path, message).into());
    }
    if file.tokens.iter().all(Vec::is_empty) {
        let hint = format!("{setting} needs them: wire code descriptions into `preprocess`");
        return Err(BadInput::new(path, "no label has a description").hint(hint).into());
    }
    Ok(file.tokens.into_iter().map(|tokens| (!tokens.is_empty()).then_some(tokens)).collect())
}

/// The log odds of each label among notes, one note with it and one without it added (Laplace).
fn log_odds(notes: &[Vec<i32>], num_labels: usize) -> Vec<f32> {
    let mut counts = vec![0usize; num_labels];
    for &label in notes.iter().flatten() {
        counts[label as usize] += 1;
    }
    let odds = |count: usize| (count + 1) as f64 / (notes.len() - count + 1) as f64;
    counts.into_iter().map(|count| odds(count).ln() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_labels_start_likely_and_unseen_ones_unlikely() {
        let biases = log_odds(&[vec![0, 1], vec![0], vec![0, 1], vec![]], 3);
        let expected = [2.0f32.ln(), 0.0, 0.2f32.ln()];
        assert!(biases.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{biases:?}");
    }
}

//! The model at the start of training.

use camino::Utf8Path;
use plmicd_data::{ExtendedVocabulary, SpecialTokens};
use plmicd_nn::{EncoderConfig, Growth, HeadStart, MaskedLm, ModelType};
use plmicd_pipeline::{BadInput, Input, StageContext, StageError};
use plmicd_train::seed;
use serde_json::json;
use tch::Device;

use crate::config::PretrainConfig;

/// The special tokens that pretraining needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Specials {
    pub cls: Option<i32>,
    pub sep: Option<i32>,
    pub pad: i32,
    pub mask: i32,
    pub unk: Option<i32>,
}

impl Specials {
    /// Those of the tokenizer.
    ///
    /// # Errors
    /// No padding or mask token, or nothing but special tokens.
    pub fn new(path: &Utf8Path, tokens: &SpecialTokens) -> Result<Self, StageError> {
        let missing = |what: &str, column: &str| {
            let message = format!("the tokenizer has no {what} token, which masked language modelling needs");
            StageError::from(BadInput::new(path, message).column(column))
        };
        let pad = tokens.pad.ok_or_else(|| missing("padding", "pad"))?;
        let mask = tokens.mask.ok_or_else(|| missing("mask", "mask"))?;
        let specials = Self { cls: tokens.cls, sep: tokens.sep, pad, mask, unk: tokens.unk };
        if (0..tokens.vocab_size as i64).all(|token| specials.contains(token)) {
            let message = format!("the vocabulary of {} has no ordinary token", tokens.vocab_size);
            return Err(BadInput::new(path, message).column("vocab_size").into());
        }
        Ok(specials)
    }

    /// Whether `token` is one of them: such a token is never to be named.
    pub fn contains(&self, token: i64) -> bool {
        let is = |special: Option<i32>| special.is_some_and(|special| i64::from(special) == token);
        token == i64::from(self.pad)
            || token == i64::from(self.mask)
            || is(self.cls)
            || is(self.sep)
            || is(self.unk)
    }
}

/// The encoder's shape: the wired encoder's, or a fresh one's. Checks that it fits the shards' vocabulary and the
/// sequences.
pub(crate) fn encoder_config(
    config: &PretrainConfig,
    encoder: Option<&Input>,
    tokens: &SpecialTokens,
    specials: &Specials,
    extended: Option<&ExtendedVocabulary>,
    context: &StageContext<'_>,
) -> Result<EncoderConfig, StageError> {
    let mut shape = match encoder {
        None => {
            let mut shape = config.fresh_encoder(tokens.vocab_size, specials.pad);
            if shape.model_type == ModelType::Roberta {
                // Transformers assumes ids of its own where these are not given.
                for (name, id) in [("bos_token_id", specials.cls), ("eos_token_id", specials.sep)] {
                    shape.other.extend(id.map(|id| (name.to_owned(), json!(id))));
                }
            }
            shape
        }
        Some(input) => {
            let path = input.file("config.json");
            let mut shape = EncoderConfig::read(&path)
                .map_err(|error| StageError::because("reading the encoder's config", error))?;
            if let Some(extended) = extended {
                grow(&path, &mut shape, extended, context)?;
            }
            check_vocabulary(&path, &shape, tokens, specials, context)?;
            shape
        }
    };
    if let Some(dropout) = config.dropout {
        shape.hidden_dropout_prob = dropout;
        shape.attention_probs_dropout_prob = dropout;
    }
    let longest = shape.max_sequence_length();
    if config.sequence_length as i64 > longest {
        return Err(StageError::failed(format!(
            "sequence_length is {}, but the encoder reads at most {longest} tokens at a time",
            config.sequence_length
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
    tokens: &SpecialTokens,
    specials: &Specials,
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    let (rows, vocabulary) = (shape.vocab_size, tokens.vocab_size as i64);
    let hint = "give the stage `tokenize` the tokenizer that belongs to this encoder";
    if !tokens.fits(rows) {
        let message = format!(
            "the encoder has {rows} token embeddings, but the notes use a vocabulary of {vocabulary}"
        );
        return Err(BadInput::new(path, message).column("vocab_size").hint(hint).into());
    }
    if shape.pad_token_id != i64::from(specials.pad) {
        let message = format!(
            "the encoder pads with token {}, but the notes' tokenizer with {}",
            shape.pad_token_id, specials.pad
        );
        return Err(BadInput::new(path, message).column("pad_token_id").hint(hint).into());
    }
    if rows > vocabulary {
        context.warn(format!(
            "the encoder has {rows} token embeddings, but the notes use a vocabulary of {vocabulary}: well if the \
             rest is unused, wrong if the notes were tokenized with another tokenizer"
        ));
    }
    Ok(())
}

/// Makes the model: weights from the wired encoder or from the seed.
pub(crate) fn model(
    config: &PretrainConfig,
    shape: &EncoderConfig,
    extended: Option<&ExtendedVocabulary>,
    device: Device,
    context: &StageContext<'_>,
) -> Result<MaskedLm, StageError> {
    let failed = |error| StageError::because("building the model", error);
    let start = seed::derive(config.seed, "model", &[]);
    let mut model = MaskedLm::new(shape, start, device).map_err(failed)?;
    context.tell(config.precision.explain(&context.runtime().device, device));
    model.set_precision(config.precision);
    match context.optional_input("encoder") {
        Some(input) => {
            let growth = extended.map(|e| Growth { base_size: e.base_size, pieces: &e.pieces });
            let (report, head) = model.load(&input.dir, growth).map_err(failed)?;
            context.note(format!("encoder: {report}"));
            if head == HeadStart::Fresh {
                context.warn(
                    "the encoder brings no language-model head: it starts from random weights, and a longer warm-up \
                     keeps the encoder from being spoilt meanwhile",
                );
            }
        }
        None => context.note("encoder: trained from nothing, none is wired".to_owned()),
    }
    context.note(format!("{} encoder, {}", shape.model_type, shape.outline()));
    Ok(model)
}

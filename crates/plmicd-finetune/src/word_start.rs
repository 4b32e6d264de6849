//! A word-level model at the start of training.

use std::collections::BTreeMap;

use plmicd_data::{IcdCode, Label, LabelSpace, SpecialTokens, WordVectors};
use plmicd_nn::{
    Batching, IcdModel, WordArchitecture, WordLayout, WordModel, WordModelConfig, read_safetensors,
};
use plmicd_pipeline::{BadInput, Input, StageContext, StageError};
use plmicd_train::seed;
use tch::{Device, Tensor};

use crate::config::FinetuneConfig;
use crate::notes::NoteSet;
use crate::start::read_descriptions;
use crate::word_config::{Hierarchy, layers};

/// What is known of the model before the notes are read.
pub(crate) struct WordStart {
    config: WordModelConfig,
    /// The word vectors [V,E] that it starts from.
    vectors: Option<Tensor>,
    descriptions: Option<Vec<Vec<i32>>>,
}

impl WordStart {
    /// Reads and checks everything that is not a note.
    pub fn read(
        config: &FinetuneConfig,
        architecture: WordArchitecture,
        shards: &Input,
        labels: &LabelSpace,
        tokens: &SpecialTokens,
        context: &StageContext<'_>,
    ) -> Result<Self, StageError> {
        let vectors = match context.optional_input("embeddings") {
            Some(input) => Some(read_vectors(input, shards, tokens)?),
            None => None,
        };
        let width =
            vectors.as_ref().map_or(config.word_model.embedding_size as i64, |vectors| vectors.size()[1]);
        let mut layers = layers(config, architecture, width);
        layers.vocab_size = tokens.vocab_size as i64;
        layers.pad_token_id = i64::from(tokens.pad.unwrap_or(0));
        if config.word_model.hierarchy == Hierarchy::ThreeCharacter {
            layers.parents = Some(parents(labels.labels()));
        }
        let descriptions = match config.word_model.description_weight {
            Some(_) => {
                let read = read_descriptions(shards, labels, "word_model.description_weight")?;
                Some(read.into_iter().map(Option::unwrap_or_default).collect())
            }
            None => None,
        };
        Ok(Self { config: layers, vectors, descriptions })
    }

    /// How notes become batches.
    pub fn batching(&self) -> Batching {
        Batching::Words(WordLayout::new(&self.config))
    }

    /// Makes the model.
    pub fn model(
        mut self,
        config: &FinetuneConfig,
        labels: &LabelSpace,
        train: &NoteSet,
        device: Device,
        context: &StageContext<'_>,
    ) -> Result<IcdModel, StageError> {
        let failed = |error| StageError::because("building the model", error);
        if let Some(parents) = &self.config.parents {
            self.config.level_weights = level_weights(parents, train, labels.len());
            let count = parents.iter().max().map_or(0, |last| last + 1);
            context.note(format!("{count} categories are scored before the {} codes", labels.len()));
        }
        let start = seed::derive(config.seed, "model", &[]);
        let mut model = WordModel::new(self.config, labels.len(), start, device).map_err(failed)?;
        match &self.vectors {
            Some(vectors) => {
                model.set_embeddings(vectors, config.word_model.unit_embeddings).map_err(failed)?;
                let fate =
                    if config.word_model.freeze_embeddings { "stay as they are" } else { "are trained on" };
                context.note(format!("word embeddings: those wired, which {fate}"));
            }
            None => context.note("word embeddings: trained from nothing, none are wired"),
        }
        if let Some(descriptions) = self.descriptions {
            let described = descriptions.iter().filter(|words| !words.is_empty()).count();
            context.note(format!("descriptions: {described} of {} codes have one", labels.len()));
            model.set_descriptions(descriptions);
        }
        context.tell(config.precision.explain(&context.runtime().device, device));
        model.set_precision(config.precision);
        let shape = model.config();
        context.note(format!(
            "{} over words, states of width {}, vocabulary {}; {} labels",
            shape.architecture.as_str(),
            shape.state_size(),
            shape.vocab_size,
            labels.len()
        ));
        Ok(IcdModel::Word(Box::new(model)))
    }
}

/// The vectors of an `embeddings` artifact, after a look at whether they belong to the notes' words.
fn read_vectors(input: &Input, shards: &Input, tokens: &SpecialTokens) -> Result<Tensor, StageError> {
    let file = input.file(WordVectors::FILE);
    let read = |error| StageError::because("reading the word embeddings", error);
    let hint = "learn them from the shards that are wired here, or from shards of the same tokenizer";
    let tokenizer = |folder: &Input| fs_err::read(folder.file("tokenizer.json"));
    if tokenizer(input)? != tokenizer(shards)? {
        let message = "these vectors belong to another vocabulary than the notes'".to_owned();
        return Err(BadInput::new(input.file("tokenizer.json"), message).hint(hint).into());
    }
    let Some(vectors) = read_safetensors(&file).map_err(read)?.remove(WordVectors::TENSOR) else {
        return Err(BadInput::new(file, format!("has no tensor `{}`", WordVectors::TENSOR)).into());
    };
    match vectors.size().as_slice() {
        &[rows, width] if rows == tokens.vocab_size as i64 && width >= 1 => Ok(vectors),
        size => {
            let message = format!("is of shape {size:?}, but there are {} words", tokens.vocab_size);
            Err(BadInput::new(file, message).column(WordVectors::TENSOR).hint(hint).into())
        }
    }
}

/// The category of each label, numbered in the order of the categories.
fn parents(labels: &[Label]) -> Vec<usize> {
    let category = |label: &Label| match IcdCode::parse(label.system, &label.code) {
        Ok(code) => (label.system, code.category().to_owned()),
        // Data sets also have codes that follow no system's form.
        Err(_) => (label.system, label.code.split('.').next().unwrap_or(&label.code).to_owned()),
    };
    let all: Vec<_> = labels.iter().map(category).collect();
    let mut numbers: BTreeMap<_, usize> = all.iter().map(|category| (category.clone(), 0)).collect();
    numbers.values_mut().zip(0..).for_each(|(number, next)| *number = next);
    all.iter().map(|category| numbers[category]).collect()
}

/// How much the loss of each level counts: by the labels of the level that occur in training, as published.
fn level_weights(parents: &[usize], train: &NoteSet, num_labels: usize) -> [f64; 2] {
    let seen = train.seen(num_labels);
    let full = seen.iter().filter(|seen| **seen).count();
    let mut coarse: Vec<usize> =
        parents.iter().zip(&seen).filter(|(_, seen)| **seen).map(|(parent, _)| *parent).collect();
    coarse.sort_unstable();
    coarse.dedup();
    [coarse.len() as f64, full as f64]
}

#[cfg(test)]
mod tests {
    use plmicd_data::CodeSystem;

    use super::*;

    #[test]
    fn categories_are_told_apart_by_system() {
        let label = |system, code: &str| Label {
            code: code.to_owned(),
            system,
            description: None,
            description_of: None,
        };
        let labels = [
            label(CodeSystem::Icd9Diagnosis, "428.0"),
            label(CodeSystem::Icd9Diagnosis, "038.9"),
            label(CodeSystem::Icd9Diagnosis, "428.21"),
            label(CodeSystem::Icd9Procedure, "38.93"),
            label(CodeSystem::Icd9Diagnosis, "E849.7"),
        ];
        assert_eq!(parents(&labels), [1, 0, 1, 3, 2]);
    }
}

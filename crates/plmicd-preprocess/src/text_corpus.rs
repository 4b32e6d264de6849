//! The stage `corpus`: texts without codes, for vocabularies and pretraining.

use plmicd_data::{counted, kind};
use plmicd_pipeline::{ConfigIssue, InputSpec, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{PreprocessConfig, Splits};
use crate::own::{self, TableColumns};
use crate::text::{Deidentified, TextCleaning};
use crate::{splits, write};

/// How texts are read and cleaned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusConfig {
    /// How texts are cleaned: `caml`, `caml-cased`, `raw`, `raw-lower` or `edin`. As in the pipeline that the
    /// vocabulary or encoder is for.
    pub text: TextCleaning,
    /// What becomes of the marks that de-identification left: `keep`, `drop` or `replace`. Before cleaning.
    pub deidentified: Deidentified,
    /// Share of the texts in the dev split, on which pretraining measures perplexity; the rest is train.
    pub dev_fraction: f64,
    /// Decides which texts these are.
    pub seed: u64,
    /// Column of a `table` source with the text's id.
    pub id_column: String,
    /// Column of a `table` source with the text.
    pub text_column: String,
}

impl Default for CorpusConfig {
    fn default() -> Self {
        let columns = TableColumns::default();
        Self {
            text: TextCleaning::default(),
            deidentified: Deidentified::default(),
            dev_fraction: 0.05,
            seed: 0,
            id_column: columns.id_column,
            text_column: columns.text_column,
        }
    }
}

impl CorpusConfig {
    fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if !(0.0..1.0).contains(&self.dev_fraction) {
            issues.push(ConfigIssue::new("dev_fraction", "expected 0 or more, and less than 1"));
        }
        for (path, name) in [("id_column", &self.id_column), ("text_column", &self.text_column)] {
            if name.is_empty() {
                issues.push(ConfigIssue::new(path, "it is empty"));
            }
        }
        issues
    }

    /// The same in the terms of the stage that reads coded notes.
    fn reading(&self) -> PreprocessConfig {
        let columns = TableColumns {
            id_column: self.id_column.clone(),
            text_column: self.text_column.clone(),
            ..TableColumns::default()
        };
        PreprocessConfig {
            text: self.text,
            deidentified: self.deidentified,
            splits: Splits::Random,
            table: columns,
            ..PreprocessConfig::default()
        }
    }
}

/// Texts to `notes` without labels.
#[derive(Clone, Copy, Debug)]
pub struct TextCorpus;

impl Stage for TextCorpus {
    type Config = CorpusConfig;

    const NAME: &'static str = "corpus";
    const VERSION: u32 = 3;
    const OUTPUT: &'static str = kind::NOTES;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Texts without codes to cleaned notes, for vocabularies and pretraining";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 1] = [InputSpec::required("raw", &[kind::TEXT, kind::TABLE])];
        &INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let raw = context.input("raw")?;
        let reading = config.reading();
        let mut corpus = match raw.kind.as_str() {
            kind::TEXT => own::read_folder(&reading, &raw.dir, context)?,
            _ => own::read(&reading, &raw.dir, own::Wanted::Texts, context)?,
        };
        corpus.exclusions.lines().for_each(|line| context.note(line));
        if corpus.notes.is_empty() {
            return Err(StageError::failed(format!("no text is left: {}", corpus.exclusions.sentence())));
        }
        splits::assign_random(&mut corpus.notes, config.seed, config.dev_fraction, 0.0);
        context.note(counted(corpus.notes.len() as u64, "texts"));
        write::write(corpus, &[], reading.text_rules(), |_| Vec::new(), context)
    }
}

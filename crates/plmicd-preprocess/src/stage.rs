//! The stage `preprocess`.

use plmicd_data::kind;
use plmicd_pipeline::{ConfigIssue, InputSpec, Stage, StageContext, StageError};

use crate::config::{PreprocessConfig, Splits};
use crate::{codiesp, cohort, level, mimic3, mimic4, own, splits, stratify, write};

/// Raw tables to `notes`: cleaned texts, dotted codes, splits, and the label space.
#[derive(Clone, Copy, Debug)]
pub struct Preprocess;

impl Stage for Preprocess {
    type Config = PreprocessConfig;

    const NAME: &'static str = "preprocess";
    const VERSION: u32 = 2;
    const OUTPUT: &'static str = kind::NOTES;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Raw tables of notes and codes to cleaned notes and a label space";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 2] = [
            InputSpec::required("raw", &[kind::MIMIC3, kind::MIMIC4, kind::CODIESP, kind::TABLE]),
            InputSpec::optional("descriptions", &[kind::CODE_TABLE]),
        ];
        &INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let raw = context.input("raw")?;
        let mut corpus = match raw.kind.as_str() {
            kind::MIMIC3 => mimic3::read(config, &raw.dir, context)?,
            kind::MIMIC4 => mimic4::read(config, &raw.dir, context)?,
            kind::CODIESP => codiesp::read(config, &raw.dir, context)?,
            kind::TABLE => own::read(config, &raw.dir, own::Wanted::Coded, context)?,
            other => return Err(StageError::failed(format!("cannot read a source of kind `{other}`"))),
        };
        if let Some(tables) = context.optional_input("descriptions") {
            corpus.descriptions.add_folder(&tables.dir)?;
        }
        level::regroup(config.code_level, &mut corpus);
        let labels = cohort::select(config, &mut corpus.notes, &corpus.codes, &mut corpus.exclusions)?;
        let (dev, test) = (config.dev_fraction, config.test_fraction);
        match config.splits {
            Splits::Random => splits::assign_random(&mut corpus.notes, config.seed, dev, test),
            Splits::Stratified => stratify::assign(&mut corpus.notes, &labels, config.seed, dev, test),
            Splits::Published | Splits::Caml => {}
        }
        let leaking = splits::leaking_subjects(&corpus.notes);
        if leaking > 0 {
            context.warn(format!("the splits leak: {leaking} subjects have notes on more than one side"));
        }
        for split in splits::empty_splits(&corpus.notes) {
            context.warn(format!("no note is in the {split} split; the stages that read it will fail"));
        }
        let doubtful = cohort::doubtful(&labels, &corpus.codes);
        if !doubtful.is_empty() {
            let shown = doubtful[..doubtful.len().min(10)].join(", ");
            context.warn(format!("{} labels do not look like ICD codes: {shown}", doubtful.len()));
        }
        for exclusion in corpus.exclusions.as_slice() {
            context.note(format!("left out: {} {} {}", exclusion.count, exclusion.unit, exclusion.reason));
        }
        context.note(format!("{} notes, {} labels", corpus.notes.len(), labels.len()));
        write::write(corpus, &labels, context)
    }
}

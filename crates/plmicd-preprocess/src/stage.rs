//! The stage `preprocess`.

use plmicd_data::{CorpusStats, counted, kind};
use plmicd_pipeline::{ConfigIssue, InputSpec, Stage, StageContext, StageError};

use crate::config::{CodeLevel, Cohort, PreprocessConfig, Splits};
use crate::text::TextRules;
use crate::{
    caml_csv, codiesp, cohort, label_list, level, mimic2, mimic3, mimic4, own, published, splits, stratify,
    write,
};

/// Raw tables to `notes`: cleaned texts, dotted codes, splits, and the label space.
#[derive(Clone, Copy, Debug)]
pub struct Preprocess;

impl Stage for Preprocess {
    type Config = PreprocessConfig;

    const NAME: &'static str = "preprocess";
    const VERSION: u32 = 7;
    const OUTPUT: &'static str = kind::NOTES;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Raw tables of notes and codes to cleaned notes and a label space";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 3] = [
            InputSpec::required(
                "raw",
                &[kind::MIMIC3, kind::MIMIC4, kind::MIMIC2, kind::CODIESP, kind::CAML_CSV, kind::TABLE],
            ),
            InputSpec::optional("descriptions", &[kind::CODE_TABLE]),
            InputSpec::optional("labels", &[kind::LABEL_LIST]),
        ];
        &INPUTS
    }

    fn check(config: &Self::Config, wired: &[&str]) -> Vec<ConfigIssue> {
        let mut issues = config.issues();
        if wired.contains(&"labels") && (config.cohort == Cohort::Top || config.min_code_frequency > 1) {
            let path = if config.cohort == Cohort::Top { "cohort" } else { "min_code_frequency" };
            issues.push(ConfigIssue::new(
                path,
                "with the input `labels` the list decides which codes there are",
            ));
        }
        issues
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let raw = context.input("raw")?;
        // Read first: it is small, and a mistake in it shows before the large tables are read.
        let list = context.optional_input("labels").map(|input| label_list::read(&input.dir)).transpose()?;
        let rules = TextRules { blanks: raw.kind == kind::MIMIC4, ..config.text_rules() };
        let mut corpus = match raw.kind.as_str() {
            kind::MIMIC3 => mimic3::read(config, &raw.dir, context)?,
            kind::MIMIC4 => mimic4::read(config, &raw.dir, context)?,
            kind::MIMIC2 => mimic2::read(config, &raw.dir, context)?,
            kind::CAML_CSV => caml_csv::read(config, &raw.dir, context)?,
            kind::CODIESP => codiesp::read(config, &raw.dir, context)?,
            kind::TABLE => own::read(config, &raw.dir, own::Wanted::Coded, context)?,
            other => return Err(StageError::failed(format!("cannot read a source of kind `{other}`"))),
        };
        if let Some(tables) = context.optional_input("descriptions") {
            corpus.descriptions.add_folder(&tables.dir)?;
        }
        level::regroup(config.code_level, &mut corpus);
        let labels = match &list {
            None => cohort::select(config, &mut corpus.notes, &corpus.codes, &mut corpus.exclusions)?,
            Some(list) => {
                let (labels, absent) =
                    label_list::apply(list, &mut corpus.notes, &mut corpus.codes, &mut corpus.exclusions);
                if absent > 0 {
                    context.warn(format!("{absent} of {} listed codes are on no note", labels.len()));
                }
                if corpus.notes.is_empty() {
                    let left_out = corpus.exclusions.sentence();
                    return Err(StageError::failed(format!("no note has a listed code: {left_out}")));
                }
                labels
            }
        };
        let (dev, test) = (config.dev_fraction, config.test_fraction);
        match config.splits {
            Splits::Random => splits::assign_random(&mut corpus.notes, config.seed, dev, test),
            Splits::Stratified => stratify::assign(&mut corpus.notes, &labels, config.seed, dev, test),
            Splits::Published | Splits::Caml | Splits::Caml50 => {}
        }
        let leaking = splits::leaking_subjects(&corpus.notes);
        if leaking > 0 {
            let (subjects, have) =
                (counted(leaking as u64, "subjects"), if leaking == 1 { "has" } else { "have" });
            context.warn(format!("the splits leak: {subjects} {have} notes on more than one side"));
        }
        for split in splits::empty_splits(&corpus.notes) {
            context.warn(format!("no note is in the {split} split; the stages that read it will fail"));
        }
        let column = &config.table.codes_column;
        if let Some(warning) = cohort::doubtful(&labels, &corpus.codes, column) {
            context.warn(warning);
        }
        if raw.kind == kind::TABLE
            && config.code_level == CodeLevel::Full
            && let Some(warning) = cohort::misshapen(&labels, &corpus.codes, column)
        {
            context.warn(warning);
        }
        write::count_joined(&mut corpus, rules, context)?;
        corpus.exclusions.lines().for_each(|line| context.note(line));
        let notes = counted(corpus.notes.len() as u64, "notes");
        context.note(format!("{notes}, {}", counted(labels.len() as u64, "labels")));
        // Tables of the same form that are no restricted ones (made by `synth`) are not the data that were published on.
        let published = |stats: &CorpusStats| match raw.restricted {
            true => published::compare(config, list.as_ref().map(Vec::len), stats),
            false => Vec::new(),
        };
        write::write(corpus, &labels, rules, published, context)
    }
}

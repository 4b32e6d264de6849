//! The generator as a pipeline stage.

use std::ops::ControlFlow;

use plmicd_data::kind;
use plmicd_pipeline::{ConfigIssue, InputSpec, Stage, StageContext, StageError};

use crate::config::SynthConfig;
use crate::corpus::generate;
use crate::error::SynthError;

/// Makes a synthetic corpus in the shapes of MIMIC-III.
#[derive(Clone, Copy, Debug, Default)]
pub struct Synth;

impl Stage for Synth {
    type Config = SynthConfig;

    const NAME: &'static str = "synth";
    const VERSION: u32 = 1;
    const OUTPUT: &'static str = kind::MIMIC3;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Make a synthetic corpus in the shapes of MIMIC-III";

    fn inputs() -> &'static [InputSpec] {
        &[]
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues().into_iter().map(|(path, message)| ConfigIssue::new(path, message)).collect()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let threads = context.runtime().thread_count();
        let summary = generate(config, context.output_dir(), threads, &mut |done, total| {
            context.progress("writing the corpus", done, Some(total), "admission passes");
            if context.interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match summary {
            Ok(summary) => {
                context.note(format!(
                    "{} admissions of {} subjects, {} note rows, {} words of discharge summaries, {} bytes",
                    summary.admissions, summary.subjects, summary.note_rows, summary.words, summary.bytes
                ));
                Ok(())
            }
            Err(SynthError::Stopped) => Err(StageError::Interrupted),
            Err(error) => Err(StageError::because("making the synthetic corpus", error)),
        }
    }
}

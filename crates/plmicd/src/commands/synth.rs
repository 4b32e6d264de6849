//! `plmicd synth`: the synthetic corpus without a pipeline.

use std::ops::ControlFlow;

use plmicd_pipeline::execute::RunObserver;
use plmicd_pipeline::{Event, EventRecord, Runtime};
use plmicd_synth::{SynthConfig, SynthError};

use crate::cli::SynthArgs;
use crate::commands::World;
use crate::failure::{Failure, chain, exit};
use crate::ui::progress::Progress;
use crate::ui::text;

/// Writes a corpus into a folder.
pub fn synth(world: &World<'_>, args: &SynthArgs) -> Result<(), Failure> {
    let defaults = SynthConfig::default();
    let config = SynthConfig {
        admissions: args.admissions.unwrap_or(defaults.admissions),
        codes: args.codes.unwrap_or(defaults.codes),
        mean_words: args.mean_words.unwrap_or(defaults.mean_words),
        max_words: args.max_words.unwrap_or(defaults.max_words),
        seed: args.seed.unwrap_or(defaults.seed),
        ..defaults
    };
    if let Some((field, problem)) = config.issues().into_iter().next() {
        return Err(Failure::usage(format!("--{}: {problem}", field.replace('_', "-"))));
    }
    let runtime = Runtime { threads: args.threads, ..Runtime::default() };
    let mut progress = Progress::new(world.terminal, std::iter::once("synth"), runtime.log_seconds);
    let summary = plmicd_synth::generate(&config, &args.out, runtime.thread_count(), &mut |done, total| {
        let (phase, unit) = ("writing".to_owned(), "admissions".to_owned());
        let event = Event::Progress { phase, done, total: Some(total), unit };
        progress.event(&EventRecord { time: String::new(), node: "synth".to_owned(), event });
        if world.interrupt.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.clear("synth");
    match summary {
        Ok(summary) => {
            world.terminal.say(&format!(
                "{}: {} admissions of {} subjects, {} note rows, {} words in discharge summaries, {}",
                args.out,
                text::count(summary.admissions),
                text::count(summary.subjects),
                text::count(summary.note_rows),
                text::count(summary.words),
                text::bytes(summary.bytes),
            ));
            Ok(())
        }
        Err(SynthError::Stopped) => {
            world.terminal.say("stopped; nothing was written");
            Err(Failure::silent(exit::INTERRUPTED))
        }
        Err(error) => Err(Failure::new(exit::INTERNAL, chain(&error))),
    }
}

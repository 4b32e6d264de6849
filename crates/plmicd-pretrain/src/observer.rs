//! The trainer's reports as the pipeline's events.

use std::collections::BTreeMap;

use plmicd_pipeline::StageContext;
use plmicd_train::{DevRecord, EpochRecord, Observer, StepRecord, StepReport};

/// Passes on to a stage's context.
pub(crate) struct ContextObserver<'a, 'b>(pub &'a StageContext<'b>);

impl Observer for ContextObserver<'_, '_> {
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }

    fn step(&self, report: &StepReport) {
        self.0.progress("training", report.examples, Some(report.total_examples), "sequences");
        self.update(&report.record, report.epoch);
    }

    fn resumed(&self, steps: &[StepRecord], epochs: &[EpochRecord], midway: &[DevRecord]) {
        // The curves of this run are to be whole.
        for record in steps {
            let before = epochs.iter().filter(|epoch| epoch.step < record.step).count();
            self.update(record, before as u32 + 1);
        }
        midway.iter().for_each(|record| self.report(record.step, &record.dev, &[]));
        epochs
            .iter()
            .for_each(|record| self.report(record.step, &record.dev, &[("train_loss", record.train_loss)]));
    }

    fn evaluating(&self, done: u64, total: u64) {
        self.0.progress("naming hidden tokens of dev notes", done, Some(total), "sequences");
    }

    fn epoch(&self, record: &EpochRecord, best: bool) {
        let epoch = format!("epoch {}, step {}", record.epoch, record.step);
        self.report(record.step, &record.dev, &[("train_loss", record.train_loss)]);
        let mut line = format!("{epoch}: train loss {:.4}{}", record.train_loss, in_words(&record.dev));
        if best && !record.dev.is_empty() {
            line.push_str(" (best so far)");
        }
        self.0.note(line);
    }

    fn midway(&self, record: &DevRecord) {
        self.report(record.step, &record.dev, &[]);
        self.0.note(format!("step {}{}", record.step, in_words(&record.dev)));
    }

    fn warn(&self, message: &str) {
        self.0.warn(message);
    }

    fn note(&self, message: &str) {
        self.0.note(message);
    }
}

impl ContextObserver<'_, '_> {
    /// The figures of one update.
    fn update(&self, record: &StepRecord, epoch: u32) {
        self.0.metrics(
            record.step,
            &[
                ("loss", record.loss),
                ("learning_rate", record.learning_rate),
                ("gradient_norm", record.gradient_norm),
                ("epoch", f64::from(epoch)),
            ],
        );
    }

    /// Dev figures under `dev_` names, and others.
    fn report(&self, step: u64, dev: &BTreeMap<String, f64>, others: &[(&str, f64)]) {
        let names: Vec<(String, f64)> =
            dev.iter().map(|(name, value)| (format!("dev_{name}"), *value)).collect();
        let mut values: Vec<(&str, f64)> =
            names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        values.extend_from_slice(others);
        self.0.metrics(step, &values);
    }
}

/// The figures people look at; nothing where there were no dev notes.
fn in_words(dev: &BTreeMap<String, f64>) -> String {
    match (dev.get("perplexity"), dev.get("masked_accuracy")) {
        (Some(perplexity), Some(accuracy)) => {
            format!(", dev perplexity {perplexity:.3}, masked accuracy {accuracy:.4}")
        }
        _ => String::new(),
    }
}

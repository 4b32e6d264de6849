//! The trainer's reports as the pipeline's events.

use plmicd_pipeline::StageContext;
use plmicd_train::{DevRecord, EpochRecord, Observer, StepRecord, StepReport};

/// Passes on to a stage's context.
pub(crate) struct ContextObserver<'a, 'b>(pub &'a StageContext<'b>);

impl Observer for ContextObserver<'_, '_> {
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }

    fn step(&self, report: &StepReport) {
        self.0.progress("training", report.examples, Some(report.total_examples), "notes");
        self.update(&report.record, report.epoch);
    }

    fn resumed(&self, steps: &[StepRecord], epochs: &[EpochRecord], _midway: &[DevRecord]) {
        // The curves of this run are to be whole.
        for record in steps {
            let before = epochs.iter().filter(|epoch| epoch.step < record.step).count();
            self.update(record, before as u32 + 1);
        }
        epochs.iter().for_each(|record| self.dev(record));
    }

    fn evaluating(&self, done: u64, total: u64) {
        self.0.progress("scoring dev notes", done, Some(total), "notes");
    }

    fn epoch(&self, record: &EpochRecord, best: bool) {
        self.dev(record);
        let mut line = format!("epoch {}: train loss {:.5}", record.epoch, record.train_loss);
        for (name, words) in
            [("loss", "dev loss"), ("micro_f1", "dev micro F1"), ("precision_at_8", "dev P@8")]
        {
            if let Some(value) = record.dev.get(name) {
                line.push_str(&format!(", {words} {value:.4}"));
            }
        }
        if best && !record.dev.is_empty() {
            line.push_str(" (best so far)");
        }
        self.0.note(line);
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

    /// The figures of an epoch's evaluation, under `dev_` names, and its mean loss.
    fn dev(&self, record: &EpochRecord) {
        let names: Vec<(String, f64)> =
            record.dev.iter().map(|(name, value)| (format!("dev_{name}"), *value)).collect();
        let mut values: Vec<(&str, f64)> =
            names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        values.push(("train_loss", record.train_loss));
        self.0.metrics(record.step, &values);
    }
}

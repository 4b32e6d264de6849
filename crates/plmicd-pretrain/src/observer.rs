//! The trainer's reports as the pipeline's events.

use plmicd_pipeline::StageContext;
use plmicd_train::{EpochRecord, Observer, StepReport};

/// Passes on to a stage's context.
pub(crate) struct ContextObserver<'a, 'b>(pub &'a StageContext<'b>);

impl Observer for ContextObserver<'_, '_> {
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }

    fn step(&self, report: &StepReport) {
        self.0.progress("training", report.examples, Some(report.total_examples), "sequences");
        let record = &report.record;
        self.0.metrics(
            record.step,
            &[
                ("loss", record.loss),
                ("learning_rate", record.learning_rate),
                ("gradient_norm", record.gradient_norm),
                ("epoch", f64::from(report.epoch)),
            ],
        );
    }

    fn evaluating(&self, done: u64, total: u64) {
        self.0.progress("naming hidden tokens of dev notes", done, Some(total), "sequences");
    }

    fn epoch(&self, record: &EpochRecord, best: bool) {
        let names: Vec<(String, f64)> =
            record.dev.iter().map(|(name, value)| (format!("dev_{name}"), *value)).collect();
        let mut values: Vec<(&str, f64)> =
            names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        values.push(("train_loss", record.train_loss));
        self.0.metrics(record.step, &values);
        let mut line =
            format!("epoch {}, step {}: train loss {:.4}", record.epoch, record.step, record.train_loss);
        let figure = |name: &str| record.dev.get(name);
        if let (Some(perplexity), Some(accuracy)) = (figure("perplexity"), figure("masked_accuracy")) {
            line.push_str(&format!(", dev perplexity {perplexity:.3}, masked accuracy {accuracy:.4}"));
            if best {
                line.push_str(" (best so far)");
            }
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

//! The model card: `README.md` of an `encoder`.

use std::fmt::Write as _;

use plmicd_data::TrainingHistory;
use plmicd_nn::EncoderConfig;

use crate::config::PretrainConfig;
use crate::sequences::SequenceSet;

/// What the card tells. It holds counts and figures only, and no times, so that equal encoders have equal cards.
pub(crate) struct Card<'a> {
    pub config: &'a PretrainConfig,
    pub encoder: &'a EncoderConfig,
    pub continued: bool,
    pub restricted: bool,
    pub train: &'a SequenceSet,
    pub dev: Option<&'a SequenceSet>,
    pub history: &'a TrainingHistory,
}

impl Card<'_> {
    /// The card as Markdown.
    pub fn to_markdown(&self) -> String {
        let (config, encoder, history) = (self.config, self.encoder, self.history);
        let mut text = String::from(
            "# Encoder\n\nA masked language model of clinical notes: an encoder to be fine-tuned, with the head that names \
             hidden tokens.\n\n",
        );
        if self.restricted {
            text.push_str(
                "**Restricted.** Trained on data under a use agreement, and itself subject to it: weights can hold traces \
                 of notes, and the head can name their words. Do not pass it on.\n\n",
            );
        }
        let source = if self.continued { "continued from a checkpoint" } else { "trained from nothing" };
        let words = if config.whole_words { "whole words" } else { "single tokens" };
        let stopped = if history.stopped_early { ", stopped early" } else { "" };
        text.push_str("| | |\n|---|---|\n");
        let rows = [
            (
                "encoder",
                format!(
                    "{} ({source}), {} layers, width {}, vocabulary {}",
                    encoder.model_type, encoder.num_hidden_layers, encoder.hidden_size, encoder.vocab_size
                ),
            ),
            ("parameters", history.parameters.to_string()),
            ("sequences", format!("up to {} tokens", config.sequence_length)),
            ("hidden", format!("{} of the tokens, {words}", config.mask_rate)),
            ("sequences per update", (config.batch_size * config.accumulation).to_string()),
            ("learning rate", config.optimizer.learning_rate.to_string()),
            ("updates", history.total_steps.to_string()),
            ("epochs", format!("{}{stopped}; weights of epoch {}", history.epochs.len(), history.best_epoch)),
            ("seed", history.seed.to_string()),
        ];
        for (name, value) in rows {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        text.push_str("\n| split | notes | tokens | sequences | left out |\n|---|---:|---:|---:|---:|\n");
        for (split, set) in [("train", Some(self.train)), ("dev", self.dev)] {
            if let Some(set) = set {
                let (notes, tokens, left_out) = (set.notes, set.note_tokens, set.left_out);
                let _ = writeln!(text, "| {split} | {notes} | {tokens} | {} | {left_out} |", set.len());
            }
        }
        let best = history.epochs.iter().find(|epoch| epoch.epoch == history.best_epoch);
        if let Some(best) = best.filter(|epoch| !epoch.dev.is_empty()) {
            text.push_str("\n| on the dev notes | |\n|---|---:|\n");
            for (name, value) in &best.dev {
                let _ = writeln!(text, "| {name} | {value:.4} |");
            }
        }
        text
    }
}

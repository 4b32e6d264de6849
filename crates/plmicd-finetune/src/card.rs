//! The model card: `README.md` of a `model`.

use std::fmt::Write as _;

use plmicd_data::{LabelSpace, TrainingHistory};
use plmicd_nn::{Attention, IcdModel, Padding, PlmIcd, Pooling, WordArchitecture, WordModel};

use crate::config::{FinetuneConfig, LabelInit};
use crate::notes::NoteSet;

/// What the card tells. It holds counts and figures only, and no times, so that equal models have equal cards.
pub(crate) struct Card<'a> {
    pub config: &'a FinetuneConfig,
    pub model: &'a IcdModel,
    pub pretrained: bool,
    pub restricted: bool,
    pub labels: &'a LabelSpace,
    pub train: &'a NoteSet,
    pub dev: Option<&'a NoteSet>,
    pub history: &'a TrainingHistory,
}

impl Card<'_> {
    /// The card as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = match self.model {
            IcdModel::PlmIcd(_) => format!(
                "# PLM-ICD model\n\nAssigns ICD codes to clinical notes: a pretrained transformer reads a note {}, and {}.\n\n",
                if self.config.pooling == Pooling::Whole { "as a whole" } else { "in segments" },
                answers(self.config)
            ),
            IcdModel::Word(_) => "# Word-level coding model\n\nAssigns ICD codes to clinical notes: word embeddings are read by a small network, and label attention reads its states, one query per code.\n\n"
                .to_owned(),
        };
        if self.restricted {
            text.push_str("**Restricted.** Trained on data under a use agreement, and itself subject to it: weights can hold traces of notes. Do not pass it on.\n\n");
        }
        text.push_str("## Model\n\n| | |\n|---|---|\n");
        let config = self.config;
        let [reader, attention, reads] = match self.model {
            IcdModel::PlmIcd(model) => self.of_transformer(model),
            IcdModel::Word(model) => self.of_words(model),
        };
        let padding = match config.padding {
            Padding::Mask => "masked in label attention",
            Padding::Attend => "attended, as in the published implementation",
        };
        let rows = [
            ("encoder", reader),
            ("label attention", attention),
            ("reads", reads),
            ("padding", padding.to_owned()),
            ("parameters", self.history.parameters.to_string()),
        ];
        table(&mut text, &rows);
        text.push_str("\n## Data\n\n| split | notes | cut to length | without labels | labels present |\n|---|---:|---:|---:|---:|\n");
        for (split, notes) in [("train", Some(self.train)), ("dev", self.dev)] {
            if let Some(notes) = notes {
                let (count, cut) = (notes.len(), notes.cut);
                let (bare, present) = (notes.without_labels(), notes.labels_present);
                let _ = writeln!(text, "| {split} | {count} | {cut} | {bare} | {present} |");
            }
        }
        self.training(&mut text);
        text.push_str(LIMITS);
        text
    }

    /// What reads the notes, the label attention, and how much of a note is read.
    fn of_transformer(&self, model: &PlmIcd) -> [String; 3] {
        let (config, encoder) = (self.config, model.encoder().config());
        let source = if self.pretrained { "pretrained" } else { "trained from nothing" };
        let head = match config.label_init {
            LabelInit::Random => "random start",
            LabelInit::Descriptions => "started from the codes' descriptions",
        };
        let attention = match config.attention {
            Attention::Laat => "LAAT",
            Attention::Caml => "CAML's",
            Attention::BertXml => "BERT-XML's",
            Attention::Cross => "PLM-CA's cross-attention",
            Attention::None => "none",
        };
        let reads = match config.pooling {
            Pooling::Whole => {
                let most = config.max_length.min(encoder.max_sequence_length().max(0) as usize);
                format!("{most} tokens as one sequence")
            }
            _ => format!("{} tokens in segments of {}", config.max_length, config.segment_length),
        };
        [
            format!(
                "{} ({source}), {} layers, width {}, vocabulary {}",
                encoder.model_type, encoder.num_hidden_layers, encoder.hidden_size, encoder.vocab_size
            ),
            format!("{attention}, {} labels, {head}", self.labels.len()),
            reads,
        ]
    }

    fn of_words(&self, model: &WordModel) -> [String; 3] {
        let shape = model.config();
        let (kind, attention) = match shape.architecture {
            WordArchitecture::BiLstm => ("bidirectional LSTM", "LAAT"),
            WordArchitecture::Cnn => ("convolution", "CAML"),
            WordArchitecture::MultiResCnn => ("convolutions with residual blocks", "CAML"),
        };
        let extra = match (&shape.parents, shape.description_weight) {
            (Some(_), _) => ", after their categories",
            (None, Some(_)) => ", drawn towards the codes' descriptions",
            (None, None) => "",
        };
        [
            format!(
                "{kind} over words, states of width {}, embeddings of width {}, vocabulary {}",
                shape.state_size(),
                shape.embedding_size,
                shape.vocab_size
            ),
            format!("{attention}, {} labels{extra}", self.labels.len()),
            format!("{} words", shape.max_length),
        ]
    }

    fn training(&self, text: &mut String) {
        let (config, history) = (self.config, self.history);
        let optimizer = &config.optimizer;
        text.push_str("\n## Training\n\n| | |\n|---|---|\n");
        let mut rate = format!("{}", optimizer.learning_rate);
        if let Some(head) = optimizer.head_learning_rate {
            let _ = write!(rate, " (label attention {head})");
        }
        let stopped = if history.stopped_early { ", stopped early" } else { "" };
        let rows = [
            ("learning rate", rate),
            ("notes per update", (config.batch_size * config.accumulation).to_string()),
            ("updates", history.total_steps.to_string()),
            ("epochs", format!("{}{stopped}; weights of epoch {}", history.epochs.len(), history.best_epoch)),
            ("seed", history.seed.to_string()),
        ];
        table(text, &rows);
        let best = history.epochs.iter().find(|epoch| epoch.epoch == history.best_epoch);
        let Some(best) = best.filter(|epoch| !epoch.dev.is_empty()) else { return };
        text.push_str("\n## On the dev notes\n\n| figure | value |\n|---|---:|\n");
        for (name, value) in &best.dev {
            let _ = writeln!(text, "| {name} | {value:.4} |");
        }
        text.push_str(
            "\n`micro_f1` is taken at its best `threshold`. Figures on test notes are in the evaluation.\n",
        );
    }
}

/// How what was read becomes scores.
fn answers(config: &FinetuneConfig) -> &'static str {
    match (config.pooling, config.attention) {
        (Pooling::SegmentMax, _) => {
            "each segment scores every code, the highest score of a code being the note's"
        }
        (Pooling::Hierarchical, _) => "a second transformer reads the start tokens of all segments",
        (Pooling::ClsMean | Pooling::ClsSum | Pooling::ClsMax, _) => {
            "a linear layer reads the start tokens of all segments"
        }
        (Pooling::Segment | Pooling::Whole, Attention::None) => {
            "a linear layer reads the highest value of each dimension over all tokens"
        }
        (Pooling::Segment, _) => "label attention reads the states of all of them, one query per code",
        (Pooling::Whole, _) => "label attention reads the states of all its tokens, one query per code",
    }
}

fn table(text: &mut String, rows: &[(&str, String)]) {
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
}

const LIMITS: &str = "
## Use and limits

- A suggestion for trained coders, not a decision: every code needs a person's review.
- It knows only the codes in `labels.json`, and rare ones badly.
- It was fitted to the notes named above; other hospitals, note types and coding years differ.
- Scores are not calibrated probabilities, and a threshold belongs to the data it was chosen on.
";

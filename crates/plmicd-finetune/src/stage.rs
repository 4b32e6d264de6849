//! The stage, top to bottom.

use std::rc::Rc;
use std::time::Duration;

use plmicd_data::{
    ExtendedVocabulary, LabelSpace, SpecialTokens, Split, TrainingHistory, check_same_tokens, copy_tokenizer,
    kind,
};
use plmicd_nn::{Batching, EncoderConfig, NoteLayout};
use plmicd_pipeline::{BadInput, ConfigIssue, InputSpec, Preset, Stage, StageContext, StageError};
use plmicd_train::{Checkpoints, Kept, Reading, TrainError, Trainer};
use tch::Device;

use crate::card::Card;
use crate::config::{BestMetric, FinetuneConfig};
use crate::notes::{Limits, NoteSet};
use crate::observer::ContextObserver;
use crate::output;
use crate::peers;
use crate::presets::PRESETS;
use crate::source::NoteSource;
use crate::start;
use crate::task::FinetuneTask;
use crate::word_start::WordStart;

/// Token shards, and an encoder or word embeddings if there are any, to a `model`.
#[derive(Clone, Copy, Debug)]
pub struct Finetune;

impl Stage for Finetune {
    type Config = FinetuneConfig;

    const NAME: &'static str = "finetune";
    const VERSION: u32 = 6;
    const OUTPUT: &'static str = kind::MODEL;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str =
        "Trains a coding model: PLM-ICD's encoder over segments, or words, and label attention over the note";

    const PARALLEL: bool = true;

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 3] = [
            InputSpec::required("shards", &[kind::TOKEN_SHARDS]),
            InputSpec::optional("encoder", &[kind::HF_MODEL, kind::ENCODER]),
            InputSpec::optional("embeddings", &[kind::EMBEDDINGS]),
        ];
        &INPUTS
    }

    fn check(config: &Self::Config, wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues(wired)
    }

    fn presets() -> &'static [Preset] {
        PRESETS
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let shards = context.input("shards")?;
        let encoder = context.optional_input("encoder");
        let process = context.ranks().map_or(0, |ranks| ranks.gpu);
        let device = plmicd_torch::resolve_device_of(&context.runtime().device, process)
            .map_err(|error| StageError::because("choosing the device", error))?;
        plmicd_torch::set_intra_op_threads(context.runtime().thread_count());

        // Everything that can be wrong with the inputs shows here, before anything long.
        let read = |error| StageError::because("reading the token shards", error);
        let labels = LabelSpace::read(&shards.file(LabelSpace::FILE)).map_err(read)?;
        if labels.is_empty() {
            return Err(BadInput::new(shards.file(LabelSpace::FILE), "the label space is empty").into());
        }
        let path = shards.file(SpecialTokens::FILE);
        let tokens = SpecialTokens::read(&path).map_err(read)?;
        let mut specials = start::model_specials(&path, &tokens)?;
        let extended = match encoder {
            Some(encoder) => ExtendedVocabulary::missing_in(&encoder.dir, &shards.dir).map_err(read)?,
            None => None,
        };
        let extended = extended.as_ref();
        let (reader, batching) = match config.architecture.word_level() {
            None => {
                let shape = start::encoder_config(config, encoder, &tokens, extended, context)?;
                if let Some(encoder) = encoder {
                    check_same_tokens(&encoder.dir, &shards.dir).map_err(read)?;
                }
                let layout = note_layout(config, &shape, &specials, context)?;
                (Reader::Encoder(Box::new(shape)), Batching::Segments(layout))
            }
            Some(architecture) => {
                // Words stand for themselves: nothing is put around a note.
                (specials.cls, specials.sep) = (None, None);
                let start = WordStart::read(config, architecture, shards, &labels, &tokens, context)?;
                let batching = start.batching();
                (Reader::Words(Box::new(start)), batching)
            }
        };
        let limits = Limits {
            vocab_size: tokens.vocab_size,
            num_labels: labels.len(),
            batching: batching.clone(),
            specials,
        };
        let train = NoteSet::read(&shards.dir, Split::Train, &limits, context)?;
        let dev = match config.best_metric {
            BestMetric::LastEpoch if !has_dev(&shards.dir) => None,
            _ => Some(NoteSet::read(&shards.dir, Split::Dev, &limits, context)?),
        };
        report(&train, dev.as_ref(), labels.len(), context);

        let model = match reader {
            Reader::Encoder(shape) => {
                start::model(config, &shape, shards, &labels, &train, &specials, extended, device, context)?
            }
            Reader::Words(start) => start.model(config, &labels, &train, device, context)?,
        };
        let source = NoteSource { notes: &train, num_labels: labels.len(), specials, batching, device };
        let mut task = FinetuneTask { model, dev: dev.as_ref(), specials, signs: None };
        let peers = match context.ranks().map(|ranks| peers::join(ranks, context)).transpose()? {
            None => None,
            Some(Some(peers)) => Some(Rc::new(peers)),
            // The first process has found the output in the store.
            Some(None) => return Ok(()),
        };
        let trainer = Trainer {
            config: config.trainer(),
            checkpoints: Checkpoints {
                dir: context.work_dir().join("checkpoints"),
                every: Duration::from_secs(context.runtime().checkpoint_seconds),
                kept: Kept {
                    best: context.runtime().checkpoint_best,
                    every_epochs: context.runtime().checkpoint_epochs,
                },
                identity: identity(config, device, context)?,
            },
            peers,
            reading: Reading::default(),
        };
        let outcome =
            trainer.run(&mut task, &source, &ContextObserver(context)).map_err(|error| match error {
                TrainError::Interrupted => StageError::Interrupted,
                error => StageError::because("training", error),
            })?;

        if context.ranks().is_some_and(|ranks| !ranks.is_first()) {
            return Ok(());
        }
        let described = task.model.describe_unseen(&train.seen(labels.len()));
        if described > 0 {
            context
                .note(format!("{described} codes without training notes are scored by their descriptions"));
        }
        let out = context.output_dir();
        let write = |error| StageError::because("writing the model", error);
        task.model.save(out).map_err(|error| StageError::because("writing the model", error))?;
        labels.write(&out.join(LabelSpace::FILE)).map_err(write)?;
        let mut history = output::history(&outcome, config.seed);
        history.precision = Some(config.precision.resolved(device).as_str().to_owned());
        context.peak_memory(history.total_steps, plmicd_torch::peak_memory(device));
        history.write(&out.join(TrainingHistory::FILE)).map_err(write)?;
        copy_tokenizer(&shards.dir, out)?;
        let card = Card {
            config,
            model: &task.model,
            pretrained: encoder.is_some(),
            restricted: context.restricted(),
            labels: &labels,
            train: &train,
            dev: dev.as_ref(),
            history: &history,
        };
        fs_err::write(out.join("README.md"), card.to_markdown())?;
        Ok(())
    }
}

/// What reads the notes, before there is a model.
enum Reader {
    Encoder(Box<EncoderConfig>),
    Words(Box<WordStart>),
}

/// How notes are cut for this encoder, after a look at what they are framed by.
fn note_layout(
    config: &FinetuneConfig,
    shape: &EncoderConfig,
    specials: &plmicd_nn::SpecialTokens,
    context: &StageContext<'_>,
) -> Result<NoteLayout, StageError> {
    let layout = NoteLayout::new(&config.model(), shape);
    layout.check(specials).map_err(|error| StageError::because("reading the token shards", error))?;
    if layout.max_length() < config.max_length {
        context.warn(format!(
            "max_length is {}, but the encoder reads at most {} tokens of a whole note: the rest is cut off",
            config.max_length,
            layout.max_length()
        ));
    }
    Ok(layout)
}

/// Whether the shards have a dev split.
fn has_dev(dir: &camino::Utf8Path) -> bool {
    dir.join(format!("{}-00000.parquet", Split::Dev)).exists()
}

/// Says what was read, and warns of what is likely a mistake.
fn report(train: &NoteSet, dev: Option<&NoteSet>, labels: usize, context: &StageContext<'_>) {
    for (split, notes) in [(Split::Train, Some(train)), (Split::Dev, dev)] {
        let Some(notes) = notes else { continue };
        context.note(format!(
            "{split}: {} notes, {} of them cut to length, {} of {labels} labels occur",
            notes.len(),
            notes.cut,
            notes.labels_present
        ));
        let bare = notes.without_labels();
        if bare > 0 {
            context.warn(format!("{split}: {bare} of {} notes have no label", notes.len()));
        }
    }
}

/// What the result depends on beside the trainer's settings and the parameters' layout.
fn identity(
    config: &FinetuneConfig,
    device: Device,
    context: &StageContext<'_>,
) -> Result<String, StageError> {
    let precision = config.precision.resolved(device).as_str();
    let config =
        serde_json::to_string(config).map_err(|error| StageError::because("hashing the config", error))?;
    let mut identity = format!("{} {}\n{config}\n", Finetune::NAME, Finetune::VERSION);
    // Where `auto` means something else, so would the rest of the run.
    identity.push_str(&format!("precision {precision}\n"));
    for name in ["shards", "encoder", "embeddings"] {
        if let Some(input) = context.optional_input(name) {
            identity.push_str(&format!("{name} {}\n", input.digest));
        }
    }
    Ok(identity)
}

//! The stage, top to bottom.

use std::rc::Rc;
use std::time::Duration;

use camino::Utf8Path;
use plmicd_data::{
    ExtendedVocabulary, SpecialTokens, Split, TrainingHistory, check_same_tokens, copy_tokenizer, kind,
};
use plmicd_pipeline::{ConfigIssue, InputSpec, Stage, StageContext, StageError};
use plmicd_train::{Checkpoints, Kept, Reading, TrainError, Trainer};
use tch::Device;

use crate::card::Card;
use crate::config::{BestMetric, PretrainConfig};
use crate::masking::Masking;
use crate::observer::ContextObserver;
use crate::output;
use crate::peers;
use crate::sequences::SequenceSet;
use crate::start::{self, Specials};
use crate::task::{PretrainTask, SequenceSource};
use crate::words::word_starts;

/// Token shards, and an encoder to go on from if there is one, to an `encoder`.
#[derive(Clone, Copy, Debug)]
pub struct Pretrain;

impl Stage for Pretrain {
    type Config = PretrainConfig;

    const NAME: &'static str = "pretrain";
    const VERSION: u32 = 4;
    const OUTPUT: &'static str = kind::ENCODER;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Pretrains an encoder on the notes: masked language modelling";

    const PARALLEL: bool = true;

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 2] = [
            InputSpec::required("shards", &[kind::TOKEN_SHARDS]),
            InputSpec::optional("encoder", &[kind::HF_MODEL, kind::ENCODER]),
        ];
        &INPUTS
    }

    fn check(config: &Self::Config, wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues(wired.contains(&"encoder"))
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let shards = context.input("shards")?;
        let encoder = context.optional_input("encoder");
        let process = context.ranks().map_or(0, |ranks| ranks.gpu);
        let device = plmicd_torch::resolve_device_of(&context.runtime().device, process)
            .map_err(|error| StageError::because("choosing the device", error))?;
        plmicd_torch::set_intra_op_threads(context.runtime().thread_count());

        // Everything that can be wrong with the inputs shows here, before anything long.
        let path = shards.file(SpecialTokens::FILE);
        let tokens = SpecialTokens::read(&path)
            .map_err(|error| StageError::because("reading the token shards", error))?;
        let specials = Specials::new(&path, &tokens)?;
        let extended = match encoder {
            Some(encoder) => ExtendedVocabulary::missing_in(&encoder.dir, &shards.dir)
                .map_err(|error| StageError::because("reading the encoder's vocabulary", error))?,
            None => None,
        };
        let extended = extended.as_ref();
        let shape = start::encoder_config(config, encoder, &tokens, &specials, extended, context)?;
        if let Some(encoder) = encoder {
            check_same_tokens(&encoder.dir, &shards.dir)
                .map_err(|error| StageError::because("comparing vocabularies", error))?;
        }
        let word_starts = match config.whole_words {
            true => Some(word_starts(&shards.file("tokenizer.json"), tokens.vocab_size)?),
            false => None,
        };
        let read =
            |split| SequenceSet::read(&shards.dir, split, config, tokens.vocab_size, &specials, context);
        let train = read(Split::Train)?;
        let dev = match config.best_metric {
            BestMetric::LastEpoch if !has_dev(&shards.dir) => None,
            _ => Some(read(Split::Dev)?),
        };
        report(&train, dev.as_ref(), context);

        let model = start::model(config, &shape, extended, device, context)?;
        let masking = Masking::new(config, tokens.vocab_size, specials, word_starts);
        let pad = i64::from(specials.pad);
        let mut task = PretrainTask { model, masking: &masking, pad, dev: dev.as_ref(), seed: config.seed };
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
            trainer.run(&mut task, &SequenceSource(&train), &ContextObserver(context)).map_err(|error| {
                match error {
                    TrainError::Interrupted => StageError::Interrupted,
                    error => StageError::because("training", error),
                }
            })?;

        if context.ranks().is_some_and(|ranks| !ranks.is_first()) {
            return Ok(());
        }
        let out = context.output_dir();
        task.model.save(out).map_err(|error| StageError::because("writing the encoder", error))?;
        let mut history = output::history(&outcome, config.seed);
        context.peak_memory(history.total_steps, plmicd_torch::peak_memory(device));
        history.precision = Some(config.precision.resolved(device).as_str().to_owned());
        history
            .write(&out.join(TrainingHistory::FILE))
            .map_err(|error| StageError::because("writing the encoder", error))?;
        copy_tokenizer(&shards.dir, out)?;
        let card = Card {
            config,
            encoder: &shape,
            continued: encoder.is_some(),
            restricted: context.restricted(),
            train: &train,
            dev: dev.as_ref(),
            history: &history,
        };
        fs_err::write(out.join("README.md"), card.to_markdown())?;
        Ok(())
    }
}

/// Whether the shards have a dev split.
fn has_dev(dir: &Utf8Path) -> bool {
    dir.join(format!("{}-00000.parquet", Split::Dev)).exists()
}

/// Says what was read, and what of it was left out.
fn report(train: &SequenceSet, dev: Option<&SequenceSet>, context: &StageContext<'_>) {
    for (split, set) in [(Split::Train, Some(train)), (Split::Dev, dev)] {
        let Some(set) = set else { continue };
        let (notes, tokens) = (set.notes, set.note_tokens);
        context.note(format!("{split}: {notes} notes, {tokens} tokens, {} sequences", set.len()));
        if set.left_out > 0 {
            context.note(format!(
                "{split}: {} sequences of fewer than two known tokens are left out: there is nothing to learn from \
                 a token alone",
                set.left_out
            ));
        }
    }
}

/// What the result depends on beside the trainer's settings and the parameters' layout.
fn identity(
    config: &PretrainConfig,
    device: Device,
    context: &StageContext<'_>,
) -> Result<String, StageError> {
    let precision = config.precision.resolved(device).as_str();
    let config =
        serde_json::to_string(config).map_err(|error| StageError::because("hashing the config", error))?;
    let mut identity = format!("{} {}\n{config}\n", Pretrain::NAME, Pretrain::VERSION);
    // Where `auto` means something else, so would the rest of the run.
    identity.push_str(&format!("precision {precision}\n"));
    for name in ["shards", "encoder"] {
        if let Some(input) = context.optional_input(name) {
            identity.push_str(&format!("{name} {}\n", input.digest));
        }
    }
    Ok(identity)
}

//! The stage, top to bottom.

use camino::Utf8Path;
use plmicd_data::{
    LabelSpace, ScoreWriter, Scores, ShardReader, SpecialTokens, Split, TextForm, TokenizedNote,
    check_same_tokens, kind,
};
use plmicd_pipeline::{BadInput, ConfigIssue, Input, InputSpec, Stage, StageContext, StageError};
use tch::Device;

use crate::config::PredictConfig;
use crate::scorer::{ScoreError, Scorer};
use crate::so_far::SoFar;

/// Any reason that has a message.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Notes held at a time: enough to find others of similar length for a batch, few enough that their scores take
/// tens of megabytes whatever the size of the split.
/// This is also what an interrupted stage computes again.
const WINDOW: usize = 256;

/// A model and token shards to `scores`.
#[derive(Clone, Copy, Debug)]
pub struct Predict;

impl Stage for Predict {
    type Config = PredictConfig;

    const NAME: &'static str = "predict";
    const VERSION: u32 = 4;
    const OUTPUT: &'static str = kind::SCORES;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Scores every code for every note of a split";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 2] = [
            InputSpec::required("model", &[kind::MODEL]),
            InputSpec::required("shards", &[kind::TOKEN_SHARDS]),
        ];
        &INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let shards = context.input("shards")?;
        let device = plmicd_torch::resolve_device(&context.runtime().device)
            .map_err(|error| StageError::because("choosing the device", error))?;
        plmicd_torch::set_intra_op_threads(context.runtime().thread_count());
        let mut scorer = Scorer::load(&context.input("model")?.dir, device)
            .map_err(|error| StageError::because("loading the model", error))?;
        context.tell(config.precision.explain(&context.runtime().device, device));
        scorer.set_precision(config.precision);
        check_fit(&scorer, shards, context)?;
        // A split that is missing shows before the first one is scored.
        let mut readers = Vec::new();
        for &split in &config.splits {
            let reader = ShardReader::open(&shards.dir, split)
                .map_err(|error| StageError::because(format!("reading the {split} notes"), error))?;
            if reader.num_notes() == 0 {
                return Err(BadInput::new(&shards.dir, format!("the {split} split has no notes")).into());
            }
            readers.push((split, reader));
        }
        let out = context.output_dir();
        // The number of a GPU may be another one when the stage goes on.
        let kernels = match device {
            Device::Cuda(_) => "GPU".to_owned(),
            _ => plmicd_torch::cpu_capabilities().dispatch,
        };
        let computed = format!("{}, {kernels}", config.precision.resolved(device).as_str());
        for (split, reader) in readers {
            let so_far = score_split(config, &scorer, split, reader, &computed, context)?;
            write_split(so_far, &shards.dir, split, &out.join(Scores::file_name(split)))
                .map_err(|error| StageError::because(format!("writing the {split} scores"), error))?;
            context.note(format!("{split}: scored for {} codes", scorer.labels().len()));
        }
        let write = |error| StageError::because("writing the label space", error);
        scorer.labels().write(&out.join(LabelSpace::FILE)).map_err(write)
    }
}

/// The model must mean the same codes and the same tokens as the shards.
fn check_fit(scorer: &Scorer, shards: &Input, context: &StageContext<'_>) -> Result<(), StageError> {
    let read = |error| StageError::because("reading the token shards", error);
    let file = shards.file(LabelSpace::FILE);
    let labels = LabelSpace::read(&file).map_err(read)?;
    let hint = "score with the shards the model was trained on, or with shards of the same notes stage and tokenizer";
    if let Some(index) = scorer.labels().first_difference(&labels) {
        let code = |space: &LabelSpace| {
            space.labels().get(index).map_or("none".to_owned(), |label| format!("`{}`", label.code))
        };
        let message = format!(
            "its label {index} is {}, but the model's is {}: the two label spaces differ",
            code(&labels),
            code(scorer.labels())
        );
        return Err(BadInput::new(file, message).hint(hint).into());
    }
    let file = shards.file(SpecialTokens::FILE);
    let tokens = SpecialTokens::read(&file).map_err(read)?;
    if tokens != *scorer.tokens() {
        let message = format!(
            "its vocabulary of {} tokens and its special tokens are not those the model was trained with ({} tokens)",
            tokens.vocab_size,
            scorer.tokens().vocab_size
        );
        return Err(BadInput::new(file, message).hint(hint).into());
    }
    let model = &context.input("model")?.dir;
    check_same_tokens(model, &shards.dir).map_err(read)?;
    if let (Some(trained), Some(given)) =
        (TextForm::read(model).map_err(read)?, TextForm::read(&shards.dir).map_err(read)?)
        && trained != given
    {
        context.warn(format!(
            "the notes were cleaned in another way (text = \"{}\") than those the model was trained on (text = \"{}\")",
            given.cleaning, trained.cleaning
        ));
    }
    Ok(())
}

/// Scores a split in windows of notes, after those that an earlier attempt has scored.
fn score_split(
    config: &PredictConfig,
    scorer: &Scorer,
    split: Split,
    mut reader: ShardReader,
    computed: &str,
    context: &StageContext<'_>,
) -> Result<SoFar, StageError> {
    let total = reader.num_notes();
    let phase = format!("scoring {split} notes");
    let keep = |error| StageError::because(format!("keeping the {split} scores"), error);
    let mut so_far = SoFar::open(context.work_dir(), split, computed, scorer.labels().len()).map_err(keep)?;
    if so_far.notes() > 0 {
        context.note(format!("{split}: going on after {} of {total} notes", so_far.notes()));
    }
    let mut seen = 0;
    loop {
        let window: Vec<TokenizedNote> = reader
            .by_ref()
            .take(WINDOW)
            .collect::<Result<_, _>>()
            .map_err(|error| StageError::because(format!("reading the {split} notes"), error))?;
        if window.is_empty() {
            return Ok(so_far);
        }
        let before = seen;
        seen += window.len() as u64;
        if seen <= so_far.notes() {
            continue;
        }
        let tokens: Vec<&[i32]> = window.iter().map(|note| note.tokens.as_slice()).collect();
        let scored = scorer.score_notes(&tokens, config.batch_tokens, |done| {
            context.progress(&phase, before + done as u64, Some(total), "notes");
            !context.interrupted()
        });
        let scores = scored.map_err(|error| locate(error, split, &window))?.ok_or(StageError::Interrupted)?;
        so_far.add(&scores).map_err(keep)?;
    }
}

/// Writes the scores of a split beside the notes' ids and labels.
fn write_split(so_far: SoFar, shards: &Utf8Path, split: Split, path: &Utf8Path) -> Result<(), Cause> {
    let mut notes = ShardReader::open(shards, split)?;
    let mut writer = None;
    so_far.read(|row| -> Result<(), Cause> {
        let note = notes.next().ok_or("the shards have become shorter")??;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(ScoreWriter::create(path, row.len())?),
        };
        Ok(writer.write(&note.note_id, row, &note.labels)?)
    })?;
    writer.map(ScoreWriter::finish).transpose()?;
    Ok(())
}

/// Names the note by its id where an error has its position.
fn locate(error: ScoreError, split: Split, window: &[TokenizedNote]) -> StageError {
    let what = match &error {
        ScoreError::Token { note, .. } | ScoreError::NotANumber { note } => {
            format!("scoring note {} of the {split} split", window[*note].note_id)
        }
        _ => format!("scoring the {split} split"),
    };
    StageError::because(what, error)
}

//! The stage, top to bottom.

use camino::Utf8Path;
use plmicd_data::{LabelSpace, ScoreWriter, Scores, ShardReader, SpecialTokens, Split, TokenizedNote, kind};
use plmicd_pipeline::{BadInput, ConfigIssue, Input, InputSpec, Stage, StageContext, StageError};

use crate::config::PredictConfig;
use crate::scorer::{ScoreError, Scorer};

/// Notes held at a time: enough to find others of similar length for a batch, few enough that their scores take
/// tens of megabytes whatever the size of the split.
const WINDOW: usize = 1000;

/// A model and token shards to `scores`.
#[derive(Clone, Copy, Debug)]
pub struct Predict;

impl Stage for Predict {
    type Config = PredictConfig;

    const NAME: &'static str = "predict";
    const VERSION: u32 = 3;
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
        if let Some(warning) = config.precision.warning(device) {
            context.warn(warning.to_owned());
        }
        scorer.set_precision(config.precision);
        context.note(format!("matrix products in {}", config.precision.resolved(device).as_str()));
        check_fit(&scorer, shards)?;
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
        for (split, reader) in readers {
            let path = out.join(Scores::file_name(split));
            score_split(config, &scorer, split, reader, &path, context)?;
        }
        let write = |error| StageError::because("writing the label space", error);
        scorer.labels().write(&out.join(LabelSpace::FILE)).map_err(write)
    }
}

/// The model must mean the same codes and the same tokens as the shards.
fn check_fit(scorer: &Scorer, shards: &Input) -> Result<(), StageError> {
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
    Ok(())
}

/// Scores a split in windows of notes, each written in the order of the shards.
fn score_split(
    config: &PredictConfig,
    scorer: &Scorer,
    split: Split,
    mut reader: ShardReader,
    path: &Utf8Path,
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    let total = reader.num_notes();
    let phase = format!("scoring {split} notes");
    let num_labels = scorer.labels().len();
    let write = |error| StageError::because(format!("writing the {split} scores"), error);
    let mut writer = ScoreWriter::create(path, num_labels).map_err(write)?;
    let mut written = 0;
    loop {
        let window: Vec<TokenizedNote> = reader
            .by_ref()
            .take(WINDOW)
            .collect::<Result<_, _>>()
            .map_err(|error| StageError::because(format!("reading the {split} notes"), error))?;
        if window.is_empty() {
            break;
        }
        let tokens: Vec<&[i32]> = window.iter().map(|note| note.tokens.as_slice()).collect();
        let scored = scorer.score_notes(&tokens, config.batch_tokens, |done| {
            context.progress(&phase, written + done as u64, Some(total), "notes");
            !context.interrupted()
        });
        let scores = scored.map_err(|error| locate(error, split, &window))?.ok_or(StageError::Interrupted)?;
        for (note, row) in window.iter().zip(scores.chunks(num_labels)) {
            writer.write(&note.note_id, row, &note.labels).map_err(write)?;
        }
        written += window.len() as u64;
    }
    writer.finish().map_err(write)?;
    context.note(format!("{split}: {written} notes scored for {num_labels} codes"));
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

//! Stage `import-scores`: other people's predictions, brought into the form in which ours are evaluated.

mod config;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{DataError, Label, LabelSpace, NoteReader, NoteWriter, ScoreWriter, Scores, Split, kind};
use plmicd_pipeline::registry::SourceFiles;
use plmicd_pipeline::{BadInput, ConfigIssue, InputSpec, Stage, StageContext, StageError};

pub use config::{ImportScoresConfig, UnknownCodes};
use table::{Row, Shape};

const PREDICTIONS: &str = "predictions";
const TRUTH: &str = "truth";

/// The stage.
#[derive(Clone, Copy, Debug)]
pub struct ImportScores;

impl Stage for ImportScores {
    type Config = ImportScoresConfig;

    const NAME: &'static str = "import-scores";
    const VERSION: u32 = 2;
    const OUTPUT: &'static str = kind::SCORES;
    const SCHEMA: u32 = ScoreWriter::SCHEMA;
    const SUMMARY: &'static str = "take predictions of other programs, to be evaluated like our own";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[
            InputSpec::required("predictions", &[kind::PREDICTIONS]),
            InputSpec::optional("notes", &[kind::NOTES]),
        ];
        INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        import(config, context)
    }
}

/// The tables of a source of predictions: `predictions.csv` or `.parquet`, and `truth.csv` or `.parquet` where there is
/// one.
///
/// # Errors
/// No predictions.
pub fn prediction_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let file =
        |name: &str| table::find(dir, name).map(|path| (path.file_name().unwrap_or(name).to_owned(), path));
    let Some(predictions) = file(PREDICTIONS) else {
        let message = "missing: expected predictions.csv or predictions.parquet";
        return Err(BadInput::new(dir.join("predictions.csv"), message));
    };
    Ok(std::iter::once(predictions).chain(file(TRUTH)).collect())
}

/// One note: its split and its true label ids.
struct TrueNote {
    id: String,
    split: Split,
    labels: Vec<i32>,
}

/// What is known of the notes.
struct Truth {
    labels: LabelSpace,
    /// Those that are scored: not train.
    notes: Vec<TrueNote>,
    /// Ids of the others.
    train: HashSet<String>,
    /// Where it stands, for complaints.
    path: Utf8PathBuf,
}

fn import(config: &ImportScoresConfig, context: &StageContext<'_>) -> Result<(), StageError> {
    let source = context.input("predictions")?;
    let path = table::find(&source.dir, PREDICTIONS)
        .ok_or_else(|| BadInput::new(&source.dir, "no predictions.csv or predictions.parquet"))?;
    let truth = match (context.optional_input("notes"), table::find(&source.dir, TRUTH)) {
        (Some(notes), None) => truth_of_notes(&notes.dir, context)?,
        (None, Some(table)) => truth_of_table(&table, &path, config)?,
        (Some(_), Some(table)) => {
            let message = "the truth is given twice: by this table and by the input `notes`";
            return Err(BadInput::new(table, message).hint("take one of them away").into());
        }
        (None, None) => {
            let message = "nothing says which codes are true";
            let hint = "put truth.csv or truth.parquet beside it, or wire the input `notes`";
            return Err(BadInput::new(&path, message).hint(hint).into());
        }
    };
    context.check_interrupt()?;
    let predicted = read_predictions(&path, config, &truth, context)?;
    let splits = complete(&path, &truth, &predicted, context)?;
    write(&truth, &predicted, &splits, context)
}

/// Truth and label space of a `notes` artifact; its train notes are not scored.
fn truth_of_notes(dir: &Utf8Path, context: &StageContext<'_>) -> Result<Truth, StageError> {
    let labels = LabelSpace::read(&dir.join(LabelSpace::FILE)).map_err(reading)?;
    let path = dir.join(NoteWriter::FILE);
    let reader = NoteReader::open(&path).map_err(reading)?;
    let total = reader.num_notes();
    let (mut notes, mut train) = (Vec::new(), HashSet::new());
    for (done, note) in (0u64..).zip(reader) {
        if done % 1024 == 0 {
            context.check_interrupt()?;
            context.progress("reading the truth", done, Some(total), "notes");
        }
        let note = note.map_err(reading)?;
        if note.split == Split::Train {
            train.insert(note.note_id);
            continue;
        }
        let ids = note.codes.iter().filter_map(|code| labels.index_of(code));
        let ids: BTreeSet<i32> = ids.filter_map(|id| i32::try_from(id).ok()).collect();
        notes.push(TrueNote { id: note.note_id, split: note.split, labels: ids.into_iter().collect() });
    }
    Ok(Truth { labels, notes, train, path })
}

/// Truth of a table; the label space is every code of truth and predictions, in order.
fn truth_of_table(
    path: &Utf8Path,
    predictions: &Utf8Path,
    config: &ImportScoresConfig,
) -> Result<Truth, StageError> {
    let mut codes = BTreeSet::new();
    table::read(predictions, config, &mut |row| {
        codes.extend(row.codes.into_iter().map(|(code, _)| code));
        Ok(())
    })?;
    // One row a code makes several rows a note.
    let mut order: Vec<String> = Vec::new();
    let mut found: HashMap<String, (u64, Option<String>, BTreeSet<String>)> = HashMap::new();
    let mut repeated = None;
    let shape = table::read(path, config, &mut |row| {
        let Row { line, id, codes: own, split } = row;
        codes.extend(own.iter().map(|(code, _)| code.clone()));
        match found.get_mut(&id) {
            None => {
                order.push(id.clone());
                found.insert(id, (line, split, own.into_iter().map(|(code, _)| code).collect()));
            }
            Some((first, known, codes)) => {
                if *known != split {
                    let message = format!("note {id} is of another split than in line {first}");
                    return Err(BadInput::new(path, message).line(line).column(&config.split_column).into());
                }
                repeated.get_or_insert((line, *first, id));
                codes.extend(own.into_iter().map(|(code, _)| code));
            }
        }
        Ok(())
    })?;
    if let (Shape::RowPerNote, Some((line, first, id))) = (shape, repeated) {
        return Err(twice(path, line, first, &id, config).into());
    }
    let label = |code: String| Label { code, system: config.system, description: None, description_of: None };
    let labels = LabelSpace::new(codes.into_iter().map(label).collect()).map_err(reading)?;
    let (mut notes, mut train) = (Vec::with_capacity(order.len()), HashSet::new());
    for id in order {
        let Some((line, split, codes)) = found.remove(&id) else { continue };
        let split = match split.as_deref() {
            None => config.default_split,
            Some("dev" | "val" | "validation") => Split::Dev,
            Some("test") => Split::Test,
            Some("train") => {
                train.insert(id);
                continue;
            }
            Some(_) => {
                // Not shown: in a shifted row it might be note text.
                let message = "no split; expected train, dev or test";
                return Err(BadInput::new(path, message).line(line).column(&config.split_column).into());
            }
        };
        let ids: BTreeSet<i32> = codes
            .iter()
            .filter_map(|code| labels.index_of(code).and_then(|id| i32::try_from(id).ok()))
            .collect();
        notes.push(TrueNote { id, split, labels: ids.into_iter().collect() });
    }
    Ok(Truth { labels, notes, train, path: path.to_owned() })
}

fn twice(path: &Utf8Path, line: u64, first: u64, id: &str, config: &ImportScoresConfig) -> BadInput {
    BadInput::new(path, format!("note {id} is also in line {first}")).line(line).column(&config.id_column)
}

/// A code for complaints, if it looks like one of the ICD: anything else may be note text.
fn named(code: &str) -> String {
    let is_short = code.len() <= 8 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    match is_short && code.bytes().any(|byte| byte.is_ascii_digit()) {
        true => format!("code `{code}`"),
        false => "a code".to_owned(),
    }
}

/// What was read of the predictions.
struct Predicted {
    /// Scores by note id; what is not listed scores 0.
    scores: HashMap<String, BTreeMap<i32, f32>>,
    shape: Shape,
}

fn read_predictions(
    path: &Utf8Path,
    config: &ImportScoresConfig,
    truth: &Truth,
    context: &StageContext<'_>,
) -> Result<Predicted, StageError> {
    let known: HashMap<&str, Split> = truth.notes.iter().map(|note| (note.id.as_str(), note.split)).collect();
    let mut first_line: HashMap<String, u64> = HashMap::new();
    let mut predicted: HashMap<String, BTreeMap<i32, f32>> = HashMap::new();
    let (mut dropped, mut train, mut repeated) = (0u64, HashSet::new(), None);
    let shape = table::read(path, config, &mut |row| {
        let at = |message: String| BadInput::new(path, message).line(row.line);
        if row.line % 4096 == 0 {
            context.check_interrupt()?;
        }
        if truth.train.contains(&row.id) {
            train.insert(row.id);
            return Ok(());
        }
        if !known.contains_key(row.id.as_str()) {
            let message = format!("note {} is not among the notes of {}", row.id, truth.path);
            return Err(at(message).column(&config.id_column).into());
        }
        match first_line.get(&row.id) {
            Some(first) => {
                repeated.get_or_insert((row.line, *first, row.id.clone()));
            }
            None => {
                first_line.insert(row.id.clone(), row.line);
            }
        }
        let scores = predicted.entry(row.id.clone()).or_default();
        for (code, score) in &row.codes {
            let Some(label) = truth.labels.index_of(code).and_then(|label| i32::try_from(label).ok()) else {
                if config.unknown_codes == UnknownCodes::Drop {
                    dropped += 1;
                    continue;
                }
                let message = format!("{} of note {} is not in the label space", named(code), row.id);
                let hint = "unknown_codes = \"drop\" leaves such codes out";
                return Err(at(message).hint(hint).into());
            };
            if scores.insert(label, *score).is_some() {
                let message = format!("{} of note {} is given twice", named(code), row.id);
                return Err(at(message).into());
            }
        }
        Ok(())
    })?;
    if let (Shape::RowPerNote, Some((line, first, id))) = (shape, repeated) {
        return Err(twice(path, line, first, &id, config).into());
    }
    if dropped > 0 {
        context.warn(format!("{dropped} predicted codes are not in the label space and were left out"));
    }
    if !train.is_empty() {
        context.warn(format!("{} train notes were predicted: they are not scored", train.len()));
    }
    Ok(Predicted { scores: predicted, shape })
}

/// The splits that were predicted: those with a row for any of their notes, hence, where a note has one row, for all.
fn complete(
    path: &Utf8Path,
    truth: &Truth,
    predicted: &Predicted,
    context: &StageContext<'_>,
) -> Result<Vec<Split>, StageError> {
    let mut splits = Vec::new();
    for split in [Split::Dev, Split::Test] {
        let notes = || truth.notes.iter().filter(|note| note.split == split);
        let missing: Vec<&TrueNote> =
            notes().filter(|note| !predicted.scores.contains_key(&note.id)).collect();
        if missing.len() == notes().count() {
            if !missing.is_empty() {
                context.warn(format!(
                    "{split}: none of its {} notes has a row, so it is left out",
                    missing.len()
                ));
            }
            continue;
        }
        splits.push(split);
        let Some(note) = missing.first() else { continue };
        if predicted.shape == Shape::RowPerNote {
            let message = format!("note {} of {} has no row", note.id, truth.path);
            let hint = "a note without codes has a row with an empty cell";
            return Err(BadInput::new(path, message).hint(hint).into());
        }
        context.warn(format!("{split}: {} notes have no row: no code is predicted for them", missing.len()));
    }
    if splits.is_empty() {
        return Err(BadInput::new(path, format!("no dev or test note of {} has a row", truth.path)).into());
    }
    Ok(splits)
}

fn write(
    truth: &Truth,
    predicted: &Predicted,
    splits: &[Split],
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    let out = context.output_dir();
    truth.labels.write(&out.join(LabelSpace::FILE)).map_err(writing)?;
    let mut row = vec![0f32; truth.labels.len()];
    let mut done = 0;
    for &split in splits {
        let notes: Vec<&TrueNote> = truth.notes.iter().filter(|note| note.split == split).collect();
        let mut writer =
            ScoreWriter::create(out.join(Scores::file_name(split)), truth.labels.len()).map_err(writing)?;
        for note in &notes {
            if done % 256 == 0 {
                context.check_interrupt()?;
                context.progress("writing scores", done, Some(truth.notes.len() as u64), "notes");
            }
            done += 1;
            row.fill(0.0);
            for (label, score) in predicted.scores.get(&note.id).into_iter().flatten() {
                row[*label as usize] = *score;
            }
            writer.write(&note.id, &row, &note.labels).map_err(writing)?;
        }
        writer.finish().map_err(writing)?;
        context.note(format!("{split}: {} notes, {} labels", notes.len(), truth.labels.len()));
    }
    Ok(())
}

fn reading(error: DataError) -> StageError {
    StageError::because("reading the truth", error)
}

fn writing(error: DataError) -> StageError {
    StageError::because("writing the scores", error)
}

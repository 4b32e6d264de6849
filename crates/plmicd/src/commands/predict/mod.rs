//! `plmicd predict`: codes for notes that are in no pipeline, in bulk.
//!
//! One thread reads, cleans and tokenizes the notes a window at a time; this one scores the window before it, notes of
//! similar length together, and writes it. So neither waits for the other, and memory does not grow with the input.

mod decision;
mod feed;
mod output;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::FolderMark;
use plmicd_data::{SpecialTokens, TextForm, kind};
use plmicd_pipeline::execute::RunObserver;
use plmicd_pipeline::{Event, EventRecord, Runtime, StageError};
use plmicd_predict::{Precision, ScoreError, Scorer};
use plmicd_preprocess::{TableColumns, TextCleaning, TextRules};
use plmicd_tokenize::{Encoder, Loaded};
use serde_json::{Value, json};

use self::decision::Decision;
use self::feed::{Feed, Position, Window};
use self::output::{Counts, Output, Row};
use crate::cli::{PredictArgs, PredictPrecision};
use crate::commands::World;
use crate::failure::{Failure, chain, exit};
use crate::ui::progress::Progress;
use crate::ui::text;

/// Stands for the standard input among the files.
const STDIN: &str = "-";

/// Codes notes.
pub fn predict(world: &World<'_>, args: &PredictArgs) -> Result<(), Failure> {
    // Whatever can be wrong with the arguments shows before a model is loaded.
    let inputs = feed::check_inputs(&args.inputs)?;
    let columns = TableColumns {
        id_column: args.id_column.clone(),
        text_column: args.text_column.clone(),
        ..TableColumns::default()
    };
    let runtime = Runtime { threads: args.threads, device: args.device.clone(), ..Runtime::default() };
    feed::check_headers(&inputs, &columns, &runtime)?;
    let model = Folder::find(world, &args.model, kind::MODEL)?;
    let thresholds = args.thresholds.as_deref().map(|name| decision::read(world, name)).transpose()?;
    let rules = text_rules(world, &model.dir, args.text.as_deref())?;

    let scorer = load(&model.dir, args, &runtime)?;
    let decision = Decision::new(args, thresholds, scorer.labels().len())?;
    if let Some(note) = decision.note() {
        world.terminal.say(note);
    }
    let loaded = Loaded::read(&model.dir).map_err(stage_failure)?;
    if loaded.special != *scorer.tokens() {
        let file = model.dir.join(SpecialTokens::FILE);
        let message = "is not what the tokenizer's files beside it say: the model's folder is not whole";
        return Err(Failure::new(exit::STAGE, format!("{file}: {message}")));
    }
    let job = job(&model, &inputs, args, &decision, &rules.form())?;
    let mut output = Output::open(world, args, &inputs, job, scorer.labels())?;
    let position = Arc::new(Position::default());
    let feed = Feed {
        inputs: &inputs,
        columns: &columns,
        rules,
        encoder: Encoder::new(loaded.tokenizer),
        room: scorer.room(),
        skip: output.done(),
        runtime: &runtime,
        interrupt: world.interrupt.clone(),
        position: Arc::clone(&position),
    };
    if output.notes_done() > 0 {
        world.terminal.say(&format!("going on after {}", text::notes(output.notes_done())));
    }

    let mut bar = Progress::new(world.terminal, std::iter::once("predict"), runtime.log_seconds);
    let started = Instant::now();
    let before = output.counts();
    let result = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        scope.spawn(move || feed.run(&sender));
        // Moved in here, so that a sender that waits is freed before it is joined.
        for window in receiver {
            let window = match window {
                Ok(window) => window,
                Err(StageError::Interrupted) => return Ok(false),
                Err(error) => return Err(stage_failure(error)),
            };
            let first = output.notes_done();
            let rows = score(&scorer, &decision, args.batch_tokens, &window, |done| {
                let done = first + done as u64;
                let total = position.estimate();
                let (phase, unit) = ("coding".to_owned(), "notes".to_owned());
                let event = Event::Progress { phase, done, total: total.map(|total| total.max(done)), unit };
                bar.event(&EventRecord { time: String::new(), node: "predict".to_owned(), event });
                !world.interrupt.is_raised()
            })?;
            match rows {
                Some(rows) => output.write(world, &rows, &window)?,
                None => return Ok(false),
            }
        }
        Ok(!world.interrupt.is_raised())
    });
    bar.clear("predict");
    match result {
        Ok(true) => {}
        Ok(false) => {
            let goes_on = args.out.is_some() && !inputs.iter().any(|input| input == STDIN);
            let hint = if goes_on { "; the same command goes on" } else { "" };
            world.terminal.say(&format!("stopped after {}{hint}", text::notes(output.notes_done())));
            return Err(Failure::silent(exit::INTERRUPTED));
        }
        Err(failure) => return Err(failure),
    }
    let counts = output.counts();
    let place = output.finish(world)?;
    summary(world, &counts, &counts.since(&before), started.elapsed().as_secs_f64(), &scorer, place);
    Ok(())
}

/// The rows of a window, or `None` where `after` said to stop.
fn score(
    scorer: &Scorer,
    decision: &Decision,
    batch_tokens: usize,
    window: &Window,
    after: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<Row>>, Failure> {
    let full: Vec<usize> = (0..window.notes.len()).filter(|&at| !window.notes[at].is_empty).collect();
    let tokens: Vec<&[i32]> = full.iter().map(|&at| window.notes[at].tokens.as_slice()).collect();
    let scores = scorer.score_notes(&tokens, batch_tokens, after).map_err(|error| {
        let place = match &error {
            ScoreError::Token { note, .. } | ScoreError::NotANumber { note } => full.get(*note),
            _ => None,
        };
        let id = place.map(|&at| format!("note {}: ", window.notes[at].id)).unwrap_or_default();
        Failure::new(exit::STAGE, format!("{id}{}", chain(&error)))
    })?;
    let Some(scores) = scores else { return Ok(None) };
    let mut decided = decision.decide(&scores, scorer.labels().len())?.into_iter();
    let rows = window.notes.iter().map(|note| Row {
        id: note.id.clone(),
        is_empty: note.is_empty,
        codes: if note.is_empty { Vec::new() } else { decided.next().unwrap_or_default() },
    });
    Ok(Some(rows.collect()))
}

fn load(folder: &Utf8Path, args: &PredictArgs, runtime: &Runtime) -> Result<Scorer, Failure> {
    let device = plmicd_torch::resolve_device(&args.device)
        .map_err(|error| Failure::usage(format!("--device: {error}")))?;
    plmicd_torch::set_intra_op_threads(runtime.thread_count());
    let mut scorer =
        Scorer::load(folder, device).map_err(|error| Failure::new(exit::STAGE, chain(&error)))?;
    scorer.set_precision(match args.precision {
        PredictPrecision::Auto => Precision::Auto,
        PredictPrecision::Bf16 => Precision::Bf16,
        PredictPrecision::Fp32 => Precision::Fp32,
    });
    Ok(scorer)
}

/// What is done to texts: what the model's folder says, or what was asked for.
fn text_rules(world: &World<'_>, model: &Utf8Path, asked: Option<&str>) -> Result<TextRules, Failure> {
    let form = TextForm::read(model).map_err(|error| Failure::new(exit::STAGE, chain(&error)))?;
    let cleaning = asked
        .map(TextCleaning::from_name)
        .transpose()
        .map_err(|problem| Failure::usage(format!("--text: {problem}")))?;
    match (form, cleaning) {
        (Some(form), cleaning) => {
            let rules = TextRules::from_form(&form).map_err(|problem| {
                Failure::new(exit::STAGE, format!("{}: {problem}", model.join(TextForm::FILE)))
            })?;
            if let Some(asked) = cleaning.filter(|asked| *asked != rules.cleaning) {
                world.terminal.warn(&format!(
                    "the model was trained on texts of the form {}, and --text makes them {}",
                    rules.cleaning.as_str(),
                    asked.as_str()
                ));
            }
            Ok(TextRules { cleaning: cleaning.unwrap_or(rules.cleaning), ..rules })
        }
        (None, Some(cleaning)) => Ok(TextRules { cleaning, deidentified: Default::default(), blanks: false }),
        (None, None) => Err(Failure::usage(format!(
            "{model}: there is no {}, so the model does not say what form its texts had\nhint: --text caml for CAML's \
             tokens, --text raw for texts as they are, and so on; `plmicd artifact show` tells what it was made from",
            TextForm::FILE
        ))),
    }
}

/// An artifact's folder, given as such or by digest or pin.
pub(super) struct Folder {
    pub dir: Utf8PathBuf,
    /// Keeps `gc` from taking it away meanwhile.
    _lease: Option<plmicd_artifact::Lease>,
}

impl Folder {
    pub fn find(world: &World<'_>, name: &str, kind: &str) -> Result<Self, Failure> {
        let path = Utf8PathBuf::from(name);
        if path.is_dir() {
            // One out of a store says what it is.
            if let Some(found) = FolderMark::read(&path).kind.filter(|found| found != kind) {
                return Err(Failure::usage(format!("`{name}` is of kind {found}, expected {kind}")));
            }
            return Ok(Self { dir: path, _lease: None });
        }
        if !world.store_root().is_dir() {
            let message = format!("`{name}` is no folder, and there is no store {}", world.store_root());
            return Err(Failure::usage(message));
        }
        let store = world.store()?;
        let found = store.resolve(name)?;
        if found.kind != kind {
            return Err(Failure::usage(format!("`{name}` is of kind {}, expected {kind}", found.kind)));
        }
        let lease = store.lease(&[(found.kind.clone(), found.digest)])?;
        Ok(Self { dir: store.object_dir(&found.kind, found.digest), _lease: Some(lease) })
    }
}

/// Everything that the output depends on but for what is in the inputs: what was begun with one job is not continued with
/// another. `None` where the inputs cannot be read again.
fn job(
    model: &Folder,
    inputs: &[Utf8PathBuf],
    args: &PredictArgs,
    decision: &Decision,
    form: &TextForm,
) -> Result<Option<Value>, Failure> {
    if inputs.iter().any(|input| input == STDIN) {
        return Ok(None);
    }
    let stamp = |path: &Utf8Path| -> Result<Value, Failure> {
        let found = fs_err::metadata(path)?;
        let modified = found.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let path = path.canonicalize_utf8()?;
        Ok(json!([path, found.len(), modified.as_nanos().to_string()]))
    };
    let mut files = vec![stamp(&model.dir.join("config.json"))?];
    for name in ["model.safetensors", "pytorch_model.bin"] {
        if model.dir.join(name).is_file() {
            files.push(stamp(&model.dir.join(name))?);
        }
    }
    let inputs = inputs
        .iter()
        .map(|input| input.canonicalize_utf8())
        .collect::<std::io::Result<Vec<Utf8PathBuf>>>()?;
    Ok(Some(json!({
        "program": env!("CARGO_PKG_VERSION"),
        "model": files,
        "inputs": inputs,
        "text": form,
        "columns": [args.id_column, args.text_column],
        "decision": decision.fingerprint(),
        "precision": format!("{:?}", args.precision),
    })))
}

fn stage_failure(error: StageError) -> Failure {
    match error {
        StageError::Interrupted => Failure::silent(exit::INTERRUPTED),
        error => Failure::new(exit::STAGE, chain(&error)),
    }
}

fn summary(
    world: &World<'_>,
    all: &Counts,
    now: &Counts,
    seconds: f64,
    scorer: &Scorer,
    place: Option<Utf8PathBuf>,
) {
    let rate = |count: u64| text::count((count as f64 / seconds.max(1e-3)).round() as u64);
    let whole = if now.notes == all.notes {
        text::notes(all.notes)
    } else {
        format!("{}, {} of them now,", text::notes(all.notes), text::count(now.notes))
    };
    let mut line = format!(
        "{whole} in {}: {} notes/s, {} tokens/s",
        text::duration(seconds),
        rate(now.notes),
        rate(now.tokens)
    );
    if let Some(place) = place {
        line = format!("{place}: {line}");
    }
    world.terminal.say(&line);
    if all.cut > 0 {
        let room = text::count(scorer.room() as u64);
        world
            .terminal
            .say(&format!("longer than the model reads, so cut to {room} tokens: {}", text::notes(all.cut)));
    }
    if all.empty > 0 {
        world.terminal.warn(&format!("empty after cleaning, so without codes: {}", text::notes(all.empty)));
    }
    if all.repeated_ids > 0 {
        world.terminal.warn(&format!("with the id of an earlier note: {}", text::notes(all.repeated_ids)));
    }
    if all.mended_bytes > 0 {
        world.terminal.warn(&format!(
            "not UTF-8, so read as Windows-1252: {} bytes in {}",
            text::count(all.mended_bytes),
            text::notes(all.mended_notes)
        ));
    }
}

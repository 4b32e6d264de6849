//! Notes from files to token ids, a window at a time, on a thread of its own.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use blake3::Hasher;
use camino::Utf8PathBuf;
use plmicd_pipeline::{Event, EventSink, Interrupt, Runtime, StageContext, StageError};
use plmicd_preprocess::{FoundText, TableColumns, TextRules, count_words, read_texts, text_file_id};
use plmicd_tokenize::Encoder;
use rayon::prelude::*;

use super::STDIN;
use super::output::Counts;
use crate::failure::Failure;

/// Notes that are scored and written together: enough to find others of similar length for a batch.
const WINDOW: usize = 256;
/// Texts are cleaned and tokenized in batches of about this size.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_TEXTS: usize = 256;

/// A note ready for the model.
pub struct Note {
    pub id: String,
    /// Without special tokens, cut to what the model reads.
    pub tokens: Vec<i32>,
    /// Nothing is left of the text after cleaning.
    pub is_empty: bool,
}

/// Notes in the order of the files, and what there is to say of them.
#[derive(Default)]
pub struct Window {
    pub notes: Vec<Note>,
    pub counts: Counts,
    /// Digest of the ids and texts of all notes up to here.
    pub digest: String,
}

/// Notes at the beginning whose codes are written already.
#[derive(Clone, Debug, Default)]
pub struct Skip {
    pub notes: u64,
    /// [`Window::digest`] after them.
    pub digest: String,
}

/// How far the input has been read, for an estimate of its size.
#[derive(Debug, Default)]
pub struct Position {
    notes: AtomicU64,
    /// Millionths of the bytes of all files; 0 where not known yet.
    share: AtomicU64,
    is_over: AtomicBool,
}

impl Position {
    /// Notes in all, as far as can be told.
    pub fn estimate(&self) -> Option<u64> {
        let notes = self.notes.load(Ordering::Relaxed);
        if self.is_over.load(Ordering::Relaxed) {
            return Some(notes);
        }
        let share = self.share.load(Ordering::Relaxed);
        (share > 0).then(|| (notes as f64 * 1e6 / share as f64).round() as u64)
    }
}

/// Everything the reading thread needs.
pub struct Feed<'a> {
    pub inputs: &'a [Utf8PathBuf],
    pub columns: &'a TableColumns,
    pub rules: TextRules,
    pub encoder: Encoder,
    /// Tokens of a note that the model reads, special tokens not counted.
    pub room: usize,
    pub skip: Skip,
    pub runtime: &'a Runtime,
    pub interrupt: Interrupt,
    pub position: Arc<Position>,
}

type Sender = SyncSender<Result<Window, StageError>>;

/// Refuses files that are not there or cannot be read as files: opening a pipe waits for ever.
pub fn check_inputs(inputs: &[Utf8PathBuf]) -> Result<Vec<Utf8PathBuf>, Failure> {
    for input in inputs.iter().filter(|input| *input != STDIN) {
        let found = std::fs::metadata(input).map_err(|error| Failure::usage(format!("{input}: {error}")))?;
        if found.is_dir() {
            return Err(Failure::usage(format!(
                "{input} is a folder; expected files: .csv, .csv.gz, .parquet, .txt, .txt.gz\nhint: {input}/*.txt"
            )));
        }
        if !found.is_file() {
            return Err(Failure::usage(format!(
                "{input} is a pipe or a device; expected a file\nhint: `-` reads one note from the standard input"
            )));
        }
    }
    let mut of_id: BTreeMap<&str, &Utf8PathBuf> = BTreeMap::new();
    for input in inputs {
        let Some(id) = text_file_id(input) else { continue };
        if let Some(other) = of_id.insert(id, input) {
            return Err(Failure::usage(format!("{other} and {input} would have the same id, {id}")));
        }
    }
    if inputs.iter().filter(|input| *input == STDIN).count() > 1 {
        return Err(Failure::usage("`-` is given twice, but there is one standard input"));
    }
    Ok(inputs.to_vec())
}

/// Refuses files that are not of a known form, and tables without the columns, before anything long is done.
pub fn check_headers(
    inputs: &[Utf8PathBuf],
    columns: &TableColumns,
    runtime: &Runtime,
) -> Result<(), Failure> {
    let context = StageContext::new(
        BTreeMap::new(),
        "",
        "",
        runtime.clone(),
        &plmicd_pipeline::NoEvents,
        Interrupt::default(),
    );
    for input in inputs.iter().filter(|input| *input != STDIN && text_file_id(input).is_none()) {
        // The first row is enough.
        match read_texts(input, columns, &context, &mut |_| Err(StageError::Interrupted)) {
            Ok(()) | Err(StageError::Interrupted) => {}
            Err(error) => return Err(super::stage_failure(error)),
        }
    }
    Ok(())
}

impl Feed<'_> {
    /// Reads everything and sends it on; the last message is the error, if there is one.
    pub fn run(mut self, sender: &Sender) {
        let position = Arc::clone(&self.position);
        match self.read(sender) {
            Ok(()) => position.is_over.store(true, Ordering::Relaxed),
            // The receiver has gone: it has an error of its own.
            Err(error) => drop(sender.send(Err(error))),
        }
    }

    fn read(&mut self, sender: &Sender) -> Result<(), StageError> {
        let sizes: Vec<u64> =
            self.inputs.iter().map(|input| fs_err::metadata(input).map_or(0, |found| found.len())).collect();
        let all: u64 = sizes.iter().sum();
        let share = FileShare { position: Arc::clone(&self.position), place: Mutex::new((0, 0, all)) };
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(self.runtime.thread_count())
            .build()
            .map_err(|error| StageError::because("starting worker threads", error))?;
        let context =
            StageContext::new(BTreeMap::new(), "", "", self.runtime.clone(), &share, self.interrupt.clone());
        let (inputs, columns, skip) = (self.inputs, self.columns, self.skip.clone());
        let position = Arc::clone(&self.position);
        let mut builder = Builder {
            feed: self,
            workers,
            sender,
            texts: Vec::new(),
            bytes: 0,
            window: Window::default(),
            hasher: Hasher::new(),
        };
        let mut seen = 0;
        // 64 bits of each: two ids with the same ones do not happen.
        let mut ids: HashSet<u64> = HashSet::new();
        let mut take = |text: FoundText| {
            context.check_interrupt()?;
            seen += 1;
            position.notes.fetch_add(1, Ordering::Relaxed);
            let mut hasher = DefaultHasher::new();
            text.id.hash(&mut hasher);
            let is_repeated = !ids.insert(std::hash::Hasher::finish(&hasher));
            builder.hash(&text);
            if seen > skip.notes {
                return builder.add(text, is_repeated);
            }
            match seen == skip.notes && builder.digest() != skip.digest {
                true => Err(other_notes(skip.notes)),
                false => Ok(()),
            }
        };
        let mut before = 0;
        for (input, size) in inputs.iter().zip(sizes) {
            *share.place.lock().unwrap_or_else(PoisonError::into_inner) = (before, size, all);
            if input == STDIN {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes)?;
                take(FoundText::of_file("stdin", bytes))?;
            } else {
                read_texts(input, columns, &context, &mut take)?;
            }
            before += size;
            share.set(before, all);
        }
        if seen < skip.notes {
            return Err(other_notes(skip.notes));
        }
        builder.flush()?;
        builder.send()
    }
}

fn other_notes(done: u64) -> StageError {
    StageError::failed(format!(
        "the first {done} notes are no longer those whose codes were written before the command was stopped\n\
         hint: --restart throws these codes away"
    ))
}

/// Texts on their way to a window.
struct Builder<'a, 'b> {
    feed: &'a mut Feed<'b>,
    workers: rayon::ThreadPool,
    sender: &'a Sender,
    texts: Vec<FoundText>,
    bytes: usize,
    window: Window,
    hasher: Hasher,
}

impl Builder<'_, '_> {
    fn hash(&mut self, text: &FoundText) {
        for part in [text.id.as_bytes(), text.text.as_bytes()] {
            self.hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }

    fn digest(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    fn add(&mut self, text: FoundText, is_repeated: bool) -> Result<(), StageError> {
        self.window.counts.repeated_ids += u64::from(is_repeated);
        self.bytes += text.text.len();
        self.texts.push(text);
        let waiting = self.window.notes.len() + self.texts.len();
        if self.bytes >= BATCH_BYTES || self.texts.len() >= BATCH_TEXTS || waiting >= WINDOW {
            self.flush()?;
        }
        if self.window.notes.len() >= WINDOW { self.send() } else { Ok(()) }
    }

    /// Cleans and tokenizes the texts that wait.
    fn flush(&mut self) -> Result<(), StageError> {
        let (texts, rules) = (std::mem::take(&mut self.texts), self.feed.rules);
        self.bytes = 0;
        let cleaned: Vec<String> =
            self.workers.install(|| texts.par_iter().map(|text| rules.apply(&text.text)).collect());
        let views: Vec<&str> = cleaned.iter().map(String::as_str).collect();
        let encoded = self.feed.encoder.encode(&views, &self.workers).map_err(|error| {
            StageError::because(format!("encoding note {}", texts[error.index].id), error)
        })?;
        for ((found, clean), mut tokens) in texts.into_iter().zip(&cleaned).zip(encoded) {
            let is_empty = tokens.is_empty() || count_words(clean) == 0;
            let counts = &mut self.window.counts;
            counts.notes += 1;
            counts.empty += u64::from(is_empty);
            counts.cut += u64::from(tokens.len() > self.feed.room);
            counts.mended_bytes += found.mended;
            counts.mended_notes += u64::from(found.mended > 0);
            tokens.truncate(self.feed.room);
            tokens.shrink_to_fit();
            counts.tokens += tokens.len() as u64;
            self.window.notes.push(Note { id: found.id, tokens, is_empty });
        }
        Ok(())
    }

    /// Hands the window over. The receiver has gone where it had an error or was told to stop.
    fn send(&mut self) -> Result<(), StageError> {
        let window = Window { digest: self.digest(), ..std::mem::take(&mut self.window) };
        if window.notes.is_empty() {
            return Ok(());
        }
        self.sender.send(Ok(window)).map_err(|_| StageError::Interrupted)
    }
}

/// Turns the readers' progress in a file into the share of all files that has been read.
struct FileShare {
    position: Arc<Position>,
    /// Bytes of the files before this one, of this one, of all.
    place: Mutex<(u64, u64, u64)>,
}

impl FileShare {
    fn set(&self, done: u64, all: u64) {
        let share = (done as f64 / all.max(1) as f64 * 1e6) as u64;
        self.position.share.store(share, Ordering::Relaxed);
    }
}

impl EventSink for FileShare {
    fn send(&self, event: Event) {
        let Event::Progress { done, total: Some(total), .. } = event else { return };
        let (before, size, all) = *self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if done > 0 && total > 0 {
            self.set(before + (done as f64 / total as f64 * size as f64) as u64, all);
        }
    }
}

//! Runs the stage in temporary folders.

use std::collections::BTreeMap;
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use plmicd_data::{CorpusStats, LabelSpace, Note, NoteReader};
use plmicd_pipeline::{Event, EventSink, Input, Interrupt, Runtime, Stage, StageContext, StageError};
use plmicd_preprocess::{Preprocess, PreprocessConfig};

/// Folder of the committed corpora.
pub fn data(name: &str) -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A copy of a committed corpus that a test may damage.
pub fn copy(name: &str) -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
    copy_into(&data(name), &root);
    (dir, root)
}

fn copy_into(from: &Utf8Path, to: &Utf8Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = Utf8PathBuf::try_from(entry.unwrap().path()).unwrap();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_into(&path, &target);
        } else {
            fs_err::copy(&path, &target).unwrap();
        }
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl EventSink for Log {
    fn send(&self, event: Event) {
        if let Event::Warning { message } | Event::Note { message } = event {
            self.0.lock().unwrap().push(message);
        }
    }
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    _dir: tempfile::TempDir,
    /// The artifact's folder.
    pub out: Utf8PathBuf,
    pub notes: Vec<Note>,
    pub labels: LabelSpace,
    pub stats: CorpusStats,
    /// Digest of `notes.parquet`.
    pub digest: String,
    /// Warnings and notes.
    pub log: Vec<String>,
}

impl Outcome {
    pub fn note(&self, id: &str) -> &Note {
        self.notes.iter().find(|note| note.note_id == id).unwrap()
    }

    pub fn codes(&self) -> Vec<&str> {
        self.labels.labels().iter().map(|label| label.code.as_str()).collect()
    }

    pub fn excluded(&self, reason: &str) -> u64 {
        self.stats.exclusions.iter().filter(|e| e.reason == reason).map(|e| e.count).sum()
    }
}

pub fn input(kind: &str, dir: &Utf8Path) -> Input {
    Input { kind: kind.to_owned(), digest: Digest::of(b"test"), dir: dir.to_owned(), restricted: false }
}

/// Runs the stage on a source, with a table of descriptions if given.
pub fn run(
    kind: &str,
    raw: &Utf8Path,
    tables: Option<&Utf8Path>,
    threads: usize,
    config: &PreprocessConfig,
) -> Result<Outcome, StageError> {
    let tables = tables.map(|tables| ("descriptions".to_owned(), input("code-table", tables)));
    run_inputs(kind, raw, tables, threads, config)
}

/// Runs the stage on a source with a list of labels.
pub fn run_with_labels(
    kind: &str,
    raw: &Utf8Path,
    list: &Utf8Path,
    config: &PreprocessConfig,
) -> Result<Outcome, StageError> {
    run_inputs(kind, raw, Some(("labels".to_owned(), input("label-list", list))), 1, config)
}

fn run_inputs(
    kind: &str,
    raw: &Utf8Path,
    further: Option<(String, Input)>,
    threads: usize,
    config: &PreprocessConfig,
) -> Result<Outcome, StageError> {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
    let (out, work) = (root.join("out"), root.join("work"));
    fs_err::create_dir_all(&out).unwrap();
    let mut inputs = BTreeMap::from([("raw".to_owned(), input(kind, raw))]);
    inputs.extend(further);
    let log = Log::default();
    let runtime = Runtime { threads, ..Runtime::default() };
    let context = StageContext::new(inputs, &out, &work, runtime, &log, Interrupt::default());
    let outcome = Preprocess::run(config, &context);
    let scratch = fs_err::read_dir(&work).map_or(0, Iterator::count);
    assert_eq!(scratch, 0, "no text stays in the work folder, however the stage ends");
    outcome?;
    let parquet = out.join("notes.parquet");
    Ok(Outcome {
        notes: NoteReader::open(&parquet).unwrap().map(Result::unwrap).collect(),
        labels: LabelSpace::read(&out.join("labels.json")).unwrap(),
        stats: CorpusStats::read(&out.join("stats.json")).unwrap(),
        digest: Digest::of_file(&parquet).unwrap().0.to_string(),
        log: log.0.into_inner().unwrap(),
        _dir: dir,
        out,
    })
}

/// The error of a run that must fail.
pub fn error(kind: &str, raw: &Utf8Path, config: &PreprocessConfig) -> String {
    run(kind, raw, None, 2, config).unwrap_err().to_string()
}

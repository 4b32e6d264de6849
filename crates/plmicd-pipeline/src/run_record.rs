//! Records of runs: `runs/<run-id>/` with `run.json`, `events.jsonl`, `logs/` and `tensorboard/`.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::{Digest, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, EventRecord};
use crate::fingerprint::Reason;
use crate::tensorboard::EventFile;

/// What became of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its output was in the store.
    Cached,
    /// It ran.
    Done,
    /// It failed.
    Failed,
    /// It was stopped and can be resumed.
    Interrupted,
    /// Something before it failed or was stopped.
    NotRun,
}

/// One node of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Stage name.
    pub stage: String,
    /// Stage key, where it came to be known.
    pub key: Option<Digest>,
    /// Why it ran.
    pub reasons: Vec<Reason>,
    /// What became of it.
    pub outcome: Outcome,
    /// Kind and digest of its output.
    pub artifact: Option<(String, Digest)>,
    /// Seconds of wall-clock time.
    pub seconds: f64,
    /// What went wrong.
    pub error: Option<String>,
}

/// `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// Layout version.
    pub format: u32,
    /// The run's id.
    pub id: String,
    /// Pipeline name.
    pub pipeline: String,
    /// Pipeline file as given; `None` for the embedded one.
    pub file: Option<Utf8PathBuf>,
    /// The node of `--only`: one task of a run that a cluster spreads over many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// `--set` arguments.
    pub overrides: Vec<String>,
    /// Version of the program.
    pub program: String,
    /// Start, RFC 3339.
    pub started: String,
    /// End; `None` while it runs, or where it was killed.
    pub finished: Option<String>,
    /// The resolved pipeline.
    pub resolved: Value,
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeRecord>,
}

/// A run's folder, being written.
pub struct RunFolder {
    dir: Utf8PathBuf,
    events: std::fs::File,
    /// Of the nodes that have reported figures.
    curves: BTreeMap<String, EventFile>,
    /// The record as it stands.
    pub record: RunRecord,
}

impl RunFolder {
    /// Makes the folder of a new run. The id is the start time; a second run in the same second gets a suffix.
    pub fn create(store: &Store, mut record: RunRecord, started: jiff::Timestamp) -> std::io::Result<Self> {
        let runs = store.runs_dir();
        let stamp = started.strftime("%Y%m%d-%H%M%S").to_string();
        let mut dir = runs.join(&stamp);
        let mut number = 1;
        while let Err(error) = make_private_dir(&dir) {
            if error.kind() != std::io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            number += 1;
            dir = runs.join(format!("{stamp}-{number}"));
        }
        record.id = dir.file_name().unwrap_or(&stamp).to_owned();
        make_private_dir(&dir.join("logs"))?;
        let events = private_file(&dir.join("events.jsonl"))?;
        let folder = Self { dir, events, curves: BTreeMap::new(), record };
        folder.save()?;
        Ok(folder)
    }

    /// Path of the log of a node: what its process wrote to stderr.
    pub fn log_path(&self, node: &str) -> Utf8PathBuf {
        self.dir.join("logs").join(format!("{node}.log"))
    }

    /// A new log file for a node.
    pub fn log_file(&self, node: &str) -> std::io::Result<std::fs::File> {
        private_file(&self.log_path(node))
    }

    /// Appends an event; figures also become curves for TensorBoard.
    pub fn event(&mut self, event: &EventRecord) -> std::io::Result<()> {
        let mut line = serde_json::to_string(event)?;
        line.push('\n');
        self.events.write_all(line.as_bytes())?;
        let seconds = || {
            let time = event.time.parse::<jiff::Timestamp>();
            time.map_or(0.0, |time| time.duration_since(jiff::Timestamp::UNIX_EPOCH).as_secs_f64())
        };
        if matches!(event.event, Event::Metrics { .. }) && !self.curves.contains_key(&event.node) {
            let file = EventFile::create(&self.dir, &self.record.resolved, &event.node, seconds())?;
            self.curves.insert(event.node.clone(), file);
        }
        let Some(file) = self.curves.get_mut(&event.node) else { return Ok(()) };
        file.event(&event.event, seconds())?;
        if matches!(event.event, Event::Finished { .. } | Event::Failed { .. } | Event::Interrupted) {
            self.curves.remove(&event.node);
        }
        Ok(())
    }

    /// Writes `run.json` anew: to a temporary name, then renamed.
    pub fn save(&self) -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.record)?;
        text.push('\n');
        self.write("run.json", text.as_bytes()).map(|_| ())
    }

    /// Writes a file of the folder, whole or not at all, and gives its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<Utf8PathBuf> {
        let path = self.dir.join(name);
        let staged = self.dir.join(format!("{name}.new"));
        private_file(&staged)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(|error| std::io::Error::new(error.kind(), format!("{staged}: {error}")))?;
        fs_err::rename(&staged, &path)?;
        Ok(path)
    }
}

pub(crate) fn private_file(path: &Utf8Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    options.open(path).map_err(|error| std::io::Error::new(error.kind(), format!("creating {path}: {error}")))
}

fn make_private_dir(path: &Utf8Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => error,
        kind => std::io::Error::new(kind, format!("creating {path}: {error}")),
    })
}

/// A folder for private files, with those above it that are missing.
pub(crate) fn make_private_dir_all(path: &Utf8Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| std::io::Error::new(error.kind(), format!("creating {path}: {error}")))
}

/// Ids of all runs, oldest first.
pub fn list(store: &Store) -> std::io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in fs_err::read_dir(store.runs_dir())? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str()
            && store.runs_dir().join(name).join("run.json").is_file()
        {
            ids.push(name.to_owned());
        }
    }
    ids.sort_by_key(|id| run_order(id));
    Ok(ids)
}

/// `20260102-030405-10` comes after `20260102-030405-9`.
fn run_order(id: &str) -> (String, u64) {
    let stamp = id.get(..15).unwrap_or(id).to_owned();
    let number = id.get(16..).and_then(|n| n.parse().ok()).unwrap_or(1);
    (stamp, number)
}

/// All events of one node of a run, in order; none where the run has left no events.
pub fn events_of(store: &Store, id: &str, node: &str) -> std::io::Result<Vec<EventRecord>> {
    let path = store.runs_dir().join(id).join("events.jsonl");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for line in std::io::BufReader::new(fs_err::File::open(path)?).split(b'\n') {
        // The last line may be half-written.
        if let Ok(event) = serde_json::from_slice::<EventRecord>(&line?)
            && event.node == node
        {
            found.push(event);
        }
    }
    Ok(found)
}

/// How far each node of a run was when it last said so, of what stands near the end of its log.
pub fn last_events(store: &Store, id: &str) -> std::io::Result<Vec<EventRecord>> {
    use std::io::{Read, Seek, SeekFrom};
    /// Enough for the events of a few seconds of many nodes.
    const TAIL: u64 = 256 * 1024;
    let mut file = fs_err::File::open(store.runs_dir().join(id).join("events.jsonl"))?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut last: BTreeMap<String, EventRecord> = BTreeMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        // The first line may be cut off, and the last one half-written.
        let Ok(event) = serde_json::from_slice::<EventRecord>(line) else { continue };
        // Figures and notes come between: how far it is says more.
        let aside = matches!(event.event, Event::Metrics { .. } | Event::Note { .. } | Event::Warning { .. });
        if !aside || !last.contains_key(&event.node) {
            last.insert(event.node.clone(), event);
        }
    }
    Ok(last.into_values().collect())
}

/// The record of one run.
pub fn read(store: &Store, id: &str) -> std::io::Result<RunRecord> {
    let path = store.runs_dir().join(id).join("run.json");
    let text = fs_err::read_to_string(&path)?;
    serde_json::from_str(&text)
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{path}: {error}")))
}

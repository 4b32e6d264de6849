//! What a pipeline stage is: its typed config, its inputs, and what it sees while it runs.
//!
//! A stage sees only its config, its input artifacts and its output directory (invariant 2 of
//! `ARCHITECTURE.md`): no environment variables, clock or working directory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventSink};
use crate::preset::Preset;
use crate::ranks::Ranks;
use crate::resources::Needs;

/// One input slot of a stage.
#[derive(Clone, Copy, Debug)]
pub struct InputSpec {
    /// Name under `inputs = { … }` of a pipeline file.
    pub name: &'static str,
    /// Artifact kinds that fit.
    pub kinds: &'static [&'static str],
    /// Whether the stage cannot run without it.
    pub required: bool,
    /// Whether it takes any number of artifacts, each under a name of its own.
    pub many: bool,
}

impl InputSpec {
    /// A slot that must be filled.
    pub const fn required(name: &'static str, kinds: &'static [&'static str]) -> Self {
        Self { name, kinds, required: true, many: false }
    }

    /// A slot for one or more artifacts: `inputs.NAME = { this = "…", that = "…" }`.
    pub const fn many(name: &'static str, kinds: &'static [&'static str]) -> Self {
        Self { name, kinds, required: true, many: true }
    }

    /// A slot for any number of artifacts, none among them.
    pub const fn any_number(name: &'static str, kinds: &'static [&'static str]) -> Self {
        Self { name, kinds, required: false, many: true }
    }

    /// The slot of the artifact `member` of a slot that takes many.
    pub fn member(&self, member: &str) -> String {
        format!("{}/{member}", self.name)
    }

    /// A slot that may stay empty.
    pub const fn optional(name: &'static str, kinds: &'static [&'static str]) -> Self {
        Self { name, kinds, required: false, many: false }
    }
}

/// A complaint about one value of a config, found before anything runs.
#[derive(Clone, Debug)]
pub struct ConfigIssue {
    /// Dotted path below `config`, such as `optimizer.learning_rate`; empty for the config as a whole.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl ConfigIssue {
    /// An issue at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// One stage of the pipeline. Implementations are zero-sized: all state lives in config and artifacts.
pub trait Stage: Send + Sync + 'static {
    /// Everything that decides the output, apart from the inputs. Hashed into the stage key.
    type Config: Serialize + DeserializeOwned + JsonSchema + Default;

    /// Name in pipeline files and in the store.
    const NAME: &'static str;
    /// Raised whenever the output for the same config and inputs changes.
    const VERSION: u32;
    /// Kind of the artifact this stage makes.
    const OUTPUT: &'static str;
    /// Version of that kind's on-disk schema.
    const SCHEMA: u32;
    /// One line for help texts.
    const SUMMARY: &'static str;
    /// Whether several processes can share its work: [`StageContext::ranks`].
    const PARALLEL: bool = false;

    /// The input slots.
    fn inputs() -> &'static [InputSpec];

    /// Checks what types cannot express (ranges, combinations, inputs that must or must not be wired).
    /// `wired` holds the names of the input slots that the pipeline file fills.
    fn check(config: &Self::Config, wired: &[&str]) -> Vec<ConfigIssue> {
        let _ = (config, wired);
        Vec::new()
    }

    /// Named sets of settings that pipeline files may choose with `preset = "NAME"`.
    fn presets() -> &'static [Preset] {
        &[]
    }

    /// Makes the artifact in `context.output_dir()`.
    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError>;
}

/// An input as the stage sees it: a read-only directory whose content has this digest.
#[derive(Clone, Debug)]
pub struct Input {
    /// Artifact kind, one of the slot's `kinds`.
    pub kind: String,
    /// Content digest.
    pub digest: Digest,
    /// Where its files lie.
    pub dir: Utf8PathBuf,
    /// Whether it derives from data under a use agreement.
    pub restricted: bool,
}

impl Input {
    /// Path of one of its files.
    pub fn file(&self, name: &str) -> Utf8PathBuf {
        self.dir.join(name)
    }
}

/// Settings of the machine and of the run that never change the result and so never enter a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Worker threads, at most 1,024; 0 takes every core this process may use.
    #[serde(deserialize_with = "thread_number")]
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.
    #[serde(deserialize_with = "device_name")]
    #[schemars(regex(pattern = r"^(auto|cpu|cuda|cuda:[0-9]+)$"))]
    pub device: String,
    /// GiB that training may take in all, or `auto`: what is free. What does not fit is computed twice.
    pub memory: Memory,
    /// Seconds between two checkpoints of a long stage; 0 checkpoints at every step.
    pub checkpoint_seconds: u64,
    /// Keeps the checkpoint at the end of every so many epochs beside the newest; 0 for none.
    pub checkpoint_epochs: u32,
    /// Keeps the checkpoint at the end of the best epoch beside the newest.
    pub checkpoint_best: bool,
    /// Seconds between two progress lines where there is no terminal.
    pub log_seconds: u64,
    /// Seconds that one of several processes waits for the others before it gives up.
    pub peer_timeout_seconds: u64,
    /// What it needs of the machine while it runs.
    pub needs: Needs,
}

/// Refuses numbers that would take all processes of the machine.
fn thread_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        number if number <= Runtime::MAX_THREADS => Ok(number),
        number => Err(serde::de::Error::custom(format!(
            "{number} threads; expected at most {}",
            Runtime::MAX_THREADS
        ))),
    }
}

/// Refuses names that no device can have, before hours are spent on the stages before the one that needs it.
fn device_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let is_gpu = |name: &str| name.strip_prefix("cuda:").is_some_and(|index| index.parse::<u16>().is_ok());
    match name.as_str() {
        "auto" | "cpu" | "cuda" => Ok(name),
        gpu if is_gpu(gpu) => Ok(name),
        other => Err(serde::de::Error::custom(format!(
            "{other:?} is no device; expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\""
        ))),
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            threads: 0,
            device: "auto".to_owned(),
            memory: Memory::default(),
            checkpoint_seconds: 120,
            checkpoint_epochs: 0,
            checkpoint_best: false,
            log_seconds: 10,
            peer_timeout_seconds: 600,
            needs: Needs::default(),
        }
    }
}

/// A bound on memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected GiB as a number, such as 8, or \"auto\"")]
pub enum Memory {
    /// `"auto"`.
    Auto(Auto),
    /// So many GiB.
    Gib(f64),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    #[default]
    Auto,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::Auto(Auto::Auto)
    }
}

impl Memory {
    /// The bound in bytes, where one was named.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Memory::Auto(_) => None,
            Memory::Gib(gib) => Some((gib.max(0.0) * f64::from(1 << 30)) as u64),
        }
    }
}

impl Runtime {
    /// The most worker threads.
    pub const MAX_THREADS: usize = 1024;

    /// The number of threads to use: `threads`, or every core this process may use.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        }
    }
}

/// A flag that a signal handler raises and long loops read.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks the running stage to save its state and stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was asked to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag itself, for `signal-hook`.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// What a running stage sees of the world.
pub struct StageContext<'a> {
    pub(crate) inputs: BTreeMap<String, Input>,
    pub(crate) output_dir: Utf8PathBuf,
    pub(crate) work_dir: Utf8PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) events: &'a dyn EventSink,
    pub(crate) interrupt: Interrupt,
    pub(crate) ranks: Option<Ranks>,
}

impl<'a> StageContext<'a> {
    /// A context outside a pipeline, for tests and single commands.
    pub fn new(
        inputs: BTreeMap<String, Input>,
        output_dir: impl Into<Utf8PathBuf>,
        work_dir: impl Into<Utf8PathBuf>,
        runtime: Runtime,
        events: &'a dyn EventSink,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            inputs,
            output_dir: output_dir.into(),
            work_dir: work_dir.into(),
            runtime,
            events,
            interrupt,
            ranks: None,
        }
    }

    /// The same, as one of several processes.
    pub fn with_ranks(mut self, ranks: Option<Ranks>) -> Self {
        if let Some(ranks) = &ranks {
            self.runtime.threads = ranks.threads(self.runtime.threads);
        }
        self.ranks = ranks;
        self
    }

    /// The processes that run this stage together, where there are several. Only the first one writes to the output and to
    /// the work directory.
    pub fn ranks(&self) -> Option<&Ranks> {
        self.ranks.as_ref()
    }

    /// A required input. The planner has checked that it is wired and of a fitting kind.
    pub fn input(&self, name: &str) -> Result<&Input, StageError> {
        self.inputs.get(name).ok_or_else(|| StageError::failed(format!("input `{name}` is not wired")))
    }

    /// An optional input.
    pub fn optional_input(&self, name: &str) -> Option<&Input> {
        self.inputs.get(name)
    }

    /// The inputs of a slot that takes many, by name.
    pub fn inputs_of(&self, name: &str) -> impl Iterator<Item = (&str, &Input)> {
        let name = name.to_owned();
        self.inputs.iter().filter_map(move |(slot, input)| {
            let member = slot.strip_prefix(name.as_str())?.strip_prefix('/')?;
            Some((member, input))
        })
    }

    /// Whether any input derives from data under a use agreement.
    pub fn restricted(&self) -> bool {
        self.inputs.values().any(|input| input.restricted)
    }

    /// Where the artifact's files go: empty at the start, published as a whole at the end.
    pub fn output_dir(&self) -> &Utf8Path {
        &self.output_dir
    }

    /// Scratch that survives a crash and belongs to this stage key: checkpoints live here.
    pub fn work_dir(&self) -> &Utf8Path {
        &self.work_dir
    }

    /// Machine settings that do not change the result.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Reports `done` of `total` `unit`s (rows, notes, steps) of a phase. Cheap: call as often as you like
    /// (the receiver thins it out), but not once per row of two million.
    pub fn progress(&self, phase: &str, done: u64, total: Option<u64>, unit: &str) {
        self.events.send(Event::Progress { phase: phase.to_owned(), done, total, unit: unit.to_owned() });
    }

    /// Reports figures at a training step or epoch (`loss`, `learning_rate`, `dev_micro_f1`). Those that are not
    /// finite are left out: JSON has no way to write them.
    pub fn metrics(&self, step: u64, values: &[(&str, f64)]) {
        let finite = values.iter().filter(|(_, value)| value.is_finite());
        let values = finite.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        self.events.send(Event::Metrics { step, values });
    }

    /// Notes something, after the warnings that belong to it.
    pub fn tell(&self, (note, warnings): (String, Vec<String>)) {
        warnings.into_iter().for_each(|warning| self.warn(warning));
        self.note(note);
    }

    /// Tells and records the most memory that was taken, where it is known.
    pub fn peak_memory(&self, step: u64, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            let gib = bytes as f64 / f64::from(1 << 30);
            self.note(format!("peak memory {gib:.2} GiB"));
            self.metrics(step, &[("peak_memory_gib", gib)]);
        }
    }

    /// Something the user should know, without stopping.
    pub fn warn(&self, message: impl Into<String>) {
        self.events.send(Event::Warning { message: message.into() });
    }

    /// A fact worth a line in the log (counts, sizes, settings found).
    pub fn note(&self, message: impl Into<String>) {
        self.events.send(Event::Note { message: message.into() });
    }

    /// Whether the user asked to stop: save what resumes the work, then return [`StageError::Interrupted`].
    pub fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }

    /// [`StageError::Interrupted`] if the user asked to stop.
    pub fn check_interrupt(&self) -> Result<(), StageError> {
        if self.interrupted() { Err(StageError::Interrupted) } else { Ok(()) }
    }
}

/// A located complaint about input data. It never holds note text.
#[derive(Clone, Debug, Default)]
pub struct BadInput {
    /// The file at fault.
    pub file: Utf8PathBuf,
    /// 1-based line (text files) or row (parquet).
    pub line: Option<u64>,
    /// Column name, where one is at fault.
    pub column: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl BadInput {
    /// A complaint about a file as a whole.
    pub fn new(file: impl Into<Utf8PathBuf>, message: impl Into<String>) -> Self {
        Self { file: file.into(), message: message.into(), ..Self::default() }
    }

    /// At this 1-based line or row.
    pub fn line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    /// In this column.
    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    /// With advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Why a stage did not finish.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The user asked to stop; what resumes the work is in the work directory.
    #[error("interrupted; the same command resumes it")]
    Interrupted,
    /// The data is not as expected.
    #[error("{0}")]
    BadInput(Box<BadInput>),
    /// Anything else.
    #[error("{message}")]
    Failed {
        /// What was being done.
        message: String,
        /// What went wrong below.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl StageError {
    /// A failure without a cause below it.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), source: None }
    }

    /// A failure while doing `what`.
    pub fn because(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { message: what.into(), source: Some(source.into()) }
    }
}

impl From<BadInput> for StageError {
    fn from(bad: BadInput) -> Self {
        Self::BadInput(Box::new(bad))
    }
}

impl From<std::io::Error> for StageError {
    fn from(error: std::io::Error) -> Self {
        // fs_err names the path in the message.
        Self::Failed { message: error.to_string(), source: None }
    }
}

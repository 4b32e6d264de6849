//! Running a pipeline: one child process per node.
//!
//! The parent plans, starts a child for every node that can run (as many at once as `jobs` allows), follows
//! its event channel (JSON lines on the child's stdout) and plans again when a child has finished, since only
//! then are the keys further down known. A child that crashes cannot take the run down, and its memory, GPU
//! memory included, is really returned.
//!
//! A child is asked to stop by closing its stdin: that also reaches it when the parent is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use plmicd_artifact::{Digest, Store, StoreError};

use crate::event::{Event, EventRecord, EventSink};
use crate::fingerprint::Reason;
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Plan, PlanError, Planned, Selection, plan};
use crate::registry::Registry;
use crate::resources::{Capacity, Slots};
use crate::run_node::{self, NodeError};
use crate::run_record::{NodeRecord, Outcome, RunFolder};
use crate::source::Sources;
use crate::stage::Interrupt;

/// Exit code of a child that was stopped and can be resumed (`EX_TEMPFAIL`).
pub const EXIT_INTERRUPTED: i32 = 75;

/// How to start the child of a node; the command line is the binary's affair.
pub trait Launcher {
    /// A command that runs one node, writes [`EventRecord`]s to stdout as JSON lines, and stops when its stdin
    /// is closed. stdin, stdout and stderr are set by the caller.
    fn command(&self, node: &str, force: bool) -> Command;
}

/// Who watches a run: the terminal.
pub trait RunObserver {
    /// A node is about to run, for these reasons.
    fn starting(&mut self, node: &str, reasons: &[Reason]);
    /// A node sent an event.
    fn event(&mut self, record: &EventRecord);
    /// A node has ended.
    fn ended(&mut self, node: &str, record: &NodeRecord);
    /// Nothing happened for a moment: redraw.
    fn tick(&mut self);
}

/// How to run.
#[derive(Clone, Debug)]
pub struct ExecuteOptions {
    /// Children at once.
    pub jobs: usize,
    /// What they may use together.
    pub capacity: Capacity,
    /// Go on with what does not depend on a failed node.
    pub keep_going: bool,
}

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// Planning failed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files of the run, or the child process.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ExecuteError {
    let what = what.into();
    move |source| ExecuteError::Io { what, source }
}

enum Message {
    Line(String, String),
    Closed(String),
}

struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    planned: Planned,
    started: Instant,
    artifact: Option<(String, Digest)>,
    /// Its output was there when it had waited.
    cached: bool,
    failure: Option<String>,
}

/// Runs every node of the selection that has to run. The outcome of each is in the run's record.
pub fn execute(
    pipeline: &Pipeline,
    selection: &Selection,
    store: &Store,
    registry: &Registry,
    sources: &Sources<'_>,
    launcher: &dyn Launcher,
    options: &ExecuteOptions,
    folder: &mut RunFolder,
    observer: &mut dyn RunObserver,
    interrupt: &Interrupt,
) -> Result<Plan, ExecuteError> {
    let (sender, receiver) = unbounded();
    let mut executor = Executor {
        selection: Selection { force: selection.forced(pipeline), ..selection.clone() },
        launcher,
        folder,
        observer,
        running: BTreeMap::new(),
        ended: BTreeSet::new(),
        failed: false,
        sender,
        slots: Slots::new(options.capacity),
    };
    loop {
        let current = plan(pipeline, &executor.selection, store, registry, sources)?;
        executor.note_hits(pipeline, store, &current)?;
        let stopping = interrupt.is_raised() || (executor.failed && !options.keep_going);
        if !stopping {
            if executor.fetch(pipeline, &current, store, interrupt)? {
                continue;
            }
            executor.start_ready(pipeline, &current, options.jobs)?;
        }
        if executor.running.is_empty() {
            executor.note_rest(&current)?;
            return Ok(current);
        }
        executor.wait(&receiver, interrupt)?;
    }
}

struct Executor<'a> {
    selection: Selection,
    launcher: &'a dyn Launcher,
    folder: &'a mut RunFolder,
    observer: &'a mut dyn RunObserver,
    running: BTreeMap<String, Running>,
    /// Nodes that this run is done with, however they ended.
    ended: BTreeSet<String>,
    failed: bool,
    sender: Sender<Message>,
    slots: Slots,
}

impl Executor<'_> {
    /// Records nodes whose output was in the store already, and points `latest/` at them: it shows what the last run
    /// used, whether that run made it or not.
    fn note_hits(&mut self, pipeline: &Pipeline, store: &Store, plan: &Plan) -> Result<(), ExecuteError> {
        for planned in &plan.nodes {
            let Decision::Hit(record) = &planned.decision else { continue };
            if self.ended.contains(&planned.node) || self.running.contains_key(&planned.node) {
                continue;
            }
            store.set_latest(&pipeline.name, &planned.node, &record.kind, record.artifact)?;
            let entry = NodeRecord {
                stage: planned.stage.clone(),
                key: planned.key,
                reasons: Vec::new(),
                outcome: Outcome::Cached,
                artifact: Some((record.kind.clone(), record.artifact)),
                seconds: 0.0,
                error: None,
            };
            self.end(&planned.node, entry)?;
        }
        Ok(())
    }

    /// Fetches from the store's mirror what is needed now; whether there was anything, so that the plan is another one.
    fn fetch(
        &mut self,
        pipeline: &Pipeline,
        plan: &Plan,
        store: &Store,
        interrupt: &Interrupt,
    ) -> Result<bool, ExecuteError> {
        let wanted = plan.to_fetch(pipeline);
        for (planned, record) in &wanted {
            let events = Collected::new(&planned.node);
            // A file that is coming over is drawn as it comes.
            let fetched = std::thread::scope(|scope| {
                let fetching = scope.spawn(|| run_node::fetch(record, store, &events, interrupt));
                while !fetching.is_finished() {
                    std::thread::sleep(Duration::from_millis(50));
                    events.take().iter().for_each(|record| self.observer.event(record));
                }
                fetching.join()
            });
            events.take().iter().for_each(|record| self.observer.event(record));
            match fetched {
                Ok(Ok(true)) => {
                    let latest =
                        store.set_latest(&pipeline.name, &planned.node, &record.kind, record.artifact);
                    latest.map_err(PlanError::Store)?;
                }
                // Planned again it has to run.
                Ok(Ok(false)) => {}
                Ok(Err(NodeError::Interrupted)) => return Ok(false),
                Ok(Err(NodeError::Store(error))) => return Err(PlanError::Store(error).into()),
                Ok(Err(error)) => {
                    return Err(io("fetching from the shared store")(std::io::Error::other(error)));
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(!wanted.is_empty())
    }

    /// Records what was never started.
    fn note_rest(&mut self, plan: &Plan) -> Result<(), ExecuteError> {
        for planned in &plan.nodes {
            if self.ended.contains(&planned.node) {
                continue;
            }
            if let Decision::Remote(record) = &planned.decision {
                // Nothing here needed it.
                let artifact = Some((record.kind.clone(), record.artifact));
                let entry = NodeRecord {
                    stage: planned.stage.clone(),
                    key: planned.key,
                    reasons: Vec::new(),
                    outcome: Outcome::Cached,
                    artifact,
                    seconds: 0.0,
                    error: None,
                };
                self.end(&planned.node, entry)?;
                continue;
            }
            let error = match &planned.decision {
                Decision::Blocked(why) => Some(why.clone()),
                _ => None,
            };
            let entry = NodeRecord {
                stage: planned.stage.clone(),
                key: planned.key,
                reasons: reasons(planned),
                outcome: if error.is_some() { Outcome::Failed } else { Outcome::NotRun },
                artifact: None,
                seconds: 0.0,
                error,
            };
            self.end(&planned.node, entry)?;
        }
        Ok(())
    }

    fn start_ready(&mut self, pipeline: &Pipeline, plan: &Plan, jobs: usize) -> Result<(), ExecuteError> {
        for planned in &plan.nodes {
            if self.running.len() >= jobs.max(1) {
                break;
            }
            let ready = matches!(planned.decision, Decision::Run(_))
                && !self.ended.contains(&planned.node)
                && !self.running.contains_key(&planned.node);
            let needs = || pipeline.node(&planned.node).map(|node| node.runtime.needs).unwrap_or_default();
            if ready && let Some(gpus) = self.slots.take(&planned.node, needs()) {
                self.start(planned, gpus)?;
            }
        }
        Ok(())
    }

    /// `gpus`: those that it may see, as CUDA names them; `None` for all.
    fn start(&mut self, planned: &Planned, gpus: Option<Vec<String>>) -> Result<(), ExecuteError> {
        let node = planned.node.clone();
        let reasons = reasons(planned);
        self.observer.starting(&node, &reasons);
        let force = reasons.contains(&Reason::Forced);
        let log = self.folder.log_file(&node).map_err(io(format!("the log of `{node}`")))?;
        let mut command = self.launcher.command(&node, force);
        // It reads the files again: where these have changed meanwhile, it must not run something else.
        if let Some(key) = planned.key {
            command.args(["--expect", &key.to_string()]);
        }
        if let Some(gpus) = gpus {
            command.env("CUDA_VISIBLE_DEVICES", gpus.join(","));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        {
            // Its own process group: a Ctrl-C at the terminal reaches the parent alone, which then asks.
            use std::os::unix::process::CommandExt;
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(io(format!("starting `{node}`")))?;
        let stdin = child.stdin.take();
        if let Some(stdout) = child.stdout.take() {
            let sender = self.sender.clone();
            let name = node.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(Message::Line(name.clone(), line)).is_err() {
                        return;
                    }
                }
                let _ = sender.send(Message::Closed(name));
            });
        }
        let (planned, started) = (planned.clone(), Instant::now());
        self.running.insert(
            node,
            Running { child, stdin, planned, started, artifact: None, cached: false, failure: None },
        );
        Ok(())
    }

    /// Follows the children until one of them has ended.
    fn wait(&mut self, receiver: &Receiver<Message>, interrupt: &Interrupt) -> Result<(), ExecuteError> {
        loop {
            if interrupt.is_raised() {
                for running in self.running.values_mut() {
                    // Closing stdin asks the child to save its state and stop.
                    running.stdin = None;
                }
            }
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(Message::Line(node, line)) => self.line(&node, &line)?,
                Ok(Message::Closed(node)) => return self.reap(&node),
                Err(_) => self.observer.tick(),
            }
        }
    }

    fn line(&mut self, node: &str, line: &str) -> Result<(), ExecuteError> {
        // A line that is no event was printed by a native library: the log has its place.
        let Ok(record) = serde_json::from_str::<EventRecord>(line) else { return Ok(()) };
        if let Some(running) = self.running.get_mut(node) {
            match &record.event {
                Event::Failed { message } => running.failure = Some(message.clone()),
                Event::Finished { kind, artifact, cached, .. } => {
                    running.artifact = Some((kind.clone(), *artifact));
                    running.cached = *cached;
                }
                _ => {}
            }
        }
        self.folder.event(&record).map_err(io("writing events.jsonl"))?;
        self.observer.event(&record);
        Ok(())
    }

    fn reap(&mut self, node: &str) -> Result<(), ExecuteError> {
        let Some(mut running) = self.running.remove(node) else { return Ok(()) };
        self.slots.release(node);
        let status = running.child.wait().map_err(io(format!("waiting for `{node}`")))?;
        let outcome = match status.code() {
            // Another run made it while this one waited.
            Some(0) if running.cached => Outcome::Cached,
            Some(0) => Outcome::Done,
            Some(EXIT_INTERRUPTED) => Outcome::Interrupted,
            _ => Outcome::Failed,
        };
        let error = match outcome {
            Outcome::Failed => {
                self.failed = true;
                Some(running.failure.unwrap_or_else(|| self.crash_message(node, status)))
            }
            _ => None,
        };
        if matches!(outcome, Outcome::Done | Outcome::Cached) {
            // Forced once is enough: from here on its fresh output is a hit.
            self.selection.force.remove(node);
        }
        let entry = NodeRecord {
            stage: running.planned.stage.clone(),
            key: running.planned.key,
            reasons: reasons(&running.planned),
            outcome,
            artifact: running.artifact,
            seconds: running.started.elapsed().as_secs_f64(),
            error,
        };
        self.end(node, entry)
    }

    fn crash_message(&self, node: &str, status: ExitStatus) -> String {
        let log = self.folder.log_path(node);
        const SIGKILL: i32 = 9;
        let memory = match status.signal() {
            Some(SIGKILL) => {
                "\nhint: if nobody killed it, the machine was out of memory: smaller batches need less"
            }
            _ => "",
        };
        format!("its process ended with {status} and no message{memory}\nhint: its log is {log}")
    }

    fn end(&mut self, node: &str, record: NodeRecord) -> Result<(), ExecuteError> {
        self.observer.ended(node, &record);
        self.ended.insert(node.to_owned());
        // Where the disk is full, the stage's own failure must not be lost behind that of its record.
        let before = record.error.as_ref().map(|error| format!("stage `{node}`: {error}\nthen "));
        let what = format!("{}writing the record of the run", before.unwrap_or_default());
        self.folder.record.nodes.insert(node.to_owned(), record);
        self.folder.save().map_err(io(what))
    }
}

impl Drop for Executor<'_> {
    /// Leaves no child behind when the run ends with an error of its own.
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            running.stdin = None;
            let _ = running.child.wait();
        }
    }
}

/// The events of something that goes on in a thread, to be taken from another one.
struct Collected {
    node: String,
    events: std::sync::Mutex<Vec<EventRecord>>,
}

impl Collected {
    fn new(node: &str) -> Self {
        Self { node: node.to_owned(), events: Default::default() }
    }

    fn take(&self) -> Vec<EventRecord> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl EventSink for Collected {
    fn send(&self, event: Event) {
        let record = EventRecord { time: jiff::Timestamp::now().to_string(), node: self.node.clone(), event };
        let mut events = self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Of how far it is only the last matters.
        if matches!(record.event, Event::Progress { .. }) {
            events.retain(|earlier| !matches!(earlier.event, Event::Progress { .. }));
        }
        events.push(record);
    }
}

fn reasons(planned: &Planned) -> Vec<Reason> {
    match &planned.decision {
        Decision::Run(reasons) | Decision::Pending(reasons) => reasons.clone(),
        Decision::Hit(_) | Decision::Remote(_) | Decision::Blocked(_) => Vec::new(),
    }
}

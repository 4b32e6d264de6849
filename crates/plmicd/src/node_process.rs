//! One node in this process: `plmicd run FILE --only NODE`, whether a person, a scheduler or another `plmicd`
//! started it.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use plmicd_artifact::Store;
use plmicd_pipeline::execute::RunObserver;
use plmicd_pipeline::pipeline::Pipeline;
use plmicd_pipeline::plan::{Decision, Planned};
use plmicd_pipeline::run_node::{self, NodeError, Provenance, join_node, run_node};
use plmicd_pipeline::run_record::{NodeRecord, Outcome, RunFolder};
use plmicd_pipeline::source::Sources;
use plmicd_pipeline::{Event, EventRecord, EventSink, Interrupt, NoEvents, Ranks};
use serde_json::json;

use crate::commands::World;
use crate::failure::{Failure, chain, exit};
use crate::ui::progress::Progress;

/// Events as JSON lines on stdout, or drawn on stderr.
enum Channel {
    Json,
    Human(Mutex<Progress>),
}

struct Sink {
    node: String,
    channel: Channel,
    /// The record of the run, where this process keeps it.
    folder: Option<Mutex<RunFolder>>,
}

/// Whether it was said how the node ended.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// Tells the parent of a failure, unless the node has told it itself.
pub fn tell_parent(node: &str, failure: &Failure) {
    let Some(message) = &failure.message else { return };
    if !IS_TOLD.load(Ordering::Relaxed) {
        let sink = Sink { node: node.to_owned(), channel: Channel::Json, folder: None };
        sink.send(Event::Failed { message: message.to_string() });
    }
}

impl EventSink for Sink {
    fn send(&self, event: Event) {
        if matches!(event, Event::Failed { .. } | Event::Interrupted) {
            IS_TOLD.store(true, Ordering::Relaxed);
        }
        let record = EventRecord { time: jiff::Timestamp::now().to_string(), node: self.node.clone(), event };
        if let Some(folder) = &self.folder {
            // A full disk ends the stage itself, with a message of its own.
            let _ = folder.lock().unwrap_or_else(|e| e.into_inner()).event(&record);
        }
        match &self.channel {
            Channel::Json => {
                if let Ok(mut line) = serde_json::to_string(&record) {
                    line.push('\n');
                    // A parent that has gone away closes stdin as well, and that stops this process.
                    let _ = std::io::stdout().lock().write_all(line.as_bytes());
                }
            }
            Channel::Human(progress) => progress.lock().unwrap_or_else(|e| e.into_inner()).event(&record),
        }
    }
}

/// Fetches what a node needs from the shared store; what could not be fetched is planned anew by the caller.
pub fn fetch(
    pipeline: &Pipeline,
    node: &str,
    wanted: &[(&Planned, &plmicd_artifact::ActionRecord)],
    store: &Store,
    world: &World<'_>,
) -> Result<(), Failure> {
    let terminal = world.terminal;
    let log_seconds = pipeline.node(node).map_or(10, |n| n.runtime.log_seconds);
    for (planned, record) in wanted {
        let channel = if terminal.json {
            Channel::Json
        } else {
            let names = std::iter::once(planned.node.as_str());
            Channel::Human(Mutex::new(Progress::new(terminal, names, log_seconds)))
        };
        let sink = Sink { node: planned.node.clone(), channel, folder: None };
        match run_node::fetch(record, store, &sink, &world.interrupt) {
            Ok(_) => {}
            Err(NodeError::Interrupted) => {
                terminal.say(&format!("{node}: stopped; the same command goes on from here"));
                return Err(Failure::silent(exit::INTERRUPTED));
            }
            Err(error) => return Err(Failure::new(exit::INTERNAL, chain(&error))),
        }
    }
    Ok(())
}

/// Runs one planned node here. Gives the run's folder back.
pub fn run(
    pipeline: &Pipeline,
    planned: &Planned,
    store: &Store,
    sources: &Sources<'_>,
    world: &World<'_>,
    folder: Option<RunFolder>,
    ranks: Option<&Ranks>,
) -> Result<Option<RunFolder>, Failure> {
    let terminal = world.terminal;
    let node = planned.node.as_str();
    let threads = use_threads(pipeline, node, ranks);
    let log_seconds = pipeline.node(node).map_or(10, |n| n.runtime.log_seconds);
    let channel = if terminal.json {
        Channel::Json
    } else {
        Channel::Human(Mutex::new(Progress::new(terminal, std::iter::once(node), log_seconds)))
    };
    let sink = Sink { node: node.to_owned(), channel, folder: folder.map(Mutex::new) };
    let started = std::time::Instant::now();
    let outcome = run_node(
        pipeline,
        planned,
        store,
        &world.registry,
        sources,
        &sink,
        &world.interrupt,
        &provenance(threads),
        ranks,
    );
    if let Some(folder) = &sink.folder {
        let mut folder = folder.lock().unwrap_or_else(|e| e.into_inner());
        folder.record.nodes.insert(node.to_owned(), node_record(planned, &outcome, started));
        folder.record.finished = Some(jiff::Timestamp::now().to_string());
        folder.save()?;
    }
    match outcome {
        Ok((record, cached)) => {
            if !terminal.json {
                let verb = if cached { "cached" } else { "made" };
                terminal.say(&format!("{node}: {verb} {} {}", record.kind, record.artifact.short()));
            }
            Ok(sink.folder.map(|folder| folder.into_inner().unwrap_or_else(|e| e.into_inner())))
        }
        Err(NodeError::Interrupted) => {
            sink.send(Event::Interrupted);
            terminal.say(&format!("{node}: stopped; the same command goes on from here"));
            Err(Failure::silent(exit::INTERRUPTED))
        }
        Err(error) => {
            let message = chain(&error);
            sink.send(Event::Failed { message: message.clone() });
            Err(Failure::new(exit::STAGE, format!("stage `{node}`: {message}")))
        }
    }
}

/// Gives the process's thread pool its size.
fn use_threads(pipeline: &Pipeline, node: &str, ranks: Option<&Ranks>) -> usize {
    let runtime = pipeline.node(node).map(|node| &node.runtime);
    let threads = runtime.map_or(1, |runtime| match ranks {
        Some(ranks) => ranks.threads(runtime.threads),
        None => runtime.thread_count(),
    });
    // Fails only if a pool exists already, and then that one serves.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    threads
}

/// Joins in one planned node that the first of several processes runs.
pub fn join(
    pipeline: &Pipeline,
    planned: &Planned,
    store: &Store,
    world: &World<'_>,
    ranks: &Ranks,
) -> Result<(), Failure> {
    let node = planned.node.as_str();
    use_threads(pipeline, node, Some(ranks));
    // The first process tells what there is to tell.
    match join_node(pipeline, planned, store, &world.registry, &NoEvents, &world.interrupt, ranks) {
        Ok(()) => Ok(()),
        Err(NodeError::Interrupted) => Err(Failure::silent(exit::INTERRUPTED)),
        Err(error) => {
            let message =
                format!("process {} of {}, stage `{node}`: {}", ranks.rank, ranks.size, chain(&error));
            Err(Failure::new(exit::STAGE, message))
        }
    }
}

/// What became of a node that ran alone.
fn node_record(
    planned: &Planned,
    outcome: &Result<(plmicd_artifact::ActionRecord, bool), NodeError>,
    started: std::time::Instant,
) -> NodeRecord {
    let (outcome, artifact, error) = match outcome {
        Ok((record, cached)) => {
            let outcome = if *cached { Outcome::Cached } else { Outcome::Done };
            (outcome, Some((record.kind.clone(), record.artifact)), None)
        }
        Err(NodeError::Interrupted) => (Outcome::Interrupted, None, None),
        Err(NodeError::UpstreamMissing { .. }) => (Outcome::NotRun, None, None),
        Err(error) => (Outcome::Failed, None, Some(chain(error))),
    };
    NodeRecord {
        stage: planned.stage.clone(),
        key: planned.key,
        reasons: match &planned.decision {
            Decision::Run(reasons) | Decision::Pending(reasons) => reasons.clone(),
            Decision::Hit(_) | Decision::Remote(_) | Decision::Blocked(_) => Vec::new(),
        },
        outcome,
        artifact,
        seconds: started.elapsed().as_secs_f64(),
        error,
    }
}

/// What is worth knowing of this process and machine, though it decides no result.
fn provenance(threads: usize) -> Provenance {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    #[cfg_attr(not(feature = "torch"), allow(unused_mut))]
    let mut facts = vec![
        ("program", json!(format!("plmicd {}", env!("CARGO_PKG_VERSION")))),
        ("commit", json!(option_env!("PLMICD_COMMIT"))),
        ("started", json!(jiff::Timestamp::now().to_string())),
        ("threads", json!(threads)),
        ("system", json!(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
        ("cpu", json!(system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()))),
        ("memory", json!(system.total_memory())),
        ("gpus", json!(gpus())),
    ];
    #[cfg(feature = "torch")]
    facts.push(("libtorch", json!(format!("libtorch {}", plmicd_torch::libtorch_version()))));
    Provenance(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Models of the NVIDIA GPUs, as the driver's own files name them; whether one was used is a matter of the runtime's
/// `device`.
fn gpus() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/driver/nvidia/gpus") else { return Vec::new() };
    let mut models: Vec<String> = entries
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("information")).ok())
        .filter_map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
            Some(line.trim().to_owned())
        })
        .collect();
    models.sort();
    models
}

/// Says where a panic happened, and not what: a message of the standard library may quote the text it was working
/// on, and that may be a note.
pub fn guard_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let text = format!("plmicd stopped at {place}: this is a defect of the program\n");
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }));
}

/// First SIGINT, SIGTERM or SIGUSR1: ask to stop. Second: end at once.
pub fn watch_signals(interrupt: &Interrupt) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        // The order matters: the flag is still down at the first signal, so only the second one ends the process.
        signal_hook::flag::register_conditional_shutdown(signal, exit::INTERRUPTED.into(), interrupt.flag())?;
        signal_hook::flag::register(signal, interrupt.flag())?;
    }
    Ok(())
}

/// Asks to stop when stdin is closed: by the parent to stop this node, or by the parent's death.
pub fn watch_stdin(interrupt: &Interrupt) {
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        let mut byte = [0; 1];
        while matches!(std::io::stdin().lock().read(&mut byte), Ok(n) if n > 0) {}
        interrupt.raise();
    });
}

//! `plmicd run`.

use std::process::Command;

use plmicd_artifact::Store;
use plmicd_pipeline::execute::{ExecuteError, ExecuteOptions, Launcher, execute};
use plmicd_pipeline::pipeline::Pipeline;
use plmicd_pipeline::plan::{Selection, plan, require_node};
use plmicd_pipeline::run_record::{Outcome, RunFolder, RunRecord};
use plmicd_pipeline::source::Sources;

use crate::cli::{PlanArgs, PlanFormat, RunArgs};
use crate::commands::{World, plan as plan_command, report_page};
use crate::failure::{Failure, chain, exit};
use crate::node_process;
use crate::ui::progress::Progress;
use crate::ui::{Terminal, text};

/// Runs a pipeline, or one node of it.
pub fn run(world: &World<'_>, args: &RunArgs) -> Result<(), Failure> {
    if args.dry_run {
        let args = PlanArgs {
            pipeline: args.pipeline.clone(),
            until: args.only.clone().or_else(|| args.until.clone()),
            force: args.force.clone(),
            format: PlanFormat::Text,
            out: None,
        };
        return plan_command::plan(world, &args);
    }
    let pipeline = world.pipeline(&args.pipeline)?;
    let store = world.shared_store()?;
    match &args.only {
        Some(node) => run_only(world, args, &pipeline, &store, node),
        None => run_all(world, args, &pipeline, &store),
    }
}

fn run_only(
    world: &World<'_>,
    args: &RunArgs,
    pipeline: &Pipeline,
    store: &Store,
    node: &str,
) -> Result<(), Failure> {
    if args.supervised {
        node_process::watch_stdin(&world.interrupt);
    }
    let progress = source_progress(world.terminal);
    let sources = Sources::new(pipeline, store, &world.registry, &progress);
    require_node(pipeline, node)?;
    let selection = Selection {
        until: Some(node.to_owned()),
        force: args.force.iter().filter(|f| *f == node).cloned().collect(),
    };
    let planned = loop {
        let planned = plan(pipeline, &selection, store, &world.registry, &sources)?;
        let wanted = planned.to_fetch(pipeline);
        if wanted.is_empty() {
            break planned;
        }
        node_process::fetch(pipeline, node, &wanted, store, world)?;
    };
    let Some(planned) = planned.get(node) else {
        return Err(Failure::new(exit::INTERNAL, format!("`{node}` was not planned")));
    };
    // The parent of a supervised child keeps the record of the run.
    let folder = if args.supervised { None } else { Some(new_folder(args, pipeline, store)?) };
    let folder = node_process::run(pipeline, planned, store, &sources, world, folder)?;
    match folder {
        Some(folder) => report_page::write(world, pipeline, store, &sources, &folder),
        None => Ok(()),
    }
}

/// The folder of a new run.
fn new_folder(args: &RunArgs, pipeline: &Pipeline, store: &Store) -> Result<RunFolder, Failure> {
    let started = jiff::Timestamp::now();
    let record = RunRecord {
        format: 1,
        id: String::new(),
        pipeline: pipeline.name.clone(),
        file: pipeline.file.clone(),
        only: args.only.clone(),
        overrides: args.pipeline.overrides.clone(),
        program: format!("plmicd {}", env!("CARGO_PKG_VERSION")),
        started: started.to_string(),
        finished: None,
        resolved: pipeline.resolved(),
        nodes: Default::default(),
    };
    Ok(RunFolder::create(store, record, started)?)
}

fn run_all(world: &World<'_>, args: &RunArgs, pipeline: &Pipeline, store: &Store) -> Result<(), Failure> {
    let progress = source_progress(world.terminal);
    let sources = Sources::new(pipeline, store, &world.registry, &progress);
    let selection = Selection { until: args.until.clone(), force: args.force.iter().cloned().collect() };
    // Complaints about missing sources come before anything runs, not after an hour.
    let first = plan(pipeline, &selection, store, &world.registry, &sources)?;
    plan_command::refuse_blocked(&first)?;
    if let Some(problem) = args.resources.too_small_for(pipeline) {
        return Err(Failure::usage(format!("--resources: {problem}")));
    }
    let started = jiff::Timestamp::now();
    let mut folder = new_folder(args, pipeline, store)?;
    let log_seconds = pipeline.nodes.iter().map(|node| node.runtime.log_seconds).min().unwrap_or(10);
    let mut observer =
        Progress::new(world.terminal, pipeline.nodes.iter().map(|n| n.name.as_str()), log_seconds);
    let launcher = SelfLauncher { args, world };
    let options = ExecuteOptions {
        jobs: args.jobs,
        capacity: args.resources,
        keep_going: args.keep_going || pipeline.sweep.is_some(),
    };
    execute(
        pipeline,
        &selection,
        store,
        &world.registry,
        &sources,
        &launcher,
        &options,
        &mut folder,
        &mut observer,
        &world.interrupt,
    )
    .map_err(|error| match error {
        ExecuteError::Plan(error) => Failure::from(error),
        ExecuteError::Store(error) => Failure::from(error),
        error @ ExecuteError::Io { .. } => Failure::new(exit::INTERNAL, chain(&error)),
    })?;
    let finished = jiff::Timestamp::now();
    folder.record.finished = Some(finished.to_string());
    folder.save()?;
    report_page::write(world, pipeline, store, &sources, &folder)?;
    summary(world, store, &folder.record, finished.duration_since(started).as_secs_f64())
}

/// The end of a run: results to stdout, or why it failed.
fn summary(world: &World<'_>, store: &Store, record: &RunRecord, seconds: f64) -> Result<(), Failure> {
    let count = |outcome| record.nodes.values().filter(|node| node.outcome == outcome).count();
    if world.terminal.json {
        world.terminal.print_json(record);
    }
    if count(Outcome::Failed) > 0 {
        let failures: Vec<String> = record
            .nodes
            .iter()
            .filter(|(_, node)| node.outcome == Outcome::Failed)
            .map(|(name, node)| format!("stage `{name}`: {}", node.error.as_deref().unwrap_or("failed")))
            .collect();
        let hint = format!("plmicd show {} tells more; the same command goes on from here", record.id);
        return Err(Failure::new(exit::STAGE, format!("{}\nhint: {hint}", failures.join("\n"))));
    }
    if count(Outcome::Interrupted) + count(Outcome::NotRun) > 0 {
        world.terminal.say("stopped; the same command goes on from here");
        return Err(Failure::silent(exit::INTERRUPTED));
    }
    if world.terminal.json {
        return Ok(());
    }
    let (done, cached) = (count(Outcome::Done), count(Outcome::Cached));
    let stages = |n: usize| if n == 1 { "1 stage".to_owned() } else { format!("{n} stages") };
    world.terminal.say(&match (done, cached) {
        (0, cached) => format!("{}: all {} cached, nothing to do", record.pipeline, stages(cached)),
        (done, 0) => format!("{}: ran {} in {}", record.pipeline, stages(done), text::duration(seconds)),
        (done, cached) => {
            format!(
                "{}: ran {}, {cached} cached, in {}",
                record.pipeline,
                stages(done),
                text::duration(seconds)
            )
        }
    });
    super::runs::print_results(world, store, record);
    Ok(())
}

/// Starts this very program for a node.
struct SelfLauncher<'a> {
    args: &'a RunArgs,
    world: &'a World<'a>,
}

impl Launcher for SelfLauncher<'_> {
    fn command(&self, node: &str, force: bool) -> Command {
        // Where the program cannot find itself, its name on the PATH is the best guess.
        let program = std::env::current_exe().unwrap_or_else(|_| "plmicd".into());
        let mut command = Command::new(program);
        command.arg("run").args(&self.args.pipeline.file);
        command.args(["--only", node, "--supervised", "--message-format", "json", "--color", "never"]);
        command.arg("--store").arg(self.world.store_root());
        command.args(self.world.remote_words().into_iter().flatten());
        for value in &self.args.pipeline.overrides {
            command.arg("--set").arg(value);
        }
        if force {
            command.args(["--force", node]);
        }
        command
    }
}

/// Says on stderr that a large source is being read; small ones are not worth a line.
pub fn source_progress(terminal: &Terminal) -> impl Fn(&str, u64, u64) + Sync + use<> {
    const WORTH_A_LINE: u64 = 500_000_000;
    let terminal = terminal.clone();
    let last = std::sync::Mutex::new(None::<std::time::Instant>);
    move |name, done, total| {
        if total < WORTH_A_LINE || terminal.silent {
            return;
        }
        let mut last = last.lock().unwrap_or_else(|e| e.into_inner());
        if last.is_none_or(|at| at.elapsed().as_secs() >= 5) {
            *last = Some(std::time::Instant::now());
            terminal.say(&format!("source {name}: hashed {} of {}", text::bytes(done), text::bytes(total)));
        }
    }
}

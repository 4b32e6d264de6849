//! `plmicd run`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use plmicd_artifact::Store;
use plmicd_pipeline::execute::{ExecuteError, ExecuteOptions, Launcher, execute};
use plmicd_pipeline::pipeline::{Node, Pipeline};
use plmicd_pipeline::plan::{Decision, Planned, Selection, plan, require_node};
use plmicd_pipeline::run_record::{Outcome, RunFolder, RunRecord};
use plmicd_pipeline::source::Sources;

use crate::cli::{PlanArgs, PlanFormat, RunArgs};
use crate::commands::{World, plan as plan_command, report_page};
use crate::failure::{Failure, chain, exit};
use crate::node_process;
use crate::ranks::Place;
use crate::ui::progress::Progress;
use crate::ui::{Terminal, text};

/// Runs a pipeline, or one node of it.
pub fn run(world: &World<'_>, args: &RunArgs) -> Result<(), Failure> {
    let outcome = run_as_asked(world, args);
    if let (true, Some(node), Err(failure)) = (args.supervised, &args.only, &outcome) {
        node_process::tell_parent(node, failure);
    }
    outcome
}

fn run_as_asked(world: &World<'_>, args: &RunArgs) -> Result<(), Failure> {
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
    // A child has company only where its parent says so.
    let place = match args.supervised && args.group.is_none() {
        true => None,
        false => Place::from_environment()?,
    };
    let pipeline = world.pipeline(&args.pipeline)?;
    let store = world.shared_store()?;
    match (&args.only, place) {
        (Some(node), place) => run_only(world, args, &pipeline, &store, node, place.as_ref()),
        (None, None) => run_all(world, args, &pipeline, &store, &|command, _, _| command),
        (None, Some(place)) => run_together(world, args, &pipeline, &store, place),
    }
}

#[cfg(feature = "torch")]
fn run_together(
    world: &World<'_>,
    args: &RunArgs,
    pipeline: &Pipeline,
    store: &Store,
    place: Place,
) -> Result<(), Failure> {
    use crate::commands::group;
    if args.jobs > 1 {
        return Err(Failure::usage("--jobs: several processes work on one stage at a time"));
    }
    if !place.is_first() {
        return group::follow(world, args, &place);
    }
    let lead = group::Lead::new(place)?;
    let outcome = run_all(world, args, pipeline, store, &|mut command, node, force| {
        if is_parallel(world, pipeline, node) {
            command.args(["--group", &lead.call(node, force).to_string()]);
        }
        command
    });
    lead.end(outcome.as_ref().map_or_else(|failure| failure.code, |()| 0));
    outcome
}

#[cfg(not(feature = "torch"))]
fn run_together(
    _world: &World<'_>,
    _args: &RunArgs,
    _pipeline: &Pipeline,
    _store: &Store,
    _place: Place,
) -> Result<(), Failure> {
    Err(Failure::usage("this build has no libtorch, and so nothing that several processes could share"))
}

/// Whether several processes can share the work of a node's stage.
fn is_parallel(world: &World<'_>, pipeline: &Pipeline, node: &str) -> bool {
    let stage = pipeline.node(node).and_then(|node| world.registry.find_stage(&node.stage));
    stage.is_some_and(|stage| stage.is_parallel())
}

fn run_only(
    world: &World<'_>,
    args: &RunArgs,
    pipeline: &Pipeline,
    store: &Store,
    node: &str,
    place: Option<&Place>,
) -> Result<(), Failure> {
    if args.supervised {
        node_process::watch_stdin(&world.interrupt);
    }
    let progress = source_progress(world.terminal);
    let sources = Sources::new(pipeline, store, &world.registry, &progress);
    require_node(pipeline, node)?;
    for forced in &args.force {
        require_node(pipeline, forced)?;
    }
    // In a sweep a name of the file may stand for several nodes.
    let node = match pipeline.named(node).as_slice() {
        [one] => one.name.as_str(),
        several => {
            let names: Vec<&str> = several.iter().map(|node| node.name.as_str()).collect();
            let message =
                format!("`{node}` stands for {} nodes; expected one of {}", names.len(), names.join(", "));
            return Err(Failure::usage(format!("--only: {message}")));
        }
    };
    let all = Selection { until: None, force: args.force.iter().cloned().collect() };
    let selection = Selection {
        until: Some(node.to_owned()),
        force: all.forced(pipeline).into_iter().filter(|forced| forced == node).collect(),
    };
    let ranks = place.filter(|_| is_parallel(world, pipeline, node)).map(|place| match args.group {
        Some(number) => place.ranks(&number.to_string(), false),
        None => place.ranks("only", place.is_host()),
    });
    if let Some(place) = place.filter(|place| !place.is_first()) {
        let Some(ranks) = ranks else {
            world.terminal.say(&format!("process {}: `{node}` is the first process's alone", place.rank));
            return Ok(());
        };
        let planned = plan_when_ready(world, pipeline, &selection, store, &sources, node)?;
        return node_process::join(pipeline, &planned, store, world, &ranks);
    }
    let planned = loop {
        let planned = plan(pipeline, &selection, store, &world.registry, &sources)?;
        let wanted = planned.to_fetch(pipeline);
        if wanted.is_empty() {
            break planned;
        }
        node_process::fetch(pipeline, node, &wanted, store, world)?;
    };
    let planned = find(&planned, node)?;
    if let Some(expected) = &args.expect
        && planned.key.map(|key| key.to_string()).as_ref() != Some(expected)
    {
        let message = "the pipeline file or a source has changed since this run began\n\
                       hint: the same command runs it as it is now";
        return Err(Failure::new(exit::STAGE, message));
    }
    // The parent of a supervised child keeps the record of the run.
    let folder = if args.supervised { None } else { Some(new_folder(args, pipeline, store)?) };
    let folder = node_process::run(pipeline, &planned, store, &sources, world, folder, ranks.as_ref())?;
    match folder {
        Some(folder) => report_page::write(world, pipeline, store, &sources, &folder),
        None => Ok(()),
    }
}

fn find(plan: &plmicd_pipeline::plan::Plan, node: &str) -> Result<Planned, Failure> {
    plan.get(node).cloned().ok_or_else(|| Failure::new(exit::INTERNAL, format!("`{node}` was not planned")))
}

/// A node's plan, once what it reads from is there: on a shared file system what the first process wrote may come late.
fn plan_when_ready(
    world: &World<'_>,
    pipeline: &Pipeline,
    selection: &Selection,
    store: &Store,
    sources: &Sources<'_>,
    node: &str,
) -> Result<Planned, Failure> {
    const ATTEMPTS: u32 = 60;
    for _ in 1..ATTEMPTS {
        let planned = find(&plan(pipeline, selection, store, &world.registry, sources)?, node)?;
        if !matches!(planned.decision, Decision::Pending(_)) {
            return Ok(planned);
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    find(&plan(pipeline, selection, store, &world.registry, sources)?, node)
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

/// What is added to the command of a node's child: the command, the node, whether it is forced.
type Addition<'a> = dyn Fn(Command, &str, bool) -> Command + 'a;

fn run_all(
    world: &World<'_>,
    args: &RunArgs,
    pipeline: &Pipeline,
    store: &Store,
    addition: &Addition<'_>,
) -> Result<(), Failure> {
    let progress = source_progress(world.terminal);
    let sources = Sources::new(pipeline, store, &world.registry, &progress);
    let selection = Selection { until: args.until.clone(), force: args.force.iter().cloned().collect() };
    // Complaints about missing sources come before anything runs, not after an hour.
    let first = plan(pipeline, &selection, store, &world.registry, &sources)?;
    plan_command::refuse_blocked(&first)?;
    let may_run = |node: &&Node| {
        first.get(&node.name).is_some_and(|planned| !matches!(planned.decision, Decision::Hit(_)))
    };
    if let Some(problem) = args.resources.too_small_for(pipeline.nodes.iter().filter(may_run)) {
        return Err(Failure::usage(format!("--resources: {problem}")));
    }
    let started = jiff::Timestamp::now();
    let mut folder = new_folder(args, pipeline, store)?;
    let log_seconds = pipeline.nodes.iter().map(|node| node.runtime.log_seconds).min().unwrap_or(10);
    let mut observer =
        Progress::new(world.terminal, pipeline.nodes.iter().map(|n| n.name.as_str()), log_seconds);
    let launcher = SelfLauncher { args, world, addition };
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
        let store = match world.store_root().as_str() {
            crate::cli::USUAL_STORE => String::new(),
            other => format!(" --store {other}"),
        };
        let hint = format!("plmicd show {}{store} tells more; the same command goes on from here", record.id);
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
    addition: &'a Addition<'a>,
}

impl Launcher for SelfLauncher<'_> {
    fn command(&self, node: &str, force: bool) -> Command {
        (self.addition)(node_command(self.world, self.args, node, force), node, force)
    }
}

/// This very program, also where another one has taken its place since it was started: all nodes of a run are made by one.
fn own_program() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    match own.exists() {
        true => own,
        // Where the program cannot find itself, its name on the PATH is the best guess.
        false => std::env::current_exe().unwrap_or_else(|_| "plmicd".into()),
    }
}

/// This very program for one node, stopped by closing its stdin.
pub(super) fn node_command(world: &World<'_>, args: &RunArgs, node: &str, force: bool) -> Command {
    let program = own_program();
    let mut command = Command::new(program);
    command.arg0("plmicd").arg("run").args(&args.pipeline.file);
    command.args(["--only", node, "--supervised", "--message-format", "json", "--color", "never"]);
    command.arg("--store").arg(world.store_root());
    command.args(world.remote_words().into_iter().flatten());
    for value in &args.pipeline.overrides {
        command.arg("--set").arg(value);
    }
    if force {
        command.args(["--force", node]);
    }
    command
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

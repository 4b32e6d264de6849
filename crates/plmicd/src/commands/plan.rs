//! `plmicd plan`, `status` and `explain`: three views of the same plan.

use camino::Utf8Path;
use plmicd_artifact::Store;
use plmicd_pipeline::cluster::{Call, slurm};
use plmicd_pipeline::fingerprint::Reason;
use plmicd_pipeline::history::History;
use plmicd_pipeline::pipeline::{Pipeline, Wire};
use plmicd_pipeline::plan::{Decision, Plan, Planned, Selection, plan as make_plan, require_node};
use plmicd_pipeline::source::Sources;
use serde_json::{Value, json};

use crate::cli::{ExplainArgs, PipelineArgs, PlanArgs, PlanFormat};
use crate::commands::World;
use crate::commands::run::source_progress;
use crate::failure::{Failure, exit};
use crate::ui::text;

/// What `run` would do.
pub fn plan(world: &World<'_>, args: &PlanArgs) -> Result<(), Failure> {
    let pipeline = world.pipeline(&args.pipeline)?;
    let store = world.shared_store()?;
    let selection = Selection { until: args.until.clone(), force: args.force.iter().cloned().collect() };
    let plan = planned(world, &pipeline, &store, &selection)?;
    match args.format {
        PlanFormat::Slurm => {
            refuse_blocked(&plan)?;
            return write_slurm(world, args, &pipeline, &plan);
        }
        PlanFormat::Dot => world.terminal.print(&to_dot(&pipeline, &plan)),
        PlanFormat::Text if !world.terminal.json => {
            let width = plan.nodes.iter().map(|n| n.node.len()).max().unwrap_or(0);
            let lines: Vec<String> = plan.nodes.iter().map(|node| plan_line(world, node, width)).collect();
            world.terminal.print(&lines.join("\n"));
            let (hits, total) = (plan.nodes.iter().filter(|n| is_hit(n)).count(), plan.nodes.len());
            let remote = plan.nodes.iter().filter(|n| matches!(n.decision, Decision::Remote(_))).count();
            let shared = if remote > 0 { format!(", {remote} in the shared store") } else { String::new() };
            world.terminal.say(&format!("{}: {hits} of {total} cached{shared}", pipeline.name));
            if let Some(line) = sweep_line(&pipeline) {
                world.terminal.say(&line);
            }
            if let Some(line) = time_line(&pipeline, &plan, &store) {
                world.terminal.say(&line);
            }
        }
        PlanFormat::Json | PlanFormat::Text => world.terminal.print_json(&to_json(&pipeline, &plan)),
    }
    refuse_blocked(&plan)
}

/// `12 cells: 4 variants, 3 seeds; 49 of 108 nodes once shared`.
fn sweep_line(pipeline: &Pipeline) -> Option<String> {
    let sweep = pipeline.sweep.as_ref()?;
    let variants: std::collections::BTreeSet<String> =
        sweep.cells.iter().map(|cell| cell.cell.variant()).collect();
    let alone: usize = sweep.cells.iter().map(|cell| cell.nodes.len()).sum();
    Some(format!(
        "{} cells of {} variants: {} nodes, where the cells alone would be {alone}",
        sweep.cells.len(),
        variants.len(),
        pipeline.nodes.len()
    ))
}

/// How long what is left may take, from past runs.
fn time_line(pipeline: &Pipeline, plan: &Plan, store: &Store) -> Option<String> {
    let history = History::new(&pipeline.name);
    let waiting = plan.nodes.iter().filter(|n| matches!(n.decision, Decision::Run(_) | Decision::Pending(_)));
    let times: Vec<Option<f64>> = waiting
        .filter_map(|planned| pipeline.node(&planned.node))
        .map(|node| history.seconds(store, node))
        .collect();
    let known = times.iter().flatten().count();
    if known == 0 {
        return None;
    }
    let total: f64 = times.iter().flatten().sum();
    let unknown = match times.len() - known {
        0 => String::new(),
        n => format!(", not counting {n} never run before"),
    };
    Some(format!("about {} one after the other, from past runs{unknown}", text::duration(total)))
}

/// Writes the scripts of `--format slurm`.
fn write_slurm(world: &World<'_>, args: &PlanArgs, pipeline: &Pipeline, plan: &Plan) -> Result<(), Failure> {
    let absolute = |path: &Utf8Path| -> Result<String, Failure> {
        let path = camino::absolute_utf8(path)?;
        Ok(path.into_string())
    };
    let dir = args.out.clone().unwrap_or_else(|| "slurm".into());
    let program = std::env::current_exe()?;
    let mut words = vec![program.to_string_lossy().into_owned(), "run".to_owned()];
    if let Some(file) = &args.pipeline.file {
        words.push(absolute(file)?);
    }
    words.extend(["--store".to_owned(), absolute(world.store_root())?]);
    words.extend(world.remote_words().into_iter().flatten());
    for value in &args.pipeline.overrides {
        words.extend(["--set".to_owned(), value.clone()]);
    }
    // Each task forces its own node alone.
    for name in &args.force {
        words.extend(["--force".to_owned(), name.clone()]);
    }
    let call = Call { words, dir: absolute(&dir)?, working_dir: absolute(Utf8Path::new("."))? };
    let files = slurm(pipeline, plan, &call);
    if files.is_empty() {
        world.terminal.say(&format!("{}: all is cached, nothing to submit", pipeline.name));
        return Ok(());
    }
    fs_err::create_dir_all(&dir)?;
    for (name, text) in &files {
        fs_err::write(dir.join(name), text)?;
    }
    world.terminal.say(&format!("{}: {} files; submit them with", pipeline.name, files.len()));
    world.terminal.print(&format!("sh {}", dir.join("submit.sh")));
    Ok(())
}

/// The state of every stage.
pub fn status(world: &World<'_>, args: &PipelineArgs) -> Result<(), Failure> {
    let pipeline = world.pipeline(args)?;
    let store = world.shared_store()?;
    let plan = planned(world, &pipeline, &store, &Selection::default())?;
    if world.terminal.json {
        world.terminal.print_json(&to_json(&pipeline, &plan));
        return Ok(());
    }
    let running = super::runs::running(&store, &pipeline.name)?;
    let mut table = super::runs::table(&["stage", "state", "artifact", "size", "made in"]);
    for node in &plan.nodes {
        let running = running.get(&node.node).filter(|_| !is_hit(node));
        let row = match &node.decision {
            Decision::Hit(record) => {
                let size = store.manifest(&record.kind, record.artifact).map(|m| text::bytes(m.total_size()));
                let seconds = record.provenance.get("seconds").and_then(Value::as_f64);
                [
                    "cached".to_owned(),
                    format!("{} {}", record.kind, record.artifact.short()),
                    size.unwrap_or_default(),
                    seconds.map(text::duration).unwrap_or_default(),
                ]
            }
            decision => {
                let mut state = state_word(&store, node, decision)?;
                if let Some(heard) = running {
                    state = format!("{state}: {heard}");
                }
                [state, String::new(), String::new(), String::new()]
            }
        };
        let mut cells = vec![node.node.clone()];
        cells.extend(row);
        table.add_row(cells);
    }
    world.terminal.print(&table.to_string());
    Ok(())
}

/// Why stages would run, a reason a line.
pub fn explain(world: &World<'_>, args: &ExplainArgs) -> Result<(), Failure> {
    let arguments = PipelineArgs { file: args.file.clone(), overrides: args.overrides.clone() };
    let pipeline = world.pipeline(&arguments)?;
    if let Some(node) = &args.node {
        require_node(&pipeline, node)?;
    }
    let store = world.shared_store()?;
    let plan = planned(world, &pipeline, &store, &Selection::default())?;
    let named: Option<Vec<&str>> =
        args.node.as_ref().map(|name| pipeline.named(name).iter().map(|node| node.name.as_str()).collect());
    let is_wanted = |node: &str| named.as_ref().is_none_or(|named| named.contains(&node));
    let wanted: Vec<&Planned> = plan.nodes.iter().filter(|planned| is_wanted(&planned.node)).collect();
    if world.terminal.json {
        let values: Vec<Value> = wanted.iter().map(|n| node_json(&pipeline, n)).collect();
        world.terminal.print_json(&values);
        return Ok(());
    }
    let mut lines = Vec::new();
    for node in wanted {
        let name = world.terminal.paint_result("1", &node.node);
        match &node.decision {
            Decision::Hit(record) => {
                lines.push(format!("{name} is cached: {} {}", record.kind, record.artifact.short()));
            }
            Decision::Remote(record) => {
                let artifact = record.artifact_ref().short();
                lines.push(format!("{name} is in the shared store: {artifact}"));
            }
            Decision::Run(reasons) => {
                lines.push(format!("{name} would run:"));
                lines.extend(reasons.iter().map(|reason| format!("  {}", text::reason(reason))));
            }
            Decision::Pending(reasons) => {
                let waits: Vec<String> = reasons.iter().map(text::reason).collect();
                lines.push(format!("{name} {}: what that yields decides", waits.join(" and ")));
            }
            Decision::Blocked(why) => lines.push(format!("{name} cannot run: {why}")),
        }
        if args.node.is_some()
            && let Some(key) = node.key
        {
            lines.push(format!("  key {key}"));
            for (slot, input) in &node.inputs {
                lines.push(format!("  input {slot}: {} {}", input.kind, input.digest.short()));
            }
        }
    }
    world.terminal.print(&lines.join("\n"));
    Ok(())
}

fn planned(
    world: &World<'_>,
    pipeline: &Pipeline,
    store: &Store,
    selection: &Selection,
) -> Result<Plan, Failure> {
    let progress = source_progress(world.terminal);
    let sources = Sources::new(pipeline, store, &world.registry, &progress);
    Ok(make_plan(pipeline, selection, store, &world.registry, &sources)?)
}

/// An error if any node cannot run because a source is missing.
pub fn refuse_blocked(plan: &Plan) -> Result<(), Failure> {
    let mut complaints: Vec<&str> = plan
        .nodes
        .iter()
        .filter_map(|node| match &node.decision {
            Decision::Blocked(why) if !why.starts_with("it reads from") => Some(why.as_str()),
            _ => None,
        })
        .collect();
    complaints.dedup();
    if complaints.is_empty() { Ok(()) } else { Err(Failure::new(exit::USAGE, complaints.join("\n"))) }
}

fn is_hit(node: &Planned) -> bool {
    matches!(node.decision, Decision::Hit(_))
}

fn plan_line(world: &World<'_>, node: &Planned, width: usize) -> String {
    let (word, style, rest) = match &node.decision {
        Decision::Hit(record) => ("cached", "2", format!("{} {}", record.kind, record.artifact.short())),
        Decision::Remote(record) => ("shared", "2", format!("{} {}", record.kind, record.artifact.short())),
        Decision::Run(reasons) => ("run", "32", text::reasons(reasons)),
        Decision::Pending(reasons) => ("pending", "33", text::reasons(reasons)),
        Decision::Blocked(_) => ("blocked", "31;1", "a source is missing".to_owned()),
    };
    format!("{:<width$}  {}  {rest}", node.node, world.terminal.paint_result(style, &format!("{word:<7}")))
}

fn state_word(store: &Store, node: &Planned, decision: &Decision) -> Result<String, Failure> {
    let word = match (decision, node.key) {
        // Whoever makes it holds its lock.
        (Decision::Run(_), Some(key)) if store.try_lock_action(&node.stage, key)?.is_none() => "running",
        (Decision::Run(_), Some(key)) if store.has_work(&node.stage, key) => "to run (resumes)",
        (Decision::Run(_), _) => "to run",
        (Decision::Pending(_), _) => "pending",
        (Decision::Blocked(_), _) => "blocked: a source is missing",
        (Decision::Hit(_), _) => "cached",
        (Decision::Remote(_), _) => "in the shared store",
    };
    Ok(word.to_owned())
}

fn to_json(pipeline: &Pipeline, plan: &Plan) -> Value {
    let nodes: Vec<Value> = plan.nodes.iter().map(|node| node_json(pipeline, node)).collect();
    json!({"pipeline": pipeline.name, "nodes": nodes})
}

fn node_json(pipeline: &Pipeline, node: &Planned) -> Value {
    let upstream: Vec<&str> = pipeline.node(&node.node).map(|n| n.upstream().collect()).unwrap_or_default();
    let (decision, reasons, artifact): (&str, &[Reason], Value) = match &node.decision {
        Decision::Hit(record) => ("hit", &[], json!({"kind": record.kind, "digest": record.artifact})),
        Decision::Remote(record) => ("remote", &[], json!({"kind": record.kind, "digest": record.artifact})),
        Decision::Run(reasons) => ("run", reasons, Value::Null),
        Decision::Pending(reasons) => ("pending", reasons, Value::Null),
        Decision::Blocked(why) => {
            return json!({
                "node": node.node, "stage": node.stage, "decision": "blocked", "why": why, "upstream": upstream,
            });
        }
    };
    json!({
        "node": node.node, "stage": node.stage, "decision": decision, "key": node.key, "reasons": reasons,
        "artifact": artifact, "upstream": upstream,
    })
}

fn to_dot(pipeline: &Pipeline, plan: &Plan) -> String {
    let mut lines =
        vec![format!("digraph \"{}\" {{", pipeline.name), "  rankdir=LR; node [shape=box];".to_owned()];
    for node in &plan.nodes {
        let color = match node.decision {
            Decision::Hit(_) => "gray80",
            Decision::Remote(_) => "lightblue",
            Decision::Run(_) => "palegreen",
            Decision::Pending(_) => "lightgoldenrod",
            Decision::Blocked(_) => "salmon",
        };
        lines.push(format!("  \"{}\" [style=filled, fillcolor={color}];", node.node));
        for (slot, wire) in pipeline.node(&node.node).map(|n| &n.inputs).into_iter().flatten() {
            let from = match wire {
                Wire::Node(name) => name.clone(),
                Wire::Source(_) => wire.to_string(),
            };
            lines.push(format!("  \"{from}\" -> \"{}\" [label=\"{slot}\"];", node.node));
        }
    }
    lines.push("}".to_owned());
    lines.join("\n")
}

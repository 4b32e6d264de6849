//! `plmicd runs`, `show` and `logs`: what past runs did.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use comfy_table::{Table, presets};
use plmicd_artifact::{ArtifactRef, Store};
use plmicd_data::kind;
use plmicd_pipeline::Event;
use plmicd_pipeline::run_record::{self, NodeRecord, Outcome, RunRecord};
use plmicd_report::file;
use serde_json::Value;

use crate::cli::{LogsArgs, RunsArgs, ShowArgs, TableFormat};
use crate::commands::{World, report_page};
use crate::failure::{Failure, exit};
use crate::ui::text;

/// A table without lines, for the terminal and for scripts alike.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

/// Past runs, newest last.
pub fn list(world: &World<'_>, args: &RunsArgs) -> Result<(), Failure> {
    let store = world.store_to_read()?;
    let ids = run_record::list(&store)?;
    let mut records: Vec<RunRecord> = Vec::new();
    for id in ids.iter().rev() {
        match run_record::read(&store, id) {
            Ok(record) if args.pipeline.as_ref().is_none_or(|name| *name == record.pipeline) => {
                records.push(record)
            }
            Ok(_) => {}
            Err(error) => world.terminal.warn(&error.to_string()),
        }
        if records.len() >= args.last {
            break;
        }
    }
    records.reverse();
    if world.terminal.json {
        world.terminal.print_json(&records);
        return Ok(());
    }
    let mut table = table(&["run", "pipeline", "ran", "cached", "result"]);
    for record in &records {
        let count = |outcome| record.nodes.values().filter(|n| n.outcome == outcome).count();
        table.add_row([
            record.id.clone(),
            record.pipeline.clone(),
            count(Outcome::Done).to_string(),
            count(Outcome::Cached).to_string(),
            result(record).to_owned(),
        ]);
    }
    world.terminal.print(&table.to_string());
    Ok(())
}

fn result(record: &RunRecord) -> &'static str {
    let any = |outcome| record.nodes.values().any(|node| node.outcome == outcome);
    match () {
        () if any(Outcome::Failed) => "failed",
        () if any(Outcome::Interrupted) => "stopped",
        () if record.finished.is_none() => "unfinished",
        () => "ok",
    }
}

/// One run.
pub fn show(world: &World<'_>, args: &ShowArgs) -> Result<(), Failure> {
    let store = world.store_to_read()?;
    if let Some(format) = args.format {
        let file = match format {
            TableFormat::Md => file::MARKDOWN,
            TableFormat::Csv => file::CSV,
            TableFormat::Latex => file::LATEX,
            TableFormat::Json => file::JSON,
        };
        let table = fs_err::read_to_string(artifact_of(&store, &args.run, kind::REPORT)?.join(file))?;
        world.terminal.print(table.trim_end());
        return Ok(());
    }
    let record = find(&store, &args.run)?;
    if world.terminal.json {
        world.terminal.print_json(&record);
        return Ok(());
    }
    let mut lines = vec![
        format!("run       {}", record.id),
        format!("pipeline  {}", record.pipeline),
        format!("file      {}", record.file.as_ref().map_or("built in", |file| file.as_str())),
        format!("started   {}", record.started),
        format!("finished  {}", record.finished.as_deref().unwrap_or("-")),
    ];
    lines.extend(record.overrides.iter().map(|value| format!("set       {value}")));
    let mut table = table(&["stage", "outcome", "artifact", "time", "why"]);
    for (name, node) in in_order(&record) {
        table.add_row([
            name.to_owned(),
            word(node.outcome).to_owned(),
            node.artifact
                .as_ref()
                .map_or(String::new(), |(kind, digest)| format!("{kind} {}", digest.short())),
            match node.outcome {
                Outcome::Cached | Outcome::NotRun => String::new(),
                Outcome::Done | Outcome::Failed | Outcome::Interrupted => text::duration(node.seconds),
            },
            text::reasons(&node.reasons),
        ]);
    }
    lines.push(String::new());
    lines.push(table.to_string());
    for (name, node) in &record.nodes {
        if let Some(error) = &node.error {
            lines.push(format!("\n{name}: {error}"));
        }
    }
    world.terminal.print(&lines.join("\n"));
    print_results(world, &store, &record);
    Ok(())
}

/// Nodes in the order of the pipeline, as far as the record tells.
fn in_order(record: &RunRecord) -> Vec<(&str, &NodeRecord)> {
    let stages = record.resolved.get("stages").and_then(|s| s.as_object());
    let mut names: Vec<&str> = stages.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    names.extend(
        record.nodes.keys().map(String::as_str).filter(|name| stages.is_none_or(|s| !s.contains_key(*name))),
    );
    names.into_iter().filter_map(|name| Some((name, record.nodes.get(name)?))).collect()
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Cached => "cached",
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "stopped",
        Outcome::NotRun => "not run",
    }
}

/// The metrics table and the place of the report of a run that made one. Of a sweep that has a table of its own, that
/// one; the reports of its cells are named in one line.
pub fn print_results(world: &World<'_>, store: &Store, record: &RunRecord) {
    let reports: Vec<_> = record
        .nodes
        .iter()
        .filter_map(|(name, node)| Some((name, node.artifact.as_ref()?)))
        .filter(|(_, (artifact_kind, _))| artifact_kind == kind::REPORT)
        .collect();
    let collectors = reports.iter().filter(|(name, _)| collects(record, name)).count();
    for (name, (artifact_kind, digest)) in &reports {
        if collectors > 0 && !collects(record, name) {
            continue;
        }
        let dir = store.object_dir(artifact_kind, *digest);
        if let Ok(text) = fs_err::read_to_string(dir.join(file::TEXT)) {
            world.terminal.print(&format!("\n{}", text.trim_end()));
        }
        let path = report_page::place(store, record, name).unwrap_or_else(|| dir.join(file::HTML));
        world.terminal.print(&format!("\nreport: {path}"));
    }
    if collectors > 0 && reports.len() > collectors {
        let cells = reports.len() - collectors;
        world.terminal.print(&format!("It links to the reports of {cells} cells."));
    }
}

/// Whether a node reads from many cells of a sweep.
fn collects(record: &RunRecord, node: &str) -> bool {
    let inputs = record.resolved.pointer("/stages").and_then(|stages| stages.get(node)?.get("inputs"));
    inputs.and_then(Value::as_object).is_some_and(|inputs| inputs.keys().any(|slot| slot.contains('/')))
}

/// What the unfinished runs of a pipeline last said of their nodes, on whatever machine they run: `training, 120 of
/// 3,000 (4.0 s ago)`. A node that has been silent for long is not mentioned: its process is gone.
pub fn running(store: &Store, pipeline: &str) -> Result<BTreeMap<String, String>, Failure> {
    const RUNS: usize = 500;
    const SILENT_SECONDS: f64 = 600.0;
    let now = jiff::Timestamp::now();
    let mut found = BTreeMap::new();
    for id in run_record::list(store)?.iter().rev().take(RUNS) {
        let Ok(record) = run_record::read(store, id) else { continue };
        if record.pipeline != pipeline || record.finished.is_some() {
            continue;
        }
        for event in run_record::last_events(store, id)? {
            let age =
                event.time.parse::<jiff::Timestamp>().map(|time| now.duration_since(time).as_secs_f64());
            let Ok(age) = age else { continue };
            let what = match &event.event {
                Event::Finished { .. } | Event::Failed { .. } | Event::Interrupted => continue,
                Event::Progress { phase, done, total: Some(total), .. } => {
                    format!("{phase}, {} of {}", text::count(*done), text::count(*total))
                }
                Event::Progress { phase, done, .. } => format!("{phase}, {}", text::count(*done)),
                _ => "started".to_owned(),
            };
            if age < SILENT_SECONDS {
                let line = format!("{what} ({} ago)", text::duration(age.max(0.0)));
                found.entry(event.node).or_insert(line);
            }
        }
    }
    Ok(found)
}

/// The log of a node of a run.
pub fn logs(world: &World<'_>, args: &LogsArgs) -> Result<(), Failure> {
    let store = world.store_to_read()?;
    let record = find(&store, &args.run)?;
    let path = store.runs_dir().join(&record.id).join("logs").join(format!("{}.log", args.node));
    if !record.nodes.contains_key(&args.node) && !path.is_file() {
        let names: Vec<&str> = record.nodes.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!(
            "run {} has no stage `{}`\nhint: {}",
            record.id,
            args.node,
            names.join(", ")
        )));
    }
    let mut lines: Vec<String> = Vec::new();
    for event in run_record::events_of(&store, &record.id, &args.node)? {
        let what = match &event.event {
            Event::Started { .. } => "started".to_owned(),
            Event::Waiting => "waits: another process is making this output".to_owned(),
            Event::Note { message } => message.clone(),
            Event::Warning { message } => format!("warning: {message}"),
            Event::Failed { message } => format!("failed: {message}"),
            Event::Interrupted => "stopped; it can be resumed".to_owned(),
            Event::Finished { kind, artifact, cached, .. } => {
                let how = if *cached { "cached" } else { "done" };
                format!("{how}: {kind} {}", artifact.short())
            }
            Event::Progress { .. } | Event::Metrics { .. } => continue,
        };
        lines.push(format!("{}  {what}", to_the_second(&event.time)));
    }
    // What native libraries printed, and the end of a child that could not tell why.
    let printed = if path.is_file() { fs_err::read(&path)? } else { Vec::new() };
    let printed = String::from_utf8_lossy(&printed);
    lines.extend(printed.lines().map(str::to_owned));
    if lines.is_empty() {
        world.terminal.say(&format!("`{}` did not run in {}: there is no log", args.node, record.id));
        return Ok(());
    }
    world.terminal.print(&lines.join("\n"));
    Ok(())
}

/// `2026-11-24T03:22:33.77310623Z` as `2026-11-24 03:22:33 UTC`.
pub fn to_the_second(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => time.to_owned(),
    }
}

/// The folder of the artifact of this kind that `RUN` or `RUN:STAGE` yielded; it has to be the only one.
pub fn artifact_of(store: &Store, name: &str, wanted: &str) -> Result<Utf8PathBuf, Failure> {
    let (run, node) = match name.split_once(':') {
        Some((run, node)) => (run, Some(node)),
        None => (name, None),
    };
    let record = find(store, run)?;
    let found: Vec<_> = record
        .nodes
        .iter()
        .filter(|(name, _)| node.is_none_or(|node| node == *name))
        .filter_map(|(name, node)| Some((name, node.artifact.as_ref()?)))
        .filter(|(_, (artifact_kind, _))| artifact_kind == wanted)
        .collect();
    match found.as_slice() {
        [(_, (artifact_kind, digest))] => Ok(store.object_dir(artifact_kind, *digest)),
        [] => Err(Failure::usage(match node {
            Some(node) => {
                format!("in run {} no stage `{node}` yielded an artifact of kind {wanted}", record.id)
            }
            None => format!("run {} yielded no artifact of kind {wanted}", record.id),
        })),
        several => {
            let names: Vec<String> = several.iter().map(|(name, _)| format!("{run}:{name}")).collect();
            let message = format!(
                "run {} has {} artifacts of kind {wanted}\nhint: {}",
                record.id,
                several.len(),
                names.join(", ")
            );
            Err(Failure::usage(message))
        }
    }
}

/// The run called `run`, or the last one.
pub fn find(store: &Store, run: &str) -> Result<RunRecord, Failure> {
    let ids = run_record::list(store)?;
    let id = match run {
        "last" => ids.last(),
        given => ids.iter().find(|id| *id == given),
    };
    match id {
        Some(id) => Ok(run_record::read(store, id)?),
        None if ids.is_empty() => Err(Failure::usage("nothing has been run with this store yet")),
        None => Err(Failure::usage(format!("no run is called `{run}`\nhint: plmicd runs lists them"))),
    }
}

/// Whether a run got to its end, and nothing of it was left undone.
fn ended_well(record: &RunRecord) -> bool {
    let well = |node: &NodeRecord| matches!(node.outcome, Outcome::Cached | Outcome::Done);
    record.finished.is_some() && record.nodes.values().all(well)
}

/// The artifacts of the last `keep` runs of every pipeline that ended well: roots of the collection. Those of runs since
/// then that did not end well are kept as well, uncounted: many of them must not push out the last good one. Tasks that
/// ran one node each count as one run together, as far back as none of them names a node twice.
///
/// # Errors
/// A record that cannot be read: what its run made would be collected.
pub fn recent_artifacts(store: &Store, keep: usize) -> Result<Vec<ArtifactRef>, Failure> {
    let mut counts = BTreeMap::<String, (usize, BTreeSet<String>)>::new();
    let mut roots = Vec::new();
    for id in run_record::list(store)?.iter().rev() {
        let record = match run_record::read(store, id) {
            Ok(record) => record,
            // Removed since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let hint = format!(
                    "to collect without what this run made, move {} out of the store",
                    store.runs_dir().join(id)
                );
                return Err(Failure::new(exit::INTERNAL, format!("{error}\nhint: {hint}")));
            }
        };
        let (count, tasks) = counts.entry(record.pipeline.clone()).or_default();
        let well = ended_well(&record);
        match &record.only {
            _ if !well => {}
            Some(node) if !tasks.is_empty() && !tasks.contains(node) => {
                tasks.insert(node.clone());
            }
            only => {
                *count += 1;
                *tasks = only.iter().cloned().collect();
            }
        }
        let recent = if well { *count <= keep } else { *count < keep };
        if !recent {
            continue;
        }
        for node in record.nodes.values() {
            if let Some((kind, digest)) = &node.artifact {
                roots.push(ArtifactRef { kind: kind.clone(), digest: *digest });
            }
        }
    }
    Ok(roots)
}

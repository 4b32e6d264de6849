//! `plmicd artifact …`: the store's caretaker.

use std::time::{Duration, SystemTime};

use plmicd_artifact::{ArtifactRef, GcOptions, Store};
use plmicd_pipeline::diagnostic::nearest;
use serde_json::json;

use crate::cli::ArtifactCommand;
use crate::commands::{World, runs, shared};
use crate::failure::{Failure, exit};
use crate::ui::text;

/// Runs one caretaker command.
pub fn artifact(world: &World<'_>, command: &ArtifactCommand) -> Result<(), Failure> {
    let only_reads = match command {
        ArtifactCommand::Ls { .. }
        | ArtifactCommand::Show { .. }
        | ArtifactCommand::Cat { .. }
        | ArtifactCommand::Diff { .. } => true,
        ArtifactCommand::Verify { quarantine, .. } => !quarantine,
        _ => false,
    };
    let store = if only_reads { world.store_to_read()? } else { world.store()? };
    match command {
        ArtifactCommand::Ls { kind } => ls(world, &store, kind.as_deref()),
        ArtifactCommand::Show { artifact } => show(world, &store, artifact),
        ArtifactCommand::Cat { artifact, file, allow_restricted } => {
            cat(&store, artifact, file, *allow_restricted)
        }
        ArtifactCommand::Diff { old, new } => diff(world, &store, old, new),
        ArtifactCommand::Verify { artifact, quarantine } => {
            verify(world, &store, artifact.as_deref(), *quarantine)
        }
        ArtifactCommand::Pin { artifact, name } => {
            let found = store.resolve(artifact)?;
            store.pin(name, &found.kind, found.digest)?;
            world.terminal.say(&format!("pinned {} {} as {name}", found.kind, found.digest.short()));
            Ok(())
        }
        ArtifactCommand::Unpin { name } => {
            if !store.unpin(name)? {
                return Err(no_pin(&store, name));
            }
            world.terminal.say(&format!("removed the pin {name}"));
            Ok(())
        }
        ArtifactCommand::Rm { artifact } => {
            let found = store.resolve(artifact)?;
            let freed = store.remove(&found)?;
            world.terminal.say(&format!(
                "removed {} {}: {}",
                found.kind,
                found.digest.short(),
                text::bytes(freed)
            ));
            Ok(())
        }
        ArtifactCommand::Push { artifacts, run, all, allow_restricted, again } => {
            let wanted = match (run, all) {
                (Some(run), _) => shared::Wanted::Run(run),
                (None, true) => shared::Wanted::All,
                (None, false) => shared::Wanted::Named(artifacts),
            };
            shared::push(world, &store, &wanted, *allow_restricted, *again)
        }
        ArtifactCommand::Pull { artifacts, all } => {
            let wanted = if *all { shared::Wanted::All } else { shared::Wanted::Named(artifacts) };
            shared::pull(world, &store, &wanted)
        }
        ArtifactCommand::Gc { keep_runs, grace, dry_run } => gc(world, &store, *keep_runs, *grace, *dry_run),
    }
}

/// The error that names the nearest pin, or all of them where none is near.
fn no_pin(store: &Store, name: &str) -> Failure {
    // A damaged pin is no reason not to say that this one is not there.
    let pins = store.pins().unwrap_or_default();
    let names: Vec<&str> = pins.iter().map(|pin| pin.name.as_str()).collect();
    let hint = match nearest(name, &names) {
        Some(best) => format!("\nhint: did you mean `{best}`?"),
        None if names.is_empty() => String::new(),
        None => format!("\nhint: the pins are: {}", names.join(", ")),
    };
    Failure::usage(format!("no pin `{name}`{hint}"))
}

fn ls(world: &World<'_>, store: &Store, kind: Option<&str>) -> Result<(), Failure> {
    let mut all = store.list()?;
    all.retain(|artifact| kind.is_none_or(|kind| artifact.kind == kind));
    let pins = store.pins()?;
    if world.terminal.json {
        let values: Vec<_> = all
            .iter()
            .map(|a| {
                json!({"kind": a.kind, "digest": a.digest, "size": a.size, "files": a.files, "restricted": a.restricted})
            })
            .collect();
        world.terminal.print_json(&values);
        return Ok(());
    }
    let mut table = runs::table(&["kind", "digest", "size", "files", "restricted", "pins"]);
    for artifact in &all {
        let names: Vec<&str> = pins
            .iter()
            .filter(|pin| pin.artifact.digest == artifact.digest)
            .map(|pin| pin.name.as_str())
            .collect();
        table.add_row([
            artifact.kind.clone(),
            artifact.digest.short(),
            text::bytes(artifact.size),
            artifact.files.to_string(),
            if artifact.restricted { "yes" } else { "" }.to_owned(),
            names.join(" "),
        ]);
    }
    world.terminal.print(&table.to_string());
    let total: u64 = all.iter().map(|artifact| artifact.size).sum();
    world.terminal.say(&format!("{} artifacts, {}", all.len(), text::bytes(total)));
    Ok(())
}

fn show(world: &World<'_>, store: &Store, name: &str) -> Result<(), Failure> {
    let found = store.resolve(name)?;
    let manifest = store.manifest(&found.kind, found.digest)?;
    let actions = makers(store, &found)?;
    if world.terminal.json {
        let files: Vec<_> = manifest
            .files
            .iter()
            .map(|(name, entry)| json!({"name": name, "size": entry.size, "blake3": entry.blake3}))
            .collect();
        let made: Vec<_> = actions
            .iter()
            .map(|a| json!({"stage": a.stage, "key": a.key, "fingerprint": a.fingerprint, "provenance": a.provenance}))
            .collect();
        world.terminal.print_json(&json!({
            "kind": found.kind, "digest": found.digest, "restricted": manifest.restricted, "files": files,
            "made_by": made,
        }));
        return Ok(());
    }
    let mut lines = vec![
        format!("kind        {}", found.kind),
        format!("digest      {}", found.digest),
        format!("folder      {}", store.object_dir(&found.kind, found.digest)),
        format!("restricted  {}", if manifest.restricted { "yes" } else { "no" }),
    ];
    for action in &actions {
        lines.push(format!("made by     {} (key {})", action.stage, action.key.short()));
        if let Some(inputs) = action.fingerprint.get("inputs").and_then(|i| i.as_object()) {
            lines.extend(inputs.iter().map(|(slot, digest)| {
                format!("  input {slot}: {}", digest.as_str().and_then(|d| d.get(..12)).unwrap_or("?"))
            }));
        }
    }
    let mut table = runs::table(&["file", "size", "blake3"]);
    for (name, entry) in &manifest.files {
        table.add_row([name.clone(), text::bytes(entry.size), entry.blake3.short()]);
    }
    lines.push(String::new());
    lines.push(table.to_string());
    world.terminal.print(&lines.join("\n"));
    Ok(())
}

/// The action records that name this artifact.
fn makers(store: &Store, artifact: &ArtifactRef) -> Result<Vec<plmicd_artifact::ActionRecord>, Failure> {
    let mut found = Vec::new();
    for stage in store.stages()? {
        found.extend(store.actions_of_stage(&stage)?.into_iter().filter(|a| a.artifact == artifact.digest));
    }
    Ok(found)
}

fn cat(store: &Store, name: &str, file: &str, allow_restricted: bool) -> Result<(), Failure> {
    let found = store.resolve(name)?;
    let manifest = store.manifest(&found.kind, found.digest)?;
    if !manifest.files.contains_key(file) {
        let names: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("the artifact has no file `{file}`\nhint: {}", names.join(", "))));
    }
    if manifest.restricted && !allow_restricted {
        return Err(Failure::usage(
            "this artifact derives from data under a use agreement\n\
             hint: --allow-restricted prints it; see that nobody else reads along",
        ));
    }
    let mut source = fs_err::File::open(store.object_dir(&found.kind, found.digest).join(file))?;
    match std::io::copy(&mut source, &mut std::io::stdout().lock()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn diff(world: &World<'_>, store: &Store, old: &str, new: &str) -> Result<(), Failure> {
    let (old, new) = (store.resolve(old)?, store.resolve(new)?);
    let mut lines = Vec::new();
    if let (Some(before), Some(after)) = (makers(store, &old)?.pop(), makers(store, &new)?.pop()) {
        let parsed =
            |action: &plmicd_artifact::ActionRecord| serde_json::from_value(action.fingerprint.clone());
        if let (Ok(a), Ok(b)) = (parsed(&before), parsed(&after)) {
            let config = |action: &plmicd_artifact::ActionRecord| {
                action.provenance.get("config").cloned().unwrap_or_default()
            };
            let changes =
                plmicd_pipeline::fingerprint::difference(&a, &config(&before), &b, &config(&after), &|_| {
                    Some("second artifact".to_owned())
                });
            lines.extend(changes.iter().map(text::reason));
        }
    }
    let (before, after) = (store.manifest(&old.kind, old.digest)?, store.manifest(&new.kind, new.digest)?);
    let mut names: Vec<&String> = before.files.keys().chain(after.files.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        match (before.files.get(name), after.files.get(name)) {
            (Some(a), Some(b)) if a.blake3 != b.blake3 => {
                lines.push(format!("file {name}: {} -> {}", text::bytes(a.size), text::bytes(b.size)));
            }
            (Some(_), None) => lines.push(format!("file {name}: only in the first")),
            (None, Some(_)) => lines.push(format!("file {name}: only in the second")),
            _ => {}
        }
    }
    if lines.is_empty() {
        lines.push("no difference".to_owned());
    }
    world.terminal.print(&lines.join("\n"));
    Ok(())
}

fn verify(world: &World<'_>, store: &Store, name: Option<&str>, quarantine: bool) -> Result<(), Failure> {
    let which = name.map(|name| store.resolve(name)).transpose()?;
    let mut last = std::time::Instant::now();
    let report = store.verify(which.as_ref(), &mut |done, total| {
        if last.elapsed() >= Duration::from_secs(5) {
            last = std::time::Instant::now();
            world.terminal.say(&format!("verified {} of {}", text::bytes(done), text::bytes(total)));
        }
    })?;
    let summary = format!("{} artifacts, {} read", report.checked, text::bytes(report.bytes));
    if report.problems.is_empty() {
        world.terminal.print(&format!("{summary}: all as recorded"));
        return Ok(());
    }
    let mut lines = Vec::new();
    for problem in &report.problems {
        let file = if problem.file.is_empty() { String::new() } else { format!(" {}", problem.file) };
        let artifact = &problem.artifact;
        lines.push(format!("{} {}{file}: {}", artifact.kind, artifact.digest.short(), problem.what));
    }
    // Before anything is moved: should that fail, what was found is not lost.
    world.terminal.print(&lines.join("\n"));
    let damaged = report.damaged();
    for artifact in damaged.iter().filter(|_| quarantine) {
        store.quarantine(artifact)?;
        world.terminal.print(&format!("moved aside: {} {}", artifact.kind, artifact.digest.short()));
    }
    let hint = if quarantine || damaged.is_empty() {
        ""
    } else {
        "\nhint: --quarantine moves what is damaged aside, so that a run makes it again"
    };
    let problems = match report.problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    Err(Failure::new(exit::VERIFICATION, format!("{summary}, {problems}{hint}")))
}

fn gc(world: &World<'_>, store: &Store, keep_runs: usize, grace: u64, dry_run: bool) -> Result<(), Failure> {
    let options = GcOptions {
        keep: runs::recent_artifacts(store, keep_runs)?,
        grace: Duration::from_secs(grace.saturating_mul(3600)),
        now: SystemTime::now(),
        dry_run,
    };
    let report = store.gc(&options)?;
    let mut table = runs::table(&["kind", "artifacts", "size"]);
    let mut total = 0;
    let leftovers = [("(leftovers of killed runs)", &report.temporary), ("(scratch folders)", &report.work)];
    let rows = report.removed.iter().map(|(kind, tally)| (kind.as_str(), tally)).chain(leftovers);
    for (kind, tally) in rows.filter(|(_, tally)| tally.count > 0) {
        total += tally.bytes;
        table.add_row([kind.to_owned(), tally.count.to_string(), text::bytes(tally.bytes)]);
    }
    if total > 0 {
        world.terminal.print(&table.to_string());
    }
    let verb = if dry_run { "would free" } else { "freed" };
    world.terminal.print(&format!("{verb} {}", text::bytes(total)));
    Ok(())
}

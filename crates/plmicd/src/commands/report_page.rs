//! The report page of a run: the artifact's page with what only the run knows, kept in the run's folder.

use camino::Utf8PathBuf;
use plmicd_artifact::{ActionRecord, Store};
use plmicd_data::kind;
use plmicd_pipeline::pipeline::Pipeline;
use plmicd_pipeline::plan::{Decision, Selection, plan};
use plmicd_pipeline::run_record::{self, Outcome, RunFolder, RunRecord};
use plmicd_pipeline::source::Sources;
use plmicd_report::{MadeBy, Provenance, Setting, file, with_provenance};
use serde_json::Value;

use super::config::flatten;
use super::runs::to_the_second;
use crate::commands::World;
use crate::failure::Failure;
use crate::ui::text;

/// How many runs to look back for a page.
const RUNS: usize = 200;

/// Where the page of a report node lies: in the folder of this run, or of the last one before it that has a page of the
/// same report.
pub fn place(store: &Store, record: &RunRecord, node: &str) -> Option<Utf8PathBuf> {
    let page = |id: &str| Some(store.runs_dir().join(id).join(page_name(node))).filter(|page| page.is_file());
    page(&record.id).or_else(|| {
        let wanted = &record.nodes.get(node)?.artifact;
        let ids = run_record::list(store).ok()?;
        let before = ids.iter().rev().skip_while(|id| **id != record.id).skip(1).take(RUNS);
        before
            .filter_map(|id| Some((id, run_record::read(store, id).ok()?)))
            .filter(|(_, other)| other.pipeline == record.pipeline)
            .filter(|(_, other)| other.nodes.get(node).is_some_and(|node| node.artifact == *wanted))
            .find_map(|(id, _)| page(id))
    })
}

fn page_name(node: &str) -> String {
    format!("{node}.html")
}

/// Writes the pages of the reports that this run made, and of those it found in the store without a page of theirs (of
/// a sweep's cells only the former).
pub fn write(
    world: &World<'_>,
    pipeline: &Pipeline,
    store: &Store,
    sources: &Sources<'_>,
    folder: &RunFolder,
) -> Result<(), Failure> {
    for (name, node) in &folder.record.nodes {
        let wanted = match node.outcome {
            Outcome::Done => true,
            Outcome::Cached => {
                (pipeline.sweep.is_none() || collects(pipeline, name))
                    && place(store, &folder.record, name).is_none()
            }
            Outcome::Failed | Outcome::Interrupted | Outcome::NotRun => false,
        };
        match &node.artifact {
            Some((artifact_kind, digest)) if wanted && artifact_kind == kind::REPORT => {
                let page = store.object_dir(artifact_kind, *digest).join(file::HTML);
                let page = fs_err::read_to_string(page)?;
                let known = provenance(world, pipeline, store, sources, &folder.record, name)?;
                folder.write(&page_name(name), with_provenance(&page, &known).as_bytes())?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is known of the nodes a report comes from. A node whose record is gone is left out.
fn provenance(
    world: &World<'_>,
    pipeline: &Pipeline,
    store: &Store,
    sources: &Sources<'_>,
    record: &RunRecord,
    report: &str,
) -> Result<Provenance, Failure> {
    let selection = Selection { until: Some(report.to_owned()), ..Selection::default() };
    let planned = plan(pipeline, &selection, store, &world.registry, sources)?;
    let mut facts = vec![
        ("Program".to_owned(), record.program.clone()),
        ("Pipeline".to_owned(), record.pipeline.clone()),
        ("Run".to_owned(), record.id.clone()),
        ("Started".to_owned(), record.started.clone()),
    ];
    facts.extend(record.finished.clone().map(|time| ("Finished".to_owned(), time)));
    let links = links(pipeline, store, record, report)?;
    let mut known = Provenance { command: command(record), facts, links, ..Provenance::default() };
    for planned in &planned.nodes {
        let Decision::Hit(made) = &planned.decision else { continue };
        known.stages.push(made_by(&planned.node, made));
        let Some(node) = pipeline.node(&planned.node) else { continue };
        flatten("", &node.config.full, &mut |path, value| {
            let place = pipeline.config_place(&node.name, path).unwrap_or_else(|| "default".to_owned());
            known.settings.push(Setting {
                node: node.name.clone(),
                name: path.to_owned(),
                value: value.to_string(),
                place,
            });
        });
    }
    Ok(known)
}

/// Where the reports of the cells lie that a collecting node reads from, seen from the run's folder: this run's own
/// pages, else those of the artifacts.
fn links(
    pipeline: &Pipeline,
    store: &Store,
    record: &RunRecord,
    report: &str,
) -> Result<Vec<(String, String)>, Failure> {
    let collects =
        pipeline.node(report).is_some_and(|node| node.inputs.keys().any(|slot| slot.contains('/')));
    let (Some(sweep), true) = (&pipeline.sweep, collects) else { return Ok(Vec::new()) };
    let mut links = Vec::new();
    for cell in &sweep.cells {
        for node in cell.nodes.values() {
            let Some(kept) = record.nodes.get(node) else { continue };
            let Some((artifact_kind, digest)) = &kept.artifact else { continue };
            if artifact_kind != kind::REPORT || node == report {
                continue;
            }
            let address = match kept.outcome {
                Outcome::Done => page_name(node),
                _ => {
                    let page = store.object_dir(artifact_kind, *digest).join(file::HTML);
                    let inside =
                        page.strip_prefix(store.root()).map_err(|e| Failure::usage(e.to_string()))?;
                    format!("../../{inside}")
                }
            };
            links.push((cell.cell.name(), address));
        }
    }
    Ok(links)
}

/// Whether a node reads from many cells of a sweep.
fn collects(pipeline: &Pipeline, node: &str) -> bool {
    pipeline.node(node).is_some_and(|node| node.inputs.keys().any(|slot| slot.contains('/')))
}

/// The command line that makes the results again, as a shell reads it.
fn command(record: &RunRecord) -> String {
    let mut words = vec!["plmicd".to_owned(), "run".to_owned()];
    words.extend(record.file.as_ref().map(|file| shell_word(file.as_str())));
    words.extend(record.overrides.iter().map(|value| format!("--set {}", shell_word(value))));
    words.join(" ")
}

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn made_by(node: &str, made: &ActionRecord) -> MadeBy {
    let fact = |name: &str| made.provenance.get(name);
    let words = |name: &str| fact(name).and_then(Value::as_str).map(str::to_owned);
    let inputs = fact("inputs").and_then(Value::as_object).into_iter().flatten().map(|(slot, input)| {
        let word = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (slot.clone(), word("from"), word("digest"))
    });
    let threads = fact("threads").and_then(Value::as_u64).map(|threads| match threads {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    });
    let memory = fact("memory").and_then(Value::as_u64).map(text::bytes);
    let commit = words("commit").map(|commit| format!("commit {}", commit.get(..12).unwrap_or(&commit)));
    let gpus = fact("gpus").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let machine: Vec<String> = [words("cpu"), threads, memory]
        .into_iter()
        .flatten()
        .chain(gpus.map(str::to_owned))
        .chain([words("system"), words("libtorch"), words("program"), commit].into_iter().flatten())
        .collect();
    MadeBy {
        name: node.to_owned(),
        stage: made.stage.clone(),
        kind: made.kind.clone(),
        digest: made.artifact.to_string(),
        inputs: inputs.collect(),
        started: words("started").map_or_else(String::new, |time| to_the_second(&time)),
        took: fact("seconds").and_then(Value::as_f64).map(text::duration).unwrap_or_default(),
        machine: machine.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(shell_word("pipelines/demo.toml"), "pipelines/demo.toml");
        assert_eq!(shell_word("a = 1"), "'a = 1'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(to_the_second("2026-11-24T03:22:33.77310623Z"), "2026-11-24 03:22:33 UTC");
        assert_eq!(to_the_second("yesterday"), "yesterday");
    }
}

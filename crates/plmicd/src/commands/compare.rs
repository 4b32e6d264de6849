//! `plmicd compare`: do two evaluations on the same notes differ by more than chance?

use camino::Utf8PathBuf;
use plmicd_artifact::Store;
use plmicd_data::{LabelSpace, NoteOutcomes, Split, kind};
use plmicd_metrics::{Comparison, NoteTable, compare as randomise};
use serde_json::json;

use crate::cli::CompareArgs;
use crate::commands::{World, runs};
use crate::failure::{Failure, chain, exit};

/// Differences below this are marked, as the paper does.
const LEVEL: f64 = 0.05;

/// Compares two evaluations, note by note.
pub fn compare(world: &World<'_>, args: &CompareArgs) -> Result<(), Failure> {
    let store = world.store_to_read()?;
    let (first, second) = (find(&store, &args.first)?, find(&store, &args.second)?);
    let (labels, outcomes) = read(&first, args.split)?;
    let (other_labels, other) = read(&second, args.split)?;
    if let Some(index) = labels.first_difference(&other_labels) {
        let message =
            format!("{} and {} have other label spaces: label {index} differs", args.first, args.second);
        return Err(Failure::usage(message));
    }
    let other = other
        .in_order_of(&outcomes)
        .map_err(|why| Failure::usage(format!("{} and {}: {why}", args.second, args.first)))?;
    let table = |found: &NoteOutcomes| {
        NoteTable::from_lists(labels.len(), &found.labels, &found.predicted, &found.ranks)
            .map_err(|error| Failure::new(exit::STAGE, error.to_string()))
    };
    let found = randomise(&table(&outcomes)?, &table(&other)?, &args.k, args.trials as usize, args.seed);
    if world.terminal.json {
        let rows: Vec<_> = found
            .iter()
            .map(|c| json!({"metric": c.metric, "first": c.first, "second": c.second, "p": c.p_value}))
            .collect();
        world.terminal.print_json(&json!({
            "split": args.split, "notes": outcomes.note_ids.len(), "trials": args.trials, "metrics": rows,
        }));
        return Ok(());
    }
    world.terminal.print(&table_of(&found));
    world.terminal.say(&format!(
        "{} notes of {}; paired approximate randomisation with {} trials; * p < {LEVEL}",
        outcomes.note_ids.len(),
        args.split,
        args.trials
    ));
    Ok(())
}

fn table_of(found: &[Comparison]) -> String {
    let mut table = runs::table(&["metric", "first", "second", "difference", "p", ""]);
    for row in found {
        table.add_row([
            row.metric.clone(),
            format!("{:.4}", row.first),
            format!("{:.4}", row.second),
            format!("{:+.4}", row.second - row.first),
            format!("{:.4}", row.p_value),
            if row.p_value < LEVEL { "*" } else { "" }.to_owned(),
        ]);
    }
    table.to_string()
}

fn read(dir: &Utf8PathBuf, split: Split) -> Result<(LabelSpace, NoteOutcomes), Failure> {
    let failed = |error: plmicd_data::DataError| Failure::new(exit::USAGE, chain(&error));
    let labels = LabelSpace::read(&dir.join(LabelSpace::FILE)).map_err(failed)?;
    let path = dir.join(NoteOutcomes::file_name(split));
    if !path.is_file() {
        return Err(Failure::usage(format!(
            "{dir} holds no outcomes of {split}: that split was not evaluated"
        )));
    }
    Ok((labels, NoteOutcomes::read(&path).map_err(failed)?))
}

/// The folder of an evaluation: of a run, of one of its stages, or by digest.
fn find(store: &Store, name: &str) -> Result<Utf8PathBuf, Failure> {
    let run = name.split_once(':').map_or(name, |(run, _)| run);
    if runs::find(store, run).is_ok() {
        return runs::artifact_of(store, name, kind::EVALUATION);
    }
    let found = store.resolve(name)?;
    if found.kind != kind::EVALUATION {
        let message = format!("{name} is of kind {}, expected {} or a run", found.kind, kind::EVALUATION);
        return Err(Failure::usage(message));
    }
    Ok(store.object_dir(&found.kind, found.digest))
}

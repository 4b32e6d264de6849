//! The HTML page. Everything the template inserts is escaped, but for the style sheet and the figures, which
//! are made here (the figures escape their own text).

use minijinja::{Environment, Value, context};
use plmicd_pipeline::StageError;
use serde::Serialize;

use crate::codes::Codes;
use crate::config::ReportConfig;
use crate::data_set::{self, Row, Table};
use crate::figures::{Figure, figures};
use crate::headline::{Headline, HeadlineRow, show, split_title};
use crate::privacy::thousands;
use crate::sources::Sources;

/// The name decides the escaping: `.html` escapes.
const TEMPLATE: &str = "report.html";

/// A number at the top of the page.
#[derive(Serialize)]
struct Tile {
    title: String,
    value: String,
    note: String,
}

/// Makes the page.
pub(crate) fn render(
    config: &ReportConfig,
    sources: &Sources,
    headline: &Headline,
) -> Result<String, StageError> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template(TEMPLATE, include_str!("../templates/report.html")).map_err(broken)?;
    let figures: Vec<Value> = figures(sources.training.as_ref(), &sources.thresholds)
        .into_iter()
        .map(|Figure { svg, caption }| context! { svg => Value::from_safe_string(svg), caption })
        .collect();
    let per_code_split = sources.evaluation.splits.last_key_value().map(|(split, _)| split_title(*split));
    let page = environment
        .get_template(TEMPLATE)
        .map_err(broken)?
        .render(context! {
            style => Value::from_safe_string(include_str!("../templates/style.css").to_owned()),
            title => headline.title,
            restricted => sources.privacy.restricted,
            tiles => tiles(headline),
            metrics => table("Metrics", headline, &headline.rows, false),
            all_metrics => table("All metrics", headline, &headline.all_rows, true),
            at_half => at_half(sources),
            baseline => sources.evaluation.baseline,
            figures,
            data_set => data_set::tables(
                sources.privacy,
                sources.corpus.as_ref(),
                sources.tokens.as_ref(),
            ),
            codes => Codes::of(config, sources.privacy, &sources.per_code),
            per_code_split,
            training => training(sources),
            inputs => sources.inputs,
        })
        .map_err(broken)?;
    Ok(page)
}

fn table(caption: &str, headline: &Headline, rows: &[HeadlineRow], with_names: bool) -> Table {
    let title = |row: &HeadlineRow| if with_names { row.name.clone() } else { row.title.clone() };
    Table {
        caption: caption.to_owned(),
        columns: headline.columns.iter().map(|column| column.title.clone()).collect(),
        rows: rows
            .iter()
            .map(|row| Row {
                title: title(row),
                cells: row.values.iter().map(|value| show(&row.name, *value)).collect(),
            })
            .collect(),
    }
}

/// The figures of the last split (test, as a rule) that most readers look for first.
fn tiles(headline: &Headline) -> Vec<Tile> {
    let Some(at) = headline.columns.iter().rposition(|column| column.of == "model") else {
        return Vec::new();
    };
    let split = split_title(headline.columns[at].split);
    let baseline = headline.columns.iter().position(|column| column.of == "frequent_codes");
    let wanted = ["micro_f1", "macro_f1_present_labels", "micro_auc", "precision_at_8"];
    let tile = |name: &str| {
        let row = headline.rows.iter().find(|row| row.name == name)?;
        let note = match baseline.and_then(|at| row.values[at]) {
            Some(value) => format!("frequent codes: {}", show(name, Some(value))),
            None => String::new(),
        };
        let title = format!("{}, {}", row.title, split.to_lowercase());
        Some(Tile { title, value: show(name, row.values[at]), note })
    };
    wanted.into_iter().filter_map(tile).collect()
}

/// The metrics that depend on the threshold, at 0.5.
fn at_half(sources: &Sources) -> Table {
    let names = ["micro_f1", "micro_precision", "micro_recall", "macro_f1_caml", "macro_f1_all_labels"];
    let splits = &sources.evaluation.splits;
    let row = |name: &&str| Row {
        title: crate::headline::metric_title(name),
        cells: splits.values().map(|result| show(name, result.metrics_at_half.get(*name).copied())).collect(),
    };
    Table {
        caption: "At a threshold of 0.5".to_owned(),
        columns: splits.keys().map(|split| split_title(*split).to_owned()).collect(),
        rows: names.iter().map(row).collect(),
    }
}

/// Facts of the training run.
fn training(sources: &Sources) -> Option<Table> {
    let training = sources.training.as_ref()?;
    let ended = if training.stopped_early { " (stopped early)" } else { "" };
    let facts = [
        ("Trained parameters", thousands(training.parameters)),
        ("Epochs", format!("{}{ended}", training.epochs.len())),
        ("Epoch kept", training.best_epoch.to_string()),
        ("Optimizer steps", thousands(training.total_steps)),
        ("Seed", training.seed.to_string()),
    ];
    let rows = facts.map(|(title, cell)| Row { title: title.to_owned(), cells: vec![cell] });
    Some(Table { caption: "Training".to_owned(), columns: vec!["Value".to_owned()], rows: rows.into() })
}

fn broken(error: minijinja::Error) -> StageError {
    StageError::because("rendering the report", error)
}

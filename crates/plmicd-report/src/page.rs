//! The HTML page. Everything the template inserts is escaped, but for the style sheet, the scripts and the figures'
//! specifications, which are made here (the specifications escape their own text).

use std::collections::BTreeMap;

use minijinja::{Environment, Value, context};
use plmicd_data::SplitEvaluation;
use plmicd_pipeline::StageError;
use serde::Serialize;

use crate::codes::Codes;
use crate::config::ReportConfig;
use crate::data_set::{self, Row, Table};
use crate::figures::{Figure, figures, library};
use crate::headline::{Headline, HeadlineRow, show, show_with, split_title};
use crate::privacy::thousands;
use crate::published;
use crate::sources::Sources;

/// The templates. The names decide the escaping: `.html` escapes.
const TEMPLATES: [(&str, &str); 5] = [
    ("report.html", include_str!("../templates/report.html")),
    ("sweep.html", include_str!("../templates/sweep.html")),
    ("parts.html", include_str!("../templates/parts.html")),
    ("head.html", include_str!("../templates/head.html")),
    ("foot.html", include_str!("../templates/foot.html")),
];

/// Fills a template with what it shows, style, library and script added.
pub(crate) fn fill(template: &str, shown: Value) -> Result<String, StageError> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).map_err(broken)?;
    }
    let own = context! {
        style => Value::from_safe_string(include_str!("../templates/style.css").to_owned()),
        library => Value::from_safe_string(library()?.to_owned()),
        script => Value::from_safe_string(include_str!("../templates/figures.js").to_owned()),
    };
    let template = environment.get_template(template).map_err(broken)?;
    template.render(context! { ..shown, ..own }).map_err(broken)
}

/// A figure as the templates take it.
pub(crate) fn figure(figure: Figure) -> Value {
    context! {
        id => figure.id, title => figure.title, caption => figure.caption, table => figure.table,
        spec => Value::from_safe_string(figure.spec),
    }
}

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
    let last = sources.evaluation.splits.last_key_value();
    let named = last.map(|(split, result)| (split.as_str(), result));
    let figures = figures(sources.training.as_ref(), &sources.thresholds, named, sources.privacy);
    let figures: Vec<Value> = figures.into_iter().map(figure).collect();
    let per_code_split = last.map(|(split, _)| split_title(*split));
    let published = config.published.as_deref().and_then(published::find).map(|row| {
        context! { title => row.title, source => row.source, table => published::table(row, headline) }
    });
    fill(
        "report.html",
        context! {
            title => headline.title,
            restricted => sources.privacy.restricted,
            tiles => tiles(headline),
            metrics => table("Metrics", headline, &headline.rows, false),
            all_metrics => table("All metrics", headline, &headline.all_rows, true),
            at_half => at_half(sources),
            baseline => sources.evaluation.baseline,
            figures,
            published,
            parts => last.map_or_else(Vec::new, |(_, result)| parts(result)),
            resamples => sources.evaluation.resamples,
            data_set => data_set::tables(
                sources.privacy,
                sources.corpus.as_ref(),
                sources.tokens.as_ref(),
            ),
            codes => Codes::of(config, sources.privacy, &sources.per_code),
            per_code_split,
            training => training(sources),
            inputs => sources.inputs,
        },
    )
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
                cells: row
                    .values
                    .iter()
                    .zip(&row.intervals)
                    .map(|(value, interval)| show_with(&row.name, *value, *interval))
                    .collect(),
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
        let mut notes = Vec::new();
        notes.extend(row.intervals[at].map(|[low, high]| format!("{low:.3} to {high:.3}")));
        let other = baseline.and_then(|at| row.values[at]);
        notes.extend(other.map(|value| format!("frequent codes: {}", show(name, Some(value)))));
        let note = notes.join("; ");
        let title = format!("{}, {}", row.title, split.to_lowercase());
        Some(Tile { title, value: show(name, row.values[at]), note })
    };
    wanted.into_iter().filter_map(tile).collect()
}

/// The last split by kind of code and by level.
fn parts(result: &SplitEvaluation) -> Vec<Table> {
    let names = [
        "micro_f1",
        "micro_precision",
        "micro_recall",
        "macro_f1_caml",
        "macro_f1_all_labels",
        "macro_f1_present_labels",
    ];
    let table = |caption: &str, parts: &BTreeMap<String, BTreeMap<String, f64>>| Table {
        caption: caption.to_owned(),
        columns: parts.keys().map(|name| name.replace('_', " ")).collect(),
        rows: names
            .iter()
            .map(|name| Row {
                title: crate::headline::metric_title(name),
                cells: parts.values().map(|part| show(name, part.get(*name).copied())).collect(),
            })
            .collect(),
    };
    let tables = [
        ("Diagnoses and procedures", &result.systems),
        ("At the level of categories and chapters", &result.levels),
    ];
    let tables = tables.into_iter().filter(|(_, parts)| !parts.is_empty());
    tables.map(|(caption, parts)| table(caption, parts)).collect()
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

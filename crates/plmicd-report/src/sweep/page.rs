//! The HTML page of a sweep.

use minijinja::{Value, context};
use plmicd_pipeline::{StageContext, StageError};
use serde_json::json;

use super::config::SweepReportConfig;
use super::results::{Results, split_word};
use super::table::{Summary, SummaryRow};
use crate::data_set::{Row, Table};
use crate::figures::{self, Figure};
use crate::headline::{is_count, metric_title, show};
use crate::page;

/// Metrics with a figure of differences, at most.
const FIGURES: usize = 4;

/// Makes the page.
pub(crate) fn render(
    config: &SweepReportConfig,
    context: &StageContext<'_>,
    results: &Results,
    summary: &Summary,
) -> Result<String, StageError> {
    let inputs: Vec<[String; 3]> = context
        .inputs_of(super::INPUT)
        .chain(context.inputs_of(super::SHARDS))
        .map(|(member, input)| [member.to_owned(), input.kind.clone(), input.digest.to_string()])
        .collect();
    let remarks: Vec<String> = results
        .variants
        .iter()
        .filter_map(|variant| {
            let why = variant.not_compared.as_ref()?;
            Some(format!("“{}” is not compared with the baseline: {why}.", variant.title))
        })
        .collect();
    let remarks: Vec<String> = remarks.into_iter().chain(undefined(summary)).collect();
    let figures = differences(summary);
    let mut contents = vec![("results", "Results")];
    if !figures.is_empty() {
        contents.push(("differences", "Differences"));
    }
    contents.extend([("cells", "Every run"), ("inputs", "Made from")]);
    page::fill(
        "sweep.html",
        context! {
            title => config.title,
            contents,
            restricted => context.restricted(),
            split => split_word(config.split),
            results => summary.table(),
            replicated => results.replicated(),
            baseline => results.baseline.map(|at| results.variants[at].title.clone()),
            trials => config.trials,
            untested => untested(summary),
            remarks,
            published => summary.published(),
            source => config.published_source,
            figures => figures.into_iter().map(page::figure).collect::<Vec<Value>>(),
            cells => cells(config, results),
            inputs,
        },
    )
}

/// Every cell with its metrics.
fn cells(config: &SweepReportConfig, results: &Results) -> Table {
    let rows = results.variants.iter().flat_map(|variant| &variant.cells).map(|cell| {
        let mut cells = vec![cell.threshold.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))];
        cells.extend(config.metrics.iter().map(|name| show(name, cell.metrics.get(name).copied())));
        Row { title: cell.name.clone(), cells }
    });
    let mut columns = vec!["Threshold".to_owned()];
    columns.extend(config.metrics.iter().map(|name| metric_title(name)));
    Table { caption: "Cells of the sweep".to_owned(), columns, rows: rows.collect() }
}

/// Titles of the metrics of which no difference was tested.
fn untested(summary: &Summary) -> Vec<String> {
    let tested =
        |at: usize| summary.variants.iter().any(|row| row.values[at].is_some_and(|value| value.p.is_some()));
    let untested = summary.metrics.iter().enumerate().filter(|(at, _)| !tested(*at));
    untested.map(|(_, metric)| metric_title(metric)).collect()
}

/// Which means are over less seeds than the variant has.
fn undefined(summary: &Summary) -> Vec<String> {
    let of_row = |row: &SummaryRow| {
        let values = summary.metrics.iter().zip(&row.values);
        let few = values.filter_map(|(metric, value)| Some((metric, (*value)?.seeds)));
        let few = few.filter(|(_, seeds)| *seeds < row.seeds).map(|(metric, seeds)| {
            let missing = row.seeds - seeds;
            let title = metric_title(metric);
            format!(
                "{title} of “{}” is undefined for {missing} of {} seeds, which its mean leaves out.",
                row.title, row.seeds
            )
        });
        few.collect::<Vec<String>>()
    };
    summary.variants.iter().flat_map(of_row).collect()
}

/// How far each variant is above the baseline, in percentage points, for the first metrics.
fn differences(summary: &Summary) -> Vec<Figure> {
    const IDS: [&str; FIGURES] = ["difference-1", "difference-2", "difference-3", "difference-4"];
    let Some(baseline) = &summary.baseline else { return Vec::new() };
    let Some(base) = summary.variants.iter().find(|row| row.variant == *baseline) else { return Vec::new() };
    let others: Vec<_> = summary.variants.iter().filter(|row| row.variant != *baseline).collect();
    let figure = |(at, id): (usize, &'static str)| {
        let name = summary.metrics.get(at).filter(|name| !is_count(name))?;
        let base = base.values.get(at).copied()??;
        let mut titles = Vec::new();
        let (mut values, mut errors, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for row in &others {
            let Some(value) = row.values.get(at).copied().flatten() else { continue };
            // Variances of independent means add up.
            let error = match (base.deviation, value.deviation) {
                (Some(a), Some(b)) => Some(100.0 * a.hypot(b)),
                _ => None,
            };
            let difference = 100.0 * (value.mean - base.mean);
            titles.push(figures::escaped(&row.title));
            values.push(difference);
            errors.push(error.unwrap_or(0.0));
            let p = value.p.map_or_else(|| "–".to_owned(), |p| format!("{p:.4}"));
            let error = error.map_or_else(|| "–".to_owned(), |error| format!("{error:.2}"));
            rows.push(Row { title: row.title.clone(), cells: vec![format!("{difference:+.2}"), error, p] });
        }
        if rows.is_empty() {
            return None;
        }
        let bars = json!({
            "type": "bar", "orientation": "h", "y": titles, "x": values,
            "error_x": {"type": "data", "color": "#888", "array": errors, "visible": errors.iter().any(|error| *error > 0.0)},
        });
        let layout = json!({
            "xaxis": {"title": {"text": "percentage points"}, "zeroline": true},
            "yaxis": {"type": "category", "autorange": "reversed"}, "showlegend": false,
        });
        Some(Figure {
            id,
            title: metric_title(name),
            caption: "Difference of the means from the baseline; lines: standard deviation over seeds."
                .to_owned(),
            spec: figures::spec(&[bars], &layout),
            table: Table {
                caption: format!("Differences in {}", metric_title(name)),
                columns: ["Difference", "Deviation", "p"].map(str::to_owned).to_vec(),
                rows,
            },
        })
    };
    IDS.into_iter().enumerate().filter_map(figure).collect()
}

//! The HTML page of a sweep.

use minijinja::{Value, context};
use plmicd_pipeline::{StageContext, StageError};
use serde_json::json;

use super::config::SweepReportConfig;
use super::results::{Results, split_word};
use super::table::{Summary, SummaryRow, SummaryValue};
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
    let remarks: Vec<String> =
        remarks.into_iter().chain(undefined(summary)).chain(too_few_trials(config, summary)).collect();
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
            replicated => summary.replicated(),
            baseline => results.baseline.map(|at| results.variants[at].title.clone()),
            legend => summary.legend(),
            tested => summary.comparisons() > 0,
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

/// With few trials and many comparisons no adjusted p can be small, whatever the differences are.
fn too_few_trials(config: &SweepReportConfig, summary: &Summary) -> Option<String> {
    let (trials, comparisons) = (config.trials, summary.comparisons());
    let least = comparisons as f64 / f64::from(trials + 1);
    (least >= 0.05).then(|| {
        format!("{trials} trials are too few for {comparisons} comparisons: no adjusted p can be below {least:.2}.")
    })
}

/// How far each variant is above the baseline, in percentage points, for the first metrics that differ.
fn differences(summary: &Summary) -> Vec<Figure> {
    const IDS: [&str; FIGURES] = ["difference-1", "difference-2", "difference-3", "difference-4"];
    let Some(baseline) = &summary.baseline else { return Vec::new() };
    let Some(base) = summary.variants.iter().find(|row| row.variant == *baseline) else { return Vec::new() };
    let others: Vec<_> = summary.variants.iter().filter(|row| row.variant != *baseline).collect();
    let shares = (0..summary.metrics.len()).filter(|at| !is_count(&summary.metrics[*at]));
    let differing = shares.filter_map(|at| {
        let base = base.values.get(at).copied()??.mean;
        let values: Vec<_> = others
            .iter()
            .filter_map(|row| Some((row.title.as_str(), base, row.values.get(at).copied()??)))
            .collect();
        values.iter().any(|(_, base, value)| value.mean != *base).then_some((at, values))
    });
    let figures = IDS.into_iter().zip(differing);
    figures.map(|(id, (at, values))| difference(id, &summary.metrics[at], &values)).collect()
}

/// The figure of one metric: title, mean of the baseline and value of each variant.
fn difference(id: &'static str, name: &str, values: &[(&str, f64, SummaryValue)]) -> Figure {
    let points = |share: f64| 100.0 * share;
    let errors: Vec<Option<f64>> =
        values.iter().map(|(.., value)| value.difference_error.map(points)).collect();
    let replicated = errors.iter().any(Option::is_some);
    let bars = json!({
        "type": "bar", "orientation": "h",
        "y": values.iter().map(|(title, ..)| figures::escaped(title)).collect::<Vec<_>>(),
        "x": values.iter().map(|(_, base, value)| points(value.mean - base)).collect::<Vec<_>>(),
        "error_x": {
            "type": "data", "color": "#888", "visible": replicated,
            "array": errors.iter().map(|error| error.unwrap_or(0.0)).collect::<Vec<_>>(),
        },
    });
    let layout = json!({
        "xaxis": {"title": {"text": "percentage points"}, "zeroline": true},
        // Room for the name of every variant, all of which are shown.
        "yaxis": {"type": "category", "autorange": "reversed", "dtick": 1}, "showlegend": false,
        "height": (80 + 18 * values.len()).max(320),
    });
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
    };
    let row = |((title, base, value), error): (&(&str, f64, SummaryValue), &Option<f64>)| Row {
        title: (*title).to_owned(),
        cells: vec![
            format!("{:+.2}", points(value.mean - base)),
            number(*error, 2),
            number(value.p, 4),
            number(value.p_adjusted, 4),
        ],
    };
    let lines = if replicated { "; lines: its standard error over seeds, to either side" } else { "" };
    Figure {
        id,
        title: metric_title(name),
        caption: format!("Difference of the means from the baseline{lines}."),
        spec: figures::spec(&[bars], &layout),
        table: Table {
            caption: format!("Differences in {}", metric_title(name)),
            columns: ["Difference", "Standard error", "p", "Adjusted p"].map(str::to_owned).to_vec(),
            rows: values.iter().zip(&errors).map(row).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use plmicd_data::Split;
    use serde_json::Value;

    use super::*;

    /// A baseline and so many variants, of which only the third metric differs; the first is a number of codes.
    fn summary(variants: usize, error: Option<f64>) -> Summary {
        let row = |at: usize| {
            let value = |mean, difference_error| {
                Some(SummaryValue { mean, seeds: 2, difference_error, ..SummaryValue::default() })
            };
            SummaryRow {
                variant: format!("v{at}"),
                title: format!("Variant {at}"),
                seeds: 2,
                values: vec![
                    value(20.0 + at as f64, None),
                    value(0.5, error),
                    value(0.5 + at as f64 / 1000.0, error),
                ],
                published: vec![None; 3],
                fragmentation: None,
            }
        };
        Summary {
            schema: 3,
            title: "Sweep".to_owned(),
            split: Split::Test,
            metrics: ["macro_auc_labels", "micro_f1", "macro_auc"].map(str::to_owned).to_vec(),
            baseline: Some("v0".to_owned()),
            variants: (0..=variants).map(row).collect(),
            others: Vec::new(),
        }
    }

    #[test]
    fn figures_are_as_high_as_their_names_need() {
        let figures = differences(&summary(40, Some(0.001)));
        let titles: Vec<&str> = figures.iter().map(|figure| figure.title.as_str()).collect();
        assert_eq!(titles, ["Macro AUC"], "what does not differ, or counts codes, has no figure");
        let spec: Value = serde_json::from_str(&figures[0].spec).unwrap();
        assert_eq!((&spec["layout"]["height"], &spec["layout"]["yaxis"]["dtick"]), (&json!(800), &json!(1)));
        assert_eq!(spec["data"][0]["error_x"]["array"][0], json!(0.1));
        assert!(figures[0].caption.contains("standard error over seeds"), "{}", figures[0].caption);
        assert_eq!(figures[0].table.rows[0].cells, ["+0.10", "0.10", "–", "–"]);

        let single = differences(&summary(2, None));
        assert!(!single[0].caption.contains("lines"), "{}", single[0].caption);
        let spec: Value = serde_json::from_str(&single[0].spec).unwrap();
        assert_eq!(
            (&spec["layout"]["height"], &spec["data"][0]["error_x"]["visible"]),
            (&json!(320), &json!(false))
        );
    }

    #[test]
    fn too_few_trials_are_told() {
        let config = SweepReportConfig { trials: 100, ..SweepReportConfig::default() };
        let mut summary = summary(6, None);
        assert_eq!(too_few_trials(&config, &summary), None);
        for row in &mut summary.variants[1..] {
            row.values[2].as_mut().unwrap().p = Some(0.01);
        }
        let told = too_few_trials(&config, &summary).unwrap();
        assert!(
            told.contains("100 trials") && told.contains("6 comparisons") && told.contains("0.06"),
            "{told}"
        );
        assert_eq!(too_few_trials(&SweepReportConfig::default(), &summary), None);
    }
}

//! The table of a sweep in the forms that people need.

use std::collections::BTreeMap;

use plmicd_data::Split;
use plmicd_metrics::{holm, mean_and_deviation};
use plmicd_pipeline::StageError;
use serde::Serialize;

use super::config::{PublishedRow, SweepReportConfig};
use super::results::{Results, Variant};
use crate::data_set::{Row, Table};
use crate::headline::{is_count, metric_title};
use crate::text::{aligned, latex_cell, markdown_cell};

/// The table: `headline.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Version of the file.
    pub schema: u32,
    pub title: String,
    pub split: Split,
    /// Names of the metrics, a column each.
    pub metrics: Vec<String>,
    /// The variant that the others are compared with.
    pub baseline: Option<String>,
    pub variants: Vec<SummaryRow>,
    /// Published systems that were not trained.
    pub others: Vec<OtherRow>,
}

/// A published system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct OtherRow {
    pub title: String,
    /// Shares, one for each metric.
    pub published: Vec<Option<f64>>,
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SummaryRow {
    pub variant: String,
    pub title: String,
    /// Runs with a seed of their own; 1 where the sweep has no seeds.
    pub seeds: usize,
    /// One for each metric.
    pub values: Vec<Option<SummaryValue>>,
    /// Published figures as shares, one for each metric.
    pub published: Vec<Option<f64>>,
    /// Tokens that a word of the notes is broken into.
    pub fragmentation: Option<f64>,
}

/// One metric of one variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct SummaryValue {
    pub mean: f64,
    /// Standard deviation of the sample over seeds; `None` for one seed.
    pub deviation: Option<f64>,
    /// Seeds that have the metric.
    pub seeds: usize,
    /// Of a difference from the baseline as large by chance; `None` where that was not tested.
    pub p: Option<f64>,
    /// The same adjusted (Holm 1979) for being one of as many as there are variants, of this metric.
    pub p_adjusted: Option<f64>,
    /// Standard error over seeds of the difference from the baseline; `None` for one seed.
    pub difference_error: Option<f64>,
}

impl Summary {
    /// # Errors
    /// A metric that no cell has.
    pub fn of(config: &SweepReportConfig, results: &Results) -> Result<Self, StageError> {
        let cells = || results.variants.iter().flat_map(|variant| &variant.cells);
        if let Some(unknown) =
            config.metrics.iter().find(|name| !cells().any(|cell| cell.metrics.contains_key(*name)))
        {
            let known: Vec<&str> = cells()
                .next()
                .map_or_else(Vec::new, |cell| cell.metrics.keys().map(String::as_str).collect());
            return Err(StageError::failed(format!(
                "`metrics` names `{unknown}`, which no evaluation has on {}; there are {}",
                config.split,
                known.join(", ")
            )));
        }
        let baseline = results.baseline.map(|at| &results.variants[at]);
        let value = |variant: &Variant, metric: &str| {
            let values = variant.values(metric);
            let (mean, deviation) = mean_and_deviation(&values)?;
            let others = baseline.filter(|baseline| baseline.name != variant.name);
            Some(SummaryValue {
                mean,
                deviation: (values.len() > 1).then_some(deviation),
                seeds: values.len(),
                p: variant.p_values.get(metric).copied(),
                p_adjusted: None,
                difference_error: others.and_then(|baseline| variant.difference_error(baseline, metric)),
            })
        };
        let row = |variant: &Variant| SummaryRow {
            variant: variant.name.clone(),
            title: variant.title.clone(),
            seeds: variant.cells.len(),
            values: config.metrics.iter().map(|metric| value(variant, metric)).collect(),
            published: shares(config, &variant.published),
            fragmentation: variant.fragmentation,
        };
        let other = |row: &PublishedRow| OtherRow {
            title: row.title.clone(),
            published: shares(config, &row.published),
        };
        let mut variants: Vec<SummaryRow> = results.variants.iter().map(row).collect();
        adjust(&mut variants, config.metrics.len());
        Ok(Self {
            schema: 3,
            title: config.title.clone(),
            split: config.split,
            metrics: config.metrics.clone(),
            baseline: results.baseline.map(|at| results.variants[at].name.clone()),
            variants,
            others: config.others.iter().map(other).collect(),
        })
    }

    /// Whether any variant has more than one seed.
    pub fn replicated(&self) -> bool {
        self.variants.iter().any(|row| row.seeds > 1)
    }

    /// Differences from the baseline that were tested, of the metric with the most of them.
    pub fn comparisons(&self) -> usize {
        let tested = |at: usize| {
            let p_values = self.variants.iter().filter_map(|row| row.values[at]?.p);
            p_values.count()
        };
        (0..self.metrics.len()).map(tested).max().unwrap_or(0)
    }

    /// What ± and stars mean, as far as there can be any.
    pub fn legend(&self) -> String {
        let mut text = format!("Percentages on {}", self.split);
        if self.replicated() {
            text.push_str(", mean ± standard deviation over seeds");
        }
        text.push('.');
        if self.comparisons() > 0
            && let Some(base) = self.variants.iter().find(|row| Some(&row.variant) == self.baseline.as_ref())
        {
            let title = &base.title;
            text.push_str(&format!(
                " * differs from “{title}” with p < 0.05, ** with p < 0.01, adjusted (Holm) for {} comparisons of each metric.",
                self.comparisons()
            ));
        }
        text
    }

    fn fragmented(&self) -> bool {
        self.variants.iter().any(|row| row.fragmentation.is_some())
    }

    fn columns(&self) -> Vec<String> {
        let fragmentation = self.fragmented().then(|| "Tokens per word".to_owned());
        fragmentation.into_iter().chain(self.metrics.iter().map(|name| metric_title(name))).collect()
    }

    /// The cells of a row.
    fn cells(&self, row: &SummaryRow) -> Vec<String> {
        let ratio = row.fragmentation.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let ratio = self.fragmented().then_some(ratio);
        let values = self.metrics.iter().zip(&row.values).map(|(metric, value)| shown(metric, *value));
        ratio.into_iter().chain(values).collect()
    }

    /// For the page.
    pub fn table(&self) -> Table {
        let rows = self.variants.iter().map(|row| Row { title: row.title.clone(), cells: self.cells(row) });
        Table { caption: self.title.clone(), columns: self.columns(), rows: rows.collect() }
    }

    /// Ours row by row, each with its published figures below it where there are any, then the systems that were not
    /// trained: title and cells.
    fn lines(&self) -> Vec<(String, Vec<String>)> {
        let ratio = self.fragmented().then(|| "–".to_owned());
        let published = |title: String, values: &[Option<f64>]| {
            let cell = |(metric, value): (&String, &Option<f64>)| {
                value.map_or_else(|| "–".to_owned(), |value| format!("{:.1}", unit(metric) * value))
            };
            (title, ratio.iter().cloned().chain(self.metrics.iter().zip(values).map(cell)).collect())
        };
        let mut lines = Vec::new();
        for row in &self.variants {
            lines.push((row.title.clone(), self.cells(row)));
            if row.published.iter().any(Option::is_some) {
                lines.push(published(format!("{}, published", row.title), &row.published));
            }
        }
        lines.extend(
            self.others.iter().map(|row| published(format!("{}, published", row.title), &row.published)),
        );
        lines
    }

    /// Published figures, and how far ours are above them.
    pub fn published(&self) -> Option<Table> {
        let cell = |metric: &String, published: &Option<f64>, ours: &Option<SummaryValue>| {
            let unit = unit(metric);
            match (published, ours) {
                (Some(published), Some(ours)) => {
                    format!("{:.1} ({:+.1})", unit * published, unit * (ours.mean - published))
                }
                (Some(published), None) => format!("{:.1}", unit * published),
                (None, _) => "–".to_owned(),
            }
        };
        let cells = |published: &[Option<f64>], ours: &[Option<SummaryValue>]| {
            let ours = ours.iter().chain(std::iter::repeat(&None));
            let both = self.metrics.iter().zip(published).zip(ours);
            both.map(|((metric, published), ours)| cell(metric, published, ours)).collect()
        };
        let ours = self
            .variants
            .iter()
            .filter(|row| row.published.iter().any(Option::is_some))
            .map(|row| Row { title: row.title.clone(), cells: cells(&row.published, &row.values) });
        let others =
            self.others.iter().map(|row| Row { title: row.title.clone(), cells: cells(&row.published, &[]) });
        let rows: Vec<Row> = ours.chain(others).collect();
        let caption = "Published figures, and in brackets how far ours are above them".to_owned();
        let columns = self.metrics.iter().map(|name| metric_title(name)).collect();
        (!rows.is_empty()).then_some(Table { caption, columns, rows })
    }

    pub fn markdown(&self) -> String {
        let titles: Vec<String> = self.columns().iter().map(|title| markdown_cell(title)).collect();
        let mut text = format!("# {}\n\n{}\n\n", markdown_cell(&self.title), markdown_cell(&self.legend()));
        text.push_str(&format!(
            "| Variant | {} |\n|---|{}\n",
            titles.join(" | "),
            "---:|".repeat(titles.len())
        ));
        for (title, cells) in self.lines() {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('*', "\\*")).collect();
            text.push_str(&format!("| {} | {} |\n", markdown_cell(&title), cells.join(" | ")));
        }
        text
    }

    pub fn plain(&self) -> String {
        let mut lines = vec![vec!["variant".to_owned()]];
        lines[0].extend(self.columns());
        for (title, cells) in self.lines() {
            lines.push(std::iter::once(title).chain(cells).collect());
        }
        format!("{}{}\n", aligned(&lines), self.legend())
    }

    /// A line for each variant and metric, shares in full precision.
    pub fn csv(&self) -> String {
        let mut text =
            "variant,metric,seeds,mean,deviation,p,p_adjusted,difference_error,published\n".to_owned();
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        for row in &self.variants {
            for ((metric, value), published) in self.metrics.iter().zip(&row.values).zip(&row.published) {
                text.push_str(&format!(
                    "{},{metric},{},{},{},{},{},{},{}\n",
                    row.variant,
                    value.map_or(0, |value| value.seeds),
                    number(value.map(|value| value.mean)),
                    number(value.and_then(|value| value.deviation)),
                    number(value.and_then(|value| value.p)),
                    number(value.and_then(|value| value.p_adjusted)),
                    number(value.and_then(|value| value.difference_error)),
                    number(*published),
                ));
            }
        }
        text
    }

    pub fn latex(&self) -> String {
        let columns: Vec<String> = self.columns().iter().map(|title| latex_cell(title)).collect();
        let mut text =
            format!("% {}\n% {}\n", latex_cell(&self.title), latex_marks(&latex_cell(&self.legend())));
        text.push_str(&format!("\\begin{{tabular}}{{l{}}}\n\\hline\n", "r".repeat(columns.len())));
        text.push_str(&format!("Variant & {} \\\\\n\\hline\n", columns.join(" & ")));
        for (title, cells) in self.lines() {
            let cells: Vec<String> = cells.iter().map(|cell| latex_marks(cell)).collect();
            text.push_str(&format!("{} & {} \\\\\n", latex_cell(&title), cells.join(" & ")));
        }
        text.push_str("\\hline\n\\end{tabular}\n");
        text
    }
}

/// The signs of a table as LaTeX sets them.
fn latex_marks(text: &str) -> String {
    let text = text.replace('±', "$\\pm$").replace('–', "--").replace('*', "$^*$");
    text.replace('<', "$<$").replace('“', "``").replace('”', "''")
}

/// Adjusts the p values of each metric for being several.
fn adjust(variants: &mut [SummaryRow], metrics: usize) {
    for at in 0..metrics {
        let p_values: Vec<f64> = variants.iter().filter_map(|row| row.values[at]?.p).collect();
        let tested =
            variants.iter_mut().filter_map(|row| row.values[at].as_mut().filter(|value| value.p.is_some()));
        tested.zip(holm(&p_values)).for_each(|(value, adjusted)| value.p_adjusted = Some(adjusted));
    }
}

/// Published percentages as shares, one for each metric.
fn shares(config: &SweepReportConfig, published: &BTreeMap<String, f64>) -> Vec<Option<f64>> {
    config.metrics.iter().map(|metric| Some(published.get(metric)? / unit(metric))).collect()
}

/// What a value is multiplied by to be shown: shares are shown in percent.
fn unit(metric: &str) -> f64 {
    if is_count(metric) { 1.0 } else { 100.0 }
}

/// `59.8 ± 0.2 *`: percent; one star for an adjusted p < 0.05, two for p < 0.01.
fn shown(metric: &str, value: Option<SummaryValue>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let mut text = format!("{:.1}", unit(metric) * value.mean);
    if let Some(deviation) = value.deviation {
        text.push_str(&format!(" ± {:.1}", unit(metric) * deviation));
    }
    match value.p_adjusted {
        Some(p) if p < 0.01 => text.push_str(" **"),
        Some(p) if p < 0.05 => text.push_str(" *"),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_figures_stand_below_ours() {
        let value = |mean| Some(SummaryValue { mean, seeds: 1, ..SummaryValue::default() });
        let row = |title: &str, fragmentation, published| SummaryRow {
            variant: title.to_lowercase(),
            title: title.to_owned(),
            seeds: 1,
            values: vec![value(0.5), None],
            published,
            fragmentation,
        };
        let summary = Summary {
            schema: 1,
            title: "Encoders".to_owned(),
            split: Split::Test,
            metrics: ["micro_f1", "macro_auc"].map(str::to_owned).to_vec(),
            baseline: None,
            variants: vec![
                row("BioBERT", Some(1.234), vec![Some(0.579), None]),
                row("Ours", None, vec![None, None]),
            ],
            others: vec![OtherRow { title: "RAC".to_owned(), published: vec![None, Some(0.948)] }],
        };
        let expected = "# Encoders\n\nPercentages on test.\n\n\
            | Variant | Tokens per word | Micro F1 | Macro AUC |\n|---|---:|---:|---:|\n\
            | BioBERT | 1.23 | 50.0 | – |\n\
            | BioBERT, published | – | 57.9 | – |\n\
            | Ours | – | 50.0 | – |\n\
            | RAC, published | – | – | 94.8 |\n";
        assert_eq!(summary.markdown(), expected);
        assert!(summary.latex().contains("RAC, published & -- & -- & 94.8"), "{}", summary.latex());
        let published = summary.published().expect("a table");
        assert_eq!(published.rows[0].cells, ["57.9 (-7.9)", "–"]);
        assert_eq!(published.rows[1].cells, ["–", "94.8"]);
    }

    #[test]
    fn values_show_spread_and_significance() {
        let value = |deviation, p_adjusted| {
            let p = Some(0.001);
            Some(SummaryValue { mean: 0.598, deviation, seeds: 3, p, p_adjusted, ..SummaryValue::default() })
        };
        let shown = |value| shown("micro_f1", value);
        assert_eq!(shown(value(None, None)), "59.8");
        assert_eq!(shown(value(Some(0.0021), Some(0.03))), "59.8 ± 0.2 *");
        assert_eq!(shown(value(Some(0.0), Some(0.001))), "59.8 ± 0.0 **");
        assert_eq!(shown(None), "–");
    }

    #[test]
    fn numbers_of_codes_are_no_percentages() {
        let value =
            Some(SummaryValue { mean: 18.0, deviation: Some(0.5), seeds: 2, ..SummaryValue::default() });
        assert_eq!(shown("macro_auc_labels", value), "18.0 ± 0.5");
    }

    #[test]
    fn stars_are_of_adjusted_p_values_and_every_table_says_so() {
        let row = |variant: &str, p: Option<f64>| SummaryRow {
            variant: variant.to_owned(),
            title: variant.to_uppercase(),
            seeds: 2,
            values: vec![Some(SummaryValue { mean: 0.5, seeds: 2, p, ..SummaryValue::default() })],
            published: vec![None],
            fragmentation: None,
        };
        let mut variants =
            vec![row("base", None), row("a", Some(0.03)), row("b", Some(0.04)), row("c", Some(0.001))];
        adjust(&mut variants, 1);
        let summary = Summary {
            schema: 3,
            title: "Sweep".to_owned(),
            split: Split::Test,
            metrics: vec!["micro_f1".to_owned()],
            baseline: Some("base".to_owned()),
            variants,
            others: Vec::new(),
        };
        // Alone, a and b would have a star each.
        let cells: Vec<String> = summary.table().rows.into_iter().flat_map(|row| row.cells).collect();
        assert_eq!(cells, ["50.0", "50.0", "50.0", "50.0 **"]);
        assert!(summary.csv().contains("\na,micro_f1,2,0.5,,0.03,0.06,,\n"), "{}", summary.csv());
        let legend = "mean ± standard deviation over seeds. * differs from “BASE” with p < 0.05, ** with p < 0.01, \
            adjusted (Holm) for 3 comparisons of each metric.";
        assert!(summary.plain().contains(legend), "{}", summary.plain());
        assert!(
            summary.markdown().contains("\\* differs from “BASE” with p &lt; 0.05"),
            "{}",
            summary.markdown()
        );
        assert!(
            summary.latex().contains("% Percentages on test, mean $\\pm$ standard"),
            "{}",
            summary.latex()
        );
        assert!(summary.latex().contains("adjusted (Holm) for 3"), "{}", summary.latex());
    }
}

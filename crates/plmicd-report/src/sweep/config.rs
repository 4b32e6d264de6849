//! Settings of the stage.

use std::collections::BTreeMap;

use plmicd_data::Split;
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SweepReportConfig {
    /// Heading of the report.
    pub title: String,
    /// The split whose metrics are shown: `dev` or `test`.
    pub split: Split,
    /// The metrics, a column each, by their names in `metrics.json`.
    pub metrics: Vec<String>,
    /// The variant that the others are compared with, as in the names of the cells; the base unless told otherwise.
    pub baseline: String,
    /// The rows in the order of the table; variants that are not listed follow.
    pub rows: Vec<SweepRow>,
    /// Published systems that the sweep does not train; they follow the rows.
    pub others: Vec<PublishedRow>,
    /// Where the published figures stand.
    pub published_source: String,
    /// Trials of the randomisation test; 0 for none.
    pub trials: u32,
    /// Decides the randomisation test's coins.
    pub seed: u64,
}

/// How one variant is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepRow {
    /// The variant, as in the names of the cells without the seed: `base`, `caml`, `caml+t512`.
    pub variant: String,
    /// Its name for people; the variant itself unless told otherwise.
    #[serde(default)]
    pub title: Option<String>,
    /// Published figures of the same system, in percent, by metric.
    #[serde(default)]
    pub published: BTreeMap<String, f64>,
}

/// A published system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedRow {
    /// Its name.
    pub title: String,
    /// Its figures, in percent, by metric.
    pub published: BTreeMap<String, f64>,
}

impl Default for SweepReportConfig {
    fn default() -> Self {
        let metrics = [
            "macro_auc",
            "micro_auc",
            "macro_f1_caml",
            "micro_f1",
            "precision_at_5",
            "precision_at_8",
            "precision_at_15",
        ];
        Self {
            title: "Sweep".to_owned(),
            split: Split::Test,
            metrics: metrics.map(str::to_owned).to_vec(),
            baseline: "base".to_owned(),
            rows: Vec::new(),
            others: Vec::new(),
            published_source: String::new(),
            trials: 1000,
            seed: 1,
        }
    }
}

impl SweepReportConfig {
    /// What can be said against the settings; `cells` are the names of the sweep's, empty where they are not known.
    pub(crate) fn issues(&self, cells: &[String]) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        let mut known: Vec<&str> = cells.iter().map(|cell| variant_and_seed(cell).0).collect();
        known.dedup();
        let mut check = |path: String, variant: &str| {
            if !known.is_empty() && !known.contains(&variant) {
                let message = format!("the sweep has no variant `{variant}`; it has {}", known.join(", "));
                issues.push(ConfigIssue::new(path, message));
            }
        };
        self.rows.iter().enumerate().for_each(|(at, row)| check(format!("rows.{at}.variant"), &row.variant));
        // A grid has no base, and that is no mistake.
        if self.baseline != Self::default().baseline {
            check("baseline".to_owned(), &self.baseline);
        }
        if self.title.trim().is_empty() {
            issues.push(ConfigIssue::new("title", "it must not be empty"));
        }
        if self.split == Split::Train {
            issues.push(ConfigIssue::new("split", "expected dev or test: train is not evaluated"));
        }
        if self.metrics.is_empty() {
            issues.push(ConfigIssue::new("metrics", "name at least one, such as micro_f1"));
        }
        if (1..100).contains(&self.trials) || self.trials > 1_000_000 {
            issues.push(ConfigIssue::new("trials", "expected 0, or from 100 to 1,000,000"));
        }
        for (at, row) in self.rows.iter().enumerate() {
            if self.rows[..at].iter().any(|other| other.variant == row.variant) {
                let message = format!("variant `{}` has a row already", row.variant);
                issues.push(ConfigIssue::new(format!("rows.{at}.variant"), message));
            }
        }
        let rows = self.rows.iter().enumerate().map(|(at, row)| (format!("rows.{at}"), &row.published));
        let others = self.others.iter().enumerate().map(|(at, row)| (format!("others.{at}"), &row.published));
        for (path, published) in rows.chain(others) {
            for (metric, value) in published {
                let path = format!("{path}.published.{metric}");
                if !(0.0..=100.0).contains(value) {
                    issues.push(ConfigIssue::new(path, "expected percent, from 0 to 100"));
                } else if !self.metrics.contains(metric) {
                    issues.push(ConfigIssue::new(path, "`metrics` has no such column"));
                }
            }
        }
        issues
    }

    /// The `k` of every metric at `k`.
    pub(crate) fn ks(&self) -> Vec<usize> {
        let mut ks: Vec<usize> = self
            .metrics
            .iter()
            .filter_map(|name| name.strip_prefix("precision_at_").or(name.strip_prefix("recall_at_")))
            .filter_map(|k| k.parse().ok())
            .collect();
        ks.sort_unstable();
        ks.dedup();
        ks
    }
}

/// `caml+s2` as `caml` and 2.
pub(crate) fn variant_and_seed(cell: &str) -> (&str, Option<u64>) {
    match cell.rsplit_once("+s") {
        Some((variant, digits)) if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) => {
            (variant, digits.parse().ok())
        }
        _ => (cell, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_variant_and_a_seed() {
        assert_eq!(variant_and_seed("base"), ("base", None));
        assert_eq!(variant_and_seed("base+s3"), ("base", Some(3)));
        assert_eq!(variant_and_seed("caml+t512+s12"), ("caml+t512", Some(12)));
        assert_eq!(variant_and_seed("a+small"), ("a+small", None));
    }

    #[test]
    fn variants_that_the_sweep_lacks_are_found_before_it_runs() {
        let cells = ["base+s1", "caml+s1"].map(str::to_owned);
        let row = |variant: &str| SweepRow { variant: variant.to_owned(), ..SweepRow::default() };
        let config = SweepReportConfig {
            rows: vec![row("caml"), row("kaml"), row("caml")],
            baseline: "laat".to_owned(),
            trials: 7,
            ..SweepReportConfig::default()
        };
        let published = |metric: &str| BTreeMap::from([(metric.to_owned(), 50.0)]);
        let others =
            ["micro_f1", "micro_f2"].map(|m| PublishedRow { title: "x".to_owned(), published: published(m) });
        let config = SweepReportConfig { others: others.to_vec(), ..config };
        let paths: Vec<String> = config.issues(&cells).into_iter().map(|issue| issue.path).collect();
        assert_eq!(
            paths,
            ["rows.1.variant", "baseline", "trials", "rows.2.variant", "others.1.published.micro_f2"]
        );
        assert!(SweepReportConfig::default().issues(&cells).is_empty());
    }
}

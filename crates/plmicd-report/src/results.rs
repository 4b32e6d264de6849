//! The top of the page: what was evaluated, the numbers that most readers look for first, and the table of metrics.

use plmicd_data::{DecisionRule, Thresholds};
use serde::Serialize;

use crate::headline::{Headline, HeadlineRow, show, split_title};
use crate::privacy::thousands;
use crate::sources::Sources;

/// A number at the top of the page, with its place on a scale from 0 to 1 in percent.
#[derive(Debug, Serialize)]
pub(crate) struct Tile {
    pub title: String,
    pub value: String,
    pub at: String,
    /// Where the 95 % interval starts, and how wide it is.
    pub interval: Option<[String; 2]>,
    /// The value of the frequent-codes baseline.
    pub other: Option<String>,
    pub notes: Vec<String>,
}

/// The table of metrics, in groups.
#[derive(Debug, Serialize)]
pub(crate) struct MetricsTable {
    pub caption: String,
    pub columns: Vec<String>,
    pub groups: Vec<Group>,
}

/// Rows under a title; none where it is empty.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    pub title: &'static str,
    pub rows: Vec<MetricRow>,
}

/// One metric.
#[derive(Debug, Serialize)]
pub(crate) struct MetricRow {
    pub title: String,
    /// Whether it is the one that readers look for first.
    pub lead: bool,
    pub cells: Vec<MetricCell>,
}

/// A value, and its interval where there is one.
#[derive(Debug, Serialize)]
pub(crate) struct MetricCell {
    pub value: String,
    pub interval: Option<String>,
    /// Of another split than the last: a narrow page leaves its interval out.
    pub minor: bool,
}

/// What was evaluated: names and values.
pub(crate) fn facts(sources: &Sources) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: String| facts.push((name.to_owned(), value));
    if let Some(corpus) = &sources.corpus {
        add("Data", data_title(&corpus.source).to_owned());
    }
    if let Some((split, result)) = sources.evaluation.splits.last_key_value() {
        add(&format!("{} notes", split_title(*split)), sources.privacy.count(result.notes));
        add("Codes", thousands(result.labels));
    }
    add("Predicted", rule(sources.evaluation.rule, sources.thresholds.k));
    let chosen = match sources.evaluation.objective.as_str() {
        "micro_f1" => "the highest micro F1 on dev",
        "bagged_micro_f1" => "the mean of those of the highest micro F1 on samples of the dev notes",
        "macro_f1" => "the highest mean F1 of codes on dev",
        "instance_f1" => "the highest instance F1 on dev",
        _ => "as given",
    };
    let unseen = of_unseen(&sources.thresholds).map_or_else(String::new, |own| match own {
        1.0 => "; codes without training notes are not predicted".to_owned(),
        own => format!("; {} for codes without training notes", significant(own)),
    });
    if !matches!(sources.evaluation.rule, DecisionRule::TopK | DecisionRule::ExpectedCount) {
        add("Threshold", format!("{:.4}, {chosen}{unseen}", sources.evaluation.threshold));
    }
    facts
}

/// The threshold of the codes without training notes, where there are such codes and they have one of their own.
fn of_unseen(thresholds: &Thresholds) -> Option<f64> {
    let apart = thresholds.rule == DecisionRule::UnseenApart;
    let per_label = thresholds.per_label.iter().flatten().copied();
    per_label.filter(|_| apart).find(|own| *own != thresholds.threshold)
}

/// Two significant digits: such thresholds may be small.
fn significant(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value => format!("{value:.*}", (1.0 - value.log10().floor()).max(2.0) as usize),
    }
}

/// Which codes a note gets.
pub(crate) fn rule(rule: DecisionRule, k: Option<u64>) -> String {
    match (rule, k) {
        (DecisionRule::Global, _) => "codes that score above the threshold".to_owned(),
        (DecisionRule::PerCode, _) => "codes that score above thresholds of their own".to_owned(),
        (DecisionRule::UnseenApart, _) => {
            "codes that score above the threshold; those without training notes above one of their own"
                .to_owned()
        }
        (DecisionRule::TopK, Some(k)) => format!("the {k} codes of the highest scores"),
        (DecisionRule::TopK, None) => "the codes of the highest scores".to_owned(),
        (DecisionRule::ExpectedCount, _) => "as many codes as a note's scores add up to".to_owned(),
    }
}

fn data_title(source: &str) -> &str {
    match source {
        "mimic2" => "MIMIC-II",
        "mimic3" => "MIMIC-III",
        "mimic4" => "MIMIC-IV",
        "codiesp" => "CodiEsp",
        other => other,
    }
}

/// The figures of the last split (test, as a rule) that most readers look for first.
pub(crate) fn tiles(headline: &Headline) -> Vec<Tile> {
    let Some(at) = headline.last_model_column() else { return Vec::new() };
    let baseline = headline.columns.iter().position(|column| column.of == "frequent_codes");
    let wanted = ["micro_f1", "macro_f1_present_labels", "micro_auc", "precision_at_8"];
    let percent = |share: f64| format!("{:.2}", 100.0 * share.clamp(0.0, 1.0));
    let tile = |name: &str| {
        let row = headline.rows.iter().find(|row| row.name == name)?;
        // A place on a scale would look like a fact.
        let value = row.values[at].filter(|_| row.tie_bounds[at].is_none())?;
        let interval = row.intervals[at];
        let other = baseline.and_then(|at| row.values[at]);
        let mut notes = Vec::new();
        notes.extend(interval.map(|[low, high]| format!("95 %: {low:.4} to {high:.4}")));
        notes.extend(other.map(|value| format!("frequent codes: {}", show(name, Some(value)))));
        Some(Tile {
            title: row.title.clone(),
            value: show(name, Some(value)),
            at: percent(value),
            interval: interval.map(|[low, high]| [percent(low), percent(high - low)]),
            other: other.map(percent),
            notes,
        })
    };
    wanted.into_iter().filter_map(tile).collect()
}

/// The metrics that most readers want.
pub(crate) fn metrics(headline: &Headline) -> MetricsTable {
    let by_order = |row: &&HeadlineRow| {
        let name = row.name.as_str();
        name.ends_with("_auc") || name.contains("_at_") || name.contains("average_precision")
    };
    let (order, decisions): (Vec<_>, Vec<_>) = headline.rows.iter().partition(by_order);
    let groups = [("Decisions", decisions), ("Order of the scores", order)];
    let groups = groups.into_iter().filter(|(_, rows)| !rows.is_empty());
    MetricsTable {
        caption: "Metrics".to_owned(),
        columns: columns(headline),
        groups: groups.map(|(title, rows)| group(headline, title, &rows, false)).collect(),
    }
}

/// All metrics under their names in `metrics.json`.
pub(crate) fn all_metrics(headline: &Headline) -> MetricsTable {
    let rows: Vec<&HeadlineRow> = headline.all_rows.iter().collect();
    MetricsTable {
        caption: "All metrics".to_owned(),
        columns: columns(headline),
        groups: vec![group(headline, "", &rows, true)],
    }
}

/// Whether ties decide any of these metrics.
pub(crate) fn has_ties(headline: &Headline) -> bool {
    headline.all_rows.iter().any(|row| row.tie_bounds.iter().any(Option::is_some))
}

fn columns(headline: &Headline) -> Vec<String> {
    headline.columns.iter().map(|column| column.title.clone()).collect()
}

fn group(headline: &Headline, title: &'static str, rows: &[&HeadlineRow], with_names: bool) -> Group {
    let last = headline.last_model_column();
    let row = |row: &&HeadlineRow| MetricRow {
        title: if with_names { row.name.clone() } else { row.title.clone() },
        lead: !with_names && row.name == "micro_f1",
        cells: (0..row.values.len())
            .map(|at| MetricCell {
                value: row.shown(at),
                interval: match row.tie_bounds[at] {
                    Some(_) => Some("by ties".to_owned()),
                    None => row.intervals[at].map(|[low, high]| format!("[{low:.4}, {high:.4}]")),
                },
                minor: last != Some(at),
            })
            .collect(),
    };
    Group { title, rows: rows.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_of_unseen_codes_is_told_where_there_is_one() {
        let of = |rule, per_label: &[f64]| {
            let per_label = Some(per_label.to_vec());
            of_unseen(&Thresholds { rule, threshold: 0.4, per_label, ..Thresholds::default() })
        };
        assert_eq!(of(DecisionRule::UnseenApart, &[0.4, 0.0005, 0.4, 0.0005]), Some(0.0005));
        assert_eq!(of(DecisionRule::UnseenApart, &[0.4, 0.4]), None);
        assert_eq!(of(DecisionRule::PerCode, &[0.4, 0.3]), None);
        let shown = [0.000543, 0.0123, 0.25, 0.0].map(significant);
        assert_eq!(shown, ["0.00054", "0.012", "0.25", "0"]);
    }
}

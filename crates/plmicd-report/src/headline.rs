//! The metrics table: which metrics, in which order, under which titles.

use std::collections::BTreeMap;

use plmicd_data::{DecisionRule, Evaluation, Interval, Split};
use serde::Serialize;

/// Metrics side by side: `headline.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Headline {
    /// Version of the file.
    pub schema: u32,
    /// Heading of the report.
    pub title: String,
    /// How scores became decisions.
    pub rule: DecisionRule,
    /// Codes predicted for every note, with rule `top_k`.
    pub k: Option<u64>,
    /// What the threshold maximises on dev.
    pub objective: String,
    /// The decision threshold, which rules `top_k` and `expected_count` do not use.
    pub threshold: f64,
    /// What each column holds.
    pub columns: Vec<HeadlineColumn>,
    /// The metrics that most readers want.
    pub rows: Vec<HeadlineRow>,
    /// All metrics.
    pub all_rows: Vec<HeadlineRow>,
}

/// A column of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeadlineColumn {
    /// For people.
    pub title: String,
    /// The split.
    pub split: Split,
    /// `model`, or `frequent_codes` for the baseline.
    pub of: &'static str,
}

/// A metric over the columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadlineRow {
    /// Name in `metrics.json`.
    pub name: String,
    /// For people.
    pub title: String,
    /// A value a column, `None` where it is undefined.
    pub values: Vec<Option<f64>>,
    /// The 95 % bootstrap interval of each, where there is one.
    pub intervals: Vec<Option<[f64; 2]>>,
}

/// Metrics at the top, in this order; the places of `@k` are filled with those evaluated.
const SHOWN: &[&str] = &[
    "micro_f1",
    "micro_precision",
    "micro_recall",
    "macro_f1_caml",
    "macro_f1_all_labels",
    "macro_f1_present_labels",
    "micro_f1_diagnoses",
    "micro_f1_procedures",
    "micro_auc",
    "macro_auc",
    "precision_at_",
    "mean_average_precision",
];

impl Headline {
    /// The model's column of the last split: test, as a rule.
    pub(crate) fn last_model_column(&self) -> Option<usize> {
        self.columns.iter().rposition(|column| column.of == "model")
    }

    /// `k` is that of rule `top_k`.
    pub(crate) fn of(title: &str, evaluation: &Evaluation, k: Option<u64>) -> Self {
        let mut columns = Vec::new();
        let mut values: Vec<&BTreeMap<String, f64>> = Vec::new();
        let mut intervals: Vec<Option<&BTreeMap<String, Interval>>> = Vec::new();
        for (&split, result) in &evaluation.splits {
            columns.push(HeadlineColumn { title: split_title(split).to_owned(), split, of: "model" });
            values.push(&result.metrics);
            intervals.push(Some(&result.intervals));
        }
        if let Some((&split, result)) = evaluation.splits.last_key_value()
            && let Some(baseline) = &result.baseline_frequent_codes
        {
            let title = format!("Frequent codes, {split}");
            columns.push(HeadlineColumn { title, split, of: "frequent_codes" });
            values.push(baseline);
            intervals.push(None);
        }
        let row = |name: &str| HeadlineRow {
            name: name.to_owned(),
            title: metric_title(name),
            values: values.iter().map(|metrics| metrics.get(name).copied()).collect(),
            intervals: intervals
                .iter()
                .map(|intervals| intervals.and_then(|found| found.get(name)).map(|i| [i.low, i.high]))
                .collect(),
        };
        let mut names: Vec<&str> =
            values.iter().flat_map(|metrics| metrics.keys().map(String::as_str)).collect();
        names.sort_by_key(|name| natural(name));
        names.dedup();
        let shown = SHOWN.iter().flat_map(|wanted| {
            let fits = |name: &&&str| match wanted.strip_suffix("at_") {
                Some(_) => name.strip_prefix(wanted).is_some_and(|k| k.parse::<usize>().is_ok()),
                None => **name == *wanted,
            };
            names.iter().filter(fits).map(|name| row(name)).collect::<Vec<_>>()
        });
        Self {
            schema: 3,
            title: title.to_owned(),
            rule: evaluation.rule,
            k,
            objective: evaluation.objective.clone(),
            threshold: evaluation.threshold,
            rows: shown.collect(),
            all_rows: names.iter().map(|name| row(name)).collect(),
            columns,
        }
    }
}

/// A key that sorts `at_5` before `at_15`: runs of digits padded to one length.
fn natural(name: &str) -> String {
    let mut key = String::new();
    let mut digits = String::new();
    for letter in name.chars().chain(['\0']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        if !digits.is_empty() {
            key.push_str(&format!("{digits:0>8}"));
            digits.clear();
        }
        key.push(letter);
    }
    key
}

/// `Dev`, for headings.
pub(crate) fn split_title(split: Split) -> &'static str {
    match split {
        Split::Train => "Train",
        Split::Dev => "Dev",
        Split::Test => "Test",
    }
}

/// Title of a metric; its name with blanks where it has none of its own.
pub(crate) fn metric_title(name: &str) -> String {
    if let Some(plain) = name.strip_suffix("_edin") {
        return format!("{} (Edin)", metric_title(plain));
    }
    if let Some((measure, k)) = name.split_once("_at_") {
        let measure = match measure {
            "precision" => "P",
            "recall" => "R",
            "f1" => "F1",
            other => other,
        };
        return format!("{measure}@{k}");
    }
    match name {
        "micro_f1" => "Micro F1",
        "micro_precision" => "Micro precision",
        "micro_recall" => "Micro recall",
        "micro_accuracy" => "Micro Jaccard",
        "micro_false_positive_rate" => "Micro false-positive rate",
        "micro_f1_diagnoses" => "Micro F1, diagnoses",
        "micro_f1_procedures" => "Micro F1, procedures",
        "macro_f1" => "Macro F1",
        "macro_f1_caml" => "Macro F1, CAML's form",
        "macro_f1_all_labels" => "Macro F1, mean over all codes",
        "macro_f1_present_labels" => "Macro F1, mean over codes present",
        "macro_precision" => "Macro precision",
        "macro_recall" => "Macro recall",
        "macro_accuracy" => "Macro Jaccard",
        "macro_false_positive_rate" => "Macro false-positive rate",
        "instance_f1" => "Instance F1",
        "instance_precision" => "Instance precision",
        "instance_recall" => "Instance recall",
        "exact_match_ratio" => "Exact match",
        "micro_auc" => "Micro AUC",
        "macro_auc" => "Macro AUC",
        "macro_auc_labels" => "Codes in macro AUC",
        "r_precision" => "R-precision",
        "mean_average_precision" => "Mean average precision",
        "micro_average_precision" => "Average precision, all pairs",
        "macro_average_precision" => "Average precision, mean over codes present",
        "loss" => "Loss",
        other => return other.replace('_', " "),
    }
    .to_owned()
}

/// Whether a metric is a number of codes; all others are shares.
pub(crate) fn is_count(name: &str) -> bool {
    name == "macro_auc_labels"
}

/// A value as shown: four decimals, whole numbers for counts.
pub(crate) fn show(name: &str, value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if is_count(name) => format!("{value:.0}"),
        Some(value) => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_people_count() {
        let mut names = vec!["precision_at_15", "precision_at_5", "micro_f1", "precision_at_8_edin"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["micro_f1", "precision_at_5", "precision_at_8_edin", "precision_at_15"]);
    }

    #[test]
    fn every_kind_of_name_has_a_title() {
        assert_eq!(metric_title("precision_at_8_edin"), "P@8 (Edin)");
        assert_eq!(metric_title("micro_f1"), "Micro F1");
        assert_eq!(metric_title("something_new"), "something new");
    }

    #[test]
    fn counts_and_shares_are_shown_apart() {
        assert_eq!(show("macro_auc_labels", Some(51.0)), "51");
        assert_eq!(show("macro_f1_all_labels", Some(1.0)), "1.0000");
        assert_eq!(show("micro_f1", None), "–");
    }
}

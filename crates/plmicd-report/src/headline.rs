//! The metrics table: which metrics, in which order, under which titles.

use std::collections::BTreeMap;

use plmicd_data::{DecisionRule, Evaluation, Split, SplitEvaluation};
use serde::Serialize;

use crate::privacy::Privacy;

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
    /// The lowest and the highest value that the order of equal scores allows, where these lie further apart than the
    /// ends of the interval: the value is then one of many, and has no interval.
    pub tie_bounds: Vec<Option<[f64; 2]>>,
}

/// Bounds that are nearer to each other than this are not told of a metric that has no interval to compare them with.
const USUAL_WIDTH: f64 = 5e-3;

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
    pub(crate) fn of(title: &str, evaluation: &Evaluation, k: Option<u64>, privacy: Privacy) -> Self {
        let mut columns = Vec::new();
        let mut sources: Vec<Source<'_>> = Vec::new();
        for (&split, result) in &evaluation.splits {
            columns.push(HeadlineColumn { title: split_title(split).to_owned(), split, of: "model" });
            sources.push(Source { result, metrics: &result.metrics, is_model: true });
        }
        if let Some((&split, result)) = evaluation.splits.last_key_value()
            && let Some(baseline) = &result.baseline_frequent_codes
        {
            let title = format!("Frequent codes, {split}");
            columns.push(HeadlineColumn { title, split, of: "frequent_codes" });
            sources.push(Source { result, metrics: baseline, is_model: false });
        }
        let row = |name: &str| {
            let cells: Vec<_> = sources.iter().map(|source| source.cell(name, privacy)).collect();
            HeadlineRow {
                name: name.to_owned(),
                title: metric_title(name),
                values: cells.iter().map(|cell| cell.value).collect(),
                intervals: cells.iter().map(|cell| cell.interval).collect(),
                tie_bounds: cells.iter().map(|cell| cell.tie_bounds).collect(),
            }
        };
        let mut names: Vec<&str> =
            sources.iter().flat_map(|source| source.metrics.keys().map(String::as_str)).collect();
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
            schema: 4,
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

impl HeadlineRow {
    /// The value of a column as shown: bounds where ties decide it.
    pub(crate) fn shown(&self, at: usize) -> String {
        match self.tie_bounds[at] {
            Some([low, high]) => {
                format!("{} to {}", show(&self.name, Some(low)), show(&self.name, Some(high)))
            }
            None => show(&self.name, self.values[at]),
        }
    }
}

/// What a column is made from.
struct Source<'a> {
    result: &'a SplitEvaluation,
    metrics: &'a BTreeMap<String, f64>,
    /// Not the baseline, which has neither intervals nor scores that are tied.
    is_model: bool,
}

/// A metric in one column.
#[derive(Default)]
struct Cell {
    value: Option<f64>,
    interval: Option<[f64; 2]>,
    tie_bounds: Option<[f64; 2]>,
}

impl Source<'_> {
    fn cell(&self, name: &str, privacy: Privacy) -> Cell {
        if !shows_metric(privacy, name, self.metrics, self.result) {
            return Cell::default();
        }
        let own = Some(self.result).filter(|_| self.is_model);
        let interval = own.and_then(|result| result.intervals.get(name)).map(|i| [i.low, i.high]);
        let width = |[low, high]: [f64; 2]| high - low;
        let least = interval.map_or(USUAL_WIDTH, width);
        let tie_bounds = own.and_then(|result| result.tie_bounds.get(name)).copied();
        let tie_bounds = tie_bounds.filter(|bounds| width(*bounds) > least);
        Cell {
            value: self.metrics.get(name).copied(),
            interval: interval.filter(|_| tie_bounds.is_none()),
            tie_bounds,
        }
    }
}

/// Whether a metric may be shown: not where it is the share of a known number of things, and those that it counts, or
/// those that it does not, are so few that they must not be told.
pub(crate) fn shows_metric(
    privacy: Privacy,
    name: &str,
    metrics: &BTreeMap<String, f64>,
    result: &SplitEvaluation,
) -> bool {
    let suffix = if name.ends_with("_edin") { "_edin" } else { "" };
    let plain = name.trim_end_matches("_edin");
    // From F1 and one of precision and recall the other follows.
    if let Some(k) = plain.strip_prefix("f1_at_") {
        let precision = format!("precision_at_{k}{suffix}");
        return shows_metric(privacy, &precision, metrics, result);
    }
    // The metric that tells the count, and what it is a share of.
    let (share, whole) = match plain {
        "exact_match_ratio" => (name.to_owned(), result.notes),
        "micro_recall" | "micro_precision" | "micro_f1" | "micro_accuracy" => {
            let pairs = result.calibration.bins.iter().map(|bin| bin.share_true * bin.pairs as f64);
            let (recall, pairs) = (format!("micro_recall{suffix}"), pairs.sum::<f64>().round());
            // Predicted pairs that are not true follow from both.
            let precision = metrics.get(&format!("micro_precision{suffix}")).filter(|share| **share > 0.0);
            if let (Some(share), Some(precision)) = (metrics.get(&recall), precision)
                && !privacy.shows((share * pairs * (1.0 / precision - 1.0)).round() as u64)
            {
                return false;
            }
            (recall, pairs as u64)
        }
        _ => match plain.strip_prefix("precision_at_").and_then(|k| k.parse::<u64>().ok()) {
            Some(k) => (name.to_owned(), k.min(result.labels) * result.notes),
            None => return true,
        },
    };
    metrics.get(&share).is_none_or(|share| privacy.shows_part(whole, *share))
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
    use plmicd_data::{Calibration, Interval, ReliabilityBin};

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

    fn evaluation(metrics: &[(&str, f64)]) -> Evaluation {
        let named = |(name, value): &(&str, f64)| ((*name).to_owned(), *value);
        let interval = |low, high| Interval { low, high, standard_error: 0.01 };
        let result = SplitEvaluation {
            notes: 238,
            labels: 50,
            metrics: metrics.iter().map(named).collect(),
            intervals: metrics
                .iter()
                .map(|(name, v)| ((*name).to_owned(), interval(v - 0.01, v + 0.01)))
                .collect(),
            tie_bounds: BTreeMap::from([
                ("precision_at_5".to_owned(), [0.444, 0.446]),
                ("precision_at_8".to_owned(), [0.375, 0.875]),
            ]),
            calibration: Calibration {
                bins: vec![ReliabilityBin { pairs: 10_000, mean_score: 0.1, share_true: 0.2 }],
                ..Calibration::default()
            },
            ..SplitEvaluation::default()
        };
        Evaluation { splits: BTreeMap::from([(Split::Test, result)]), ..Evaluation::default() }
    }

    #[test]
    fn what_ties_decide_is_shown_by_its_bounds() {
        let evaluation = evaluation(&[("precision_at_5", 0.445), ("precision_at_8", 0.4413)]);
        let headline = Headline::of("x", &evaluation, None, Privacy { restricted: false });
        let [five, eight] = &headline.rows[..] else { panic!("{:?}", headline.rows) };
        assert_eq!((five.shown(0), five.tie_bounds[0]), ("0.4450".to_owned(), None));
        assert!(five.intervals[0].is_some(), "they move it less than other notes would");
        assert_eq!(eight.shown(0), "0.3750 to 0.8750");
        assert_eq!((eight.intervals[0], eight.tie_bounds[0]), (None, Some([0.375, 0.875])));
        assert!(crate::results::tiles(&headline).is_empty());
        assert!(crate::text::latex(&headline).contains("P@8 & 37.5--87.5"));
        assert!(crate::text::csv(&headline).contains("precision_at_8,0.4413,,,0.375,0.875"));
        let markdown = crate::text::markdown(&headline);
        assert!(
            markdown.contains("| P@8 | 0.3750 to 0.8750 |") && markdown.contains("equal scores"),
            "{markdown}"
        );
        let row = crate::published::find("plm-icd/mimic3-full").unwrap();
        let table = crate::published::table(row, &headline);
        let cells = |title: &str| &table.rows.iter().find(|row| row.title == title).unwrap().cells;
        assert_eq!(cells("P@5")[2], "-0.3990");
        assert_eq!(cells("P@8")[..], ["0.3750 to 0.8750", "0.771", "–"]);
    }

    #[test]
    fn restricted_data_show_no_share_of_few_notes_or_pairs() {
        let shown = |metrics: &[(&str, f64)], restricted| {
            let headline = Headline::of("x", &evaluation(metrics), None, Privacy { restricted });
            let row = headline.all_rows.iter().find(|row| row.name == metrics[0].0).unwrap().clone();
            assert_eq!(row.values[0].is_some(), row.intervals[0].is_some());
            row.values[0].is_some()
        };
        // 8 notes of 238, 10 notes, all but 8.
        for (share, expected) in [(0.0336, false), (0.042, true), (0.9664, false), (0.0, true), (1.0, true)] {
            assert_eq!(shown(&[("exact_match_ratio", share)], true), expected, "{share}");
            assert!(shown(&[("exact_match_ratio", share)], false));
        }
        assert!(!shown(&[("precision_at_5", 0.005)], true) && shown(&[("precision_at_5", 0.5)], true));
        // 8 of 2,000 true pairs are found.
        assert!(!shown(&[("micro_f1", 0.1), ("micro_recall", 0.004)], true));
        assert!(shown(&[("micro_f1", 0.1), ("micro_recall", 0.4)], true));
        assert!(shown(&[("macro_f1_caml", 0.001), ("micro_recall", 0.4)], true));
        // 1,000 of them are, and beside those 5 pairs that are none.
        let few = [("micro_recall", 0.5), ("micro_precision", 0.995)];
        assert!(!shown(&few, true) && shown(&few, false));
        // Precision at 5 follows from F1 and recall.
        assert!(!shown(&[("f1_at_5", 0.01), ("precision_at_5", 0.005)], true));
    }

    #[test]
    fn counts_and_shares_are_shown_apart() {
        assert_eq!(show("macro_auc_labels", Some(51.0)), "51");
        assert_eq!(show("macro_f1_all_labels", Some(1.0)), "1.0000");
        assert_eq!(show("micro_f1", None), "–");
    }
}

//! Values obtained by running the published implementations on the same matrices.

#![allow(clippy::print_stderr)] // a skipped test says why

use std::fs;
use std::path::PathBuf;

use plmicd_metrics::rules::{best_of_grid, edin_grid, plm_icd_grid};
use plmicd_metrics::{
    LabelCounts, Ranking, Scope, Scored, Truth, at_threshold, best_macro_f1, best_micro_f1, label_aucs,
    ranking_and_auc, tie_bounds,
};
use serde_json::Value;

const CAML_TOLERANCE: f64 = 1e-9;
/// Its sums are float32.
const EDIN_TOLERANCE: f64 = 2e-6;

struct Set {
    name: String,
    scores: Vec<f32>,
    truth: Truth,
}

impl Set {
    fn scored(&self) -> Scored<'_> {
        Scored::new(&self.scores, &self.truth).unwrap()
    }
}

fn golden() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/metrics");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: there is no folder {}", dir.display());
    None
}

fn matrix(path: PathBuf) -> Vec<Vec<f32>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect()
}

/// The sets that an expectation file covers, each with its expectations.
fn sets(file: &str) -> Vec<(Set, Value)> {
    let Some(dir) = golden() else { return Vec::new() };
    let expected: Value = serde_json::from_str(&fs::read_to_string(dir.join(file)).unwrap()).unwrap();
    let sets = expected["sets"].as_object().unwrap();
    assert!(!sets.is_empty());
    sets.iter()
        .map(|(name, expected)| {
            let truth = matrix(dir.join(format!("{name}_true.csv")));
            let ids =
                |row: &Vec<f32>| (0i32..).zip(row).filter(|(_, v)| **v == 1.0).map(|(id, _)| id).collect();
            let rows: Vec<Vec<i32>> = truth.iter().map(ids).collect();
            let set = Set {
                name: name.clone(),
                scores: matrix(dir.join(format!("{name}_score.csv"))).concat(),
                truth: Truth::new(truth[0].len(), &rows).unwrap(),
            };
            (set, expected.clone())
        })
        .collect()
}

fn close(set: &Set, name: &str, found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("no expected value of {name}"));
    assert!((found - expected).abs() <= tolerance, "{}: {name} is {found}, expected {expected}", set.name);
}

#[test]
fn threshold_metrics_are_those_of_caml() {
    let names = [
        ("acc_macro", "macro_accuracy"),
        ("prec_macro", "macro_precision"),
        ("rec_macro", "macro_recall"),
        ("f1_macro", "macro_f1_caml"),
        ("acc_micro", "micro_accuracy"),
        ("prec_micro", "micro_precision"),
        ("rec_micro", "micro_recall"),
        ("f1_micro", "micro_f1"),
    ];
    for (set, expected) in sets("caml_expected.json") {
        let thresholds = expected["per_threshold"].as_object().unwrap();
        assert_eq!(thresholds.len(), 7);
        for (threshold, expected) in thresholds {
            let metrics = at_threshold(&set.scored(), threshold.parse().unwrap());
            for (theirs, ours) in names {
                close(&set, ours, metrics[ours], &expected[theirs], CAML_TOLERANCE);
            }
        }
        let metrics = at_threshold(&set.scored(), 0.5);
        for name in ["precision", "recall", "f1"] {
            let ours = format!("instance_{name}");
            close(&set, &ours, metrics[&ours], &expected["inst_0.5"][format!("inst_{name}")], CAML_TOLERANCE);
        }
        for name in ["all", "present"] {
            let ours = format!("macro_f1_{name}_labels");
            let theirs = &expected[format!("reference_mean_of_label_f1_{name}")];
            close(&set, &ours, metrics[&ours], theirs, CAML_TOLERANCE);
        }
    }
}

#[test]
fn areas_are_those_of_caml() {
    for (set, expected) in sets("caml_expected.json") {
        let (metrics, areas) = ranking_and_auc(&set.scored(), &[]);
        for (label, area) in areas.iter().enumerate() {
            match expected["per_label_auc"].get(label.to_string()) {
                Some(Value::Null) | None => assert_eq!(*area, None, "{}: label {label}", set.name),
                Some(expected) => {
                    close(&set, &format!("AUC of label {label}"), area.unwrap(), expected, CAML_TOLERANCE);
                }
            }
        }
        close(
            &set,
            "macro_auc",
            metrics["macro_auc"],
            &expected["threshold_0.5"]["auc_macro"],
            CAML_TOLERANCE,
        );
        close(
            &set,
            "micro_auc",
            metrics["micro_auc"],
            &expected["threshold_0.5"]["auc_micro"],
            CAML_TOLERANCE,
        );
        close(&set, "macro_auc_labels", metrics["macro_auc_labels"], &expected["labels_in_macro_auc"], 0.0);
        assert_eq!(label_aucs(&set.scored()), areas);
    }
}

#[test]
fn ranking_is_that_of_caml_or_one_of_its_outcomes_under_ties() {
    for (set, expected) in sets("caml_expected.json") {
        let ranking = Ranking::new(&set.scored(), &Scope::everything(&set.truth));
        if let Some(bounds) = expected.get("prec_at_k_bounds_over_tie_orders") {
            for (k, bounds) in bounds.as_object().unwrap() {
                let found = ranking.precision_at(k.parse().unwrap());
                let (low, high) = (&bounds["prec_at_k_min"], &bounds["prec_at_k_max"]);
                let range = low.as_f64().unwrap() - 1e-12..=high.as_f64().unwrap() + 1e-12;
                assert!(range.contains(&found), "{}: P@{k} is {found}, expected in {range:?}", set.name);
            }
            continue;
        }
        let expected = &expected["threshold_0.5"];
        let ks: Vec<usize> = (1..=15).filter(|k| expected.get(format!("prec_at_{k}")).is_some()).collect();
        assert!(ks.len() >= 3);
        for k in ks {
            close(&set, "P@k", ranking.precision_at(k), &expected[format!("prec_at_{k}")], CAML_TOLERANCE);
            close(&set, "R@k", ranking.recall_at(k), &expected[format!("rec_at_{k}")], CAML_TOLERANCE);
            close(&set, "F1@k", ranking.f1_at(k), &expected[format!("f1_at_{k}")], CAML_TOLERANCE);
        }
    }
}

#[test]
fn metrics_are_those_of_edin_2023() {
    for (set, expected) in sets("edin2023_expected.json") {
        let has_ties = set.name.starts_with("C_");
        for (group, suffix, scope) in [
            ("filtered_to_labels_present", "", Scope::present(&set.truth)),
            ("unfiltered_mullenbach", "_mullenbach", Scope::everything(&set.truth)),
        ] {
            let expected = &expected[group];
            let check = |name: &str, found: f64| {
                close(&set, name, found, &expected[format!("{name}{suffix}")], EDIN_TOLERANCE);
            };
            let counts = LabelCounts::at(&set.scored(), &scope, 0.5);
            check("f1_micro", counts.micro_f1().unwrap());
            check("precision_micro", counts.micro_precision().unwrap());
            check("recall_micro", counts.micro_recall().unwrap());
            check("fpr_micro", counts.micro_false_positive_rate().unwrap());
            check("f1_macro", counts.macro_f1_edin());
            check("precision_macro", counts.macro_precision());
            check("recall_macro", counts.macro_recall());
            check("fpr_macro", counts.macro_false_positive_rate());
            let instance = plmicd_metrics::InstanceMetrics::at(&set.scored(), &scope, 0.5);
            check("exact_match_ratio", instance.exact_match_ratio);
            if has_ties {
                continue;
            }
            let ranking = Ranking::new(&set.scored(), &scope);
            check("map", ranking.mean_average_precision());
            check("precision@recall", ranking.r_precision());
            for k in [1, 5, 8, 15] {
                if expected.get(format!("precision@{k}{suffix}")).is_some() {
                    check(&format!("precision@{k}"), ranking.precision_at(k));
                }
            }
            for k in [3, 10, 15] {
                if expected.get(format!("recall@{k}{suffix}")).is_some() {
                    check(&format!("recall@{k}"), ranking.recall_at(k));
                }
            }
        }
        let expected = &expected["filtered_at_tuned_threshold"];
        // Their threshold is a grid point; the set's scores are never that close to it.
        let tuned = tuned_threshold(&set);
        let metrics = at_threshold(&set.scored(), tuned);
        close(&set, "micro_f1_edin", metrics["micro_f1_edin"], &expected["f1_micro"], EDIN_TOLERANCE);
        close(&set, "macro_f1_edin", metrics["macro_f1_edin"], &expected["f1_macro"], EDIN_TOLERANCE);
    }
}

/// The first maximum of micro F1 over `linspace(0, 1, 100)`, as theirs.
fn tuned_threshold(set: &Set) -> f32 {
    best_of_grid(&set.scored(), &edin_grid()).unwrap().threshold
}

#[test]
fn the_published_grids_choose_what_they_chose() {
    for (set, expected) in sets("edin2023_expected.json") {
        let best = best_of_grid(&set.scored(), &edin_grid()).unwrap();
        let expected = &expected["threshold_tuning_micro"];
        close(&set, "the threshold", f64::from(best.threshold), &expected["threshold"], EDIN_TOLERANCE);
        close(&set, "its micro F1", best.value, &expected["best_f1"], EDIN_TOLERANCE);
    }
    for (set, expected) in sets("caml_expected.json") {
        let best = best_of_grid(&set.scored(), &plm_icd_grid()).unwrap();
        let values = expected["per_threshold"].as_object().unwrap().values();
        let highest = values.map(|value| value["f1_micro"].as_f64().unwrap()).fold(0.0, f64::max);
        assert!((best.value - highest).abs() < CAML_TOLERANCE, "{}: {best:?}", set.name);
    }
}

#[test]
fn bounds_under_ties_are_those_over_all_orders() {
    let mut checked = 0;
    for (set, expected) in sets("caml_expected.json") {
        let scored = set.scored();
        let ranking = Ranking::new(&scored, &Scope::everything(&set.truth));
        let ks = [1, 3, 5, 8, 10, 15];
        let found = tie_bounds(&scored, &ks);
        let bounds_of = |name: &str, value: f64| found.get(name).copied().unwrap_or([value; 2]);
        for (name, value) in ranking.metrics(&ks) {
            let [low, high] = bounds_of(&name, value);
            assert!(low <= value && value <= high, "{}: {name} is {value} of {low} to {high}", set.name);
        }
        if let Some(bounds) = expected.get("prec_at_k_bounds_over_tie_orders") {
            for (k, bounds) in bounds.as_object().unwrap() {
                let at: usize = k.parse().unwrap();
                assert!(ks.contains(&at), "{k}");
                let [low, high] = bounds_of(&format!("precision_at_{k}"), ranking.precision_at(at));
                close(&set, "the lowest P@k", low, &bounds["prec_at_k_min"], CAML_TOLERANCE);
                close(&set, "the highest P@k", high, &bounds["prec_at_k_max"], CAML_TOLERANCE);
                checked += 1;
            }
        } else {
            assert!(!found.keys().any(|name| name.ends_with("_at_5")), "{}: {found:?}", set.name);
        }
    }
    assert!(checked >= 4 || golden().is_none());
}

#[test]
fn the_exact_search_is_never_worse_than_the_published_ones() {
    for (set, expected) in sets("edin2023_expected.json") {
        let scored = set.scored();
        let (micro, macro_) = (best_micro_f1(&scored), best_macro_f1(&scored));
        let theirs = |kind: &str| expected[format!("threshold_tuning_{kind}")]["best_f1"].as_f64().unwrap();
        assert!(micro.value >= theirs("micro") - EDIN_TOLERANCE, "{}: {micro:?}", set.name);
        assert!(macro_.value >= theirs("macro") - EDIN_TOLERANCE, "{}: {macro_:?}", set.name);
    }
    for (set, expected) in sets("caml_expected.json") {
        let scored = set.scored();
        let msmn = expected["msmn_find_threshold_micro"].as_f64().unwrap() as f32;
        let theirs = at_threshold(&scored, msmn)["micro_f1"];
        assert!(best_micro_f1(&scored).value >= theirs, "{}", set.name);
    }
}

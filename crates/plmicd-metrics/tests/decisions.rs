//! Decision rules, intervals and tests of difference, on random matrices full of ties.

use plmicd_metrics::rules::{
    best_instance_f1, best_threshold_apart, best_top_k, micro_f1_of, per_label_thresholds, stability,
};
use plmicd_metrics::{
    InstanceMetrics, Interval, LabelCounts, NoteTable, Predictions, Ranking, Rule, Scope, Scored, Truth,
    at_threshold, best_micro_f1, bootstrap, compare, compare_replicates, curve_thresholds, holm,
    mean_and_deviation, ranking_and_auc,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn matrices() -> impl Strategy<Value = (usize, Vec<f32>, Vec<bool>)> {
    (1..9usize, 1..9usize).prop_flat_map(|(notes, labels)| {
        let score = prop_oneof![(0..=8u8).prop_map(|v| f32::from(v) / 8.0), 0.0..=1.0f32];
        let len = notes * labels;
        (Just(labels), vec(score, len), vec(prop::bool::weighted(0.3), len))
    })
}

fn truth(labels: usize, pairs: &[bool]) -> Truth {
    let ids = |row: &[bool]| (0i32..).zip(row).filter(|(_, t)| **t).map(|(id, _)| id).collect::<Vec<_>>();
    Truth::new(labels, &pairs.chunks(labels).map(ids).collect::<Vec<_>>()).unwrap()
}

fn table(scored: &Scored<'_>, rule: &Rule) -> NoteTable {
    let ranks = Ranking::new(scored, &Scope::everything(scored.truth())).ranks().to_vec();
    NoteTable::new(scored.truth().clone(), Predictions::new(scored, rule), Some(ranks)).unwrap()
}

proptest! {
    #[test]
    fn decisions_count_as_their_threshold_does((labels, scores, pairs) in matrices(), threshold in 0.0..1.0f32) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let predictions = Predictions::new(&scored, &Rule::Global(threshold));
        for scope in [Scope::everything(&truth), Scope::present(&truth)] {
            let counts = LabelCounts::at(&scored, &scope, threshold);
            prop_assert_eq!(LabelCounts::of(&predictions, &truth, &scope), counts);
            let instance = InstanceMetrics::at(&scored, &scope, threshold);
            prop_assert_eq!(InstanceMetrics::of(&predictions, &truth, &scope), instance);
        }
        let same = Predictions::new(&scored, &Rule::PerLabel(vec![threshold; labels]));
        prop_assert_eq!(same, predictions);
    }

    #[test]
    fn the_table_of_notes_gives_the_documented_metrics((labels, scores, pairs) in matrices()) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let table = table(&scored, &Rule::Global(0.5));
        let mut expected = at_threshold(&scored, 0.5);
        expected.extend(ranking_and_auc(&scored, &[1, 3]).0);
        for (name, value) in table.names(&[1, 3]).iter().zip(table.values(&[1, 3])) {
            let expected = expected.get(name).copied().unwrap_or(0.0);
            prop_assert!((value - expected).abs() < 1e-12, "{name}: {value}, expected {expected}");
        }
    }

    #[test]
    fn no_threshold_has_a_higher_instance_f1((labels, scores, pairs) in matrices()) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let best = best_instance_f1(&scored);
        let value = |t| InstanceMetrics::at(&scored, &Scope::everything(&truth), t).f1;
        if best.value > 0.0 {
            prop_assert_eq!(value(best.threshold), best.value);
        }
        for threshold in scores.iter().copied().chain([0.0]) {
            prop_assert!(value(threshold) <= best.value + 1e-9, "{threshold}: {}, {best:?}", value(threshold));
        }
    }

    #[test]
    fn a_label_s_own_threshold_is_its_best((labels, scores, pairs) in matrices()) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let own = per_label_thresholds(&scored, 0.25, 1, 0.0);
        let f1s = |rule: &Rule| {
            let predictions = Predictions::new(&scored, rule);
            LabelCounts::of(&predictions, &truth, &Scope::everything(&truth)).label_f1s()
        };
        let found = f1s(&Rule::PerLabel(own.clone()));
        for threshold in scores.iter().copied().chain([0.0]) {
            for (label, f1) in f1s(&Rule::Global(threshold)).into_iter().enumerate() {
                // A label whose true pairs all have score 0 cannot be predicted, one that never occurs has no best.
                prop_assert!(f1 <= found[label], "label {label} at {threshold}: {f1}, {:?}", own[label]);
            }
        }
        let counts = truth.label_counts();
        for (label, threshold) in per_label_thresholds(&scored, 0.25, 3, 2.0).into_iter().enumerate() {
            if counts[label] < 3 {
                prop_assert_eq!(threshold, 0.25);
            } else {
                let weight = counts[label] as f64 / (counts[label] as f64 + 2.0);
                let expected = weight * f64::from(own[label]) + (1.0 - weight) * 0.25;
                prop_assert!((f64::from(threshold) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn no_threshold_of_some_labels_is_better_beside_the_others(
        (labels, scores, pairs) in matrices(),
        marks in vec(any::<bool>(), 9),
        global in 0.0..1.0f32,
    ) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let apart = &marks[..labels];
        let rule = |own: f32| Rule::PerLabel(apart.iter().map(|apart| if *apart { own } else { global }).collect());
        let best = best_threshold_apart(&scored, apart, global);
        prop_assert!((micro_f1_of(&scored, &rule(best.threshold)) - best.value).abs() < 1e-12, "{best:?}");
        for own in scores.iter().copied().chain([0.0, 1.0]) {
            let value = micro_f1_of(&scored, &rule(own));
            prop_assert!(value <= best.value + 1e-12, "{own}: {value}, {best:?}");
            let decides = |own| Predictions::new(&scored, &rule(own));
            let is_another = own > best.threshold && decides(own) != decides(best.threshold);
            prop_assert!(!is_another || value < best.value, "{own}: as good, and higher than {best:?}");
        }
    }

    #[test]
    fn no_k_is_better_than_the_best((labels, scores, pairs) in matrices()) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let best = best_top_k(&scored, labels);
        for k in 1..=labels {
            let value = micro_f1_of(&scored, &Rule::TopK(k));
            prop_assert!(best.is_none_or(|(_, best)| value <= best + 1e-12));
            if let Some((chosen, best)) = best && chosen == k {
                prop_assert!((value - best).abs() < 1e-12);
            }
        }
        prop_assert_eq!(best.is_none(), truth.positives() == 0);
    }

    #[test]
    fn intervals_hold_their_order_and_follow_the_seed((labels, scores, pairs) in matrices()) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let table = table(&scored, &Rule::Global(0.5));
        let errors = bootstrap(&table, &[2], 50, 7);
        prop_assert_eq!(errors.len(), table.names(&[2]).len());
        for (value, error) in table.values(&[2]).into_iter().zip(&errors) {
            let Some(error) = *error else { continue };
            let interval = Interval::around(value, error);
            prop_assert!(interval.low <= value && value <= interval.high, "{value}: {interval:?}");
            prop_assert!(0.0 <= interval.low && interval.high <= value.max(1.0), "{value}: {interval:?}");
        }
        let decides = (0..truth.num_notes()).any(|note| !table.predictions().row(note).is_empty());
        prop_assert_eq!(errors[0].is_some(), decides);
        prop_assert_eq!(bootstrap(&table, &[2], 50, 7), errors);
        let thresholds = curve_thresholds(&scored, best_micro_f1(&scored).threshold);
        let found = stability(&scored, &thresholds, 50, 7);
        if let Some(found) = found {
            prop_assert!(found.threshold.low <= found.threshold.high && found.value.low <= found.value.high);
        }
    }
}

/// 400 notes, 3 labels; the second system misses a fifth of what the first one finds.
fn two_systems() -> (NoteTable, NoteTable) {
    let rows: Vec<Vec<i32>> = (0..400).map(|note| vec![note % 3]).collect();
    let truth = Truth::new(3, &rows).unwrap();
    let guess = |miss: i32| -> Vec<Vec<i32>> {
        (0..400).map(|note| if note % miss == 0 { vec![] } else { vec![note % 3] }).collect()
    };
    let table =
        |miss| NoteTable::new(truth.clone(), Predictions::from_ids(3, &guess(miss)).unwrap(), None).unwrap();
    (table(50), table(5))
}

#[test]
fn differences_are_told_from_chance() {
    let (good, bad) = two_systems();
    let find = |found: Vec<plmicd_metrics::Comparison>, name: &str| {
        found.into_iter().find(|c| c.metric == name).expect("compared")
    };
    let difference = find(compare(&good, &bad, &[], 999, 1), "micro_f1");
    assert!(difference.first > difference.second && difference.p_value < 0.01, "{difference:?}");
    let same = find(compare(&good, &good, &[], 999, 1), "micro_f1");
    assert_eq!(same.p_value, 1.0);
    // One note more or less is chance.
    let rows: Vec<Vec<i32>> =
        (0..400).map(|note| if note % 50 == 0 || note == 7 { vec![] } else { vec![note % 3] }).collect();
    let near = NoteTable::new(good.truth().clone(), Predictions::from_ids(3, &rows).unwrap(), None).unwrap();
    assert!(find(compare(&good, &near, &[], 999, 1), "micro_f1").p_value > 0.5);
}

#[test]
fn replicates_count_by_their_mean() {
    let (good, bad) = two_systems();
    let single = compare(&good, &bad, &[], 999, 1);
    // The same runs once more say nothing new.
    assert_eq!(compare_replicates(&[&good, &good], &[&bad, &bad], &[], 999, 1), single);
    // One better and one worse of each: no difference of the means, whatever the coins.
    let level = compare_replicates(&[&good, &bad], &[&bad, &good], &[], 999, 1);
    assert!(level.iter().all(|c| (c.first - c.second).abs() < 1e-12 && c.p_value == 1.0), "{level:?}");
    assert!(compare_replicates(&[], &[], &[], 999, 1).is_empty());
}

#[test]
fn several_p_values_are_adjusted_by_hand() {
    let close = |found: Vec<f64>, expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    };
    // 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 is not below the one before.
    close(holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02]);
    close(holm(&[0.6, 0.7]), &[1.0, 1.0]);
    close(holm(&[0.02]), &[0.02]);
    close(holm(&[]), &[]);
}

#[test]
fn an_interval_is_as_wide_as_theory_says() {
    let (_, bad) = two_systems();
    // Exact match is a share of 0.8 over 400 notes: standard error 0.02.
    let names = bad.names(&[]);
    let at = names.iter().position(|name| name == "exact_match_ratio").unwrap();
    let interval = Interval::around(bad.values(&[])[at], bootstrap(&bad, &[], 2000, 3)[at].unwrap());
    assert!((interval.standard_error - 0.02).abs() < 0.002, "{interval:?}");
    assert!((interval.low - 0.76).abs() < 0.01 && (interval.high - 0.84).abs() < 0.01, "{interval:?}");
}

/// 400 notes drawn of a population in which few labels are frequent and most are true for one note or none; two of
/// three true labels are found. The stream decides which notes.
fn long_tailed(stream: u64) -> NoteTable {
    const LABELS: i32 = 1000;
    let mut state = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut share = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let (mut rows, mut guesses) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        let true_labels: Vec<i32> =
            (0..LABELS).filter(|label| share() < 0.8 / f64::from(label + 1)).collect();
        guesses.push(true_labels.iter().copied().filter(|_| share() < 2.0 / 3.0).collect::<Vec<i32>>());
        rows.push(true_labels);
    }
    let truth = Truth::new(LABELS as usize, &rows).unwrap();
    NoteTable::new(truth, Predictions::from_ids(LABELS as usize, &guesses).unwrap(), None).unwrap()
}

#[test]
fn intervals_of_macro_figures_hold_the_value_over_a_long_tail() {
    let table = long_tailed(1);
    let names = table.names(&[]);
    let (values, errors) = (table.values(&[]), bootstrap(&table, &[], 200, 3));
    for name in ["macro_f1_all_labels", "macro_f1_caml", "macro_f1_present_labels"] {
        let at = names.iter().position(|other| other == name).unwrap();
        let interval = Interval::around(values[at], errors[at].unwrap());
        assert!(interval.low < values[at] && values[at] < interval.high, "{name}: {interval:?}");
        // As wide as figures of other notes of the same kind scatter, or somewhat narrower.
        let fresh: Vec<f64> = (2..62).map(|stream| long_tailed(stream).values(&[])[at]).collect();
        let (mean, deviation) = mean_and_deviation(&fresh).unwrap();
        let ratio = interval.standard_error / deviation;
        assert!((0.6..1.4).contains(&ratio), "{name}: {ratio}");
        let inside = fresh.iter().filter(|value| (**value - mean).abs() < values[at] - interval.low).count();
        assert!(inside >= 48, "{name}: {inside} of 60");
    }
}

#[test]
fn samples_without_a_true_pair_do_not_choose() {
    let truth = Truth::new(2, &[vec![0], vec![], vec![]]).unwrap();
    let scores = [0.3, 0.1, 0.1, 0.1, 0.1, 0.1];
    let scored = Scored::new(&scores, &truth).unwrap();
    let thresholds = curve_thresholds(&scored, best_micro_f1(&scored).threshold);
    let found = stability(&scored, &thresholds, 200, 1).unwrap();
    // From 0.1 to below 0.3 only the true pair is predicted: the middle, whichever notes are drawn beside.
    assert_eq!((found.value.low, found.value.high), (1.0, 1.0));
    assert!(found.threshold.low > 0.1 && found.threshold.high < 0.3, "{found:?}");
    let nothing = Truth::new(2, &[vec![], vec![], vec![]]).unwrap();
    assert_eq!(stability(&Scored::new(&scores, &nothing).unwrap(), &thresholds, 200, 1), None);
}

#[test]
fn a_negative_zero_is_zero() {
    let truth = Truth::new(4, &[vec![0, 2]]).unwrap();
    let ranks = |scores: &[f32]| {
        let scored = Scored::new(scores, &truth).unwrap();
        let highest = Predictions::new(&scored, &Rule::TopK(2)).row(0).to_vec();
        (Ranking::new(&scored, &Scope::everything(&truth)).ranks()[0].clone(), highest)
    };
    assert_eq!(ranks(&[-0.0, 0.0, 0.0, 0.5]), ranks(&[0.0, 0.0, 0.0, 0.5]));
}

//! The fast counts against the definitions, on random matrices full of ties.

use plmicd_metrics::threshold::{MAX_CURVE_POINTS, micro_f1_at};
use plmicd_metrics::{
    LabelCounts, MetricsError, Ranking, Scope, Scored, Ties, Truth, at_threshold, best_macro_f1,
    best_micro_f1, curve, curve_thresholds, label_aucs, micro_auc, ranking_and_auc, tie_bounds,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Scores on a coarse grid (ties), often 0 or 1, and truth.
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

/// The area by its definition: pairs won, ties counting half.
fn area(scored: &[(f32, bool)]) -> Option<f64> {
    let (mut points, mut pairs) = (0.0, 0.0);
    for (positive, _) in scored.iter().filter(|(_, t)| *t) {
        for (negative, _) in scored.iter().filter(|(_, t)| !*t) {
            pairs += 1.0;
            points += if positive > negative { 1.0 } else { f64::from(u8::from(positive == negative)) / 2.0 };
        }
    }
    (pairs > 0.0).then(|| points / pairs)
}

/// Every decision: thresholds between the distinct scores, and below all of them if that is not below 0.
fn all_thresholds(scores: &[f32]) -> Vec<f32> {
    let mut thresholds = scores.to_vec();
    thresholds.push(0.0);
    thresholds.sort_by(f32::total_cmp);
    thresholds.dedup();
    thresholds
}

proptest! {
    #[test]
    fn areas_follow_the_definition((labels, scores, pairs) in matrices()) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let all: Vec<_> = scores.iter().copied().zip(pairs.iter().copied()).collect();
        prop_assert!(same(micro_auc(&scored), area(&all)));
        for (label, found) in label_aucs(&scored).into_iter().enumerate() {
            let column: Vec<_> = all.iter().skip(label).step_by(labels).copied().collect();
            prop_assert!(same(found, area(&column)), "label {label}: {found:?}");
        }
    }

    #[test]
    fn no_threshold_beats_the_best((labels, scores, pairs) in matrices()) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let (micro, macro_) = (best_micro_f1(&scored), best_macro_f1(&scored));
        prop_assert!((0.0..=1.0).contains(&micro.threshold) && (0.0..=1.0).contains(&macro_.threshold));
        let value = |threshold| LabelCounts::at(&scored, &Scope::everything(&truth), threshold);
        prop_assert_eq!(value(micro.threshold).micro_f1().unwrap_or(0.0), micro.value);
        prop_assert_eq!(value(macro_.threshold).macro_f1_all_labels(), macro_.value);
        prop_assert_eq!(micro_f1_at(&scored, micro.threshold), micro.value);
        for threshold in all_thresholds(&scores) {
            let counts = value(threshold);
            let (micro_f1, macro_f1) = (counts.micro_f1().unwrap_or(0.0), counts.macro_f1_all_labels());
            prop_assert!(micro_f1 <= micro.value, "{threshold} gives {micro_f1}, not {micro:?}");
            prop_assert!(macro_f1 <= macro_.value + 1e-10, "{threshold} gives {macro_f1}, not {macro_:?}");
            if micro_f1 == micro.value && micro.value > 0.0 {
                prop_assert!(value(micro.threshold).predicted <= counts.predicted, "a higher one is as good");
            }
        }
    }

    #[test]
    fn ranks_are_those_of_a_sort((labels, scores, pairs) in matrices(), k in 1..10usize) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let (mut precision, mut recall, mut average_precision) = (0.0, 0.0, 0.0);
        for (row, pairs) in scores.chunks(labels).zip(pairs.chunks(labels)) {
            let mut order: Vec<usize> = (0..labels).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a])); // stable: the lower id first
            let true_labels = pairs.iter().filter(|t| **t).count() as f64;
            let hits = order.iter().take(k).filter(|label| pairs[**label]).count() as f64;
            precision += hits / k.min(labels) as f64;
            recall += if true_labels > 0.0 { hits / true_labels } else { 0.0 };
            let (mut seen, mut sum) = (0.0, 0.0);
            for (rank, label) in order.iter().enumerate() {
                if pairs[*label] {
                    seen += 1.0;
                    sum += seen / (rank + 1) as f64;
                }
            }
            average_precision += if true_labels > 0.0 { sum / true_labels } else { 0.0 };
        }
        let ranking = Ranking::new(&scored, &Scope::everything(&truth));
        let notes = truth.num_notes() as f64;
        prop_assert!((ranking.precision_at(k) - precision / notes).abs() < 1e-12);
        prop_assert!((ranking.recall_at(k) - recall / notes).abs() < 1e-12);
        prop_assert!((ranking.mean_average_precision() - average_precision / notes).abs() < 1e-12);
    }

    #[test]
    fn ranks_under_ties_are_those_of_a_sort((labels, scores, pairs) in matrices()) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let all: Vec<usize> = (0..truth.num_notes()).collect();
        let labelled: Vec<usize> = all.iter().copied().filter(|note| !truth.row(*note).is_empty()).collect();
        for (scope, notes) in [(Scope::everything(&truth), all), (Scope::present(&truth), labelled)] {
            for (ties, is_before) in [(Ties::TrueFirst, true), (Ties::TrueLast, false)] {
                let ranking = Ranking::with_ties(&scored, &scope, ties);
                prop_assert_eq!(ranking.ranks().len(), notes.len());
                for (note, found) in notes.iter().zip(ranking.ranks()) {
                    let (row, pairs) = (scored.row(*note), &pairs[note * labels..(note + 1) * labels]);
                    let mut order: Vec<usize> = (0..labels).filter(|label| scope.has_label(*label)).collect();
                    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(
                        (pairs[*a] != is_before).cmp(&(pairs[*b] != is_before))
                    ));
                    let expected: Vec<u32> = (1..).zip(&order).filter(|(_, l)| pairs[**l]).map(|(r, _)| r).collect();
                    prop_assert_eq!(found, &expected);
                }
            }
        }
        let own = ranking_and_auc(&scored, &[1, 3]).0;
        for (name, [low, high]) in tie_bounds(&scored, &[1, 3]) {
            prop_assert!(low <= own[&name] && own[&name] <= high, "{name}");
        }
    }

    #[test]
    fn the_curve_is_the_metrics_at_its_thresholds((labels, scores, pairs) in matrices(), chosen in 0.0..=1.0f32) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        let thresholds = curve_thresholds(&scored, chosen);
        prop_assert!(thresholds.len() <= MAX_CURVE_POINTS && thresholds.contains(&chosen));
        prop_assert!(thresholds.is_sorted());
        for point in curve(&scored, &thresholds) {
            let counts = LabelCounts::at(&scored, &Scope::everything(&truth), point.threshold);
            prop_assert_eq!(point.micro_f1, counts.micro_f1().unwrap_or(0.0));
            prop_assert_eq!(point.macro_f1_all_labels, counts.macro_f1_all_labels());
        }
    }

    #[test]
    fn every_metric_is_finite((labels, scores, pairs) in matrices(), threshold in 0.0..=1.0f32) {
        let truth = truth(labels, &pairs);
        let scored = Scored::new(&scores, &truth).unwrap();
        for (name, value) in at_threshold(&scored, threshold) {
            prop_assert!(value.is_finite(), "{name} is {value}");
        }
    }
}

fn same(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-12,
        (a, b) => a == b,
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (notes, labels) = (257, 61);
    let scores: Vec<f32> = (0..notes * labels).map(|i| ((i * 7919) % 1009) as f32 / 1008.0).collect();
    let pairs: Vec<bool> = (0..notes * labels).map(|i| (i * 104_729) % 17 < 2).collect();
    let truth = truth(labels, &pairs);
    let run = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let scored = Scored::new(&scores, &truth).unwrap();
            let best = best_micro_f1(&scored);
            let curve = curve(&scored, &curve_thresholds(&scored, best.threshold));
            let summary = plmicd_metrics::ranking_and_auc(&scored, &[5, 8]);
            (best, best_macro_f1(&scored), curve, summary, at_threshold(&scored, 0.3))
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_threshold_lies_midway_and_takes_no_tie_apart() {
    // Two true pairs at 0.8 and 0.6, false ones at 0.7 and 0.2.
    let truth = Truth::new(2, &[[0], [0]]).unwrap();
    let scored = Scored::new(&[0.8, 0.7, 0.6, 0.2], &truth).unwrap();
    let best = best_micro_f1(&scored);
    assert!((best.threshold - 0.4).abs() < 1e-6, "{best:?}");
    assert_eq!(best.value, 0.8);
    // Neighbouring floats have no float between them: the lower is the threshold.
    let low = 0.5f32;
    let scores = [low.next_up(), low];
    let truth = Truth::new(2, &[[0]]).unwrap();
    let best = best_micro_f1(&Scored::new(&scores, &truth).unwrap());
    assert_eq!((best.threshold, best.value), (low, 1.0));
}

#[test]
fn degenerate_truths_have_a_threshold() {
    let none = Truth::new(2, &[[0i32; 0]]).unwrap();
    let scored = Scored::new(&[0.3, 0.9], &none).unwrap();
    assert_eq!((best_micro_f1(&scored).threshold, best_micro_f1(&scored).value), (0.5, 0.0));
    // A true pair of score 0 can never be predicted.
    let truth = Truth::new(1, &[[0]]).unwrap();
    assert_eq!(best_micro_f1(&Scored::new(&[0.0], &truth).unwrap()).value, 0.0);
    assert_eq!(best_macro_f1(&Scored::new(&[0.0], &truth).unwrap()).value, 0.0);
    assert_eq!(micro_auc(&Scored::new(&[0.0], &truth).unwrap()), None);
}

#[test]
fn misfits_are_refused() {
    let truth = Truth::new(2, &[[0], [1]]).unwrap();
    assert_eq!(
        Scored::new(&[0.0; 3], &truth).unwrap_err(),
        MetricsError::Shape { scores: 3, notes: 2, labels: 2 }
    );
    let error = Scored::new(&[0.0, 0.0, 0.0, 1.1], &truth).unwrap_err();
    assert_eq!(error, MetricsError::Score { note: 1, label: 1, value: 1.1 });
    assert!(Scored::new(&[0.0, 0.0, f32::NAN, 1.0], &truth).is_err());
    for row in [vec![1, 1], vec![1, 0], vec![2], vec![-1]] {
        assert!(matches!(Truth::new(2, &[row]), Err(MetricsError::Truth { note: 0, .. })));
    }
}

//! Precision over recall: average precision and the curve.

use rayon::prelude::*;

use crate::data::Scored;
use crate::positives::Positives;

/// One point of a precision-recall curve, over all (note, label) pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Predict where the score is at least this.
    pub score: f32,
    /// `TP / P`.
    pub precision: f64,
    /// `TP / T`.
    pub recall: f64,
}

/// Average precision of all pairs together: `sum_i (R_i - R_{i-1}) P_i` over the distinct scores from the highest
/// down (Manning et al. 2008, section 8.4; scikit-learn's `average_precision_score(average="micro")`). `None` without
/// a true pair.
pub fn micro_average_precision(scored: &Scored<'_>) -> Option<f64> {
    let positives = Positives::new(scored.positive_scores());
    let predicted = at_least(scored.scores().par_iter().copied(), &positives);
    average_precision(&positives, &predicted)
}

/// The curve at no more than `points` of the distinct scores of true pairs, evenly spaced in recall, from the highest
/// score down.
pub fn precision_recall_curve(scored: &Scored<'_>, points: usize) -> Vec<PrecisionRecall> {
    let positives = Positives::new(scored.positive_scores());
    let predicted = at_least(scored.scores().par_iter().copied(), &positives);
    let (total, last) = (positives.len() as u64, positives.distinct.len());
    // Both ends are points: one step less than points.
    let steps = points.saturating_sub(1) as u64;
    let mut curve: Vec<PrecisionRecall> = Vec::new();
    let mut next = 0;
    for index in (0..last).rev() {
        let hits = positives.from[index];
        if hits * steps >= next * total || index == 0 {
            next = hits * steps / total + 1;
            curve.push(PrecisionRecall {
                score: positives.distinct[index],
                precision: hits as f64 / predicted[index] as f64,
                recall: hits as f64 / total as f64,
            });
        }
    }
    curve
}

/// Average precision of each label (Y), `None` for one that does not occur. Its mean over the labels that do is
/// scikit-learn's `average="macro"` over those.
pub fn label_average_precisions(scored: &Scored<'_>) -> Vec<Option<f64>> {
    let truth = scored.truth();
    let mut of_label: Vec<Vec<f32>> = vec![Vec::new(); truth.num_labels()];
    for note in 0..truth.num_notes() {
        for &label in truth.row(note) {
            of_label[label as usize].push(scored.row(note)[label as usize]);
        }
    }
    // Neighbouring labels share cache lines of every row.
    const BLOCK: usize = 16;
    let blocks: Vec<Vec<Option<f64>>> = of_label
        .par_chunks_mut(BLOCK)
        .enumerate()
        .map(|(block, scores)| {
            let first = block * BLOCK;
            let positives: Vec<Positives> =
                scores.iter_mut().map(|scores| Positives::new(std::mem::take(scores))).collect();
            let mut slots: Vec<Vec<u64>> = positives.iter().map(|p| vec![0; p.distinct.len() + 1]).collect();
            for note in 0..truth.num_notes() {
                let row = &scored.row(note)[first..first + positives.len()];
                for ((slots, positives), &score) in slots.iter_mut().zip(&positives).zip(row) {
                    slots[positives.slot(score)] += 1;
                }
            }
            let areas = positives.iter().zip(slots);
            areas.map(|(positives, slots)| average_precision(positives, &from_slots(&slots))).collect()
        })
        .collect();
    blocks.concat()
}

/// How many scores are at or above each distinct score of a true pair.
fn at_least(scores: impl IndexedParallelIterator<Item = f32>, positives: &Positives) -> Vec<u64> {
    let empty = || vec![0u64; positives.distinct.len() + 1];
    let slots = scores
        .with_min_len(1 << 16)
        .fold(empty, |mut slots, score| {
            slots[positives.slot(score)] += 1;
            slots
        })
        .reduce(empty, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
    from_slots(&slots)
}

fn from_slots(slots: &[u64]) -> Vec<u64> {
    let mut sum = 0;
    let mut from: Vec<u64> = slots[1..]
        .iter()
        .rev()
        .map(|count| {
            sum += count;
            sum
        })
        .collect();
    from.reverse();
    from
}

fn average_precision(positives: &Positives, predicted: &[u64]) -> Option<f64> {
    let total = positives.len() as f64;
    let sum: f64 = (0..positives.distinct.len())
        .rev()
        .map(|index| {
            let new = positives.from[index] - positives.from[index + 1];
            new as f64 * positives.from[index] as f64 / predicted[index] as f64
        })
        .sum();
    (total > 0.0).then(|| sum / total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Truth;

    #[test]
    fn by_hand_with_a_tie() {
        // Scores from the top: 0.9 true; 0.8 true and false; 0.4 false; 0.2 true.
        let truth = Truth::new(5, &[vec![0, 1, 4]]).unwrap();
        let scores = [0.9, 0.8, 0.8, 0.4, 0.2];
        let scored = Scored::new(&scores, &truth).unwrap();
        let expected = (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0;
        assert!((micro_average_precision(&scored).unwrap() - expected).abs() < 1e-12);
        let curve = precision_recall_curve(&scored, 100);
        let points: Vec<(f64, f64)> = curve.iter().map(|p| (p.recall, p.precision)).collect();
        assert_eq!(points, [(1.0 / 3.0, 1.0), (2.0 / 3.0, 2.0 / 3.0), (1.0, 0.6)]);
        // Each label that occurs has one note, and it is true there.
        assert_eq!(label_average_precisions(&scored), [Some(1.0), Some(1.0), None, None, Some(1.0)]);
    }

    #[test]
    fn a_curve_has_no_more_points_than_asked_for() {
        let truth = Truth::new(400, &[(0..400).collect::<Vec<i32>>()]).unwrap();
        let scores: Vec<f32> = (1..=400).map(|at| at as f32 / 401.0).collect();
        let scored = Scored::new(&scores, &truth).unwrap();
        for points in 2..=400 {
            let curve = precision_recall_curve(&scored, points);
            assert!(curve.len() <= points && curve.len() + 1 >= points, "{points}: {}", curve.len());
            assert_eq!(curve.last().unwrap().recall, 1.0);
        }
    }

    #[test]
    fn labels_are_averaged_alone() {
        // Label 0: true in the lower of two notes: 1/2. Label 1: 1. Label 2 does not occur.
        let truth = Truth::new(3, &[vec![1], vec![0]]).unwrap();
        let scores = [0.9, 0.9, 0.9, 0.5, 0.5, 0.5];
        let scored = Scored::new(&scores, &truth).unwrap();
        assert_eq!(label_average_precisions(&scored), [Some(0.5), Some(1.0), None]);
        let none = Truth::new(1, &[Vec::<i32>::new()]).unwrap();
        let scored = Scored::new(&[0.5], &none).unwrap();
        assert_eq!((micro_average_precision(&scored), label_average_precisions(&scored)), (None, vec![None]));
        assert!(precision_recall_curve(&scored, 10).is_empty());
    }
}

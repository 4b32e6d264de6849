//! Areas under the ROC curve.
//!
//! The area equals the share of (positive, negative) pairs in which the positive scores higher, a tie
//! counting half (Hanley and McNeil 1982). Counted in integers, it is exact. With the positives' scores
//! sorted, each score is placed among them by binary search; counting over *all* scores and taking off the
//! `P^2` half-points of the positive-positive pairs spares looking up which scores are negative.

use rayon::prelude::*;

use crate::counts::mean;
use crate::data::Scored;
use crate::positives::Positives;

/// Labels whose columns are gathered together: one cache line of `f32`.
const BLOCK: usize = 16;

/// AUC of each label (Y), `None` for a label that is true for no note or for every note.
pub fn label_aucs(scored: &Scored<'_>) -> Vec<Option<f64>> {
    let truth = scored.truth();
    let (notes, labels) = (truth.num_notes(), truth.num_labels());
    let mut positives: Vec<Vec<f32>> = vec![Vec::new(); labels];
    for note in 0..notes {
        for &label in truth.row(note) {
            positives[label as usize].push(scored.row(note)[label as usize]);
        }
    }
    let blocks: Vec<Vec<Option<f64>>> = positives
        .par_chunks_mut(BLOCK)
        .enumerate()
        .map(|(block, positives)| {
            let first = block * BLOCK;
            let positives: Vec<_> =
                positives.iter_mut().map(|scores| Positives::new(std::mem::take(scores))).collect();
            let mut half_points = [0u64; BLOCK];
            for note in 0..notes {
                let row = &scored.row(note)[first..first + positives.len()];
                for ((points, positives), &score) in half_points.iter_mut().zip(&positives).zip(row) {
                    *points += positives.half_points(score);
                }
            }
            let areas = positives.iter().zip(half_points);
            areas.map(|(positives, points)| area(points, positives.len(), notes)).collect()
        })
        .collect();
    blocks.concat()
}

/// Mean of the label AUCs that are defined (CAML `auc_macro`: labels without a positive and labels positive
/// for every note are left out), with the number of labels in it. `None` if there are none.
pub fn macro_auc(label_aucs: &[Option<f64>]) -> Option<(f64, usize)> {
    let defined: Vec<f64> = label_aucs.iter().copied().flatten().collect();
    (!defined.is_empty()).then(|| (mean(&defined), defined.len()))
}

/// AUC of all (note, label) pairs together (CAML `auc_micro`), `None` if no pair or every pair is true.
pub fn micro_auc(scored: &Scored<'_>) -> Option<f64> {
    let positives = Positives::new(scored.positive_scores());
    let half_points = scored
        .scores()
        .par_chunks(1 << 16)
        .map(|scores| scores.iter().map(|score| positives.half_points(*score)).sum::<u64>())
        .sum();
    area(half_points, positives.len(), scored.scores().len())
}

/// The area, from the half-points of all `scores` scores, of which `positives` are positive.
fn area(half_points: u64, positives: usize, scores: usize) -> Option<f64> {
    let (positives, negatives) = (positives as u64, (scores - positives) as u64);
    let pairs = positives * negatives;
    (pairs > 0).then(|| (half_points - positives * positives) as f64 / (2 * pairs) as f64)
}

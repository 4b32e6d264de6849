//! The scores of the true pairs, arranged so that any score is quickly placed among them.

use rayon::prelude::*;

/// Distinct scores of true pairs, ascending, with how many lie at or above each.
#[derive(Clone, Debug)]
pub(crate) struct Positives {
    pub distinct: Vec<f32>,
    /// `from[i]` positives score at least `distinct[i]`; one more element, 0.
    pub from: Vec<u64>,
}

impl Positives {
    pub fn new(mut scores: Vec<f32>) -> Self {
        scores.par_sort_unstable_by(f32::total_cmp);
        let mut distinct = Vec::new();
        let mut from = Vec::new();
        for (below, &score) in scores.iter().enumerate() {
            if distinct.last() != Some(&score) {
                distinct.push(score);
                from.push((scores.len() - below) as u64);
            }
        }
        from.push(0);
        Self { distinct, from }
    }

    /// Number of positives.
    pub fn len(&self) -> usize {
        self.from[0] as usize
    }

    /// How many distinct scores are at or below `score`.
    pub fn slot(&self, score: f32) -> usize {
        // In a label's column and in the whole matrix alike, most scores are below every positive's.
        match self.distinct.first() {
            Some(lowest) if score >= *lowest => self.distinct.partition_point(|other| *other <= score),
            _ => 0,
        }
    }

    /// Two for each positive above `score`, one for each equal to it.
    pub fn half_points(&self, score: f32) -> u64 {
        let slot = self.slot(score);
        match slot.checked_sub(1) {
            Some(below) if self.distinct[below] == score => self.from[slot] + self.from[below],
            _ => 2 * self.from[slot],
        }
    }
}

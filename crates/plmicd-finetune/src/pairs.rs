//! The (note, label) pairs that can decide the best threshold, in bounded memory.

use plmicd_metrics::{BestThreshold, MetricsError, Scored, Truth, best_micro_f1};

/// Pairs kept, at most: 16 million. A dev set of 1,631 notes x 8,922 labels has 14.5 million.
const CAPACITY: usize = 1 << 24;

/// Pairs in a row of the matrix that the search is given; any number would do.
const ROW: usize = 4096;

/// Collects scored pairs and keeps the highest.
///
/// Micro F1 is a matter of pairs, not of notes: its best threshold is that of one long row. Pairs below the
/// highest [`CAPACITY`] are dropped; the true ones among them count as never predicted. So the search is exact
/// unless the best threshold predicts more pairs than are kept, as only a model that has learnt nothing would.
pub(crate) struct PairPool {
    capacity: usize,
    pairs: Vec<(f32, bool)>,
    dropped_positives: usize,
}

impl PairPool {
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self { capacity, pairs: Vec::new(), dropped_positives: 0 }
    }

    /// Adds the scores of a note (Y) and its true label ids, ascending.
    pub fn add(&mut self, scores: &[f32], truth: &[i32]) {
        let mut truth = truth.iter().peekable();
        for (label, &score) in (0i32..).zip(scores) {
            self.pairs.push((score, truth.next_if(|&&next| next == label).is_some()));
        }
        if self.pairs.len() >= 2 * self.capacity {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.pairs.select_nth_unstable_by(self.capacity, |a, b| b.0.total_cmp(&a.0));
        let dropped = self.pairs.drain(self.capacity..);
        self.dropped_positives += dropped.filter(|(_, is_true)| *is_true).count();
    }

    /// The best threshold for micro F1 and its value.
    pub fn best_threshold(self) -> Result<BestThreshold, MetricsError> {
        // A score of 0 is predicted at no threshold.
        let absent = std::iter::repeat_n((0.0, true), self.dropped_positives);
        let pairs: Vec<(f32, bool)> = self.pairs.into_iter().chain(absent).collect();
        let truth: Vec<Vec<i32>> = pairs
            .chunks(ROW)
            .map(|row| (0i32..).zip(row).filter(|(_, (_, is_true))| *is_true).map(|(at, _)| at).collect())
            .collect();
        let mut scores: Vec<f32> = pairs.into_iter().map(|(score, _)| score).collect();
        scores.resize(truth.len() * ROW, 0.0);
        let truth = Truth::new(ROW, &truth)?;
        Ok(best_micro_f1(&Scored::new(&scores, &truth)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: usize = 60;
    const LABELS: usize = 40;

    fn scores() -> Vec<f32> {
        (0..NOTES * LABELS).map(|i| ((i * 7919) % 2399) as f32 / 2400.0).collect()
    }

    /// True where the score is high, with some noise.
    fn truth(scores: &[f32]) -> Vec<Vec<i32>> {
        let is_true = |(at, &score): (usize, &f32)| (score > 0.9) != (at % 11 == 0 && score > 0.8);
        let row = |row: &[f32]| {
            (0i32..).zip(row.iter().enumerate()).filter(|(_, p)| is_true(*p)).map(|(i, _)| i).collect()
        };
        scores.chunks(LABELS).map(row).collect()
    }

    fn pooled(capacity: usize, scores: &[f32], truth: &[Vec<i32>]) -> BestThreshold {
        let mut pool = PairPool::with_capacity(capacity);
        for (row, truth) in scores.chunks(LABELS).zip(truth) {
            pool.add(row, truth);
        }
        pool.best_threshold().expect("scores are probabilities")
    }

    #[test]
    fn whole_and_pruned_pools_find_the_threshold_of_the_whole_matrix() {
        let scores = scores();
        let rows = truth(&scores);
        let truth = Truth::new(LABELS, &rows).expect("ascending");
        let whole = best_micro_f1(&Scored::new(&scores, &truth).expect("probabilities"));
        assert!(whole.value > 0.5 && whole.threshold > 0.7);
        assert_eq!(pooled(CAPACITY, &scores, &rows), whole);
        assert_eq!(pooled(700, &scores, &rows), whole);
    }

    #[test]
    fn dropped_true_pairs_still_count() {
        // Only the 50 highest of 2,400 pairs are kept, far fewer than are true: recall suffers, and so must the value.
        let scores = scores();
        let rows = truth(&scores);
        assert!(pooled(50, &scores, &rows).value < 0.5);
    }
}

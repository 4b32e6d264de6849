//! Do scores mean what they say? Of the pairs scored 0.3, three in ten should be true.

use rayon::prelude::*;

use crate::data::Scored;

/// One bin of a reliability curve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReliabilityBin {
    /// Pairs whose score lies in the bin.
    pub pairs: u64,
    /// Their mean score; 0 in an empty bin.
    pub mean_score: f64,
    /// The share of them that is true; 0 in an empty bin.
    pub share_true: f64,
}

/// Calibration over all (note, label) pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Bins of equal width over `[0, 1]`; a score on a boundary belongs to the bin above it, 1 to the last.
    pub bins: Vec<ReliabilityBin>,
    /// Expected calibration error (Naeini et al. 2015): the mean of |share true - mean score| over bins, weighted by
    /// pairs.
    pub expected_calibration_error: f64,
    /// Brier score (Brier 1950): mean of `(score - truth)^2` over pairs.
    pub brier: f64,
}

/// Sums of a bin: pairs, true pairs, scores in units of 2^-32 so that any order of adding gives the same.
type Sums = Vec<(u64, u64, u64)>;

impl Calibration {
    /// Over `bins` bins. All 0 without pairs.
    pub fn new(scored: &Scored<'_>, bins: usize) -> Self {
        const UNIT: f64 = 4_294_967_296.0;
        let bins = bins.max(1);
        let truth = scored.truth();
        let fixed = |score: f32| (f64::from(score) * UNIT) as u64;
        let square = |score: f32| (f64::from(score) * f64::from(score) * UNIT) as u64;
        let bin_of = |score: f32| ((f64::from(score) * bins as f64) as usize).min(bins - 1);
        let zero = || -> (Sums, u128) { (vec![(0, 0, 0); bins], 0) };
        // Squared error: s^2 for every pair, and 1 - 2s more for a true one.
        let (sums, squares) = (0..truth.num_notes())
            .into_par_iter()
            .fold(zero, |(mut sums, mut squares), note| {
                let row = scored.row(note);
                let mut row_squares = 0u64;
                for &score in row {
                    let sum = &mut sums[bin_of(score)];
                    sum.0 += 1;
                    sum.2 += fixed(score);
                    row_squares += square(score);
                }
                squares += u128::from(row_squares);
                for &label in truth.row(note) {
                    sums[bin_of(row[label as usize])].1 += 1;
                }
                (sums, squares)
            })
            .reduce(zero, |(mut a, squares), (b, more)| {
                for (a, b) in a.iter_mut().zip(b) {
                    *a = (a.0 + b.0, a.1 + b.1, a.2 + b.2);
                }
                (a, squares + more)
            });
        let pairs = (truth.num_notes() * truth.num_labels()) as f64;
        if pairs == 0.0 {
            let bins = vec![ReliabilityBin::default(); bins];
            return Self { bins, expected_calibration_error: 0.0, brier: 0.0 };
        }
        let curve: Vec<ReliabilityBin> = sums
            .iter()
            .map(|&(count, positives, scores)| match count {
                0 => ReliabilityBin::default(),
                count => ReliabilityBin {
                    pairs: count,
                    mean_score: scores as f64 / UNIT / count as f64,
                    share_true: positives as f64 / count as f64,
                },
            })
            .collect();
        let error = curve.iter().map(|bin| bin.pairs as f64 * (bin.share_true - bin.mean_score).abs());
        let of_true: f64 = (0..truth.num_notes())
            .flat_map(|note| truth.row(note).iter().map(move |label| scored.row(note)[*label as usize]))
            .map(|score| 1.0 - 2.0 * f64::from(score))
            .sum();
        Self {
            expected_calibration_error: error.sum::<f64>() / pairs,
            brier: (squares as f64 / UNIT + of_true) / pairs,
            bins: curve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Truth;

    #[test]
    fn by_hand() {
        let truth = Truth::new(2, &[vec![0], vec![0, 1]]).unwrap();
        let scores = [0.8, 0.1, 0.6, 1.0];
        let found = Calibration::new(&Scored::new(&scores, &truth).unwrap(), 2);
        assert_eq!((found.bins[0].pairs, found.bins[1].pairs), (1, 3));
        assert!((found.bins[0].mean_score - 0.1).abs() < 1e-7 && found.bins[0].share_true == 0.0);
        assert!((found.bins[1].mean_score - 0.8).abs() < 1e-7 && found.bins[1].share_true == 1.0);
        // (1 x 0.1 + 3 x 0.2) / 4
        assert!((found.expected_calibration_error - 0.175).abs() < 1e-7);
        // (0.04 + 0.01 + 0.16 + 0) / 4
        assert!((found.brier - 0.0525).abs() < 1e-7, "{}", found.brier);
    }
}

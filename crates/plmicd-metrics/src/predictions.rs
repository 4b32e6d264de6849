//! Decisions: which labels are predicted for each note, however that was decided.

use rayon::prelude::*;

use crate::data::{MetricsError, Scored, Truth};

/// How scores become decisions.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// One threshold for every label: predicted where the score is strictly greater.
    Global(f32),
    /// A threshold for each label (Y), likewise.
    PerLabel(Vec<f32>),
    /// The `k` labels of the highest scores, whatever they are.
    TopK(usize),
    /// As many labels of the highest scores as the note is expected to have: the sum of its scores, rounded half up.
    ExpectedCount,
}

/// The predicted labels of every note, as lists of label ids. It has the shape of a [`Truth`], and is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predictions(Truth);

impl Predictions {
    /// Applies a rule. Labels of equal score rank by label id, the lower first.
    ///
    /// # Panics
    /// If a rule with a threshold per label has not one for each.
    pub fn new(scored: &Scored<'_>, rule: &Rule) -> Self {
        let labels = scored.truth().num_labels();
        if let Rule::PerLabel(thresholds) = rule {
            assert_eq!(thresholds.len(), labels, "a threshold for each label");
        }
        let rows: Vec<Vec<u32>> = (0..scored.truth().num_notes())
            .into_par_iter()
            .map(|note| {
                let row = scored.row(note);
                match rule {
                    Rule::Global(threshold) => above(row, |_| *threshold),
                    Rule::PerLabel(thresholds) => above(row, |label| thresholds[label]),
                    Rule::TopK(k) => highest(row, *k),
                    Rule::ExpectedCount => highest(row, expected_count(row)),
                }
            })
            .collect();
        Self(Truth::from_rows(labels, &rows))
    }

    /// Takes the label ids of each note: ascending, from 0 to below `num_labels`.
    pub fn from_ids<R: AsRef<[i32]>>(num_labels: usize, rows: &[R]) -> Result<Self, MetricsError> {
        Truth::new(num_labels, rows).map(Self)
    }

    /// The same lists in the shape that everything else takes.
    pub fn lists(&self) -> &Truth {
        &self.0
    }

    /// The same decisions at a coarser level: see [`Truth::grouped`].
    pub fn grouped(&self, group_of: &[u32], groups: usize) -> Self {
        Self(self.0.grouped(group_of, groups))
    }

    /// Predicted label ids of a note, ascending.
    pub fn row(&self, note: usize) -> &[u32] {
        self.0.row(note)
    }
}

/// Label ids that both ascending lists hold.
pub(crate) fn common<'a>(a: &'a [u32], b: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.iter().copied().filter(move |id| long.binary_search(id).is_ok())
}

fn above(row: &[f32], threshold: impl Fn(usize) -> f32) -> Vec<u32> {
    (0u32..)
        .zip(row)
        .filter(|(label, score)| **score > threshold(*label as usize))
        .map(|(id, _)| id)
        .collect()
}

fn expected_count(row: &[f32]) -> usize {
    let sum: f64 = row.iter().map(|score| f64::from(*score)).sum();
    (sum + 0.5).floor() as usize
}

/// Ids of the `k` highest scores, ascending.
fn highest(row: &[f32], k: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..row.len() as u32).collect();
    let k = k.min(ids.len());
    if k < ids.len() && k > 0 {
        // Adding 0 turns a negative zero into zero.
        let score = |id: &u32| row[*id as usize] + 0.0;
        let order = |a: &u32, b: &u32| score(b).total_cmp(&score(a)).then(a.cmp(b));
        ids.select_nth_unstable_by(k - 1, order);
    }
    ids.truncate(k);
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(rule: &Rule) -> Vec<Vec<u32>> {
        let truth = Truth::new(4, &[vec![0], vec![1, 2]]).unwrap();
        let scores = [0.9, 0.5, 0.5, 0.1, 0.2, 0.2, 0.2, 0.05];
        let predictions = Predictions::new(&Scored::new(&scores, &truth).unwrap(), rule);
        (0..2).map(|note| predictions.row(note).to_vec()).collect()
    }

    #[test]
    fn rules_decide_as_they_say() {
        assert_eq!(decide(&Rule::Global(0.5)), [vec![0], vec![]]);
        assert_eq!(decide(&Rule::PerLabel(vec![0.9, 0.1, 0.5, 0.0])), [vec![1, 3], vec![1, 3]]);
        // Ties go to the lower id.
        assert_eq!(decide(&Rule::TopK(2)), [vec![0, 1], vec![0, 1]]);
        assert_eq!(decide(&Rule::TopK(0)), [vec![], vec![]]);
        assert_eq!(decide(&Rule::TopK(9)), [vec![0, 1, 2, 3], vec![0, 1, 2, 3]]);
        // The sums are 2.0 and 0.65.
        assert_eq!(decide(&Rule::ExpectedCount), [vec![0, 1], vec![0]]);
    }

    #[test]
    fn common_labels_are_found_from_either_side() {
        let found: Vec<u32> = common(&[1, 3, 7], &[0, 1, 2, 3, 4]).collect();
        assert_eq!(found, [1, 3]);
        assert_eq!(common(&[0, 1, 2], &[2]).collect::<Vec<_>>(), [2]);
    }
}

//! Coarser levels: labels that share a category or a chapter count as one.

use crate::data::Truth;

impl Truth {
    /// The same lists at a coarser level: `group_of[l]` is the group of label `l`, from 0 to below `groups`. A note has
    /// a group when it has any of its labels, so a prediction within the right group is right (hierarchical credit).
    ///
    /// # Panics
    /// If `group_of` has not an entry for each label.
    pub fn grouped(&self, group_of: &[u32], groups: usize) -> Truth {
        assert_eq!(group_of.len(), self.num_labels(), "a group for each label");
        let rows: Vec<Vec<u32>> = (0..self.num_notes())
            .map(|note| {
                let mut row: Vec<u32> =
                    self.row(note).iter().map(|label| group_of[*label as usize]).collect();
                row.sort_unstable();
                row.dedup();
                row
            })
            .collect();
        Truth::from_rows(groups, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_a_group_count_once() {
        let truth = Truth::new(4, &[vec![0, 1, 3], vec![2], vec![]]).unwrap();
        let grouped = truth.grouped(&[1, 1, 0, 0], 2);
        assert_eq!((grouped.row(0), grouped.row(1), grouped.row(2)), (&[0, 1][..], &[0][..], &[][..]));
        assert_eq!(grouped.label_counts(), [2, 1]);
    }
}

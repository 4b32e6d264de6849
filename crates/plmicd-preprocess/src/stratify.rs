//! Iterative stratification (Sechidis et al. 2011, Algorithm 1) of subjects: every code is spread over the splits in
//! their proportions, the rarest first, as far as patients, who stay whole, allow.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use plmicd_data::Split;

use crate::corpus::{CodeId, DraftNote};
use crate::splits::shuffle;

/// A patient.
struct Subject {
    notes: Vec<usize>,
    /// Rank of each of its labels, with the number of its notes that have it; ascending.
    labels: Vec<(usize, u32)>,
}

/// A split and what it still wants.
struct Wish {
    split: Split,
    /// Notes with each label.
    of_label: Vec<f64>,
    /// Notes.
    of_notes: f64,
}

/// Splits notes by subject. The label that the fewest subjects left have is served first; each of them goes to the
/// split that still wants most notes with it, then most notes at all, then train before dev before test. The seed
/// decides the order of subjects; that of the notes does not matter. A label of one or two notes ends in train, if
/// train has the largest share. `labels` in their order; a subject without any goes where most notes are wanted.
///
/// Time: O(m log m) for m occurrences of labels.
pub fn assign(notes: &mut [DraftNote], labels: &[CodeId], seed: u64, dev_fraction: f64, test_fraction: f64) {
    let mut subjects = subjects(notes, labels);
    shuffle(&mut subjects, seed);

    let mut carriers: Vec<Vec<usize>> = vec![Vec::new(); labels.len()];
    let mut notes_with = vec![0_u64; labels.len()];
    for (index, subject) in subjects.iter().enumerate() {
        for &(label, count) in &subject.labels {
            carriers[label].push(index);
            notes_with[label] += u64::from(count);
        }
    }
    let shares = [
        (Split::Train, 1.0 - dev_fraction - test_fraction),
        (Split::Dev, dev_fraction),
        (Split::Test, test_fraction),
    ];
    // A split without a share wants nothing, and must not win once the others have more than they want.
    let mut wishes: Vec<Wish> = shares
        .into_iter()
        .filter(|&(_, share)| share > 0.0)
        .map(|(split, share)| Wish {
            split,
            of_label: notes_with.iter().map(|&count| share * count as f64).collect(),
            of_notes: share * notes.len() as f64,
        })
        .collect();

    let mut left: Vec<usize> = carriers.iter().map(Vec::len).collect();
    let mut queue: BinaryHeap<_> =
        left.iter().enumerate().map(|(label, &count)| Reverse((count, label))).collect();
    let mut assigned: Vec<Option<Split>> = vec![None; subjects.len()];
    while let Some(Reverse((count, label))) = queue.pop() {
        if count == 0 || count != left[label] {
            // Out of date: every change enters the queue anew.
            continue;
        }
        for &index in &carriers[label] {
            if assigned[index].is_some() {
                continue;
            }
            let subject = &subjects[index];
            assigned[index] = Some(give(subject, Some(label), &mut wishes));
            for &(label, _) in &subject.labels {
                left[label] -= 1;
                queue.push(Reverse((left[label], label)));
            }
        }
    }
    for (subject, split) in subjects.iter().zip(assigned) {
        let split = split.unwrap_or_else(|| give(subject, None, &mut wishes));
        for &note in &subject.notes {
            notes[note].split = Some(split);
        }
    }
}

/// Subjects by id.
fn subjects(notes: &[DraftNote], labels: &[CodeId]) -> Vec<Subject> {
    let rank: HashMap<CodeId, usize> = labels.iter().enumerate().map(|(rank, &id)| (id, rank)).collect();
    let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, note) in notes.iter().enumerate() {
        by_id.entry(&note.subject_id).or_default().push(index);
    }
    let count = |of: Vec<usize>| {
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        for id in of.iter().flat_map(|&note| &notes[note].codes) {
            if let Some(&rank) = rank.get(id) {
                *counts.entry(rank).or_default() += 1;
            }
        }
        Subject { notes: of, labels: counts.into_iter().collect() }
    };
    by_id.into_values().map(count).collect()
}

/// Gives a subject to the split that wants it most, for the sake of `label`.
fn give(subject: &Subject, label: Option<usize>, wishes: &mut [Wish]) -> Split {
    let want = |wish: &Wish| (label.map_or(0.0, |label| wish.of_label[label]), wish.of_notes);
    let mut best = 0;
    for index in 1..wishes.len() {
        if want(&wishes[index]) > want(&wishes[best]) {
            best = index;
        }
    }
    let wish = &mut wishes[best];
    for &(label, count) in &subject.labels {
        wish.of_label[label] -= f64::from(count);
    }
    wish.of_notes -= subject.notes.len() as f64;
    wish.split
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splits::leaking_subjects;

    /// `n` notes, three a subject; label `k` on about every `k + 2`-th note, the last one on a single note.
    fn corpus(n: usize, labels: usize) -> (Vec<DraftNote>, Vec<CodeId>) {
        let mut notes: Vec<DraftNote> = (0..n)
            .map(|i| DraftNote {
                note_id: i.to_string(),
                subject_id: (i / 3).to_string(),
                split: None,
                codes: (0..labels - 1)
                    .filter(|k| ((i * 7_919 + k * 104_729) >> 3).is_multiple_of(k + 2))
                    .map(|k| k as CodeId)
                    .collect(),
                pieces: Vec::new(),
                words: 1,
            })
            .collect();
        notes[n / 2].codes.push(labels as CodeId - 1);
        (notes, (0..labels as CodeId).collect())
    }

    fn share(notes: &[DraftNote], split: Split, label: CodeId) -> f64 {
        let with: Vec<&DraftNote> = notes.iter().filter(|note| note.codes.contains(&label)).collect();
        with.iter().filter(|note| note.split == Some(split)).count() as f64 / with.len() as f64
    }

    #[test]
    fn every_code_has_its_share_and_no_subject_leaks() {
        let (mut notes, labels) = corpus(3000, 40);
        assign(&mut notes, &labels, 10, 0.1, 0.15);
        assert_eq!(leaking_subjects(&notes), 0);
        for (split, wanted) in [(Split::Train, 0.75), (Split::Dev, 0.1), (Split::Test, 0.15)] {
            let of = notes.iter().filter(|note| note.split == Some(split)).count() as f64 / 3000.0;
            assert!((of - wanted).abs() < 0.015, "{split}: {of}");
            for &label in &labels[..39] {
                let of = share(&notes, split, label);
                assert!((of - wanted).abs() < 0.06, "{split}, label {label}: {of}");
            }
        }
        assert_eq!(share(&notes, Split::Train, 39), 1.0, "a code seen once is for training");
    }

    #[test]
    fn the_seed_decides_and_the_order_of_notes_does_not() {
        let by_id = |seed: u64, reverse: bool| {
            let (mut notes, labels) = corpus(300, 12);
            if reverse {
                notes.reverse();
            }
            assign(&mut notes, &labels, seed, 0.2, 0.2);
            notes.sort_by_key(|note| note.note_id.parse::<u32>().unwrap());
            notes.iter().map(|note| note.split.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(by_id(1, false), by_id(1, true));
        assert_ne!(by_id(1, false), by_id(2, false));
    }

    #[test]
    fn a_split_without_a_share_stays_empty() {
        let (mut notes, labels) = corpus(300, 12);
        notes[0].codes.clear();
        assign(&mut notes, &labels, 1, 0.0, 0.3);
        assert!(notes.iter().all(|note| matches!(note.split, Some(Split::Train | Split::Test))));
    }
}

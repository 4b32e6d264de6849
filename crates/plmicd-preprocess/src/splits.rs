//! Which split a note goes to.

use std::collections::{BTreeMap, HashMap, HashSet};

use camino::Utf8Path;
use plmicd_data::Split;
use plmicd_pipeline::{BadInput, StageError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::cohort::drop_notes;
use crate::corpus::{DraftNote, Exclusions};
use crate::files;

/// Keeps the stream of random splits apart from any other use of the same seed.
const PURPOSE: u64 = 0x73_70_6c_69_74_73;

/// Splits notes at random, by subject: subjects are shuffled by `seed`; the first go to test until it holds its
/// share of the notes, the next to dev, the rest to train. The order of the notes does not matter.
pub fn assign_random(notes: &mut [DraftNote], seed: u64, dev_fraction: f64, test_fraction: f64) {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for note in notes.iter() {
        *sizes.entry(&note.subject_id).or_default() += 1;
    }
    let mut subjects: Vec<(&str, usize)> = sizes.into_iter().collect();
    shuffle(&mut subjects, seed);

    let share = |fraction: f64| (fraction * notes.len() as f64).round() as usize;
    let (test, dev) = (share(test_fraction), share(dev_fraction));
    let mut assigned = HashMap::with_capacity(subjects.len());
    let (mut in_test, mut in_dev) = (0, 0);
    for (subject, size) in subjects {
        let split = if in_test < test {
            in_test += size;
            Split::Test
        } else if in_dev < dev {
            in_dev += size;
            Split::Dev
        } else {
            Split::Train
        };
        assigned.insert(subject.to_owned(), split);
    }
    for note in notes {
        note.split = Some(assigned[&note.subject_id]);
    }
}

/// Shuffles what was sorted (Fisher and Yates), on the stream of splits.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(PURPOSE);
    for i in (1..items.len()).rev() {
        // Bias of this reduction: below 2^-32 for fewer than 2^32 items.
        let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
        items.swap(i, j as usize);
    }
}

/// Subjects with notes on more than one side.
pub fn leaking_subjects(notes: &[DraftNote]) -> usize {
    let mut seen: HashMap<&str, Split> = HashMap::new();
    let mut leaking = HashSet::new();
    for note in notes {
        if let Some(split) = note.split
            && *seen.entry(&note.subject_id).or_insert(split) != split
        {
            leaking.insert(&note.subject_id);
        }
    }
    leaking.len()
}

/// Splits without a note.
pub fn empty_splits(notes: &[DraftNote]) -> Vec<Split> {
    let is_empty = |split: &Split| notes.iter().all(|note| note.split != Some(*split));
    Split::ALL.into_iter().filter(is_empty).collect()
}

/// Name of CAML's list of a split.
pub fn list_name(split: Split) -> String {
    format!("{split}_full_hadm_ids.csv")
}

/// Reads CAML's three lists of admission ids from `dir`: one id a line, no header.
///
/// # Errors
/// A list is missing or empty, a line is not a number, an id is in two lists.
pub fn read_lists(dir: &Utf8Path) -> Result<HashMap<u64, Split>, StageError> {
    read_named(dir, list_name)
}

/// Reads CAML's lists of the admissions with the 50 codes, `train_50_hadm_ids.csv` and so on.
///
/// # Errors
/// As [`read_lists`].
pub fn read_lists_of_50(dir: &Utf8Path) -> Result<HashMap<u64, Split>, StageError> {
    read_named(dir, |split| format!("{split}_50_hadm_ids.csv"))
}

/// Reads the lists of the admissions with frequent codes, such as `train_50_hadm_ids.csv`; `None` if there are none.
///
/// # Errors
/// As [`read_lists`].
pub fn read_top_lists(dir: &Utf8Path, codes: usize) -> Result<Option<HashMap<u64, Split>>, StageError> {
    let name = |split| format!("{split}_{codes}_hadm_ids.csv");
    if !Split::ALL.into_iter().any(|split| dir.join(name(split)).exists()) {
        return Ok(None);
    }
    read_named(dir, name).map(Some)
}

/// Leaves out the notes that are in no list, and counts ids without a note.
///
/// # Errors
/// None is left.
pub fn keep_listed(
    notes: &mut Vec<DraftNote>,
    lists: &HashMap<u64, Split>,
    dir: &Utf8Path,
    exclusions: &mut Exclusions,
) -> Result<(), StageError> {
    let listed = notes.iter().filter(|note| note.split.is_some()).count();
    let without = (lists.len() - listed) as u64;
    exclusions.add(without, "ids", "in a split list but without a discharge summary");
    drop_notes(notes, exclusions, "in no split list", |note| note.split.is_some());
    if notes.is_empty() {
        return Err(BadInput::new(dir, "none of the listed admissions has a discharge summary")
            .hint("do the lists belong to these tables?")
            .into());
    }
    Ok(())
}

fn read_named(dir: &Utf8Path, name: impl Fn(Split) -> String) -> Result<HashMap<u64, Split>, StageError> {
    let mut splits = HashMap::new();
    for split in Split::ALL {
        let path = dir.join(name(split));
        if !path.exists() {
            let names: Vec<String> = Split::ALL.into_iter().map(&name).collect();
            return Err(BadInput::new(&path, "this list of admission ids is missing")
                .hint(format!(
                    "expected are {} in the source's folder `splits`; those of MIMIC-III are in the folder \
                     mimicdata/mimic3 of the CAML repository (jamesmullenbach/caml-mimic on GitHub); \
                     splits = \"stratified\" or \"random\" needs no lists",
                    names.join(", ")
                ))
                .into());
        }
        let text = files::read(&path)?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let before = splits.len();
        for (i, line) in text.split(|&b| b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let number = i as u64 + 1;
            let id = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
                BadInput::new(&path, "not a number; expected one admission id a line and no header")
                    .line(number)
            })?;
            if let Some(other) = splits.insert(id, split)
                && other != split
            {
                return Err(BadInput::new(&path, format!("admission {id} is also in {}", name(other)))
                    .line(number)
                    .into());
            }
        }
        if splits.len() == before {
            return Err(BadInput::new(
                &path,
                "this list is empty; expected one admission id a line and no header",
            )
            .into());
        }
    }
    Ok(splits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(subjects: impl IntoIterator<Item = u32>) -> Vec<DraftNote> {
        subjects
            .into_iter()
            .enumerate()
            .map(|(i, subject)| DraftNote {
                note_id: i.to_string(),
                subject_id: subject.to_string(),
                split: None,
                codes: Vec::new(),
                pieces: Vec::new(),
                words: 0,
            })
            .collect()
    }

    fn count(notes: &[DraftNote], split: Split) -> usize {
        notes.iter().filter(|note| note.split == Some(split)).count()
    }

    #[test]
    fn shares_are_kept_and_no_subject_is_on_two_sides() {
        let mut corpus = notes((0..1000).map(|i| i / 3));
        assign_random(&mut corpus, 7, 0.1, 0.2);
        assert_eq!(leaking_subjects(&corpus), 0);
        assert!((200..203).contains(&count(&corpus, Split::Test)));
        assert!((100..103).contains(&count(&corpus, Split::Dev)));
    }

    #[test]
    fn the_seed_decides_and_the_order_of_notes_does_not() {
        let by_id = |seed: u64, reverse: bool| {
            let mut corpus = notes(0..50);
            if reverse {
                corpus.reverse();
            }
            assign_random(&mut corpus, seed, 0.2, 0.2);
            corpus.sort_by_key(|note| note.note_id.parse::<u32>().unwrap());
            corpus.iter().map(|note| note.split.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(by_id(1, false), by_id(1, true));
        assert_ne!(by_id(1, false), by_id(2, false));
    }

    #[test]
    fn leaks_are_found() {
        let mut corpus = notes([1, 1, 2]);
        for (note, split) in corpus.iter_mut().zip([Split::Train, Split::Test, Split::Dev]) {
            note.split = Some(split);
        }
        assert_eq!(leaking_subjects(&corpus), 1);
    }

    #[test]
    fn lists_are_read_and_their_faults_located() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let error = read_lists(dir).unwrap_err().to_string();
        assert!(error.contains("train_full_hadm_ids.csv") && error.contains("caml-mimic"), "{error}");
        for (split, text) in [("train", "1\r\n2\n"), ("dev", "3\n"), ("test", "\n4")] {
            fs_err::write(dir.join(format!("{split}_full_hadm_ids.csv")), text).unwrap();
        }
        let lists = read_lists(dir).unwrap();
        assert_eq!(lists.len(), 4);
        assert_eq!(lists[&4], Split::Test);
        fs_err::write(dir.join("test_full_hadm_ids.csv"), "4\nid\n").unwrap();
        assert!(read_lists(dir).unwrap_err().to_string().contains("test_full_hadm_ids.csv:2: not a number"));
        fs_err::write(dir.join("test_full_hadm_ids.csv"), "4\n2\n").unwrap();
        let error = read_lists(dir).unwrap_err().to_string();
        assert!(error.contains(":2: admission 2 is also in train_full_hadm_ids.csv"), "{error}");
    }
}

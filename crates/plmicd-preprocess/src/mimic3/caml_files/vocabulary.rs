//! `vocab.csv`: the words that are in several training notes.

use std::collections::HashMap;
use std::io::Write;

use camino::Utf8Path;
use foldhash::fast::RandomState;
use plmicd_pipeline::StageError;
use rayon::prelude::*;

use super::tables::{Progress, append};
use super::{CamlData, file, finish};
use crate::spill::Spill;

/// Notes that a word must be in to be in the vocabulary.
const MIN_NOTES: u32 = 3;

/// Words with the number of notes they are in.
#[derive(Default)]
struct Words {
    /// (notes, the last of them).
    notes: HashMap<Box<[u8]>, (u32, usize), RandomState>,
    text: Vec<u8>,
}

impl Words {
    /// Counts the words of a note that was not counted before. Cleaned texts have one space between words.
    fn add(&mut self, note: usize) {
        for word in self.text.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
            match self.notes.get_mut(word) {
                Some((_, last)) if *last == note => {}
                Some(seen) => *seen = (seen.0 + 1, note),
                None => {
                    self.notes.insert(word.into(), (1, note));
                }
            }
        }
    }

    /// Both together, of different notes.
    fn merge(mut self, mut other: Self) -> Self {
        if self.notes.len() < other.notes.len() {
            std::mem::swap(&mut self, &mut other);
        }
        for (word, seen) in other.notes {
            self.notes.entry(word).or_insert((0, seen.1)).0 += seen.0;
        }
        self
    }
}

/// Writes the words of at least [`MIN_NOTES`] of the notes at these places, one a line, sorted.
pub fn write(
    data: &CamlData<'_>,
    places: &[usize],
    spill: &Spill,
    dir: &Utf8Path,
    progress: &Progress<'_, '_>,
) -> Result<(), StageError> {
    let words = places
        .par_iter()
        .with_min_len(1024)
        .try_fold(Words::default, |mut words, &at| {
            words.text.clear();
            append(&data.notes[at].pieces, spill, &mut words.text)?;
            words.add(at);
            progress.advance().map(|()| words)
        })
        .try_reduce(Words::default, |one, other| Ok(one.merge(other)))?;
    let of_several = words.notes.into_iter().filter(|(_, (notes, _))| *notes >= MIN_NOTES);
    let mut kept: Vec<Box<[u8]>> = of_several.map(|(word, _)| word).collect();
    kept.sort_unstable();
    let mut vocabulary = file(&dir.join("vocab.csv"))?;
    for word in kept {
        vocabulary.write_all(&word)?;
        vocabulary.write_all(b"\n")?;
    }
    finish(vocabulary)
}

//! The notes of a split in memory, checked against the model before hours are spent on them.

use camino::Utf8Path;
use plmicd_data::{ShardReader, Split};
use plmicd_nn::{Batching, SpecialTokens};
use plmicd_pipeline::{BadInput, StageContext, StageError};

/// Notes between two looks at the interrupt flag while reading.
const STEP: u64 = 1000;

/// A split as token ids: at 47,723 notes of 2,000 tokens, 0.4 GB.
pub(crate) struct NoteSet {
    /// Token ids of each note without special tokens, cut to what the model reads.
    pub tokens: Vec<Vec<i32>>,
    /// Label ids of each note, ascending.
    pub labels: Vec<Vec<i32>>,
    /// Tokens the model sees of each note, special tokens included.
    pub lengths: Vec<usize>,
    /// Notes that were cut.
    pub cut: usize,
    /// Labels that occur.
    pub labels_present: usize,
}

/// What the notes must fit.
pub(crate) struct Limits {
    pub vocab_size: usize,
    pub num_labels: usize,
    pub batching: Batching,
    pub specials: SpecialTokens,
}

impl NoteSet {
    /// Reads a split.
    ///
    /// # Errors
    /// No notes, no labels at all, a token outside the vocabulary, a label outside the label space.
    pub fn read(
        dir: &Utf8Path,
        split: Split,
        limits: &Limits,
        context: &StageContext<'_>,
    ) -> Result<Self, StageError> {
        let failed = |error| StageError::because(format!("reading the {split} notes"), error);
        let reader = ShardReader::open(dir, split).map_err(failed)?;
        let total = reader.num_notes();
        let room = limits.batching.room(&limits.specials);
        let mut set =
            Self { tokens: Vec::new(), labels: Vec::new(), lengths: Vec::new(), cut: 0, labels_present: 0 };
        let mut present = vec![false; limits.num_labels];
        for note in reader {
            let mut note = note.map_err(failed)?;
            let bad = |column: &str, message: String| {
                BadInput::new(dir, format!("{split} split, note {}: {message}", note.note_id)).column(column)
            };
            if let Some(token) = note.tokens.iter().find(|&&token| token as usize >= limits.vocab_size) {
                let message =
                    format!("token id {token}, but the vocabulary has {} tokens", limits.vocab_size);
                return Err(bad("tokens", message).into());
            }
            for &label in &note.labels {
                let Some(present) = present.get_mut(label as usize) else {
                    let message = format!("label id {label}, but there are {} labels", limits.num_labels);
                    return Err(bad("labels", message).into());
                };
                *present = true;
            }
            set.cut += usize::from(note.tokens.len() > room);
            note.tokens.truncate(room);
            note.tokens.shrink_to_fit();
            set.lengths.push(limits.batching.length(note.tokens.len(), &limits.specials));
            set.tokens.push(note.tokens);
            set.labels.push(note.labels);
            let done = set.tokens.len() as u64;
            if done.is_multiple_of(STEP) {
                context.check_interrupt()?;
                context.progress(&format!("reading {split} notes"), done, Some(total), "notes");
            }
        }
        set.labels_present = present.into_iter().filter(|present| *present).count();
        set.check(dir, split)?;
        Ok(set)
    }

    fn check(&self, dir: &Utf8Path, split: Split) -> Result<(), StageError> {
        let complaint = if self.tokens.is_empty() {
            format!("the {split} split has no notes")
        } else if self.labels_present == 0 {
            format!("no note of the {split} split has a label")
        } else if let Some(note) = self.lengths.iter().position(|&length| length == 0) {
            // Only without start and end token: label attention needs a token to look at.
            return Err(BadInput::new(dir, format!("{split} split: the note has no tokens"))
                .line(note as u64 + 1)
                .into());
        } else {
            return Ok(());
        };
        let advice = "look at stats.json of the notes and of the token shards";
        Err(BadInput::new(dir, complaint).hint(advice).into())
    }

    /// Which of the labels occur.
    pub fn seen(&self, num_labels: usize) -> Vec<bool> {
        let mut seen = vec![false; num_labels];
        self.labels.iter().flatten().for_each(|&label| seen[label as usize] = true);
        seen
    }

    /// Number of notes.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Notes without any label: they teach only what is absent.
    pub fn without_labels(&self) -> usize {
        self.labels.iter().filter(|labels| labels.is_empty()).count()
    }
}

//! The notes of a split as sequences in memory, checked against the model before hours are spent on them.

use camino::Utf8Path;
use plmicd_data::{ShardReader, Split};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::config::PretrainConfig;
use crate::packing::Packer;
use crate::start::Specials;

/// Notes between two looks at the interrupt flag while reading.
const STEP: u64 = 1000;

/// Ordinary tokens a sequence must have: one to name, and one to name it from.
const FEWEST: usize = 2;

/// The sequences of a split, one after the other. Two million notes of 500 tokens take 2 GB with a vocabulary of up
/// to 65,536 tokens, twice that with a larger one.
pub(crate) struct SequenceSet {
    tokens: Tokens,
    /// Where each sequence ends.
    ends: Vec<u64>,
    /// Notes read.
    pub notes: u64,
    /// Tokens of the notes, without special tokens of ours.
    pub note_tokens: u64,
    /// Sequences left out for want of two ordinary tokens.
    pub left_out: u64,
}

/// Token ids in as few bytes as the vocabulary allows.
enum Tokens {
    Short(Vec<u16>),
    Long(Vec<i32>),
}

impl SequenceSet {
    /// Reads a split.
    ///
    /// # Errors
    /// No notes, a token outside the vocabulary of `vocab_size`, no sequence to learn from.
    pub fn read(
        dir: &Utf8Path,
        split: Split,
        config: &PretrainConfig,
        vocab_size: usize,
        specials: &Specials,
        context: &StageContext<'_>,
    ) -> Result<Self, StageError> {
        let failed = |error| StageError::because(format!("reading the {split} notes"), error);
        let reader = ShardReader::open(dir, split).map_err(failed)?;
        let total = reader.num_notes();
        let tokens = match u16::try_from(vocab_size.saturating_sub(1)) {
            Ok(_) => Tokens::Short(Vec::new()),
            Err(_) => Tokens::Long(Vec::new()),
        };
        let mut set = Self { tokens, ends: Vec::new(), notes: 0, note_tokens: 0, left_out: 0 };
        let mut packer = Packer::new(
            config.sequence_length,
            config.framing,
            config.cross_notes,
            specials.cls,
            specials.sep,
        );
        for note in reader {
            let note = note.map_err(failed)?;
            if let Some(token) = note.tokens.iter().find(|&&token| token as usize >= vocab_size) {
                let id = note.note_id;
                let message = format!(
                    "{split} split, note {id}: token id {token}, but the vocabulary has {vocab_size} tokens"
                );
                return Err(BadInput::new(dir, message).column("tokens").into());
            }
            packer.push(&note.tokens, &mut |sequence| set.add(sequence, specials));
            set.notes += 1;
            set.note_tokens += note.tokens.len() as u64;
            if set.notes.is_multiple_of(STEP) {
                context.check_interrupt()?;
                context.progress(&format!("reading {split} notes"), set.notes, Some(total), "notes");
            }
        }
        packer.finish(&mut |sequence| set.add(sequence, specials));
        set.check(dir, split)?;
        Ok(set)
    }

    fn add(&mut self, sequence: &[i32], specials: &Specials) {
        let ordinary = sequence.iter().filter(|&&token| !specials.contains(i64::from(token))).count();
        if ordinary < FEWEST {
            self.left_out += 1;
            return;
        }
        let end = match &mut self.tokens {
            Tokens::Short(tokens) => {
                tokens.extend(sequence.iter().map(|&token| token as u16));
                tokens.len()
            }
            Tokens::Long(tokens) => {
                tokens.extend_from_slice(sequence);
                tokens.len()
            }
        };
        self.ends.push(end as u64);
    }

    fn check(&self, dir: &Utf8Path, split: Split) -> Result<(), StageError> {
        let complaint = if self.notes == 0 {
            format!("the {split} split has no notes")
        } else if self.ends.is_empty() {
            format!(
                "the {split} split has {} notes of {} tokens in all, but no sequence of at least {FEWEST} known tokens \
                 to learn from",
                self.notes, self.note_tokens
            )
        } else {
            return Ok(());
        };
        let advice = "look at stats.json of the notes and of the token shards";
        Err(BadInput::new(dir, complaint).hint(advice).into())
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Tokens of each sequence, special tokens included.
    pub fn lengths(&self) -> Vec<u32> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| (end - start) as u32).collect()
    }

    /// Token ids of a sequence.
    pub fn sequence(&self, index: usize) -> Vec<i64> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        let range = start..self.ends[index] as usize;
        match &self.tokens {
            Tokens::Short(tokens) => tokens[range].iter().map(|&token| i64::from(token)).collect(),
            Tokens::Long(tokens) => tokens[range].iter().map(|&token| i64::from(token)).collect(),
        }
    }
}

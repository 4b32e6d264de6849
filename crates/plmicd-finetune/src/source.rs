//! Training notes as batches, made on the trainer's other thread.

use plmicd_nn::{Batching, IcdBatch, LabelTargets, SpecialTokens};
use plmicd_train::{BatchSource, Cause};
use tch::Device;

use crate::notes::NoteSet;

/// A batch as the model takes it.
pub(crate) struct NoteBatch {
    pub notes: IcdBatch,
    pub truth: LabelTargets,
}

/// Makes batches of some notes of a set.
pub(crate) struct NoteSource<'a> {
    pub notes: &'a NoteSet,
    pub num_labels: usize,
    pub specials: SpecialTokens,
    pub batching: Batching,
    pub device: Device,
}

impl BatchSource for NoteSource<'_> {
    type Batch = NoteBatch;

    fn lengths(&self) -> Vec<u32> {
        self.notes.lengths.iter().map(|&length| length as u32).collect()
    }

    fn batch(&self, examples: &[usize]) -> Result<NoteBatch, Cause> {
        let tokens: Vec<&[i32]> = examples.iter().map(|&note| self.notes.tokens[note].as_slice()).collect();
        let labels: Vec<&[i32]> = examples.iter().map(|&note| self.notes.labels[note].as_slice()).collect();
        Ok(NoteBatch {
            notes: self.batching.batch(&tokens, &self.specials, self.device)?,
            truth: LabelTargets::from_indices(&labels, self.num_labels, self.device)?,
        })
    }
}

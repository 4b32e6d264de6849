//! Notes as words in a row.
//!
//! The words of all notes of a batch stand one note after the other, with room for a convolution's zeros between them,
//! so that short notes cost no more than they need and no note sees another.

use plmicd_torch::upload;
use tch::{Device, Tensor};

use crate::segment::Span;
use crate::{NnError, Padding};

/// The words of the notes of a batch.
#[derive(Debug)]
pub struct WordBatch {
    /// Word ids [R] of all notes in a row, i64; padding between and around them.
    pub(crate) ids: Tensor,
    /// Places in `ids` that belong to notes [N], i64, ascending. With [`Padding::Attend`] padding belongs to them too.
    pub(crate) inside: Tensor,
    /// The part of `ids` that belongs to each note.
    pub(crate) notes: Vec<Span>,
    /// For an LSTM, which reads the notes side by side.
    pub(crate) grid: Grid,
}

/// Where the words of a batch stand when its notes lie side by side, [T,B] flattened.
#[derive(Debug)]
pub(crate) struct Grid {
    /// Steps of the longest note, T.
    pub steps: i64,
    /// The place in a row of each word of the grid, read forwards [T*B].
    pub forward: Tensor,
    /// The same, each note read from its last word to its first.
    pub backward: Tensor,
    /// The place in the forward grid of each word of the row [R].
    pub from_forward: Tensor,
    /// The place in the backward grid.
    pub from_backward: Tensor,
    /// 1 for words, 0 for padding [R,1], fp32: an LSTM's states of padding are zero, as published. Absent where there is
    /// no padding.
    pub words: Option<Tensor>,
}

impl WordBatch {
    /// Makes a batch of notes given as word ids. `gap` padding words stand before, between and after the notes.
    ///
    /// With [`Padding::Attend`] every note is filled up to the longest one.
    pub fn new(
        notes: &[&[i32]],
        pad: i64,
        gap: usize,
        padding: Padding,
        device: Device,
    ) -> Result<WordBatch, NnError> {
        if let Some(empty) = notes.iter().position(|note| note.is_empty()) {
            return Err(NnError::Invalid(format!("note {empty} of the batch has no tokens")));
        }
        let longest = notes.iter().map(|note| note.len()).max().unwrap_or(0);
        let mut ids = vec![pad; gap];
        let mut spans = Vec::with_capacity(notes.len());
        let mut inside = Vec::new();
        for note in notes {
            let length = match padding {
                Padding::Attend => longest,
                Padding::Mask => note.len(),
            };
            let start = ids.len();
            spans.push(Span { start: start as i64, length: length as i64 });
            inside.extend(start as i64..(start + length) as i64);
            ids.extend(note.iter().map(|&word| i64::from(word)));
            ids.resize(start + length + gap, pad);
        }
        let lengths: Vec<usize> = notes.iter().map(|note| note.len()).collect();
        Ok(WordBatch {
            grid: Grid::new(&spans, &lengths, longest, ids.len(), device),
            ids: in_a_row(&ids, device),
            inside: in_a_row(&inside, device),
            notes: spans,
        })
    }

    /// Number of notes, B.
    pub fn num_notes(&self) -> usize {
        self.notes.len()
    }
}

impl Grid {
    fn new(notes: &[Span], lengths: &[usize], longest: usize, row: usize, device: Device) -> Grid {
        let width = notes.len();
        let (mut forward, mut backward) = (vec![0i64; longest * width], vec![0i64; longest * width]);
        let (mut from_forward, mut from_backward) = (vec![0i64; row], vec![0i64; row]);
        let mut words = vec![0f32; row];
        for (note, (span, &length)) in notes.iter().zip(lengths).enumerate() {
            let start = span.start as usize;
            for step in 0..longest {
                // Past its end a note reads its first word again; nobody reads what comes of that.
                let cell = step * width + note;
                let inside = step < length;
                forward[cell] = (start + if inside { step } else { 0 }) as i64;
                backward[cell] = (start + if inside { length - 1 - step } else { 0 }) as i64;
                if inside {
                    from_forward[start + step] = cell as i64;
                    from_backward[start + step] = ((length - 1 - step) * width + note) as i64;
                    words[start + step] = 1.0;
                }
            }
        }
        let padded = words.contains(&0.0);
        Grid {
            steps: longest as i64,
            forward: in_a_row(&forward, device),
            backward: in_a_row(&backward, device),
            from_forward: in_a_row(&from_forward, device),
            from_backward: in_a_row(&from_backward, device),
            words: padded.then(|| upload(&words, &[-1, 1], device)),
        }
    }
}

fn in_a_row(values: &[i64], device: Device) -> Tensor {
    upload(values, &[-1], device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(padding: Padding, gap: usize) -> WordBatch {
        WordBatch::new(&[&[5, 6, 7], &[8]], 0, gap, padding, Device::Cpu).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<i64> {
        Vec::try_from(tensor).unwrap()
    }

    #[test]
    fn notes_stand_apart_and_are_padded_to_each_other_only_when_padding_is_attended() {
        let mask = batch(Padding::Mask, 2);
        assert_eq!(values(&mask.ids), [0, 0, 5, 6, 7, 0, 0, 8, 0, 0]);
        assert_eq!(values(&mask.inside), [2, 3, 4, 7]);
        assert_eq!(mask.notes, [Span { start: 2, length: 3 }, Span { start: 7, length: 1 }]);
        let attend = batch(Padding::Attend, 1);
        assert_eq!(values(&attend.ids), [0, 5, 6, 7, 0, 8, 0, 0, 0]);
        assert_eq!(attend.notes[1], Span { start: 5, length: 3 });
    }

    #[test]
    fn a_grid_reads_every_note_forwards_and_backwards() {
        let grid = batch(Padding::Mask, 0).grid;
        // Two notes side by side: words 0, 1, 2 and word 3.
        assert_eq!(values(&grid.forward), [0, 3, 1, 3, 2, 3]);
        assert_eq!(values(&grid.backward), [2, 3, 1, 3, 0, 3]);
        assert_eq!(values(&grid.from_forward), [0, 2, 4, 1]);
        assert_eq!(values(&grid.from_backward), [4, 2, 0, 1]);
        assert!(grid.words.is_none());
    }

    #[test]
    fn a_note_without_words_is_refused() {
        let wrong = WordBatch::new(&[&[1], &[]], 0, 0, Padding::Mask, Device::Cpu).unwrap_err();
        assert_eq!(wrong.to_string(), "note 1 of the batch has no tokens");
    }
}

//! Notes to sequences.

use crate::config::Framing;

/// Cuts notes into sequences of at most `length` tokens.
///
/// Around every sequence (`framing` sequence) or every note (`note`) stand the start and the end token. Where notes
/// may be crossed, an end token parts two notes inside a sequence (Liu et al. 2019, FULL-SENTENCES).
pub(crate) struct Packer {
    length: usize,
    framing: Framing,
    cross_notes: bool,
    cls: Option<i32>,
    sep: Option<i32>,
    /// Tokens not yet in a sequence; more than none between two notes only where they may be crossed.
    pending: Vec<i32>,
}

impl Packer {
    pub fn new(
        length: usize,
        framing: Framing,
        cross_notes: bool,
        cls: Option<i32>,
        sep: Option<i32>,
    ) -> Self {
        Self { length, framing, cross_notes, cls, sep, pending: Vec::new() }
    }

    /// Takes a note; `sink` gets every sequence that is complete.
    pub fn push(&mut self, note: &[i32], sink: &mut impl FnMut(&[i32])) {
        match self.framing {
            Framing::Sequence => {
                if !self.pending.is_empty() {
                    self.pending.extend(self.sep);
                }
                self.pending.extend_from_slice(note);
            }
            Framing::Note => {
                self.pending.extend(self.cls);
                self.pending.extend_from_slice(note);
                self.pending.extend(self.sep);
            }
        }
        let room = self.room();
        let whole = if self.cross_notes { self.pending.len() / room * room } else { self.pending.len() };
        for piece in self.pending[..whole].chunks(room) {
            self.framed(piece, sink);
        }
        self.pending.drain(..whole);
    }

    /// Gives out what is left.
    pub fn finish(self, sink: &mut impl FnMut(&[i32])) {
        if !self.pending.is_empty() {
            self.framed(&self.pending, sink);
        }
    }

    /// Tokens of the notes in a sequence.
    fn room(&self) -> usize {
        let frame = match self.framing {
            Framing::Sequence => usize::from(self.cls.is_some()) + usize::from(self.sep.is_some()),
            Framing::Note => 0,
        };
        self.length.saturating_sub(frame).max(1)
    }

    fn framed(&self, piece: &[i32], sink: &mut impl FnMut(&[i32])) {
        match self.framing {
            Framing::Note => sink(piece),
            Framing::Sequence => {
                let mut sequence = Vec::with_capacity(piece.len() + 2);
                sequence.extend(self.cls);
                sequence.extend_from_slice(piece);
                sequence.extend(self.sep);
                sink(&sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: [&[i32]; 3] = [&[11, 12, 13, 14, 15, 16, 17], &[21], &[31, 32]];

    fn packed(framing: Framing, cross_notes: bool) -> Vec<Vec<i32>> {
        let mut sequences = Vec::new();
        let mut sink = |sequence: &[i32]| sequences.push(sequence.to_vec());
        let mut packer = Packer::new(6, framing, cross_notes, Some(1), Some(2));
        for note in NOTES {
            packer.push(note, &mut sink);
        }
        packer.finish(&mut sink);
        sequences
    }

    #[test]
    fn notes_are_kept_apart() {
        let framed: [&[i32]; 4] =
            [&[1, 11, 12, 13, 14, 2], &[1, 15, 16, 17, 2], &[1, 21, 2], &[1, 31, 32, 2]];
        assert_eq!(packed(Framing::Sequence, false), framed);
        let segments: [&[i32]; 4] = [&[1, 11, 12, 13, 14, 15], &[16, 17, 2], &[1, 21, 2], &[1, 31, 32, 2]];
        assert_eq!(packed(Framing::Note, false), segments);
    }

    #[test]
    fn notes_run_on_where_asked() {
        let framed: [&[i32]; 3] = [&[1, 11, 12, 13, 14, 2], &[1, 15, 16, 17, 2, 2], &[1, 21, 2, 31, 32, 2]];
        assert_eq!(packed(Framing::Sequence, true), framed);
        let segments: [&[i32]; 3] = [&[1, 11, 12, 13, 14, 15], &[16, 17, 2, 1, 21, 2], &[1, 31, 32, 2]];
        assert_eq!(packed(Framing::Note, true), segments);
    }

    #[test]
    fn every_token_of_a_long_note_occurs_once_and_in_order() {
        let note: Vec<i32> = (10..1000).collect();
        for framing in [Framing::Sequence, Framing::Note] {
            let mut seen: Vec<i32> = Vec::new();
            let mut packer = Packer::new(128, framing, false, Some(1), Some(2));
            packer.push(&note, &mut |sequence: &[i32]| {
                assert!(sequence.len() <= 128);
                seen.extend(sequence.iter().filter(|&&token| token > 2));
            });
            assert_eq!(seen, note);
        }
    }
}

//! From token ids of notes to a batch of segments, exactly as published (facts of the published code: one start
//! token at the very beginning of a note, one end token at its very end, none per segment).

use plmicd_torch::upload;
use tch::{Device, Tensor};

use crate::{NnError, Padding};

/// The special tokens of a vocabulary that frame and pad notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `[CLS]` or `<s>`; none where the tokenizer has none.
    pub cls: Option<i64>,
    /// `[SEP]` or `</s>`.
    pub sep: Option<i64>,
    pub pad: i64,
}

impl SpecialTokens {
    /// Number of tokens that frame a text.
    pub fn framing(&self) -> usize {
        usize::from(self.cls.is_some()) + usize::from(self.sep.is_some())
    }
}

/// Frames a note's tokens with the start and end token, after cutting them so that all are at most `max_length`.
pub fn with_special_tokens(tokens: &[i32], max_length: usize, specials: &SpecialTokens) -> Vec<i64> {
    let framing = specials.framing();
    let kept = &tokens[..tokens.len().min(max_length.saturating_sub(framing))];
    let mut framed = Vec::with_capacity(kept.len() + framing);
    framed.extend(specials.cls);
    framed.extend(kept.iter().map(|&token| i64::from(token)));
    framed.extend(specials.sep);
    framed
}

/// The segments of one note: its framed tokens cut into pieces of `segment_length`, the last one padded.
pub fn segment(
    tokens: &[i32],
    max_length: usize,
    segment_length: usize,
    specials: &SpecialTokens,
) -> Vec<Vec<i64>> {
    let framed = with_special_tokens(tokens, max_length, specials);
    let pieces = framed.chunks(segment_length.max(1));
    pieces
        .map(|piece| {
            let mut piece = piece.to_vec();
            piece.resize(segment_length, specials.pad);
            piece
        })
        .collect()
}

/// The part of a batch's flattened states [N*C,D] that label attention reads for one note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: i64,
    pub length: i64,
}

/// Segments of all notes of a batch, in the order of the notes.
#[derive(Debug)]
pub struct SegmentBatch {
    /// Token ids [N,C], i64.
    pub ids: Tensor,
    /// 1 for tokens, 0 for padding [N,C], i64.
    pub mask: Tensor,
    /// What label attention reads, one per note.
    pub spans: Vec<Span>,
    /// The note each segment belongs to, N entries.
    pub note_of_segment: Vec<usize>,
    /// Tokens of each note, special tokens included and padding not.
    pub lengths: Vec<usize>,
}

impl SegmentBatch {
    /// Makes a batch of notes given as framed token ids (see [`with_special_tokens`]).
    ///
    /// With [`Padding::Attend`] every note gets as many segments as the longest one, and its span covers them all;
    /// with [`Padding::Mask`] a note has only the segments it needs, and its span ends with its tokens.
    pub fn new(
        notes: &[Vec<i64>],
        segment_length: usize,
        pad: i64,
        padding: Padding,
        device: Device,
    ) -> Result<SegmentBatch, NnError> {
        if segment_length == 0 {
            return Err(NnError::Invalid("segment_length is 0".to_owned()));
        }
        if let Some(empty) = notes.iter().position(Vec::is_empty) {
            return Err(NnError::Invalid(format!("note {empty} of the batch has no tokens")));
        }
        let longest = notes.iter().map(Vec::len).max().unwrap_or(0).div_ceil(segment_length);
        let segments_of = |note: &Vec<i64>| match padding {
            Padding::Attend => longest,
            Padding::Mask => note.len().div_ceil(segment_length),
        };
        let total: usize = notes.iter().map(segments_of).sum();
        let mut ids = vec![pad; total * segment_length];
        let mut mask = vec![0i64; total * segment_length];
        let mut spans = Vec::with_capacity(notes.len());
        let mut note_of_segment = Vec::with_capacity(total);
        let mut start = 0;
        for (index, note) in notes.iter().enumerate() {
            ids[start..start + note.len()].copy_from_slice(note);
            mask[start..start + note.len()].fill(1);
            let segments = segments_of(note);
            note_of_segment.extend(std::iter::repeat_n(index, segments));
            let room = segments * segment_length;
            let length = match padding {
                Padding::Attend => room,
                Padding::Mask => note.len(),
            };
            spans.push(Span { start: start as i64, length: length as i64 });
            start += room;
        }
        let shape = [total as i64, segment_length as i64];
        Ok(SegmentBatch {
            ids: upload(&ids, &shape, device),
            mask: upload(&mask, &shape, device),
            spans,
            note_of_segment,
            lengths: notes.iter().map(Vec::len).collect(),
        })
    }

    /// The batch of some of its notes; tensors share their memory.
    pub(crate) fn notes(&self, notes: std::ops::Range<usize>) -> SegmentBatch {
        let length = self.ids.size()[1];
        let first = self.note_of_segment.partition_point(|&note| note < notes.start);
        let last = self.note_of_segment.partition_point(|&note| note < notes.end);
        let of = |tensor: &Tensor| tensor.narrow(0, first as i64, (last - first) as i64);
        let spans = self.spans[notes.clone()].iter();
        SegmentBatch {
            ids: of(&self.ids),
            mask: of(&self.mask),
            spans: spans
                .map(|span| Span { start: span.start - first as i64 * length, length: span.length })
                .collect(),
            note_of_segment: self.note_of_segment[first..last]
                .iter()
                .map(|note| note - notes.start)
                .collect(),
            lengths: self.lengths[notes].to_vec(),
        }
    }

    /// Number of notes, B.
    pub fn num_notes(&self) -> usize {
        self.spans.len()
    }

    /// Where each note's segments begin and how many they are.
    pub(crate) fn segments_of_notes(&self) -> Vec<(i64, i64)> {
        let mut ranges = vec![(0, 0); self.num_notes()];
        for (segment, &note) in (0i64..).zip(&self.note_of_segment) {
            let (start, count) = &mut ranges[note];
            if *count == 0 {
                *start = segment;
            }
            *count += 1;
        }
        ranges
    }

    /// Number of segments, N.
    pub fn num_segments(&self) -> usize {
        self.note_of_segment.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROBERTA: SpecialTokens = SpecialTokens { cls: Some(0), sep: Some(2), pad: 1 };

    #[test]
    fn specials_count_in_the_maximum_length() {
        assert_eq!(with_special_tokens(&[10, 11, 12, 13], 4, &ROBERTA), [0, 10, 11, 2]);
        assert_eq!(with_special_tokens(&[10], 4, &ROBERTA), [0, 10, 2]);
        assert_eq!(with_special_tokens(&[], 4, &ROBERTA), [0, 2]);
        let bare = SpecialTokens { cls: None, sep: None, pad: 0 };
        assert_eq!(with_special_tokens(&[10, 11, 12], 2, &bare), [10, 11]);
    }

    #[test]
    fn only_the_last_segment_is_short() {
        assert_eq!(segment(&[10, 11, 12], 100, 4, &ROBERTA), [[0, 10, 11, 12], [2, 1, 1, 1]]);
        assert_eq!(segment(&[10, 11], 100, 4, &ROBERTA), [[0, 10, 11, 2]]);
    }

    #[test]
    fn notes_are_padded_to_each_other_only_when_padding_is_attended() {
        let notes = [vec![5; 9], vec![6; 3]];
        let attend = SegmentBatch::new(&notes, 4, 0, Padding::Attend, Device::Cpu).unwrap();
        assert_eq!(attend.note_of_segment, [0, 0, 0, 1, 1, 1]);
        assert_eq!(attend.spans, [Span { start: 0, length: 12 }, Span { start: 12, length: 12 }]);
        let mask = SegmentBatch::new(&notes, 4, 0, Padding::Mask, Device::Cpu).unwrap();
        assert_eq!(mask.note_of_segment, [0, 0, 0, 1]);
        assert_eq!(mask.spans, [Span { start: 0, length: 9 }, Span { start: 12, length: 3 }]);
        assert_eq!(mask.lengths, [9, 3]);
    }

    #[test]
    fn a_note_without_tokens_is_refused() {
        let wrong = SegmentBatch::new(&[vec![1], vec![]], 4, 0, Padding::Mask, Device::Cpu).unwrap_err();
        assert_eq!(wrong.to_string(), "note 1 of the batch has no tokens");
    }
}

//! How the notes of a model become sequences of tokens, and batches of them.

use tch::Device;

use crate::config::{EncoderConfig, ModelConfig, ModelType, Padding, Pooling};
use crate::scoring::side_by_side_batches;
use crate::segment::{SegmentBatch, SpecialTokens, with_special_tokens};
use crate::{NnError, inference_batches};

/// What a model's settings and its encoder say about the form of its input. Batches can be made without the model,
/// on another thread.
#[derive(Clone, Debug, PartialEq)]
pub struct NoteLayout {
    pooling: Pooling,
    padding: Padding,
    max_length: usize,
    segment_length: usize,
    /// Whether notes that are one sequence are padded to whole segments: where the window slides in such steps.
    whole_steps: bool,
    vocab_size: i64,
    pad_token_id: i64,
}

impl NoteLayout {
    /// Of a model with these settings over this encoder.
    pub fn new(config: &ModelConfig, encoder: &EncoderConfig) -> NoteLayout {
        let longest = encoder.max_sequence_length().max(0) as usize;
        NoteLayout {
            pooling: config.pooling,
            padding: config.padding,
            max_length: match config.pooling {
                Pooling::Whole => config.max_length.min(longest),
                _ => config.max_length,
            },
            segment_length: config.segment_length,
            whole_steps: encoder.model_type == ModelType::Longformer,
            vocab_size: encoder.vocab_size,
            pad_token_id: encoder.pad_token_id,
        }
    }

    /// Tokens of a note that are read, special tokens included where they frame the note: `max_length`, or less where
    /// the note is one sequence and the encoder reads no more.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Tokens of a note without special tokens that are read.
    pub fn room(&self, specials: &SpecialTokens) -> usize {
        // Published: tokens are counted before segments are framed, but together with what frames a note.
        let framing = if self.pooling.frames_segments() { 0 } else { specials.framing() };
        self.max_length.saturating_sub(framing)
    }

    /// Tokens the model sees of a note of `tokens` tokens without special tokens: those are included, padding is not.
    pub fn length(&self, tokens: usize, specials: &SpecialTokens) -> usize {
        let kept = tokens.min(self.room(specials));
        let frames = match self.pooling.frames_segments() {
            true => kept.div_ceil(self.segment_room(specials)).max(1),
            false => 1,
        };
        kept + frames * specials.framing()
    }

    /// Tokens of the note in a framed segment.
    fn segment_room(&self, specials: &SpecialTokens) -> usize {
        self.segment_length.saturating_sub(specials.framing()).max(1)
    }

    /// A note's tokens with special tokens, cut; segments are every `segment_length` of them.
    pub fn framed(&self, tokens: &[i32], specials: &SpecialTokens) -> Vec<i64> {
        if !self.pooling.frames_segments() {
            return with_special_tokens(tokens, self.max_length, specials);
        }
        let kept = &tokens[..tokens.len().min(self.room(specials))];
        let frame = |piece: &[i32]| with_special_tokens(piece, self.segment_length, specials);
        match kept.is_empty() {
            true => frame(kept),
            // Only the last piece is short.
            false => kept.chunks(self.segment_room(specials)).flat_map(frame).collect(),
        }
    }

    /// A batch of notes given as token ids without special tokens.
    pub fn batch<T: AsRef<[i32]>>(
        &self,
        notes: &[T],
        specials: &SpecialTokens,
        device: Device,
    ) -> Result<SegmentBatch, NnError> {
        self.check(specials)?;
        let framed: Vec<Vec<i64>> =
            notes.iter().map(|tokens| self.framed(tokens.as_ref(), specials)).collect();
        for (note, tokens) in framed.iter().enumerate() {
            if let Some(token) = tokens.iter().find(|&&token| !(0..self.vocab_size).contains(&token)) {
                return Err(NnError::Invalid(format!(
                    "note {note} of the batch has token {token}, but the encoder's vocabulary has {} tokens",
                    self.vocab_size
                )));
            }
        }
        let longest = framed.iter().map(Vec::len).max().unwrap_or(0);
        let sequence = match self.pooling {
            Pooling::Whole if self.whole_steps => longest.next_multiple_of(self.segment_length),
            Pooling::Whole => longest,
            _ => self.segment_length,
        };
        SegmentBatch::new(&framed, sequence, specials.pad, self.padding, device)
    }

    /// Whether a model can read notes framed by these special tokens.
    pub fn check(&self, specials: &SpecialTokens) -> Result<(), NnError> {
        if specials.pad != self.pad_token_id {
            return Err(NnError::Invalid(format!(
                "the tokens are padded with {}, but the encoder's pad_token_id is {}",
                specials.pad, self.pad_token_id
            )));
        }
        if self.pooling.frames_segments() && specials.cls.is_none() {
            let pooling = self.pooling.as_str();
            return Err(NnError::Invalid(format!(
                "pooling = \"{pooling}\" reads the start token of each segment, but the tokenizer has none"
            )));
        }
        Ok(())
    }

    /// Puts notes of these lengths (see [`NoteLayout::length`]) into batches in which nothing is learnt, of at most
    /// `max_tokens` tokens, padding included; see [`inference_batches`].
    pub fn inference_batches(&self, lengths: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
        if self.pooling != Pooling::Whole {
            return inference_batches(lengths, self.segment_length, max_tokens, self.padding);
        }
        side_by_side_batches(lengths, max_tokens, self.padding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIALS: SpecialTokens = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };

    fn layout(pooling: Pooling) -> NoteLayout {
        let config = ModelConfig {
            pooling,
            segment_length: 6,
            max_length: 13,
            padding: Padding::Mask,
            ..ModelConfig::default()
        };
        NoteLayout::new(
            &config,
            &EncoderConfig { max_position_embeddings: 8, ..EncoderConfig::small(99, 4, 1, 1) },
        )
    }

    #[test]
    fn segments_or_notes_are_framed_and_counted() {
        let tokens: Vec<i32> = (10..30).collect();
        let framed = layout(Pooling::ClsSum).framed(&tokens, &SPECIALS);
        assert_eq!(framed, [2, 10, 11, 12, 13, 3, 2, 14, 15, 16, 17, 3, 2, 18, 19, 20, 21, 3, 2, 22, 3]);
        assert_eq!(layout(Pooling::ClsSum).framed(&[], &SPECIALS), [2, 3]);
        assert_eq!(layout(Pooling::Segment).framed(&tokens, &SPECIALS).len(), 13);
        // A BERT of 8 positions reads no more of a whole note.
        assert_eq!(layout(Pooling::Whole).framed(&tokens, &SPECIALS), [2, 10, 11, 12, 13, 14, 15, 3]);
        for pooling in [Pooling::Segment, Pooling::ClsMax, Pooling::Hierarchical, Pooling::Whole] {
            let layout = layout(pooling);
            for count in 0..20 {
                let framed = layout.framed(&tokens[..count], &SPECIALS);
                assert_eq!(layout.length(count, &SPECIALS), framed.len(), "{pooling:?} {count}");
                let cut = layout.framed(&tokens[..count.min(layout.room(&SPECIALS))], &SPECIALS);
                assert_eq!(cut, framed, "{pooling:?} {count}");
            }
        }
    }

    #[test]
    fn whole_notes_share_a_batch_while_their_padding_fits() {
        let layout = layout(Pooling::Whole);
        let batches = layout.inference_batches(&[5, 8, 8, 1, 2], 16);
        assert_eq!(batches, [vec![1, 2], vec![0, 4, 3]]);
    }

    #[test]
    fn a_start_token_is_asked_for_where_it_is_read() {
        let bare = SpecialTokens { cls: None, sep: None, pad: 0 };
        assert!(layout(Pooling::Segment).check(&bare).is_ok());
        let wrong = layout(Pooling::ClsMean).check(&bare).unwrap_err().to_string();
        assert!(wrong.contains("pooling = \"cls-mean\" reads the start token"), "{wrong}");
    }
}

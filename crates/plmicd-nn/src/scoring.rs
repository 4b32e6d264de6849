//! How notes are put into batches where nothing is learnt: dev scoring in training and prediction share it.

use crate::Padding;

/// Tokens of an inference batch, padding included: enough to keep the matrix products busy, little enough for the
/// states of one layer to stay in tens of megabytes.
pub const INFERENCE_TOKENS: usize = 16_384;

/// Puts notes of these lengths (in tokens, special tokens included) into batches of at most `max_tokens`, each
/// counted in whole segments; a longer note goes alone. Longest first, so that what does not fit into memory
/// shows at once; equal lengths stay in order.
///
/// With [`Padding::Attend`] the other notes of a batch would change a note's scores, so every note goes alone, as
/// in the published setting (batch size 1).
pub fn inference_batches(
    lengths: &[usize],
    segment_length: usize,
    max_tokens: usize,
    padding: Padding,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&note| std::cmp::Reverse(lengths[note]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for note in order {
        let tokens = lengths[note].div_ceil(segment_length.max(1)).max(1) * segment_length.max(1);
        match batches.last_mut() {
            Some(batch) if padding == Padding::Mask && tokens <= room => {
                batch.push(note);
                room -= tokens;
            }
            _ => {
                batches.push(vec![note]);
                room = max_tokens.saturating_sub(tokens);
            }
        }
    }
    batches
}

/// The same where the notes of a batch lie side by side, each padded to the longest.
pub fn side_by_side_batches(lengths: &[usize], max_tokens: usize, padding: Padding) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&note| std::cmp::Reverse(lengths[note]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for note in order {
        match batches.last_mut() {
            // The longest comes first.
            Some(batch)
                if padding == Padding::Mask && (batch.len() + 1) * lengths[batch[0]].max(1) <= max_tokens =>
            {
                batch.push(note);
            }
            _ => batches.push(vec![note]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_note_once_and_no_more_tokens_than_allowed() {
        let lengths = [5, 130, 1000, 128, 1, 129, 5];
        let batches = inference_batches(&lengths, 128, 400, Padding::Mask);
        assert_eq!(batches, vec![vec![2], vec![1], vec![5, 3], vec![0, 6, 4]]);
    }

    #[test]
    fn attended_padding_keeps_notes_apart() {
        let batches = inference_batches(&[3, 9, 3], 4, 1000, Padding::Attend);
        assert_eq!(batches, [[1], [0], [2]]);
    }
}

//! A training pass in parts that bound its memory. The notes of a batch go through the model in groups, the segments of
//! a group through the encoder in parts; states of the parts beyond what may be kept are computed again in the backward
//! pass. Groups and parts are the same whatever the memory: it decides only what is computed twice, so results are equal
//! to the byte.

use std::cell::Cell;
use std::time::{Duration, Instant};

use plmicd_torch::Place;
use tch::{Device, Tensor};

use crate::label_attention::OnePass;
use crate::segment::SegmentBatch;
use crate::{EncoderConfig, NnError, Precision};

/// Tokens of a group of notes, padding included, unless a single note has more.
const GROUP_TOKENS: i64 = 4096;
/// Tokens of a part: enough to keep matrix products busy.
const PART_TOKENS: i64 = 1536;
/// The same on a GPU, which has more to keep busy.
const GPU_TOKENS: i64 = 32_768;

/// Where the time of training steps went. On a GPU, where work is only queued, times of phases mean little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseTimes {
    /// States of all tokens.
    pub encoder_forward: Duration,
    /// Label attention and loss, forward and backward.
    pub label_attention: Duration,
    /// Gradients of the encoder, with what is computed twice.
    pub encoder_backward: Duration,
}

/// How training steps go about memory, and what they took.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    /// Bytes that states kept for the backward pass may take; no limit where absent.
    pub kept_bytes: Option<u64>,
    pub times: Cell<PhaseTimes>,
}

impl Pacing {
    fn add(&self, change: impl FnOnce(&mut PhaseTimes)) {
        let mut times = self.times.get();
        change(&mut times);
        self.times.set(times);
    }
}

/// A stretch of a batch's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub first: i64,
    pub count: i64,
}

impl Part {
    /// Its part of a tensor [N,..].
    pub fn of(&self, tensor: &Tensor) -> Tensor {
        tensor.narrow(0, self.first, self.count)
    }

    /// Where it lies in a batch of which the whole begins at segment `start`, with segments of `length` tokens.
    pub fn place(&self, start: i64, length: i64) -> Place {
        Place { row: (start + self.first) * length, segment: start + self.first }
    }
}

/// Bytes that the graph of an encoder keeps for the backward pass, per token: what its operations save.
pub(crate) fn bytes_per_token(config: &EncoderConfig, precision: Precision) -> u64 {
    let (d, i) = (config.hidden_size.unsigned_abs(), config.intermediate_size.unsigned_abs());
    let layer = match precision {
        Precision::Bf16 => 2 * (6 * d + i) + 4 * 2 * d,
        _ => 4 * (8 * d + i),
    };
    layer * config.num_hidden_layers.unsigned_abs() + 8 * d
}

/// Ranges of notes that go through the model together.
pub(crate) fn groups(batch: &SegmentBatch, device: Device) -> Vec<std::ops::Range<usize>> {
    let most = if device == Device::Cpu { GROUP_TOKENS } else { GPU_TOKENS };
    let length = batch.ids.size()[1];
    let mut tokens = vec![0; batch.num_notes()];
    for &note in &batch.note_of_segment {
        tokens[note] += length;
    }
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    let mut room = 0;
    for (note, tokens) in tokens.into_iter().enumerate() {
        match groups.last_mut() {
            Some(group) if tokens <= room => {
                group.end = note + 1;
                room -= tokens;
            }
            _ => {
                groups.push(note..note + 1);
                room = most - tokens;
            }
        }
    }
    groups
}

/// Notes of a batch that go through the model together.
pub(crate) struct Group {
    pub notes: SegmentBatch,
    /// [B,Y] of these notes.
    pub targets: Tensor,
    /// Of the notes of the batch.
    pub share: f64,
    /// Number of its first segment in the batch.
    pub first_segment: i64,
}

/// The parts in which `segments` segments of `length` tokens go through the encoder: of nearly one size.
pub(crate) fn parts(segments: i64, length: i64, device: Device) -> Vec<Part> {
    let most = if device == Device::Cpu { PART_TOKENS } else { GPU_TOKENS };
    let each = (most / length).max(1);
    let count = (segments + each - 1) / each;
    let bound = |part: i64| part * segments / count;
    (0..count).map(|part| Part { first: bound(part), count: bound(part + 1) - bound(part) }).collect()
}

/// Loss and gradients of states that went through the encoder `P` times.
pub(crate) struct Passes<const P: usize> {
    pub loss: Tensor,
    /// By all states [N,C,D] of each time, flattened or not.
    pub grad_states: [Tensor; P],
}

impl From<OnePass> for Passes<1> {
    fn from(pass: OnePass) -> Self {
        Self { loss: pass.loss, grad_states: [pass.grad_states] }
    }
}

/// Forward and backward, `P` times side by side. `forward` gives the states [n,C,D] of a part for one of the times, the
/// same ones whenever it is asked; `head` the loss and the gradients of all states [N,C,D]. The first `kept` parts of each
/// time are computed once.
pub(crate) fn run<const P: usize>(
    parts: &[Part],
    kept: usize,
    pacing: &Pacing,
    forward: impl Fn(&Part, usize) -> Tensor,
    head: impl FnOnce([&Tensor; P]) -> Result<Passes<P>, NnError>,
) -> Result<Tensor, NnError> {
    let start = Instant::now();
    let through = |time: usize| {
        let mut graphs = Vec::with_capacity(kept.min(parts.len()));
        let mut states = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            if index < kept {
                let graph = forward(part, time);
                states.push(graph.detach());
                graphs.push(graph);
            } else {
                states.push(tch::no_grad(|| forward(part, time)));
            }
        }
        let states = match states.len() {
            1 => states.remove(0),
            _ => Tensor::cat(&states, 0),
        };
        (graphs, states)
    };
    let times: [_; P] = std::array::from_fn(through);
    pacing.add(|times| times.encoder_forward += start.elapsed());

    let start = Instant::now();
    let Passes { loss, grad_states } = head(times.each_ref().map(|(_, states)| states))?;
    pacing.add(|times| times.label_attention += start.elapsed());

    let start = Instant::now();
    for (time, ((graphs, states), gradient)) in times.into_iter().zip(grad_states).enumerate() {
        let gradient = gradient.view_as(&states);
        drop(states);
        let mut graphs = graphs.into_iter();
        for part in parts {
            let graph = graphs.next().unwrap_or_else(|| forward(part, time));
            // Where the whole encoder is frozen there is nothing to go back to.
            if graph.requires_grad() {
                plmicd_torch::backward_with_gradient(&graph, &part.of(&gradient))?;
            }
        }
    }
    pacing.add(|times| times.encoder_backward += start.elapsed());
    Ok(loss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Padding;

    #[test]
    fn groups_and_parts_cover_everything_once() {
        let notes: Vec<Vec<i64>> = [3000, 1000, 90, 5000, 10].iter().map(|&n| vec![5; n]).collect();
        let batch = SegmentBatch::new(&notes, 128, 0, Padding::Mask, Device::Cpu).unwrap();
        assert_eq!(groups(&batch, Device::Cpu), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(groups(&batch, Device::Cuda(0)), vec![0..notes.len()]);
        for segments in [1, 5, 12, 24, 49] {
            let parts = parts(segments, 128, Device::Cpu);
            let mut next = 0;
            for part in &parts {
                assert_eq!(part.first, next);
                assert!(part.count > 0 && part.count * 128 <= PART_TOKENS);
                next += part.count;
            }
            assert_eq!(next, segments);
        }
        assert_eq!(parts(2, 4096, Device::Cpu).len(), 2);
    }
}

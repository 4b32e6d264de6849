//! A training pass in parts that bound its memory. The notes of a batch go through the model in groups, the segments of
//! a group through the encoder in parts; states of the parts beyond what may be kept are computed again in the backward
//! pass. On the CPU groups and parts are the same whatever the memory: it decides only what is computed twice, so results
//! are equal to the byte. On a GPU, which has more to keep busy, parts are as large as memory allows.

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
/// Tokens of a group on a GPU.
const GPU_GROUP_TOKENS: i64 = 32_768;
/// Tokens of a part on a GPU: those of a group, or less where little may be kept, but no less than this.
const LEAST_GPU_TOKENS: i64 = 2048;

/// Where the time of training steps went. On a GPU, where work is only queued, it is the time of queuing unless
/// [`PlmIcd::wait_after_phases`](crate::PlmIcd::wait_after_phases) was asked for.
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
    /// The GPU that is waited for after each phase.
    pub waits_for: Option<usize>,
    pub times: Cell<PhaseTimes>,
}

impl Pacing {
    fn add(&self, since: Instant, phase: impl FnOnce(&mut PhaseTimes) -> &mut Duration) {
        if let Some(gpu) = self.waits_for {
            tch::Cuda::synchronize(gpu as i64);
        }
        let mut times = self.times.get();
        *phase(&mut times) += since.elapsed();
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

/// How the layers of an encoder are computed, which decides what they keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    /// Each part of a layer as one operation, which computes again what it can.
    Fused,
    /// As operations of libtorch's.
    Singly {
        /// Attention weights of a token and head that are written out.
        weights: i64,
        /// Times that keys and values are copied for the windows they are seen from.
        copies: i64,
    },
}

/// Bytes that the graph of an encoder keeps for the backward pass, per token: what its operations save.
pub(crate) fn bytes_per_token(config: &EncoderConfig, precision: Precision, computed: Computed) -> u64 {
    let (d, i) = (config.hidden_size.unsigned_abs(), config.intermediate_size.unsigned_abs());
    let is_low = precision == Precision::Bf16;
    let layer = match computed {
        Computed::Fused if is_low => 2 * (6 * d + i) + 4 * 2 * d,
        Computed::Fused => 4 * (8 * d + i),
        Computed::Singly { weights, copies } => {
            // In the number format of matrix products: input, queries, keys, values and their copies, context, what
            // attention gives, both sides of the activation. In fp32: both sides of two LayerNorms. A byte each: what
            // two dropouts dropped.
            let operand = if is_low { 2 } else { 4 };
            let operands = operand * (6 * d + 2 * i + 2 * copies.unsigned_abs() * d);
            // Before dropout, after it, and as an operand.
            let attention =
                (8 + operand) * config.num_attention_heads.unsigned_abs() * weights.unsigned_abs();
            operands + attention + 4 * 4 * d + 2 * d
        }
    };
    layer * config.num_hidden_layers.unsigned_abs() + 8 * d
}

/// Tokens of a group and of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    group: i64,
    part: i64,
}

impl Sizes {
    /// On `device`, where a token keeps `per_token` bytes and all together may keep `most`. On a GPU at least two parts
    /// have to fit; sizes are powers of two, so that they do not change with every byte of free memory.
    pub fn new(device: Device, per_token: u64, most: Option<u64>) -> Sizes {
        if device == Device::Cpu {
            return Sizes { group: GROUP_TOKENS, part: PART_TOKENS };
        }
        let mut part = GPU_GROUP_TOKENS;
        while part > LEAST_GPU_TOKENS && most.is_some_and(|most| most / 2 < per_token * part.unsigned_abs()) {
            part /= 2;
        }
        Sizes { group: GPU_GROUP_TOKENS, part }
    }

    /// The same where nothing is kept.
    pub fn of_scoring(device: Device) -> Sizes {
        Sizes::new(device, 0, None)
    }
}

/// Tokens of a group of notes, unless a single note has more.
pub(crate) fn group_tokens(device: Device) -> i64 {
    Sizes::of_scoring(device).group
}

/// Tokens of the smallest parts that a batch is cut into, where sequences are no longer.
pub(crate) fn least_part(device: Device) -> usize {
    (if device == Device::Cpu { PART_TOKENS } else { LEAST_GPU_TOKENS }) as usize
}

/// Ranges of notes that go through the model together.
pub(crate) fn groups(batch: &SegmentBatch, sizes: Sizes) -> Vec<std::ops::Range<usize>> {
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
                room = sizes.group - tokens;
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
pub(crate) fn parts(segments: i64, length: i64, sizes: Sizes) -> Vec<Part> {
    let each = (sizes.part / length).max(1);
    let count = (segments + each - 1) / each;
    let bound = |part: i64| part * segments / count;
    (0..count).map(|part| Part { first: bound(part), count: bound(part + 1) - bound(part) }).collect()
}

/// How many of these parts are kept where each takes `of_part` bytes: all that fit, less one for the part that is being
/// computed again where not all do.
pub(crate) fn kept(parts: usize, of_part: u64, most: Option<u64>) -> usize {
    match most {
        None => parts,
        Some(most) => match (most / of_part.max(1)) as usize {
            fit if fit >= parts => parts,
            fit => fit.saturating_sub(1),
        },
    }
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
    pacing.add(start, |times| &mut times.encoder_forward);

    let start = Instant::now();
    let Passes { loss, grad_states } = head(times.each_ref().map(|(_, states)| states))?;
    pacing.add(start, |times| &mut times.label_attention);

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
    pacing.add(start, |times| &mut times.encoder_backward);
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
        let [cpu, gpu] = [Device::Cpu, Device::Cuda(0)].map(Sizes::of_scoring);
        assert_eq!(groups(&batch, cpu), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(groups(&batch, gpu), vec![0..notes.len()]);
        for segments in [1, 5, 12, 24, 49] {
            let parts = parts(segments, 128, cpu);
            let mut next = 0;
            for part in &parts {
                assert_eq!(part.first, next);
                assert!(part.count > 0 && part.count * 128 <= PART_TOKENS);
                next += part.count;
            }
            assert_eq!(next, segments);
        }
        assert_eq!(parts(2, 4096, cpu).len(), 2);
    }

    #[test]
    fn parts_on_a_gpu_follow_what_may_be_kept() {
        let part = |most| Sizes::new(Device::Cuda(0), 1000, most).part;
        assert_eq!(part(None), 32_768);
        assert_eq!(part(Some(66_000_000)), 32_768);
        assert_eq!(part(Some(60_000_000)), 16_384);
        assert_eq!(part(Some(0)), LEAST_GPU_TOKENS);
        assert_eq!(Sizes::new(Device::Cpu, 1000, Some(0)).part, PART_TOKENS);
        assert_eq!(
            [None, Some(0), Some(19), Some(20), Some(29), Some(30)].map(|most| kept(3, 10, most)),
            [3, 0, 0, 1, 1, 3]
        );
    }

    #[test]
    fn what_is_written_out_is_kept() {
        let base = EncoderConfig::small(50_000, 768, 12, 12);
        let bytes = |precision, computed| bytes_per_token(&base, precision, computed) / (12 * 768);
        let alone = |weights| Computed::Singly { weights, copies: 0 };
        assert_eq!([Precision::Bf16, Precision::Fp32].map(|p| bytes(p, Computed::Fused)), [28, 48]);
        assert_eq!([Precision::Bf16, Precision::Fp32].map(|p| bytes(p, alone(0))), [46, 74]);
        // Every token against the 128 of its segment in 12 heads: 24 more fp32 numbers for each of 768.
        assert_eq!(bytes(Precision::Fp32, alone(128)), 74 + 24);
    }
}

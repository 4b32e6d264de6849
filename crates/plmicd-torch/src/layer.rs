//! The parts of a transformer layer as single nodes of autograd's graph, on the CPU. `R` rows are the tokens of
//! segments one after the other, without padding where the caller leaves it out.
//!
//! The gradients of weights are **added to their `.grad`** in the backward pass, not passed on through the graph: they
//! can be had in no other way (`torch.autograd.grad` does not see them).

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::TorchError;
use crate::ffi;
use crate::random::Dropout;
use crate::system::cpu_capabilities;

/// Whether this module's functions work on `device` with this build of libtorch.
pub fn fused_layers(device: Device) -> bool {
    // SAFETY: the shim compares two addresses.
    device == Device::Cpu && unsafe { ffi::plmicd_has_fused_attention() } != 0
}

/// `plmicd_attention_call` of `shim/layer.h`.
#[repr(C)]
pub(crate) struct RawAttention {
    bounds: *const i64,
    segments: i64,
    heads: i64,
    p: f64,
    seed: u64,
    first_segment: i64,
    narrow_products: i32,
}

/// Self-attention of segments (Vaswani et al. 2017, section 3.2.2), without output layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Segment `i` has the rows from `bounds[i]` to `bounds[i + 1]`; ascending, from 0 to R.
    pub bounds: &'a [i64],
    /// Heads, H; they divide D.
    pub heads: i64,
    /// Added to the scores of a row as key [R] fp32, where anything is hidden.
    pub mask: Option<&'a Tensor>,
    /// Share of the attention weights that is dropped in training.
    pub dropout: f64,
}

/// `qkv` [R,3D] holds queries, keys and values side by side, fp32 or bf16. Gives [R,D] of the same kind. Products of
/// bf16 run on the CPU's bf16 instructions where it has them and on fp32 elsewhere; sums and softmax are fp32.
pub fn attention(qkv: &Tensor, call: &Attention<'_>, dropout: &Dropout) -> Result<Tensor, TorchError> {
    let seed = dropout.next_seed();
    let raw = RawAttention {
        bounds: call.bounds.as_ptr(),
        segments: call.bounds.len() as i64 - 1,
        heads: call.heads,
        p: if seed.is_some() { call.dropout } else { 0.0 },
        seed: seed.unwrap_or(0),
        first_segment: dropout.place().segment,
        narrow_products: i32::from(qkv.kind() == Kind::BFloat16 && cpu_capabilities().fast_bf16()),
    };
    let mask = call.mask.map_or(std::ptr::null_mut(), ffi::raw);
    let mut out = std::ptr::null_mut();
    // SAFETY: the tensors and `bounds` outlive the call and the shim checks that the segments cover the rows; on
    // success it hands over one new tensor, which tch frees.
    unsafe {
        ffi::check(ffi::plmicd_attention(ffi::raw(qkv), mask, &raw, &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// `plmicd_projections` of `shim/layer.h`.
#[repr(C)]
pub(crate) struct RawProjections {
    count: i64,
    weights: *mut *mut C_tensor,
    biases: *mut *mut C_tensor,
    low_weight: *mut C_tensor,
    low_bias: *mut C_tensor,
}

/// Projections of the same rows, whose results lie side by side.
#[derive(Clone, Copy, Debug)]
pub struct Projections<'a> {
    /// fp32 [outputs, inputs] each.
    pub weights: &'a [&'a Tensor],
    /// fp32 [outputs] each, or none at all.
    pub biases: &'a [&'a Tensor],
    /// All weights, one above the other, in bf16: needed for rows in bf16.
    pub low_weight: Option<&'a Tensor>,
    /// All biases in bf16, where there are biases.
    pub low_bias: Option<&'a Tensor>,
}

/// `x` [R,K], fp32 or bf16, to [R, sum of the outputs] of the same kind.
pub fn projections(x: &Tensor, call: &Projections<'_>) -> Result<Tensor, TorchError> {
    let is_low = low(x)?;
    let biased = !call.biases.is_empty();
    if (biased && call.biases.len() != call.weights.len())
        || call.weights.is_empty()
        || (is_low && (call.low_weight.is_none() || call.low_bias.is_some() != biased))
    {
        return Err(TorchError::Invalid("projections: weights and biases do not fit together".to_owned()));
    }
    let mut weights: Vec<*mut C_tensor> = call.weights.iter().map(|tensor| ffi::raw(tensor)).collect();
    let mut biases: Vec<*mut C_tensor> = call.biases.iter().map(|tensor| ffi::raw(tensor)).collect();
    let raw = RawProjections {
        count: weights.len() as i64,
        weights: weights.as_mut_ptr(),
        biases: if biased { biases.as_mut_ptr() } else { std::ptr::null_mut() },
        low_weight: call.low_weight.map_or(std::ptr::null_mut(), ffi::raw),
        low_bias: call.low_bias.map_or(std::ptr::null_mut(), ffi::raw),
    };
    let mut out = std::ptr::null_mut();
    // SAFETY: every pointer comes from a live tensor or a vector that outlives the call; low weights were checked to be
    // there where they are read; libtorch checks the shapes and throws.
    unsafe {
        ffi::check(ffi::plmicd_projections_of(ffi::raw(x), &raw, &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// `plmicd_feed_forward` of `shim/layer.h`.
#[repr(C)]
pub(crate) struct RawFeedForward {
    first: *mut C_tensor,
    bias: *mut C_tensor,
    second: *mut C_tensor,
    first_low: *mut C_tensor,
    second_low: *mut C_tensor,
}

/// `GELU(x W1^T + b) W2^T`, with the exact error function to 1e-7.
#[derive(Clone, Copy, Debug)]
pub struct FeedForward<'a> {
    /// `W1` [I,D] fp32.
    pub first: &'a Tensor,
    /// `b` [I] fp32.
    pub bias: &'a Tensor,
    /// `W2` [D,I] fp32.
    pub second: &'a Tensor,
    /// Both weights in bf16: needed for rows in bf16.
    pub low: Option<(&'a Tensor, &'a Tensor)>,
}

/// `x` [R,D], fp32 or bf16, to [R,D] of the same kind.
pub fn feed_forward(x: &Tensor, call: &FeedForward<'_>) -> Result<Tensor, TorchError> {
    if low(x)? && call.low.is_none() {
        return Err(TorchError::Invalid("feed-forward: rows in bf16 need weights in bf16".to_owned()));
    }
    check_floats("feed-forward", &[call.bias], call.first.size()[0])?;
    let raw = RawFeedForward {
        first: ffi::raw(call.first),
        bias: ffi::raw(call.bias),
        second: ffi::raw(call.second),
        first_low: call.low.map_or(std::ptr::null_mut(), |(first, _)| ffi::raw(first)),
        second_low: call.low.map_or(std::ptr::null_mut(), |(_, second)| ffi::raw(second)),
    };
    let mut out = std::ptr::null_mut();
    // SAFETY: every pointer comes from a live tensor; the bias was checked to be as long as the loops take it for, low
    // weights to be there where they are read; libtorch checks the other shapes and throws.
    unsafe {
        ffi::check(ffi::plmicd_feed_forward_of(ffi::raw(x), &raw, &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// `plmicd_norm_call` of `shim/layer.h`.
#[repr(C)]
pub(crate) struct RawNorm {
    bias: *mut C_tensor,
    gamma: *mut C_tensor,
    beta: *mut C_tensor,
    epsilon: f64,
    p: f64,
    seed: u64,
    first_row: i64,
    low: i32,
}

/// `LayerNorm(residual + dropout(x + bias))`: what follows a projection in a post-LayerNorm layer.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// The projection's bias [D] fp32.
    pub bias: &'a Tensor,
    /// LayerNorm's weight [D] fp32.
    pub gamma: &'a Tensor,
    /// LayerNorm's bias [D] fp32.
    pub beta: &'a Tensor,
    pub epsilon: f64,
    /// Share of `x + bias` that is dropped in training.
    pub dropout: f64,
}

/// `x` [R,D] fp32 or bf16, `residual` [R,D] fp32. Gives [R,D] fp32, and where `x` is bf16 the same rounded to bf16.
pub fn norm(
    x: &Tensor,
    residual: &Tensor,
    call: &Norm<'_>,
    dropout: &Dropout,
) -> Result<(Tensor, Option<Tensor>), TorchError> {
    let is_low = low(x)?;
    if residual.kind() != Kind::Float || residual.size() != x.size() || !residual.is_contiguous() {
        return Err(TorchError::Invalid("norm: expected a residual in fp32 of the input's shape".to_owned()));
    }
    check_floats("norm", &[call.bias, call.gamma, call.beta], x.size()[1])?;
    let seed = dropout.next_seed();
    let raw = RawNorm {
        bias: ffi::raw(call.bias),
        gamma: ffi::raw(call.gamma),
        beta: ffi::raw(call.beta),
        epsilon: call.epsilon,
        p: if seed.is_some() { call.dropout } else { 0.0 },
        seed: seed.unwrap_or(0),
        first_row: dropout.place().row,
        low: i32::from(is_low),
    };
    let (mut out, mut low) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: every pointer comes from a live tensor; kinds, lengths and layouts that the loops rely on were checked; on
    // success the shim hands over one or, as asked by `low`, two new tensors, which tch frees.
    unsafe {
        ffi::check(ffi::plmicd_norm_of(ffi::raw(x), ffi::raw(residual), &raw, &mut out, &mut low))?;
        Ok((Tensor::from_ptr(out), is_low.then(|| Tensor::from_ptr(low))))
    }
}

/// Learnt embeddings, fp32 [rows,D] each, and the rows that take no gradient.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingTables<'a> {
    pub words: &'a Tensor,
    pub positions: &'a Tensor,
    /// Every token is of type 0.
    pub types: &'a Tensor,
    pub word_pad: Option<i64>,
    pub position_pad: Option<i64>,
}

/// The sum of word, position and type embeddings [R,D] of `ids` and `places` [R] i64.
pub fn embedding(tables: &EmbeddingTables<'_>, ids: &Tensor, places: &Tensor) -> Result<Tensor, TorchError> {
    let mut out = std::ptr::null_mut();
    // SAFETY: all tensors are live; the shim checks kinds, and libtorch that ids and places lie in their tables, before
    // the backward pass can rely on either.
    unsafe {
        ffi::check(ffi::plmicd_embedding(
            ffi::raw(tables.words),
            ffi::raw(tables.positions),
            ffi::raw(tables.types),
            ffi::raw(ids),
            ffi::raw(places),
            tables.word_pad.unwrap_or(-1),
            tables.position_pad.unwrap_or(-1),
            &mut out,
        ))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// Whether rows are bf16; they must be that or fp32, contiguous and on the CPU.
fn low(x: &Tensor) -> Result<bool, TorchError> {
    let kind = x.kind();
    if !matches!(kind, Kind::Float | Kind::BFloat16)
        || x.device() != Device::Cpu
        || !x.is_contiguous()
        || x.dim() != 2
    {
        return Err(TorchError::Invalid(format!(
            "expected contiguous rows of float or bfloat16 on the CPU, not {kind:?} of shape {:?} on {:?}",
            x.size(),
            x.device()
        )));
    }
    Ok(kind == Kind::BFloat16)
}

fn check_floats(what: &str, rows: &[&Tensor], length: i64) -> Result<(), TorchError> {
    let fits = |row: &&Tensor| row.kind() == Kind::Float && row.size() == [length] && row.is_contiguous();
    match rows.iter().all(fits) {
        true => Ok(()),
        false => Err(TorchError::Invalid(format!("{what}: expected {length} contiguous values in fp32"))),
    }
}

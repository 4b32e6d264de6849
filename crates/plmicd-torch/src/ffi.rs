//! The shim's C functions (`shim/*.cpp`) and the two conversions every caller needs.

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::TorchError;
use crate::layer::{RawAttention, RawFeedForward, RawNorm, RawProjections};
use crate::optimizer::RawAdamW;

/// `plmicd_fetch` of the shim.
#[repr(C)]
pub struct RawFetch {
    opaque: [u8; 0],
}

unsafe extern "C" {
    pub fn plmicd_set_grad(parameter: *mut C_tensor, gradient: *mut C_tensor) -> *mut c_char;
    pub fn plmicd_backward(root: *mut C_tensor, gradient: *mut C_tensor) -> *mut c_char;
    pub fn plmicd_adamw(
        values: *mut C_tensor,
        grads: *mut C_tensor,
        first: *mut C_tensor,
        second: *mut C_tensor,
        gate: *mut C_tensor,
        step: *const RawAdamW,
    ) -> *mut c_char;
    pub fn plmicd_sum_squares(tensor: *mut C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn plmicd_fill_normal(
        out: *mut C_tensor,
        mean: f64,
        standard_deviation: f64,
        seed: u64,
    ) -> *mut c_char;
    pub fn plmicd_dropout(
        x: *mut C_tensor,
        p: f64,
        seed: u64,
        first: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn plmicd_to_gpu(tensor: *mut C_tensor, index: i64, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn plmicd_fetch_begin(tensor: *mut C_tensor, out: *mut *mut RawFetch) -> *mut c_char;
    pub fn plmicd_fetch_end(fetch: *mut RawFetch, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn plmicd_fetch_free(fetch: *mut RawFetch);
    pub fn plmicd_seed_generator(index: i64, seed: u64) -> *mut c_char;
    pub fn plmicd_has_fused_attention() -> i32;
    pub fn plmicd_attention(
        qkv: *mut C_tensor,
        mask: *mut C_tensor,
        call: *const RawAttention,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn plmicd_projections_of(
        x: *mut C_tensor,
        call: *const RawProjections,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn plmicd_feed_forward_of(
        x: *mut C_tensor,
        call: *const RawFeedForward,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn plmicd_norm_of(
        x: *mut C_tensor,
        residual: *mut C_tensor,
        call: *const RawNorm,
        out: *mut *mut C_tensor,
        low: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn plmicd_embedding(
        words: *mut C_tensor,
        positions: *mut C_tensor,
        types: *mut C_tensor,
        ids: *mut C_tensor,
        places: *mut C_tensor,
        word_pad: i64,
        place_pad: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn plmicd_add_product(sum: *mut C_tensor, a: *mut C_tensor, b: *mut C_tensor) -> *mut c_char;
    pub fn plmicd_wide_product(a: *mut C_tensor, b: *mut C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn plmicd_label_scores(
        queries: *mut C_tensor,
        products: *mut C_tensor,
        scores: *mut *mut C_tensor,
        log_sums: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn plmicd_label_gradients(
        queries: *mut C_tensor,
        products: *mut C_tensor,
        scores: *mut C_tensor,
        log_sums: *mut C_tensor,
        grads: *mut C_tensor,
        low: i32,
        grad_queries: *mut *mut C_tensor,
        grad_products: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn plmicd_version(out: *mut *mut c_char) -> *mut c_char;
    pub fn plmicd_location(out: *mut *mut c_char) -> *mut c_char;
    pub fn plmicd_cpu_capabilities(out: *mut *mut c_char) -> *mut c_char;
    pub fn plmicd_device_reset_peak(index: i64) -> *mut c_char;
    pub fn plmicd_device_peak(index: i64, out: *mut u64) -> *mut c_char;
    pub fn plmicd_device_free(index: i64, out: *mut u64) -> *mut c_char;
    pub fn plmicd_gpu_has_bf16() -> i32;
    pub fn plmicd_allow_tf32(allow: i32);
    pub fn plmicd_load_global(path: *const c_char) -> *mut c_char;
    fn plmicd_free(message: *mut c_char);
}

/// The pointer tch keeps: the shim reads through it and never frees it. libtorch's tensors are shared
/// handles, so a `&Tensor` is enough even for the functions that write to the data.
pub fn raw(tensor: &Tensor) -> *mut C_tensor {
    tensor.as_ptr().cast_mut()
}

/// Takes over a string made by the shim.
///
/// # Safety
/// `text` is null or was returned by the shim and not yet freed.
pub unsafe fn take_string(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the shim returns nul-terminated strings made by strdup.
    let owned = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: made by strdup, freed once, here.
    unsafe { plmicd_free(text) };
    Some(owned)
}

/// Takes over bytes made by the shim.
///
/// # Safety
/// `bytes` holds `length` bytes, was returned by the shim and not yet freed.
#[cfg(feature = "distributed")]
pub unsafe fn take_bytes(bytes: *mut c_char, length: usize) -> Vec<u8> {
    // SAFETY: passed on from the caller.
    let owned = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) }.to_vec();
    // SAFETY: made by malloc, freed once, here.
    unsafe { plmicd_free(bytes) };
    owned
}

/// Turns the shim's return value into a result.
///
/// # Safety
/// As for [`take_string`].
pub unsafe fn check(message: *mut c_char) -> Result<(), TorchError> {
    // SAFETY: passed on from the caller.
    match unsafe { take_string(message) } {
        None => Ok(()),
        Some(message) => Err(TorchError::Libtorch(first_line(&message))),
    }
}

/// libtorch appends a C++ back trace, which helps nobody here.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

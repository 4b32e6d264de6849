use tch::Tensor;

use crate::TorchError;
use crate::ffi;

/// `sum += a b`, without a gradient: `sum` [M,N], `a` [M,K] and `b` [K,N] of one kind, or `sum` in fp32 and both others in
/// bf16. A product of bf16 is added as it was summed, unrounded.
///
/// # Errors
/// Matrices that do not fit.
pub fn add_product(sum: &Tensor, a: &Tensor, b: &Tensor) -> Result<(), TorchError> {
    // SAFETY: all tensors are live and the shim checks their shapes and kinds.
    unsafe { ffi::check(ffi::plmicd_add_product(ffi::raw(sum), ffi::raw(a), ffi::raw(b))) }
}

/// `a b` of matrices of one kind, without a gradient; that of bf16 in fp32, as it was summed.
///
/// # Errors
/// Matrices that do not fit.
pub fn wide_product(a: &Tensor, b: &Tensor) -> Result<Tensor, TorchError> {
    let mut out = std::ptr::null_mut();
    // SAFETY: both tensors are live and the shim checks their shapes and kinds; on success it hands over a new tensor,
    // which tch frees.
    unsafe {
        ffi::check(ffi::plmicd_wide_product(ffi::raw(a), ffi::raw(b), &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

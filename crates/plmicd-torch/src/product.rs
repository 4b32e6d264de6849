use tch::Tensor;

use crate::TorchError;
use crate::ffi;

/// `sum += a b`, without a gradient: `sum` [M,N] in fp32, `a` [M,K] and `b` [K,N] both in fp32 or both in bf16. Where the
/// CPU multiplies bf16, the product is added as it is made; elsewhere a product in bf16 is rounded first.
///
/// # Errors
/// Matrices that do not fit.
pub fn add_product(sum: &Tensor, a: &Tensor, b: &Tensor) -> Result<(), TorchError> {
    // SAFETY: all tensors are live and the shim checks their shapes and kinds.
    unsafe { ffi::check(ffi::plmicd_add_product(ffi::raw(sum), ffi::raw(a), ffi::raw(b))) }
}

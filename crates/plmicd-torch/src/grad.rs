use tch::Tensor;

use crate::TorchError;
use crate::ffi;

/// Makes `gradient` the `.grad` of the leaf `parameter`, sharing its memory: backward passes add into it in
/// place (autograd accumulates in place while gradients of gradients are not asked for), so it may be a
/// view of a larger buffer. Shape, kind and device must be the parameter's.
pub fn set_grad(parameter: &Tensor, gradient: &Tensor) -> Result<(), TorchError> {
    if parameter.size() != gradient.size()
        || parameter.kind() != gradient.kind()
        || parameter.device() != gradient.device()
    {
        return Err(TorchError::Invalid(format!(
            "a gradient of shape {:?} ({:?}, {:?}) does not fit a parameter of shape {:?} ({:?}, {:?})",
            gradient.size(),
            gradient.kind(),
            gradient.device(),
            parameter.size(),
            parameter.kind(),
            parameter.device(),
        )));
    }
    // SAFETY: both pointers come from live tensors; the shim copies the handle, not the pointer.
    unsafe { ffi::check(ffi::plmicd_set_grad(ffi::raw(parameter), ffi::raw(gradient))) }
}

/// The `.grad` of `parameter` (sharing its memory), made of zeros first where there is none.
pub fn grad_or_zeros(parameter: &Tensor) -> Result<Tensor, TorchError> {
    let gradient = parameter.grad();
    if gradient.defined() {
        return Ok(gradient);
    }
    let gradient = tch::no_grad(|| parameter.zeros_like());
    set_grad(parameter, &gradient)?;
    Ok(gradient)
}

/// Runs autograd backward from `root`, whose gradient is `gradient` (same shape), accumulating into the
/// `.grad` of the leaves. The graph is freed.
pub fn backward_with_gradient(root: &Tensor, gradient: &Tensor) -> Result<(), TorchError> {
    // SAFETY: both pointers come from live tensors; libtorch checks the shapes and throws.
    unsafe { ffi::check(ffi::plmicd_backward(ffi::raw(root), ffi::raw(gradient))) }
}

use tch::{Device, Kind, Tensor};

use crate::TorchError;
use crate::ffi;

/// Which AdamW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdamWVariant {
    /// PyTorch's `torch.optim.AdamW`: epsilon is added to the bias-corrected root; decay before the step.
    Torch,
    /// Transformers 4.5's `AdamW`, used by the published PLM-ICD code: bias correction goes into the step
    /// size only, so epsilon is added to the uncorrected root; decay after the step.
    Hf45,
}

/// Settings of AdamW (Loshchilov and Hutter 2019, algorithm 2); `step` of it applies one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub variant: AdamWVariant,
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Decoupled: each update shrinks the values by `learning_rate * weight_decay`.
    pub weight_decay: f64,
}

/// `plmicd_adamw_step` of `shim/shim.h`.
#[repr(C)]
pub struct RawAdamW {
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    step: i64,
    variant: i32,
}

impl AdamW {
    /// Applies update number `step` (1 for the first) in place to `values` and the moments `first` and `second`,
    /// given `grads`: four contiguous tensors of one shape, kind (float or double) and device. They may be
    /// views (narrowed ranges) of larger flat buffers. The same bytes for any number of threads.
    pub fn step(
        &self,
        values: &Tensor,
        grads: &Tensor,
        first: &Tensor,
        second: &Tensor,
        step: u64,
    ) -> Result<(), TorchError> {
        for (what, tensor) in
            [("values", values), ("gradients", grads), ("moments", first), ("moments", second)]
        {
            check_flat(what, tensor)?;
            if tensor.size() != values.size()
                || tensor.kind() != values.kind()
                || tensor.device() != values.device()
            {
                return Err(TorchError::Invalid(format!(
                    "AdamW: {what} of shape {:?} ({:?}) do not fit values of shape {:?} ({:?})",
                    tensor.size(),
                    tensor.kind(),
                    values.size(),
                    values.kind(),
                )));
            }
        }
        let step = match i64::try_from(step) {
            Ok(step) if step > 0 => step,
            _ => return Err(TorchError::Invalid("AdamW: steps are counted from 1".to_owned())),
        };
        let raw = RawAdamW {
            learning_rate: self.learning_rate,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            step,
            variant: match self.variant {
                AdamWVariant::Torch => 0,
                AdamWVariant::Hf45 => 1,
            },
        };
        // SAFETY: the pointers come from live tensors, checked above to be contiguous and of one length and
        // kind, which is all the shim's loops rely on; `raw` outlives the call.
        unsafe {
            ffi::check(ffi::plmicd_adamw(
                ffi::raw(values),
                ffi::raw(grads),
                ffi::raw(first),
                ffi::raw(second),
                &raw,
            ))
        }
    }
}

/// The Euclidean norm of a flat gradient, summed in double precision in a fixed order.
pub fn grad_norm(grads: &Tensor) -> Result<f64, TorchError> {
    check_flat("gradients", grads)?;
    let mut sum = 0.0;
    // SAFETY: the pointer comes from a live contiguous tensor of float or double; `sum` outlives the call.
    unsafe { ffi::check(ffi::plmicd_sum_squares(ffi::raw(grads), &mut sum))? };
    Ok(sum.sqrt())
}

/// Scales `grads` in place so that their norm is at most `max_norm` (as `torch.nn.utils.clip_grad_norm_`,
/// factor `max_norm / (norm + 1e-6)`) and returns the norm before. A non-finite norm leaves them alone.
pub fn clip_grad_norm(grads: &Tensor, max_norm: f64) -> Result<f64, TorchError> {
    let norm = grad_norm(grads)?;
    let factor = max_norm / (norm + 1e-6);
    if norm.is_finite() && factor < 1.0 {
        let _ = tch::no_grad(|| grads.shallow_clone().f_mul_scalar_(factor))?;
    }
    Ok(norm)
}

fn check_flat(what: &str, tensor: &Tensor) -> Result<(), TorchError> {
    let supported = matches!(tensor.kind(), Kind::Float | Kind::Double);
    if !supported || !tensor.is_contiguous() || !matches!(tensor.device(), Device::Cpu | Device::Cuda(_)) {
        return Err(TorchError::Invalid(format!(
            "{what} must be contiguous float or double on the CPU or CUDA, not {:?} on {:?}",
            tensor.kind(),
            tensor.device(),
        )));
    }
    Ok(())
}

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
    fused: i32,
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
        let gate = Tensor::zeros([], (Kind::Double, values.device()));
        self.step_if_finite(&gate, values, grads, first, second, step)
    }

    /// [`AdamW::step`], which changes nothing where `gate`, a scalar on the same device, is not finite. On a GPU nobody
    /// waits for its value.
    pub fn step_if_finite(
        &self,
        gate: &Tensor,
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
        let raw = self.raw(step);
        // SAFETY: the pointers come from live tensors, checked above to be contiguous and of one length and
        // kind, which is all the shim's loops rely on; `raw` outlives the call.
        unsafe {
            ffi::check(ffi::plmicd_adamw(
                ffi::raw(values),
                ffi::raw(grads),
                ffi::raw(first),
                ffi::raw(second),
                ffi::raw(gate),
                &raw,
            ))
        }
    }

    fn raw(&self, step: i64) -> RawAdamW {
        RawAdamW {
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
            fused: 0,
        }
    }
}

/// The Euclidean norm of a flat gradient, summed in double precision in a fixed order: a scalar beside the gradient. On
/// a GPU it is queued, and whoever reads it waits for all that was queued before.
pub fn grad_norm(grads: &Tensor) -> Result<Tensor, TorchError> {
    check_flat("gradients", grads)?;
    let mut sum = std::ptr::null_mut();
    // SAFETY: the pointer comes from a live contiguous tensor of float or double; on success the shim hands over one
    // new tensor, which tch frees.
    let sum = unsafe {
        ffi::check(ffi::plmicd_sum_squares(ffi::raw(grads), &mut sum))?;
        Tensor::from_ptr(sum)
    };
    Ok(sum.f_sqrt()?)
}

/// Scales `grads` in place so that their norm is at most `max_norm` (as `torch.nn.utils.clip_grad_norm_`,
/// factor `max_norm / (norm + 1e-6)`) and returns the norm before, as [`grad_norm`]. A non-finite norm leaves them alone.
pub fn clip_grad_norm(grads: &Tensor, max_norm: f64) -> Result<Tensor, TorchError> {
    let norm = grad_norm(grads)?;
    tch::no_grad(|| {
        if grads.device() == Device::Cpu {
            let factor = max_norm / (norm.f_double_value(&[])? + 1e-6);
            // Small gradients, the usual case late in a run, are not gone through.
            if factor.is_finite() && 0.0 < factor && factor < 1.0 {
                let _ = grads.shallow_clone().f_mul_scalar_(factor)?;
            }
        } else {
            let _ = grads.shallow_clone().f_mul_(&clip_factor(&norm, max_norm)?)?;
        }
        Ok(norm)
    })
}

/// What [`clip_grad_norm`] multiplies by, computed where `norm` lies.
fn clip_factor(norm: &Tensor, max_norm: f64) -> Result<Tensor, TorchError> {
    let factor = (max_norm / (norm + 1e-6)).f_clamp_max(1.0)?;
    Ok(factor.f_where_self(&norm.f_isfinite()?, &norm.f_ones_like()?)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What GPUs compute, on the CPU.
    fn step_as_on_a_gpu(rule: &AdamW, tensors: &[Tensor; 4], gate: f64, step: i64) {
        let raw = RawAdamW { fused: 1, ..rule.raw(step) };
        let gate = Tensor::from(gate);
        let [values, grads, first, second] = tensors.each_ref().map(ffi::raw);
        // SAFETY: as in `AdamW::step_if_finite`.
        unsafe {
            ffi::check(ffi::plmicd_adamw(values, grads, first, second, ffi::raw(&gate), &raw)).unwrap();
        }
    }

    #[test]
    fn a_gpu_takes_the_same_steps_as_the_cpu() {
        crate::manual_seed(3);
        for variant in [AdamWVariant::Torch, AdamWVariant::Hf45] {
            let draw = || Tensor::randn([10_007], (Kind::Double, Device::Cpu));
            let cpu = [draw(), draw(), draw().zeros_like(), draw().zeros_like()];
            let gpu = cpu.each_ref().map(Tensor::copy);
            for step in 1..=5 {
                let rule = AdamW {
                    variant,
                    learning_rate: 1e-2 / step as f64,
                    beta1: 0.9,
                    beta2: 0.98,
                    epsilon: 1e-3,
                    weight_decay: 0.1,
                };
                let fresh = draw();
                for tensors in [&cpu, &gpu] {
                    tensors[1].shallow_clone().copy_(&fresh);
                }
                rule.step(&cpu[0], &cpu[1], &cpu[2], &cpu[3], step).unwrap();
                step_as_on_a_gpu(&rule, &gpu, 0.5, step as i64);
                for refused in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    step_as_on_a_gpu(&rule, &gpu, refused, step as i64);
                }
                for (ours, theirs) in cpu.iter().zip(&gpu) {
                    let off = (ours - theirs).abs().max().double_value(&[]);
                    assert!(off < 1e-12, "{variant:?}, step {step}: {off:e}");
                }
            }
        }
    }

    #[test]
    fn a_gpu_clips_by_the_same_factor_as_the_cpu() {
        for (norm, expected) in
            [(5.0, 1.0), (20.0, 10.0 / (20.0 + 1e-6)), (f64::NAN, 1.0), (f64::INFINITY, 1.0)]
        {
            let factor = clip_factor(&Tensor::from(norm), 10.0).unwrap().double_value(&[]);
            assert!((factor - expected).abs() < 1e-15, "{norm}: {factor}");
        }
    }
}

//! What tch lacks, over a small C++ shim: gradients as views of one flat buffer, fused AdamW, the global
//! gradient norm, backward from a given gradient, run-time loading of CUDA, facts about libtorch and the CPU.
//!
//! The only crate of the workspace with `unsafe` code.

pub mod cuda;
mod device;
mod error;
mod ffi;
mod flat;
mod grad;
mod optimizer;
mod random;
mod system;

pub use device::resolve_device;
pub use error::TorchError;
pub use flat::{FlatEntry, FlatParameters};
pub use grad::{backward_with_gradient, grad_or_zeros, set_grad};
pub use optimizer::{AdamW, AdamWVariant, clip_grad_norm, grad_norm};
pub use random::{Dropout, derive_seed, fill_normal, manual_seed};
pub use system::{
    CpuCapabilities, cpu_capabilities, intra_op_threads, libtorch_location, libtorch_version,
    set_intra_op_threads,
};

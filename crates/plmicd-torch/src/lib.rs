//! What tch lacks, over a small C++ shim: gradients as views of one flat buffer, fused AdamW, the global
//! gradient norm, backward from a given gradient, run-time loading of CUDA, facts about libtorch and the CPU.
//!
//! The only crate of the workspace with `unsafe` code.

pub mod cuda;
mod device;
pub mod distributed;
mod error;
mod fetch;
mod ffi;
mod flat;
mod grad;
mod label;
mod layer;
mod optimizer;
mod product;
mod random;
mod system;

pub use device::{device_warning, resolve_device, resolve_device_of, upload};
pub use error::TorchError;
pub use fetch::{Fetch, InFlight};
pub use flat::{FlatEntry, FlatParameters};
pub use grad::{backward_with_gradient, grad_or_zeros, set_grad};
pub use label::{label_gradients, label_scores};
pub use layer::{
    Attention, EmbeddingTables, FeedForward, Norm, Projections, attention, embedding, feed_forward,
    fused_layers, norm, projections,
};
pub use optimizer::{AdamW, AdamWVariant, clip_grad_norm, grad_norm};
pub use product::{add_product, wide_product};
pub use random::{Dropout, Place, derive_seed, fill_normal, manual_seed};
pub use system::{
    CpuCapabilities, allow_tf32, available_memory, cpu_capabilities, fast_bf16, intra_op_threads,
    libtorch_location, libtorch_version, peak_memory, reset_peak_memory, set_intra_op_threads,
};

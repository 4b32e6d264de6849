//! Weights on disk: reading and writing tensor files, and matching their names with a model's.

mod growth;
mod matching;
mod safetensors_file;
mod torch_file;

pub use growth::Growth;
pub use matching::{LoadReport, Mismatch};
pub(crate) use matching::{Wanted, fill};
pub use safetensors_file::{read_safetensors, write_safetensors};
pub use torch_file::{read_torch_file, write_torch_file};

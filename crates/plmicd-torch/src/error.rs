/// What can go wrong below the safe face of libtorch.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// libtorch threw; the message is its own.
    #[error("libtorch: {0}")]
    Libtorch(String),
    /// The caller's tensors do not fit together.
    #[error("{0}")]
    Invalid(String),
    /// tch refused.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
}

use camino::Utf8PathBuf;

/// What can go wrong with models and their files. No message holds text of a note.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// A file does not hold what it should.
    #[error("{file}: {message}")]
    File { file: Utf8PathBuf, message: String },
    /// The caller's values do not fit the model.
    #[error("{0}")]
    Invalid(String),
    /// Reading or writing failed; the message names the file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Torch(#[from] plmicd_torch::TorchError),
    #[error(transparent)]
    Tch(#[from] tch::TchError),
}

impl NnError {
    pub(crate) fn file(file: impl Into<Utf8PathBuf>, message: impl Into<String>) -> NnError {
        NnError::File { file: file.into(), message: message.into() }
    }
}

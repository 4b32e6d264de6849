//! What can go wrong while a corpus is made.

use camino::Utf8PathBuf;

/// Why no corpus was made.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// A setting is out of range.
    #[error("{path}: {message}")]
    Config {
        /// Dotted path of the setting.
        path: String,
        /// What is wrong and what was expected.
        message: String,
    },
    /// The target exists already: real tables are never overwritten.
    #[error("{path} exists already: name an empty folder, the generator overwrites nothing")]
    Exists {
        /// The file in the way.
        path: Utf8PathBuf,
    },
    /// A data file built into the crate is malformed.
    #[error("built-in data {file}:{line}: {message}")]
    Data {
        /// File of the crate's `data` folder.
        file: &'static str,
        /// 1-based line.
        line: usize,
        /// What is wrong and what was expected.
        message: String,
    },
    /// The caller asked to stop.
    #[error("stopped before the corpus was complete; nothing was kept")]
    Stopped,
    /// Reading or writing failed (the message names the file).
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The worker threads could not be started.
    #[error("starting {threads} worker threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
}

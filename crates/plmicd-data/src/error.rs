//! The error of every reader and writer here.

use camino::{Utf8Path, Utf8PathBuf};

/// Why a file could not be read or written. Messages name file, row and column; they never hold note text.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system refused. `fs_err` names the path in the message.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A column that must be there is not.
    #[error("{file}: no column `{column}` ({expected}); its columns are {found}")]
    MissingColumn {
        /// The file at fault.
        file: Utf8PathBuf,
        /// The column sought.
        column: &'static str,
        /// Its expected type, in words.
        expected: &'static str,
        /// The columns that are there.
        found: String,
    },
    /// A column has another type.
    #[error("{file}: column `{column}` is {found}, expected {expected}")]
    ColumnType {
        /// The file at fault.
        file: Utf8PathBuf,
        /// The column.
        column: &'static str,
        /// Its expected type, in words.
        expected: &'static str,
        /// The type found, in Arrow's words.
        found: String,
    },
    /// A value is not as expected.
    #[error("{file}, row {row}, column `{column}`: {message}")]
    Value {
        /// The file at fault.
        file: Utf8PathBuf,
        /// 1-based row.
        row: u64,
        /// The column.
        column: &'static str,
        /// What is wrong and what was expected.
        message: String,
    },
    /// The file was written by another version, or is of another kind.
    #[error("{file}: {found}; this version reads {expected}")]
    SchemaVersion {
        /// The file at fault.
        file: Utf8PathBuf,
        /// What the file says it is.
        found: String,
        /// What is read here.
        expected: String,
    },
    /// Parquet or Arrow refused: a truncated or damaged file, as a rule.
    #[error("{file}: cannot {action} as parquet (is the file complete?)")]
    Parquet {
        /// The file at fault.
        file: Utf8PathBuf,
        /// What was being done: `open`, `read row 17 and following`, `write`.
        action: String,
        /// The library's error.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// Not the JSON expected.
    #[error("{file}:{line}:{column}: {message}")]
    Json {
        /// The file at fault.
        file: Utf8PathBuf,
        /// 1-based line.
        line: usize,
        /// 1-based column in the line.
        column: usize,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A file or folder as a whole is not as expected.
    #[error("{file}: {message}")]
    File {
        /// The file or folder at fault.
        file: Utf8PathBuf,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A list of labels cannot be a label space.
    #[error("label {index}: {message}")]
    Label {
        /// 0-based position in the list.
        index: usize,
        /// What is wrong.
        message: String,
    },
    /// Not a code of its system.
    #[error("`{text}` is not an {system} code: {message}")]
    Code {
        /// The text given.
        text: String,
        /// The system expected, in words.
        system: &'static str,
        /// What was expected.
        message: &'static str,
    },
}

impl DataError {
    /// A complaint about a file or folder as a whole.
    pub fn file(file: &Utf8Path, message: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), message: message.into() }
    }

    pub(crate) fn value(file: &Utf8Path, row: u64, column: &'static str, message: impl Into<String>) -> Self {
        Self::Value { file: file.to_owned(), row, column, message: message.into() }
    }
}

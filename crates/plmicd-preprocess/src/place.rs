//! Where something stands in the user's table.

use camino::Utf8Path;
use plmicd_pipeline::BadInput;

/// A row of a table, from 1: the line at which it begins, or its number in a file without lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Of a text file.
    Line(u64),
    /// Of a Parquet file.
    Row(u64),
}

impl Place {
    /// A complaint about a column of this row.
    pub fn bad(self, path: &Utf8Path, column: &str, message: &str) -> BadInput {
        match self {
            Self::Line(line) => BadInput::new(path, message).line(line).column(column),
            Self::Row(row) => BadInput::new(path, format!("row {row}: {message}")).column(column),
        }
    }

    /// In words.
    pub fn words(self) -> String {
        match self {
            Self::Line(line) => format!("line {line}"),
            Self::Row(row) => format!("row {row}"),
        }
    }
}

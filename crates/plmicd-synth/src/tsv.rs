//! Reads the tab-separated data files built into the crate.

use std::str::FromStr;

use crate::error::SynthError;

/// One line of a built-in table.
pub(crate) struct Row<'a> {
    file: &'static str,
    line: usize,
    cells: Vec<&'a str>,
}

/// The lines of `text` below its header, comments (`#`) left out, each with exactly `columns` cells.
pub(crate) fn rows<'a>(
    file: &'static str,
    text: &'a str,
    columns: usize,
) -> Result<Vec<Row<'a>>, SynthError> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        if line.starts_with('#') {
            continue;
        }
        let row = Row { file, line: index + 1, cells: line.split('\t').collect() };
        if row.cells.len() != columns {
            return Err(row.bad(format!("expected {columns} cells, found {}", row.cells.len())));
        }
        rows.push(row);
    }
    Ok(rows)
}

impl<'a> Row<'a> {
    /// Cell `column`, from 0.
    pub(crate) fn text(&self, column: usize) -> &'a str {
        self.cells[column]
    }

    /// Cell `column` as a number.
    pub(crate) fn number<T: FromStr>(&self, column: usize) -> Result<T, SynthError> {
        self.text(column).parse().map_err(|_| self.bad(format!("column {}: expected a number", column + 1)))
    }

    /// An error at this line.
    pub(crate) fn bad(&self, message: impl Into<String>) -> SynthError {
        SynthError::Data { file: self.file, line: self.line, message: message.into() }
    }
}

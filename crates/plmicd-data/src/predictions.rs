//! Codes predicted for notes, as a table for people and programs.

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, StringArray};
use arrow_schema::{DataType, Field};
use camino::Utf8Path;

use crate::error::DataError;
use crate::table::{ColumnType, GROUP_ROWS, Layout, TableWriter};

const LAYOUT: Layout<'static> = Layout {
    table: "predictions",
    version: PredictionWriter::SCHEMA,
    columns: &[
        ("id", ColumnType::Text),
        ("codes", ColumnType::TextList),
        ("scores", ColumnType::Float32List),
    ],
    unique_text: &["id"],
};

/// Writes the codes predicted for each note, holding at most three row groups.
pub struct PredictionWriter {
    table: TableWriter,
    ids: Vec<String>,
    codes: ListBuilder<StringBuilder>,
    scores: ListBuilder<Float32Builder>,
}

impl PredictionWriter {
    /// Version of the table.
    pub const SCHEMA: u32 = 1;

    /// Creates the file, replacing one that is there.
    pub fn create(path: &Utf8Path) -> Result<Self, DataError> {
        let element = |kind| Field::new("element", kind, false);
        Ok(Self {
            table: TableWriter::create(path, &LAYOUT)?,
            ids: Vec::new(),
            codes: ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8)),
            scores: ListBuilder::new(Float32Builder::new()).with_field(element(DataType::Float32)),
        })
    }

    /// Appends a note: its codes, and the score of each.
    pub fn write<'a>(
        &mut self,
        id: &str,
        codes: impl IntoIterator<Item = (&'a str, f32)>,
    ) -> Result<(), DataError> {
        for (code, score) in codes {
            self.codes.values().append_value(code);
            self.scores.values().append_value(score);
        }
        self.codes.append(true);
        self.scores.append(true);
        self.ids.push(id.to_owned());
        if self.ids.len() == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    /// Completes the file. Returns the number of notes.
    pub fn finish(mut self) -> Result<u64, DataError> {
        self.flush()?;
        self.table.finish()
    }

    fn flush(&mut self) -> Result<(), DataError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let ids = StringArray::from_iter_values(self.ids.drain(..));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(ids), Arc::new(self.codes.finish()), Arc::new(self.scores.finish())];
        self.table.write_group(columns)
    }
}

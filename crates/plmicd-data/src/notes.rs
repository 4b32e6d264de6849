//! `notes.parquet`: one row a note.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::StringArray;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_schema::{DataType, Field};
use camino::Utf8Path;

use crate::error::DataError;
use crate::split::Split;
use crate::table::{Batch, ColumnType, GROUP_BYTES, GROUP_ROWS, Layout, TableReader, TableWriter};

const LAYOUT: Layout<'static> = Layout {
    table: "notes",
    version: NoteWriter::SCHEMA,
    columns: &[
        ("note_id", ColumnType::Text),
        ("subject_id", ColumnType::Text),
        ("split", ColumnType::Text),
        ("text", ColumnType::Text),
        ("codes", ColumnType::TextList),
    ],
    unique_text: &["note_id", "text"],
};

/// A note and its codes.
#[derive(Clone, PartialEq, Eq)]
pub struct Note {
    /// Unique in the data set: the admission or document.
    pub note_id: String,
    /// The patient.
    pub subject_id: String,
    /// Train, dev or test.
    pub split: Split,
    /// The text.
    pub text: String,
    /// Its codes, in rank order where the source has one.
    pub codes: Vec<String>,
}

/// Shows the length of the text in place of the text: notes are protected health information, and debug
/// output ends up in logs and panics.
impl std::fmt::Debug for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Note")
            .field("note_id", &self.note_id)
            .field("subject_id", &self.subject_id)
            .field("split", &self.split)
            .field("text", &format_args!("<{} bytes>", self.text.len()))
            .field("codes", &self.codes)
            .finish()
    }
}

/// Writes notes as they come, holding at most three row groups (of 1,000 notes or 32 MiB).
pub struct NoteWriter {
    table: TableWriter,
    group: Vec<Note>,
    bytes: usize,
}

impl NoteWriter {
    /// Name of the file in a `notes` artifact.
    pub const FILE: &'static str = "notes.parquet";
    /// Version of the file.
    pub const SCHEMA: u32 = 1;

    /// Creates the file, replacing one that is there.
    pub fn create(path: impl AsRef<Utf8Path>) -> Result<Self, DataError> {
        Ok(Self { table: TableWriter::create(path.as_ref(), &LAYOUT)?, group: Vec::new(), bytes: 0 })
    }

    /// Appends a note.
    pub fn write(&mut self, note: &Note) -> Result<(), DataError> {
        if note.note_id.is_empty() {
            let row = self.table.rows() + self.group.len() as u64 + 1;
            return Err(DataError::value(self.table.path(), row, "note_id", "it is empty"));
        }
        self.bytes += note.text.len() + note.codes.iter().map(String::len).sum::<usize>();
        self.group.push(note.clone());
        if self.group.len() == GROUP_ROWS || self.bytes >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Completes the file. Returns the number of notes.
    pub fn finish(mut self) -> Result<u64, DataError> {
        self.flush()?;
        self.table.finish()
    }

    fn flush(&mut self) -> Result<(), DataError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let text =
            |get: fn(&Note) -> &str| Arc::new(StringArray::from_iter_values(self.group.iter().map(get)));
        let mut codes =
            ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, false));
        for note in &self.group {
            for code in &note.codes {
                codes.values().append_value(code);
            }
            codes.append(true);
        }
        let columns: Vec<arrow_array::ArrayRef> = vec![
            text(|note| &note.note_id),
            text(|note| &note.subject_id),
            text(|note| note.split.as_str()),
            text(|note| &note.text),
            Arc::new(codes.finish()),
        ];
        self.group.clear();
        self.bytes = 0;
        self.table.write_group(columns)
    }
}

/// Reads notes one by one, holding a few dozen in memory.
pub struct NoteReader {
    table: TableReader,
    ready: VecDeque<Note>,
}

impl NoteReader {
    /// Opens the file and checks version and columns.
    pub fn open(path: impl AsRef<Utf8Path>) -> Result<Self, DataError> {
        Ok(Self { table: TableReader::open(path.as_ref(), &LAYOUT)?, ready: VecDeque::new() })
    }

    /// Notes in the file.
    pub fn num_notes(&self) -> u64 {
        self.table.num_rows()
    }

    fn unpack(batch: &Batch, ready: &mut VecDeque<Note>) -> Result<(), DataError> {
        let (note_id, subject_id) = (batch.text("note_id"), batch.text("subject_id"));
        let (split, text, codes) = (batch.text("split"), batch.text("text"), batch.list("codes"));
        for at in 0..batch.len() {
            let split = split.value(at).parse().map_err(|error: crate::split::ParseSplitError| {
                DataError::value(&batch.file, batch.row(at), "split", error.to_string())
            })?;
            ready.push_back(Note {
                note_id: note_id.value(at).to_owned(),
                subject_id: subject_id.value(at).to_owned(),
                split,
                text: text.value(at).to_owned(),
                codes: codes.value(at).as_string::<i32>().iter().flatten().map(str::to_owned).collect(),
            });
        }
        Ok(())
    }
}

impl Iterator for NoteReader {
    type Item = Result<Note, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            let unpacked = self.table.next_batch()?.and_then(|batch| Self::unpack(&batch, &mut self.ready));
            if let Err(error) = unpacked {
                return Some(Err(error));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

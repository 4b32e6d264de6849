//! Scores of a model: `{split}.parquet` of a `scores` artifact.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, StringArray};
use arrow_schema::{DataType, Field};
use camino::Utf8Path;

use crate::error::DataError;
use crate::split::Split;
use crate::table::{
    ColumnType, GROUP_BYTES, GROUP_ROWS, Layout, TableReader, TableWriter, check_ascending, int_list,
};

const SCHEMA: u32 = 1;

fn columns(num_labels: Option<i32>) -> [(&'static str, ColumnType); 3] {
    [
        ("note_id", ColumnType::Text),
        ("scores", ColumnType::Float32Vector(num_labels)),
        ("labels", ColumnType::Int32List),
    ]
}

fn layout<'a>(columns: &'a [(&'static str, ColumnType)]) -> Layout<'a> {
    Layout { table: "scores", version: SCHEMA, columns, unique_text: &["note_id"] }
}

/// Writes scores note by note, holding at most three row groups (of 1,000 notes or 32 MiB).
pub struct ScoreWriter {
    table: TableWriter,
    num_labels: usize,
    note_ids: Vec<String>,
    scores: Vec<f32>,
    truth: Vec<Vec<i32>>,
}

impl ScoreWriter {
    /// Version of the file.
    pub const SCHEMA: u32 = SCHEMA;

    /// Creates the file for a label space of `num_labels` (Y).
    pub fn create(path: impl AsRef<Utf8Path>, num_labels: usize) -> Result<Self, DataError> {
        let path = path.as_ref();
        let width = match i32::try_from(num_labels) {
            Ok(width) if width > 0 => width,
            _ => return Err(DataError::file(path, format!("cannot hold scores of {num_labels} labels"))),
        };
        let table = TableWriter::create(path, &layout(&columns(Some(width))))?;
        Ok(Self { table, num_labels, note_ids: Vec::new(), scores: Vec::new(), truth: Vec::new() })
    }

    /// Appends a note: `scores` are probabilities in label order (Y), `truth` its true label ids, ascending.
    pub fn write(&mut self, note_id: &str, scores: &[f32], truth: &[i32]) -> Result<(), DataError> {
        let row = self.table.rows() + self.note_ids.len() as u64 + 1;
        check(note_id, scores, truth, self.num_labels)
            .map_err(|(column, message)| DataError::value(self.table.path(), row, column, message))?;
        self.note_ids.push(note_id.to_owned());
        self.scores.extend_from_slice(scores);
        self.truth.push(truth.to_vec());
        if self.note_ids.len() == GROUP_ROWS || 4 * self.scores.len() >= GROUP_BYTES {
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
        if self.note_ids.is_empty() {
            return Ok(());
        }
        let scores = FixedSizeListArray::new(
            Arc::new(Field::new("element", DataType::Float32, false)),
            // `create` checked that it fits.
            self.num_labels as i32,
            Arc::new(Float32Array::from(std::mem::take(&mut self.scores))),
            None,
        );
        let mut labels =
            ListBuilder::new(Int32Builder::new()).with_field(Field::new("element", DataType::Int32, false));
        for ids in self.truth.drain(..) {
            labels.values().append_slice(&ids);
            labels.append(true);
        }
        let note_ids = StringArray::from_iter_values(self.note_ids.drain(..));
        let columns: Vec<ArrayRef> = vec![Arc::new(note_ids), Arc::new(scores), Arc::new(labels.finish())];
        self.table.write_group(columns)
    }
}

/// The scores of a split, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One a note, unique.
    pub note_ids: Vec<String>,
    /// Labels (Y).
    pub num_labels: usize,
    /// Probabilities in `[0, 1]`, row-major: notes x labels (B x Y).
    pub scores: Vec<f32>,
    /// True label ids of each note, ascending.
    pub truth: Vec<Vec<i32>>,
}

impl Scores {
    /// Name of the file of a split.
    pub fn file_name(split: Split) -> String {
        format!("{split}.parquet")
    }

    /// Reads the file and checks every value: note ids unique, scores finite and in `[0, 1]`, label ids
    /// ascending and inside the label space.
    pub fn read(path: impl AsRef<Utf8Path>) -> Result<Self, DataError> {
        let mut table = TableReader::open(path.as_ref(), &layout(&columns(None)))?;
        let num_labels = table.vector_len("scores");
        let num_notes = usize::try_from(table.num_rows()).unwrap_or(0);
        let mut read = Self {
            note_ids: Vec::with_capacity(num_notes),
            num_labels,
            scores: Vec::with_capacity(num_notes * num_labels),
            truth: Vec::with_capacity(num_notes),
        };
        let mut first_row = HashMap::with_capacity(num_notes);
        while let Some(batch) = table.next_batch() {
            let batch = batch?;
            let (note_ids, labels) = (batch.text("note_id"), batch.list("labels"));
            let scores = batch.column("scores").as_fixed_size_list();
            let scores = scores.values().as_primitive::<Float32Type>().values();
            for at in 0..batch.len() {
                let row = batch.row(at);
                let note_id = note_ids.value(at);
                let truth = int_list(labels, at);
                let note_scores = &scores[at * num_labels..(at + 1) * num_labels];
                check(note_id, note_scores, &truth, num_labels)
                    .map_err(|(column, message)| DataError::value(table.path(), row, column, message))?;
                if let Some(first) = first_row.insert(note_id.to_owned(), row) {
                    let message = format!("note {note_id} is also in row {first}");
                    return Err(DataError::value(table.path(), row, "note_id", message));
                }
                read.note_ids.push(note_id.to_owned());
                // Adding 0 turns a negative zero, which other programs may round to, into zero.
                read.scores.extend(note_scores.iter().map(|score| score + 0.0));
                read.truth.push(truth);
            }
        }
        Ok(read)
    }

    /// Number of notes (B).
    pub fn num_notes(&self) -> usize {
        self.note_ids.len()
    }

    /// Scores of a note (Y).
    pub fn row(&self, note: usize) -> &[f32] {
        &self.scores[note * self.num_labels..(note + 1) * self.num_labels]
    }
}

/// What the columns' types cannot express.
fn check(
    note_id: &str,
    scores: &[f32],
    truth: &[i32],
    num_labels: usize,
) -> Result<(), (&'static str, String)> {
    if note_id.is_empty() {
        return Err(("note_id", "it is empty".to_owned()));
    }
    if scores.len() != num_labels {
        let message = format!("note {note_id} has {} scores, expected {num_labels}", scores.len());
        return Err(("scores", message));
    }
    if let Some(label) = scores.iter().position(|score| !(0.0..=1.0).contains(score)) {
        let message = format!(
            "note {note_id} has score {} for label {label}, expected a probability in [0, 1]",
            scores[label]
        );
        return Err(("scores", message));
    }
    check_ascending(truth).map_err(|message| ("labels", format!("note {note_id}: {message}")))?;
    match truth.last() {
        Some(last) if usize::try_from(*last).is_ok_and(|last| last >= num_labels) => {
            Err(("labels", format!("note {note_id} has label id {last}, expected ids below {num_labels}")))
        }
        _ => Ok(()),
    }
}

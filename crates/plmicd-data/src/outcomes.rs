//! What was decided for each note: `{split}_notes.parquet` of an `evaluation`. From it every metric but the areas
//! can be computed again, on other selections of notes and against other systems, without the scores.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{ArrayRef, StringArray};
use arrow_schema::{DataType, Field};
use camino::Utf8Path;

use crate::error::DataError;
use crate::split::Split;
use crate::table::{ColumnType, GROUP_ROWS, Layout, TableReader, TableWriter, check_ascending, int_list};

const COLUMNS: [(&str, ColumnType); 4] = [
    ("note_id", ColumnType::Text),
    ("labels", ColumnType::Int32List),
    ("predicted", ColumnType::Int32List),
    ("ranks", ColumnType::Int32List),
];
const LAYOUT: Layout<'_> =
    Layout { table: "outcomes", version: NoteOutcomes::SCHEMA, columns: &COLUMNS, unique_text: &["note_id"] };

/// The outcomes of a split's notes, in the order of the scores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoteOutcomes {
    /// One a note.
    pub note_ids: Vec<String>,
    /// True label ids of each note, ascending.
    pub labels: Vec<Vec<i32>>,
    /// Predicted label ids of each note, ascending.
    pub predicted: Vec<Vec<i32>>,
    /// 1-based ranks of the true labels in the order of the note's scores, ascending.
    pub ranks: Vec<Vec<i32>>,
}

impl NoteOutcomes {
    /// Version of the file.
    pub const SCHEMA: u32 = 1;

    /// Name of the file of a split.
    pub fn file_name(split: Split) -> String {
        format!("{split}_notes.parquet")
    }

    /// Writes the file.
    pub fn write(&self, path: &Utf8Path) -> Result<(), DataError> {
        let mut table = TableWriter::create(path, &LAYOUT)?;
        for start in (0..self.note_ids.len()).step_by(GROUP_ROWS) {
            let rows = start..(start + GROUP_ROWS).min(self.note_ids.len());
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(&self.note_ids[rows.clone()])),
                lists(&self.labels[rows.clone()]),
                lists(&self.predicted[rows.clone()]),
                lists(&self.ranks[rows]),
            ];
            table.write_group(columns)?;
        }
        table.finish()?;
        Ok(())
    }

    /// Reads the file: lists ascend, and every true label has a rank.
    pub fn read(path: &Utf8Path) -> Result<Self, DataError> {
        let mut table = TableReader::open(path, &LAYOUT)?;
        let mut read = Self::default();
        while let Some(batch) = table.next_batch() {
            let batch = batch?;
            for at in 0..batch.len() {
                let wrong = |column, message: String| DataError::value(path, batch.row(at), column, message);
                let list = |column: &'static str| {
                    let list = int_list(batch.list(column), at);
                    check_ascending(&list).map(|()| list).map_err(|message| wrong(column, message))
                };
                let (labels, ranks) = (list("labels")?, list("ranks")?);
                if labels.len() != ranks.len() {
                    let message = format!("{} ranks of {} labels", ranks.len(), labels.len());
                    return Err(wrong("ranks", message));
                }
                read.note_ids.push(batch.text("note_id").value(at).to_owned());
                read.labels.push(labels);
                read.predicted.push(list("predicted")?);
                read.ranks.push(ranks);
            }
        }
        Ok(read)
    }
}

impl NoteOutcomes {
    /// These outcomes in the order of `other`'s notes.
    ///
    /// # Errors
    /// The first note that only one of them has, or whose true labels differ.
    pub fn in_order_of(&self, other: &Self) -> Result<Self, String> {
        let place: HashMap<&str, usize> =
            self.note_ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
        let mut ordered = Self::default();
        for (at, id) in other.note_ids.iter().enumerate() {
            let Some(&own) = place.get(id.as_str()) else {
                return Err(format!("note {id} is only among the notes of the other"));
            };
            if self.labels[own] != other.labels[at] {
                return Err(format!("note {id} has other true labels than in the other"));
            }
            ordered.note_ids.push(id.clone());
            ordered.labels.push(self.labels[own].clone());
            ordered.predicted.push(self.predicted[own].clone());
            ordered.ranks.push(self.ranks[own].clone());
        }
        if self.note_ids.len() != other.note_ids.len() {
            let others: HashSet<&String> = other.note_ids.iter().collect();
            let extra = self.note_ids.iter().find(|id| !others.contains(id));
            return Err(format!(
                "note {} is not among the notes of the other",
                extra.map_or("", String::as_str)
            ));
        }
        Ok(ordered)
    }
}

fn lists(rows: &[Vec<i32>]) -> ArrayRef {
    let mut lists =
        ListBuilder::new(Int32Builder::new()).with_field(Field::new("element", DataType::Int32, false));
    for row in rows {
        lists.values().append_slice(row);
        lists.append(true);
    }
    Arc::new(lists.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join(NoteOutcomes::file_name(Split::Test));
        let outcomes = NoteOutcomes {
            note_ids: (0..2500).map(|note| note.to_string()).collect(),
            labels: (0..2500).map(|note| vec![0, 3 + note % 5]).collect(),
            predicted: (0..2500).map(|note| (0..note % 4).collect()).collect(),
            ranks: (0..2500).map(|note| vec![1 + note % 3, 9]).collect(),
        };
        outcomes.write(&path).unwrap();
        assert_eq!(NoteOutcomes::read(&path).unwrap(), outcomes);
        let mut turned = outcomes.clone();
        turned.note_ids.reverse();
        turned.labels.reverse();
        turned.predicted.reverse();
        turned.ranks.reverse();
        assert_eq!(turned.in_order_of(&outcomes).unwrap(), outcomes);
        turned.note_ids[0] = "other".to_owned();
        assert!(turned.in_order_of(&outcomes).unwrap_err().contains("note 2499 is only among"));
        turned.note_ids[0] = "2499".to_owned();
        turned.labels[0] = vec![0];
        assert!(turned.in_order_of(&outcomes).unwrap_err().contains("note 2499 has other true labels"));

        let wrong = NoteOutcomes { ranks: vec![vec![1]; 2500], ..outcomes };
        wrong.write(&path).unwrap();
        assert!(NoteOutcomes::read(&path).unwrap_err().to_string().contains("1 ranks of 2 labels"));
    }
}

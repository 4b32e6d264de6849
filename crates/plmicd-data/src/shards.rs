//! Token shards: the notes of a split as token ids, over files of a fixed number of notes.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, StringArray, UInt32Array};
use arrow_schema::{DataType, Field};
use camino::{Utf8Path, Utf8PathBuf};

use crate::error::DataError;
use crate::split::Split;
use crate::table::{
    Batch, ColumnType, GROUP_BYTES, GROUP_ROWS, Layout, TableReader, TableWriter, check_ascending, int_list,
};

const LAYOUT: Layout<'static> = Layout {
    table: "token-shard",
    version: ShardWriter::SCHEMA,
    columns: &[
        ("note_id", ColumnType::Text),
        ("tokens", ColumnType::Int32List),
        ("labels", ColumnType::Int32List),
        ("words", ColumnType::UInt32),
    ],
    unique_text: &["note_id"],
};

/// A note as token ids: whole, neither truncated nor segmented, without special tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenizedNote {
    /// Unique in the data set.
    pub note_id: String,
    /// Token ids (T).
    pub tokens: Vec<i32>,
    /// Label ids, ascending.
    pub labels: Vec<i32>,
    /// Words of the text.
    pub words: u32,
}

/// Shows the number of tokens in place of the tokens, which decode to the note's text.
impl std::fmt::Debug for TokenizedNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenizedNote")
            .field("note_id", &self.note_id)
            .field("tokens", &format_args!("<{} tokens>", self.tokens.len()))
            .field("labels", &self.labels)
            .field("words", &self.words)
            .finish()
    }
}

/// Path of a shard of a split.
fn shard_path(dir: &Utf8Path, split: Split, index: usize) -> Utf8PathBuf {
    dir.join(format!("{split}-{index:05}.parquet"))
}

/// Writes the notes of one split to `{split}-00000.parquet`, `{split}-00001.parquet` and so on.
pub struct ShardWriter {
    dir: Utf8PathBuf,
    split: Split,
    notes_per_shard: usize,
    shard: ShardFile,
    /// Notes in shards already complete.
    done: u64,
    shards: usize,
}

impl ShardWriter {
    /// Version of the files.
    pub const SCHEMA: u32 = 1;

    /// Starts the first shard in `dir`, which must exist. At least one note goes into each shard.
    pub fn create(
        dir: impl AsRef<Utf8Path>,
        split: Split,
        notes_per_shard: usize,
    ) -> Result<Self, DataError> {
        let dir = dir.as_ref().to_owned();
        let shard = ShardFile::create(&shard_path(&dir, split, 0))?;
        Ok(Self { dir, split, notes_per_shard: notes_per_shard.max(1), shard, done: 0, shards: 1 })
    }

    /// Appends a note.
    ///
    /// # Errors
    /// Besides those of the file: label ids that do not ascend, a negative token id.
    pub fn write(&mut self, note: &TokenizedNote) -> Result<(), DataError> {
        if self.shard.notes() == self.notes_per_shard as u64 {
            let next = ShardFile::create(&shard_path(&self.dir, self.split, self.shards))?;
            self.shards += 1;
            self.done += std::mem::replace(&mut self.shard, next).finish()?;
        }
        self.shard.write(note)
    }

    /// Completes the last shard. Returns the number of notes in all. A split without notes has one empty
    /// shard.
    pub fn finish(self) -> Result<u64, DataError> {
        Ok(self.done + self.shard.finish()?)
    }
}

/// One shard being written.
struct ShardFile {
    table: TableWriter,
    group: Vec<TokenizedNote>,
    bytes: usize,
}

impl ShardFile {
    fn create(path: &Utf8Path) -> Result<Self, DataError> {
        Ok(Self { table: TableWriter::create(path, &LAYOUT)?, group: Vec::new(), bytes: 0 })
    }

    fn notes(&self) -> u64 {
        self.table.rows() + self.group.len() as u64
    }

    fn write(&mut self, note: &TokenizedNote) -> Result<(), DataError> {
        check(note).map_err(|(column, message)| {
            DataError::value(self.table.path(), self.notes() + 1, column, message)
        })?;
        self.bytes += 4 * (note.tokens.len() + note.labels.len());
        self.group.push(note.clone());
        if self.group.len() == GROUP_ROWS || self.bytes >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64, DataError> {
        self.flush()?;
        self.table.finish()
    }

    fn flush(&mut self) -> Result<(), DataError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let list = |get: fn(&TokenizedNote) -> &[i32]| -> ArrayRef {
            let mut builder = ListBuilder::new(Int32Builder::new()).with_field(Field::new(
                "element",
                DataType::Int32,
                false,
            ));
            for note in &self.group {
                builder.values().append_slice(get(note));
                builder.append(true);
            }
            Arc::new(builder.finish())
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(self.group.iter().map(|note| &note.note_id))),
            list(|note| &note.tokens),
            list(|note| &note.labels),
            Arc::new(UInt32Array::from_iter_values(self.group.iter().map(|note| note.words))),
        ];
        self.group.clear();
        self.bytes = 0;
        self.table.write_group(columns)
    }
}

/// What the columns' types cannot express.
fn check(note: &TokenizedNote) -> Result<(), (&'static str, String)> {
    if note.note_id.is_empty() {
        return Err(("note_id", "it is empty".to_owned()));
    }
    check_ascending(&note.labels).map_err(|message| ("labels", message))?;
    match note.tokens.iter().find(|token| **token < 0) {
        Some(token) => Err(("tokens", format!("token id {token} is negative"))),
        None => Ok(()),
    }
}

/// Reads the notes of a split, shard after shard.
pub struct ShardReader {
    shards: VecDeque<Utf8PathBuf>,
    current: Option<TableReader>,
    ready: VecDeque<TokenizedNote>,
    num_notes: u64,
}

impl ShardReader {
    /// Finds the shards of the split in `dir` and checks version and columns of each.
    ///
    /// # Errors
    /// Besides those of the files: no shard of the split, or a gap in their numbers.
    pub fn open(dir: impl AsRef<Utf8Path>, split: Split) -> Result<Self, DataError> {
        let shards = find_shards(dir.as_ref(), split)?;
        let mut num_notes = 0;
        for shard in &shards {
            num_notes += TableReader::open(shard, &LAYOUT)?.num_rows();
        }
        Ok(Self { shards, current: None, ready: VecDeque::new(), num_notes })
    }

    /// Notes in all shards.
    pub fn num_notes(&self) -> u64 {
        self.num_notes
    }

    fn next_batch(&mut self) -> Option<Result<Batch, DataError>> {
        loop {
            if let Some(batch) = self.current.as_mut().and_then(TableReader::next_batch) {
                return Some(batch);
            }
            match TableReader::open(&self.shards.pop_front()?, &LAYOUT) {
                Ok(table) => self.current = Some(table),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn unpack(batch: &Batch, ready: &mut VecDeque<TokenizedNote>) -> Result<(), DataError> {
        let (note_id, tokens, labels) = (batch.text("note_id"), batch.list("tokens"), batch.list("labels"));
        let words = batch.column("words").as_primitive::<UInt32Type>();
        for at in 0..batch.len() {
            let note = TokenizedNote {
                note_id: note_id.value(at).to_owned(),
                tokens: int_list(tokens, at),
                labels: int_list(labels, at),
                words: words.value(at),
            };
            check(&note)
                .map_err(|(column, message)| DataError::value(&batch.file, batch.row(at), column, message))?;
            ready.push_back(note);
        }
        Ok(())
    }
}

impl Iterator for ShardReader {
    type Item = Result<TokenizedNote, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            let unpacked = self.next_batch()?.and_then(|batch| Self::unpack(&batch, &mut self.ready));
            if let Err(error) = unpacked {
                return Some(Err(error));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// The shards of a split in `dir`, in order, without a gap.
fn find_shards(dir: &Utf8Path, split: Split) -> Result<VecDeque<Utf8PathBuf>, DataError> {
    let prefix = format!("{split}-");
    let mut names = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str()
            && name.starts_with(&prefix)
            && name.ends_with(".parquet")
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        let message = format!("there are no {split} notes: expected token shards {split}-00000.parquet, …");
        return Err(DataError::file(dir, message));
    }
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let expected = shard_path(dir, split, index);
            if expected.file_name() == Some(name) {
                Ok(expected)
            } else {
                Err(DataError::file(dir, format!("expected {split}-{index:05}.parquet, found {name}")))
            }
        })
        .collect()
}

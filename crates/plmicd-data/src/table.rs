//! Parquet tables with a fixed layout: what notes, shards and scores share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use camino::{Utf8Path, Utf8PathBuf};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use crate::error::DataError;

/// Notes in a row group; fewer where [`GROUP_BYTES`] is reached first.
pub(crate) const GROUP_ROWS: usize = 1_000;
/// Bytes of values in a row group at which it is closed.
pub(crate) const GROUP_BYTES: usize = 32 << 20;
/// Rows decoded at a time: what a reader holds in memory.
const READ_ROWS: usize = 64;
const ZSTD_LEVEL: i32 = 3;
const TABLE_KEY: &str = "plmicd.table";
const VERSION_KEY: &str = "plmicd.schema";

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Text,
    TextList,
    Int32List,
    Float32List,
    UInt32,
    /// Of this length; any length where only read.
    Float32Vector(Option<i32>),
}

impl ColumnType {
    fn words(self) -> &'static str {
        match self {
            Self::Text => "text (Utf8)",
            Self::TextList => "list of text (List<Utf8>)",
            Self::Int32List => "list of 32-bit integers (List<Int32>)",
            Self::Float32List => "list of 32-bit floats (List<Float32>)",
            Self::UInt32 => "unsigned 32-bit integer (UInt32)",
            Self::Float32Vector(_) => "vector of 32-bit floats (FixedSizeList<Float32>)",
        }
    }

    fn arrow(self) -> DataType {
        let element = |inner| Arc::new(Field::new("element", inner, false));
        match self {
            Self::Text => DataType::Utf8,
            Self::TextList => DataType::List(element(DataType::Utf8)),
            Self::Int32List => DataType::List(element(DataType::Int32)),
            Self::Float32List => DataType::List(element(DataType::Float32)),
            Self::UInt32 => DataType::UInt32,
            Self::Float32Vector(len) => {
                DataType::FixedSizeList(element(DataType::Float32), len.unwrap_or_default())
            }
        }
    }

    fn matches(self, found: &DataType) -> bool {
        match (self, found) {
            (Self::Text, DataType::Utf8) | (Self::UInt32, DataType::UInt32) => true,
            (Self::TextList, DataType::List(element)) => element.data_type() == &DataType::Utf8,
            (Self::Int32List, DataType::List(element)) => element.data_type() == &DataType::Int32,
            (Self::Float32List, DataType::List(element)) => element.data_type() == &DataType::Float32,
            (Self::Float32Vector(len), DataType::FixedSizeList(element, found)) => {
                element.data_type() == &DataType::Float32 && len.is_none_or(|len| len == *found)
            }
            _ => false,
        }
    }
}

/// Name, version and columns of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout<'a> {
    pub table: &'static str,
    pub version: u32,
    pub columns: &'a [(&'static str, ColumnType)],
    /// Text columns whose values hardly repeat: a dictionary would only cost time.
    pub unique_text: &'a [&'static str],
}

impl fmt::Display for Layout<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table `{}`, schema {}", self.table, self.version)
    }
}

/// Row groups that are encoded at a time: what a writer holds in memory beside the one being collected.
const GROUPS_AT_ONCE: usize = 2;

/// Writes row groups, encoding them on other threads. Bytes depend on the rows alone: no times, no library version, fixed
/// group sizes.
pub(crate) struct TableWriter {
    path: Utf8PathBuf,
    schema: Arc<Schema>,
    writer: SerializedFileWriter<fs_err::File>,
    encoders: ArrowRowGroupWriterFactory,
    /// Oldest first.
    encoding: VecDeque<JoinHandle<Result<Vec<ArrowColumnChunk>, ParquetError>>>,
    rows: u64,
}

impl TableWriter {
    pub fn create(path: &Utf8Path, layout: &Layout<'_>) -> Result<Self, DataError> {
        let fields = layout.columns.iter().map(|(name, kind)| Field::new(*name, kind.arrow(), false));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let file = fs_err::File::create(path)?;
        let create = || {
            let properties = Some(properties(layout)?);
            ArrowWriter::try_new(file, Arc::clone(&schema), properties)?.into_serialized_writer()
        };
        let (writer, encoders) = create().map_err(|source| parquet_error(path, "write", source))?;
        Ok(Self { path: path.to_owned(), schema, writer, encoders, encoding: VecDeque::new(), rows: 0 })
    }

    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the columns, in layout order, as one row group. What goes wrong may be told by a later call.
    pub fn write_group(&mut self, columns: Vec<ArrayRef>) -> Result<(), DataError> {
        if self.encoding.len() == GROUPS_AT_ONCE {
            self.write_oldest()?;
        }
        let group = self.writer.flushed_row_groups().len() + self.encoding.len();
        let prepare = || {
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
            Ok((batch, self.encoders.create_column_writers(group)?))
        };
        let (batch, writers) = prepare().map_err(|source| parquet_error(&self.path, "write", source))?;
        self.rows += batch.num_rows() as u64;
        self.encoding.push_back(thread::spawn(move || encode(&batch, writers)));
        Ok(())
    }

    /// Writes the footer. Returns the number of rows.
    pub fn finish(mut self) -> Result<u64, DataError> {
        while !self.encoding.is_empty() {
            self.write_oldest()?;
        }
        let Self { path, writer, rows, .. } = self;
        writer.close().map_err(|source| parquet_error(&path, "write", source))?;
        Ok(rows)
    }

    fn write_oldest(&mut self) -> Result<(), DataError> {
        let Some(encoding) = self.encoding.pop_front() else { return Ok(()) };
        let chunks = encoding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let write = || -> Result<(), ParquetError> {
            let mut group = self.writer.next_row_group()?;
            for chunk in chunks? {
                chunk.append_to_row_group(&mut group)?;
            }
            group.close()?;
            Ok(())
        };
        write().map_err(|source| parquet_error(&self.path, "write", source))
    }
}

/// The column chunks of a row group.
fn encode(
    batch: &RecordBatch,
    mut writers: Vec<ArrowColumnWriter>,
) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let mut next = writers.iter_mut();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        for leaf in compute_leaves(field, column)? {
            let writer = next.next().ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
            writer.write(&leaf)?;
        }
    }
    writers.into_iter().map(ArrowColumnWriter::close).collect()
}

fn properties(layout: &Layout<'_>) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_created_by("plmicd".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        // Minima and maxima of texts and ids serve no reader here.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(vec![
            KeyValue::new(TABLE_KEY.to_owned(), layout.table.to_owned()),
            KeyValue::new(VERSION_KEY.to_owned(), layout.version.to_string()),
        ]));
    for name in layout.unique_text {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(*name), false);
    }
    for (name, kind) in layout.columns {
        if matches!(kind, ColumnType::Float32Vector(_)) {
            // Scores hardly repeat, but their exponents do: splitting the bytes lets zstd see that.
            let leaf = ColumnPath::new(vec![(*name).to_owned(), "list".to_owned(), "element".to_owned()]);
            builder = builder
                .set_column_dictionary_enabled(leaf.clone(), false)
                .set_column_encoding(leaf, Encoding::BYTE_STREAM_SPLIT);
        }
    }
    Ok(builder.build())
}

/// Reads a table batch by batch, checking its layout first.
pub(crate) struct TableReader {
    path: Utf8PathBuf,
    batches: ParquetRecordBatchReader,
    schema: Arc<Schema>,
    num_rows: u64,
    next_row: u64,
}

impl TableReader {
    pub fn open(path: &Utf8Path, layout: &Layout<'_>) -> Result<Self, DataError> {
        let open_error = |source| parquet_error(path, "open", source);
        let file = fs_err::File::open(path)?.into_parts().0;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(open_error)?;
        let metadata = builder.metadata().file_metadata();
        check_version(path, layout, metadata.key_value_metadata())?;
        let num_rows = u64::try_from(metadata.num_rows())
            .map_err(|_| DataError::file(path, "its footer gives a negative number of rows"))?;
        let schema = Arc::clone(builder.schema());
        check_columns(path, layout, &schema)?;
        let batches = builder.with_batch_size(READ_ROWS).build().map_err(open_error)?;
        Ok(Self { path: path.to_owned(), batches, schema, num_rows, next_row: 1 })
    }

    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    pub fn num_rows(&self) -> u64 {
        self.num_rows
    }

    /// Length of the vectors of a column checked to be [`ColumnType::Float32Vector`].
    pub fn vector_len(&self, column: &str) -> usize {
        match self.schema.field_with_name(column).map(Field::data_type) {
            Ok(DataType::FixedSizeList(_, len)) => usize::try_from(*len).unwrap_or(0),
            _ => 0,
        }
    }

    /// The next rows, or `None` at the end.
    pub fn next_batch(&mut self) -> Option<Result<Batch, DataError>> {
        let batch = match self.batches.next()? {
            Ok(batch) => batch,
            Err(error) => {
                let action = format!("read row {} and following", self.next_row);
                return Some(Err(parquet_error(&self.path, &action, error.into())));
            }
        };
        let first_row = self.next_row;
        self.next_row += batch.num_rows() as u64;
        Some(Batch { file: self.path.clone(), first_row, batch }.checked())
    }
}

/// Rows of a table whose columns were checked on opening and hold no nulls.
pub(crate) struct Batch {
    pub file: Utf8PathBuf,
    /// 1-based row of the first.
    pub first_row: u64,
    batch: RecordBatch,
}

impl Batch {
    fn checked(self) -> Result<Self, DataError> {
        for (index, field) in self.batch.schema_ref().fields().iter().enumerate() {
            let column = self.batch.column(index);
            if column.null_count() > 0 {
                let at = (0..column.len()).find(|&at| column.is_null(at)).unwrap_or(0);
                return Err(self.null(at, field.name()));
            }
            let Some(list) = column.as_list_opt::<i32>() else { continue };
            if list.values().null_count() > 0 {
                let at = (0..list.len()).find(|&at| list.value(at).null_count() > 0).unwrap_or(0);
                return Err(self.null(at, field.name()));
            }
        }
        Ok(self)
    }

    fn null(&self, at: usize, column: &str) -> DataError {
        let row = self.first_row + at as u64;
        DataError::file(&self.file, format!("row {row}, column `{column}`: the value is missing (null)"))
    }

    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// A column of the layout. Panics if the caller's layout does not have it.
    pub fn column(&self, name: &str) -> &ArrayRef {
        self.batch.column_by_name(name).expect("columns are checked on opening")
    }

    pub fn text(&self, name: &str) -> &StringArray {
        self.column(name).as_string()
    }

    pub fn list(&self, name: &str) -> &ListArray {
        self.column(name).as_list()
    }

    pub fn row(&self, at: usize) -> u64 {
        self.first_row + at as u64
    }
}

/// One value of a list column of integers.
pub(crate) fn int_list(list: &ListArray, at: usize) -> Vec<i32> {
    list.value(at).as_primitive::<Int32Type>().values().to_vec()
}

/// Checks that ids are not negative and strictly ascend.
pub(crate) fn check_ascending(ids: &[i32]) -> Result<(), String> {
    if let Some(first) = ids.first()
        && *first < 0
    {
        return Err(format!("label id {first} is negative"));
    }
    match ids.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(format!("label ids must ascend, found {} before {}", pair[0], pair[1])),
        None => Ok(()),
    }
}

fn check_version(
    path: &Utf8Path,
    layout: &Layout<'_>,
    metadata: Option<&Vec<KeyValue>>,
) -> Result<(), DataError> {
    let value =
        |key: &str| metadata?.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.as_deref());
    let (table, version) = (value(TABLE_KEY), value(VERSION_KEY));
    if table == Some(layout.table) && version == Some(layout.version.to_string().as_str()) {
        return Ok(());
    }
    let found = match (table, version) {
        (Some(table), Some(version)) => format!("table `{table}`, schema {version}"),
        _ => "a parquet file that does not say which table it holds".to_owned(),
    };
    Err(DataError::SchemaVersion { file: path.to_owned(), found, expected: layout.to_string() })
}

fn check_columns(path: &Utf8Path, layout: &Layout<'_>, schema: &Schema) -> Result<(), DataError> {
    for &(column, kind) in layout.columns {
        let Ok(field) = schema.field_with_name(column) else {
            let names: Vec<_> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
            return Err(DataError::MissingColumn {
                file: path.to_owned(),
                column,
                expected: kind.words(),
                found: names.join(", "),
            });
        };
        if !kind.matches(field.data_type()) {
            return Err(DataError::ColumnType {
                file: path.to_owned(),
                column,
                expected: kind.words(),
                found: field.data_type().to_string(),
            });
        }
    }
    Ok(())
}

fn parquet_error(path: &Utf8Path, action: &str, source: ParquetError) -> DataError {
    DataError::Parquet { file: path.to_owned(), action: action.to_owned(), source }
}

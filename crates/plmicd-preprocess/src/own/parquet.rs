//! Rows of the user's Parquet file.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use camino::Utf8Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use super::{Row, TableColumns, Wanted, split_codes};
use crate::files;
use crate::place::Place;

/// Rows decoded at a time.
const READ_ROWS: usize = 256;

/// Gives every row to `take`.
pub fn read(
    path: &Utf8Path,
    columns: &TableColumns,
    content: Wanted,
    context: &StageContext<'_>,
    take: &mut dyn FnMut(Row) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let damaged = |error: &dyn std::fmt::Display| {
        StageError::from(BadInput::new(path, format!("not a sound Parquet file ({error})")))
    };
    let file = files::open(path)?.into_parts().0;
    // Without the writer's own hints, text and lists come in one form, whatever program wrote them.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(|e| damaged(&e))?;
    let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let schema = builder.schema().clone();
    let (required, optional) = columns.required_and_optional(content);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    for name in &required {
        if !names.contains(name) {
            let message = format!("no such column; found: {}", names.join(", "));
            return Err(BadInput::new(path, message).column(*name).into());
        }
    }
    for name in required.iter().chain(&optional).filter(|name| names.contains(name)) {
        let found = schema.field_with_name(name).map_err(|e| damaged(&e))?.data_type();
        let is_list = matches!(found, DataType::List(inner) if inner.data_type() == &DataType::Utf8);
        let is_text = found == &DataType::Utf8;
        let is_number = found.is_integer();
        let (right, expected) = if *name == columns.codes_column {
            (is_text || is_list, "text or a list of text")
        } else if *name == columns.text_column {
            (is_text, "text")
        } else {
            (is_text || is_number, "text or a whole number")
        };
        if !right {
            let message = format!("of type {found}; expected {expected}");
            return Err(BadInput::new(path, message).column(*name).into());
        }
    }
    let wanted = (0..names.len()).filter(|&i| required.contains(&names[i]) || optional.contains(&names[i]));
    let is_wanted = |name: &str| required.contains(&name) || optional.contains(&name);
    let chunks = builder.metadata().row_groups().iter().flat_map(|group: &RowGroupMetaData| group.columns());
    let chunks =
        chunks.filter(|chunk| chunk.column_path().parts().first().is_some_and(|name| is_wanted(name)));
    if let Some(name) = chunks.map(ColumnChunkMetaData::compression).find_map(unread_compression) {
        let message = format!("compressed by {name}; expected uncompressed, Snappy, gzip, LZ4 or Zstandard");
        return Err(BadInput::new(path, message).into());
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let batches =
        builder.with_projection(mask).with_batch_size(READ_ROWS).build().map_err(|e| damaged(&e))?;
    let mut rows: u64 = 0;
    for batch in batches {
        context.check_interrupt()?;
        context.progress("reading notes", rows, Some(total), "rows");
        let batch = batch.map_err(|e| damaged(&e))?;
        for at in 0..batch.num_rows() {
            rows += 1;
            take(row(&batch, at, Place::Row(rows), columns))?;
        }
    }
    Ok(())
}

/// The name of a compression that this build does not read.
fn unread_compression(compression: Compression) -> Option<String> {
    match compression {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::LZ4
        | Compression::LZ4_RAW
        | Compression::ZSTD(_) => None,
        // Its name in the format, without the level.
        other => other.to_string().split('(').next().map(str::to_lowercase),
    }
}

/// A row of a batch whose columns were checked.
fn row(batch: &RecordBatch, at: usize, place: Place, columns: &TableColumns) -> Row {
    let value = |name: &str| batch.column_by_name(name).map(|column| text(column, at));
    let codes = match batch.column_by_name(&columns.codes_column) {
        Some(column) => match column.as_list_opt::<i32>() {
            Some(list) if list.is_null(at) => Vec::new(),
            Some(list) => {
                let values = list.value(at);
                let codes = (0..values.len()).map(|i| text(&values, i));
                codes.filter(|code| !code.is_empty()).collect()
            }
            None => split_codes(&text(column, at), &columns.separator),
        },
        None => Vec::new(),
    };
    let note = batch.column_by_name(&columns.text_column).and_then(|column| {
        let column = column.as_string_opt::<i32>()?;
        (!column.is_null(at)).then(|| column.value(at).as_bytes().to_vec())
    });
    Row {
        place,
        id: value(&columns.id_column).unwrap_or_default(),
        text: note.unwrap_or_default(),
        codes,
        subject: value(&columns.subject_column),
        split: value(&columns.split_column),
        mended: 0,
    }
}

/// A value without blanks around it; nothing is empty.
fn text(column: &ArrayRef, at: usize) -> String {
    if column.is_null(at) {
        return String::new();
    }
    match column.data_type() {
        DataType::Int8 => column.as_primitive::<Int8Type>().value(at).to_string(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(at).to_string(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(at).to_string(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(at).to_string(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(at).to_string(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(at).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(at).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).to_string(),
        _ => column.as_string_opt::<i32>().map_or_else(String::new, |text| text.value(at).trim().to_owned()),
    }
}

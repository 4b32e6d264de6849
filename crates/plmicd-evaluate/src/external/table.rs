//! Tables of notes and codes as other programs write them: CSV or Parquet, one row a note or one row a code.

use std::io::{BufRead, BufReader};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use camino::{Utf8Path, Utf8PathBuf};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use plmicd_data::columns_found;
use plmicd_pipeline::{BadInput, StageError};

use crate::external::config::ImportScoresConfig;

/// One row, with its line (CSV) or row (Parquet) from 1.
pub(crate) struct Row {
    pub line: u64,
    pub id: String,
    /// The codes of the row with their scores.
    pub codes: Vec<(String, f32)>,
    pub split: Option<String>,
}

/// Whether a table lists a note's codes in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    RowPerNote,
    RowPerCode,
}

/// The table of this name in a folder: `.csv`, else `.parquet`.
pub(crate) fn find(dir: &Utf8Path, name: &str) -> Option<Utf8PathBuf> {
    ["csv", "parquet"].iter().map(|end| dir.join(format!("{name}.{end}"))).find(|path| path.is_file())
}

/// Reads a whole table, row by row, into `take`. Says what shape it has.
pub(crate) fn read(
    path: &Utf8Path,
    config: &ImportScoresConfig,
    take: &mut dyn FnMut(Row) -> Result<(), StageError>,
) -> Result<Shape, StageError> {
    if path.extension() == Some("parquet") {
        read_parquet(path, config, take)
    } else {
        read_csv(path, config, take)
    }
}

/// Where the wanted columns stand.
struct Columns {
    id: usize,
    codes: Option<usize>,
    code: Option<usize>,
    score: Option<usize>,
    split: Option<usize>,
}

impl Columns {
    fn find(path: &Utf8Path, names: &[String], config: &ImportScoresConfig) -> Result<Columns, BadInput> {
        let at = |wanted: &str| names.iter().position(|name| name == wanted);
        let missing = |column: &str, what: &str| {
            let message = format!("no column `{column}` ({what}); {}", columns_found(names));
            BadInput::new(path, message)
                .line(1)
                .hint("the settings of stage `import-scores` name the columns")
        };
        let columns = Columns {
            id: at(&config.id_column).ok_or_else(|| missing(&config.id_column, "the note's id"))?,
            codes: at(&config.codes_column),
            code: at(&config.code_column),
            score: at(&config.score_column),
            split: at(&config.split_column),
        };
        match (columns.codes, columns.code) {
            (None, None) => {
                let both = format!("{}` or `{}", config.codes_column, config.code_column);
                Err(missing(&both, "a note's codes, or one code a row"))
            }
            (Some(_), Some(_)) => {
                let message = format!(
                    "it has both `{}` and `{}`: a table has one row a note or one row a code",
                    config.codes_column, config.code_column
                );
                Err(BadInput::new(path, message).line(1))
            }
            _ => Ok(columns),
        }
    }

    fn shape(&self) -> Shape {
        if self.codes.is_some() { Shape::RowPerNote } else { Shape::RowPerCode }
    }
}

/// A row's cells as text, checked.
fn row_of(
    path: &Utf8Path,
    line: u64,
    config: &ImportScoresConfig,
    columns: &Columns,
    cell: &dyn Fn(usize) -> Result<String, BadInput>,
) -> Result<Row, BadInput> {
    let at = |column: &str, message: String| BadInput::new(path, message).line(line).column(column);
    let id = cell(columns.id)?.trim().to_owned();
    if id.is_empty() {
        return Err(at(&config.id_column, "it is empty".to_owned()));
    }
    let mut codes = Vec::new();
    if let Some(column) = columns.codes {
        let text = cell(column)?;
        let parts = text.split(config.separator.as_str()).map(str::trim).filter(|code| !code.is_empty());
        codes.extend(parts.map(|code| (code.to_owned(), 1.0)));
    } else if let Some(column) = columns.code {
        let code = cell(column)?.trim().to_owned();
        if code.is_empty() {
            return Err(at(&config.code_column, "it is empty".to_owned()));
        }
        let score = match columns.score {
            None => 1.0,
            Some(column) => {
                let text = cell(column)?;
                let score: Option<f32> = text.trim().parse().ok().filter(|score| (0.0..=1.0).contains(score));
                // Adding 0 turns a negative zero into zero.
                score.map(|score| score + 0.0).ok_or_else(|| {
                    // Anything but a number may be note text.
                    let number: Option<f64> = text.trim().parse().ok();
                    let found = number.map_or_else(|| "it".to_owned(), |number| number.to_string());
                    at(&config.score_column, format!("{found} is no probability in [0, 1]"))
                })?
            }
        };
        codes.push((code, score));
    }
    let split = columns.split.map(cell).transpose()?.map(|split| split.trim().to_owned());
    Ok(Row { line, id, codes, split: split.filter(|split| !split.is_empty()) })
}

fn read_csv(
    path: &Utf8Path,
    config: &ImportScoresConfig,
    take: &mut dyn FnMut(Row) -> Result<(), StageError>,
) -> Result<Shape, StageError> {
    // After a line that ends in CRLF the parser counts the LF to the next one.
    let uncounted = u64::from(ends_in_crlf(path)?);
    let wrong = |error: &csv::Error| {
        let line = error.position().map(|at| at.line() + if at.record() > 0 { uncounted } else { 0 });
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} fields, but the header has {expected_len}")
            }
            csv::ErrorKind::Utf8 { .. } => "its text is not UTF-8".to_owned(),
            _ => "cannot be read as CSV".to_owned(),
        };
        let bad = BadInput::new(path, message);
        match line {
            Some(line) => bad.line(line),
            None => bad,
        }
    };
    let mut reader = csv::Reader::from_reader(fs_err::File::open(path)?);
    let header = reader.headers().map_err(|error| wrong(&error))?;
    // A byte order mark, as spreadsheets write it.
    let names: Vec<String> =
        header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    let columns = Columns::find(path, &names, config)?;
    for record in reader.records() {
        let record = record.map_err(|error| wrong(&error))?;
        let line = record.position().map_or(0, csv::Position::line) + uncounted;
        let cell = |column: usize| Ok(record.get(column).unwrap_or_default().to_owned());
        take(row_of(path, line, config, &columns, &cell)?)?;
    }
    Ok(columns.shape())
}

/// Whether the first line ends in CRLF, as the others then do.
fn ends_in_crlf(path: &Utf8Path) -> Result<bool, StageError> {
    let mut first = Vec::new();
    BufReader::new(fs_err::File::open(path)?).read_until(b'\n', &mut first)?;
    Ok(first.ends_with(b"\r\n"))
}

fn read_parquet(
    path: &Utf8Path,
    config: &ImportScoresConfig,
    take: &mut dyn FnMut(Row) -> Result<(), StageError>,
) -> Result<Shape, StageError> {
    let damaged = |error: String| {
        BadInput::new(path, format!("cannot be read as parquet (is the file complete?): {error}"))
    };
    let file = fs_err::File::open(path)?.into_file();
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(error.to_string()))?;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let columns = Columns::find(path, &names, config)?;
    let reader = builder.build().map_err(|error| damaged(error.to_string()))?;
    let mut line = 0;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        for row in 0..batch.num_rows() {
            line += 1;
            let cell = |column: usize| {
                text_of(&batch, column, row, &config.separator).ok_or_else(|| {
                    let found = batch.column(column).data_type();
                    let message = format!("a column of {found}, expected text, numbers or a list of text");
                    BadInput::new(path, message).line(line).column(names[column].clone())
                })
            };
            take(row_of(path, line, config, &columns, &cell)?)?;
        }
    }
    Ok(columns.shape())
}

/// A cell as text; a list as its items with the separator between them. `None` for a type that has no place here.
fn text_of(batch: &RecordBatch, column: usize, row: usize, separator: &str) -> Option<String> {
    let array = batch.column(column);
    value_text(array.as_ref(), row).or_else(|| {
        let items = match array.data_type() {
            DataType::List(_) => array.as_list::<i32>().value(row),
            DataType::LargeList(_) => array.as_list::<i64>().value(row),
            _ => return None,
        };
        let items: Option<Vec<String>> = (0..items.len()).map(|at| value_text(items.as_ref(), at)).collect();
        items.map(|items| items.join(separator))
    })
}

fn value_text(array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return Some(String::new());
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_owned(),
        DataType::Utf8View => array.as_string_view().value(row).to_owned(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        _ => return None,
    })
}

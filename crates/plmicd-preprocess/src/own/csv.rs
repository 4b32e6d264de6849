//! Rows of the user's CSV.

use camino::Utf8Path;
use plmicd_pipeline::{StageContext, StageError};

use super::{Place, Row, TableColumns, split_codes};
use crate::table::{Column, Table};

/// Gives every row to `take`.
pub fn read(
    path: &Utf8Path,
    columns: &TableColumns,
    context: &StageContext<'_>,
    take: &mut dyn FnMut(Row) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let (required, optional) = columns.required_and_optional();
    let mut table = Table::open(path, b',', &required, &optional)?;
    let place = |name: &str| required.iter().chain(&optional).position(|column| *column == name);
    let (Some(id), Some(text), Some(codes), Some(subject), Some(split)) = (
        place(&columns.id_column),
        place(&columns.text_column),
        place(&columns.codes_column),
        place(&columns.subject_column),
        place(&columns.split_column),
    ) else {
        return Err(StageError::failed("a column was not asked for"));
    };
    let progress = table.progress();
    let mut rows: u64 = 0;
    while table.advance()? {
        if rows.is_multiple_of(1 << 12) {
            context.check_interrupt()?;
            context.progress("reading notes", progress.done(), Some(progress.total), "bytes");
        }
        rows += 1;
        let if_there = |column: Column| table.has(column).then(|| table.text(column));
        take(Row {
            place: Place::Line(table.line()),
            id: table.text(id),
            text: table.field(text).to_vec(),
            codes: split_codes(&table.text(codes), &columns.separator),
            subject: if_there(subject),
            split: if_there(split),
        })?;
    }
    Ok(())
}

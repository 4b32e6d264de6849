//! Rows of the user's CSV.

use camino::Utf8Path;
use plmicd_pipeline::{StageContext, StageError};

use super::{Row, TableColumns, Wanted, split_codes};
use crate::place::Place;
use crate::table::{Column, Table};

/// Gives every row to `take`.
pub fn read(
    path: &Utf8Path,
    columns: &TableColumns,
    wanted: Wanted,
    context: &StageContext<'_>,
    take: &mut dyn FnMut(Row) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let (required, optional) = columns.required_and_optional(wanted);
    let mut table = Table::open(path, b',', &required, &optional)?;
    let place = |name: &str| required.iter().chain(&optional).position(|column| *column == name);
    let (Some(id), Some(text)) = (place(&columns.id_column), place(&columns.text_column)) else {
        return Err(StageError::failed("a column was not asked for"));
    };
    let codes = place(&columns.codes_column);
    let (subject, split) = (place(&columns.subject_column), place(&columns.split_column));
    let progress = table.progress();
    let mut rows: u64 = 0;
    while table.advance()? {
        if rows.is_multiple_of(1 << 12) {
            context.check_interrupt()?;
            context.progress("reading notes", progress.done(), Some(progress.total), "bytes");
        }
        rows += 1;
        let if_there =
            |column: Option<Column>| column.filter(|at| table.has(*at)).map(|column| table.text(column));
        let mut row = Row {
            place: Place::Line(table.line()),
            id: table.text(id),
            text: table.field(text).to_vec(),
            codes: if_there(codes).map_or_else(Vec::new, |field| split_codes(&field, &columns.separator)),
            subject: if_there(subject),
            split: if_there(split),
            mended: 0,
        };
        row.mended = table.take_mended();
        take(row)?;
    }
    Ok(())
}

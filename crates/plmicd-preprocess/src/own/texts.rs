//! Texts of single files, for prediction: tables and text files alike, one text at a time.

use camino::Utf8Path;
use plmicd_pipeline::{BadInput, StageContext, StageError};

use super::{Row, TableColumns, Wanted, csv, folder, name_fault, parquet};
use crate::encoding::{mend, plain};

/// A text as it stands in a file. Its [`Debug`](std::fmt::Debug) form holds no text.
pub struct FoundText {
    /// Its id in the table, or the name of the file without its ending.
    pub id: String,
    /// The text, not cleaned.
    pub text: String,
    /// Bytes that were not UTF-8 and were read as Windows-1252.
    pub mended: u64,
}

impl std::fmt::Debug for FoundText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoundText")
            .field("id", &self.id)
            .field("text", &format_args!("<{} bytes>", self.text.len()))
            .finish()
    }
}

impl FoundText {
    /// From the bytes of a field, or of a file as [`plain`] leaves them.
    fn of_field(id: String, bytes: Vec<u8>) -> Self {
        let (text, mended) = mend(bytes);
        Self { id, text, mended }
    }

    /// The text of a whole file, of any encoding.
    pub fn of_file(id: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self::of_field(id.into(), plain(bytes))
    }
}

/// The id of the text in a text file: its name without the ending. `None` for other files.
pub fn text_file_id(path: &Utf8Path) -> Option<&str> {
    let name = path.file_name()?;
    let lower = name.to_ascii_lowercase();
    let ending = [".txt.gz", ".txt"].into_iter().find(|ending| lower.ends_with(ending))?;
    Some(&name[..name.len() - ending.len()])
}

/// Endings of the files that [`read_texts`] reads.
const ENDINGS: [&str; 5] = [".csv", ".csv.gz", ".parquet", ".txt", ".txt.gz"];

/// Gives the texts of a file to `take`, in order, and stops with its error. Of tables only the columns for id and text
/// are read.
///
/// # Errors
/// Another ending than `.csv`, `.csv.gz`, `.parquet`, `.txt` and `.txt.gz`; a damaged file, a missing column, an empty id
/// or an id with control characters, naming file, line and column.
pub fn read_texts(
    path: &Utf8Path,
    columns: &TableColumns,
    context: &StageContext<'_>,
    take: &mut dyn FnMut(FoundText) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let name = path.file_name().unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let Some(ending) = ENDINGS.into_iter().filter(|ending| lower.ends_with(ending)).max_by_key(|e| e.len())
    else {
        let message = format!("expected a file with one of the endings {}", ENDINGS.join(", "));
        return Err(BadInput::new(path, message).into());
    };
    let mut row = |row: Row| {
        if let Some(fault) = name_fault(&row.id, "the note's id") {
            return Err(row.place.bad(path, &columns.id_column, &fault).into());
        }
        let text = FoundText::of_field(row.id, row.text);
        take(FoundText { mended: text.mended + row.mended, ..text })
    };
    match ending {
        ".parquet" => parquet::read(path, columns, Wanted::Texts, context, &mut row),
        ".csv" | ".csv.gz" => csv::read(path, columns, Wanted::Texts, context, &mut row),
        _ => {
            let id = text_file_id(path).unwrap_or(name).to_owned();
            take(FoundText::of_field(id, folder::read_text(path)?))
        }
    }
}

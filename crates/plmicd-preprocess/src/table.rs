//! Delimited tables with a header line: `.csv`, `.csv.gz`, tab-separated; header matched without regard to case
//! and order, quoted line ends and doubled quotes (tab-separated tables have no quotes), exact line numbers,
//! bounded memory.
//!
//! What the `csv` crate lets pass is caught here: a quote that is never closed (it would swallow the rest of the
//! file without a word), text after a closing quote, rows with too few or too many fields, a gzip stream that ends early.

use std::cell::Cell;
use std::io::{self, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use fs_err as fs;
use plmicd_data::{columns_found, counted};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::encoding::{is_gzip, mend, utf16_is_little};
use crate::feed::{Counted, END, Feed, MAX_ROW_BYTES, RowTooLong};
use crate::gzip::{self, Gunzip, begins_gzip};
use crate::quotes::{Quotes, StrayText};
use crate::{files, header};

/// How far a table has been read, readable from another thread.
#[derive(Clone, Debug)]
pub struct ReadProgress {
    done: Arc<AtomicU64>,
    /// Size of the file, compressed if it is.
    pub total: u64,
}

impl ReadProgress {
    /// Bytes of the file read so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// A table being read, with the wanted columns in the order asked for.
pub struct Table {
    path: Utf8PathBuf,
    reader: Reader<Feed>,
    record: ByteRecord,
    /// Position of each wanted column, in the order asked for; `None` for an optional one that is absent.
    positions: Vec<Option<usize>>,
    names: Vec<String>,
    delimiter: u8,
    width: usize,
    keeps_stray_text: bool,
    /// Bytes of [`text`](Self::text) that were not UTF-8.
    mended: Cell<u64>,
    row_limit: Arc<AtomicU64>,
    progress: ReadProgress,
}

/// A column of a [`Table`], by the position it was asked for in.
pub type Column = usize;

impl Table {
    /// Opens a table and checks its header. `required` columns come first, `optional` ones after them.
    ///
    /// # Errors
    /// The file is missing, empty, a pipe or packed under a plain name, or lacks a required column (the columns found are
    /// named).
    pub fn open(
        path: &Utf8Path,
        delimiter: u8,
        required: &[&str],
        optional: &[&str],
    ) -> Result<Self, StageError> {
        let mut file = files::open(path)?;
        if !is_gzip(path) {
            let mut begin = Vec::new();
            (&mut file).take(2).read_to_end(&mut begin)?;
            if begins_gzip(&begin) {
                return Err(BadInput::new(path, "it is packed by gzip; expected plain text")
                    .hint(format!("name it {}.gz", path.file_name().unwrap_or_default()))
                    .into());
            }
            file.rewind()?;
        }
        let progress = ReadProgress { done: Arc::default(), total: file.metadata()?.len() };
        let counted = Counted { inner: file, done: Arc::clone(&progress.done) };
        let inner: Box<dyn Read + Send> = if is_gzip(path) {
            Box::new(Gunzip::new(io::BufReader::with_capacity(1 << 18, counted)))
        } else {
            Box::new(counted)
        };
        let row_limit = Arc::new(AtomicU64::new(MAX_ROW_BYTES));
        let has_quotes = delimiter != b'\t';
        let feed = Feed::new(inner, Arc::clone(&row_limit), has_quotes.then(|| Quotes::new(delimiter)));
        let reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .quoting(has_quotes)
            .buffer_capacity(1 << 20)
            .from_reader(feed);
        let mut table = Self {
            path: path.to_owned(),
            reader,
            record: ByteRecord::new(),
            positions: Vec::new(),
            names: required.iter().chain(optional).map(|name| (*name).to_owned()).collect(),
            delimiter,
            width: 0,
            keeps_stray_text: false,
            mended: Cell::new(0),
            row_limit,
            progress,
        };
        table.read_header(required.len())?;
        Ok(table)
    }

    /// Takes text after a closing quote as part of the field, as pandas does, where that is what is to be repeated. The
    /// caller asks [`stray_texts`](Self::stray_texts) in the end.
    pub fn keeping_stray_text(self, keeps: bool) -> Self {
        Self { keeps_stray_text: keeps, ..self }
    }

    fn read_header(&mut self, required: usize) -> Result<(), StageError> {
        if !self.read_record()? {
            let wanted = self.names[..required].join(", ");
            return Err(BadInput::new(
                &self.path,
                format!("the file is empty; expected a header with {wanted}"),
            )
            .into());
        }
        let found_line = self.record.iter().collect::<Vec<_>>().join(&self.delimiter);
        if utf16_is_little(&found_line).is_some() {
            let message = "it is in UTF-16; expected UTF-8 (or Windows-1252)";
            return Err(BadInput::new(&self.path, message).line(1).into());
        }
        let found: Vec<String> = self
            .record
            .iter()
            .enumerate()
            .map(|(i, field)| {
                let field = if i == 0 { field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field) } else { field };
                // A BOM before a quoted name leaves its quotes in place.
                String::from_utf8_lossy(field).trim().trim_matches('"').to_owned()
            })
            .collect();
        self.width = found.len();
        for (i, name) in self.names.iter().enumerate() {
            let mut positions = (0..found.len()).filter(|&i| found[i].eq_ignore_ascii_case(name));
            let position = positions.next();
            if positions.next().is_some() {
                let message = "more than one column has this name; expected one";
                return Err(BadInput::new(&self.path, message).line(1).column(name).into());
            }
            if position.is_none() && i < required {
                if let Some(message) = header::explain(&found_line, self.delimiter, &self.names) {
                    return Err(BadInput::new(&self.path, message).line(1).into());
                }
                return Err(BadInput::new(&self.path, format!("no such column; {}", columns_found(&found)))
                    .line(1)
                    .column(name)
                    .hint(
                        "the first line must be the table's header; names are matched without regard to case",
                    )
                    .into());
            }
            self.positions.push(position);
        }
        self.refuse_stray_text()
    }

    /// Complains of text after a closing quote in the row that was read last.
    fn refuse_stray_text(&self) -> Result<(), StageError> {
        let stray = self.reader.get_ref().quotes.as_ref().and_then(|quotes| quotes.first);
        match stray {
            // The parser is fed more than it has read.
            Some(stray) if !self.keeps_stray_text && stray.byte < self.reader.position().byte() => {
                Err(self.stray_text(stray).into())
            }
            _ => Ok(()),
        }
    }

    fn stray_text(&self, stray: StrayText) -> BadInput {
        let name = self.positions.iter().position(|at| *at == Some(stray.field));
        let column = name.map_or_else(|| (stray.field + 1).to_string(), |at| self.names[at].clone());
        let place = match stray.line == stray.row_line {
            true => String::new(),
            false => format!(" in line {}", stray.line),
        };
        BadInput::new(&self.path, format!("text follows the quote that closes this field{place}"))
            .line(stray.row_line)
            .column(column)
            .hint(
                "a quote inside a field is not doubled, or the quote that should close the field is missing",
            )
    }

    /// Moves on to the next row; `false` at the end of the file.
    ///
    /// # Errors
    /// A row with a wrong number of fields, a quote that is never closed, a damaged or truncated gzip stream.
    pub fn advance(&mut self) -> Result<bool, StageError> {
        if !self.read_record()? {
            return Ok(false);
        }
        self.refuse_stray_text()?;
        if self.record.len() != self.width {
            let found = counted(self.record.len() as u64, "fields");
            let message = format!("{found}, expected {} as in the header", self.width);
            return Err(BadInput::new(&self.path, message)
                .line(self.line())
                .hint(
                    "the file is truncated, or a field with a delimiter, quote or line end is not quoted, or a quote \
                     in it not doubled",
                )
                .into());
        }
        Ok(true)
    }

    /// Reads one row of any width; `false` once the end mark came by.
    fn read_record(&mut self) -> Result<bool, StageError> {
        let start = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => return Err(self.explain(error, start)),
        }
        self.row_limit.store(self.reader.position().byte() + MAX_ROW_BYTES, Ordering::Relaxed);
        if self.record.len() == 1 && &self.record[0] == END {
            return Ok(false);
        }
        let last = &self.record[self.record.len() - 1];
        if last.strip_suffix(b"\n").unwrap_or(last).ends_with(END) {
            self.refuse_stray_text()?;
            // It has no terminator.
            let line = self.reader.position().line() - self.line_ends();
            return Err(unclosed(&self.path, line).into());
        }
        Ok(true)
    }

    fn explain(&self, error: csv::Error, line: u64) -> StageError {
        match error.into_kind() {
            ErrorKind::Io(io) if io.get_ref().is_some_and(|e| e.is::<RowTooLong>()) => {
                let stray = self.reader.get_ref().quotes.as_ref().and_then(|quotes| quotes.first);
                let stray = stray.filter(|_| !self.keeps_stray_text);
                stray.map_or_else(|| unclosed(&self.path, line), |stray| self.stray_text(stray)).into()
            }
            ErrorKind::Io(io) if is_gzip(&self.path) => gzip::explain(&self.path, &io).line(line).into(),
            kind => StageError::failed(format!("reading {}: {kind:?}", self.path)),
        }
    }

    /// The field in a wanted column; empty if the column is optional and absent.
    pub fn field(&self, column: Column) -> &[u8] {
        self.positions[column].map_or(b"", |i| &self.record[i])
    }

    /// Whether an optional column is there.
    pub fn has(&self, column: Column) -> bool {
        self.positions[column].is_some()
    }

    /// The field without blanks around it, as text; bytes that are not UTF-8 are read as Windows-1252, as in notes, and
    /// counted.
    pub fn text(&self, column: Column) -> String {
        let (text, mended) = mend(self.field(column).trim_ascii().to_vec());
        self.mended.set(self.mended.get() + mended);
        text
    }

    /// How many bytes were mended by [`text`](Self::text) since this was last asked.
    pub fn take_mended(&self) -> u64 {
        self.mended.take()
    }

    /// Warns of what was read leniently, at the end of the table: fields other than notes that are not UTF-8, text after
    /// closing quotes.
    pub fn warn(&self, context: &StageContext<'_>) {
        let name = self.path.file_name().unwrap_or_default();
        let mended = self.take_mended();
        if mended > 0 {
            let mended = counted(mended, "bytes");
            context.warn(format!(
                "{name}: not UTF-8, read as Windows-1252: {mended} in columns other than texts"
            ));
        }
        self.stray_texts().into_iter().for_each(|warning| context.warn(warning));
    }

    /// What there is to say of text after closing quotes that was kept.
    pub fn stray_texts(&self) -> Option<String> {
        let quotes = self.reader.get_ref().quotes.as_ref().filter(|_| self.keeps_stray_text)?;
        let first = quotes.first?;
        Some(format!(
            "{}: text after the closing quote of {}, first in line {}: read as pandas reads it, but a row may have \
             swallowed others",
            self.path.file_name().unwrap_or_default(),
            counted(quotes.count, "fields"),
            first.row_line
        ))
    }

    /// The field as a non-negative number; `None` if it is empty.
    ///
    /// # Errors
    /// Anything else (the content is not shown: it might be note text in a shifted row).
    pub fn number(&self, column: Column) -> Result<Option<u64>, StageError> {
        let field = self.field(column).trim_ascii();
        if field.is_empty() {
            return Ok(None);
        }
        let number = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| self.bad(column, "not a number; expected digits only").into())
    }

    /// The 1-based line at which the row begins. Counted back from where the parser stands, which is right for rows
    /// after blank lines and for CRLF (there the parser stops between the two).
    pub fn line(&self) -> u64 {
        let terminator = u64::from(!self.reader.get_ref().crlf);
        self.reader.position().line() - terminator - self.line_ends()
    }

    /// Line ends inside the row's fields.
    fn line_ends(&self) -> u64 {
        self.record.as_slice().iter().filter(|&&b| b == b'\n').count() as u64
    }

    /// A complaint about a field of this row.
    pub fn bad(&self, column: Column, message: impl Into<String>) -> BadInput {
        BadInput::new(&self.path, message).line(self.line()).column(&self.names[column])
    }

    /// The file.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// A handle that tells how far the file has been read.
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }
}

fn unclosed(path: &Utf8Path, line: u64) -> BadInput {
    BadInput::new(path, "a quote opened in this row is never closed")
        .line(line)
        .hint("the file is truncated, or a quote inside a field is not doubled")
}

/// The file of a table in `dir`: `NAME.csv` or `NAME.csv.gz`, in any case.
///
/// # Errors
/// Several are there, or the folder cannot be listed.
pub fn find(dir: &Utf8Path, name: &str) -> Result<Option<Utf8PathBuf>, StageError> {
    find_with(dir, name, &[".csv", ".csv.gz"])
}

/// The file of this name and one of these endings, in any case.
///
/// # Errors
/// Several are there: which one is meant is not for us to guess. The folder cannot be listed.
pub fn find_with(dir: &Utf8Path, name: &str, endings: &[&str]) -> Result<Option<Utf8PathBuf>, StageError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Ok(path) = Utf8PathBuf::try_from(entry?.path()) else { continue };
        let file = path.file_name().unwrap_or_default();
        if endings.iter().any(|ending| file.eq_ignore_ascii_case(&format!("{name}{ending}"))) {
            found.push(path);
        }
    }
    found.sort();
    only(found)
}

/// The only one of some paths.
///
/// # Errors
/// There are several.
pub fn only(found: Vec<Utf8PathBuf>) -> Result<Option<Utf8PathBuf>, StageError> {
    match found.as_slice() {
        [first, other, ..] => {
            let other = other.strip_prefix(first.parent().unwrap_or(first)).unwrap_or(other);
            Err(BadInput::new(first, format!("there is {other} too; expected one of them")).into())
        }
        _ => Ok(found.into_iter().next()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn open(
        content: &[u8],
        name: &str,
        required: &[&'static str],
    ) -> (tempfile::TempDir, Result<Table, StageError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(dir.path().join(name)).unwrap();
        fs::write(&path, content).unwrap();
        let table = Table::open(&path, b',', required, &["opt"]);
        (dir, table)
    }

    fn rows(content: &[u8], name: &str) -> Result<Vec<(u64, String, String)>, String> {
        let (_dir, table) = open(content, name, &["A", "B"]);
        let mut table = table.map_err(|e| e.to_string())?;
        let mut rows = Vec::new();
        while table.advance().map_err(|e| e.to_string())? {
            rows.push((table.line(), table.text(0), table.text(1)));
        }
        Ok(rows)
    }

    fn gz(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn reads_quotes_line_ends_and_any_header_style() {
        let plain = "\u{feff}\"b\",\"a\"\r\n1,\"x\"\"y\"\r\n\"two\nlines\",\"\"\r\n3,4".as_bytes();
        let expected = vec![
            (2, "x\"y".to_owned(), "1".to_owned()),
            (3, String::new(), "two\nlines".to_owned()),
            (5, "4".to_owned(), "3".to_owned()),
        ];
        assert_eq!(rows(plain, "t.csv").unwrap(), expected);
        assert_eq!(rows(&gz(plain), "t.csv.gz").unwrap(), expected);
    }

    #[test]
    fn every_error_names_its_place() {
        for (content, message) in [
            (&b"A,C\n1,2\n"[..], "t.csv:1, column B: no such column; found: A, C"),
            (b"A,B,a\n1,2,3\n", "t.csv:1, column A: more than one column has this name"),
            (b"", "the file is empty; expected a header with A, B"),
            (b"A,B\n1,2\n3\n", "t.csv:3: 1 field, expected 2"),
            (b"A,B\n1,2,9\n", "t.csv:2: 3 fields, expected 2"),
            (b"A,B\n1,2\n3,\"open\nand on\n", "t.csv:3: a quote opened in this row is never closed"),
            (b"A,B\n1,2\n\"", "t.csv:3: a quote opened in this row is never closed"),
            (b"A,B\r\n1,2\r\n\"x\r\ny\",2\r\n3", "t.csv:5: 1 field, expected 2"),
            (b"A,B\r\n1,2\r\n3,\"x\r\ny", "t.csv:3: a quote opened in this row is never closed"),
            (b"A,B\n\n\n1,2\n\n3\n", "t.csv:6: 1 field, expected 2"),
        ] {
            let error = rows(content, "t.csv").unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_first_row_that_is_no_header_is_not_shown() {
        let long = format!("7,\"secret text {}\"\n", "é".repeat(60));
        for content in ["7,secret\n", "X,secret text\n", &long, "\u{1b}[31m,x\n"] {
            let error = rows(content.as_bytes(), "t.csv").unwrap_err();
            assert!(error.contains("t.csv:1, column A: no such column; this line ("), "{error}");
            assert!(error.contains("does not look like a header"), "{error}");
            assert!(!error.contains("secret") && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn truncated_and_false_gzip_are_told_apart() {
        let whole = gz("A,B\n1,2\n".repeat(2000).as_bytes());
        let error = rows(&whole[..whole.len() - 12], "t.csv.gz").unwrap_err();
        assert!(error.contains("truncated"), "{error}");
        let error = rows(b"A,B\n1,2\n3,4\n5,6\n", "t.csv.gz").unwrap_err();
        assert!(error.contains("not a sound gzip file"), "{error}");
    }

    #[test]
    fn text_after_a_closing_quote_is_refused() {
        for (content, message) in [
            // The quotes of two rows pair up: the second would be part of the first.
            (
                &b"A,C,B\nn4,x,1\nn5,\"secret,I10\nn6,no\" more,J45\n"[..],
                "t.csv:3, column 2: text follows the quote that closes this field in line 4",
            ),
            (b"A,B\n\"1\",\"SEC\"RET secret\"\n", "t.csv:2, column B: text follows the quote"),
            (b"A,B\n1,\"2\" \n", "t.csv:2, column B: text follows the quote"),
            (b"A,B\n1,\"a\"b\n2,\"open\n", "t.csv:2, column B: text follows the quote"),
            (b"A,B\n1,\"a\"b,\"open\n", "t.csv:2, column B: text follows the quote"),
            (b"A,\"B\"\"\"x\n1,2\n", "t.csv:1, column A"),
        ] {
            for (content, name) in [(content.to_vec(), "t.csv"), (gz(content), "t.csv.gz")] {
                let error = rows(&content, name).map(|_| ()).err();
                let Some(error) = error else { panic!("{message}") };
                assert!(
                    error.contains(&message.replace("t.csv", name)) || error.contains("no such column"),
                    "{error}"
                );
                assert!(!error.contains("secret"), "{error}");
            }
        }
        // Rows before the fault are read; where pandas is to be repeated, the others too, with a warning.
        let (_dir, table) = open(b"A,B\n1,2\n3,\"4\"5\n6,\"7\"\"\"8\n", "t.csv", &["A", "B"]);
        let mut table = table.unwrap();
        assert!(table.advance().unwrap() && table.advance().is_err());
        let (_dir, table) = open(b"A,B\n1,2\n3,\"4\"5\n6,\"7\"\"\"8\n", "t.csv", &["A", "B"]);
        let mut table = table.unwrap().keeping_stray_text(true);
        let mut texts = Vec::new();
        while table.advance().unwrap() {
            texts.push(table.text(1));
        }
        assert_eq!(texts, ["2", "45", "7\"8"]);
        let warning = table.stray_texts().unwrap();
        assert!(
            warning.starts_with("t.csv: text after the closing quote of 2 fields, first in line 3"),
            "{warning}"
        );
    }

    #[test]
    fn what_a_file_is_instead_is_told() {
        for (content, message) in [
            (
                b"a;\"b\";c\n1;2;3\n".to_vec(),
                "t.csv:1: its columns are separated by semicolons; expected commas",
            ),
            (b"A\tB\n1\t2\n".to_vec(), "t.csv:1: its columns are separated by tabs; expected commas"),
            (gz(b"A,B\n1,2\n"), "t.csv: it is packed by gzip; expected plain text\nhint: name it t.csv.gz"),
            (
                "A,B\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect(),
                "t.csv:1: it is in UTF-16; expected UTF-8",
            ),
        ] {
            let error = rows(&content, "t.csv").unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        let packed = [gz(b"A,B\n1,2\n"), b"junk".to_vec()].concat();
        let error = rows(&packed, "t.csv.gz").unwrap_err();
        assert!(error.contains("other bytes follow the end of the gzip stream"), "{error}");
        let padded = [gz(b"A,B\n1,2\n"), vec![0; 600]].concat();
        assert_eq!(rows(&padded, "t.csv.gz").unwrap().len(), 1);
    }

    #[test]
    fn fields_that_are_not_utf8_are_mended_and_counted() {
        let (_dir, table) = open(b"A,B\nM\xfcller,\xe9\n", "t.csv", &["A", "B"]);
        let mut table = table.unwrap();
        assert!(table.advance().unwrap());
        assert_eq!(
            (table.text(0), table.text(1), table.take_mended()),
            ("Müller".to_owned(), "é".to_owned(), 2)
        );
        assert_eq!(table.take_mended(), 0);
    }

    #[test]
    fn an_endless_row_stops_early() {
        let mut content = b"A,B\n1,\"".to_vec();
        content.resize(content.len() + (MAX_ROW_BYTES as usize) + (4 << 20), b'x');
        let error = rows(&content, "t.csv").unwrap_err();
        assert!(error.contains("t.csv:2: a quote opened"), "{error}");
    }

    #[test]
    fn numbers_are_digits_or_nothing() {
        let (_dir, table) = open(b"A,B\n7,\n7.0,secret text\n", "t.csv", &["A", "B"]);
        let mut table = table.unwrap();
        assert!(table.advance().unwrap());
        assert_eq!((table.number(0).unwrap(), table.number(1).unwrap()), (Some(7), None));
        assert!(!table.has(2));
        assert!(table.advance().unwrap());
        let error = table.number(1).unwrap_err().to_string();
        assert!(error.contains("t.csv:3, column B: not a number") && !error.contains("secret"), "{error}");
        assert!(table.number(0).is_err());
    }

    #[test]
    fn finds_tables_in_any_case() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(find(root, "NOTEEVENTS").unwrap(), None);
        fs::write(root.join("noteevents.csv.gz"), b"").unwrap();
        assert_eq!(find(root, "NOTEEVENTS").unwrap().unwrap().file_name(), Some("noteevents.csv.gz"));
        fs::write(root.join("NOTEEVENTS.csv"), b"").unwrap();
        let error = find(root, "NOTEEVENTS").unwrap_err().to_string();
        assert!(
            error.contains("NOTEEVENTS.csv: there is noteevents.csv.gz too; expected one of them"),
            "{error}"
        );
    }

    fn field() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![Just("\""), Just(","), Just("\n"), Just("\r\n"), Just("a"), Just("é"), Just(" ")],
            0..6,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let content = [b"A,B\n", &body[..]].concat();
            let _ = rows(&content, "t.csv");
            let _ = rows(&body, "t.csv");
            let _ = rows(&body, "t.csv.gz");
        }

        #[test]
        fn what_is_written_quoted_comes_back(table in proptest::collection::vec((field(), field()), 0..8)) {
            let mut content = "A,B\n".to_owned();
            for (a, b) in &table {
                content += &format!("\"{}\",\"{}\"\n", a.replace('"', "\"\""), b.replace('"', "\"\""));
            }
            let back = rows(content.as_bytes(), "t.csv").unwrap();
            let back: Vec<(String, String)> = back.into_iter().map(|(_, a, b)| (a, b)).collect();
            let trimmed: Vec<(String, String)> = table
                .iter()
                .map(|(a, b)| (trim(a), trim(b)))
                .collect();
            prop_assert_eq!(back, trimmed);
        }
    }

    fn trim(text: &str) -> String {
        text.trim_ascii().to_owned()
    }
}

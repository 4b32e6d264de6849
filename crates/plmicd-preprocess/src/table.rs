//! Delimited tables with a header line: `.csv`, `.csv.gz`, tab-separated; header matched without regard to case
//! and order, quoted line ends and doubled quotes (tab-separated tables have no quotes), exact line numbers,
//! bounded memory.
//!
//! What the `csv` crate lets pass is caught here: a quote that is never closed (it would swallow the rest of the
//! file without a word), rows with too few or too many fields, a gzip stream that ends early.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use flate2::read::MultiGzDecoder;
use fs_err as fs;
use plmicd_data::columns_found;
use plmicd_pipeline::{BadInput, StageError};

use crate::encoding::{is_gzip, utf16_is_little};
use crate::feed::{Counted, END, Feed, MAX_ROW_BYTES, RowTooLong};

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
    width: usize,
    row_limit: Arc<AtomicU64>,
    progress: ReadProgress,
}

/// A column of a [`Table`], by the position it was asked for in.
pub type Column = usize;

impl Table {
    /// Opens a table and checks its header. `required` columns come first, `optional` ones after them.
    ///
    /// # Errors
    /// The file is missing or empty, or lacks a required column (the columns found are named).
    pub fn open(
        path: &Utf8Path,
        delimiter: u8,
        required: &[&str],
        optional: &[&str],
    ) -> Result<Self, StageError> {
        let file = fs::File::open(path)?;
        let progress = ReadProgress { done: Arc::default(), total: file.metadata()?.len() };
        let counted = Counted { inner: file, done: Arc::clone(&progress.done) };
        let inner: Box<dyn Read + Send> = if is_gzip(path) {
            Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(1 << 18, counted)))
        } else {
            Box::new(counted)
        };
        let row_limit = Arc::new(AtomicU64::new(MAX_ROW_BYTES));
        let feed = Feed::new(inner, Arc::clone(&row_limit));
        let reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .quoting(delimiter != b'\t')
            .buffer_capacity(1 << 20)
            .from_reader(feed);
        let mut table = Self {
            path: path.to_owned(),
            reader,
            record: ByteRecord::new(),
            positions: Vec::new(),
            names: required.iter().chain(optional).map(|name| (*name).to_owned()).collect(),
            width: 0,
            row_limit,
            progress,
        };
        table.read_header(required.len())?;
        Ok(table)
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
        if self.record.get(0).is_some_and(|field| utf16_is_little(field).is_some()) {
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
        Ok(())
    }

    /// Moves on to the next row; `false` at the end of the file.
    ///
    /// # Errors
    /// A row with a wrong number of fields, a quote that is never closed, a damaged or truncated gzip stream.
    pub fn advance(&mut self) -> Result<bool, StageError> {
        if !self.read_record()? {
            return Ok(false);
        }
        if self.record.len() != self.width {
            let message = format!("{} fields, expected {} as in the header", self.record.len(), self.width);
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
            // It has no terminator.
            let line = self.reader.position().line() - self.line_ends();
            return Err(unclosed(&self.path, line).into());
        }
        Ok(true)
    }

    fn explain(&self, error: csv::Error, line: u64) -> StageError {
        match error.into_kind() {
            ErrorKind::Io(io) if io.get_ref().is_some_and(|e| e.is::<RowTooLong>()) => {
                unclosed(&self.path, line).into()
            }
            ErrorKind::Io(io) if io.kind() == io::ErrorKind::UnexpectedEof => {
                BadInput::new(&self.path, "the gzip stream ends early: the file is truncated")
                    .line(line)
                    .hint("copy or download it again; `gzip -t FILE` checks it")
                    .into()
            }
            ErrorKind::Io(io) if is_gzip(&self.path) => {
                BadInput::new(&self.path, format!("not a sound gzip file ({io})")).line(line).into()
            }
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

    /// The field without blanks around it, as text; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self, column: Column) -> String {
        String::from_utf8_lossy(self.field(column).trim_ascii()).into_owned()
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

/// The file of a table in `dir`: `NAME.csv` or `NAME.csv.gz`, in any case; the plain one if both are there.
pub fn find(dir: &Utf8Path, name: &str) -> Result<Option<Utf8PathBuf>, StageError> {
    let mut found = None;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Ok(path) = Utf8PathBuf::try_from(path) else { continue };
        let file = path.file_name().unwrap_or_default();
        if file.eq_ignore_ascii_case(&format!("{name}.csv")) {
            return Ok(Some(path));
        }
        if file.eq_ignore_ascii_case(&format!("{name}.csv.gz")) {
            found = Some(path);
        }
    }
    Ok(found)
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
            (b"A,B\n1,2\n3\n", "t.csv:3: 1 fields, expected 2"),
            (b"A,B\n1,2,9\n", "t.csv:2: 3 fields, expected 2"),
            (b"A,B\n1,2\n3,\"open\nand on\n", "t.csv:3: a quote opened in this row is never closed"),
            (b"A,B\n1,2\n\"", "t.csv:3: a quote opened in this row is never closed"),
            (b"A,B\r\n1,2\r\n\"x\r\ny\",2\r\n3", "t.csv:5: 1 fields, expected 2"),
            (b"A,B\r\n1,2\r\n3,\"x\r\ny", "t.csv:3: a quote opened in this row is never closed"),
            (b"A,B\n\n\n1,2\n\n3\n", "t.csv:6: 1 fields, expected 2"),
        ] {
            let error = rows(content, "t.csv").unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_first_row_that_is_no_header_is_not_shown() {
        let long = format!("7,\"secret text {}\"\n", "é".repeat(60));
        for content in ["7,secret\n", "X,secret text\n", &long, "A;\"B\"\n", "\u{1b}[31m,x\n"] {
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
        assert_eq!(find(root, "NOTEEVENTS").unwrap().unwrap().file_name(), Some("NOTEEVENTS.csv"));
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

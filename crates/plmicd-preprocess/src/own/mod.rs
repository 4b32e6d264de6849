//! Source `table`: the user's own notes, one a row, in `notes.csv`, `notes.csv.gz` or `notes.parquet`.

mod config;
mod csv;
mod folder;
mod parquet;
mod texts;

use std::collections::HashMap;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{CodeSystem, Split, kind};
use plmicd_pipeline::{BadInput, StageContext, StageError};
use rayon::prelude::*;

pub use self::config::{TableColumns, Wanted};
pub use self::folder::text_files;
pub use self::texts::{FoundText, read_texts, text_file_id};
use crate::codes::format_code;
use crate::config::PreprocessConfig;
use crate::corpus::{CodeBook, CodeId, Corpus, DraftNote, Exclusions};
use crate::descriptions::Descriptions;
use crate::encoding::mend;
use crate::spill::SpillWriter;
use crate::table;
use crate::text::{TextRules, count_words};

/// Name of the table, without its ending.
pub const NAME: &str = "notes";

/// Texts are cleaned in batches of about this size, which bounds what is in memory.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_ROWS: usize = 1 << 14;

/// A row as it stands in the file.
#[derive(Debug)]
struct Row {
    place: Place,
    id: String,
    text: Vec<u8>,
    codes: Vec<String>,
    /// `None` if the table has no such column.
    subject: Option<String>,
    /// `None` if the table has no such column.
    split: Option<String>,
}

/// Where a row stands, from 1.
#[derive(Clone, Copy, Debug)]
enum Place {
    Line(u64),
    Row(u64),
}

impl Place {
    fn bad(self, path: &Utf8Path, column: &str, message: &str) -> BadInput {
        match self {
            Self::Line(line) => BadInput::new(path, message).line(line).column(column),
            Self::Row(row) => BadInput::new(path, format!("row {row}: {message}")).column(column),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Line(line) => format!("line {line}"),
            Self::Row(row) => format!("row {row}"),
        }
    }
}

/// Reads the source in `dir`. Without a column of subjects every note is its own.
///
/// # Errors
/// The table is missing or damaged or lacks a column; an id is empty or occurs twice; a subject is empty; a split has an
/// unknown name; splits are asked for that the table does not give.
pub fn read(
    config: &PreprocessConfig,
    dir: &Utf8Path,
    wanted: Wanted,
    context: &StageContext<'_>,
) -> Result<Corpus, StageError> {
    let path = find(dir)?.ok_or_else(|| missing(dir))?;
    if config.splits.are_camls() {
        return Err(BadInput::new(&path, "these lists are for mimic3 sources")
            .hint("use \"published\" (the table's own column), \"stratified\" or \"random\"")
            .into());
    }
    let mut reader = Reader::new(config, &path, context)?;
    let columns = &config.table;
    if path.extension() == Some("parquet") {
        parquet::read(&path, columns, wanted, context, &mut |row| reader.take(row))?;
    } else {
        csv::read(&path, columns, wanted, context, &mut |row| reader.take(row))?;
    }
    reader.finish()
}

/// Reads every text file below `dir` as a note, named by its path from there.
///
/// # Errors
/// There is none, or one cannot be read.
pub fn read_folder(
    config: &PreprocessConfig,
    dir: &Utf8Path,
    context: &StageContext<'_>,
) -> Result<Corpus, StageError> {
    let mut reader = Reader::new(config, dir, context)?;
    folder::read(dir, context, &mut |row| reader.take(row))?;
    let mut corpus = reader.finish()?;
    corpus.source = kind::TEXT;
    Ok(corpus)
}

struct Reader<'a> {
    config: &'a PreprocessConfig,
    path: &'a Utf8Path,
    context: &'a StageContext<'a>,
    workers: rayon::ThreadPool,
    rules: TextRules,
    batch: Vec<Row>,
    bytes: usize,
    seen: HashMap<String, Place>,
    spill: SpillWriter,
    notes: Vec<DraftNote>,
    codes: CodeBook,
    empty: u64,
    repeated: u64,
    dots: u64,
    without_split: u64,
    mended_bytes: u64,
    mended_notes: u64,
}

impl<'a> Reader<'a> {
    fn new(
        config: &'a PreprocessConfig,
        path: &'a Utf8Path,
        context: &'a StageContext<'a>,
    ) -> Result<Self, StageError> {
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(context.runtime().thread_count())
            .build()
            .map_err(|e| StageError::because("starting worker threads", e))?;
        Ok(Self {
            config,
            path,
            context,
            workers,
            rules: config.text_rules(),
            batch: Vec::new(),
            bytes: 0,
            seen: HashMap::new(),
            spill: SpillWriter::create(context.work_dir())?,
            notes: Vec::new(),
            codes: CodeBook::default(),
            empty: 0,
            repeated: 0,
            dots: 0,
            without_split: 0,
            mended_bytes: 0,
            mended_notes: 0,
        })
    }

    fn take(&mut self, row: Row) -> Result<(), StageError> {
        let columns = &self.config.table;
        let bad = |column: &str, message: &str| row.place.bad(self.path, column, message);
        if row.id.is_empty() {
            return Err(bad(&columns.id_column, "is empty; expected the note's id").into());
        }
        if row.subject.as_deref() == Some("") {
            return Err(bad(&columns.subject_column, "is empty; expected the patient").into());
        }
        if let Some(first) = self.seen.insert(row.id.clone(), row.place) {
            let message = format!("this id is also that of {}", first.words());
            return Err(bad(&columns.id_column, &message).into());
        }
        self.bytes += row.text.len();
        self.batch.push(row);
        if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ROWS {
            self.clean()?;
        }
        Ok(())
    }

    fn clean(&mut self) -> Result<(), StageError> {
        self.context.check_interrupt()?;
        self.bytes = 0;
        let (rules, batch) = (self.rules, std::mem::take(&mut self.batch));
        let cleaned: Vec<(Row, String, u64)> = self.workers.install(|| {
            batch
                .into_par_iter()
                .map(|mut row| {
                    let (text, mended) = mend(std::mem::take(&mut row.text));
                    let text = rules.apply(&text);
                    (row, text, mended)
                })
                .collect()
        });
        for (row, text, mended) in cleaned {
            self.mended_bytes += mended;
            self.mended_notes += u64::from(mended > 0);
            self.add(row, &text)?;
        }
        Ok(())
    }

    fn add(&mut self, row: Row, text: &str) -> Result<(), StageError> {
        let split = if self.config.splits.are_made() { None } else { self.split(&row)? };
        let words = count_words(text);
        if words == 0 {
            self.empty += 1;
            return Ok(());
        }
        if split.is_none() && !self.config.splits.are_made() {
            self.without_split += 1;
            return Ok(());
        }
        let system = self.config.table.system;
        let mut codes: Vec<CodeId> = Vec::with_capacity(row.codes.len());
        for code in &row.codes {
            let code = match system {
                CodeSystem::Other => code.clone(),
                system => format_code(&code.to_ascii_uppercase(), system),
            };
            if code.is_empty() {
                // As SAS writes a missing value.
                self.dots += 1;
                continue;
            }
            let code = self.codes.intern(code, system);
            if codes.contains(&code) {
                self.repeated += 1;
            } else {
                codes.push(code);
            }
        }
        self.notes.push(DraftNote {
            subject_id: row.subject.unwrap_or_else(|| row.id.clone()),
            note_id: row.id,
            split,
            codes,
            pieces: vec![self.spill.push(text)?],
            words,
        });
        Ok(())
    }

    /// The split that a row names; `None` if the field is empty.
    fn split(&self, row: &Row) -> Result<Option<Split>, StageError> {
        let column = &self.config.table.split_column;
        let Some(name) = &row.split else {
            return Err(BadInput::new(self.path, "no such column, so the table gives no splits")
                .column(column)
                .hint("splits = \"stratified\" or \"random\" makes them")
                .into());
        };
        match name.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "train" => Ok(Some(Split::Train)),
            "dev" | "val" | "valid" | "validation" => Ok(Some(Split::Dev)),
            "test" => Ok(Some(Split::Test)),
            // Not shown: in a shifted row it might be note text.
            _ => Err(row.place.bad(self.path, column, "no split; expected train, dev or test").into()),
        }
    }

    fn finish(mut self) -> Result<Corpus, StageError> {
        self.clean()?;
        if self.seen.is_empty() {
            return Err(BadInput::new(self.path, "the table has no rows").into());
        }
        let mut exclusions = Exclusions::default();
        exclusions.add(self.empty, "rows", "empty after cleaning");
        exclusions.add(self.without_split, "rows", "without a split");
        exclusions.add(self.repeated, "codes", "repeating a code of the same note");
        exclusions.add(self.dots, "codes", "of nothing but dots");
        if self.mended_bytes > 0 {
            self.context.warn(format!(
                "{} bytes in {} notes are not UTF-8; they were read as Windows-1252",
                self.mended_bytes, self.mended_notes
            ));
            exclusions.add(self.mended_bytes, "bytes", "mended: not UTF-8, read as Windows-1252");
        }
        Ok(Corpus {
            source: kind::TABLE,
            notes: self.notes,
            codes: self.codes,
            spill: self.spill.finish()?,
            descriptions: Descriptions::default(),
            exclusions,
        })
    }
}

/// The codes of one field.
fn split_codes(field: &str, separator: &str) -> Vec<String> {
    field.split(separator).map(str::trim).filter(|code| !code.is_empty()).map(str::to_owned).collect()
}

/// The table's file: CSV, compressed or not, or Parquet.
///
/// # Errors
/// Both are there, or the folder cannot be listed.
pub fn find(dir: &Utf8Path) -> Result<Option<Utf8PathBuf>, StageError> {
    let parquet = dir.join(format!("{NAME}.parquet"));
    match (table::find(dir, NAME)?, parquet.is_file()) {
        (Some(csv), true) => {
            Err(BadInput::new(csv, "there is notes.parquet too; expected one of them").into())
        }
        (None, true) => Ok(Some(parquet)),
        (found, false) => Ok(found),
    }
}

/// There is no table.
pub fn missing(dir: &Utf8Path) -> BadInput {
    BadInput::new(dir.join("notes.csv"), "missing: expected notes.csv, notes.csv.gz or notes.parquet")
        .hint("its columns are those of `table` in the config; see docs/guides/data-sources.md")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::split_codes;

    proptest! {
        #[test]
        fn joined_codes_come_apart(codes in proptest::collection::vec("[A-Z0-9.]{1,7}", 0..9)) {
            prop_assert_eq!(split_codes(&codes.join(" ;"), ";"), codes);
        }

        #[test]
        fn any_field_gives_codes_without_blanks_around(field in "\\PC{0,40}", separator in "[;,|]{1,2}") {
            for code in split_codes(&field, &separator) {
                prop_assert!(!code.is_empty() && code.trim() == code && !code.contains(&separator));
            }
        }
    }
}

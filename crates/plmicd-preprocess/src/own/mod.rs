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
use crate::config::{CodeKinds, PreprocessConfig};
use crate::corpus::{CodeBook, CodeId, Corpus, DraftNote, Exclusions, mended_warning};
use crate::descriptions::Descriptions;
use crate::encoding::mend;
use crate::place::Place;
use crate::spill::SpillWriter;
use crate::table;
use crate::text::{TextRules, count_words};

/// Name of the table, without its ending.
pub const NAME: &str = "notes";

/// Ending of a Parquet file.
const PARQUET: &str = ".parquet";

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
    /// Bytes of all fields but the text that were not UTF-8.
    mended: u64,
}

/// What is wrong with an id or a subject, which is `what`; a control character would be invisible wherever it is shown, and
/// cut the id short in programs that take it for its end.
pub fn name_fault(name: &str, what: &str) -> Option<String> {
    if name.is_empty() {
        Some(format!("is empty; expected {what}"))
    } else if name.contains(char::is_control) {
        Some(format!("has a control character in it (such as NUL or a line end); expected {what}"))
    } else {
        None
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
    let columns = &config.table;
    // Of all other systems the config's own check knows it.
    if wanted == Wanted::Coded && config.codes != CodeKinds::All && columns.system == CodeSystem::Other {
        return Err(BadInput::new(&path, "`codes` is to choose by kind, but table.system = \"other\" does not tell which kind the codes are")
            .hint("name the system of the codes, or leave `codes` at \"all\"")
            .into());
    }
    let mut reader = Reader::new(config, &path, context)?;
    if path.as_str().to_ascii_lowercase().ends_with(PARQUET) {
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
        if let Some(fault) = name_fault(&row.id, "the note's id") {
            return Err(bad(&columns.id_column, &fault).into());
        }
        if let Some(fault) = row.subject.as_deref().and_then(|subject| name_fault(subject, "the patient")) {
            return Err(bad(&columns.subject_column, &fault).into());
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
                    let (text, mended) = (rules.apply(&text), mended + row.mended);
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
            self.codes.stands_at(code, row.place);
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
            self.context.warn(mended_warning(self.mended_bytes, self.mended_notes, "notes"));
            exclusions.add_mended(self.mended_bytes);
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
/// Several are there, or the folder cannot be listed.
pub fn find(dir: &Utf8Path) -> Result<Option<Utf8PathBuf>, StageError> {
    table::find_with(dir, NAME, &[".csv", ".csv.gz", PARQUET])
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

//! `DIAGNOSES_ICD` and `PROCEDURES_ICD`: which codes an admission has.

use std::collections::HashMap;

use camino::Utf8Path;
use plmicd_data::CodeSystem;
use plmicd_pipeline::{StageContext, StageError};

use super::Key;
use crate::codes::format_code;
use crate::corpus::{CodeBook, CodeId, Exclusions};
use crate::table::Table;

pub const SUBJECT: usize = 0;
pub const ADMISSION: usize = 1;
pub const SEQUENCE: usize = 2;
pub const CODE: usize = 3;
/// Only in the tables of MIMIC-IV.
const VERSION: usize = 4;
/// Only in the tables of MIMIC-III, and only CAML's own files need it.
pub const ROW: usize = 4;

/// Opens a code table and checks its header.
pub fn open(path: &Utf8Path) -> Result<Table, StageError> {
    Table::open(path, b',', &["SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"], &["ROW_ID"])
}

struct Row {
    key: Key,
    /// Diagnoses before procedures.
    procedure: bool,
    /// Rank within the table; rows without one come last.
    sequence: u64,
    code: CodeId,
}

/// Rows of both tables.
#[derive(Default)]
pub struct CodeRows {
    rows: Vec<Row>,
    book: CodeBook,
    without_code: u64,
    without_admission: u64,
    other_version: u64,
}

impl CodeRows {
    /// Adds a table's rows; where `version` is given, those of this edition of the ICD.
    pub fn read(
        &mut self,
        table: &mut Table,
        system: CodeSystem,
        version: Option<u64>,
        context: &StageContext<'_>,
    ) -> Result<(), StageError> {
        let phase = format!("reading {}", table.path().file_name().unwrap_or_default());
        let progress = table.progress();
        let mut count: u64 = 0;
        while table.advance()? {
            if count.is_multiple_of(1 << 16) {
                context.check_interrupt()?;
                context.progress(&phase, progress.done(), Some(progress.total), "bytes");
            }
            count += 1;
            let code = format_code(&table.text(CODE), system);
            let subject = table.number(SUBJECT)?;
            let admission = table.number(ADMISSION)?;
            let sequence = table.number(SEQUENCE)?;
            if let Some(version) = version {
                match table.number(VERSION)? {
                    Some(found) if found == version => {}
                    Some(9 | 10) => {
                        self.other_version += 1;
                        continue;
                    }
                    _ => return Err(table.bad(VERSION, "expected 9 or 10").into()),
                }
            }
            if code.is_empty() {
                self.without_code += 1;
                continue;
            }
            let Some(admission) = admission else {
                self.without_admission += 1;
                continue;
            };
            let subject = subject.ok_or_else(|| table.bad(SUBJECT, "is empty; expected a number"))?;
            self.rows.push(Row {
                key: (subject, admission),
                procedure: system.is_procedure(),
                sequence: sequence.unwrap_or(u64::MAX),
                code: self.book.intern(code, system),
            });
        }
        Ok(())
    }

    /// Codes of each admission, without repetition: diagnoses, then procedures, each by `SEQ_NUM`.
    pub fn group(mut self, exclusions: &mut Exclusions) -> (HashMap<Key, Vec<CodeId>>, CodeBook) {
        // Stable: rows of the same rank stay in the order of the file.
        self.rows.sort_by_key(|row| (row.key, row.procedure, row.sequence));
        let mut groups: HashMap<Key, Vec<CodeId>> = HashMap::new();
        let mut repeated = 0;
        for row in &self.rows {
            let codes = groups.entry(row.key).or_default();
            if codes.contains(&row.code) {
                repeated += 1;
            } else {
                codes.push(row.code);
            }
        }
        exclusions.add(self.other_version, "rows", "of the code tables of the other ICD version");
        exclusions.add(self.without_code, "rows", "of the code tables without a code");
        exclusions.add(self.without_admission, "rows", "of the code tables without an admission");
        exclusions.add(repeated, "rows", "repeating a code of the same admission");
        (groups, self.book)
    }
}

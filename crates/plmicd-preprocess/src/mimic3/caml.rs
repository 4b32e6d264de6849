//! `compat = "caml"`: codes as the published scripts of Mullenbach et al. 2018 leave them, accidents included. Published
//! checkpoints and label lists depend on these.
//!
//! What differs from reading the tables as text: codes are read as numbers where a block of rows holds numbers only, as the
//! table of procedures always does (`0017` becomes `17`) and that of diagnoses where no code has a letter; procedures always
//! get a dot (`17.`); duplicates stay; a missing diagnosis is the text `nan` and later an empty label; and the filtered list
//! of codes is read a second time, where such blocks become floating point (`17.` turns into `17.0`, `99.10` into `99.1`).

use std::collections::{HashMap, HashSet};

use plmicd_pipeline::{StageContext, StageError};

use super::Key;
use super::codes::{ADMISSION, CODE, ROW, SEQUENCE, SUBJECT};
use super::columns::{self, MISSING};
use crate::corpus::Exclusions;
use crate::table::Table;

/// A row of one of the two tables.
#[derive(Clone, Debug)]
pub struct CamlRow {
    /// `ROW_ID` and `SEQ_NUM` as they stand in the table.
    pub row_id: String,
    pub sequence: String,
    /// (subject, admission).
    pub key: Key,
    pub code: String,
}

/// Reads both tables, diagnoses first: `ALL_CODES.csv`.
///
/// # Errors
/// A procedure code that is missing or not a number: the published scripts would read every other one differently then.
pub fn read(
    diagnoses: &mut Table,
    procedures: &mut Table,
    context: &StageContext<'_>,
    exclusions: &mut Exclusions,
) -> Result<Vec<CamlRow>, StageError> {
    let mut rows = Vec::new();
    let mut without_admission = 0;
    for (table, procedure) in [(diagnoses, false), (procedures, true)] {
        let phase = format!("reading {}", table.path().file_name().unwrap_or_default());
        let progress = table.progress();
        let first = rows.len();
        let mut count: u64 = 0;
        while table.advance()? {
            if count.is_multiple_of(1 << 16) {
                context.check_interrupt()?;
                context.progress(&phase, progress.done(), Some(progress.total), "bytes");
            }
            count += 1;
            if procedure {
                table.number(CODE)?.ok_or_else(|| {
                    table.bad(CODE, "is empty; with compat = \"caml\" procedure codes are numbers")
                })?;
            }
            let subject = table.number(SUBJECT)?;
            let Some(admission) = table.number(ADMISSION)? else {
                without_admission += 1;
                continue;
            };
            let subject = subject.ok_or_else(|| table.bad(SUBJECT, "is empty; expected a number"))?;
            rows.push(CamlRow {
                row_id: table.text(ROW),
                sequence: table.text(SEQUENCE),
                key: (subject, admission),
                code: table.text(CODE),
            });
        }
        as_first_read(&mut rows[first..], procedure);
    }
    exclusions.add(without_admission, "rows", "of the code tables without an admission");
    Ok(rows)
}

/// The codes of a table as they are after the first reading, formatted.
fn as_first_read(rows: &mut [CamlRow], procedure: bool) {
    let numbers = columns::read_again(&mut rows.iter_mut().map(|row| &mut row.code).collect::<Vec<_>>());
    // A row of numbers only is handed on as a whole, floating point if one of its columns is.
    let floats = numbers && rows.iter().any(|row| row.sequence.is_empty());
    for row in rows {
        let code = match row.code.as_str() {
            "" => MISSING.to_owned(),
            code if floats => columns::float(code),
            code => code.to_owned(),
        };
        row.code = caml_code(&code, procedure);
    }
}

/// The rows of admissions that have a summary, in the order of the tables.
fn filter(rows: &[CamlRow], admissions: &HashSet<u64>) -> Vec<(Key, String)> {
    let of_summaries = rows.iter().filter(|row| admissions.contains(&row.key.1));
    of_summaries.map(|row| (row.key, row.code.clone())).collect()
}

/// The rows of admissions that have a summary, read a second time and sorted: `ALL_CODES_filtered.csv`.
pub fn filter_and_sort(rows: &[CamlRow], admissions: &HashSet<u64>) -> Vec<(Key, String)> {
    let mut kept = filter(rows, admissions);
    columns::read_again(&mut kept.iter_mut().map(|(_, code)| code).collect::<Vec<_>>());
    // Stable: within an admission diagnoses stay before procedures, both in the order of their tables.
    kept.sort_by_key(|(key, _)| *key);
    kept
}

/// The published formatting of a code: a procedure always gets a dot.
pub fn caml_code(raw: &str, procedure: bool) -> String {
    let code: String = raw.chars().filter(|&c| c != '.').collect();
    match procedure {
        true => dotted(&code, 2, true),
        false => dotted(&code, if code.starts_with('E') { 4 } else { 3 }, false),
    }
}

fn dotted(code: &str, stem: usize, always: bool) -> String {
    match code.char_indices().nth(stem) {
        Some((at, _)) => format!("{}.{}", &code[..at], &code[at..]),
        None if always => format!("{code}."),
        None => code.to_owned(),
    }
}

/// The labels of each admission, in order, with duplicates and empty ones.
pub fn by_admission(sorted: &[(Key, String)]) -> HashMap<Key, Vec<String>> {
    let mut labels: HashMap<Key, Vec<String>> = HashMap::new();
    for (key, code) in sorted {
        labels.entry(*key).or_default().push(code.clone());
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(codes: &[(&str, &str)]) -> Vec<CamlRow> {
        let row = |&(sequence, code): &(&str, &str)| CamlRow {
            row_id: String::new(),
            sequence: sequence.to_owned(),
            key: (1, 2),
            code: code.to_owned(),
        };
        codes.iter().map(row).collect()
    }

    #[test]
    fn a_table_without_letters_is_one_of_numbers() {
        let read = |codes: &[(&str, &str)], procedure| -> Vec<String> {
            let mut rows = rows(codes);
            as_first_read(&mut rows, procedure);
            rows.into_iter().map(|row| row.code).collect()
        };
        assert_eq!(read(&[("1", "0389"), ("2", "V5861"), ("3", "")], false), ["038.9", "V58.61", "nan"]);
        assert_eq!(read(&[("1", "0389"), ("2", "4019")], false), ["389", "401.9"]);
        assert_eq!(read(&[("1", "0389"), ("2", "4019"), ("3", "")], false), ["389.0", "401.90", "nan"]);
        assert_eq!(read(&[("1", "0017"), ("2", "3995")], true), ["17.", "39.95"]);
        assert_eq!(read(&[("1", "0017"), ("", "3995")], true), ["17.0", "39.950"]);
    }

    /// `expected_3` of the golden end-to-end case: the codes of admissions with a summary, before they are read again.
    #[test]
    fn codes_of_admissions_with_a_summary() {
        let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../shared/golden/preprocess/caml_e2e");
        if !from.exists() {
            return;
        }
        let table = |name: &str| -> Vec<csv::StringRecord> {
            csv::Reader::from_path(from.join(name)).unwrap().records().map(Result::unwrap).collect()
        };
        let number = |text: &str| text.parse::<u64>().unwrap();
        let rows: Vec<CamlRow> = table("expected_2_ALL_CODES.csv")
            .iter()
            .map(|row| CamlRow {
                row_id: row[0].to_owned(),
                sequence: row[3].to_owned(),
                key: (number(&row[1]), number(&row[2])),
                code: row[4].to_owned(),
            })
            .collect();
        let admissions =
            table("expected_1_disch_full_unsorted.csv").iter().map(|row| number(&row[1])).collect();
        let expected: Vec<(Key, String)> = table("expected_3_ALL_CODES_filtered_presort.csv")
            .iter()
            .map(|row| ((number(&row[0]), number(&row[1])), row[2].to_owned()))
            .collect();
        assert_eq!(filter(&rows, &admissions), expected);
    }
}

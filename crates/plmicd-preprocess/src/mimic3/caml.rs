//! `compat = "caml"`: codes as the published scripts of Mullenbach et al. 2018 leave them, accidents included. Published
//! checkpoints and label lists depend on these.
//!
//! What differs from reading the tables as text: procedure codes are read as numbers (`0017` becomes `17`) and always get
//! a dot (`17.`); duplicates stay; a missing diagnosis is the text `nan` and later an empty label; and the filtered list of
//! codes is read a second time, where blocks of rows that hold numbers only become floating point (`17.` turns into
//! `17.0`, `99.10` into `99.1`).

use std::collections::{HashMap, HashSet};

use plmicd_pipeline::{StageContext, StageError};

use super::Key;
use super::codes::{ADMISSION, CODE, ROW, SEQUENCE, SUBJECT};
use crate::corpus::Exclusions;
use crate::table::Table;

/// Rows that pandas' parser reads as one block of a table of five columns.
const BLOCK_ROWS: usize = 131_072;

/// What a missing code becomes on its way.
const MISSING: &str = "nan";

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
        let mut count: u64 = 0;
        while table.advance()? {
            if count.is_multiple_of(1 << 16) {
                context.check_interrupt()?;
                context.progress(&phase, progress.done(), Some(progress.total), "bytes");
            }
            count += 1;
            let raw = table.text(CODE);
            let code = if procedure {
                let number = table.number(CODE)?.ok_or_else(|| {
                    table.bad(CODE, "is empty; with compat = \"caml\" procedure codes are numbers")
                })?;
                // Read as a number, it has lost its leading zeros.
                caml_code(&number.to_string(), true)
            } else {
                caml_code(if raw.is_empty() { MISSING } else { &raw }, false)
            };
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
                code,
            });
        }
    }
    exclusions.add(without_admission, "rows", "of the code tables without an admission");
    Ok(rows)
}

/// The rows of admissions that have a summary, read a second time and sorted: `ALL_CODES_filtered.csv`.
pub fn filter_and_sort(rows: &[CamlRow], admissions: &HashSet<u64>) -> Vec<(Key, String)> {
    let mut kept: Vec<(Key, String)> = rows
        .iter()
        .filter(|row| admissions.contains(&row.key.1))
        .map(|row| (row.key, row.code.clone()))
        .collect();
    let mut codes: Vec<&mut String> = kept.iter_mut().map(|(_, code)| code).collect();
    read_again(&mut codes);
    // Stable: within an admission diagnoses stay before procedures, both in the order of their tables.
    kept.sort_by_key(|(key, _)| *key);
    kept
}

/// What reading the list of codes with default settings does to it.
fn read_again(codes: &mut [&mut String]) {
    let numbers = |block: &[&mut String]| block.iter().all(|code| **code == MISSING || is_number(code));
    let whole = |block: &[&mut String]| block.iter().all(|code| !code.contains('.') && **code != MISSING);
    let blocks = || codes.chunks(BLOCK_ROWS);
    // If all blocks are numbers and one is not of whole ones, the column as a whole becomes floating point.
    let all = blocks().all(numbers);
    let floats: Vec<bool> =
        blocks().map(|block| numbers(block) && (!whole(block) || (all && !blocks().all(whole)))).collect();
    for (block, floats) in codes.chunks_mut(BLOCK_ROWS).zip(floats) {
        for code in block {
            if **code == MISSING {
                code.clear();
            } else if floats {
                **code = caml_float(code);
            }
        }
    }
}

/// A code as it comes out of a column of floating-point numbers; as it is, if it is none.
pub fn caml_float(code: &str) -> String {
    let Ok(number) = code.parse::<f64>() else { return code.to_owned() };
    // Both languages print the shortest digits that read back the same; only Python adds `.0`.
    let mut text = number.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

fn is_number(code: &str) -> bool {
    let (whole, fraction) = code.split_once('.').unwrap_or((code, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    !whole.is_empty() && digits(whole) && digits(fraction)
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

    #[test]
    fn only_blocks_of_numbers_become_floats() {
        let mut codes: Vec<String> = vec!["V58.61".to_owned()];
        codes.extend(std::iter::repeat_n("17.".to_owned(), BLOCK_ROWS));
        codes.extend(["99.10".to_owned(), "nan".to_owned()]);
        let mut all: Vec<&mut String> = codes.iter_mut().collect();
        read_again(&mut all);
        assert_eq!(codes[BLOCK_ROWS - 1], "17.", "a block with a V code stays text");
        assert_eq!(codes[BLOCK_ROWS..], ["17.0", "99.1", ""]);

        let mut whole = vec!["486".to_owned(), "311".to_owned()];
        read_again(&mut whole.iter_mut().collect::<Vec<_>>());
        assert_eq!(whole, ["486", "311"], "whole numbers stay whole");
    }
}

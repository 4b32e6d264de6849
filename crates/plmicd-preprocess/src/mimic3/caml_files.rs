//! CAML's own tables, byte for byte as its scripts write them, so that programs made for them can read our data.
//!
//! Two things the scripts leave open are settled: rows of equal length keep their order (pandas sorts them in an order
//! that depends on its build), and the labels of the tables of frequent codes are sorted (there a set prints them).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use camino::Utf8Path;
use fs_err as fs;
use plmicd_data::Split;
use plmicd_pipeline::{StageContext, StageError};

use super::Key;
use super::caml::{CamlRow, caml_float};
use crate::spill::{Piece, Spill};

/// Folder of the artifact.
const FOLDER: &str = "caml";

/// Notes that a word must be in to be in the vocabulary.
const MIN_NOTES: u32 = 3;

/// A row of `notes_labeled.csv`.
pub struct CamlNote {
    pub key: Key,
    pub pieces: Vec<Piece>,
    /// With duplicates and empty ones.
    pub labels: Vec<String>,
    /// Its split in the lists of all codes.
    pub split: Option<Split>,
}

/// What the tables are made of.
pub struct CamlData<'a> {
    pub all_codes: &'a [CamlRow],
    pub filtered: &'a [(Key, String)],
    pub notes: &'a [CamlNote],
    /// Lists of the admissions with frequent codes, where there are any.
    pub top_lists: Option<&'a HashMap<u64, Split>>,
    /// How many codes are frequent.
    pub top_codes: usize,
}

/// Labels by how often they occur, empty ones included, ties in the order in which they are first seen.
pub fn top_codes(notes: &[CamlNote], number: usize) -> Vec<String> {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    let mut place: HashMap<&str, usize> = HashMap::new();
    for note in notes {
        // A cell without text reads as the label `nan`.
        let missing = note.labels.iter().all(String::is_empty) && note.labels.len() <= 1;
        let labels = note.labels.iter().map(String::as_str);
        for label in labels.map(|label| if missing { "nan" } else { label }) {
            let at = *place.entry(label).or_insert_with(|| {
                counts.push((label, 0));
                counts.len() - 1
            });
            counts[at].1 += 1;
        }
    }
    // Stable.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(number);
    counts.into_iter().map(|(label, _)| label.to_owned()).collect()
}

/// Writes all tables into the folder `caml` of the artifact.
pub fn write(data: &CamlData<'_>, spill: &mut Spill, context: &StageContext<'_>) -> Result<(), StageError> {
    let dir = context.output_dir().join(FOLDER);
    fs::create_dir(&dir)?;
    code_lists(data, &dir)?;
    let mut labelled = file(&dir.join("notes_labeled.csv"))?;
    write!(labelled, "SUBJECT_ID,HADM_ID,TEXT,LABELS\r\n")?;
    // A split without notes has its tables too.
    let listed = data.notes.iter().any(|note| note.split.is_some());
    let mut splits: BTreeMap<Split, Vec<usize>> =
        Split::ALL.into_iter().filter(|_| listed).map(|split| (split, Vec::new())).collect();
    let mut lengths = Vec::with_capacity(data.notes.len());
    let mut words: HashMap<String, u32> = HashMap::new();
    let total = data.notes.len() as u64;
    for (at, note) in data.notes.iter().enumerate() {
        if at.is_multiple_of(256) {
            context.check_interrupt()?;
            context.progress("writing CAML's tables", at as u64, Some(total), "notes");
        }
        let text = spill.join(&note.pieces)?;
        let (subject, admission) = note.key;
        write!(labelled, "{subject},{admission},{text},{}\r\n", note.labels.join(";"))?;
        // A missing text has the length of the word `nan`.
        lengths.push(text.split_whitespace().count().max(1));
        if let Some(split) = note.split {
            splits.entry(split).or_default().push(at);
            if split == Split::Train {
                let distinct: HashSet<&str> = text.split_whitespace().collect();
                for word in distinct {
                    match words.get_mut(word) {
                        Some(count) => *count += 1,
                        None => {
                            words.insert(word.to_owned(), 1);
                        }
                    }
                }
            }
        }
    }
    finish(labelled)?;
    vocabulary(words, &dir)?;
    for (split, mut rows) in splits {
        let name = format!("disch_{split}_split.csv");
        rows_of(data, &rows, None, spill, &dir.join(name))?;
        rows.sort_by_key(|at| lengths[*at]);
        rows_of(data, &rows, Some(&lengths), spill, &dir.join(format!("{split}_full.csv")))?;
    }
    let top = top_codes(data.notes, data.top_codes);
    let mut list = file(&dir.join(format!("TOP_{}_CODES.csv", data.top_codes)))?;
    for code in &top {
        write!(list, "{code}\r\n")?;
    }
    finish(list)?;
    match data.top_lists {
        Some(lists) => top_tables(data, lists, &top, &lengths, spill, &dir),
        None => {
            context.note(format!(
                "no lists of the admissions with frequent codes: CAML's tables of {} codes are not written",
                data.top_codes
            ));
            Ok(())
        }
    }
}

fn code_lists(data: &CamlData<'_>, dir: &Utf8Path) -> Result<(), StageError> {
    let mut all = file(&dir.join("ALL_CODES.csv"))?;
    writeln!(all, "ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE")?;
    // Where one number is missing, pandas reads the column as floating point.
    let floats = data.all_codes.iter().any(|row| row.sequence.is_empty());
    for row in data.all_codes {
        let (subject, admission) = row.key;
        let sequence = if floats { caml_float(&row.sequence) } else { row.sequence.clone() };
        writeln!(all, "{},{subject},{admission},{sequence},{}", row.row_id, row.code)?;
    }
    finish(all)?;
    let mut filtered = file(&dir.join("ALL_CODES_filtered.csv"))?;
    writeln!(filtered, "SUBJECT_ID,HADM_ID,ICD9_CODE,ADMITTIME,DISCHTIME")?;
    for ((subject, admission), code) in data.filtered {
        writeln!(filtered, "{subject},{admission},{code},,")?;
    }
    finish(filtered)
}

/// One word a line, sorted: the words of at least [`MIN_NOTES`] training notes.
fn vocabulary(words: HashMap<String, u32>, dir: &Utf8Path) -> Result<(), StageError> {
    let mut kept: Vec<String> =
        words.into_iter().filter(|(_, notes)| *notes >= MIN_NOTES).map(|(word, _)| word).collect();
    kept.sort_unstable();
    let mut vocabulary = file(&dir.join("vocab.csv"))?;
    for word in kept {
        writeln!(vocabulary, "{word}")?;
    }
    finish(vocabulary)
}

/// A table of the notes at these places, with a column of lengths if given.
fn rows_of(
    data: &CamlData<'_>,
    rows: &[usize],
    lengths: Option<&[usize]>,
    spill: &mut Spill,
    path: &Utf8Path,
) -> Result<(), StageError> {
    let mut table = file(path)?;
    writeln!(table, "SUBJECT_ID,HADM_ID,TEXT,LABELS{}", if lengths.is_some() { ",length" } else { "" })?;
    for &at in rows {
        let note = &data.notes[at];
        let (subject, admission) = note.key;
        let text = spill.join(&note.pieces)?;
        write!(table, "{subject},{admission},{text},{}", note.labels.join(";"))?;
        match lengths {
            Some(lengths) => writeln!(table, ",{}", lengths[at])?,
            None => writeln!(table)?,
        }
    }
    finish(table)
}

/// `{split}_50.csv` and so on: the listed admissions, of their labels the frequent ones.
fn top_tables(
    data: &CamlData<'_>,
    lists: &HashMap<u64, Split>,
    top: &[String],
    lengths: &[usize],
    spill: &mut Spill,
    dir: &Utf8Path,
) -> Result<(), StageError> {
    for split in Split::ALL {
        let mut rows: Vec<(usize, Vec<&str>)> = Vec::new();
        for (at, note) in data.notes.iter().enumerate() {
            if lists.get(&note.key.1) == Some(&split) {
                let labels = top_labels(&note.labels, top);
                if !labels.is_empty() {
                    rows.push((at, labels));
                }
            }
        }
        rows.sort_by_key(|(at, _)| lengths[*at]);
        let mut table = file(&dir.join(format!("{split}_{}.csv", data.top_codes)))?;
        writeln!(table, "SUBJECT_ID,HADM_ID,TEXT,LABELS,length")?;
        for (at, labels) in rows {
            let (subject, admission) = data.notes[at].key;
            let text = spill.join(&data.notes[at].pieces)?;
            writeln!(table, "{subject},{admission},{text},{},{}", labels.join(";"), lengths[at])?;
        }
        finish(table)?;
    }
    Ok(())
}

/// Those of the labels that are frequent, each once, sorted.
pub fn top_labels<'a>(labels: &'a [String], top: &[String]) -> Vec<&'a str> {
    let mut found: Vec<&str> =
        labels.iter().filter(|label| top.contains(label)).map(String::as_str).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn file(path: &Utf8Path) -> std::io::Result<std::io::BufWriter<fs::File>> {
    Ok(std::io::BufWriter::with_capacity(1 << 18, fs::File::create(path)?))
}

fn finish(mut file: impl Write) -> Result<(), StageError> {
    Ok(file.flush()?)
}

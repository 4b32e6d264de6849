//! CAML's own tables, byte for byte as its scripts write them, so that programs made for them can read our data.
//!
//! `disch_full.csv` and `ALL_CODES_filtered.csv` are as the last script that rewrites them leaves them, sorted.
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
use super::caml::CamlRow;
use super::columns::{self, MISSING};
use super::notes::Admission;
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
    pub admissions: &'a [Admission],
    pub filtered: &'a [(Key, String)],
    pub notes: &'a [CamlNote],
    /// Lists of the admissions with frequent codes, where there are any.
    pub top_lists: Option<&'a HashMap<u64, Split>>,
    /// How many codes are frequent.
    pub top_codes: usize,
}

/// Labels by how often they occur, empty ones included, ties in the order in which they are first seen.
pub fn top_codes(notes: &[CamlNote], number: usize) -> Vec<String> {
    let mut counts: Vec<(String, u64)> = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::new();
    for cell in label_cells(notes.iter().map(|note| note.labels.join(";"))) {
        // A cell without text reads as the label `nan`.
        for label in (if cell.is_empty() { MISSING } else { cell.as_str() }).split(';') {
            match place.get(label) {
                Some(&at) => counts[at].1 += 1,
                None => {
                    place.insert(label.to_owned(), counts.len());
                    counts.push((label.to_owned(), 1));
                }
            }
        }
    }
    // Stable.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(number);
    counts.into_iter().map(|(label, _)| label).collect()
}

/// The cells of a column of labels as pandas reads them.
fn label_cells(cells: impl Iterator<Item = String>) -> Vec<String> {
    let mut cells: Vec<String> = cells.collect();
    columns::read_again(&mut cells.iter_mut().collect::<Vec<_>>());
    cells
}

/// Writes all tables into the folder `caml` of the artifact.
pub fn write(data: &CamlData<'_>, spill: &mut Spill, context: &StageContext<'_>) -> Result<(), StageError> {
    let dir = context.output_dir().join(FOLDER);
    fs::create_dir(&dir)?;
    code_lists(data, &dir)?;
    summaries(data.admissions, spill, &dir)?;
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
        let text = joined(&note.pieces, spill)?;
        let (subject, admission) = note.key;
        write!(labelled, "{subject},{admission},{text},{}\r\n", note.labels.join(";"))?;
        // A missing text has the length of the word `nan`.
        lengths.push(if columns::is_missing(&text) { 1 } else { text.split_whitespace().count() });
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
    for (split, rows) in splits {
        let name = format!("disch_{split}_split.csv");
        split_table(data, &rows, spill, &dir.join(name))?;
        let rows = rows.into_iter().map(|at| (at, data.notes[at].labels.join(";"))).collect();
        sorted_table(data, rows, &lengths, spill, &dir.join(format!("{split}_full.csv")))?;
    }
    let top = top_codes(data.notes, data.top_codes);
    let mut list = file(&dir.join(format!("TOP_{}_CODES.csv", data.top_codes)))?;
    for code in &top {
        // Python quotes the one field of a row if it is empty.
        write!(list, "{}\r\n", if code.is_empty() { "\"\"" } else { code })?;
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
        let sequence = if floats { columns::float(&row.sequence) } else { row.sequence.clone() };
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

/// `disch_full.csv`: every summary, empty ones too, by subject and admission.
fn summaries(admissions: &[Admission], spill: &mut Spill, dir: &Utf8Path) -> Result<(), StageError> {
    let mut table = file(&dir.join("disch_full.csv"))?;
    writeln!(table, "SUBJECT_ID,HADM_ID,CHARTTIME,TEXT")?;
    for admission in admissions {
        for (piece, time) in admission.pieces.iter().zip(&admission.times) {
            let text = spill.join(&[*piece])?;
            writeln!(table, "{},{},{time},{}", admission.subject, admission.admission, as_cell(&text))?;
        }
    }
    finish(table)
}

/// The summaries of an admission, joined, as they come out of `disch_full.csv`.
fn joined(pieces: &[Piece], spill: &mut Spill) -> Result<String, StageError> {
    let texts: std::io::Result<Vec<String>> =
        pieces.iter().map(|piece| Ok(as_cell(&spill.join(&[*piece])?).to_owned())).collect();
    Ok(texts?.join(" "))
}

/// A text that pandas has read: one that it takes for missing is empty.
fn as_cell(text: &str) -> &str {
    if columns::is_missing(text) { "" } else { text }
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

/// `disch_{split}_split.csv`: the notes at these places, as they are.
fn split_table(
    data: &CamlData<'_>,
    rows: &[usize],
    spill: &mut Spill,
    path: &Utf8Path,
) -> Result<(), StageError> {
    let mut table = file(path)?;
    writeln!(table, "SUBJECT_ID,HADM_ID,TEXT,LABELS")?;
    for &at in rows {
        let note = &data.notes[at];
        let (subject, admission) = note.key;
        writeln!(table, "{subject},{admission},{},{}", joined(&note.pieces, spill)?, note.labels.join(";"))?;
    }
    finish(table)
}

/// `{split}_full.csv` and so on: notes with their labels, read by pandas and sorted by their lengths.
fn sorted_table(
    data: &CamlData<'_>,
    rows: Vec<(usize, String)>,
    lengths: &[usize],
    spill: &mut Spill,
    path: &Utf8Path,
) -> Result<(), StageError> {
    let (places, labels): (Vec<usize>, Vec<String>) = rows.into_iter().unzip();
    let mut rows: Vec<(usize, String)> = places.into_iter().zip(label_cells(labels.into_iter())).collect();
    rows.sort_by_key(|(at, _)| lengths[*at]);
    let mut table = file(path)?;
    writeln!(table, "SUBJECT_ID,HADM_ID,TEXT,LABELS,length")?;
    for (at, labels) in rows {
        let (subject, admission) = data.notes[at].key;
        let text = joined(&data.notes[at].pieces, spill)?;
        let text = as_cell(&text);
        writeln!(table, "{subject},{admission},{text},{labels},{}", lengths[at])?;
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
        let mut rows: Vec<(usize, String)> = Vec::new();
        for (at, note) in data.notes.iter().enumerate() {
            if lists.get(&note.key.1) == Some(&split) {
                let labels = top_labels(&note.labels, top);
                if !labels.is_empty() {
                    rows.push((at, labels.join(";")));
                }
            }
        }
        let name = format!("{split}_{}.csv", data.top_codes);
        sorted_table(data, rows, lengths, spill, &dir.join(name))?;
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

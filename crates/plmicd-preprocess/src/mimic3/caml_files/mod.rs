//! CAML's own tables, byte for byte as its scripts write them, so that programs made for them can read our data.
//!
//! `disch_full.csv` and `ALL_CODES_filtered.csv` are as the last script that rewrites them leaves them, sorted.
//!
//! Two things the scripts leave open are settled: rows of equal length keep their order (pandas sorts them in an order
//! that depends on its build), and the labels of the tables of frequent codes are sorted (there a set prints them).

mod tables;
mod vocabulary;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::mpsc::channel;
use std::thread;

use camino::Utf8Path;
use fs_err as fs;
use plmicd_data::Split;
use plmicd_pipeline::{StageContext, StageError};
use rayon::prelude::*;

use self::tables::{Progress, Table};
use super::Key;
use super::caml::CamlRow;
use super::columns::{self, MISSING};
use super::notes::Admission;
use crate::spill::{Piece, Spill};

/// Folder of the artifact.
const FOLDER: &str = "caml";

/// A row of `notes_labeled.csv`.
pub struct CamlNote {
    pub key: Key,
    pub pieces: Vec<Piece>,
    /// Of all of its summaries.
    pub words: u64,
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

/// Writes all tables into the folder `caml` of the artifact, several at a time: together they hold every text four
/// times.
pub fn write(data: &CamlData<'_>, spill: &Spill, context: &StageContext<'_>) -> Result<(), StageError> {
    let dir = context.output_dir().join(FOLDER);
    fs::create_dir(&dir)?;
    code_lists(data, &dir)?;
    let top = top_codes(data.notes, data.top_codes);
    let mut list = file(&dir.join(format!("TOP_{}_CODES.csv", data.top_codes)))?;
    for code in &top {
        // Python quotes the one field of a row if it is empty.
        write!(list, "{}\r\n", if code.is_empty() { "\"\"" } else { code })?;
    }
    finish(list)?;
    if data.top_lists.is_none() {
        context.note(format!(
            "no lists of the admissions with frequent codes: CAML's tables of {} codes are not written",
            data.top_codes
        ));
    }
    let tables = tables_of_notes(data, &top, spill)?;
    let total = tables.iter().map(|table| table.rows(data)).sum();
    let (sender, receiver) = channel::<fs::File>();
    let workers = rayon::ThreadPoolBuilder::new().num_threads(context.runtime().thread_count()).build();
    let workers = workers.map_err(|e| StageError::because("starting worker threads", e))?;
    thread::scope(|scope| {
        // The disk writes while more is made; else the store would wait for all of it at the end.
        let syncing = scope.spawn(move || receiver.into_iter().try_for_each(|file| file.sync_data()));
        let progress = Progress::new(context, total, sender);
        // Each worker takes the next table: the largest come first.
        let written = workers.install(|| {
            tables.into_iter().par_bridge().try_for_each(|table| table.write(data, spill, &dir, &progress))
        });
        drop(progress);
        syncing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        written
    })
}

/// The tables that hold texts, or are made from them.
fn tables_of_notes(data: &CamlData<'_>, top: &[String], spill: &Spill) -> Result<Vec<Table>, StageError> {
    let lengths: std::io::Result<Vec<u64>> = data.notes.iter().map(|note| length(note, spill)).collect();
    let lengths = lengths?;
    let sorted = |name: String, rows: Vec<(usize, String)>| {
        let (places, labels): (Vec<usize>, Vec<String>) = rows.into_iter().unzip();
        let rows = places.into_iter().zip(label_cells(labels.into_iter()));
        let mut rows: Vec<(usize, String, u64)> =
            rows.map(|(at, labels)| (at, labels, lengths[at])).collect();
        rows.sort_by_key(|(_, _, length)| *length);
        Table::Sorted { name, rows }
    };
    // A split without notes has its tables too.
    let listed = data.notes.iter().any(|note| note.split.is_some());
    let mut splits: BTreeMap<Split, Vec<usize>> =
        Split::ALL.into_iter().filter(|_| listed).map(|split| (split, Vec::new())).collect();
    for (at, note) in data.notes.iter().enumerate() {
        if let Some(split) = note.split {
            splits.entry(split).or_default().push(at);
        }
    }
    let mut tables = vec![
        Table::Summaries,
        Table::Labelled,
        Table::Vocabulary(splits.get(&Split::Train).cloned().unwrap_or_default()),
    ];
    for (split, places) in splits {
        let rows = places.iter().map(|&at| (at, data.notes[at].labels.join(";"))).collect();
        tables.push(sorted(format!("{split}_full.csv"), rows));
        tables.push(Table::Split { name: format!("disch_{split}_split.csv"), places });
    }
    for split in Split::ALL.into_iter().filter(|_| data.top_lists.is_some()) {
        let in_split =
            |note: &CamlNote| data.top_lists.is_some_and(|lists| lists.get(&note.key.1) == Some(&split));
        let listed = data.notes.iter().enumerate().filter(|(_, note)| in_split(note));
        let labels = listed.map(|(at, note)| (at, top_labels(&note.labels, top).join(";")));
        // Notes without any of them are left out.
        let rows = labels.filter(|(_, labels)| !labels.is_empty()).collect();
        tables.push(sorted(format!("{split}_{}.csv", data.top_codes), rows));
    }
    tables.sort_by_key(|table| std::cmp::Reverse(table.rows(data)));
    Ok(tables)
}

/// Words of a note as `disch_full.csv` gives it back; a missing text has the length of the word `nan`.
fn length(note: &CamlNote, spill: &Spill) -> std::io::Result<u64> {
    let mut words = note.words;
    for &piece in &note.pieces {
        if columns::may_be_missing(piece.len()) && columns::is_missing(spill.join(&[piece])?.as_bytes()) {
            if note.pieces.len() == 1 {
                return Ok(1);
            }
            words -= u64::from(piece.len() > 0);
        }
    }
    Ok(words)
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

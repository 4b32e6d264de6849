//! Tables that hold the texts of notes.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use camino::Utf8Path;
use fs_err as fs;
use plmicd_pipeline::{StageContext, StageError};

use super::{CamlData, CamlNote, columns, vocabulary};
use crate::spill::{Piece, Spill};

/// Bytes after which a table's rows are handed to the system.
const BUFFER: usize = 1 << 20;

/// Bytes of a table after which the disk is asked to write them.
const SYNC_BYTES: usize = 64 << 20;

/// Rows after which progress is reported.
const REPORT_ROWS: u64 = 1024;

/// A table that is made from the texts; places are those in [`CamlData::notes`].
pub enum Table {
    /// `disch_full.csv`: every summary, empty ones too, by subject and admission.
    Summaries,
    /// `notes_labeled.csv`: every note with its labels.
    Labelled,
    /// `vocab.csv`: the words of the training notes, which are at these places.
    Vocabulary(Vec<usize>),
    /// `disch_{split}_split.csv`: some of the notes, as they are.
    Split { name: String, places: Vec<usize> },
    /// `{split}_full.csv` and so on: (place, labels, words), read by pandas and sorted by words.
    Sorted { name: String, rows: Vec<(usize, String, u64)> },
}

impl Table {
    /// Number of texts read for it.
    pub fn rows(&self, data: &CamlData<'_>) -> u64 {
        let rows = match self {
            Self::Summaries => data.admissions.iter().map(|admission| admission.pieces.len()).sum(),
            Self::Labelled => data.notes.len(),
            Self::Vocabulary(places) | Self::Split { places, .. } => places.len(),
            Self::Sorted { rows, .. } => rows.len(),
        };
        rows as u64
    }

    /// Writes it into the folder.
    pub fn write(
        self,
        data: &CamlData<'_>,
        spill: &Spill,
        dir: &Utf8Path,
        progress: &Progress<'_, '_>,
    ) -> Result<(), StageError> {
        let create = |name: &str, header: &str| TextTable::create(&dir.join(name), header, spill, progress);
        match self {
            Self::Summaries => {
                let mut table = create("disch_full.csv", "SUBJECT_ID,HADM_ID,CHARTTIME,TEXT\n")?;
                for admission in data.admissions {
                    let (subject, id) = (admission.subject, admission.admission);
                    for (piece, time) in admission.pieces.iter().zip(&admission.times) {
                        table.row(format_args!("{subject},{id},{time},"), &[*piece], format_args!("\n"))?;
                    }
                }
                table.finish()
            }
            Self::Labelled => {
                let mut table = create("notes_labeled.csv", "SUBJECT_ID,HADM_ID,TEXT,LABELS\r\n")?;
                for note in data.notes {
                    table.note(note, format_args!(",{}\r\n", note.labels.join(";")))?;
                }
                table.finish()
            }
            Self::Vocabulary(places) => vocabulary::write(data, &places, spill, dir, progress),
            Self::Split { name, places } => {
                let mut table = create(&name, "SUBJECT_ID,HADM_ID,TEXT,LABELS\n")?;
                for note in places.into_iter().map(|at| &data.notes[at]) {
                    table.note(note, format_args!(",{}\n", note.labels.join(";")))?;
                }
                table.finish()
            }
            Self::Sorted { name, rows } => {
                let mut table = create(&name, "SUBJECT_ID,HADM_ID,TEXT,LABELS,length\n")?;
                for (at, labels, words) in rows {
                    table.note(&data.notes[at], format_args!(",{labels},{words}\n"))?;
                }
                table.finish()
            }
        }
    }
}

/// Appends the summaries of an admission, joined, as they come out of `disch_full.csv`: one that pandas takes for missing
/// is empty. So nothing is left that it would take for missing when it reads the joined text again.
pub fn append(pieces: &[Piece], spill: &Spill, to: &mut Vec<u8>) -> std::io::Result<()> {
    for (i, piece) in pieces.iter().enumerate() {
        if i > 0 {
            to.push(b' ');
        }
        let start = to.len();
        spill.append(*piece, to)?;
        if columns::is_missing(&to[start..]) {
            to.truncate(start);
        }
    }
    Ok(())
}

/// A table being written. Texts go from file to file without a stop in between.
struct TextTable<'a, 'c, 's> {
    file: fs::File,
    buffer: Vec<u8>,
    /// Bytes that the disk was not asked to write yet.
    unsynced: usize,
    spill: &'a Spill,
    progress: &'a Progress<'c, 's>,
}

impl<'a, 'c, 's> TextTable<'a, 'c, 's> {
    fn create(
        path: &Utf8Path,
        header: &str,
        spill: &'a Spill,
        progress: &'a Progress<'c, 's>,
    ) -> Result<Self, StageError> {
        let mut buffer = Vec::with_capacity(2 * BUFFER);
        buffer.extend_from_slice(header.as_bytes());
        Ok(Self { file: fs::File::create(path)?, buffer, unsynced: 0, spill, progress })
    }

    /// Writes the row of a note: subject, admission, its text, and what comes after.
    fn note(&mut self, note: &CamlNote, after: Arguments<'_>) -> Result<(), StageError> {
        let (subject, id) = note.key;
        self.row(format_args!("{subject},{id},"), &note.pieces, after)
    }

    /// Writes a row: the joined texts between two others.
    fn row(
        &mut self,
        before: Arguments<'_>,
        pieces: &[Piece],
        after: Arguments<'_>,
    ) -> Result<(), StageError> {
        self.buffer.write_fmt(before)?;
        append(pieces, self.spill, &mut self.buffer)?;
        self.buffer.write_fmt(after)?;
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        self.progress.advance()
    }

    fn flush(&mut self) -> Result<(), StageError> {
        self.file.write_all(&self.buffer)?;
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            // The other side has stopped and says why.
            let _ = self.progress.written.send(self.file.try_clone()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), StageError> {
        self.flush()
    }
}

/// Counts the rows of all tables, and looks for interrupts.
pub struct Progress<'c, 's> {
    context: &'c StageContext<'s>,
    done: AtomicU64,
    total: u64,
    /// Takes files that the disk should write.
    written: Sender<fs::File>,
}

impl<'c, 's> Progress<'c, 's> {
    /// Of so many rows in all.
    pub fn new(context: &'c StageContext<'s>, total: u64, written: Sender<fs::File>) -> Self {
        Self { context, done: AtomicU64::new(0), total, written }
    }

    /// One row more.
    pub fn advance(&self) -> Result<(), StageError> {
        let before = self.done.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(REPORT_ROWS) {
            self.context.check_interrupt()?;
            self.context.progress("writing CAML's tables", before, Some(self.total), "rows");
        }
        Ok(())
    }
}

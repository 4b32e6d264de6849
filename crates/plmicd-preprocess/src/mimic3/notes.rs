//! `NOTEEVENTS`: the discharge summaries of each admission.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use camino::Utf8Path;
use plmicd_pipeline::{StageContext, StageError};
use rayon::prelude::*;

use crate::config::{Compat, PreprocessConfig};
use crate::corpus::{Exclusions, mended_warning};
use crate::encoding::mend;
use crate::spill::{Piece, Spill, SpillWriter};
use crate::table::{ReadProgress, Table};
use crate::text::{TextCleaning, TextRules, count_words};

const SUBJECT: usize = 0;
const ADMISSION: usize = 1;
const TEXT: usize = 2;
/// Only in MIMIC-III, whose table holds notes of every kind.
const CATEGORY: usize = 3;
/// Only in MIMIC-III, and not needed: which row it is, and when the note was written.
const ROW: usize = 4;
const TIME: usize = 5;

/// Texts are handed to the workers in batches of about this size, so that at most three of them are in memory.
const BATCH_BYTES: usize = 8 << 20;

/// Rows after which a batch is handed on even if it is small: with it come progress and a look for interrupts,
/// and nearly all rows of the table are of other categories.
const BATCH_ROWS: usize = 1 << 16;

/// The open table.
pub struct NoteTable {
    table: Table,
    layout: Layout,
}

/// Which table of notes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `NOTEEVENTS` of MIMIC-III: discharge summaries are one category of many.
    NoteEvents,
    /// `discharge` of MIMIC-IV: discharge summaries alone; a text that an admission has twice counts once, as in
    /// Edin et al. 2023.
    Discharge,
}

impl Layout {
    fn table(self) -> &'static str {
        match self {
            Self::NoteEvents => "NOTEEVENTS",
            Self::Discharge => "discharge",
        }
    }
}

/// What is kept of what is usually left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Summaries that are empty after cleaning, and rows that the table has twice.
    pub everything: bool,
    /// When each summary was written.
    pub times: bool,
}

impl Keep {
    /// CAML's scripts keep empty summaries and rows that occur twice, and write times into one of their tables.
    pub fn of(config: &PreprocessConfig) -> Self {
        let caml = config.compat == Compat::Caml;
        Self { everything: caml, times: caml && config.caml_files }
    }
}

/// An admission with at least one summary that is not empty.
#[derive(Debug)]
pub struct Admission {
    /// `SUBJECT_ID`.
    pub subject: u64,
    /// `HADM_ID`.
    pub admission: u64,
    /// Its summaries, in the order of the file.
    pub pieces: Vec<Piece>,
    /// `CHARTTIME` of each, where it is kept; else none.
    pub times: Vec<String>,
    /// Words of all of them.
    pub words: u64,
}

struct RawNote {
    subject: u64,
    admission: u64,
    time: Option<String>,
    text: Vec<u8>,
}

#[derive(Default)]
struct RowCounts {
    other_category: u64,
    without_admission: u64,
    repeated: u64,
    repeated_rows: u64,
    /// A warning of text after closing quotes.
    stray_texts: Option<String>,
}

struct Summary {
    subject: u64,
    admission: u64,
    time: Option<String>,
    piece: Piece,
    words: u64,
}

impl NoteTable {
    /// Opens the table and checks its header. `as_pandas` tells what becomes of text after a closing quote.
    pub fn open(path: &Utf8Path, layout: Layout, as_pandas: bool) -> Result<Self, StageError> {
        let (columns, further): (&[&str], &[&str]) = match layout {
            Layout::NoteEvents => (&["SUBJECT_ID", "HADM_ID", "TEXT", "CATEGORY"], &["ROW_ID", "CHARTTIME"]),
            Layout::Discharge => (&["subject_id", "hadm_id", "text"], &[]),
        };
        let table = Table::open(path, b',', columns, further)?.keeping_stray_text(as_pandas);
        Ok(Self { table, layout })
    }

    /// Cleans every discharge summary. Admissions come in the order of (subject, admission). Those that are empty after
    /// cleaning and rows that the table has twice are left out unless `keep` says otherwise.
    pub fn read(
        self,
        rules: TextRules,
        keep: Keep,
        context: &StageContext<'_>,
        exclusions: &mut Exclusions,
    ) -> Result<(Vec<Admission>, Spill), StageError> {
        let progress = self.table.progress();
        let layout = self.layout;
        // The rule of Edin et al. is for the joined note, in which even a summary without a word puts white space after the
        // one before it.
        let keep_empty = keep.everything || rules.cleaning == TextCleaning::Edin;
        let (sender, receiver) = sync_channel(1);
        thread::scope(|scope| {
            let reader = scope.spawn(move || read_rows(self.table, layout, keep, &sender));
            // Ends early on an error or interrupt; dropping the receiver then stops the reader.
            let cleaned = clean_batches(
                receiver,
                rules,
                keep_empty,
                &format!("reading {}", layout.table()),
                &progress,
                context,
            );
            let counts = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (summaries, spill, clean_counts) = cleaned?;
            let counts = counts?;
            exclusions.add(
                counts.other_category,
                "rows",
                "of NOTEEVENTS of another category than Discharge summary",
            );
            exclusions.add(counts.without_admission, "rows", "of discharge summaries without an admission");
            exclusions.add(counts.repeated, "rows", "repeating a text of the same admission");
            exclusions.add(counts.repeated_rows, "rows", "of discharge summaries that repeat an earlier row");
            let mut admissions = group(summaries);
            let mut empty = clean_counts.empty;
            if !keep.everything {
                admissions.retain(|admission| {
                    empty += if admission.words == 0 { admission.pieces.len() as u64 } else { 0 };
                    admission.words > 0
                });
            }
            exclusions.add(empty, "rows", "of discharge summaries that are empty after cleaning");
            if clean_counts.mended_bytes > 0 {
                let (bytes, notes) = (clean_counts.mended_bytes, clean_counts.mended_notes);
                context.warn(mended_warning(bytes, notes, "notes"));
                exclusions.add_mended(bytes);
            }
            counts.stray_texts.into_iter().for_each(|warning| context.warn(warning));
            Ok((admissions, spill))
        })
    }
}

/// Runs on its own thread: the parser is sequential, cleaning is not.
fn read_rows(
    mut table: Table,
    layout: Layout,
    keep: Keep,
    sender: &SyncSender<Vec<RawNote>>,
) -> Result<RowCounts, StageError> {
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let mut counts = RowCounts::default();
    let mut batch = Vec::new();
    let (mut bytes, mut rows) = (0, 0);
    while table.advance()? {
        rows += 1;
        if bytes >= BATCH_BYTES || rows >= BATCH_ROWS {
            (bytes, rows) = (0, 0);
            if sender.send(std::mem::take(&mut batch)).is_err() {
                // The other side stopped and says why.
                return Ok(counts);
            }
        }
        if layout == Layout::NoteEvents && table.field(CATEGORY).trim_ascii() != b"Discharge summary" {
            counts.other_category += 1;
            continue;
        }
        let Some(admission) = table.number(ADMISSION)? else {
            counts.without_admission += 1;
            continue;
        };
        let subject =
            table.number(SUBJECT)?.ok_or_else(|| table.bad(SUBJECT, "is empty; expected a number"))?;
        // MIMIC-III may say the same twice and counts both; the same row twice is a fault of the file.
        let numbered = layout == Layout::NoteEvents && !keep.everything && !table.field(ROW).is_empty();
        if layout == Layout::Discharge || numbered {
            // 64 bits within one admission's few notes: two texts with the same hash do not happen.
            let mut hasher = DefaultHasher::new();
            table.field(TEXT).hash(&mut hasher);
            if numbered {
                (subject, table.field(ROW)).hash(&mut hasher);
            }
            if !seen.insert((admission, hasher.finish())) {
                match layout {
                    Layout::Discharge => counts.repeated += 1,
                    Layout::NoteEvents => counts.repeated_rows += 1,
                }
                continue;
            }
        }
        let text = table.field(TEXT).to_vec();
        bytes += text.len();
        let time = keep.times.then(|| table.text(TIME));
        batch.push(RawNote { subject, admission, time, text });
    }
    counts.stray_texts = table.stray_texts();
    let _ = sender.send(batch);
    Ok(counts)
}

#[derive(Default)]
struct CleanCounts {
    empty: u64,
    mended_bytes: u64,
    mended_notes: u64,
}

fn clean_batches(
    batches: Receiver<Vec<RawNote>>,
    rules: TextRules,
    keep_empty: bool,
    phase: &str,
    progress: &ReadProgress,
    context: &StageContext<'_>,
) -> Result<(Vec<Summary>, Spill, CleanCounts), StageError> {
    let workers = rayon::ThreadPoolBuilder::new()
        .num_threads(context.runtime().thread_count())
        .build()
        .map_err(|e| StageError::because("starting worker threads", e))?;
    let mut spill = SpillWriter::create(context.work_dir())?;
    let mut summaries = Vec::new();
    let mut counts = CleanCounts::default();
    for batch in batches {
        context.check_interrupt()?;
        context.progress(phase, progress.done(), Some(progress.total), "bytes");
        let cleaned: Vec<(RawNote, String, u64, u64)> = workers.install(|| {
            batch
                .into_par_iter()
                .map(|mut note| {
                    let (text, mended) = mend(std::mem::take(&mut note.text));
                    let text = rules.apply(&text);
                    let words = count_words(&text);
                    (note, text, words, mended)
                })
                .collect()
        });
        for (RawNote { subject, admission, time, .. }, text, words, mended) in cleaned {
            counts.mended_bytes += mended;
            counts.mended_notes += u64::from(mended > 0);
            if words == 0 && !keep_empty {
                counts.empty += 1;
                continue;
            }
            summaries.push(Summary { subject, admission, time, piece: spill.push(&text)?, words });
        }
    }
    Ok((summaries, spill.finish()?, counts))
}

/// Stable by (subject, admission), so that an addendum that precedes its report in the file stays first.
fn group(mut summaries: Vec<Summary>) -> Vec<Admission> {
    summaries.sort_by_key(|summary| (summary.subject, summary.admission));
    let mut admissions: Vec<Admission> = Vec::new();
    for summary in summaries {
        match admissions.last_mut() {
            Some(last) if (last.subject, last.admission) == (summary.subject, summary.admission) => {
                last.pieces.push(summary.piece);
                last.times.extend(summary.time);
                last.words += summary.words;
            }
            _ => admissions.push(Admission {
                subject: summary.subject,
                admission: summary.admission,
                pieces: vec![summary.piece],
                times: summary.time.into_iter().collect(),
                words: summary.words,
            }),
        }
    }
    admissions
}

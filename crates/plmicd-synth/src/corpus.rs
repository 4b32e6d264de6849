//! Writes a corpus: batches of admissions are made in parallel and written in order.

use std::io::Write as _;
use std::ops::{ControlFlow, Range};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use plmicd_data::Split;
use rayon::prelude::*;
use serde::Serialize;

use crate::admission::Admission;
use crate::block::Block;
use crate::codes::System;
use crate::config::SynthConfig;
use crate::error::SynthError;
use crate::world::World;
use crate::{code_tables, noteevents};

/// Admissions made by one thread at a time: about a megabyte of notes.
const CHUNK: u64 = 64;
/// Chunks made before the next batch is written, per thread: bounds the memory.
const CHUNKS_PER_THREAD: u64 = 4;

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CorpusSummary {
    /// Admissions.
    pub admissions: u64,
    /// Subjects they belong to.
    pub subjects: u64,
    /// Rows of NOTEEVENTS.csv.
    pub note_rows: u64,
    /// Of these, discharge summaries (reports and addenda).
    pub discharge_summaries: u64,
    /// Words of the discharge summaries.
    pub words: u64,
    /// Rows of DIAGNOSES_ICD.csv.
    pub diagnosis_rows: u64,
    /// Rows of PROCEDURES_ICD.csv.
    pub procedure_rows: u64,
    /// Admissions in the train, dev and test lists (those with a discharge summary).
    pub split_admissions: [u64; 3],
    /// Bytes of all files.
    pub bytes: u64,
}

/// Writes the tables and the split lists of a corpus into `out_dir`, which is created if absent.
///
/// The bytes depend on `config` only, not on `threads`. `progress` hears how many of the admissions to go
/// through (once per block of a file) are done, and may stop the work. Existing files are never overwritten,
/// and files appear under their names only when all are complete.
///
/// # Errors
/// A setting out of range, a file in the way, [`SynthError::Stopped`], or a failure to write.
pub fn generate(
    config: &SynthConfig,
    out_dir: &Utf8Path,
    threads: usize,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<CorpusSummary, SynthError> {
    let world = World::new(config)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|source| SynthError::Threads { threads, source })?;
    let passes = noteevents::passes();
    // Every pass over the admissions counts once: the notes, two code tables and the split lists.
    let total = world.cohort.admissions() * (passes.len() as u64 + 3);
    let mut generator = Generator { world: &world, pool, progress, done: 0, total };
    let mut summary = CorpusSummary {
        admissions: world.cohort.admissions(),
        subjects: world.cohort.subjects(),
        ..CorpusSummary::default()
    };

    let mut files = Vec::new();
    let mut notes = PendingTable::create(out_dir, "NOTEEVENTS.csv", noteevents::COLUMNS)?;
    for pass in passes {
        let words = generator.write(&mut notes, |world, range| noteevents::make(world, pass, range))?;
        if !matches!(pass, noteevents::Pass::Other(_)) {
            summary.words += words;
            summary.discharge_summaries = notes.rows;
        }
    }
    summary.note_rows = notes.rows;
    files.push(notes);
    let tables = [
        (System::Diagnosis, "DIAGNOSES_ICD.csv", "D_ICD_DIAGNOSES.csv", &mut summary.diagnosis_rows),
        (System::Procedure, "PROCEDURES_ICD.csv", "D_ICD_PROCEDURES.csv", &mut summary.procedure_rows),
    ];
    for (system, assigned, dictionary, rows) in tables {
        let mut table = PendingTable::create(out_dir, assigned, code_tables::COLUMNS)?;
        generator.write(&mut table, |world, range| code_tables::make(world, system, range))?;
        *rows = table.rows;
        files.push(table);
        let mut table = PendingTable::create(out_dir, dictionary, code_tables::DICTIONARY_COLUMNS)?;
        table.append(&code_tables::dictionary(&world, system))?;
        files.push(table);
    }
    let lists = Split::ALL.map(|split| format!("splits/{split}_full_hadm_ids.csv"));
    let mut lists =
        lists.iter().map(|name| PendingTable::create(out_dir, name, &[])).collect::<Result<Vec<_>, _>>()?;
    generator.write_splits(&mut lists)?;
    for (count, list) in summary.split_admissions.iter_mut().zip(&lists) {
        *count = list.rows;
    }
    files.extend(lists);

    for file in &mut files {
        summary.bytes += file.finish()?;
    }
    for file in &mut files {
        file.publish()?;
    }
    tracing::info!(
        admissions = summary.admissions,
        notes = summary.note_rows,
        bytes = summary.bytes,
        "corpus made"
    );
    Ok(summary)
}

struct Generator<'a> {
    world: &'a World,
    pool: rayon::ThreadPool,
    progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    done: u64,
    total: u64,
}

impl Generator<'_> {
    /// Applies `make` to chunks of all admissions in parallel and `take` to the results in order.
    fn in_order<T: Send>(
        &mut self,
        make: impl Fn(&World, Range<u64>) -> T + Sync,
        mut take: impl FnMut(T) -> Result<(), SynthError>,
    ) -> Result<(), SynthError> {
        let (world, admissions) = (self.world, self.world.cohort.admissions());
        let batch = CHUNK * CHUNKS_PER_THREAD * self.pool.current_num_threads() as u64;
        for start in (0..admissions).step_by(batch as usize) {
            let end = (start + batch).min(admissions);
            let chunks: Vec<Range<u64>> =
                (start..end).step_by(CHUNK as usize).map(|at| at..(at + CHUNK).min(end)).collect();
            let made: Vec<T> =
                self.pool.install(|| chunks.into_par_iter().map(|range| make(world, range)).collect());
            for part in made {
                take(part)?;
            }
            self.done += end - start;
            if (self.progress)(self.done, self.total).is_break() {
                return Err(SynthError::Stopped);
            }
        }
        Ok(())
    }

    /// Appends the rows that `make` gives for all admissions; returns the words it counted.
    fn write(
        &mut self,
        table: &mut PendingTable,
        make: impl Fn(&World, Range<u64>) -> Block + Sync,
    ) -> Result<u64, SynthError> {
        let mut words = 0;
        self.in_order(make, |block| {
            words += block.words;
            table.append(&block)
        })?;
        Ok(words)
    }

    /// Lists the admissions that have a discharge summary, by the split of their subject.
    fn write_splits(&mut self, lists: &mut [PendingTable]) -> Result<(), SynthError> {
        let make = |world: &World, range: Range<u64>| -> Vec<(Split, u64)> {
            let admissions = range.map(|index| Admission::draw(world, index));
            admissions.filter(|a| a.has_note).map(|a| (a.split, a.hadm_id)).collect()
        };
        self.in_order(make, |listed| {
            for (split, admission) in listed {
                lists[split as usize].line(&admission.to_string())?;
            }
            Ok(())
        })
    }
}

/// A file under a temporary name, removed unless it is published.
struct PendingTable {
    path: Utf8PathBuf,
    temporary: Utf8PathBuf,
    file: Option<std::io::BufWriter<fs::File>>,
    published: bool,
    rows: u64,
}

impl PendingTable {
    /// Starts the file with its header (none if there are no columns).
    fn create(dir: &Utf8Path, name: &str, columns: &[&str]) -> Result<Self, SynthError> {
        let path = dir.join(name);
        if path.exists() {
            return Err(SynthError::Exists { path });
        }
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        let temporary = Utf8PathBuf::from(format!("{path}.tmp"));
        let mut file = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(&temporary)?);
        if !columns.is_empty() {
            let quoted: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
            writeln!(file, "{}", quoted.join(","))?;
        }
        Ok(Self { path, temporary, file: Some(file), published: false, rows: 0 })
    }

    /// Appends the rows of a block, numbered from where the last one ended.
    fn append(&mut self, block: &Block) -> Result<(), SynthError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        for row in block.rows() {
            self.rows += 1;
            write!(file, "{}", self.rows)?;
            file.write_all(row)?;
        }
        Ok(())
    }

    /// Appends a line.
    fn line(&mut self, text: &str) -> Result<(), SynthError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.rows += 1;
        writeln!(file, "{text}")?;
        Ok(())
    }

    /// Writes everything out and closes the file; returns its size in bytes.
    fn finish(&mut self) -> Result<u64, SynthError> {
        if let Some(mut file) = self.file.take() {
            file.flush()?;
        }
        Ok(fs::metadata(&self.temporary)?.len())
    }

    /// Gives the file its name.
    fn publish(&mut self) -> Result<(), SynthError> {
        fs::rename(&self.temporary, &self.path)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for PendingTable {
    fn drop(&mut self) {
        if !self.published {
            self.file = None;
            // Best effort: the error that brought us here is the one to report.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

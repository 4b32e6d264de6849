//! Notes read on a thread of their own and handed over in batches, so that reading and work overlap and memory
//! stays bounded.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use camino::Utf8Path;
use plmicd_data::{DataError, Note, NoteReader};
use plmicd_pipeline::{StageContext, StageError};
use rayon::ThreadPool;

/// A batch ends at this much text or this many notes.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_NOTES: usize = 1024;

/// Calls `work` on all notes of a file, batch by batch in their order. Reports progress and heeds interrupts.
pub fn for_each_batch(
    path: &Utf8Path,
    phase: &str,
    context: &StageContext<'_>,
    mut work: impl FnMut(Vec<Note>) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let failed = |e| StageError::because("reading the notes", e);
    let reader = NoteReader::open(path).map_err(failed)?;
    let total = reader.num_notes();
    let (sender, receiver) = sync_channel(1);
    thread::scope(|scope| {
        // Ends when all is sent, or when the receiver is dropped by an early return.
        scope.spawn(move || send_batches(reader, &sender));
        let mut done = 0;
        for batch in receiver {
            context.check_interrupt()?;
            let batch = batch.map_err(failed)?;
            let count = batch.len() as u64;
            work(batch)?;
            done += count;
            context.progress(phase, done, Some(total), "notes");
        }
        Ok(())
    })
}

fn send_batches(reader: NoteReader, sender: &SyncSender<Result<Vec<Note>, DataError>>) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for note in reader {
        match note {
            Ok(note) => {
                bytes += note.text.len();
                batch.push(note);
            }
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        }
        if bytes >= BATCH_BYTES || batch.len() >= BATCH_NOTES {
            bytes = 0;
            if sender.send(Ok(std::mem::take(&mut batch))).is_err() {
                return;
            }
        }
    }
    let _ = sender.send(Ok(batch));
}

/// Worker threads as the runtime asks for.
pub fn workers(context: &StageContext<'_>) -> Result<ThreadPool, StageError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(context.runtime().thread_count())
        .build()
        .map_err(|e| StageError::because("starting worker threads", e))
}

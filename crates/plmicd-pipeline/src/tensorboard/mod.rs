//! Curves and hyperparameters of a run in the files that TensorBoard reads:
//! `runs/RUN/tensorboard/NODE/events.out.tfevents.…`, for every node that reports figures.
//!
//! They are written by whoever keeps the run's record, from the event channel: a training process spends nothing on
//! them. A run has a folder of its own, and a stage that resumes first reports what its checkpoint holds; so a run's
//! curves are whole, and nothing is written twice.
//!
//! | module | what |
//! |---|---|
//! | `wire` | the record framing and the few protocol buffers of such a file |
//! | `hyperparameters` | which settings are told of a node |

mod hyperparameters;
mod wire;

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use serde_json::Value;

use crate::event::Event;
use crate::run_record::{make_private_dir_all, private_file};

/// Names a run's folder of such files.
pub const FOLDER: &str = "tensorboard";
/// Longest that figures wait in memory while more arrive.
const FLUSH_AFTER: Duration = Duration::from_secs(2);
/// Bytes that wait in memory at most.
const FLUSH_ABOVE: usize = 1 << 16;

/// The event file of one node.
pub(crate) struct EventFile {
    file: File,
    /// Whole records that are not written yet: what is killed leaves at worst a torn last one.
    waiting: Vec<u8>,
    flushed: Instant,
    /// Time of the last event.
    last: f64,
    ended: bool,
}

impl EventFile {
    /// A new file for a node of a run; `resolved` is the run's resolved pipeline, `time` in seconds since 1970.
    pub fn create(run: &Utf8Path, resolved: &Value, node: &str, time: f64) -> std::io::Result<Self> {
        let dir = run.join(FOLDER).join(node);
        make_private_dir_all(&dir)?;
        // TensorBoard goes by the part `tfevents`, and orders the files of a folder by their names.
        let file = private_file(&dir.join(format!("events.out.tfevents.{:010}.plmicd", time as u64)))?;
        let mut events =
            Self { file, waiting: Vec::new(), flushed: Instant::now(), last: time, ended: false };
        wire::record(&mut events.waiting, &wire::first_event(time));
        let settings = hyperparameters::of_node(resolved, node);
        wire::record(&mut events.waiting, &wire::session_start(time, &settings));
        events.flush()?;
        Ok(events)
    }

    /// Takes up an event; only figures and the end of a node are of interest here.
    pub fn event(&mut self, event: &Event, time: f64) -> std::io::Result<()> {
        self.last = time;
        match event {
            Event::Metrics { step, values } => {
                wire::record(&mut self.waiting, &wire::scalars(time, *step, values));
                let due = self.waiting.len() > FLUSH_ABOVE || self.flushed.elapsed() >= FLUSH_AFTER;
                if due { self.flush() } else { Ok(()) }
            }
            Event::Finished { .. } => self.end(true, time),
            Event::Failed { .. } | Event::Interrupted => self.end(false, time),
            _ => Ok(()),
        }
    }

    fn end(&mut self, success: bool, time: f64) -> std::io::Result<()> {
        self.ended = true;
        wire::record(&mut self.waiting, &wire::session_end(time, success));
        self.flush()
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let written = self.file.write_all(&self.waiting);
        self.waiting.clear();
        self.flushed = Instant::now();
        written
    }
}

impl Drop for EventFile {
    /// Where a node's process ends without a word, its last figures are kept all the same.
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end(false, self.last);
        }
    }
}

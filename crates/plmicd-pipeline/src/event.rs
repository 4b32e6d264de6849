//! What a running stage tells its parent: one JSON object a line on the event channel.

use std::collections::BTreeMap;

use plmicd_artifact::Digest;
use serde::{Deserialize, Serialize};

/// Something that happened inside a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// `done` of `total` `unit`s of a phase.
    Progress {
        /// What is being done, such as `reading NOTEEVENTS`.
        phase: String,
        /// Units done so far.
        done: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// What is counted: rows, notes, steps, bytes.
        unit: String,
    },
    /// Figures at a training step.
    Metrics {
        /// Optimizer step, from 1.
        step: u64,
        /// Name to value.
        values: BTreeMap<String, f64>,
    },
    /// Something the user should know.
    Warning {
        /// One sentence; never note text.
        message: String,
    },
    /// A fact for the log.
    Note {
        /// One sentence; never note text.
        message: String,
    },
    /// The node waits for another process that makes the same output.
    Waiting,
    /// The node runs now.
    Started {
        /// Stage key.
        key: Digest,
    },
    /// The node's output is in the store.
    Finished {
        /// Kind of the artifact.
        kind: String,
        /// Its digest.
        artifact: Digest,
        /// Bytes of its files.
        bytes: u64,
        /// Whether it was there already.
        cached: bool,
    },
    /// The node failed.
    Failed {
        /// What went wrong.
        message: String,
    },
    /// The node was stopped and can be resumed.
    Interrupted,
}

/// An event with its time and node, as written to the event channel and to `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// RFC 3339.
    pub time: String,
    /// Node name.
    pub node: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Where events go.
pub trait EventSink: Send + Sync {
    /// Takes one event. Must not block for long and must not fail.
    fn send(&self, event: Event);
}

/// Drops every event (tests, single commands).
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn send(&self, _event: Event) {}
}

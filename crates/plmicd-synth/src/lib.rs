//! A deterministic synthetic corpus in the exact shapes of MIMIC-III's note and code tables.
//!
//! No patient and no text of MIMIC stands behind it: subjects, stays and notes are invented from a seed, the
//! codes and their titles are those of ICD-9-CM. Notes are written so that reading them tells the codes:
//! every code has several wordings, and other codes are mentioned only to be denied. See
//! `docs/concepts/synthetic-corpus.md`.
//!
//! From settings to bytes: [`SynthConfig`] -> `World` (tables, frequencies, cohort) -> `Admission` (codes,
//! dates, flags, by counter) -> `note` (text) -> `noteevents` and `code_tables` (rows) -> [`generate`] (files).

mod admission;
mod block;
mod clinic;
mod code_tables;
mod codes;
mod cohort;
mod config;
mod corpus;
mod dates;
mod derive;
mod error;
mod grammar;
mod note;
mod noteevents;
mod pharmacy;
mod random;
mod stage;
mod tsv;
mod wording;
mod world;

pub use config::SynthConfig;
pub use corpus::{CorpusSummary, generate};
pub use error::SynthError;
pub use stage::Synth;

//! The stage as a pipeline runs it, on small invented corpora.

// Skipped tests say why.
#![allow(clippy::print_stderr)]

mod codiesp;
mod errors;
mod golden;
mod mimic3;
mod mimic4;
mod own;
mod published_forms;
mod support;
mod texts;

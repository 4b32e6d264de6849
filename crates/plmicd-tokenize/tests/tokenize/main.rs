//! Both stages as a pipeline runs them, and their ids against Python's.

// Skipped tests say why.
#![allow(clippy::print_stderr)]

mod encode;
mod faults;
mod parity;
mod support;
mod vocabulary;

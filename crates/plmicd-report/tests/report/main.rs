//! The stage on small artifacts.

#![allow(clippy::print_stderr)] // a skipped test says why

mod browser;
mod inputs;
mod page;

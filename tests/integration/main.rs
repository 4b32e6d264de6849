//! The workspace's integration tests, in one binary: the command line, whole pipelines, crashes, and the rules of
//! the house.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod baselines;
mod command_line;
mod crashes;
mod curves;
mod distributed;
mod exchange;
mod pipeline;
mod predict;
mod rules;
#[cfg(feature = "remote")]
mod shared;
mod sweeps;
mod world;

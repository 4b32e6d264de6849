//! The `plmicd` binary: the command line, the terminal and the registry of stages. What the stages do lives in
//! their crates; the engine is `plmicd-pipeline`.

mod cli;
mod commands;
mod failure;
mod node_process;
mod ranks;
mod registry;
mod sources;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::ui::Terminal;

/// What a process that dies in native code leaves behind would hold the notes it was working on. A limit of one byte, as
/// none is also heeded where cores are handed to a program. Children inherit it.
fn leave_no_core() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Core);
    limit.current = Some(limit.maximum.map_or(1, |most| most.min(1)));
    // It can only be refused for a limit above the greatest.
    let _ = setrlimit(Resource::Core, limit);
}

fn main() -> ExitCode {
    leave_no_core();
    node_process::guard_panics();
    let cli = Cli::parse();
    let terminal = Terminal::new(&cli.global);
    terminal.init_logging();
    let outcome = commands::dispatch(&cli, &terminal);
    match outcome.and_then(|()| terminal.lost_results().map_or(Ok(()), Err)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.error(&failure);
            ExitCode::from(failure.code)
        }
    }
}

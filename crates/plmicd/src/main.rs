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

fn main() -> ExitCode {
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

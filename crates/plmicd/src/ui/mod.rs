//! The terminal: results go to stdout, everything else to stderr.

pub mod progress;
pub mod text;

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use tracing_subscriber::EnvFilter;

use crate::cli::{Global, MessageFormat, ProgressMode, When};
use crate::failure::{Failure, Message, exit};

/// How to write to people, from the global options and from what stdout and stderr are.
#[derive(Clone, Debug)]
pub struct Terminal {
    /// Colours on stderr.
    pub color: bool,
    /// Colours on stdout.
    color_results: bool,
    /// Bars rather than lines.
    pub bars: bool,
    /// Neither bars nor lines.
    pub silent: bool,
    /// JSON on stdout.
    pub json: bool,
    quiet: bool,
    verbose: u8,
    /// Why a result could not be written.
    lost: Arc<OnceLock<String>>,
}

impl Terminal {
    /// From the command line.
    pub fn new(global: &Global) -> Self {
        let tty = std::io::stderr().is_terminal();
        let color = |tty: bool| match global.color {
            When::Auto => tty && std::env::var_os("NO_COLOR").is_none(),
            When::Always => true,
            When::Never => false,
        };
        Self {
            color: color(tty),
            color_results: color(std::io::stdout().is_terminal()),
            bars: tty && global.progress == ProgressMode::Auto && !global.quiet,
            silent: global.progress == ProgressMode::Off || global.quiet,
            json: global.message_format == MessageFormat::Json,
            quiet: global.quiet,
            verbose: global.verbose,
            lost: Arc::default(),
        }
    }

    /// Sends the libraries' log to stderr.
    pub fn init_logging(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "warn",
            (false, 0) => "warn,plmicd=info",
            (false, 1) => "info",
            (false, _) => "debug",
        };
        let filter = EnvFilter::try_from_env("PLMICD_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(self.color)
            .with_target(false)
            .without_time()
            .init();
    }

    /// Prints a result. A reader that has gone away (`| head`) is no error; any other failure is remembered in
    /// [`Terminal::lost_results`].
    pub fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let written = out
            .write_all(text.as_bytes())
            .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
            .and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let _ = self.lost.set(error.to_string());
            }
            _ => {}
        }
    }

    /// The failure to report where results could not be written, to a full disk say.
    pub fn lost_results(&self) -> Option<Failure> {
        let why = self.lost.get()?;
        Some(Failure::new(exit::INTERNAL, format!("the results could not be written to stdout: {why}")))
    }

    /// Prints a result as JSON.
    pub fn print_json(&self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.print(&text),
            Err(error) => self.say(&format!("cannot write JSON: {error}")),
        }
    }

    /// Says something on stderr, unless told to be quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.stderr(text);
        }
    }

    /// Warns on stderr.
    pub fn warn(&self, text: &str) {
        self.stderr(&format!("{} {text}", self.paint("33;1", "warning:")));
    }

    /// Says why the command failed.
    pub fn error(&self, failure: &Failure) {
        match &failure.message {
            None => {}
            Some(Message::Text(text)) => {
                self.stderr(&format!("{} {}", self.paint("31;1", "error:"), self.hints(text)))
            }
            Some(Message::Located(problems)) => {
                let texts: Vec<String> =
                    problems.0.iter().map(|problem| problem.render(self.color)).collect();
                self.stderr(&texts.join("\n\n"));
            }
        }
    }

    /// `hint:` lines in colour.
    fn hints(&self, text: &str) -> String {
        text.replace("\nhint:", &format!("\n{}", self.paint("36;1", "hint:")))
    }

    /// Wraps a part of a result in an ANSI style, if stdout has colours.
    pub fn paint_result(&self, style: &str, text: &str) -> String {
        if self.color_results { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Wraps a part of a message on stderr in an ANSI style, if stderr has colours.
    pub fn paint(&self, style: &str, text: &str) -> String {
        if self.color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn stderr(&self, text: &str) {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.write_all(b"\n"));
    }
}

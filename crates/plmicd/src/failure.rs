//! Errors at the command line: a text for people and an exit code for scripts.

use plmicd_pipeline::diagnostic::Diagnostics;
use plmicd_pipeline::plan::PlanError;

/// Exit codes, as documented in `docs/reference/cli.md`.
pub mod exit {
    /// Something unforeseen.
    pub const INTERNAL: u8 = 1;
    /// Wrong arguments or a mistake in a pipeline file.
    pub const USAGE: u8 = 2;
    /// A stage failed.
    pub const STAGE: u8 = 3;
    /// A check of stored data failed.
    pub const VERIFICATION: u8 = 4;
    /// Stopped on request; the same command goes on.
    pub const INTERRUPTED: u8 = 75;
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// What to say; `None` where it has been said already.
    pub message: Option<Message>,
}

/// What to say.
#[derive(Debug)]
pub enum Message {
    /// Plain text, first line first.
    Text(String),
    /// Complaints with places in files.
    Located(Diagnostics),
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Located(problems) => {
                let texts: Vec<String> = problems.0.iter().map(|problem| problem.render(false)).collect();
                f.write_str(&texts.join("\n\n"))
            }
        }
    }
}

impl Failure {
    /// With this exit code and text.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: Some(Message::Text(message.into())) }
    }

    /// A usage error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message)
    }

    /// With this exit code; everything has been said.
    pub fn silent(code: u8) -> Self {
        Self { code, message: None }
    }
}

/// An error with all its causes, one after the other.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        // Errors that repeat their cause in their own text need not say it twice.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        below = cause.source();
    }
    text
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(exit::INTERNAL, chain(error.as_ref()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(exit::INTERNAL, error.to_string())
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self { code: exit::USAGE, message: Some(Message::Located(diagnostics)) }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let code = match error {
            PlanError::UnknownNode { .. } => exit::USAGE,
            PlanError::Store(_) | PlanError::UnknownStage(_) => exit::INTERNAL,
        };
        Self::new(code, chain(&error))
    }
}

impl From<plmicd_artifact::StoreError> for Failure {
    fn from(error: plmicd_artifact::StoreError) -> Self {
        let code = match error {
            plmicd_artifact::StoreError::NoStore { .. } => exit::USAGE,
            _ => exit::INTERNAL,
        };
        Self::new(code, chain(&error))
    }
}

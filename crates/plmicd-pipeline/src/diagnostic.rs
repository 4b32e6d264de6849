//! Errors about pipeline files: what is wrong, shown at the place where it was written.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::tree::Origin;

/// One complaint, with its place where there is one.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where.
    pub origin: Option<Origin>,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), origin: None, label: None, hint: None }
    }

    /// At a place.
    pub fn at(message: impl Into<String>, origin: &Origin) -> Self {
        Self { message: message.into(), origin: Some(origin.clone()), label: None, hint: None }
    }

    /// Whether it says the same about the same place.
    pub(crate) fn is_same(&self, other: &Diagnostic) -> bool {
        let place = |d: &Diagnostic| d.origin.as_ref().map(|origin| (origin.place(), origin.span.clone()));
        self.message == other.message && place(self) == place(other)
    }

    /// With a few words beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the nearest of `candidates` as advice, or the whole list where none is near.
    pub fn did_you_mean<'c>(self, name: &str, candidates: impl Iterator<Item = &'c str>) -> Self {
        let candidates: Vec<&str> = candidates.collect();
        match nearest(name, &candidates) {
            Some(best) => self.hint(format!("did you mean `{best}`?")),
            None if candidates.is_empty() => self,
            None => self.hint(format!("expected one of: {}", candidates.join(", "))),
        }
    }

    /// The text for a terminal or a log.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let title = Level::ERROR.primary_title(self.message.as_str());
        let mut group = match &self.origin {
            None => annotate_snippets::Group::with_title(title),
            Some(origin) => {
                let text = origin.source.text.as_str();
                let end = origin.span.end.min(text.len());
                // A table's span can cover many lines: the caret belongs on the first.
                let start = origin.span.start.min(end);
                let line_end = text[start..end].find('\n').map_or(end, |at| start + at);
                let mut annotation = AnnotationKind::Primary.span(start..line_end);
                if let Some(label) = &self.label {
                    annotation = annotation.label(label.as_str());
                }
                title.element(
                    Snippet::source(text).path(origin.source.name.as_str()).fold(true).annotation(annotation),
                )
            }
        };
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Every complaint about a pipeline, found before anything runs.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Box<Diagnostic>> for Diagnostics {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Self(vec![*diagnostic])
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

/// The candidate that `name` is most likely a slip of, if any is near enough.
pub fn nearest<'c>(name: &str, candidates: &[&'c str]) -> Option<&'c str> {
    candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_takes_slips_and_leaves_strangers() {
        let names = ["segment_length", "max_length", "epochs"];
        assert_eq!(nearest("segement_length", &names), Some("segment_length"));
        assert_eq!(nearest("epoch", &names), Some("epochs"));
        assert_eq!(nearest("colour", &names), None);
    }
}

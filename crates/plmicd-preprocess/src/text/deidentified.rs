//! The marks that de-identification left in a text: `[**Hospital1 18**]` in MIMIC-III, `___` in MIMIC-IV.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of the marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Deidentified {
    /// They stay, as in CAML and in Edin et al. 2023.
    #[default]
    Keep,
    /// A space instead.
    Drop,
    /// The word `deid` instead.
    Replace,
}

const OPEN: &str = "[**";
const CLOSE: &str = "**]";
const BLANK: &str = "___";

impl Deidentified {
    pub(super) const ALL: [Self; 3] = [Self::Keep, Self::Drop, Self::Replace];

    /// Its name in configs and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::Replace => "replace",
        }
    }

    /// The text with its marks seen to; `blanks` says whether exactly three underscores are one. A bracket that is not
    /// closed before the next one opens is text.
    pub fn apply(self, text: &str, blanks: bool) -> Cow<'_, str> {
        let instead = match self {
            Self::Keep => return Cow::Borrowed(text),
            Self::Drop => " ",
            Self::Replace => " deid ",
        };
        let mut out = String::with_capacity(text.len());
        let mut pieces = text.split(OPEN);
        push(pieces.next().unwrap_or(""), blanks, instead, &mut out);
        for piece in pieces {
            if let Some((_, rest)) = piece.split_once(CLOSE) {
                out.push_str(instead);
                push(rest, blanks, instead, &mut out);
            } else {
                out.push_str(OPEN);
                push(piece, blanks, instead, &mut out);
            }
        }
        Cow::Owned(out)
    }
}

/// Appends a piece without brackets.
fn push(piece: &str, blanks: bool, instead: &str, out: &mut String) {
    let mut rest = piece;
    while blanks && let Some(start) = rest.find(BLANK) {
        let end = rest[start..].find(|c| c != '_').map_or(rest.len(), |length| start + length);
        out.push_str(&rest[..start]);
        // A longer run is a line to fill in.
        out.push_str(if end - start == BLANK.len() { instead } else { &rest[start..end] });
        rest = &rest[end..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn brackets_and_blanks() {
        let text = "Dr. [**Last Name\n(un) 1**] of ___, [**open [**2**]x ____ end [**";
        assert_eq!(Deidentified::Keep.apply(text, true), text);
        assert_eq!(Deidentified::Drop.apply(text, false), "Dr.   of ___, [**open  x ____ end [**");
        assert_eq!(
            Deidentified::Replace.apply(text, true),
            "Dr.  deid  of  deid , [**open  deid x ____ end [**"
        );
    }

    proptest! {
        #[test]
        fn text_without_marks_stays(text in "[a-zé \\[\\]*\n]{0,60}", blanks: bool) {
            prop_assume!(!text.contains(OPEN));
            prop_assert_eq!(Deidentified::Replace.apply(&text, blanks), text.as_str());
        }

        #[test]
        fn no_closed_mark_is_left(text in "(\\[\\*\\*|\\*\\*\\]|a|é| |_){0,40}") {
            let dropped = Deidentified::Drop.apply(&text, false);
            let closed = dropped.split(OPEN).skip(1).any(|piece| piece.contains(CLOSE));
            prop_assert!(!closed || text.split(OPEN).any(|piece| piece.matches(CLOSE).count() > 1));
        }
    }
}

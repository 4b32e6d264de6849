//! What may be used as a name below the store's folder. Names come from pipeline files and command lines, so
//! none of them may lead out of its folder or look like something else.

use crate::error::StoreError;

const LONGEST: usize = 64;

fn bad(what: &'static str, name: &str, expected: &'static str) -> StoreError {
    StoreError::BadName { what, name: name.to_owned(), expected }
}

/// Kinds of artifacts and names of stages: lower-case letters, digits, `-` and `_`, beginning with a letter or digit.
pub(crate) fn check_token(what: &'static str, name: &str) -> Result<(), StoreError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let good = name.len() <= LONGEST
        && name.bytes().all(fits)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if good {
        Ok(())
    } else {
        Err(bad(
            what,
            name,
            "1 to 64 lower-case letters, digits, `-` or `_`, beginning with a letter or digit",
        ))
    }
}

/// Pins: letters, digits, `.`, `-` and `_`, beginning with a letter or digit, and not to be taken for a digest.
pub(crate) fn check_pin(name: &str) -> Result<(), StoreError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let good = name.len() <= LONGEST
        && name.bytes().all(fits)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !good {
        return Err(bad(
            "pin",
            name,
            "1 to 64 letters, digits, `.`, `-` or `_`, beginning with a letter or digit",
        ));
    }
    if name.len() >= 6 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad(
            "pin",
            name,
            "a name that cannot be taken for a digest: add a letter beyond `f` or a `-`",
        ));
    }
    Ok(())
}

/// Pipelines and nodes below `latest/`: any single visible path component.
pub(crate) fn check_component(what: &'static str, name: &str) -> Result<(), StoreError> {
    let good = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.chars().any(|c| c == '/' || c.is_control());
    if good {
        Ok(())
    } else {
        Err(bad(what, name, "1 to 200 bytes without `/` or control characters, not beginning with `.`"))
    }
}

/// Why a path is not a plain relative one with `/` between its components, if it is not. Control characters
/// and `\` are refused because tools such as `b3sum` would print them escaped.
pub(crate) fn relative_path_problem(path: &str) -> Option<&'static str> {
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Some("has a control character or `\\` in its name");
    }
    if path.split('/').any(|component| matches!(component, "" | "." | "..")) {
        return Some("is not a plain relative path");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for good in ["notes", "token-shards", "hf-model", "mimic3", "a_b", "0"] {
            assert!(check_token("kind", good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", "a/b", "Notes", "-a", "_a", "a b", "é", "a.b", long.as_str()] {
            assert!(check_token("kind", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pins() {
        for good in ["best", "paper-2024.1", "Table_2", "abc", "deadbeef-model", "face5"] {
            assert!(check_pin(good).is_ok(), "{good}");
        }
        for bad in ["", "..", ".x", "../x", "a/b", "deadbeef", "ABCDEF", "a\nb", "a b"] {
            assert!(check_pin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn components() {
        for good in ["finetune", "finetune[seed=1]", "lr=3e-5@wide", "Größe"] {
            assert!(check_component("node", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\0b"] {
            assert!(check_component("node", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn relative_paths() {
        for good in ["a", "a/b.txt", "splits/train full.csv", "é", ".hidden"] {
            assert_eq!(relative_path_problem(good), None, "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/..", "./a", "a\\b", "a\nb"] {
            assert!(relative_path_problem(bad).is_some(), "{bad}");
        }
    }
}

//! CAML's tokeniser (Mullenbach et al. 2018): `\w+` as Python matches it, tokens for which `str.isnumeric`
//! holds dropped, then lower case.

use super::python;

/// Tokens joined by one space, in lower case unless `cased`.
pub fn clean(text: &str, cased: bool) -> String {
    if text.is_ascii() { clean_ascii(text, cased) } else { clean_unicode(text, cased) }
}

/// Word characters of ASCII by byte: nearly every note is ASCII throughout, and looking bytes up is several times as
/// fast as classifying characters.
const WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        word[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'_';
        byte += 1;
    }
    word
};

fn clean_ascii(text: &str, cased: bool) -> String {
    let bytes = text.as_bytes();
    let is_word = |at: usize| bytes.get(at).is_some_and(|&byte| WORD[usize::from(byte)]);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(at) {
            at += 1;
            continue;
        }
        let start = at;
        let mut numeric = true;
        while is_word(at) {
            numeric &= bytes[at].is_ascii_digit();
            at += 1;
        }
        if numeric {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&text[start..at]);
    }
    if !cased {
        out.make_ascii_lowercase();
    }
    out
}

fn clean_unicode(text: &str, cased: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(python::is_word) {
        rest = &rest[start..];
        let end = rest.find(|c| !python::is_word(c)).unwrap_or(rest.len());
        let (token, tail) = rest.split_at(end);
        rest = tail;
        if token.chars().all(python::is_numeric) {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        if cased { out.push_str(token) } else { python::push_lower(token, &mut out) }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn clean(text: &str) -> String {
        super::clean(text, false)
    }

    proptest! {
        #[test]
        fn both_ways_agree_on_ascii(text in "[ -~\\n\\t]{0,200}", cased: bool) {
            prop_assert_eq!(super::clean_ascii(&text, cased), super::clean_unicode(&text, cased));
        }
    }

    #[test]
    fn numbers_go_before_lower_case_and_marks_split() {
        assert_eq!(clean("WBC 12.3K, temp 39 [**2999-1-30**] ___ x² ½"), "wbc 3k temp ___ x²");
        assert_eq!(clean("Cafe\u{301}s"), "cafe s");
        assert_eq!(clean(" -- "), "");
        assert_eq!(super::clean("WBC 12.3K, Temp", true), "WBC 3K Temp");
    }
}

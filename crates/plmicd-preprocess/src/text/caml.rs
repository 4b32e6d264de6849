//! CAML's tokeniser (Mullenbach et al. 2018): `\w+` as Python matches it, tokens for which `str.isnumeric`
//! holds dropped, then lower case.

use super::python;

/// Tokens joined by one space, in lower case unless `cased`.
pub fn clean(text: &str, cased: bool) -> String {
    if text.is_ascii() { clean_ascii(text, cased) } else { clean_unicode(text, cased) }
}

/// What each byte of ASCII becomes: itself or its lower case, 0 where it is no word character. Nearly every note is ASCII
/// throughout, and looking bytes up is several times as fast as classifying characters.
const fn kept(cased: bool) -> [u8; 256] {
    let mut kept = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        if c.is_ascii_alphanumeric() || c == b'_' {
            kept[byte] = if cased { c } else { c.to_ascii_lowercase() };
        }
        byte += 1;
    }
    kept
}

const CASED: [u8; 256] = kept(true);
const LOWER: [u8; 256] = kept(false);

fn clean_ascii(text: &str, cased: bool) -> String {
    let kept = if cased { &CASED } else { &LOWER };
    // Every byte is written where the next one of the result belongs; what turns out not to belong is written over.
    let mut out = vec![0; text.len() + 1];
    let (mut end, mut token, mut is_number) = (0, 0, true);
    for &byte in text.as_bytes() {
        let byte = kept[usize::from(byte)];
        out[end] = byte;
        if byte != 0 {
            end += 1;
            is_number &= byte.is_ascii_digit();
        } else if end > token {
            if is_number {
                end = token;
            } else {
                out[end] = b' ';
                end += 1;
            }
            (token, is_number) = (end, true);
        }
    }
    if end > token && is_number {
        end = token;
    }
    if end == token && end > 0 {
        // The space after the last token.
        end -= 1;
    }
    out.truncate(end);
    // Made of ASCII alone.
    String::from_utf8(out).unwrap_or_default()
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

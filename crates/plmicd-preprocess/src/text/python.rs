//! Python 3's character classes, which differ from Rust's: `\w` of Rust's regex takes combining marks and
//! joiners and leaves out `½` and `²`; Python's does the opposite.

use super::unicode_tables::{ALPHANUMERIC, NUMERIC};

/// Whether Python's `re` counts it as `\w`: `str.isalnum` or an underscore.
pub fn is_word(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() || c == '_' } else { contains(ALPHANUMERIC, c) }
}

/// Python's `str.isnumeric` for one character: digits, fractions, superscripts, Roman-numeral letters,
/// CJK numerals.
pub fn is_numeric(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { contains(NUMERIC, c) }
}

/// Appends Python's `str.lower` of one token. Rust's full lower-casing follows the same two context rules
/// (final sigma, `İ` to `i` + U+0307), and Unicode never changes the mapping of an assigned letter.
pub fn push_lower(token: &str, out: &mut String) {
    if token.is_ascii() {
        let start = out.len();
        out.push_str(token);
        out[start..].make_ascii_lowercase();
    } else {
        out.push_str(&token.to_lowercase());
    }
}

fn contains(ranges: &[(u32, u32)], c: char) -> bool {
    let c = u32::from(c);
    let after = ranges.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::unicode_tables::UNICODE_VERSION;

    /// One line a code point that is a word character or numeric: hexadecimal number, `w` flag, numeric flag, lower
    /// case as numbers.
    const DUMP: &str = r#"
import re, sys, unicodedata
print(unicodedata.unidata_version)
word = re.compile(r"\w")
for c in range(sys.maxunicode + 1):
    s = chr(c)
    w, n = bool(word.match(s)), s.isnumeric()
    if w or n: print("%x %d %d %s" % (c, w, n, ".".join("%x" % ord(x) for x in s.lower())))
"#;

    #[test]
    #[allow(clippy::print_stderr, reason = "a skipped test says why")]
    fn tables_equal_pythons_for_every_code_point() {
        let Ok(output) = std::process::Command::new("python3").args(["-c", DUMP]).output() else {
            eprintln!("skipped: no python3 to compare with");
            return;
        };
        let dump = String::from_utf8(output.stdout).expect("the dump is ASCII");
        let mut lines = dump.lines();
        let version = lines.next().unwrap_or_default();
        if version != UNICODE_VERSION {
            eprintln!("skipped: this python3 has Unicode {version}, the tables {UNICODE_VERSION}");
            return;
        }
        let number = |text: &str| char::from_u32(u32::from_str_radix(text, 16).unwrap()).unwrap();
        let mut expected = lines.map(|line| {
            let [c, word, numeric, lower] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            (number(c), word == "1", numeric == "1", lower.split('.').map(number).collect::<String>())
        });
        let mut found = 0;
        for c in '\0'..=char::MAX {
            let (word, numeric) = (is_word(c), is_numeric(c));
            if word || numeric {
                let mut lower = String::new();
                push_lower(c.encode_utf8(&mut [0; 4]), &mut lower);
                assert_eq!(Some((c, word, numeric, lower)), expected.next(), "U+{:04X}", u32::from(c));
                found += 1;
            }
        }
        assert!(expected.next().is_none() && found > 100_000);
    }

    #[test]
    fn classes_where_rust_and_python_differ() {
        for (c, word, numeric) in [
            ('½', true, true),
            ('²', true, true),
            ('Ⅷ', true, true),
            ('一', true, true),
            ('٣', true, true),
            ('\u{301}', false, false),
            ('\u{200d}', false, false),
            ('‿', false, false),
            ('_', true, false),
            ('é', true, false),
        ] {
            assert_eq!((is_word(c), is_numeric(c)), (word, numeric), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn lower_case_knows_final_sigma_and_dotted_i() {
        for (token, lower) in
            [("ΣΊΣΥΦΟΣ", "σίσυφος"), ("İX", "i̇x"), ("ΑΣ1", "ας1"), ("Σ", "σ"), ("ABC_d", "abc_d")]
        {
            let mut out = String::new();
            push_lower(token, &mut out);
            assert_eq!(out, lower);
        }
    }
}

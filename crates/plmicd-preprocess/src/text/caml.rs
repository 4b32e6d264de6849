//! CAML's tokeniser (Mullenbach et al. 2018): `\w+` as Python matches it, tokens for which `str.isnumeric`
//! holds dropped, then lower case.

use super::python;

/// Tokens joined by one space.
pub fn clean(text: &str) -> String {
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
        python::push_lower(token, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn numbers_go_before_lower_case_and_marks_split() {
        assert_eq!(clean("WBC 12.3K, temp 39 [**2999-1-30**] ___ x² ½"), "wbc 3k temp ___ x²");
        assert_eq!(clean("Cafe\u{301}s"), "cafe s");
        assert_eq!(clean(" -- "), "");
    }
}

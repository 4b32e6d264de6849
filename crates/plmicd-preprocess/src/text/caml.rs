//! CAML's tokeniser (Mullenbach et al. 2018): `\w+` as Python matches it, tokens for which `str.isnumeric`
//! holds dropped, then lower case.

use super::python;

/// Tokens, each appended by `push`, joined by one space.
pub fn clean(text: &str, push: impl Fn(&str, &mut String)) -> String {
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
        push(token, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::python;

    fn clean(text: &str) -> String {
        super::clean(text, python::push_lower)
    }

    #[test]
    fn numbers_go_before_lower_case_and_marks_split() {
        assert_eq!(clean("WBC 12.3K, temp 39 [**2999-1-30**] ___ x² ½"), "wbc 3k temp ___ x²");
        assert_eq!(clean("Cafe\u{301}s"), "cafe s");
        assert_eq!(clean(" -- "), "");
        assert_eq!(super::clean("WBC 12.3K, Temp", |token, out| out.push_str(token)), "WBC 3K Temp");
    }
}

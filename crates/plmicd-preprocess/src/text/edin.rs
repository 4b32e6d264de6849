//! The cleaning of Edin et al. 2023: lower case; runs of characters outside `a-z0-9` become one space; a run of
//! free-standing numbers between white space becomes one space; collapse and strip.

/// The cleaned text.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // What precedes the piece: white space (anything that became a space), or the start of the note.
    let mut after_space = false;
    let mut piece = String::new();
    let mut chars = text.chars().map(simple_lower).peekable();
    while let Some(c) = chars.next() {
        if !c.is_ascii_alphanumeric() {
            after_space = true;
            continue;
        }
        piece.clear();
        piece.push(c);
        while let Some(c) = chars.next_if(char::is_ascii_alphanumeric) {
            piece.push(c);
        }
        let before_space = chars.peek().is_some();
        let number = piece.bytes().all(|b| b.is_ascii_digit());
        if !(number && after_space && before_space) {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(&piece);
        }
    }
    out
}

/// One-to-one lower case, as far as it leads to ASCII: everything else becomes a space anyway.
fn simple_lower(c: char) -> char {
    match c {
        'İ' => 'i',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn numbers_at_the_edges_survive() {
        assert_eq!(clean("12 apples and 34"), "12 apples and 34");
        assert_eq!(clean(" 12 apples and 34."), "apples and");
        assert_eq!(clean("1 2 3 start 4 5 6 end 7 8 9"), "1 start end 9");
        assert_eq!(clean("98.6F"), "98 6f");
        assert_eq!(clean("12"), "12");
    }
}

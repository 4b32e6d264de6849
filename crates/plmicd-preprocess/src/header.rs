//! What a first line is that has none of the columns wanted, as far as its bytes tell. Nothing of it is shown.

/// Marks that separate columns, by their names.
const DELIMITERS: [(u8, &str); 4] =
    [(b',', "commas"), (b';', "semicolons"), (b'\t', "tabs"), (b'|', "vertical bars")];

/// Why `line`, its fields parted by `delimiter`, has none of the columns `wanted`; `None` if it does not show.
pub fn explain(line: &[u8], delimiter: u8, wanted: &[String]) -> Option<String> {
    // In UTF-16 every second byte of a header is zero.
    if line.iter().filter(|&&byte| byte == 0).count() * 4 > line.len() {
        return Some("it is in UTF-16; expected UTF-8 (or Windows-1252)".to_owned());
    }
    let name =
        |of: u8| DELIMITERS.iter().find(|(mark, _)| *mark == of).map_or("delimiters", |(_, name)| name);
    let is_wanted = |field: &[u8]| {
        let field = String::from_utf8_lossy(field);
        let field = field.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\u{feff}');
        wanted.iter().any(|name| name.eq_ignore_ascii_case(field))
    };
    // Some of the names are there, so they are parted as they should be.
    if line.split(|&byte| byte == delimiter).any(is_wanted) {
        return None;
    }
    let found = DELIMITERS.iter().map(|(mark, _)| *mark).find(|&mark| {
        mark != delimiter && line.contains(&mark) && line.split(|&byte| byte == mark).any(is_wanted)
    })?;
    Some(format!("its columns are separated by {}; expected {}", name(found), name(delimiter)))
}

#[cfg(test)]
mod tests {
    use super::explain;

    #[test]
    fn other_delimiters_and_encodings_are_told() {
        let wanted = ["id".to_owned(), "text".to_owned()];
        let told = |line: &[u8], delimiter| explain(line, delimiter, &wanted);
        let semicolons = "its columns are separated by semicolons; expected commas";
        assert_eq!(told(b"ID;\"text\";codes", b',').as_deref(), Some(semicolons));
        assert!(told(b"id\ttext", b',').unwrap().contains("separated by tabs"));
        assert!(told(b"id,text", b'\t').unwrap().contains("separated by commas; expected tabs"));
        assert!(told(b"i\0d\0,\0t\0", b',').unwrap().contains("UTF-16"));
        assert_eq!(told(b"note;report", b','), None);
        assert_eq!(told(b"id,note,x;text", b','), None);
        assert_eq!(told(b"7,Jane Roe", b','), None);
    }
}

//! What is said of a table's header in complaints.

use crate::words::counted;

/// No column of a clinical table has a longer name.
const MAX_NAME_BYTES: usize = 40;
/// Names that are shown.
const SHOWN: usize = 20;

/// What a header without a wanted column has instead. A first line with anything that is not the name of a column is not
/// shown: in a table without a header it is a patient's row.
pub fn columns_found(found: &[String]) -> String {
    let is_name = |field: &String| {
        field.len() <= MAX_NAME_BYTES
            && field.starts_with(|c: char| c.is_ascii_alphabetic())
            && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if found.iter().all(String::is_empty) {
        "it is empty".to_owned()
    } else if found.iter().all(is_name) {
        let shown: Vec<&str> = found.iter().take(SHOWN).map(String::as_str).collect();
        format!("found: {}", shown.join(", "))
    } else {
        let fields = counted(found.len() as u64, "fields");
        format!("this line ({fields} between delimiters) does not look like a header")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_shown() {
        let found = |fields: &[&str]| {
            columns_found(&fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(found(&["id", "Text_2"]), "found: id, Text_2");
        assert_eq!(
            found(&["1", "Jane Roe"]),
            "this line (2 fields between delimiters) does not look like a header"
        );
        assert_eq!(found(&[""]), "it is empty");
    }
}

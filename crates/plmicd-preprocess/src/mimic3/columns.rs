//! What becomes of a column of text when pandas reads it with default settings and writes it again, as CAML's scripts do
//! three times over: blocks that hold numbers only lose leading zeros and trailing dots.

/// Rows that pandas' parser reads as one block of a table of four or five columns.
pub const BLOCK_ROWS: usize = 131_072;

/// What a missing value becomes where it is turned into text.
pub const MISSING: &str = "nan";

/// What a block of a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    /// Digits only.
    Whole,
    /// Numbers, some with a dot or missing.
    Float,
    Text,
}

/// Rewrites the values of a column as they are after pandas has read them; a missing one is empty.
///
/// A block is whole numbers, floating-point numbers or text. If all blocks are numbers and one is floating point, so is
/// the column; if one is text, each block keeps its own type. Tells whether the column is one of numbers.
pub fn read_again(values: &mut [&mut String]) -> bool {
    let types: Vec<Type> = values.chunks(BLOCK_ROWS).map(type_of).collect();
    let numbers = !types.contains(&Type::Text);
    let mixed = numbers && types.contains(&Type::Float);
    for (block, found) in values.chunks_mut(BLOCK_ROWS).zip(types) {
        let found = if mixed { Type::Float } else { found };
        for value in block {
            if is_missing(value.as_bytes()) {
                value.clear();
            } else {
                match found {
                    Type::Text => {}
                    Type::Whole => **value = whole(value),
                    Type::Float => **value = float(value),
                }
            }
        }
    }
    numbers
}

fn type_of(block: &[&mut String]) -> Type {
    let present = || block.iter().filter(|value| !is_missing(value.as_bytes()));
    if !present().all(|value| is_number(value)) {
        Type::Text
    } else if present().count() == block.len() && present().all(|value| !value.contains('.')) {
        Type::Whole
    } else {
        Type::Float
    }
}

/// Of what pandas takes for missing, what occurs among codes and cleaned texts.
const MISSING_TEXTS: [&str; 3] = ["", MISSING, "null"];

/// If pandas takes this text for missing.
pub fn is_missing(value: &[u8]) -> bool {
    MISSING_TEXTS.iter().any(|text| text.as_bytes() == value)
}

/// If a text of so many bytes can be one that [`is_missing`].
pub fn may_be_missing(bytes: usize) -> bool {
    MISSING_TEXTS.iter().any(|text| text.len() == bytes)
}

fn is_number(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    !(whole.is_empty() && fraction.is_empty()) && digits(whole) && digits(fraction)
}

fn whole(value: &str) -> String {
    match value.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    }
}

/// A number as it comes out of a column of floating-point numbers; what is none stays as it is.
pub fn float(value: &str) -> String {
    let Ok(number) = value.parse::<f64>() else { return value.to_owned() };
    // Both languages print the shortest digits that read back the same; only Python adds `.0`.
    let mut text = number.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Vec<String> {
        let mut values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        read_again(&mut values.iter_mut().collect::<Vec<_>>());
        values
    }

    #[test]
    fn a_block_has_one_type() {
        assert_eq!(read(&["486", "0389"]), ["486", "389"], "whole numbers lose zeros");
        assert_eq!(read(&["486", "038.9", "17.", "nan"]), ["486.0", "38.9", "17.0", ""]);
        assert_eq!(
            read(&["486", "", "003"]),
            ["486.0", "", "3.0"],
            "a missing one makes floats of whole numbers"
        );
        assert_eq!(read(&["486", "V58", "0389", "nan", "17."]), ["486", "V58", "0389", "", "17."]);
        assert_eq!(read(&["250.00;401.9", "003"]), ["250.00;401.9", "003"]);
        assert_eq!(read(&["", ""]), ["", ""]);
    }

    #[test]
    fn only_blocks_of_numbers_become_floats() {
        let mut codes: Vec<String> = vec!["V58.61".to_owned()];
        codes.extend(std::iter::repeat_n("17.".to_owned(), BLOCK_ROWS));
        codes.extend(["99.10".to_owned(), "nan".to_owned()]);
        let mut all: Vec<&mut String> = codes.iter_mut().collect();
        read_again(&mut all);
        assert_eq!(codes[BLOCK_ROWS - 1], "17.", "a block with a V code stays text");
        assert_eq!(codes[BLOCK_ROWS..], ["17.0", "99.1", ""]);

        // Two blocks of numbers, one of them whole: floating point throughout. Beside text it stays whole.
        let mut codes: Vec<String> = vec!["003".to_owned(); BLOCK_ROWS];
        codes.push("99.10".to_owned());
        read_again(&mut codes.iter_mut().collect::<Vec<_>>());
        assert_eq!((codes[0].as_str(), codes[BLOCK_ROWS].as_str()), ("3.0", "99.1"));
        let mut codes: Vec<String> = vec!["003".to_owned(); BLOCK_ROWS];
        codes.push("V58".to_owned());
        read_again(&mut codes.iter_mut().collect::<Vec<_>>());
        assert_eq!((codes[0].as_str(), codes[BLOCK_ROWS].as_str()), ("3", "V58"));
    }
}

//! Mending of Windows-1252 bytes in otherwise UTF-8 text, which hospital exports are known for.

/// Code points of the bytes 0x80 to 0x9F in Windows-1252; the five unassigned ones stay control characters,
/// as the WHATWG encoding standard has it.
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The text, with every byte that is not part of a UTF-8 sequence read as Windows-1252, and the number of
/// such bytes.
pub fn mend(bytes: Vec<u8>) -> (String, u64) {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return (text, 0),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len() + 16);
    let mut mended = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for &byte in chunk.invalid() {
            mended += 1;
            text.push(match byte {
                0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
                other => char::from(other),
            });
        }
    }
    (text, mended)
}

#[cfg(test)]
mod tests {
    use super::mend;

    #[test]
    fn single_bytes_become_characters_and_are_counted() {
        assert_eq!(mend(b"caf\xe9 \x93q\x94 \xc3\xa9".to_vec()), ("café “q” é".to_owned(), 3));
        assert_eq!(mend("é ½".as_bytes().to_vec()), ("é ½".to_owned(), 0));
        // A cut-off sequence is mended byte by byte.
        assert_eq!(mend(b"a\xe2\x82".to_vec()), ("aâ‚".to_owned(), 2));
    }
}

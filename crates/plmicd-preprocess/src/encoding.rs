//! Mending of Windows-1252 bytes in otherwise UTF-8 text, which hospital exports are known for; UTF-16 as editors on
//! Windows save it.

use camino::Utf8Path;

/// Code points of the bytes 0x80 to 0x9F in Windows-1252; the five unassigned ones stay control characters,
/// as the WHATWG encoding standard has it.
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Whether a file is packed, by its name in any case.
pub fn is_gzip(path: &Utf8Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"))
}

/// Where bytes begin as UTF-16 does: whether its lower bytes come first.
pub fn utf16_is_little(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [0xff, 0xfe, ..] => Some(true),
        [0xfe, 0xff, ..] => Some(false),
        _ => None,
    }
}

/// The bytes of a whole file without its byte order mark, in UTF-8 where that says UTF-16.
pub fn plain(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(is_little) = utf16_is_little(&bytes) {
        let unit = if is_little { u16::from_le_bytes } else { u16::from_be_bytes };
        let (pairs, _) = bytes[2..].as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        return String::from_utf16_lossy(&units).into_bytes();
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    bytes
}

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
    use super::*;

    #[test]
    fn files_of_other_encodings_are_read() {
        let utf16 = |unit: fn(u16) -> [u8; 2], mark: [u8; 2]| {
            let mut bytes = mark.to_vec();
            bytes.extend("é 1\n".encode_utf16().flat_map(unit));
            mend(plain(bytes))
        };
        let expected = ("é 1\n".to_owned(), 0);
        assert_eq!(utf16(u16::to_le_bytes, [0xff, 0xfe]), expected);
        assert_eq!(utf16(u16::to_be_bytes, [0xfe, 0xff]), expected);
        assert_eq!(mend(plain("\u{feff}é 1\n".as_bytes().to_vec())), expected);
        assert_eq!(mend(plain(b"\xe9 1\n".to_vec())), ("é 1\n".to_owned(), 1));
        assert!(is_gzip(Utf8Path::new("A.TXT.GZ")) && !is_gzip(Utf8Path::new("gz")));
    }

    #[test]
    fn single_bytes_become_characters_and_are_counted() {
        assert_eq!(mend(b"caf\xe9 \x93q\x94 \xc3\xa9".to_vec()), ("café “q” é".to_owned(), 3));
        assert_eq!(mend("é ½".as_bytes().to_vec()), ("é ½".to_owned(), 0));
        // A cut-off sequence is mended byte by byte.
        assert_eq!(mend(b"a\xe2\x82".to_vec()), ("aâ‚".to_owned(), 2));
    }
}

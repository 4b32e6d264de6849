//! Gzip files of one or several members, as `gzip -d` reads them, but for what follows the last one: zeros are padding,
//! anything else is an error that says so.

use std::io::{self, BufRead, Read};

use camino::Utf8Path;
use flate2::bufread::GzDecoder;
use plmicd_pipeline::BadInput;

/// First byte of every member.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether bytes begin as a gzip file does.
pub fn begins_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Bytes that are neither padding nor a further member follow the last one.
#[derive(Debug, thiserror::Error)]
#[error("other bytes follow the end of the gzip stream")]
struct TrailingBytes;

/// The unpacked bytes of a gzip file.
pub struct Gunzip<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gunzip<R> {
    /// Unpacks `packed`.
    pub fn new(packed: R) -> Self {
        Self { member: Some(GzDecoder::new(packed)) }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(mut member) = self.member.take() {
            let read = member.read(buffer)?;
            if read > 0 {
                self.member = Some(member);
                return Ok(read);
            }
            self.member = next_member(member.into_inner())?;
        }
        Ok(0)
    }
}

fn next_member<R: BufRead>(mut rest: R) -> io::Result<Option<GzDecoder<R>>> {
    let mut is_padded = false;
    loop {
        let bytes = rest.fill_buf()?;
        match bytes.first() {
            None => return Ok(None),
            Some(0) => {
                let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
                rest.consume(zeros);
                is_padded = true;
            }
            Some(&byte) if byte == MAGIC[0] && !is_padded => return Ok(Some(GzDecoder::new(rest))),
            Some(_) => return Err(io::Error::other(TrailingBytes)),
        }
    }
}

/// What an error of [`Gunzip`] says of a file.
pub fn explain(path: &Utf8Path, error: &io::Error) -> BadInput {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return BadInput::new(path, "the gzip stream ends early: the file is truncated")
            .hint("copy or download it again; `gzip -t FILE` checks it");
    }
    if error.get_ref().is_some_and(|inner| inner.is::<TrailingBytes>()) {
        return BadInput::new(path, error.to_string())
            .hint("something was appended to the file; copy it again, or unpack and pack it anew");
    }
    BadInput::new(path, format!("not a sound gzip file ({error})"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gz(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        // Small reads: members and padding are found across their borders.
        let reader = io::BufReader::with_capacity(3, packed);
        match Gunzip::new(reader).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(explain(Utf8Path::new("x.gz"), &error).to_string()),
        }
    }

    #[test]
    fn members_and_padding_are_read_and_other_bytes_named() {
        let two = [gz(b"one "), gz(b"two")].concat();
        assert_eq!(unpacked(&two).unwrap(), b"one two");
        assert_eq!(unpacked(&[two.as_slice(), &[0; 9]].concat()).unwrap(), b"one two");
        for trailing in [&b"x"[..], b"\0\0x", b"\0\x1f\x8b"] {
            let message = unpacked(&[two.as_slice(), trailing].concat()).unwrap_err();
            assert!(message.contains("other bytes follow the end of the gzip stream"), "{message}");
        }
        assert!(unpacked(&two[..two.len() - 3]).unwrap_err().contains("truncated"));
        assert!(unpacked(b"no gzip at all").unwrap_err().contains("not a sound gzip file"));
    }
}

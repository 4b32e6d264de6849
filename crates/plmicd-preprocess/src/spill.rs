//! Cleaned note texts on disk between the two passes, so that memory holds only an index of them: the tables
//! give notes in any order, the corpus wants them by patient. The file loses its name as soon as it is open:
//! however the stage ends, no copy of the texts stays behind.

use std::io::{BufWriter, Write};

use camino::Utf8Path;
use fs_err as fs;
use fs_err::os::unix::fs::{FileExt, OpenOptionsExt};

/// Where one text lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    offset: u64,
    length: u32,
}

impl Piece {
    /// Bytes of the text.
    pub fn len(self) -> usize {
        self.length as usize
    }
}

/// Takes texts in any order.
pub struct SpillWriter {
    file: BufWriter<fs::File>,
    offset: u64,
}

impl SpillWriter {
    /// Creates the file in `dir`, over one that a run killed at this very place may have left.
    pub fn create(dir: &Utf8Path) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join("texts.bin");
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), offset: 0 })
    }

    /// Appends a text.
    pub fn push(&mut self, text: &str) -> std::io::Result<Piece> {
        let length =
            u32::try_from(text.len()).map_err(|_| std::io::Error::other("a note of more than 4 GiB"))?;
        self.file.write_all(text.as_bytes())?;
        let piece = Piece { offset: self.offset, length };
        self.offset += u64::from(length);
        Ok(piece)
    }

    /// Done writing.
    pub fn finish(self) -> std::io::Result<Spill> {
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(Spill { file })
    }
}

/// Gives texts back in any order, to several threads at once.
pub struct Spill {
    file: fs::File,
}

impl Spill {
    /// The texts of the pieces, joined by one space.
    pub fn join(&self, pieces: &[Piece]) -> std::io::Result<String> {
        let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.len() + 1).sum());
        for (i, piece) in pieces.iter().enumerate() {
            if i > 0 {
                bytes.push(b' ');
            }
            self.append(*piece, &mut bytes)?;
        }
        String::from_utf8(bytes).map_err(|_| std::io::Error::other("the scratch file of texts is damaged"))
    }

    /// Appends the bytes of a text.
    pub fn append(&self, piece: Piece, to: &mut Vec<u8>) -> std::io::Result<()> {
        let start = to.len();
        to.resize(start + piece.len(), 0);
        self.file.read_exact_at(&mut to[start..], piece.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let mut writer = SpillWriter::create(dir).unwrap();
        let a = writer.push("first é").unwrap();
        let b = writer.push("second").unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "no name leads to the texts");
        let spill = writer.finish().unwrap();
        assert_eq!(spill.join(&[b, a]).unwrap(), "second first é");
        assert_eq!(spill.join(&[a]).unwrap(), "first é");
    }
}

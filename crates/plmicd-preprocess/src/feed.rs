//! The bytes that a table's parser sees: the file's, then a mark by which an unclosed quote is noticed.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;

use crate::quotes::Quotes;

/// Fed to the parser after the last byte of the file. If it comes back as a row of its own, every quote was
/// closed; if it comes back inside a field, one was not.
pub const END: &[u8] = b"\0end of table\0";

/// No row of a clinical table comes near this; a longer one is an unclosed quote, and must not fill the memory.
pub const MAX_ROW_BYTES: u64 = 64 << 20;

/// A row grew beyond [`MAX_ROW_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("a row is longer than {MAX_ROW_BYTES} bytes")]
pub struct RowTooLong;

/// The file's bytes, then [`END`] on a line of its own; fails when a row grows beyond all reason.
pub struct Feed {
    inner: Box<dyn Read + Send>,
    fed: u64,
    /// Number of bytes that may be fed before the next row must be complete.
    limit: Arc<AtomicU64>,
    /// Follows the quotes of what is fed, where the table has any.
    pub quotes: Option<Quotes>,
    /// Whether lines end in CRLF, as the first one tells.
    pub crlf: bool,
    first_line_seen: bool,
    last_byte: u8,
    /// What is still to be fed after the last byte of the file.
    tail: Option<io::Cursor<Vec<u8>>>,
}

impl Feed {
    /// Feeds `inner`, at most `limit` bytes until the limit is raised.
    pub fn new(inner: Box<dyn Read + Send>, limit: Arc<AtomicU64>, quotes: Option<Quotes>) -> Self {
        Self {
            inner,
            fed: 0,
            limit,
            quotes,
            crlf: false,
            first_line_seen: false,
            last_byte: b'\n',
            tail: None,
        }
    }

    fn look_at(&mut self, bytes: &[u8]) {
        if let Some(quotes) = &mut self.quotes {
            quotes.look_at(bytes);
        }
        if !self.first_line_seen
            && let Some(end) = bytes.iter().position(|&b| b == b'\n')
        {
            self.first_line_seen = true;
            self.crlf = b'\r' == if end == 0 { self.last_byte } else { bytes[end - 1] };
        }
        self.last_byte = bytes.last().copied().unwrap_or(self.last_byte);
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fed > self.limit.load(Ordering::Relaxed) {
            return Err(io::Error::other(RowTooLong));
        }
        if let Some(tail) = &mut self.tail {
            return tail.read(buffer);
        }
        let read = self.inner.read(buffer)?;
        self.fed += read as u64;
        self.look_at(&buffer[..read]);
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        let line_end: &[u8] = match (self.last_byte, self.crlf) {
            (b'\n', _) => b"",
            (_, true) => b"\r\n",
            (_, false) => b"\n",
        };
        self.tail.insert(io::Cursor::new([line_end, END, b"\n"].concat())).read(buffer)
    }
}

/// A file that tells how much of it has been read.
pub struct Counted {
    /// The file.
    pub inner: fs::File,
    /// Bytes read so far.
    pub done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.done.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

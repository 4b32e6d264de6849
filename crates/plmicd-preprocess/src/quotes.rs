//! Quotes that the `csv` crate lets pass: text after the quote that closes a field. A quote that was not doubled, or one
//! that was forgotten, ends up there, and with it a row may have swallowed the next one.

/// Where text follows a closing quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrayText {
    /// Place of its first byte in the table, from 0.
    pub byte: u64,
    /// Line of the closing quote, from 1.
    pub line: u64,
    /// Line at which the row begins, from 1.
    pub row_line: u64,
    /// Field of the row, from 0.
    pub field: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    RowStart,
    FieldStart,
    Plain,
    Quoted,
    /// After a quote in a quoted field: it closes the field unless another one follows.
    Closed,
}

/// Follows the quotes of a table by the rules of the `csv` crate's parser.
pub struct Quotes {
    delimiter: u8,
    state: State,
    byte: u64,
    line: u64,
    row_line: u64,
    field: usize,
    /// How many fields have text after their closing quote.
    pub count: u64,
    /// The first of them.
    pub first: Option<StrayText>,
}

impl Quotes {
    /// At the start of a table.
    pub fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            state: State::RowStart,
            byte: 0,
            line: 1,
            row_line: 1,
            field: 0,
            count: 0,
            first: None,
        }
    }

    /// Takes in the next bytes of the table.
    pub fn look_at(&mut self, bytes: &[u8]) {
        // The parser passes over a byte order mark, so a quote after it opens a field.
        let mut at = if self.byte == 0 && bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        while let Some(&byte) = bytes.get(at) {
            // Most bytes are inside fields, where few matter.
            let skipped = match self.state {
                State::Quoted => find(&bytes[at..], |byte| byte == b'"'),
                State::Plain => find(&bytes[at..], |byte| self.ends_field(byte)),
                _ => Some(0),
            };
            let skipped = skipped.unwrap_or(bytes.len() - at);
            if skipped > 0 {
                self.line += line_ends(&bytes[at..at + skipped]);
                at += skipped;
                continue;
            }
            self.step(byte, self.byte + at as u64);
            self.line += u64::from(byte == b'\n');
            at += 1;
        }
        self.byte += bytes.len() as u64;
    }

    fn ends_field(&self, byte: u8) -> bool {
        byte == self.delimiter || byte == b'\n' || byte == b'\r'
    }

    fn step(&mut self, byte: u8, place: u64) {
        let is_line_end = byte == b'\n' || byte == b'\r';
        if self.state == State::RowStart {
            if is_line_end {
                return;
            }
            (self.state, self.field, self.row_line) = (State::FieldStart, 0, self.line);
        }
        self.state = match (self.state, byte) {
            (State::FieldStart | State::Closed, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::Closed,
            (State::Quoted, _) => State::Quoted,
            _ if is_line_end => State::RowStart,
            _ if byte == self.delimiter => {
                self.field += 1;
                State::FieldStart
            }
            (before, _) => {
                if before == State::Closed {
                    let (line, row_line, field) = (self.line, self.row_line, self.field);
                    self.count += 1;
                    self.first.get_or_insert(StrayText { byte: place, line, row_line, field });
                }
                State::Plain
            }
        };
    }
}

/// The first byte that is wanted, looked for in blocks, which the compiler does with vector instructions.
fn find(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<32>();
    let has = |block: &[u8; 32]| block.iter().fold(false, |found, &byte| found | is_wanted(byte));
    let start = 32 * blocks.iter().position(has).unwrap_or(blocks.len());
    bytes[start..].iter().position(|&byte| is_wanted(byte)).map(|at| start + at)
}

fn line_ends(bytes: &[u8]) -> u64 {
    // Sums that fit a byte, for the same reason.
    bytes
        .chunks(255)
        .map(|part| u64::from(part.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>()))
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(content: &[u8], step: usize) -> (u64, Option<StrayText>) {
        let mut quotes = Quotes::new(b',');
        content.chunks(step).for_each(|bytes| quotes.look_at(bytes));
        (quotes.count, quotes.first)
    }

    #[test]
    fn text_after_a_closing_quote_is_located() {
        let stray = |byte, line, row_line, field| Some(StrayText { byte, line, row_line, field });
        for (content, count, first) in [
            ("a,\"b\"\"c\",d\"e\n\"f\"\r\n\"\",\"g\nh\"", 0, None),
            ("a,b\nc,\"d\"e\n", 1, stray(9, 2, 2, 1)),
            ("a,b\n\n1,\"x,I1\n2,no\" more,\"J\" \n", 2, stray(18, 4, 3, 1)),
            ("\"a\" ,b\n", 1, stray(3, 1, 1, 0)),
        ] {
            for step in [1, 2, 100] {
                assert_eq!(found(content.as_bytes(), step), (count, first), "{content:?} by {step}");
            }
        }
        assert_eq!(found("\u{feff}\"a\"b,c\n".as_bytes(), 100).0, 1);
        let long = format!("{},\"{}\"x\n", "a".repeat(70), "b\n".repeat(600));
        assert_eq!(found(long.as_bytes(), 1 << 20), (1, stray(1273, 601, 1, 1)));
    }

    proptest! {
        /// Wherever a table is cut off, both are in the same field of a row that begins at the same line.
        #[test]
        fn agrees_with_the_parser(content in "[a,\"\n\r]{0,24}") {
            let mut quotes = Quotes::new(b',');
            content.as_bytes().chunks(3).for_each(|bytes| quotes.look_at(bytes));
            let mut builder = csv::ReaderBuilder::new();
            let reader = builder.has_headers(false).flexible(true).from_reader(content.as_bytes());
            let rows: Vec<csv::StringRecord> = reader.into_records().map(Result::unwrap).collect();
            if quotes.state != State::RowStart {
                let last = rows.last().unwrap();
                prop_assert_eq!(last.len(), quotes.field + 1);
                prop_assert!(quotes.row_line <= quotes.line);
            }
            // What both take for text outside quotes: nothing is stray where no field has any beside its quotes.
            if !content.contains('"') {
                prop_assert_eq!(quotes.first, None);
            }
        }
    }
}

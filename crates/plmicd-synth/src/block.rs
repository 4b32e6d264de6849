//! Rows made out of order and numbered when they are written in order.

/// Rows of a table without their ROW_ID, and what was counted while they were made.
#[derive(Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
    /// Words of the texts.
    pub(crate) words: u64,
}

impl Block {
    /// Ends the row that was written since the last call.
    pub(crate) fn end_row(&mut self) {
        self.bytes.push(b'\n');
        self.ends.push(self.bytes.len());
    }

    /// The bytes of the row at hand: append cells, each after a comma.
    pub(crate) fn row(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The rows in order, each from its first comma to its line end.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().scan(0, |start, end| {
            let row = &self.bytes[*start..*end];
            *start = *end;
            Some(row)
        })
    }
}

/// Appends `,number`.
pub(crate) fn number(row: &mut Vec<u8>, value: u64) {
    row.extend_from_slice(format!(",{value}").as_bytes());
}

/// Appends an empty cell.
pub(crate) fn empty(row: &mut Vec<u8>) {
    row.push(b',');
}

/// Appends a quoted cell, quotes inside doubled.
pub(crate) fn text(row: &mut Vec<u8>, text: &str) {
    row.extend_from_slice(b",\"");
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b == b'"') {
        row.extend_from_slice(&rest[..=at]);
        row.push(b'"');
        rest = &rest[at + 1..];
    }
    row.extend_from_slice(rest);
    row.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_cells() {
        let mut block = Block::default();
        number(block.row(), 7);
        text(block.row(), "a \"b\"\nc");
        empty(block.row());
        block.end_row();
        number(block.row(), 8);
        block.end_row();
        let rows: Vec<&[u8]> = block.rows().collect();
        assert_eq!(rows, [&b",7,\"a \"\"b\"\"\nc\",\n"[..], &b",8\n"[..]]);
    }
}

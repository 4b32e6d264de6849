use std::collections::BTreeMap;
use std::io::{self, Write};

/// A zip archive of uncompressed entries, in memory: all that `torch.save` writes.
pub struct Archive<'a> {
    entries: BTreeMap<String, &'a [u8]>,
}

const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// In a 32-bit field: the number is in a 64-bit field elsewhere.
const ELSEWHERE: u64 = 0xffff_ffff;

impl<'a> Archive<'a> {
    /// Reads the directory at the end of the archive.
    pub fn open(bytes: &'a [u8]) -> Result<Archive<'a>, String> {
        Archive::parse(bytes).ok_or_else(|| "is a damaged or compressed zip archive".to_owned())
    }

    /// The content of an entry.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.entries.get(name).copied()
    }

    /// The first entry whose name ends so: what comes before, and its content.
    pub fn find_ending(&self, ending: &str) -> Option<(&str, &'a [u8])> {
        self.entries.iter().find_map(|(name, content)| Some((name.strip_suffix(ending)?, *content)))
    }

    fn parse(bytes: &'a [u8]) -> Option<Archive<'a>> {
        let (count, mut at) = directory(bytes)?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let header = Record::at(bytes, at, CENTRAL)?;
            let (method, name_len, extra_len) = (header.u16(10)?, header.u16(28)?, header.u16(30)?);
            let (name_len, extra_len, comment_len) =
                (name_len.into(), extra_len.into(), usize::from(header.u16(32)?));
            let name = std::str::from_utf8(header.bytes(46, name_len)?).ok()?;
            let extra = header.bytes(46 + name_len, extra_len)?;
            let mut wide = wide_fields(extra);
            let mut field = |at| match u64::from(header.u32(at)?) {
                ELSEWHERE => wide.next(),
                narrow => Some(narrow),
            };
            // In this order in the 64-bit field too: full size, stored size, place.
            let (size, stored, place) = (field(24)?, field(20)?, field(42)?);
            if method != 0 || size != stored {
                return None;
            }
            let local = Record::at(bytes, usize::try_from(place).ok()?, LOCAL)?;
            let skipped = 30 + usize::from(local.u16(26)?) + usize::from(local.u16(28)?);
            entries.insert(name.to_owned(), local.bytes(skipped, usize::try_from(size).ok()?)?);
            at += 46 + name_len + extra_len + comment_len;
        }
        Some(Archive { entries })
    }
}

/// Number of entries and place of the first.
fn directory(bytes: &[u8]) -> Option<(u64, usize)> {
    // The last record, before a comment of unknown length.
    let last = bytes.len().checked_sub(22)?;
    let end = (last.saturating_sub(0xffff)..=last).rev().find(|&at| Record::at(bytes, at, END).is_some())?;
    let record = Record::at(bytes, end, END)?;
    let (count, place) = (u64::from(record.u16(10)?), u64::from(record.u32(16)?));
    if count != 0xffff && place != ELSEWHERE {
        return Some((count, usize::try_from(place).ok()?));
    }
    let locator = Record::at(bytes, end.checked_sub(20)?, END_64_LOCATOR)?;
    let record = Record::at(bytes, usize::try_from(locator.u64(8)?).ok()?, END_64)?;
    Some((record.u64(32)?, usize::try_from(record.u64(48)?).ok()?))
}

/// The 64-bit numbers of the extra field with id 1.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut numbers = Vec::new();
    while let [id_low, id_high, size_low, size_high, rest @ ..] = extra {
        let size = usize::from(u16::from_le_bytes([*size_low, *size_high])).min(rest.len());
        if [*id_low, *id_high] == [1, 0] {
            numbers = rest[..size].as_chunks().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
        }
        extra = &rest[size..];
    }
    numbers.into_iter()
}

/// A record of the archive, read by offset.
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn at(bytes: &'a [u8], place: usize, signature: u32) -> Option<Record<'a>> {
        let record = Record(bytes.get(place..)?);
        (record.u32(0)? == signature).then_some(record)
    }

    fn bytes(&self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(length)?)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes(at, 2)?.try_into().ok()?))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(at, 4)?.try_into().ok()?))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(at, 8)?.try_into().ok()?))
    }
}

/// Writes such an archive: uncompressed, every entry's values at a multiple of 64 bytes as PyTorch has them (so that they
/// can be mapped into memory), and with 64-bit numbers only where it outgrows 32.
pub struct ArchiveWriter<W: Write> {
    out: W,
    at: u64,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    checksum: u32,
    size: u64,
    place: u64,
}

const ALIGNMENT: u64 = 64;
/// Id of the extra field that pads a header, as PyTorch writes it.
const PADDING: [u8; 2] = *b"FB";
/// Version 4.5 of the format, which has 64-bit numbers.
const VERSION: u16 = 45;
/// 1 January 1980, the first date there is: equal contents make equal files.
const DATE: u32 = 0x0021_0000;

impl<W: Write> ArchiveWriter<W> {
    pub fn new(out: W) -> ArchiveWriter<W> {
        ArchiveWriter { out, at: 0, entries: Vec::new() }
    }

    /// Adds an entry.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let entry = Entry {
            name: name.to_owned(),
            checksum: crc32fast::hash(content),
            size: content.len() as u64,
            place: self.at,
        };
        // The header is 30 bytes, the name, the 64-bit sizes where they are needed, and the padding's own 4.
        let wide = if entry.size >= ELSEWHERE { wide_field(&[entry.size, entry.size]) } else { Vec::new() };
        let fixed = self.at + 30 + name.len() as u64 + wide.len() as u64 + 4;
        let padding = (fixed.next_multiple_of(ALIGNMENT) - fixed) as u16;
        let mut header = LOCAL.to_le_bytes().to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend([0; 4]);
        header.extend(DATE.to_le_bytes());
        header.extend(entry.checksum.to_le_bytes());
        header.extend([narrow(entry.size); 2].concat());
        header.extend((name.len() as u16).to_le_bytes());
        header.extend((wide.len() as u16 + 4 + padding).to_le_bytes());
        header.extend(name.as_bytes());
        header.extend(wide);
        header.extend(PADDING);
        header.extend(padding.to_le_bytes());
        header.resize(header.len() + usize::from(padding), 0);
        self.write(&header)?;
        self.write(content)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Writes the directory and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        let start = self.at;
        for entry in std::mem::take(&mut self.entries) {
            let wide: Vec<u64> = [entry.size, entry.size, entry.place]
                .into_iter()
                .filter(|&number| number >= ELSEWHERE)
                .collect();
            let wide = if wide.is_empty() { Vec::new() } else { wide_field(&wide) };
            let mut header = CENTRAL.to_le_bytes().to_vec();
            header.extend([VERSION.to_le_bytes(); 2].concat());
            header.extend([0; 4]);
            header.extend(DATE.to_le_bytes());
            header.extend(entry.checksum.to_le_bytes());
            header.extend([narrow(entry.size); 2].concat());
            header.extend((entry.name.len() as u16).to_le_bytes());
            header.extend((wide.len() as u16).to_le_bytes());
            header.extend([0; 10]);
            header.extend(narrow(entry.place));
            header.extend(entry.name.as_bytes());
            header.extend(wide);
            self.write(&header)?;
            self.entries.push(entry);
        }
        let (count, size, end) = (self.entries.len() as u64, self.at - start, self.at);
        let mut tail = Vec::new();
        if count >= 0xffff || end >= ELSEWHERE {
            tail.extend(END_64.to_le_bytes());
            tail.extend(44u64.to_le_bytes());
            tail.extend([VERSION.to_le_bytes(); 2].concat());
            tail.extend([0; 8]);
            for number in [count, count, size, start] {
                tail.extend(number.to_le_bytes());
            }
            tail.extend(END_64_LOCATOR.to_le_bytes());
            tail.extend([0; 4]);
            tail.extend(end.to_le_bytes());
            tail.extend(1u32.to_le_bytes());
        }
        tail.extend(END.to_le_bytes());
        tail.extend([0; 4]);
        tail.extend([(count.min(0xffff) as u16).to_le_bytes(); 2].concat());
        tail.extend(narrow(size));
        tail.extend(narrow(start));
        tail.extend([0; 2]);
        self.write(&tail)?;
        Ok(self.out)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// A number in a 32-bit field, or the mark that it is elsewhere.
fn narrow(number: u64) -> [u8; 4] {
    (number.min(ELSEWHERE) as u32).to_le_bytes()
}

/// The extra field of 64-bit numbers.
fn wide_field(numbers: &[u64]) -> Vec<u8> {
    let mut field = vec![1, 0];
    field.extend((8 * numbers.len() as u16).to_le_bytes());
    field.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One stored entry `a/data.pkl`, with or without 64-bit sizes.
    fn archive(wide: bool) -> Vec<u8> {
        let name = b"a/data.pkl";
        let content = b"hello";
        let mut bytes = LOCAL.to_le_bytes().to_vec();
        bytes.extend([0; 22]);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(name);
        bytes.extend(content);
        let start = bytes.len();
        let size = if wide { u32::MAX } else { content.len() as u32 };
        bytes.extend(CENTRAL.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(size.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([if wide { 20 } else { 0 }, 0]);
        bytes.extend([0; 14]);
        bytes.extend(name);
        if wide {
            bytes.extend([1, 0, 16, 0]);
            bytes.extend([(content.len() as u64).to_le_bytes(); 2].concat());
            let end = bytes.len();
            bytes.extend(END_64.to_le_bytes());
            bytes.extend([0; 28]);
            bytes.extend(1u64.to_le_bytes());
            bytes.extend([0; 8]);
            bytes.extend((start as u64).to_le_bytes());
            bytes.extend(END_64_LOCATOR.to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend((end as u64).to_le_bytes());
            bytes.extend([0; 4]);
        }
        bytes.extend(END.to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(if wide { u16::MAX } else { 1 }.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(if wide { u32::MAX } else { start as u32 }.to_le_bytes());
        bytes.extend([0; 2]);
        bytes
    }

    #[test]
    fn stored_entries_are_found_in_both_layouts() {
        for wide in [false, true] {
            let bytes = archive(wide);
            let archive = Archive::open(&bytes).unwrap();
            assert_eq!(archive.find_ending("/data.pkl"), Some(("a", b"hello".as_slice())));
            assert_eq!(archive.get("a/other"), None);
        }
    }

    #[test]
    fn no_damage_goes_beyond_the_bytes() {
        let whole = archive(true);
        for cut in 0..whole.len() {
            assert!(Archive::open(&whole[..cut]).is_err());
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            let _ = Archive::open(&damaged);
        }
    }

    #[test]
    fn what_is_written_is_found_again_at_aligned_places() {
        let mut writer = ArchiveWriter::new(Vec::new());
        let entries: [(&str, &[u8]); 3] =
            [("a/data.pkl", b"hello"), ("a/data/0", &[7; 100]), ("a/empty", b"")];
        for (name, content) in entries {
            writer.add(name, content).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let archive = Archive::open(&bytes).unwrap();
        for (name, content) in entries {
            let found = archive.get(name).unwrap();
            assert_eq!(found, content, "{name}");
            assert_eq!((found.as_ptr() as usize - bytes.as_ptr() as usize) % 64, 0, "{name}");
        }
    }
}

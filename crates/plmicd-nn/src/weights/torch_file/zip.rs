use std::collections::BTreeMap;

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
}

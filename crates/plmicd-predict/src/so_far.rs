//! The scores of a split so far, in the stage's work folder: a stage that was interrupted or killed goes on after them.
//!
//! ```text
//! SPLIT.scores        a row of fp32 numbers for each note, in the order of the shards
//! SPLIT.scores.json   how many notes of it count, and how they were computed
//! ```
//!
//! Rows are synced before their number is written, by renaming: whatever kills the program, what counts is whole.

use std::io::{BufReader, Error, ErrorKind, Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::os::unix::fs::OpenOptionsExt;
use fs_err::{File, OpenOptions};
use plmicd_data::{DataError, Split, read_json, write_json};
use serde::{Deserialize, Serialize};

/// What counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    /// Number format and kernels: others give other scores in the last digits.
    computed: String,
    labels: usize,
    notes: u64,
}

/// Scores so far.
#[derive(Debug)]
pub(crate) struct SoFar {
    rows: File,
    path: Utf8PathBuf,
    count: Count,
}

impl SoFar {
    /// Takes up what is in `dir`, or begins.
    pub fn open(dir: &Utf8Path, split: Split, computed: &str, labels: usize) -> Result<Self, DataError> {
        fs_err::create_dir_all(dir)?;
        let path = dir.join(format!("{split}.scores"));
        let mut begin = Count { computed: computed.to_owned(), labels, notes: 0 };
        let mut rows =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        // What cannot be read counts nothing.
        if let Ok(found) = read_json::<Count>(&Self::count_path(&path)) {
            let is_ours = Count { notes: 0, ..found.clone() } == begin;
            if is_ours && rows.metadata()?.len() >= Self::bytes(&found) {
                begin.notes = found.notes;
            }
        }
        if begin.notes == 0 {
            // Before the rows it counts: whoever is killed in between must not find it beside rows of another kind.
            match fs_err::remove_file(Self::count_path(&path)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => File::open(dir)?.sync_all()?,
            }
        }
        rows.set_len(Self::bytes(&begin))?;
        rows.seek(SeekFrom::End(0))?;
        Ok(Self { rows, path, count: begin })
    }

    fn count_path(path: &Utf8Path) -> Utf8PathBuf {
        format!("{path}.json").into()
    }

    fn bytes(count: &Count) -> u64 {
        count.notes * count.labels as u64 * 4
    }

    /// Notes that are scored.
    pub fn notes(&self) -> u64 {
        self.count.notes
    }

    /// Adds rows.
    pub fn add(&mut self, scores: &[f32]) -> Result<(), DataError> {
        let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
        self.rows.write_all(&bytes)?;
        self.rows.sync_data()?;
        self.count.notes += (scores.len() / self.count.labels) as u64;
        let path = Self::count_path(&self.path);
        let fresh = Utf8PathBuf::from(format!("{path}.new"));
        write_json(&fresh, &self.count)?;
        File::open(&fresh)?.sync_all()?;
        fs_err::rename(&fresh, &path)?;
        let folder = path.parent().unwrap_or(Utf8Path::new("."));
        Ok(File::open(folder)?.sync_all()?)
    }

    /// Gives `take` each row in order.
    pub fn read<E: From<Error>>(mut self, mut take: impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        self.rows.rewind()?;
        let mut rows = BufReader::with_capacity(1 << 20, self.rows);
        let (mut bytes, mut row) = (vec![0; self.count.labels * 4], vec![0.0; self.count.labels]);
        for _ in 0..self.count.notes {
            rows.read_exact(&mut bytes)?;
            for (score, bytes) in row.iter_mut().zip(bytes.as_chunks().0) {
                *score = f32::from_le_bytes(*bytes);
            }
            take(&row)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(so_far: SoFar) -> Vec<f32> {
        let mut rows = Vec::new();
        let taken: Result<(), Error> = so_far.read(|row| {
            rows.extend_from_slice(row);
            Ok(())
        });
        taken.unwrap();
        rows
    }

    #[test]
    fn what_counts_is_taken_up_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(folder.path()).unwrap();
        let open = |computed| SoFar::open(dir, Split::Dev, computed, 2).unwrap();
        let mut first = open("fp32");
        first.add(&[0.5, 0.25, 1.0, 0.0]).unwrap();
        // Killed before the number was written.
        first.rows.write_all(&[1, 2, 3]).unwrap();
        let again = open("fp32");
        assert_eq!(again.notes(), 2);
        assert_eq!(rows(again), [0.5, 0.25, 1.0, 0.0]);
        // Fewer bytes than are said to count.
        OpenOptions::new().write(true).open(dir.join("dev.scores")).unwrap().set_len(7).unwrap();
        assert_eq!(open("fp32").notes(), 0);
        let mut other = open("fp32");
        other.add(&[0.5, 0.5]).unwrap();
        assert_eq!(open("bf16").notes(), 0);
        // Nothing is left that would count what comes next as the other's.
        assert!(!dir.join("dev.scores.json").exists());
    }
}

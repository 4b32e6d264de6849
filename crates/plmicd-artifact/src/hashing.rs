//! Hashing files: in parallel, with progress, noticing files that change meanwhile.
//!
//! Files are read, not memory-mapped: a mapped file that another process truncates kills the reader with
//! SIGBUS, and sources are other people's files.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;

use crate::digest::Digest;
use crate::fsops;

/// Bytes read at a time; each such piece is hashed on all threads of the pool.
const CHUNK: usize = 8 << 20;
/// Below this a piece is hashed on the calling thread.
const PARALLEL_FROM: usize = 256 << 10;
/// Files up to this size are hashed side by side, larger ones one after another on all threads.
const SMALL_FILE: u64 = 4 << 20;
/// Small files hashed between two progress reports.
const BATCH: usize = 256;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of content or attributes, nanoseconds since 1970.
    pub ctime_ns: i64,
    pub inode: u64,
}

impl Stat {
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: metadata.len(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// A file's digest and the state it was taken in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashedFile {
    pub digest: Digest,
    pub stat: Stat,
}

/// Hashes one file, reporting the bytes of every piece read.
pub(crate) fn hash_file(path: &Utf8Path, progress: &mut dyn FnMut(u64)) -> io::Result<HashedFile> {
    let mut file = fs_err::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(fsops::at(path, "reading", io::Error::other("not a regular file")));
    }
    let before = Stat::of(&metadata);
    let mut hasher = blake3::Hasher::new();
    // One byte more than the file holds, so that a short file ends in its first piece.
    let mut buffer = vec![0; usize::try_from(before.size).unwrap_or(CHUNK).saturating_add(1).min(CHUNK)];
    let mut total = 0;
    loop {
        let piece = fill(&mut file, &mut buffer)?;
        if piece.len() < PARALLEL_FROM {
            hasher.update(piece);
        } else {
            hasher.update_rayon(piece);
        }
        total += piece.len() as u64;
        progress(piece.len() as u64);
        if piece.len() < buffer.len() {
            break;
        }
    }
    let after = Stat::of(&file.metadata()?);
    if total != before.size || (after.size, after.mtime_ns) != (before.size, before.mtime_ns) {
        return Err(fsops::at(path, "reading", io::Error::other("the file changed while it was being read")));
    }
    Ok(HashedFile { digest: Digest::finish(&hasher), stat: before })
}

/// Reads until the buffer is full or the file ends.
fn fill<'a>(file: &mut fs_err::File, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&buffer[..filled])
}

/// Hashes many files; results in the order of `paths`. `progress` receives the bytes hashed since its last call.
pub(crate) fn hash_files(
    paths: &[Utf8PathBuf],
    progress: &mut dyn FnMut(u64),
) -> Vec<io::Result<HashedFile>> {
    let is_small = |path: &Utf8PathBuf| fs_err::metadata(path).map_or(true, |m| m.len() <= SMALL_FILE);
    let (small, large): (Vec<usize>, Vec<usize>) = (0..paths.len()).partition(|&i| is_small(&paths[i]));
    let mut results: Vec<Option<io::Result<HashedFile>>> = paths.iter().map(|_| None).collect();
    for batch in small.chunks(BATCH) {
        let hashed: Vec<_> = batch.par_iter().map(|&i| hash_file(&paths[i], &mut |_| {})).collect();
        progress(hashed.iter().flatten().map(|h| h.stat.size).sum());
        for (&index, result) in batch.iter().zip(hashed) {
            results[index] = Some(result);
        }
    }
    for index in large {
        results[index] = Some(hash_file(&paths[index], progress));
    }
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    #[test]
    fn sizes_around_every_boundary_match_one_shot_hashing() {
        let (_guard, dir) = folder();
        let sizes = [0, 1, PARALLEL_FROM - 1, PARALLEL_FROM, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77];
        let paths: Vec<_> = sizes.iter().map(|size| dir.join(size.to_string())).collect();
        let contents: Vec<Vec<u8>> =
            sizes.iter().map(|&size| (0..size).map(|i| (i * 31 % 251) as u8).collect()).collect();
        for (path, content) in paths.iter().zip(&contents) {
            fs_err::write(path, content).unwrap();
        }
        let mut reported = 0;
        let hashed = hash_files(&paths, &mut |bytes| reported += bytes);
        for ((result, content), path) in hashed.into_iter().zip(&contents).zip(&paths) {
            let result = result.unwrap();
            assert_eq!(result.digest, Digest::of(content), "{path}");
            assert_eq!(Digest::of_file(path).unwrap(), (result.digest, content.len() as u64));
        }
        assert_eq!(reported, sizes.iter().sum::<usize>() as u64);
    }

    #[test]
    fn a_file_that_grows_or_shrinks_meanwhile_is_noticed() {
        let (_guard, dir) = folder();
        let path = dir.join("notes.csv");
        for grow in [true, false] {
            fs_err::write(&path, vec![7; CHUNK + 10]).unwrap();
            let mut file = fs_err::OpenOptions::new().append(true).open(&path).unwrap();
            let mut first = true;
            let error = hash_file(&path, &mut |_| {
                if std::mem::take(&mut first) {
                    if grow { file.write_all(b"more").unwrap() } else { file.set_len(5).unwrap() }
                }
            })
            .unwrap_err()
            .to_string();
            assert!(error.contains("changed while") && error.contains("notes.csv"), "{error}");
        }
    }

    #[test]
    fn missing_files_and_folders_are_named() {
        let (_guard, dir) = folder();
        let error = Digest::of_file(&dir.join("absent.csv")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("absent.csv"));
        let error = Digest::of_file(&dir).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}

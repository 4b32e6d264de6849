//! From the shared store to the local one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read, Write};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Remote, RemoteError, Transfer, blob_path, check_mark};
use crate::digest::Digest;
use crate::error::Doing;
use crate::fsops;
use crate::manifest::{ArtifactManifest, ArtifactRef, FileEntry};
use crate::mirror::Progress;
use crate::record::ActionRecord;
use crate::store::Store;

/// Scratch of a pull is that of an action of this name whose key is the artifact's digest: found again by the next
/// attempt, locked against another one, and swept by the collector.
const ACTION: &str = "remote";

impl Remote {
    /// Brings an artifact into the store, unless it is there, and records these actions that led to it.
    ///
    /// Only files whose digests are right are ever moved into the store. What was fetched before an interruption is kept,
    /// halves of files included.
    ///
    /// # Errors
    /// [`RemoteError::Damaged`] names the object at fault; [`RemoteError::Missing`]; [`RemoteError::Interrupted`], also
    /// while another process fetches the same artifact.
    pub fn pull(
        &self,
        store: &Store,
        artifact: &ArtifactRef,
        records: &[ActionRecord],
        progress: &mut Progress<'_>,
    ) -> Result<Transfer, RemoteError> {
        let missing = || RemoteError::Missing { url: self.url().to_owned(), artifact: artifact.clone() };
        let manifest = self.manifest(artifact)?.ok_or_else(missing)?;
        for record in records.iter().filter(|record| record.artifact_ref() == *artifact) {
            check_mark(record, &manifest)?;
        }
        let waiting = &mut || tracing::info!("waiting: another process fetches {}", artifact.short());
        let blobs: BTreeSet<(Digest, u64)> =
            manifest.files.values().map(|entry| (entry.blake3, entry.size)).collect();
        let total = blobs.iter().map(|(_, size)| size).sum();
        let lock = {
            let progress = RefCell::new(&mut *progress);
            let stop = || !progress.borrow_mut()(0, total);
            store.lock_action_until(ACTION, artifact.digest, waiting, &stop)?
        };
        let _lock = lock.ok_or(RemoteError::Interrupted)?;
        let mut transfer = Transfer::default();
        if store.has_intact(artifact)? {
            transfer.present = manifest.files.len() as u64;
            store.record_all(artifact, records)?;
            return Ok(transfer);
        }
        let scratch = store.work_dir(ACTION, artifact.digest)?;
        let mut done = 0;
        for (blake3, size) in blobs {
            let entry = FileEntry { size, blake3 };
            let fetched = self.fetch_file(&scratch, &entry, &mut |bytes| progress(done + bytes, total))?;
            transfer.files += u64::from(fetched > 0);
            transfer.present += u64::from(fetched == 0);
            transfer.bytes += fetched;
            done += size;
            if !progress(done, total) {
                return Err(RemoteError::Interrupted);
            }
        }
        let staging = store.staging()?;
        lay_out(&scratch, staging.path(), &manifest).doing(|| format!("laying out artifact {artifact}"))?;
        store.adopt(staging, &manifest, records)?;
        store.remove_work_dir(ACTION, artifact.digest)?;
        Ok(transfer)
    }

    /// Fetches a file's content to `scratch/DIGEST`; the bytes that came over.
    fn fetch_file(
        &self,
        scratch: &Utf8Path,
        entry: &FileEntry,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u64, RemoteError> {
        let doing = || "fetching a shared file".to_owned();
        let whole = scratch.join(entry.blake3.to_string());
        // It only gets this name once its digest was seen to be right.
        if fsops::stat(&whole).doing(doing)?.is_some_and(|found| found.len() == entry.size) {
            return Ok(0);
        }
        let part = Utf8PathBuf::from(format!("{whole}.part"));
        let blob = blob_path(entry.blake3);
        let (mut brought, mut begun_again) = (0, false);
        loop {
            let (mut file, mut hasher, before) = open_part(&part, entry.size).doing(doing)?;
            let mut length = before;
            let mut take = |piece: &[u8]| -> Result<(), RemoteError> {
                file.write_all(piece).doing(doing)?;
                hasher.update(piece);
                length += piece.len() as u64;
                if length > entry.size {
                    let what = format!("has more than the {} bytes it should have", entry.size);
                    return Err(RemoteError::Damaged { object: blob.clone(), what });
                }
                if progress(length) { Ok(()) } else { Err(RemoteError::Interrupted) }
            };
            let read = if before < entry.size || entry.size == 0 {
                self.backend.read_from(&blob, before, &mut take)
            } else {
                Ok(true)
            };
            match read {
                Ok(true) => {}
                Ok(false) => {
                    return Err(RemoteError::Damaged { object: blob, what: "is missing".to_owned() });
                }
                // A connection that broke after it brought something is made again from there.
                Err(RemoteError::Io { .. }) if length > before => {
                    brought += length - before;
                    continue;
                }
                Err(error) => {
                    if matches!(error, RemoteError::Damaged { .. }) {
                        fs_err::remove_file(&part).doing(doing)?;
                    }
                    return Err(error);
                }
            }
            let found = Digest::finish(&hasher);
            if length == entry.size && found == entry.blake3 {
                file.sync_all().doing(doing)?;
                fs_err::rename(&part, &whole).doing(doing)?;
                return Ok(brought + length - before);
            }
            fs_err::remove_file(&part).doing(doing)?;
            // What an earlier attempt left may be at fault: once more from the start.
            if before == 0 || std::mem::replace(&mut begun_again, true) {
                let what = if length == entry.size {
                    format!("has digest {found}, not that of its name")
                } else {
                    format!("has {length} bytes instead of {}", entry.size)
                };
                return Err(RemoteError::Damaged { object: blob, what });
            }
        }
    }
}

/// The beginning of a file that an earlier attempt left, to go on from, with its hash so far and its length.
fn open_part(path: &Utf8Path, size: u64) -> std::io::Result<(fs_err::File, blake3::Hasher, u64)> {
    use fs_err::os::unix::fs::OpenOptionsExt;
    let mut options = fs_err::OpenOptions::new();
    options.read(true).append(true).create(true).mode(fsops::FILE_MODE);
    let mut file = options.open(path)?;
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((file, hasher, length));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Moves the fetched files to where the manifest has them.
fn lay_out(scratch: &Utf8Path, folder: &Utf8Path, manifest: &ArtifactManifest) -> std::io::Result<()> {
    let mut left: std::collections::BTreeMap<Digest, usize> = Default::default();
    for entry in manifest.files.values() {
        *left.entry(entry.blake3).or_default() += 1;
    }
    for (path, entry) in &manifest.files {
        let (from, to) = (scratch.join(entry.blake3.to_string()), folder.join(path));
        if let Some(parent) = to.parent() {
            fsops::create_dir_all(parent)?;
        }
        let left = left.entry(entry.blake3).or_default();
        *left -= 1;
        if *left > 0 {
            fs_err::copy(&from, &to)?;
        } else {
            fs_err::rename(&from, &to)?;
        }
    }
    Ok(())
}

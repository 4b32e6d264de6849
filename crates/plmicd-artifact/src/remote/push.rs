//! From the store to the shared one.

use std::collections::BTreeMap;

use super::backend::{PART, fill};
use super::{Remote, RemoteError, Transfer, blob_path, manifest_path, record_path};
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::manifest::{ArtifactRef, FileEntry};
use crate::mirror::Progress;
use crate::record::ActionRecord;
use crate::store::Store;

/// How to push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Also what derives from data under a use agreement.
    pub allow_restricted: bool,
    /// Also files that are there already, in case they are damaged.
    pub again: bool,
}

impl Remote {
    /// Pushes an artifact and the records that name it: files, then the manifest, then the records.
    ///
    /// # Errors
    /// [`RemoteError::Restricted`] without consent; [`StoreError::Damaged`] where a file is no longer what its manifest
    /// says, and then it is not shared. What was pushed before an error stays and is not pushed again.
    pub fn push(
        &self,
        store: &Store,
        artifact: &ArtifactRef,
        options: PushOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Transfer, RemoteError> {
        let _lease = store.lease(&[(artifact.kind.clone(), artifact.digest)])?;
        let manifest = store.manifest(&artifact.kind, artifact.digest)?;
        if manifest.restricted && !options.allow_restricted {
            return Err(RemoteError::Restricted { artifact: artifact.clone() });
        }
        let mut blobs: BTreeMap<Digest, (&str, &FileEntry)> = BTreeMap::new();
        for (path, entry) in &manifest.files {
            blobs.entry(entry.blake3).or_insert((path.as_str(), entry));
        }
        let total = blobs.values().map(|(_, entry)| entry.size).sum();
        let (mut transfer, mut done) = (Transfer::default(), 0);
        for (digest, (path, entry)) in blobs {
            let blob = blob_path(digest);
            if !options.again && self.backend.size(&blob)? == Some(entry.size) {
                transfer.present += 1;
                done += entry.size;
            } else {
                let file = store.object_dir(&artifact.kind, artifact.digest).join(path);
                self.push_file(&file, entry, &blob, &mut |bytes| progress(done + bytes, total))?;
                transfer.files += 1;
                transfer.bytes += entry.size;
                done += entry.size;
            }
            if !progress(done, total) {
                return Err(RemoteError::Interrupted);
            }
        }
        self.backend.write(&manifest_path(artifact), manifest.to_bytes())?;
        for record in records_of(store, artifact)? {
            self.backend.write(&record_path(&record.stage, record.key), record.to_bytes())?;
        }
        Ok(transfer)
    }

    fn push_file(
        &self,
        path: &camino::Utf8Path,
        entry: &FileEntry,
        blob: &str,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), RemoteError> {
        let reading = || "reading a file to be shared".to_owned();
        let changed = || StoreError::Damaged {
            path: path.to_owned(),
            what: "is not what artifact.json says; `plmicd artifact verify` tells more".to_owned(),
        };
        let mut file = fs_err::File::open(path).doing(reading)?;
        let mut hasher = blake3::Hasher::new();
        let mut sent = 0;
        let mut next = |part: &mut Vec<u8>| -> Result<(), RemoteError> {
            fill(&mut file, part).doing(reading)?;
            hasher.update(part);
            sent += part.len() as u64;
            // Before the last part goes: an upload that is not completed leaves no object.
            let is_whole = || sent == entry.size && Digest::finish(&hasher) == entry.blake3;
            if sent > entry.size || (part.len() < PART && !is_whole()) {
                return Err(changed().into());
            }
            if progress(sent.min(entry.size)) { Ok(()) } else { Err(RemoteError::Interrupted) }
        };
        self.backend.clear_abandoned(blob).doing(|| "clearing away what a killed push left".to_owned())?;
        if entry.size < PART as u64 {
            let mut whole = Vec::new();
            next(&mut whole)?;
            return self.backend.write(blob, whole);
        }
        self.backend.write_parts(blob, &mut next)
    }
}

/// The records that name an artifact.
fn records_of(store: &Store, artifact: &ArtifactRef) -> Result<Vec<ActionRecord>, StoreError> {
    let mut found = Vec::new();
    for stage in store.stages()? {
        let records = store.actions_of_stage(&stage)?;
        found.extend(records.into_iter().filter(|record| record.artifact_ref() == *artifact));
    }
    Ok(found)
}

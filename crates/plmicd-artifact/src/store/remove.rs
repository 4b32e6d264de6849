//! Taking objects out of the store: removal, quarantine.

use std::io;

use camino::Utf8PathBuf;

use super::Store;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::manifest::ArtifactRef;

impl Store {
    /// Removes an artifact; returns the bytes freed. Records that name it stay, and
    /// [`lookup`](Self::lookup) then answers [`OutputMissing`](super::Lookup::OutputMissing).
    ///
    /// # Errors
    /// [`StoreError::InUse`] while it is pinned or leased; [`StoreError::Missing`].
    pub fn remove(&self, artifact: &ArtifactRef) -> Result<u64, StoreError> {
        let lock = self.lock_object(artifact)?;
        let holders = self.holders(artifact)?;
        if !holders.is_empty() {
            return Err(StoreError::InUse { artifact: artifact.clone(), holders });
        }
        let Some((bytes, trash)) = self.move_to_trash(artifact)? else {
            return Err(StoreError::Missing { artifact: artifact.clone() });
        };
        drop(lock);
        fsops::remove_tree(&trash).doing(|| format!("removing artifact {artifact}"))?;
        Ok(bytes)
    }

    /// Moves a damaged artifact out of the way, to `tmp/`, so that it counts as missing. It is kept there for a
    /// grace period of `gc`. Returns where it lies now.
    pub fn quarantine(&self, artifact: &ArtifactRef) -> Result<Utf8PathBuf, StoreError> {
        let _lock = self.lock_object(artifact)?;
        self.check_present(artifact)?;
        self.move_to_quarantine(artifact).doing(|| format!("moving artifact {artifact} to quarantine"))
    }

    /// Pins and leases on an artifact, in words.
    pub(super) fn holders(&self, artifact: &ArtifactRef) -> Result<Vec<String>, StoreError> {
        let pins = self.pins()?.into_iter().filter(|pin| pin.artifact == *artifact);
        let mut holders: Vec<String> = pins.map(|pin| format!("pinned as `{}`", pin.name)).collect();
        let processes = self.leased(false)?.remove(artifact).unwrap_or_default();
        holders.extend(processes.iter().map(|process| format!("in use by process {process}")));
        Ok(holders)
    }

    /// Renames an object to `tmp/trash-U`; its size and its place there. The caller holds the object's lock.
    pub(super) fn move_to_trash(
        &self,
        artifact: &ArtifactRef,
    ) -> Result<Option<(u64, Utf8PathBuf)>, StoreError> {
        let dir = self.object_dir_of(artifact);
        let doing = || format!("removing artifact {artifact}");
        let (bytes, _) = fsops::tree_usage(&dir).doing(doing)?;
        let trash = self.temporary("trash");
        let moved = fsops::optional(fs_err::rename(&dir, &trash)).doing(doing)?;
        Ok(moved.map(|()| (bytes, trash)))
    }

    /// Renames an object to `tmp/quarantine-…`. The caller holds the object's lock.
    pub(super) fn move_to_quarantine(&self, artifact: &ArtifactRef) -> io::Result<Utf8PathBuf> {
        let place = self.temporary(&format!("quarantine-{}-{}", artifact.kind, artifact.digest));
        fs_err::rename(self.object_dir_of(artifact), &place)?;
        // Its grace period counts from now, not from when the artifact was published.
        fsops::touch(&place)?;
        Ok(place)
    }
}

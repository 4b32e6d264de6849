//! Folders in which outputs are made.

use camino::{Utf8Path, Utf8PathBuf};

use super::Store;
use super::locks::LockedFile;
use crate::error::{Doing, StoreError};
use crate::fsops;

/// A fresh folder in `tmp/`, removed when dropped unless it was published. While it lives, a lock tells the garbage
/// collector so.
#[derive(Debug)]
pub struct Staging {
    path: Utf8PathBuf,
    // Dropped after the folder is gone: see `Drop`.
    _lock: LockedFile,
}

impl Staging {
    /// The folder.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fsops::remove_tree(&self.path) {
            tracing::warn!(%error, "a staging folder could not be removed; `gc` will");
        }
    }
}

impl Store {
    /// A fresh, empty folder for an output.
    pub fn staging(&self) -> Result<Staging, StoreError> {
        let path = self.temporary("staging");
        // The lock comes first: a staging folder without a held lock is abandoned.
        let lock = LockedFile::create(&staging_lock_path(&path));
        lock.and_then(|lock| {
            fsops::create_new_dir(&path)?;
            Ok(Staging { path, _lock: lock })
        })
        .doing(|| "creating a folder for an output".to_owned())
    }
}

/// The lock file of a staging folder.
pub(super) fn staging_lock_path(staging: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{staging}.lock"))
}

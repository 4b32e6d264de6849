//! The store on disk, its protocol, and why killing any process at any instant leaves it valid.
//!
//! ```text
//! <root>/                                 every folder 0700, every file 0600 but for published ones (0400)
//!   store.json                            {"format": 1}
//!   objects/<kind>/<digest>/              an artifact: artifact.json + payload. Immutable.
//!   actions/<stage>/<key>.json            stage key -> artifact digest, fingerprint, provenance
//!   work/<stage>/<key>/                   resumable scratch of a stage (checkpoints); survives crashes
//!   tmp/staging-U/  tmp/staging-U.lock    an output in the making, and the lock that marks it as alive
//!   tmp/write-U                           a small file in the making; locked by its writer
//!   tmp/link-U                            a symlink in the making
//!   tmp/trash-U/                          moved away, to be deleted
//!   tmp/quarantine-<kind>-<digest>-U/     a damaged artifact, kept for a grace period
//!   locks/action.<stage>.<key>.lock       held while a key's action runs
//!   locks/object.<kind>.<digest>.lock     held for the moment in which an object appears or disappears
//!   leases/U.json                         artifacts a live process uses; locked by it
//!   pins/<name>.json                      a named root of garbage collection
//!   sources/index.json                    stat cache of source files
//!   runs/                                 run records (owned by the pipeline engine)
//!   latest/<pipeline>/<node>              symlinks for people
//! ```
//!
//! `U` is a name no other process uses. Locks are advisory locks of the operating system on those files, which a
//! dying process loses by itself: a lock file's mere existence means nothing.
//!
//! # Publishing
//!
//! 1. The stage writes into a [`Staging`] folder in `tmp/`, on the file system of `objects/`.
//! 2. Files are made read-only, hashed and synced; `artifact.json` is written and synced; folders are synced.
//! 3. Under the object's lock: the folder is renamed to `objects/<kind>/<digest>`, and the parent synced. If that
//!    object exists it is hashed again: an intact one stays (and counts as published just now), a damaged one is
//!    first moved to quarantine.
//! 4. Still under that lock: the action record is written in `tmp/`, synced, renamed into `actions/`, and the
//!    parent synced.
//!
//! A kill before the rename of step 3 leaves only rubbish in `tmp/`; between 3 and 4 it leaves a whole object that no
//! record names (running the action again finds it); after 4 all is done. So a record never names an object
//! that was not complete on disk before it. The object lock only keeps publish, lease, pin and collection of the
//! *same* object apart; without working locks, rename still admits exactly one of two publishers, and the
//! other one finds an identical object.
//!
//! # Reading
//!
//! [`Store::lookup`] checks `artifact.json` against the digest and every file's presence and size;
//! [`Store::verify`] hashes. What is not as it should be counts as a miss, with that reason.
//! A reader takes a [`Lease`] first: taking it either succeeds, and then the objects stay while it lives,
//! or says that one of them is gone.
//!
//! # Collecting
//!
//! [`Store::gc`] takes the object's lock, looks *then* for pins, leases and age, and renames the object to `tmp/trash-U` in one step
//! before it deletes anything, so no half-deleted object is ever seen. A lease or pin is written first and its
//! objects are checked afterwards under the same lock, so one of the two always notices the other. There is no store-wide lock.
//! Action records outlive their objects: they are small, `explain` compares with them, and [`Lookup::OutputMissing`]
//! says that the output was removed rather than never made.

use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::manifest::ArtifactRef;
use crate::mirror::{FetchError, Mirror, Progress};
use crate::names::check_token;
use crate::record::ActionRecord;

mod gc;
mod inspect;
mod latest;
mod lease;
mod list;
mod locks;
mod lookup;
mod open;
mod pins;
mod publish;
mod remove;
mod sources;
mod staging;
mod sweep;
#[cfg(test)]
mod tests;
mod verify;

pub use gc::{GcOptions, GcReport, Tally};
pub use lease::Lease;
pub use list::ArtifactSummary;
pub use locks::ActionLock;
pub use lookup::Lookup;
pub use open::STORE_FORMAT;
pub use pins::Pin;
pub use staging::Staging;
pub use verify::{Problem, VerifyReport};

/// An artifact store. Cheap to clone; clones and other processes may use the same folder at the same time.
#[derive(Clone, Debug)]
pub struct Store {
    root: Utf8PathBuf,
    /// What is asked where the store has nothing.
    mirror: Option<Arc<dyn Mirror>>,
}

impl Store {
    /// The folder it lives in.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// The same store, which asks `mirror` where it has nothing itself.
    pub fn with_mirror(self, mirror: Arc<dyn Mirror>) -> Self {
        Self { mirror: Some(mirror), ..self }
    }

    /// Brings the artifact of a [`Lookup::Remote`] into the store.
    ///
    /// # Errors
    /// [`FetchError`]; [looked up](Self::lookup) again, it is then no longer there, so that it is made anew.
    pub fn fetch(&self, record: &ActionRecord, progress: &mut Progress<'_>) -> Result<(), FetchError> {
        match &self.mirror {
            Some(mirror) => mirror.fetch(self, record, progress),
            None => Err(StoreError::Missing { artifact: record.artifact_ref() }.into()),
        }
    }

    /// Where run records go.
    pub fn runs_dir(&self) -> Utf8PathBuf {
        self.root.join("runs")
    }

    /// Where an artifact lies if the store has it.
    pub fn object_dir(&self, kind: &str, digest: Digest) -> Utf8PathBuf {
        self.root.join("objects").join(kind).join(digest.to_string())
    }

    fn object_dir_of(&self, artifact: &ArtifactRef) -> Utf8PathBuf {
        self.object_dir(&artifact.kind, artifact.digest)
    }

    fn record_path(&self, stage: &str, key: Digest) -> Utf8PathBuf {
        self.root.join("actions").join(stage).join(format!("{key}.json"))
    }

    fn work_path(&self, stage: &str, key: Digest) -> Utf8PathBuf {
        self.root.join("work").join(stage).join(key.to_string())
    }

    /// A path in `tmp/` that nothing else uses.
    fn temporary(&self, prefix: &str) -> Utf8PathBuf {
        self.root.join("tmp").join(format!("{prefix}-{}", fsops::unique_name()))
    }

    /// Scratch of an action: created on first use, kept over crashes, found again by the same key.
    pub fn work_dir(&self, stage: &str, key: Digest) -> Result<Utf8PathBuf, StoreError> {
        check_token("stage", stage)?;
        let path = self.work_path(stage, key);
        fsops::create_dir_all(&path).doing(|| format!("creating the work folder of stage `{stage}`"))?;
        Ok(path)
    }

    /// Whether an action left scratch behind: it was interrupted and can be resumed.
    pub fn has_work(&self, stage: &str, key: Digest) -> bool {
        self.work_path(stage, key).read_dir_utf8().is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Names of the stages that have finished actions, sorted.
    pub fn stages(&self) -> Result<Vec<String>, StoreError> {
        let entries = fsops::entries(&self.root.join("actions")).doing(|| "listing stages".to_owned())?;
        Ok(entries.into_keys().collect())
    }

    /// Removes an action's scratch in one step, so that a half-deleted checkpoint is never resumed from.
    pub fn remove_work_dir(&self, stage: &str, key: Digest) -> Result<(), StoreError> {
        check_token("stage", stage)?;
        self.discard(&self.work_path(stage, key))
            .doing(|| format!("removing the work folder of stage `{stage}`"))
    }

    /// Moves something to `tmp/trash-U` and deletes it there; nothing there is fine.
    fn discard(&self, path: &Utf8Path) -> io::Result<()> {
        let trash = self.temporary("trash");
        match fsops::optional(fs_err::rename(path, &trash))? {
            Some(()) => fsops::remove_tree(&trash),
            None => Ok(()),
        }
    }

    /// Writes a small file whole or not at all: in `tmp/`, locked, synced, renamed, folder synced.
    fn write_atomic(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = locks::LockedFile::create(&self.temporary("write"))?;
        file.write_synced(bytes)?;
        file.move_to(path)?;
        file.keep();
        Ok(())
    }
}

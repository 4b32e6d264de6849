//! Advisory locks on files of the store (the standard library's, that is `flock`).
//!
//! A lock's file is removed by whoever holds it, while holding it. So after getting a lock one must make sure
//! that the path still names the locked file; if not, someone removed it meanwhile and one tries again.

use std::fs::TryLockError;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::os::unix::fs::OpenOptionsExt;

use super::Store;
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::manifest::ArtifactRef;
use crate::names::check_token;

/// A file that this process has locked exclusively. Dropping removes the file, then gives up the lock.
#[derive(Debug)]
pub(super) struct LockedFile {
    file: fs_err::File,
    path: Utf8PathBuf,
    remove: bool,
}

/// What came of trying to lock a file that may exist.
pub(super) enum Probe {
    /// There is no such file.
    Absent,
    /// Another process (or another part of this one) holds it.
    Busy,
    /// Nobody held it: whoever made it is dead.
    Abandoned(LockedFile),
}

impl LockedFile {
    /// Locks the file at `path`, creating it where there is none. Calls `on_wait` once if it has to wait.
    pub fn acquire(path: &Utf8Path, on_wait: &mut dyn FnMut()) -> io::Result<Self> {
        loop {
            if let Some(file) = Self::acquire_until(path, on_wait, &|| false)? {
                return Ok(file);
            }
        }
    }

    /// [`LockedFile::acquire`], giving up with `None` once `stop` says so.
    pub fn acquire_until(
        path: &Utf8Path,
        on_wait: &mut dyn FnMut(),
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Option<Self>> {
        // Between two tries: a lock that is waited for in the system cannot be given up. Most are held for moments.
        const LONGEST_PAUSE: Duration = Duration::from_millis(50);
        let mut pause = Duration::from_millis(1);
        let mut on_wait = Some(on_wait);
        loop {
            let file = open(path, true)?;
            while !try_lock(&file, path)? {
                if let Some(on_wait) = on_wait.take() {
                    on_wait();
                }
                if stop() {
                    return Ok(None);
                }
                std::thread::sleep(pause);
                pause = LONGEST_PAUSE.min(2 * pause);
            }
            if is_at(&file, path)? {
                return Ok(Some(Self { file, path: path.to_owned(), remove: true }));
            }
        }
    }

    /// Locks the file at `path`, creating it where there is none; `None` if another holds it.
    pub fn try_acquire(path: &Utf8Path) -> io::Result<Option<Self>> {
        loop {
            let file = open(path, true)?;
            if !try_lock(&file, path)? {
                return Ok(None);
            }
            if is_at(&file, path)? {
                return Ok(Some(Self { file, path: path.to_owned(), remove: true }));
            }
        }
    }

    /// A new locked file under a unique name.
    pub fn create(path: &Utf8Path) -> io::Result<Self> {
        Self::acquire(path, &mut || {})
    }

    /// Tries to lock a file without creating it.
    pub fn probe(path: &Utf8Path) -> io::Result<Probe> {
        let Some(file) = fsops::optional(open(path, false))? else { return Ok(Probe::Absent) };
        if !try_lock(&file, path)? {
            return Ok(Probe::Busy);
        }
        if is_at(&file, path)? {
            Ok(Probe::Abandoned(Self { file, path: path.to_owned(), remove: true }))
        } else {
            Ok(Probe::Absent)
        }
    }

    /// Writes the content and waits until it is on disk.
    pub fn write_synced(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }

    /// Renames the file, replacing what is there, and syncs the folder it goes to.
    pub fn move_to(&mut self, path: &Utf8Path) -> io::Result<()> {
        fs_err::rename(&self.path, path)?;
        self.path = path.to_owned();
        match path.parent() {
            Some(parent) => fsops::sync(parent),
            None => Ok(()),
        }
    }

    /// Gives up the lock and leaves the file.
    pub fn keep(mut self) {
        self.remove = false;
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = fsops::optional(fs_err::remove_file(&self.path))
        {
            tracing::warn!(%error, "a lock file could not be removed");
        }
    }
}

fn open(path: &Utf8Path, create: bool) -> io::Result<fs_err::File> {
    fs_err::OpenOptions::new().read(true).write(true).create(create).mode(fsops::FILE_MODE).open(path)
}

fn try_lock(file: &fs_err::File, path: &Utf8Path) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(fsops::at(path, "locking", error)),
    }
}

/// Whether `path` still names this open file.
fn is_at(file: &fs_err::File, path: &Utf8Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    let there = fsops::stat(path)?;
    Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
}

/// The right to run an action. Only prevents duplicate work: a store without working locks stays correct.
#[derive(Debug)]
pub struct ActionLock {
    _file: LockedFile,
}

impl Store {
    /// Takes an action's lock, waiting while another process or thread runs that action. `on_wait` is called once
    /// before waiting. Look the key up again afterwards: the other one may have finished it.
    pub fn lock_action(
        &self,
        stage: &str,
        key: Digest,
        on_wait: &mut dyn FnMut(),
    ) -> Result<ActionLock, StoreError> {
        check_token("stage", stage)?;
        let file = LockedFile::acquire(&self.action_lock_path(stage, key), on_wait)
            .doing(|| format!("taking the lock of stage `{stage}`"))?;
        Ok(ActionLock { _file: file })
    }

    /// [`Store::lock_action`], giving up with `None` once `stop` says so.
    pub fn lock_action_until(
        &self,
        stage: &str,
        key: Digest,
        on_wait: &mut dyn FnMut(),
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<ActionLock>, StoreError> {
        check_token("stage", stage)?;
        let file = LockedFile::acquire_until(&self.action_lock_path(stage, key), on_wait, stop)
            .doing(|| format!("taking the lock of stage `{stage}`"))?;
        Ok(file.map(|file| ActionLock { _file: file }))
    }

    /// Takes an action's lock if nobody holds it.
    pub fn try_lock_action(&self, stage: &str, key: Digest) -> Result<Option<ActionLock>, StoreError> {
        check_token("stage", stage)?;
        let file = LockedFile::try_acquire(&self.action_lock_path(stage, key))
            .doing(|| format!("taking the lock of stage `{stage}`"))?;
        Ok(file.map(|file| ActionLock { _file: file }))
    }

    fn action_lock_path(&self, stage: &str, key: Digest) -> Utf8PathBuf {
        self.root.join("locks").join(format!("action.{stage}.{key}.lock"))
    }

    fn object_lock_path(&self, artifact: &ArtifactRef) -> Utf8PathBuf {
        self.root.join("locks").join(format!("object.{}.{}.lock", artifact.kind, artifact.digest))
    }

    /// The lock under which this object appears and disappears. Held for moments, so waiting is silent.
    pub(super) fn lock_object(&self, artifact: &ArtifactRef) -> Result<LockedFile, StoreError> {
        LockedFile::acquire(&self.object_lock_path(artifact), &mut || {})
            .doing(|| format!("taking the lock of artifact {artifact}"))
    }

    pub(super) fn try_lock_object(&self, artifact: &ArtifactRef) -> Result<Option<LockedFile>, StoreError> {
        LockedFile::try_acquire(&self.object_lock_path(artifact))
            .doing(|| format!("taking the lock of artifact {artifact}"))
    }
}

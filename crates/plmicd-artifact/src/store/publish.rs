//! Publishing an output: see the protocol in the documentation of [`store`](super).

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};

use super::inspect::{self, Found};
use super::{Staging, Store};
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::hashing::hash_files;
use crate::manifest::{ArtifactManifest, ArtifactRef, FileEntry, MANIFEST_FILE, payload_path_problem};
use crate::names::check_token;
use crate::record::{ActionRecord, PendingAction, RECORD_FORMAT};

/// Points of the protocol at which a kill leaves a different state on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PublishStep {
    /// The output lies in its staging folder.
    Started,
    /// Files are read-only, hashed and synced.
    FilesSealed,
    /// `artifact.json` is written and all folders are synced.
    ManifestWritten,
    /// The object's lock is held.
    ObjectLocked,
    /// A damaged object of the same name was moved away.
    DamagedMovedAway,
    /// The object is visible.
    ObjectVisible,
    /// The record is visible too.
    RecordVisible,
}

impl Store {
    /// Turns a staging folder into an artifact and records which action made it.
    ///
    /// The files become read-only (0400) and their folders 0700; empty folders are dropped. If the store already has
    /// an artifact with this content, that one stays, unless it is damaged.
    ///
    /// # Errors
    /// [`StoreError::BadOutput`] for symlinks, special files and names that are not plain UTF-8;
    /// [`StoreError::EmptyOutput`]; [`StoreError::Io`]. The staging folder is removed then, too.
    pub fn publish(&self, staging: Staging, pending: PendingAction) -> Result<ActionRecord, StoreError> {
        self.publish_observed(staging, pending, &mut |_| {})
    }

    /// As [`publish`](Self::publish), telling `observer` about each step, so that tests can die there.
    pub(super) fn publish_observed(
        &self,
        staging: Staging,
        pending: PendingAction,
        observer: &mut dyn FnMut(PublishStep),
    ) -> Result<ActionRecord, StoreError> {
        check_token("stage", &pending.stage)?;
        check_token("kind", &pending.kind)?;
        observer(PublishStep::Started);
        let doing = || format!("publishing the output of stage `{}`", pending.stage);

        let output = Output::collect(staging.path(), &pending.stage)?;
        let files = output.seal().doing(doing)?;
        observer(PublishStep::FilesSealed);

        let manifest = ArtifactManifest::new(pending.kind, pending.schema, pending.restricted, files);
        output.finish(&manifest).doing(doing)?;
        observer(PublishStep::ManifestWritten);

        let artifact = manifest.reference();
        let lock = self.lock_object(&artifact)?;
        observer(PublishStep::ObjectLocked);
        self.place(&staging, &artifact, observer).doing(doing)?;
        observer(PublishStep::ObjectVisible);

        let record = ActionRecord {
            format: RECORD_FORMAT,
            stage: pending.stage.clone(),
            key: pending.key,
            kind: artifact.kind,
            artifact: artifact.digest,
            restricted: pending.restricted,
            fingerprint: pending.fingerprint,
            provenance: pending.provenance,
        };
        self.write_record(&record)?;
        observer(PublishStep::RecordVisible);
        drop(lock);
        Ok(record)
    }

    fn write_record(&self, record: &ActionRecord) -> Result<(), StoreError> {
        let path = self.record_path(&record.stage, record.key);
        create_synced_dir(&path)
            .and_then(|()| self.write_atomic(&path, &record.to_bytes()))
            .doing(|| format!("recording a finished action of stage `{}`", record.stage))
    }

    /// Turns a staging folder into the artifact of this manifest, and records these actions that led to it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where the folder holds anything else. The staging folder is removed then, too.
    #[cfg(feature = "remote")]
    pub(crate) fn adopt(
        &self,
        staging: Staging,
        manifest: &ArtifactManifest,
        records: &[ActionRecord],
    ) -> Result<(), StoreError> {
        check_token("kind", &manifest.kind)?;
        let artifact = manifest.reference();
        let doing = || format!("taking in artifact {artifact}");
        let output = Output::collect(staging.path(), &artifact.kind)?;
        let files = output.seal().doing(doing)?;
        if files != manifest.files {
            let what = format!("does not hold what {MANIFEST_FILE} of artifact {artifact} lists");
            return Err(StoreError::Damaged { path: staging.path().to_owned(), what });
        }
        output.finish(manifest).doing(doing)?;
        let lock = self.lock_object(&artifact)?;
        self.place(&staging, &artifact, &mut |_| {}).doing(doing)?;
        drop(lock);
        self.record_all(&artifact, records)
    }

    /// Records finished actions, as far as they led to this artifact of the store.
    pub(crate) fn record_all(
        &self,
        artifact: &ArtifactRef,
        records: &[ActionRecord],
    ) -> Result<(), StoreError> {
        let _lock = self.lock_object(artifact)?;
        self.check_present(artifact)?;
        for record in records.iter().filter(|record| record.artifact_ref() == *artifact) {
            check_token("stage", &record.stage)?;
            self.write_record(record)?;
        }
        Ok(())
    }

    /// Makes the object visible under its name, or finds it there intact.
    fn place(
        &self,
        staging: &Staging,
        artifact: &ArtifactRef,
        observer: &mut dyn FnMut(PublishStep),
    ) -> io::Result<()> {
        let target = self.object_dir_of(artifact);
        create_synced_dir(&target)?;
        loop {
            if fsops::stat(&target)?.is_some() {
                if is_intact(&target, artifact)? {
                    // It counts as published now: the grace period of `gc` starts again.
                    return fsops::touch(&target);
                }
                let quarantine = self.move_to_quarantine(artifact)?;
                tracing::warn!(%artifact, %quarantine, "replaced a damaged artifact");
                observer(PublishStep::DamagedMovedAway);
            }
            match fs_err::rename(staging.path(), &target) {
                // Where locks do not work, another publisher may have come first: look at what it left.
                Err(error)
                    if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
                Err(error) => return Err(error),
                Ok(()) => return sync_parent(&target),
            }
        }
    }
}

fn is_intact(dir: &Utf8Path, artifact: &ArtifactRef) -> io::Result<bool> {
    match inspect::read_manifest(dir, artifact)? {
        Found::Manifest(manifest) => Ok(inspect::check_contents(dir, &manifest, &mut |_| {})?.is_empty()),
        Found::Absent | Found::Foreign { .. } | Found::Damaged(_) => Ok(false),
    }
}

/// Creates the folder that `path` goes into, durably.
fn create_synced_dir(path: &Utf8Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    if fsops::stat(parent)?.is_some() {
        return Ok(());
    }
    fsops::create_dir_all(parent)?;
    sync_parent(parent)
}

fn sync_parent(path: &Utf8Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fsops::sync)
}

/// What a stage left in its staging folder.
struct Output {
    dir: Utf8PathBuf,
    /// Relative paths, in order.
    files: Vec<String>,
    /// Folders below `dir` that hold files, each before those inside it.
    folders: Vec<Utf8PathBuf>,
}

impl Output {
    /// Lists the files, refusing what cannot be published and removing empty folders.
    fn collect(dir: &Utf8Path, stage: &str) -> Result<Self, StoreError> {
        let mut output = Self { dir: dir.to_owned(), files: Vec::new(), folders: Vec::new() };
        output.visit(dir, "", stage)?;
        if output.files.is_empty() {
            return Err(StoreError::EmptyOutput { stage: stage.to_owned() });
        }
        output.files.sort_unstable();
        Ok(output)
    }

    fn visit(&mut self, dir: &Utf8Path, prefix: &str, stage: &str) -> Result<(), StoreError> {
        let doing = || format!("listing the output of stage `{stage}`");
        let bad = |path: String, what| Err(StoreError::BadOutput { stage: stage.to_owned(), path, what });
        for entry in fs_err::read_dir(dir).doing(doing)? {
            let entry = entry.doing(doing)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return bad(
                    format!("{prefix}{}", name.to_string_lossy()),
                    "has a name that is not valid UTF-8",
                );
            };
            let path = format!("{prefix}{name}");
            if let Some(problem) = payload_path_problem(&path) {
                return bad(path.escape_debug().to_string(), problem);
            }
            let file_type = entry.file_type().doing(doing)?;
            if file_type.is_symlink() {
                return bad(path, "is a symbolic link");
            } else if file_type.is_file() {
                self.files.push(path);
            } else if file_type.is_dir() {
                let child = dir.join(name);
                fsops::set_mode(&child, fsops::DIR_MODE).doing(doing)?;
                let (files, folders) = (self.files.len(), self.folders.len());
                self.folders.push(child.clone());
                self.visit(&child, &format!("{path}/"), stage)?;
                if self.files.len() == files {
                    self.folders.truncate(folders);
                    fs_err::remove_dir(&child).doing(doing)?;
                }
            } else {
                return bad(path, "is neither a file nor a folder");
            }
        }
        Ok(())
    }

    /// Makes the files read-only, hashes them and syncs them.
    fn seal(&self) -> io::Result<BTreeMap<String, FileEntry>> {
        let paths: Vec<Utf8PathBuf> = self.files.iter().map(|file| self.dir.join(file)).collect();
        for path in &paths {
            break_hard_links(path)?;
            fsops::set_mode(path, fsops::PUBLISHED_MODE)?;
        }
        // The disk writes while the processors hash.
        let (hashed, synced) = thread::scope(|scope| {
            let syncing = scope.spawn(|| paths.iter().try_for_each(|path| fsops::sync(path)));
            let hashed = hash_files(&paths, &mut |_| {});
            (hashed, syncing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        synced?;
        self.files
            .iter()
            .zip(hashed)
            .map(|(file, hashed)| {
                let hashed = hashed?;
                Ok((file.clone(), FileEntry { size: hashed.stat.size, blake3: hashed.digest }))
            })
            .collect()
    }

    /// Writes `artifact.json` and syncs the folders, innermost first.
    fn finish(&self, manifest: &ArtifactManifest) -> io::Result<()> {
        let path = self.dir.join(MANIFEST_FILE);
        fsops::write_new(&path, &manifest.to_bytes())?;
        fsops::set_mode(&path, fsops::PUBLISHED_MODE)?;
        self.folders.iter().rev().chain([&self.dir]).try_for_each(|folder| fsops::sync(folder))
    }
}

/// Gives the output a file of its own where the stage linked one: a change through the other name (a checkpoint
/// in the work folder, say) must not reach a published artifact.
fn break_hard_links(path: &Utf8Path) -> io::Result<()> {
    if fs_err::symlink_metadata(path)?.nlink() == 1 {
        return Ok(());
    }
    let copy = Utf8PathBuf::from(format!("{path}.{}", fsops::unique_name()));
    fs_err::copy(path, &copy)?;
    fs_err::rename(&copy, path)
}

//! The rest of garbage collection: what killed processes leave, old scratch, old records, dead links.

use std::time::Duration;

use camino::Utf8Path;

use super::gc::{GcOptions, GcReport};
use super::locks::{LockedFile, Probe};
use super::staging::staging_lock_path;
use super::{Lookup, Store};
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::names::check_token;

/// How long the record of a collected artifact is kept for `explain`.
pub(super) const RECORD_RETENTION: Duration = Duration::from_secs(180 * 24 * 3600);

impl Store {
    /// Removes what nobody works on any more in `tmp/`. Entries the store would not make are left alone.
    pub(super) fn sweep_temporary(
        &self,
        options: &GcOptions,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        let doing = || "sweeping temporary files".to_owned();
        let tmp = self.root.join("tmp");
        for name in fsops::entries(&tmp).doing(doing)?.into_keys() {
            let path = tmp.join(&name);
            let purpose = name.split('-').next().unwrap_or_default();
            // The lock that marks it as alive is held until it is gone.
            let held = match purpose {
                "staging" if name.ends_with(".lock") => {
                    self.sweep_staging_lock(&path, options, report)?;
                    continue;
                }
                "staging" => match LockedFile::probe(&staging_lock_path(&path)).doing(doing)? {
                    Probe::Busy => continue,
                    Probe::Absent => None,
                    Probe::Abandoned(lock) => Some(lock),
                },
                "write" => match LockedFile::probe(&path).doing(doing)? {
                    Probe::Busy | Probe::Absent => continue,
                    Probe::Abandoned(lock) => Some(lock),
                },
                "trash" => None,
                "quarantine" | "link" => {
                    let Some(metadata) = fsops::stat(&path).doing(doing)? else { continue };
                    if !options.expired(metadata.modified().doing(doing)?) {
                        continue;
                    }
                    None
                }
                _ => continue,
            };
            let (bytes, _) = fsops::tree_usage(&path).doing(doing)?;
            report.temporary.add(bytes);
            if options.dry_run {
                if let Some(lock) = held {
                    lock.keep();
                }
            } else {
                fsops::remove_tree(&path).doing(doing)?;
            }
        }
        Ok(())
    }

    /// A staging lock goes with its folder; this is for one whose folder was never made or is gone.
    fn sweep_staging_lock(
        &self,
        path: &Utf8Path,
        options: &GcOptions,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        let doing = || "sweeping temporary files".to_owned();
        let folder = path.as_str().trim_end_matches(".lock");
        if fsops::stat(folder.into()).doing(doing)?.is_some() {
            return Ok(());
        }
        self.sweep_lock_file(path, options, report)
    }

    /// Removes lock and lease files that nobody holds.
    pub(super) fn sweep_locks(&self, options: &GcOptions, report: &mut GcReport) -> Result<(), StoreError> {
        for folder in ["locks", "leases"] {
            let dir = self.root.join(folder);
            for name in fsops::entries(&dir).doing(|| format!("sweeping {folder}"))?.into_keys() {
                self.sweep_lock_file(&dir.join(name), options, report)?;
            }
        }
        Ok(())
    }

    fn sweep_lock_file(
        &self,
        path: &Utf8Path,
        options: &GcOptions,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        if let Probe::Abandoned(lock) = LockedFile::probe(path).doing(|| "sweeping locks".to_owned())? {
            report.locks += 1;
            if options.dry_run {
                lock.keep();
            }
        }
        Ok(())
    }

    /// Removes scratch that has not been touched for the grace period and whose action is not running. An interrupted
    /// action that is resumed within the grace period finds its checkpoints.
    pub(super) fn sweep_work(&self, options: &GcOptions, report: &mut GcReport) -> Result<(), StoreError> {
        let doing = || "sweeping work folders".to_owned();
        let work = self.root.join("work");
        for stage in fsops::entries(&work).doing(doing)?.into_keys() {
            if check_token("stage", &stage).is_err() {
                continue;
            }
            for name in fsops::entries(&work.join(&stage)).doing(doing)?.into_keys() {
                let Ok(key) = name.parse::<Digest>() else { continue };
                let Some(_lock) = self.try_lock_action(&stage, key)? else { continue };
                let path = self.work_path(&stage, key);
                let (bytes, latest) = fsops::tree_usage(&path).doing(doing)?;
                if !options.expired(latest) {
                    continue;
                }
                report.work.add(bytes);
                if !options.dry_run {
                    self.discard(&path).doing(doing)?;
                }
            }
        }
        Ok(())
    }

    /// Removes records of artifacts that are gone and that nobody has made again for [`RECORD_RETENTION`].
    pub(super) fn sweep_records(&self, options: &GcOptions, report: &mut GcReport) -> Result<(), StoreError> {
        let doing = || "sweeping action records".to_owned();
        for stage in fsops::entries(&self.root.join("actions")).doing(doing)?.into_keys() {
            if check_token("stage", &stage).is_err() {
                continue;
            }
            for key in self.recorded_keys(&stage)? {
                let path = self.record_path(&stage, key);
                let Some(metadata) = fsops::stat(&path).doing(doing)? else { continue };
                let written = metadata.modified().doing(doing)?;
                let old = options.now.duration_since(written).is_ok_and(|age| age >= RECORD_RETENTION);
                if !old || !matches!(self.lookup_here(&stage, key)?, Lookup::OutputMissing(_)) {
                    continue;
                }
                // A running action is about to write this very record.
                let Some(_lock) = self.try_lock_action(&stage, key)? else { continue };
                report.records += 1;
                if !options.dry_run {
                    fsops::optional(fs_err::remove_file(&path)).doing(doing)?;
                }
            }
        }
        Ok(())
    }

    /// Removes links for people that lead nowhere any more.
    pub(super) fn sweep_latest(&self, options: &GcOptions) -> Result<(), StoreError> {
        let doing = || "sweeping links to collected artifacts".to_owned();
        let latest = self.root.join("latest");
        for pipeline in fsops::entries(&latest).doing(doing)?.into_keys() {
            for (node, file_type) in fsops::entries(&latest.join(&pipeline)).doing(doing)? {
                let link = latest.join(&pipeline).join(node);
                let dead = file_type.is_symlink() && !fs_err::exists(&link).doing(doing)?;
                if dead && !options.dry_run {
                    fsops::optional(fs_err::remove_file(&link)).doing(doing)?;
                }
            }
        }
        Ok(())
    }
}

//! Garbage collection of objects. What else is swept is in `sweep`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::Store;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::manifest::ArtifactRef;

/// What to keep.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Roots besides pins and live leases: what the last runs made and used.
    pub keep: Vec<ArtifactRef>,
    /// Objects published, and scratch touched, less long ago than this stay. It bridges the moment between publishing
    /// an artifact and leasing it, so keep it above a few minutes while anything runs.
    pub grace: Duration,
    /// The time that ages are counted from.
    pub now: SystemTime,
    /// Only report.
    pub dry_run: bool,
}

impl GcOptions {
    /// Whether something last touched at `modified` is past the grace period. A time in the future is not.
    pub(super) fn expired(&self, modified: SystemTime) -> bool {
        self.now.duration_since(modified).is_ok_and(|age| age >= self.grace)
    }
}

/// A number of things and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Bytes together.
    pub bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What was (or, in a dry run, would be) removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Whether this only says what would be done.
    pub dry_run: bool,
    /// Artifacts removed, by kind.
    pub removed: BTreeMap<String, Tally>,
    /// Artifacts that stay.
    pub kept: Tally,
    /// Leftovers of killed processes in `tmp/`, and old quarantine.
    pub temporary: Tally,
    /// Scratch folders of actions that nobody has touched for the grace period.
    pub work: Tally,
    /// Lock and lease files of dead processes.
    pub locks: u64,
    /// Action records of artifacts that are long gone.
    pub records: u64,
}

impl Store {
    /// Removes every artifact that is not a root (given, pinned or leased) and is older than the grace period,
    /// leftovers of killed processes, and scratch and records that nothing will use any more.
    ///
    /// Safe beside running pipelines: there is no store-wide lock. A record whose artifact is collected stays for
    /// half a year, so that `explain` can compare with it.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport, StoreError> {
        let mut report = GcReport { dry_run: options.dry_run, ..GcReport::default() };
        self.sweep_temporary(options, &mut report)?;
        self.sweep_locks(options, &mut report)?;
        self.collect_objects(options, &mut report)?;
        self.sweep_work(options, &mut report)?;
        self.sweep_records(options, &mut report)?;
        self.sweep_latest(options)?;
        Ok(report)
    }

    fn collect_objects(&self, options: &GcOptions, report: &mut GcReport) -> Result<(), StoreError> {
        let keep: BTreeSet<&ArtifactRef> = options.keep.iter().collect();
        for artifact in self.objects()? {
            let doing = || format!("collecting artifact {artifact}");
            let removed = if keep.contains(&artifact) {
                None
            } else if options.dry_run {
                self.is_garbage(&artifact, options)?
                    .then(|| fsops::tree_usage(&self.object_dir_of(&artifact)).doing(doing))
                    .transpose()?
                    .map(|(bytes, _)| bytes)
            } else {
                self.collect(&artifact, options)?
            };
            match removed {
                Some(bytes) => report.removed.entry(artifact.kind).or_default().add(bytes),
                None => {
                    let (bytes, _) = fsops::tree_usage(&self.object_dir_of(&artifact)).doing(doing)?;
                    report.kept.add(bytes);
                }
            }
        }
        Ok(())
    }

    /// Removes an object if it is garbage; the bytes freed. One that somebody is just publishing or leasing stays.
    fn collect(&self, artifact: &ArtifactRef, options: &GcOptions) -> Result<Option<u64>, StoreError> {
        let Some(lock) = self.try_lock_object(artifact)? else { return Ok(None) };
        // Under the lock: a lease, pin or publisher that came before is seen, one that comes later waits and looks again.
        if !self.is_garbage(artifact, options)? {
            return Ok(None);
        }
        let moved = self.move_to_trash(artifact)?;
        drop(lock);
        let Some((bytes, trash)) = moved else { return Ok(None) };
        fsops::remove_tree(&trash).doing(|| format!("collecting artifact {artifact}"))?;
        Ok(Some(bytes))
    }

    fn is_garbage(&self, artifact: &ArtifactRef, options: &GcOptions) -> Result<bool, StoreError> {
        let Some(modified) = self.modified(artifact)? else { return Ok(false) };
        Ok(options.expired(modified)
            && !self.pins()?.iter().any(|pin| pin.artifact == *artifact)
            && !self.leased(options.dry_run)?.contains_key(artifact))
    }
}

//! Leases: what a live process uses is not collected.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Store;
use super::locks::{LockedFile, Probe};
use crate::canonical::canonical_json;
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::manifest::ArtifactRef;
use crate::names::check_token;

const LEASE_FORMAT: u32 = 1;

/// Keeps artifacts from being collected or removed until it is dropped or its process ends, however it ends.
#[derive(Debug)]
pub struct Lease {
    _file: LockedFile,
}

/// Content of a lease's file.
#[derive(Debug, Serialize, Deserialize)]
struct LeaseFile {
    format: u32,
    /// For people who wonder who holds an artifact.
    process: u32,
    artifacts: Vec<ArtifactRef>,
}

impl Store {
    /// Leases artifacts, all or none.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if one of them is not (or no longer) in the store.
    pub fn lease(&self, what: &[(String, Digest)]) -> Result<Lease, StoreError> {
        let artifacts: Vec<ArtifactRef> =
            what.iter().map(|(kind, digest)| ArtifactRef::new(kind.clone(), *digest)).collect();
        for artifact in &artifacts {
            check_token("kind", &artifact.kind)?;
        }
        let text = canonical_json(&json!({
            "format": LEASE_FORMAT,
            "process": std::process::id(),
            "artifacts": artifacts.iter().map(|a| json!({"kind": a.kind, "digest": a.digest.to_string()})).collect::<Vec<_>>(),
        }));
        let doing = || "leasing artifacts".to_owned();
        let mut file = LockedFile::create(&self.temporary("write")).doing(doing)?;
        file.write_synced(text.as_bytes()).doing(doing)?;
        file.move_to(&self.leases_dir().join(format!("{}.json", fsops::unique_name()))).doing(doing)?;
        let lease = Lease { _file: file };
        for artifact in &artifacts {
            // Waits for a collector that looked before the lease was there; later ones see it.
            let _lock = self.lock_object(artifact)?;
            self.check_present(artifact)?;
        }
        Ok(lease)
    }

    /// [`StoreError::Missing`] unless the object is there. The answer lasts while the caller holds the object's lock.
    pub(super) fn check_present(&self, artifact: &ArtifactRef) -> Result<(), StoreError> {
        match fsops::stat(&self.object_dir_of(artifact))
            .doing(|| format!("looking for artifact {artifact}"))?
        {
            Some(_) => Ok(()),
            None => Err(StoreError::Missing { artifact: artifact.clone() }),
        }
    }

    fn leases_dir(&self) -> Utf8PathBuf {
        self.root.join("leases")
    }

    /// Artifacts under live leases, each with the process ids that hold it. Files of dead processes are removed
    /// unless `dry_run`.
    ///
    /// # Errors
    /// A live lease that cannot be understood: nothing may be removed then.
    pub(super) fn leased(&self, dry_run: bool) -> Result<BTreeMap<ArtifactRef, Vec<u32>>, StoreError> {
        let doing = || "reading leases".to_owned();
        let mut leased: BTreeMap<ArtifactRef, Vec<u32>> = BTreeMap::new();
        for name in fsops::entries(&self.leases_dir()).doing(doing)?.into_keys() {
            let path = self.leases_dir().join(name);
            match LockedFile::probe(&path).doing(doing)? {
                Probe::Absent => {}
                Probe::Abandoned(file) if dry_run => file.keep(),
                Probe::Abandoned(_) => {}
                Probe::Busy => {
                    if let Some(lease) = read_lease(&path)? {
                        for artifact in lease.artifacts {
                            leased.entry(artifact).or_default().push(lease.process);
                        }
                    }
                }
            }
        }
        Ok(leased)
    }
}

/// Reads a live lease; `None` if it has just ended.
fn read_lease(path: &Utf8Path) -> Result<Option<LeaseFile>, StoreError> {
    let bytes = fsops::read_optional(path).doing(|| "reading leases".to_owned())?;
    let Some(bytes) = bytes else { return Ok(None) };
    match serde_json::from_slice::<LeaseFile>(&bytes) {
        Ok(lease) if lease.format == LEASE_FORMAT => Ok(Some(lease)),
        Ok(lease) => Err(StoreError::UnknownFormat {
            path: path.to_owned(),
            found: lease.format.into(),
            supported: LEASE_FORMAT,
        }),
        Err(error) => Err(StoreError::Damaged {
            path: path.to_owned(),
            what: format!("a live process holds this lease, but it cannot be read: {error}"),
        }),
    }
}

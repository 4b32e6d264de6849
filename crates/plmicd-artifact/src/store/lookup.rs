//! From a stage key to its artifact.

use camino::Utf8Path;

use super::Store;
use super::inspect::{self, Found};
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::manifest::{ArtifactManifest, ArtifactRef, MANIFEST_FILE, MANIFEST_FORMAT};
use crate::names::check_token;
use crate::record::{ActionRecord, StoredRecord, parse_record};

/// What the store knows about a stage key.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The artifact is there: `artifact.json` is the one recorded, every file is present and has its size.
    Hit(ActionRecord),
    /// The store has no artifact of it, but its mirror does: [`Store::fetch`] brings it.
    Remote(ActionRecord),
    /// No action with this key has finished (or its record is damaged, which is logged).
    Never,
    /// It has finished, but its artifact was removed since (`gc`, `rm`, quarantine).
    OutputMissing(ActionRecord),
    /// It has finished, but its artifact is damaged.
    OutputCorrupt {
        /// The record.
        record: ActionRecord,
        /// Which file, and what is wrong with it.
        detail: String,
    },
    /// The record, or the artifact's manifest, was written by another version of the program.
    BadFormat {
        /// Its format.
        found: u32,
    },
}

impl Store {
    /// Looks a stage key up, and asks the mirror where the store has no sound artifact of it.
    ///
    /// Hold a [`Lease`](super::Lease) on the artifact while using it: a hit alone does not keep it from being collected.
    pub fn lookup(&self, stage: &str, key: Digest) -> Result<Lookup, StoreError> {
        let own = self.lookup_here(stage, key)?;
        if !matches!(own, Lookup::Hit(_))
            && let Some(record) = self.mirror.as_ref().and_then(|mirror| mirror.find(stage, key))
        {
            // Another action may have brought the very artifact: then only the record is missing.
            let artifact = record.artifact_ref();
            if self.has_intact(&artifact)? {
                self.record_all(&artifact, std::slice::from_ref(&record))?;
                return Ok(Lookup::Hit(record));
            }
            return Ok(Lookup::Remote(record));
        }
        Ok(own)
    }

    /// Looks a stage key up in this store alone.
    pub(super) fn lookup_here(&self, stage: &str, key: Digest) -> Result<Lookup, StoreError> {
        let record = match self.read_record(stage, key)? {
            None => return Ok(Lookup::Never),
            Some(StoredRecord::Damaged(what)) => {
                self.warn_damaged(stage, key, &what);
                return Ok(Lookup::Never);
            }
            Some(StoredRecord::Foreign { found }) => return Ok(bad_format(found)),
            Some(StoredRecord::Good(record)) => *record,
        };
        let artifact = record.artifact_ref();
        let doing = || format!("checking artifact {artifact}");
        let dir = self.object_dir_of(&artifact);
        let manifest = match inspect::read_manifest(&dir, &artifact).doing(doing)? {
            Found::Absent => return Ok(Lookup::OutputMissing(record)),
            Found::Foreign { found } => return Ok(bad_format(found)),
            Found::Damaged(finding) => {
                let detail = format!("{} {}", dir.join(finding.file), finding.what);
                return Ok(Lookup::OutputCorrupt { record, detail });
            }
            Found::Manifest(manifest) => manifest,
        };
        match inspect::check_sizes(&dir, &manifest).doing(doing)?.first() {
            Some(finding) => {
                let detail = format!("{} {}", dir.join(&finding.file), finding.what);
                Ok(Lookup::OutputCorrupt { record, detail })
            }
            None => Ok(Lookup::Hit(record)),
        }
    }

    /// Whether the store has this artifact, with every file in its size.
    pub(crate) fn has_intact(&self, artifact: &ArtifactRef) -> Result<bool, StoreError> {
        let dir = self.object_dir_of(artifact);
        let doing = || format!("checking artifact {artifact}");
        match inspect::read_manifest(&dir, artifact).doing(doing)? {
            Found::Manifest(manifest) => Ok(inspect::check_sizes(&dir, &manifest).doing(doing)?.is_empty()),
            Found::Absent | Found::Foreign { .. } | Found::Damaged(_) => Ok(false),
        }
    }

    /// The record of a finished action, whether or not its artifact is still there. A damaged one, or one of another
    /// version, counts as absent, with a warning in the log.
    pub fn action(&self, stage: &str, key: Digest) -> Result<Option<ActionRecord>, StoreError> {
        match self.read_record(stage, key)? {
            None => Ok(None),
            Some(StoredRecord::Good(record)) => Ok(Some(*record)),
            Some(StoredRecord::Damaged(what)) => {
                self.warn_damaged(stage, key, &what);
                Ok(None)
            }
            Some(StoredRecord::Foreign { found }) => {
                self.warn_damaged(stage, key, &format!("it has format {found}, of another version"));
                Ok(None)
            }
        }
    }

    /// Every readable record of a stage, by key.
    pub fn actions_of_stage(&self, stage: &str) -> Result<Vec<ActionRecord>, StoreError> {
        let mut records = Vec::new();
        for key in self.recorded_keys(stage)? {
            records.extend(self.action(stage, key)?);
        }
        Ok(records)
    }

    /// Keys that have a record's file, in order.
    pub(super) fn recorded_keys(&self, stage: &str) -> Result<Vec<Digest>, StoreError> {
        check_token("stage", stage)?;
        let entries = fsops::entries(&self.root.join("actions").join(stage))
            .doing(|| format!("listing the finished actions of stage `{stage}`"))?;
        Ok(entries.keys().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    fn read_record(&self, stage: &str, key: Digest) -> Result<Option<StoredRecord>, StoreError> {
        check_token("stage", stage)?;
        let bytes = fsops::read_optional(&self.record_path(stage, key))
            .doing(|| format!("reading an action record of stage `{stage}`"))?;
        Ok(bytes.map(|bytes| parse_record(&bytes, stage, key)))
    }

    fn warn_damaged(&self, stage: &str, key: Digest, what: &str) {
        tracing::warn!(path = %self.record_path(stage, key), "action record ignored: {what}");
    }

    /// The manifest of an artifact, checked against its digest.
    pub fn manifest(&self, kind: &str, digest: Digest) -> Result<ArtifactManifest, StoreError> {
        check_token("kind", kind)?;
        let artifact = ArtifactRef::new(kind, digest);
        let dir = self.object_dir_of(&artifact);
        self.manifest_in(&dir, &artifact)
    }

    fn manifest_in(&self, dir: &Utf8Path, artifact: &ArtifactRef) -> Result<ArtifactManifest, StoreError> {
        let path = dir.join(MANIFEST_FILE);
        match inspect::read_manifest(dir, artifact).doing(|| format!("reading artifact {artifact}"))? {
            Found::Manifest(manifest) => Ok(manifest),
            Found::Absent => Err(StoreError::Missing { artifact: artifact.clone() }),
            Found::Foreign { found } => {
                Err(StoreError::UnknownFormat { path, found, supported: MANIFEST_FORMAT })
            }
            Found::Damaged(finding) => Err(StoreError::Damaged { path, what: finding.what }),
        }
    }
}

fn bad_format(found: u64) -> Lookup {
    Lookup::BadFormat { found: u32::try_from(found).unwrap_or(u32::MAX) }
}

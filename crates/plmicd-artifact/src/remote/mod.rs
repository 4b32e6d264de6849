//! A store shared over an object store: a folder, S3 and what speaks like it, Google Cloud Storage, Azure.
//!
//! ```text
//! <url>/v1/blobs/<first two characters>/<digest>     the content of a file, once for all artifacts that have it
//! <url>/v1/objects/<kind>/<digest>.json              an artifact's `artifact.json`
//! <url>/v1/actions/<stage>/<key>.json                an action record
//! ```
//!
//! An artifact is pushed in that order, each object whole or not at all, so what names a thing is never there before it.
//! What is pulled is checked against its digest before it is used, so nobody who can write there can slip in anything
//! but the record itself. A push leaves out what is there already; a pull goes on in the middle of a file.
//!
//! | module | what |
//! |---|---|
//! | `backend` | the object store of a URL, behind calls that block |
//! | `push`, `pull` | the two directions |

mod backend;
mod error;
mod pull;
mod push;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

pub use error::RemoteError;
pub use push::PushOptions;

use crate::digest::Digest;
use crate::manifest::{ArtifactManifest, ArtifactRef, MANIFEST_FILE};
use crate::mirror::{FetchError, Mirror, Progress};
use crate::names::check_token;
use crate::record::{ActionRecord, StoredRecord, parse_record};
use crate::store::Store;
use backend::Backend;

/// What a transfer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Files moved.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already.
    pub present: u64,
}

/// A shared store.
#[derive(Debug)]
pub struct Remote {
    backend: Backend,
    /// What was looked up, so that planning again asks nothing again.
    known: Mutex<BTreeMap<(String, Digest), Option<ActionRecord>>>,
    /// It could not be reached: it is not asked any more.
    lost: AtomicBool,
}

impl Remote {
    /// The shared store at a URL, or at a path of this machine. Nothing is asked of it yet.
    ///
    /// `options` are settings of the object store by name, such as `aws_access_key_id` or `google_service_account`;
    /// names that it does not know are left alone.
    ///
    /// # Errors
    /// [`RemoteError::Url`].
    pub fn open(url: &str, options: &[(String, String)]) -> Result<Self, RemoteError> {
        Ok(Self::over(Backend::open(url, options, false)?))
    }

    /// The same, to push to: a folder that is not there yet is made, in one that is.
    ///
    /// # Errors
    /// [`RemoteError::Url`].
    pub fn open_or_make(url: &str, options: &[(String, String)]) -> Result<Self, RemoteError> {
        Ok(Self::over(Backend::open(url, options, true)?))
    }

    fn over(backend: Backend) -> Self {
        Self { backend, known: Mutex::default(), lost: AtomicBool::new(false) }
    }

    /// Where it is, for people.
    pub fn url(&self) -> &str {
        &self.backend.url
    }

    /// The record of a finished action whose artifact is there; `None` where it has none.
    ///
    /// # Errors
    /// [`RemoteError::Damaged`] names the object at fault.
    pub fn lookup(&self, stage: &str, key: Digest) -> Result<Option<ActionRecord>, RemoteError> {
        check_token("stage", stage)?;
        let path = record_path(stage, key);
        let Some(bytes) = self.backend.read(&path)? else { return Ok(None) };
        let record = match parse_record(&bytes, stage, key) {
            StoredRecord::Good(record) => *record,
            // Of another version: not for us.
            StoredRecord::Foreign { .. } => return Ok(None),
            StoredRecord::Damaged(what) => return Err(RemoteError::Damaged { object: path, what }),
        };
        check_token("kind", &record.kind)?;
        let Some(manifest) = self.manifest(&record.artifact_ref())? else { return Ok(None) };
        check_mark(&record, &manifest)?;
        Ok(Some(record))
    }

    /// The manifest of an artifact, checked against its digest.
    ///
    /// # Errors
    /// [`RemoteError::Damaged`].
    pub fn manifest(&self, artifact: &ArtifactRef) -> Result<Option<ArtifactManifest>, RemoteError> {
        let path = manifest_path(artifact);
        let Some(bytes) = self.backend.read(&path)? else { return Ok(None) };
        let damaged = |what: String| RemoteError::Damaged { object: path.clone(), what };
        let actual = Digest::of(&bytes);
        if actual != artifact.digest {
            return Err(damaged(format!("has digest {actual}, not that of its name")));
        }
        let manifest = ArtifactManifest::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
        if manifest.kind != artifact.kind {
            return Err(damaged(format!("is a {MANIFEST_FILE} of kind `{}`", manifest.kind)));
        }
        Ok(Some(manifest))
    }

    /// Every artifact there, by kind and digest.
    pub fn list(&self) -> Result<Vec<ArtifactRef>, RemoteError> {
        let mut found: Vec<ArtifactRef> = self
            .backend
            .list("objects")?
            .iter()
            .filter_map(|path| {
                let (kind, name) = path.strip_prefix("objects/")?.split_once('/')?;
                check_token("kind", kind).ok()?;
                Some(ArtifactRef::new(kind, name.strip_suffix(".json")?.parse().ok()?))
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// Every action record there that names one of these artifacts.
    pub fn records_of(&self, artifacts: &[ArtifactRef]) -> Result<Vec<ActionRecord>, RemoteError> {
        let mut found = Vec::new();
        for path in self.backend.list("actions")? {
            let name = path.strip_prefix("actions/").and_then(|name| name.strip_suffix(".json"));
            let Some((stage, key)) = name.and_then(|name| name.split_once('/')) else { continue };
            let Ok(key) = key.parse() else { continue };
            let Some(bytes) = self.backend.read(&path)? else { continue };
            match parse_record(&bytes, stage, key) {
                StoredRecord::Good(record) if artifacts.contains(&record.artifact_ref()) => {
                    found.push(*record)
                }
                StoredRecord::Good(_) | StoredRecord::Foreign { .. } => {}
                StoredRecord::Damaged(what) => {
                    tracing::warn!("{}: left out: {what}", self.backend.name(&path));
                }
            }
        }
        Ok(found)
    }
}

impl Mirror for Remote {
    fn find(&self, stage: &str, key: Digest) -> Option<ActionRecord> {
        let name = (stage.to_owned(), key);
        let known = || self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(answer) = known().get(&name) {
            return answer.clone();
        }
        if self.lost.load(Ordering::Relaxed) {
            return None;
        }
        let answer = match self.lookup(stage, key) {
            Ok(answer) => answer,
            Err(error @ RemoteError::Damaged { .. }) => {
                tracing::warn!("{}: {error}; it is not used", self.url());
                None
            }
            Err(error) => {
                tracing::warn!("going on without the shared store: {error}");
                self.lost.store(true, Ordering::Relaxed);
                return None;
            }
        };
        known().insert(name, answer.clone());
        answer
    }

    fn fetch(
        &self,
        store: &Store,
        record: &ActionRecord,
        progress: &mut Progress<'_>,
    ) -> Result<(), FetchError> {
        let artifact = record.artifact_ref();
        match self.pull(store, &artifact, std::slice::from_ref(record), progress) {
            Ok(_) => Ok(()),
            Err(RemoteError::Interrupted) => Err(FetchError::Interrupted),
            Err(RemoteError::Store(error)) => Err(FetchError::Store(error)),
            Err(error) => {
                let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                // Other actions may have led to the same artifact.
                for answer in known.values_mut() {
                    if answer.as_ref().is_some_and(|found| found.artifact_ref() == artifact) {
                        *answer = None;
                    }
                }
                known.insert((record.stage.clone(), record.key), None);
                Err(FetchError::Failed { artifact, why: error.to_string() })
            }
        }
    }
}

/// A manifest is checked against its digest, a record is not: it must not make restricted data look free.
fn check_mark(record: &ActionRecord, manifest: &ArtifactManifest) -> Result<(), RemoteError> {
    if record.restricted == manifest.restricted {
        return Ok(());
    }
    let what = format!("says restricted = {}, but its artifact is not so", record.restricted);
    Err(RemoteError::Damaged { object: record_path(&record.stage, record.key), what })
}

fn blob_path(digest: Digest) -> String {
    let name = digest.to_string();
    format!("blobs/{}/{name}", &name[..2])
}

fn manifest_path(artifact: &ArtifactRef) -> String {
    format!("objects/{}/{}.json", artifact.kind, artifact.digest)
}

fn record_path(stage: &str, key: Digest) -> String {
    format!("actions/{stage}/{key}.json")
}

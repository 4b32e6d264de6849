//! Listing artifacts and finding them by the beginning of their digest.

use std::time::SystemTime;

use super::Store;
use super::inspect::{self, Found};
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::manifest::ArtifactRef;
use crate::names::check_pin;

/// Fewest characters of a digest that are accepted for it.
const SHORTEST_PREFIX: usize = 6;

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactSummary {
    /// Kind.
    pub kind: String,
    /// Content digest.
    pub digest: Digest,
    /// Bytes of all files.
    pub size: u64,
    /// Number of files.
    pub files: u64,
    /// Whether it derives from data under a use agreement.
    pub restricted: bool,
    /// When it was last published.
    pub modified: SystemTime,
}

impl Store {
    /// All artifacts by kind and digest. Those whose manifest is damaged are left out, with a warning in the log:
    /// [`verify`](Self::verify) reports them.
    pub fn list(&self) -> Result<Vec<ArtifactSummary>, StoreError> {
        let mut summaries = Vec::new();
        for artifact in self.objects()? {
            let dir = self.object_dir_of(&artifact);
            let doing = || format!("listing artifact {artifact}");
            let manifest = match inspect::read_manifest(&dir, &artifact).doing(doing)? {
                Found::Manifest(manifest) => manifest,
                Found::Absent => continue,
                Found::Foreign { found } => {
                    tracing::warn!(%artifact, "not listed: its manifest has format {found}, of another version");
                    continue;
                }
                Found::Damaged(finding) => {
                    tracing::warn!(%artifact, "not listed: {} {}", finding.file, finding.what);
                    continue;
                }
            };
            let Some(modified) = self.modified(&artifact)? else { continue };
            summaries.push(ArtifactSummary {
                size: manifest.total_size(),
                files: manifest.files.len() as u64,
                restricted: manifest.restricted,
                kind: artifact.kind,
                digest: artifact.digest,
                modified,
            });
        }
        Ok(summaries)
    }

    /// Finds an artifact by the name of a pin, six or more characters of its digest, or `kind/` and those.
    ///
    /// # Errors
    /// [`StoreError::TooShort`], [`StoreError::NotFound`], or [`StoreError::Ambiguous`] with all candidates.
    pub fn resolve(&self, prefix: &str) -> Result<ArtifactRef, StoreError> {
        if check_pin(prefix).is_ok()
            && let Some(pin) = self.read_pin(prefix)?
        {
            return Ok(pin.artifact);
        }
        let (kind, digest) = match prefix.split_once('/') {
            Some((kind, digest)) => (Some(kind), digest),
            None => (None, prefix),
        };
        let digest = digest.to_ascii_lowercase();
        let not_found = || StoreError::NotFound { prefix: prefix.to_owned() };
        if !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(not_found());
        }
        if digest.len() < SHORTEST_PREFIX {
            return Err(StoreError::TooShort { prefix: prefix.to_owned() });
        }
        let mut candidates = self.objects()?;
        candidates.retain(|artifact| {
            kind.is_none_or(|kind| kind == artifact.kind) && artifact.digest.to_string().starts_with(&digest)
        });
        match candidates.len() {
            0 => Err(not_found()),
            1 => Ok(candidates.remove(0)),
            _ => Err(StoreError::Ambiguous { prefix: prefix.to_owned(), candidates }),
        }
    }

    /// Everything below `objects/`, by kind and digest, intact or not.
    pub(super) fn objects(&self) -> Result<Vec<ArtifactRef>, StoreError> {
        let doing = || "listing the store".to_owned();
        let objects = self.root.join("objects");
        let mut found = Vec::new();
        for kind in fsops::entries(&objects).doing(doing)?.into_keys() {
            for name in fsops::entries(&objects.join(&kind)).doing(doing)?.into_keys() {
                match name.parse() {
                    Ok(digest) => found.push(ArtifactRef::new(kind.clone(), digest)),
                    Err(_) => tracing::warn!("{objects}/{kind}/{name} does not belong to the store"),
                }
            }
        }
        Ok(found)
    }

    /// When an object was last published; `None` if it is gone.
    pub(super) fn modified(&self, artifact: &ArtifactRef) -> Result<Option<SystemTime>, StoreError> {
        let dir = self.object_dir_of(artifact);
        fsops::stat(&dir)
            .and_then(|metadata| metadata.map(|m| m.modified()).transpose())
            .doing(|| format!("looking at artifact {artifact}"))
    }
}

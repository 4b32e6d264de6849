//! Pins: named artifacts that are never collected.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Store;
use crate::canonical::canonical_json;
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::manifest::ArtifactRef;
use crate::names::{check_pin, check_token};

const PIN_FORMAT: u32 = 1;

/// A name for an artifact, which is a root of garbage collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The name.
    pub name: String,
    /// What it keeps.
    pub artifact: ArtifactRef,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PinFile {
    format: u32,
    kind: String,
    digest: Digest,
}

impl Store {
    /// Pins an artifact under a name; a pin of that name moves to it.
    ///
    /// # Errors
    /// [`StoreError::BadName`] for names with other characters than letters, digits, `.`, `-`, `_`, or that read like
    /// a digest; [`StoreError::Missing`].
    pub fn pin(&self, name: &str, kind: &str, digest: Digest) -> Result<(), StoreError> {
        check_pin(name)?;
        check_token("kind", kind)?;
        let artifact = ArtifactRef::new(kind, digest);
        let text = canonical_json(&json!({
            "format": PIN_FORMAT, "kind": kind, "digest": digest.to_string(),
        }));
        // A collector looks for pins under the same lock.
        let _lock = self.lock_object(&artifact)?;
        self.check_present(&artifact)?;
        self.write_atomic(&self.pin_path(name), text.as_bytes())
            .doing(|| format!("pinning artifact {artifact} as `{name}`"))
    }

    /// Removes a pin; says whether there was one.
    pub fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        check_pin(name)?;
        let removed = fsops::optional(fs_err::remove_file(self.pin_path(name)));
        Ok(removed.doing(|| format!("removing pin `{name}`"))?.is_some())
    }

    /// All pins by name.
    pub fn pins(&self) -> Result<Vec<Pin>, StoreError> {
        let entries = fsops::entries(&self.root.join("pins")).doing(|| "listing pins".to_owned())?;
        let mut pins = Vec::new();
        for name in entries.keys().filter_map(|file| file.strip_suffix(".json")) {
            pins.extend(self.read_pin(name)?);
        }
        Ok(pins)
    }

    pub(super) fn read_pin(&self, name: &str) -> Result<Option<Pin>, StoreError> {
        let path = self.pin_path(name);
        let bytes = fsops::read_optional(&path).doing(|| format!("reading pin `{name}`"))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let hint = "remove it with `plmicd artifact unpin` and pin again";
        match serde_json::from_slice::<PinFile>(&bytes) {
            Ok(file) if file.format == PIN_FORMAT => {
                Ok(Some(Pin { name: name.to_owned(), artifact: ArtifactRef::new(file.kind, file.digest) }))
            }
            Ok(file) => {
                Err(StoreError::UnknownFormat { path, found: file.format.into(), supported: PIN_FORMAT })
            }
            Err(error) => {
                Err(StoreError::Damaged { path, what: format!("not a pin: {error}\nhint: {hint}") })
            }
        }
    }

    fn pin_path(&self, name: &str) -> Utf8PathBuf {
        self.root.join("pins").join(format!("{name}.json"))
    }
}

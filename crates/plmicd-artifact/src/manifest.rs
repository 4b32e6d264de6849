//! `artifact.json`: which files an artifact consists of. Its bytes are what the artifact's digest is taken over.

use std::collections::BTreeMap;
use std::fmt;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::canonical::canonical_json;
use crate::digest::Digest;
use crate::names::relative_path_problem;

/// Version of the layout of `artifact.json`.
pub const MANIFEST_FORMAT: u32 = 1;
/// Name of the manifest in an artifact's folder. No payload file may have it.
pub const MANIFEST_FILE: &str = "artifact.json";

/// What a folder that may be an artifact says of itself, whatever the version of its format; see [`FolderMark::read`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderMark {
    /// The artifact's kind; `None` where the folder is none.
    pub kind: Option<String>,
    /// Whether it is marked as restricted.
    pub restricted: bool,
}

impl FolderMark {
    /// Of a folder anywhere. Nothing is verified: for artifacts of a store ask the store.
    pub fn read(folder: &Utf8Path) -> Self {
        let text = fs_err::read(folder.join(MANIFEST_FILE)).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        Self { kind: record["kind"].as_str().map(str::to_owned), restricted: record["restricted"] == true }
    }
}

/// Names an artifact: its kind and the digest of its `artifact.json`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRef {
    /// Kind, such as `notes` or `model`.
    pub kind: String,
    /// Content digest.
    pub digest: Digest,
}

impl ArtifactRef {
    /// A reference.
    pub fn new(kind: impl Into<String>, digest: Digest) -> Self {
        Self { kind: kind.into(), digest }
    }

    /// `kind/` and the first 12 characters of the digest, as shown to people.
    pub fn short(&self) -> String {
        format!("{}/{}", self.kind, self.digest.short())
    }
}

impl fmt::Display for ArtifactRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.digest)
    }
}

/// Size and content digest of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Bytes.
    pub size: u64,
    /// BLAKE3-256 of the content.
    pub blake3: Digest,
}

/// The content of `artifact.json`: facts about content only, no times, hosts or commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactManifest {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// Kind, such as `notes` or `model`.
    pub kind: String,
    /// Version of the kind's own on-disk schema.
    pub schema: u32,
    /// Whether it derives from data under a use agreement.
    pub restricted: bool,
    /// Path relative to the artifact's folder, `/` between components, to size and digest.
    pub files: BTreeMap<String, FileEntry>,
}

/// The bytes are not a manifest that this version can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or members are missing, unknown or of the wrong type.
    #[error("not a valid {MANIFEST_FILE}: {0}")]
    Invalid(String),
    /// Written by another version.
    #[error("{MANIFEST_FILE} has format {found}, but this version reads format {MANIFEST_FORMAT}")]
    Format {
        /// The format it has.
        found: u64,
    },
    /// A path that leads elsewhere or cannot be.
    #[error("{MANIFEST_FILE} lists a file that {problem}: `{}`", .path.escape_debug())]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same facts in another layout would have another digest.
    #[error("{MANIFEST_FILE} is not in canonical form")]
    NotCanonical,
}

impl ArtifactManifest {
    /// A manifest in the current format.
    pub fn new(
        kind: impl Into<String>,
        schema: u32,
        restricted: bool,
        files: BTreeMap<String, FileEntry>,
    ) -> Self {
        Self { format: MANIFEST_FORMAT, kind: kind.into(), schema, restricted, files }
    }

    /// The bytes of `artifact.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let files: serde_json::Map<String, serde_json::Value> = self
            .files
            .iter()
            .map(|(path, entry)| {
                (path.clone(), json!({"size": entry.size, "blake3": entry.blake3.to_string()}))
            })
            .collect();
        canonical_json(&json!({
            "format": self.format,
            "kind": self.kind,
            "schema": self.schema,
            "restricted": self.restricted,
            "files": files,
        }))
        .into_bytes()
    }

    /// The artifact's digest: BLAKE3 of [`to_bytes`](Self::to_bytes).
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Kind and digest.
    pub fn reference(&self) -> ArtifactRef {
        ArtifactRef::new(self.kind.clone(), self.digest())
    }

    /// Bytes of all files together, without `artifact.json`.
    pub fn total_size(&self) -> u64 {
        self.files.values().map(|entry| entry.size).sum()
    }

    /// Reads the bytes of an `artifact.json`.
    ///
    /// # Errors
    /// [`ManifestError`] unless the bytes are exactly what [`to_bytes`](Self::to_bytes) writes for a manifest
    /// of this format whose paths stay inside the folder.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Invalid(error.to_string()))?;
        if let Some(found) = value.get("format").and_then(serde_json::Value::as_u64)
            && found != u64::from(MANIFEST_FORMAT)
        {
            return Err(ManifestError::Format { found });
        }
        let manifest: Self =
            serde_json::from_value(value).map_err(|error| ManifestError::Invalid(error.to_string()))?;
        for path in manifest.files.keys() {
            if let Some(problem) = payload_path_problem(path) {
                return Err(ManifestError::Path { path: path.clone(), problem });
            }
        }
        if manifest.to_bytes() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }
}

/// Why no payload file can have this path, if none can.
pub(crate) fn payload_path_problem(path: &str) -> Option<&'static str> {
    if path == MANIFEST_FILE {
        return Some("has the name of the manifest");
    }
    relative_path_problem(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> ArtifactManifest {
        let entry = |text: &str| FileEntry { size: text.len() as u64, blake3: Digest::of(text.as_bytes()) };
        let files = [("notes.parquet", entry("abc")), ("splits/dev.csv", entry(""))];
        ArtifactManifest::new("notes", 2, true, files.map(|(path, e)| (path.to_owned(), e)).into())
    }

    #[test]
    fn a_folder_is_marked_by_its_record() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let is_marked = |folder: &Utf8Path| FolderMark::read(folder).restricted;
        assert!(!is_marked(folder));
        for (record, expected) in [
            ("{\"restricted\": true}", true),
            ("{\"restricted\": false}", false),
            ("{}", false),
            ("[", false),
        ] {
            std::fs::write(folder.join("artifact.json"), record).expect("written");
            assert_eq!(is_marked(folder), expected, "{record}");
        }
    }

    #[test]
    fn bytes_and_digest_are_as_documented() {
        // Written out by hand; the two file digests are those of the inputs "abc" and "" (published BLAKE3 vectors).
        let expected = r#"{
  "files": {
    "notes.parquet": {
      "blake3": "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
      "size": 3
    },
    "splits/dev.csv": {
      "blake3": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
      "size": 0
    }
  },
  "format": 1,
  "kind": "notes",
  "restricted": true,
  "schema": 2
}
"#;
        let manifest = sample();
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), expected);
        assert_eq!(manifest.digest().to_string(), blake3::hash(expected.as_bytes()).to_hex().as_str());
        assert_eq!(manifest.total_size(), 3);
        assert_eq!(ArtifactManifest::parse(expected.as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn what_is_not_a_manifest_is_refused() {
        let text = String::from_utf8(sample().to_bytes()).unwrap();
        let parse = |text: String| ArtifactManifest::parse(text.as_bytes()).unwrap_err();
        assert_eq!(parse(text.replace("\"format\": 1", "\"format\": 7")), ManifestError::Format { found: 7 });
        assert!(matches!(parse(text.replace("notes.parquet", "../x")), ManifestError::Path { .. }));
        assert!(matches!(parse(text.replace("notes.parquet", "/etc/x")), ManifestError::Path { .. }));
        assert!(matches!(parse(text.replace("notes.parquet", MANIFEST_FILE)), ManifestError::Path { .. }));
        assert!(matches!(parse(text.replace("\"schema\"", "\"scheme\"")), ManifestError::Invalid(_)));
        assert!(matches!(parse(text.replace("6437b3ac", "6437B3AC")), ManifestError::Invalid(_)));
        assert_eq!(parse(text.replace("  ", " ")), ManifestError::NotCanonical);
        assert!(matches!(parse(text[..text.len() / 2].to_owned()), ManifestError::Invalid(_)));
    }

    #[test]
    fn restriction_and_schema_are_part_of_the_identity() {
        let manifest = sample();
        let open = ArtifactManifest { restricted: false, ..manifest.clone() };
        let newer = ArtifactManifest { schema: 3, ..manifest.clone() };
        assert_ne!(manifest.digest(), open.digest());
        assert_ne!(manifest.digest(), newer.digest());
    }

    proptest! {
        #[test]
        fn bytes_read_back(
            files in proptest::collection::btree_map("[a-zé\"0-9]{1,8}(/[a-z. ]{3,5}x)?", any::<(u64, u64)>(), 0..12),
            schema in any::<u32>(),
            restricted in any::<bool>(),
        ) {
            let files = files
                .into_iter()
                .map(|(path, (size, seed))| (path, FileEntry { size, blake3: Digest::of(&seed.to_le_bytes()) }))
                .collect();
            let manifest = ArtifactManifest::new("notes", schema, restricted, files);
            let back = ArtifactManifest::parse(&manifest.to_bytes()).unwrap();
            prop_assert_eq!(back.digest(), manifest.digest());
            prop_assert_eq!(back, manifest);
        }
    }
}

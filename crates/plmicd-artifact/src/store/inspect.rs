//! Looking at an object on disk: its manifest, and whether its files are what the manifest says.

use std::collections::BTreeSet;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::digest::Digest;
use crate::fsops;
use crate::hashing::hash_files;
use crate::manifest::{ArtifactManifest, ArtifactRef, MANIFEST_FILE, ManifestError};

/// Something wrong with one file of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Relative to the object's folder.
    pub file: String,
    pub what: String,
}

impl Finding {
    fn new(file: &str, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), what: what.into() }
    }
}

/// What lies where an object should be.
pub(super) enum Found {
    /// No folder.
    Absent,
    /// A manifest of another version's format.
    Foreign { found: u64 },
    /// A manifest that is missing, unreadable, or not the one the digest names.
    Damaged(Finding),
    /// The manifest, checked against the digest.
    Manifest(ArtifactManifest),
}

/// Reads an object's manifest and checks it against the object's name.
pub(super) fn read_manifest(dir: &Utf8Path, artifact: &ArtifactRef) -> io::Result<Found> {
    let damaged = |what: String| Ok(Found::Damaged(Finding::new(MANIFEST_FILE, what)));
    let Some(bytes) = fsops::read_optional(&dir.join(MANIFEST_FILE))? else {
        return if fsops::stat(dir)?.is_some() {
            damaged("is missing".to_owned())
        } else {
            Ok(Found::Absent)
        };
    };
    let actual = Digest::of(&bytes);
    if actual != artifact.digest {
        return damaged(format!("has digest {actual}, not that of its folder"));
    }
    match ArtifactManifest::parse(&bytes) {
        Ok(manifest) if manifest.kind == artifact.kind => Ok(Found::Manifest(manifest)),
        Ok(manifest) => damaged(format!("is of kind `{}`", manifest.kind)),
        Err(ManifestError::Format { found }) => Ok(Found::Foreign { found }),
        Err(error) => damaged(error.to_string()),
    }
}

/// Checks that every file is there, is a regular file and has its size.
pub(super) fn check_sizes(dir: &Utf8Path, manifest: &ArtifactManifest) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (path, entry) in &manifest.files {
        match fsops::stat(&dir.join(path))? {
            None => findings.push(Finding::new(path, "is missing")),
            Some(metadata) if !metadata.is_file() => {
                findings.push(Finding::new(path, "is not a regular file"))
            }
            Some(metadata) if metadata.len() != entry.size => {
                let what = format!("has {} bytes instead of {}", metadata.len(), entry.size);
                findings.push(Finding::new(path, what));
            }
            Some(_) => {}
        }
    }
    Ok(findings)
}

/// Checks everything: sizes, digests, and that nothing else lies in the folder. `progress` receives bytes hashed.
pub(super) fn check_contents(
    dir: &Utf8Path,
    manifest: &ArtifactManifest,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Vec<Finding>> {
    let mut findings = check_sizes(dir, manifest)?;
    let damaged: BTreeSet<String> = findings.iter().map(|finding| finding.file.clone()).collect();
    let whole: Vec<_> = manifest.files.iter().filter(|(path, _)| !damaged.contains(*path)).collect();
    let paths: Vec<Utf8PathBuf> = whole.iter().map(|(path, _)| dir.join(path)).collect();
    for ((path, entry), hashed) in whole.into_iter().zip(hash_files(&paths, progress)) {
        match hashed {
            Ok(hashed) if hashed.digest == entry.blake3 => {}
            Ok(hashed) => {
                let what = format!("has digest {} instead of {}", hashed.digest, entry.blake3);
                findings.push(Finding::new(path, what));
            }
            Err(error) => findings.push(Finding::new(path, format!("cannot be read: {error}"))),
        }
    }
    let mut unlisted = Vec::new();
    collect_unlisted(dir, "", manifest, &mut unlisted)?;
    findings.extend(unlisted.iter().map(|path| Finding::new(path, "does not belong to the artifact")));
    findings.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(findings)
}

fn collect_unlisted(
    dir: &Utf8Path,
    prefix: &str,
    manifest: &ArtifactManifest,
    unlisted: &mut Vec<String>,
) -> io::Result<()> {
    for (name, file_type) in fsops::entries(dir)? {
        let path = format!("{prefix}{name}");
        if file_type.is_dir() {
            collect_unlisted(&dir.join(&name), &format!("{path}/"), manifest, unlisted)?;
        } else if path != MANIFEST_FILE && !manifest.files.contains_key(&path) {
            unlisted.push(path);
        }
    }
    Ok(())
}

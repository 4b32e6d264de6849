//! Hashing artifacts again.

use std::collections::BTreeSet;

use super::Store;
use super::inspect::{self, Finding, Found};
use crate::error::{Doing, StoreError};
use crate::manifest::{ArtifactManifest, ArtifactRef, MANIFEST_FILE};

/// Something wrong with a stored artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The artifact.
    pub artifact: ArtifactRef,
    /// The file, relative to the artifact's folder.
    pub file: String,
    /// What is wrong with it, to be read after its name.
    pub what: String,
    /// Whether the artifact is there and damaged, so that it is better moved aside. A pinned one that is missing is
    /// not, nor one of another version's format.
    pub damaged: bool,
}

/// Result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Artifacts looked at.
    pub checked: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// What was found, by artifact and file; empty if all is well.
    pub problems: Vec<Problem>,
}

impl Store {
    /// Checks one artifact, or all: `artifact.json` against the digest, every file against `artifact.json`, and that
    /// there are no others. With all, pins are checked to name artifacts that exist.
    ///
    /// `progress` receives bytes done and bytes in all. Nothing is changed: see [`quarantine`](Self::quarantine).
    ///
    /// # Errors
    /// [`StoreError::Missing`] for a given artifact that is not there; I/O errors other than unreadable files, which
    /// are problems in the report.
    pub fn verify(
        &self,
        which: Option<&ArtifactRef>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifyReport, StoreError> {
        let artifacts = match which {
            Some(artifact) => vec![artifact.clone()],
            None => self.objects()?,
        };
        let mut report = VerifyReport::default();
        let mut readable: Vec<(ArtifactRef, ArtifactManifest)> = Vec::new();
        for artifact in artifacts {
            let (finding, damaged) = match self.look_at(&artifact)? {
                Found::Absent if which.is_some() => return Err(StoreError::Missing { artifact }),
                // Collected since it was listed.
                Found::Absent => continue,
                Found::Manifest(manifest) => {
                    readable.push((artifact, manifest));
                    continue;
                }
                Found::Damaged(finding) => (finding, true),
                Found::Foreign { found } => {
                    let what = format!("has format {found}, of another version");
                    (Finding { file: MANIFEST_FILE.to_owned(), what }, false)
                }
            };
            report.checked += 1;
            report.add(&artifact, finding, damaged);
        }

        let total: u64 = readable.iter().map(|(_, manifest)| manifest.total_size()).sum();
        progress(0, total);
        for (artifact, manifest) in &readable {
            let dir = self.object_dir_of(artifact);
            let findings = inspect::check_contents(&dir, manifest, &mut |bytes| {
                report.bytes += bytes;
                progress(report.bytes, total);
            })
            .doing(|| format!("verifying artifact {artifact}"))?;
            if !findings.is_empty() && which.is_none() && matches!(self.look_at(artifact)?, Found::Absent) {
                continue;
            }
            report.checked += 1;
            findings.into_iter().for_each(|finding| report.add(artifact, finding, true));
        }

        if which.is_none() {
            self.check_pins(&mut report)?;
        }
        report.problems.sort_by(|a, b| (&a.artifact, &a.file).cmp(&(&b.artifact, &b.file)));
        Ok(report)
    }

    fn look_at(&self, artifact: &ArtifactRef) -> Result<Found, StoreError> {
        inspect::read_manifest(&self.object_dir_of(artifact), artifact)
            .doing(|| format!("verifying artifact {artifact}"))
    }

    fn check_pins(&self, report: &mut VerifyReport) -> Result<(), StoreError> {
        let pins = self.pins()?;
        let present: BTreeSet<ArtifactRef> = self.objects()?.into_iter().collect();
        for pin in pins.into_iter().filter(|pin| !present.contains(&pin.artifact)) {
            let what = format!("is pinned as `{}` but missing", pin.name);
            report.add(&pin.artifact, Finding { file: MANIFEST_FILE.to_owned(), what }, false);
        }
        Ok(())
    }
}

impl VerifyReport {
    /// The damaged artifacts, each once.
    pub fn damaged(&self) -> BTreeSet<&ArtifactRef> {
        let damaged = self.problems.iter().filter(|problem| problem.damaged);
        damaged.map(|problem| &problem.artifact).collect()
    }

    fn add(&mut self, artifact: &ArtifactRef, finding: Finding, damaged: bool) {
        let Finding { file, what } = finding;
        self.problems.push(Problem { artifact: artifact.clone(), file, what, damaged });
    }
}

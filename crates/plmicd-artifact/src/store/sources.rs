//! Digests of source files, with a cache that only ever saves reading an unchanged file again.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Store;
use crate::canonical::canonical_json;
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::hashing::{HashedFile, Stat, hash_file};
use crate::manifest::{ArtifactManifest, FileEntry, payload_path_problem};
use crate::names::check_token;

const INDEX_FORMAT: u32 = 1;
/// Schema version in the manifests of sources, which have none of their own.
const SOURCE_SCHEMA: u32 = 1;
/// A file changed less long ago than this may change again without its times showing it.
const SETTLED: Duration = Duration::from_secs(2);

/// `sources/index.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: u32,
    files: BTreeMap<Utf8PathBuf, CachedFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CachedFile {
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    inode: u64,
    blake3: Digest,
}

impl CachedFile {
    fn of(hashed: &HashedFile) -> Self {
        let Stat { size, mtime_ns, ctime_ns, inode } = hashed.stat;
        Self { size, mtime_ns, ctime_ns, inode, blake3: hashed.digest }
    }

    fn stat(&self) -> Stat {
        Stat { size: self.size, mtime_ns: self.mtime_ns, ctime_ns: self.ctime_ns, inode: self.inode }
    }
}

impl Store {
    /// The manifest of a source: files outside the store, each with the path it has inside the source. Its digest
    /// is what stage keys are made from.
    ///
    /// Files that have not changed since they were last hashed (size, times and inode are the same) are not read
    /// again. `progress` receives bytes done and bytes in all.
    ///
    /// # Errors
    /// [`StoreError::Io`] for files that are missing, unreadable or change while they are read.
    pub fn source_manifest(
        &self,
        kind: &str,
        restricted: bool,
        files: &[(String, Utf8PathBuf)],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ArtifactManifest, StoreError> {
        check_token("kind", kind)?;
        let doing = || format!("reading a source of kind `{kind}`");
        let mut stats = Vec::with_capacity(files.len());
        for (name, path) in files {
            if payload_path_problem(name).is_some() {
                let expected = "a plain relative path that is not `artifact.json`";
                return Err(StoreError::BadName { what: "file of a source", name: name.clone(), expected });
            }
            stats.push(Stat::of(&fs_err::metadata(path).doing(doing)?));
        }

        let total: u64 = stats.iter().map(|stat| stat.size).sum();
        let mut done = 0;
        progress(done, total);
        let index = self.read_index();
        let mut learnt = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for ((name, path), stat) in files.iter().zip(stats) {
            let entry = match index.files.get(path) {
                Some(cached) if cached.stat() == stat => {
                    done += stat.size;
                    progress(done, total);
                    FileEntry { size: stat.size, blake3: cached.blake3 }
                }
                _ => {
                    let hashed = hash_file(path, &mut |bytes| {
                        done += bytes;
                        progress(done, total);
                    })
                    .doing(doing)?;
                    if is_settled(&hashed.stat, SystemTime::now()) {
                        learnt.insert(path.clone(), CachedFile::of(&hashed));
                    }
                    FileEntry { size: hashed.stat.size, blake3: hashed.digest }
                }
            };
            if entries.insert(name.clone(), entry).is_some() {
                let expected = "a path that no other file of the source has";
                return Err(StoreError::BadName { what: "file of a source", name: name.clone(), expected });
            }
        }
        if !learnt.is_empty() {
            self.extend_index(learnt);
        }
        Ok(ArtifactManifest::new(kind, SOURCE_SCHEMA, restricted, entries))
    }

    fn index_path(&self) -> Utf8PathBuf {
        self.root.join("sources").join("index.json")
    }

    /// The cache; empty where there is none or it cannot be used.
    fn read_index(&self) -> Index {
        let path = self.index_path();
        let ignore = |why: String| {
            tracing::warn!(%path, "the cache of source digests is ignored: {why}");
            Index::default()
        };
        match fsops::read_optional(&path) {
            Ok(None) => Index::default(),
            Ok(Some(bytes)) => match serde_json::from_slice::<Index>(&bytes) {
                Ok(index) if index.format == INDEX_FORMAT => index,
                Ok(index) => ignore(format!("it has format {}", index.format)),
                Err(error) => ignore(error.to_string()),
            },
            Err(error) => ignore(error.to_string()),
        }
    }

    /// Adds to the cache as it is now. Of two processes that do so at once one may lose its additions: it hashes again
    /// next time.
    fn extend_index(&self, learnt: BTreeMap<Utf8PathBuf, CachedFile>) {
        let mut files = self.read_index().files;
        files.extend(learnt);
        let files: serde_json::Map<String, serde_json::Value> = files
            .iter()
            .map(|(path, file)| {
                let file = json!({
                    "size": file.size,
                    "mtime_ns": file.mtime_ns,
                    "ctime_ns": file.ctime_ns,
                    "inode": file.inode,
                    "blake3": file.blake3.to_string(),
                });
                (path.to_string(), file)
            })
            .collect();
        let text = canonical_json(&json!({"format": INDEX_FORMAT, "files": files}));
        if let Err(error) = self.write_atomic(&self.index_path(), text.as_bytes()) {
            tracing::warn!(%error, "the cache of source digests could not be written");
        }
    }
}

/// Whether a file's last change lies far enough back for a later one to show in its times.
fn is_settled(stat: &Stat, now: SystemTime) -> bool {
    let Ok(now) = now.duration_since(SystemTime::UNIX_EPOCH) else { return false };
    let changed = stat.mtime_ns.max(stat.ctime_ns);
    i64::try_from(now.saturating_sub(SETTLED).as_nanos()).is_ok_and(|settled| changed < settled)
}

//! Tests of the store as a whole. Some re-run this test binary as a second process (see `child`), because only a
//! process that really dies leaves what a kill leaves.

mod child;
mod concurrency;
mod crash;
mod gc;
mod listing;
mod lookup;
mod opening;
mod publishing;
mod sources;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::*;
use crate::record::{ActionRecord, PendingAction};

/// A store in a folder of its own, removed at the end.
struct TestStore {
    dir: tempfile::TempDir,
    store: Store,
}

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl TestStore {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&utf8(dir.path()).join("store")).unwrap();
        Self { dir, store }
    }

    /// A folder beside the store.
    fn beside(&self, name: &str) -> Utf8PathBuf {
        utf8(self.dir.path()).join(name)
    }

    /// Names in a folder of the store.
    fn names(&self, folder: &str) -> Vec<String> {
        fsops::entries(&self.root().join(folder)).unwrap().into_keys().collect()
    }

    /// Asserts that no process left anything behind in the folders for passing things.
    fn assert_tidy(&self) {
        for folder in ["tmp", "locks", "leases"] {
            assert_eq!(self.names(folder), Vec::<String>::new(), "{folder}");
        }
    }

    fn assert_sound(&self) {
        let report = self.verify(None, &mut |_, _| {}).unwrap();
        assert_eq!(report.problems, []);
    }
}

fn utf8(path: &std::path::Path) -> Utf8PathBuf {
    Utf8PathBuf::from_path_buf(path.to_owned()).unwrap()
}

const FILES: [(&str, &str); 3] =
    [("notes.parquet", "not really parquet"), ("labels.json", "{}"), ("splits/dev.csv", "1\n2\n")];

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn pending(key: Digest) -> PendingAction {
    PendingAction {
        stage: "preprocess".to_owned(),
        key,
        kind: "notes".to_owned(),
        schema: 1,
        restricted: false,
        fingerprint: json!({"stage": "preprocess", "config": {"cohort": "full"}}),
        provenance: json!({"version": "0.1.0"}),
    }
}

fn fill(staging: &Staging, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = staging.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
}

/// Publishes files under a key of stage `preprocess`.
fn publish(store: &Store, key: Digest, files: &[(&str, &str)]) -> ActionRecord {
    let staging = store.staging().unwrap();
    fill(&staging, files);
    store.publish(staging, pending(key)).unwrap()
}

/// Publishes a one-file artifact whose content is `text`.
fn publish_text(store: &Store, text: &str) -> ArtifactRef {
    publish_text_result(store, text).unwrap().artifact_ref()
}

fn publish_text_result(store: &Store, text: &str) -> Result<ActionRecord, StoreError> {
    let staging = store.staging()?;
    fill(&staging, &[("text", text)]);
    store.publish(staging, pending(key(text)))
}

fn lease_of(artifact: &ArtifactRef) -> [(String, Digest); 1] {
    [(artifact.kind.clone(), artifact.digest)]
}

fn collect_everything() -> GcOptions {
    GcOptions { keep: vec![], grace: Duration::ZERO, now: SystemTime::now(), dry_run: false }
}

fn mode(path: &Utf8Path) -> u32 {
    fs_err::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Overwrites a published file in place.
fn tamper(path: &Utf8Path, content: &[u8]) {
    fsops::set_mode(path, 0o600).unwrap();
    fs_err::write(path, content).unwrap();
}

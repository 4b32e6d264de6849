//! Digests of sources and the cache that saves reading them again.

use super::*;
use crate::manifest::ArtifactManifest;

struct Source {
    store: TestStore,
    files: Vec<(String, Utf8PathBuf)>,
}

impl Source {
    /// Two files, last changed a minute ago.
    fn new() -> Self {
        let store = TestStore::new();
        let dir = store.beside("raw");
        fs_err::create_dir(&dir).unwrap();
        let files = ["NOTEEVENTS.csv", "splits/train.csv"].map(|name| {
            let path = dir.join(name.replace('/', "-"));
            fs_err::write(&path, format!("content of {name}")).unwrap();
            (name.to_owned(), path)
        });
        Self { store, files: files.into() }
    }

    fn manifest(&self) -> Result<ArtifactManifest, StoreError> {
        self.store.source_manifest("mimic3", true, &self.files, &mut |_, _| {})
    }

    fn index_path(&self) -> Utf8PathBuf {
        self.store.root().join("sources/index.json")
    }

    /// Waits until the files count as settled, and fills the cache.
    fn cached() -> (Self, ArtifactManifest) {
        let source = Self::new();
        std::thread::sleep(Duration::from_millis(2100));
        let manifest = source.manifest().unwrap();
        assert!(source.index_path().exists());
        (source, manifest)
    }

    /// Replaces the digest of the first file in the cache, to see whether the cache is used.
    fn poison(&self, index: &str) {
        let poisoned =
            index.replace(&key("content of NOTEEVENTS.csv").to_string(), &key("poison").to_string());
        assert_ne!(poisoned, index);
        fs_err::write(self.index_path(), poisoned).unwrap();
    }

    fn first_digest(&self) -> Digest {
        self.manifest().unwrap().files["NOTEEVENTS.csv"].blake3
    }
}

#[test]
fn a_source_has_the_manifest_of_an_artifact_with_the_same_files() {
    let source = Source::new();
    let mut progress = Vec::new();
    let manifest = source
        .store
        .source_manifest("mimic3", true, &source.files, &mut |done, total| progress.push((done, total)))
        .unwrap();
    assert_eq!((manifest.kind.as_str(), manifest.restricted, manifest.files.len()), ("mimic3", true, 2));
    assert_eq!(manifest.files["splits/train.csv"].blake3, key("content of splits/train.csv"));
    let total = manifest.total_size();
    assert_eq!((progress.first(), progress.last()), (Some(&(0, total)), Some(&(total, total))));

    let staging = source.store.staging().unwrap();
    fill(
        &staging,
        &[
            ("NOTEEVENTS.csv", "content of NOTEEVENTS.csv"),
            ("splits/train.csv", "content of splits/train.csv"),
        ],
    );
    let same = PendingAction { kind: "mimic3".to_owned(), restricted: true, ..pending(key("k")) };
    assert_eq!(source.store.publish(staging, same).unwrap().artifact, manifest.digest());
}

#[test]
fn files_changed_just_now_are_not_cached() {
    let source = Source::new();
    source.manifest().unwrap();
    assert!(!source.index_path().exists());
}

#[test]
fn unchanged_files_come_from_the_cache_and_changed_ones_do_not() {
    let (source, manifest) = Source::cached();
    assert_eq!(source.manifest().unwrap(), manifest);
    let index = fs_err::read_to_string(source.index_path()).unwrap();
    source.poison(&index);
    assert_eq!(source.first_digest(), key("poison"), "the cache should have been used");

    // Same size, and the modification time put back: the inode's change time still tells.
    let path = &source.files[0].1;
    let modified = fs_err::metadata(path).unwrap().modified().unwrap();
    fs_err::write(path, "CONTENT of NOTEEVENTS.csv").unwrap();
    fs_err::OpenOptions::new().write(true).open(path).unwrap().set_modified(modified).unwrap();
    assert_eq!(source.first_digest(), key("CONTENT of NOTEEVENTS.csv"));

    // Another file under the same name.
    let other = source.store.beside("other");
    fs_err::write(&other, "CONTENT of noteevents.csv").unwrap();
    fs_err::OpenOptions::new().write(true).open(&other).unwrap().set_modified(modified).unwrap();
    fs_err::rename(&other, path).unwrap();
    assert_eq!(source.first_digest(), key("CONTENT of noteevents.csv"));
}

#[test]
fn a_corrupt_cache_is_ignored_and_replaced() {
    let (source, manifest) = Source::cached();
    let index = fs_err::read_to_string(source.index_path()).unwrap();
    for bad in ["", "{", &index[..index.len() / 2], &index.replace("\"format\": 1", "\"format\": 9"), "[]"] {
        fs_err::write(source.index_path(), bad).unwrap();
        assert_eq!(source.manifest().unwrap(), manifest, "{bad}");
        assert_eq!(fs_err::read_to_string(source.index_path()).unwrap(), index);
    }
    source.store.assert_tidy();
}

#[test]
fn missing_files_and_bad_names_are_refused() {
    let mut source = Source::new();
    source.files.push(("PROCEDURES_ICD.csv".to_owned(), source.store.beside("raw/PROCEDURES_ICD.csv")));
    let error = source.manifest().unwrap_err().to_string();
    assert!(error.contains("PROCEDURES_ICD.csv") && error.contains("mimic3"), "{error}");
    for bad in ["../x", "NOTEEVENTS.csv", "artifact.json", ""] {
        source.files[2] = (bad.to_owned(), source.files[0].1.clone());
        assert!(matches!(source.manifest(), Err(StoreError::BadName { .. })), "{bad}");
    }
}

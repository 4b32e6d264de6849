//! Publishing: what is accepted, how it lies on disk, what happens to content that is already there.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::manifest::ArtifactManifest;

#[test]
fn an_artifact_lies_on_disk_as_documented() {
    let store = TestStore::new();
    let record = publish(&store, key("k"), &FILES);
    let dir = store.object_dir("notes", record.artifact);

    // Recomputed with the hash function alone.
    let bytes = fs_err::read(dir.join("artifact.json")).unwrap();
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), dir.file_name().unwrap());
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["files"].as_object().unwrap().len(), FILES.len());
    for (path, content) in FILES {
        assert_eq!(fs_err::read_to_string(dir.join(path)).unwrap(), content);
        assert_eq!(json["files"][path]["size"], content.len());
        assert_eq!(json["files"][path]["blake3"], blake3::hash(content.as_bytes()).to_hex().as_str());
    }
    assert_eq!(store.manifest("notes", record.artifact).unwrap(), ArtifactManifest::parse(&bytes).unwrap());

    for file in ["artifact.json", "notes.parquet", "splits/dev.csv"] {
        assert_eq!(mode(&dir.join(file)), 0o400, "{file}");
    }
    for folder in [dir.as_path(), &dir.join("splits"), dir.parent().unwrap(), &store.root().join("tmp")] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    let path = store.root().join(format!("actions/preprocess/{}.json", key("k")));
    assert_eq!(mode(&path), 0o600);
    let json: serde_json::Value = serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap();
    assert_eq!(json["artifact"], record.artifact.to_string());
    assert_eq!(json["fingerprint"]["config"]["cohort"], "full");
    store.assert_tidy();
}

#[test]
fn same_content_has_the_same_digest_whatever_key_order_or_time() {
    let store = TestStore::new();
    let first = publish(&store, key("one"), &FILES);
    let inode =
        |record: &ActionRecord| fs_err::metadata(store.object_dir("notes", record.artifact)).unwrap().ino();
    let inode_before = inode(&first);
    let mut reversed = FILES;
    reversed.reverse();
    let second = publish(&store, key("two"), &reversed);
    assert_eq!(first.artifact, second.artifact);
    assert_eq!(inode_before, inode(&second), "the first object should have stayed");
    assert!(matches!(store.lookup("preprocess", key("two")).unwrap(), Lookup::Hit(_)));

    let other = publish(&store, key("three"), &[("labels.json", "{}")]);
    assert_ne!(first.artifact, other.artifact);
}

#[test]
fn publishing_content_again_restarts_its_grace_period() {
    let store = TestStore::new();
    let artifact = publish_text(&store, "x");
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    let dir = fs_err::File::open(store.object_dir_of(&artifact)).unwrap();
    dir.set_modified(long_ago).unwrap();
    let options = GcOptions { grace: Duration::from_secs(500), ..collect_everything() };
    assert_eq!(store.gc(&GcOptions { dry_run: true, ..options.clone() }).unwrap().kept.count, 0);
    publish_text(&store, "x");
    assert_eq!(store.gc(&options).unwrap().kept.count, 1);
}

#[test]
fn a_damaged_object_is_replaced_by_publishing_its_content_again() {
    // A flipped byte, a truncated file, a missing one, a broken manifest, a stranger.
    let damages: [fn(&Utf8Path); 5] = [
        |dir| tamper(&dir.join("notes.parquet"), b"not really Parquet"),
        |dir| tamper(&dir.join("notes.parquet"), b"not"),
        |dir| fs_err::remove_file(dir.join("splits/dev.csv")).unwrap(),
        |dir| tamper(&dir.join("artifact.json"), b"{}"),
        |dir| fs_err::write(dir.join("stranger"), b"").unwrap(),
    ];
    for damage in damages {
        let store = TestStore::new();
        let record = publish(&store, key("k"), &FILES);
        damage(&store.object_dir("notes", record.artifact));
        assert_ne!(store.verify(None, &mut |_, _| {}).unwrap().problems, []);

        assert_eq!(publish(&store, key("k"), &FILES), record);
        store.assert_sound();
        assert!(matches!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Hit(_)));
        let left = store.names("tmp");
        assert!(left.len() == 1 && left[0].starts_with("quarantine-notes-"), "{left:?}");
    }
}

#[test]
fn what_cannot_be_published_is_refused_and_removed() {
    let store = TestStore::new();
    let refuse = |make: &dyn Fn(&Utf8Path), expected: &str| {
        let staging = store.staging().unwrap();
        fs_err::write(staging.path().join("good"), b"good").unwrap();
        make(staging.path());
        let error = store.publish(staging, pending(key("k"))).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("preprocess"), "{error}");
    };
    refuse(
        &|dir| fs_err::os::unix::fs::symlink("good", dir.join("link")).unwrap(),
        "link is a symbolic link",
    );
    refuse(
        &|dir| {
            fs_err::create_dir(dir.join("sub")).unwrap();
            fs_err::os::unix::fs::symlink("/etc", dir.join("sub/etc")).unwrap();
        },
        "sub/etc is a symbolic link",
    );
    refuse(
        &|dir| drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap()),
        "socket is neither a file nor a folder",
    );
    refuse(
        &|dir| {
            let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
            fs_err::write(dir.as_std_path().join(name), b"").unwrap();
        },
        "not valid UTF-8",
    );
    refuse(&|dir| fs_err::write(dir.join("two\nlines"), b"").unwrap(), "two\\nlines has a control character");
    refuse(&|dir| fs_err::write(dir.join("artifact.json"), b"{}").unwrap(), "the name of the manifest");
    refuse(&|dir| fs_err::remove_file(dir.join("good")).unwrap(), "it holds no file");
    refuse(
        &|dir| {
            fs_err::remove_file(dir.join("good")).unwrap();
            fs_err::create_dir_all(dir.join("only/folders")).unwrap();
        },
        "it holds no file",
    );
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Never);
    store.assert_tidy();
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let store = TestStore::new();
    for (stage, kind) in [("../x", "notes"), ("preprocess", "a/b"), ("", "notes"), ("preprocess", "..")] {
        let staging = store.staging().unwrap();
        fill(&staging, &FILES);
        let pending = PendingAction { stage: stage.to_owned(), kind: kind.to_owned(), ..pending(key("k")) };
        assert!(matches!(store.publish(staging, pending), Err(StoreError::BadName { .. })));
    }
    assert!(matches!(store.lookup("../actions", key("k")), Err(StoreError::BadName { .. })));
    assert!(matches!(store.work_dir("..", key("k")), Err(StoreError::BadName { .. })));
    assert!(matches!(store.manifest("..", key("k")), Err(StoreError::BadName { .. })));
    store.assert_tidy();
}

#[test]
fn empty_folders_are_dropped_and_odd_modes_mended() {
    let store = TestStore::new();
    let staging = store.staging().unwrap();
    fill(&staging, &[("a/b/file", "x"), ("script", "y")]);
    fs_err::create_dir_all(staging.path().join("a/empty/deep")).unwrap();
    fsops::set_mode(&staging.path().join("script"), 0o777).unwrap();
    fsops::set_mode(&staging.path().join("a/b"), 0o555).unwrap();
    let record = store.publish(staging, pending(key("k"))).unwrap();
    let dir = store.object_dir("notes", record.artifact);
    assert!(!dir.join("a/empty").exists());
    assert_eq!((mode(&dir.join("script")), mode(&dir.join("a/b"))), (0o400, 0o700));
    store.assert_sound();
}

#[test]
fn a_linked_checkpoint_cannot_change_the_published_file() {
    let store = TestStore::new();
    let checkpoint = store.work_dir("finetune", key("k")).unwrap().join("best");
    fs_err::write(&checkpoint, b"weights").unwrap();
    let staging = store.staging().unwrap();
    fs_err::hard_link(&checkpoint, staging.path().join("model.safetensors")).unwrap();
    let record = store.publish(staging, pending(key("k"))).unwrap();
    fs_err::write(&checkpoint, b"changed").unwrap();
    let published = store.object_dir("notes", record.artifact).join("model.safetensors");
    assert_eq!(fs_err::read(published).unwrap(), b"weights");
    store.assert_sound();
}

#[test]
fn an_unpublished_staging_folder_goes_when_dropped() {
    let store = TestStore::new();
    let staging = store.staging().unwrap();
    fill(&staging, &FILES);
    assert_eq!(store.names("tmp").len(), 2);
    drop(staging);
    store.assert_tidy();
}

#[test]
fn a_later_record_replaces_an_earlier_one() {
    let store = TestStore::new();
    let first = publish(&store, key("k"), &[("text", "a")]);
    let second = publish(&store, key("k"), &[("text", "b")]);
    assert_ne!(first.artifact, second.artifact);
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Hit(second.clone()));
    assert_eq!(store.actions_of_stage("preprocess").unwrap(), [second]);
    assert_eq!(store.actions_of_stage("tokenize").unwrap(), []);
}

#[test]
fn work_folders_survive_and_go_when_told() {
    let store = TestStore::new();
    let dir = store.work_dir("finetune", key("k")).unwrap();
    fs_err::write(dir.join("checkpoint"), b"1").unwrap();
    assert_eq!(store.work_dir("finetune", key("k")).unwrap(), dir);
    assert!(dir.join("checkpoint").exists());
    assert_eq!(mode(&dir), 0o700);
    store.remove_work_dir("finetune", key("k")).unwrap();
    assert!(!dir.exists());
    store.remove_work_dir("finetune", key("k")).unwrap();
    store.assert_tidy();
}

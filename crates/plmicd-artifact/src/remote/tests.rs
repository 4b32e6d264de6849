//! Two stores that share over a folder.

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::*;
use crate::manifest::ArtifactManifest;
use crate::record::PendingAction;
use crate::store::{Lookup, Store};
use crate::{StoreError, fsops};

/// Two stores and what they share.
struct World {
    dir: tempfile::TempDir,
    ours: Store,
    theirs: Store,
    remote: Remote,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let open = |name: &str| Store::open(&root.join(name)).unwrap();
        let (ours, theirs) = (open("ours"), open("theirs"));
        let remote = Remote::open_or_make(root.join("shared").as_str(), &[]).unwrap();
        Self { dir, ours, theirs, remote }
    }

    fn shared(&self, object: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.dir.path()).unwrap().join("shared/v1").join(object)
    }

    /// An artifact of our store with these files.
    fn make(&self, files: &[(&str, &[u8])], restricted: bool) -> ActionRecord {
        let staging = self.ours.staging().unwrap();
        for (path, bytes) in files {
            let path = staging.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, bytes).unwrap();
        }
        let key = Digest::of(files[0].1);
        let pending = PendingAction {
            stage: "tokenize".to_owned(),
            key,
            kind: "token-shards".to_owned(),
            schema: 1,
            restricted,
            fingerprint: json!({"config": {"seed": 1}}),
            provenance: json!({"seconds": 1.5}),
        };
        self.ours.publish(staging, pending).unwrap()
    }

    fn push(&self, record: &ActionRecord) -> Transfer {
        self.remote
            .push(&self.ours, &record.artifact_ref(), PushOptions::default(), &mut |_, _| true)
            .unwrap()
    }

    fn pull(&self, record: &ActionRecord) -> Result<Transfer, RemoteError> {
        let records = self.remote.records_of(&[record.artifact_ref()]).unwrap();
        self.remote.pull(&self.theirs, &record.artifact_ref(), &records, &mut |_, _| true)
    }

    /// Their store has the very artifact, by digest and mode, and nothing is left over.
    fn assert_theirs_is(&self, record: &ActionRecord) {
        let artifact = record.artifact_ref();
        assert_eq!(self.theirs.lookup(&record.stage, record.key).unwrap(), Lookup::Hit(record.clone()));
        let report = self.theirs.verify(None, &mut |_, _| {}).unwrap();
        assert_eq!((report.checked, report.problems), (1, vec![]));
        let dir = self.theirs.object_dir(&artifact.kind, artifact.digest);
        for path in self.theirs.manifest(&artifact.kind, artifact.digest).unwrap().files.keys() {
            let mode = fs_err::metadata(dir.join(path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o400, "{path}");
        }
        for folder in ["tmp", "locks", "work/remote"] {
            let names: Vec<String> =
                fsops::entries(&self.theirs.root().join(folder)).unwrap().into_keys().collect();
            assert_eq!(names, Vec::<String>::new(), "{folder}");
        }
    }

    fn assert_theirs_is_empty(&self) {
        assert!(self.theirs.list().unwrap().is_empty());
        assert!(self.theirs.stages().unwrap().is_empty());
    }
}

const FILES: [(&str, &[u8]); 3] = [("a.parquet", b"tokens"), ("sub/b.json", b"{}"), ("sub/c.json", b"{}")];

/// Overwrites a file whatever its mode.
fn overwrite(path: &Utf8Path, bytes: &[u8]) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    fs_err::write(path, bytes).unwrap();
}

#[test]
fn what_one_store_pushes_another_one_pulls() {
    let world = World::new();
    let record = world.make(&FILES, false);
    // Two files of the same content are one.
    assert_eq!(world.push(&record), Transfer { files: 2, bytes: 8, present: 0 });
    assert_eq!(world.push(&record), Transfer { files: 0, bytes: 0, present: 2 });
    assert_eq!(world.remote.list().unwrap(), [record.artifact_ref()]);
    assert_eq!(world.pull(&record).unwrap(), Transfer { files: 2, bytes: 8, present: 0 });
    world.assert_theirs_is(&record);
    assert_eq!(world.pull(&record).unwrap(), Transfer { files: 0, bytes: 0, present: 3 });
    // Anyone can check the shared files with b3sum.
    let blob = world.shared(&blob_path(Digest::of(b"tokens")));
    assert_eq!(fs_err::read(blob).unwrap(), b"tokens");
}

#[test]
fn large_files_go_in_parts() {
    let world = World::new();
    let large: Vec<u8> = (0..backend::PART as u32 + 5).map(|i| (i / 7) as u8).collect();
    let exact = vec![7; backend::PART];
    let record =
        world.make(&[("large", large.as_slice()), ("exact", exact.as_slice()), ("empty", &[])], false);
    assert_eq!(world.push(&record).files, 3);
    assert_eq!(world.pull(&record).unwrap().bytes, (large.len() + exact.len()) as u64);
    world.assert_theirs_is(&record);
}

#[test]
fn a_store_reads_through_to_its_mirror() {
    let world = World::new();
    let record = world.make(&FILES, false);
    let reading = world.theirs.clone().with_mirror(std::sync::Arc::new(
        Remote::open(world.dir.path().join("shared").to_str().unwrap(), &[]).unwrap(),
    ));
    assert_eq!(reading.lookup("tokenize", Digest::of(b"other")).unwrap(), Lookup::Never);
    world.push(&record);
    assert_eq!(reading.lookup("tokenize", record.key).unwrap(), Lookup::Remote(record.clone()));
    world.assert_theirs_is_empty();
    reading.fetch(&record, &mut |_, _| true).unwrap();
    assert_eq!(reading.lookup("tokenize", record.key).unwrap(), Lookup::Hit(record.clone()));
    world.assert_theirs_is(&record);
    // A damaged copy of one's own is replaced.
    let own = world.theirs.object_dir(&record.kind, record.artifact).join("a.parquet");
    overwrite(&own, b"tok");
    assert_eq!(reading.lookup("tokenize", record.key).unwrap(), Lookup::Remote(record.clone()));
    reading.fetch(&record, &mut |_, _| true).unwrap();
    assert_eq!(reading.lookup("tokenize", record.key).unwrap(), Lookup::Hit(record.clone()));
}

#[test]
fn restricted_artifacts_are_shared_only_with_consent() {
    let world = World::new();
    let record = world.make(&FILES, true);
    let push = |options| world.remote.push(&world.ours, &record.artifact_ref(), options, &mut |_, _| true);
    let refused = push(PushOptions::default()).unwrap_err();
    assert!(matches!(refused, RemoteError::Restricted { .. }), "{refused}");
    assert!(!world.shared("").exists(), "nothing at all was written");
    push(PushOptions { allow_restricted: true, ..PushOptions::default() }).unwrap();
    world.pull(&record).unwrap();
    assert!(world.theirs.manifest(&record.kind, record.artifact).unwrap().restricted);
}

#[test]
fn an_interrupted_pull_goes_on_where_it_was() {
    let world = World::new();
    let large = vec![3; 3 << 20];
    let record = world.make(&[("large", large.as_slice()), ("small", &b"x"[..])], false);
    let artifact = record.artifact_ref();
    world.push(&record);
    // Stopped in the middle of the large file.
    let stopped = world.remote.pull(&world.theirs, &artifact, &[], &mut |done, _| done < 1 << 20);
    assert!(matches!(stopped, Err(RemoteError::Interrupted)));
    world.assert_theirs_is_empty();
    let scratch = world.theirs.root().join("work/remote").join(artifact.digest.to_string());
    let part = scratch.join(format!("{}.part", Digest::of(&large)));
    let kept = fs_err::metadata(&part).unwrap().len();
    assert!(kept >= 1 << 20 && kept < large.len() as u64, "{kept}");
    let transfer = world.pull(&record).unwrap();
    assert_eq!(transfer.bytes + kept + u64::from(transfer.files == 1), large.len() as u64 + 1);
    world.assert_theirs_is(&record);
}

#[test]
fn half_a_file_of_something_else_is_not_gone_on_from() {
    let world = World::new();
    let record = world.make(&FILES, false);
    world.push(&record);
    let scratch = world.theirs.work_dir("remote", record.artifact).unwrap();
    fs_err::write(scratch.join(format!("{}.part", Digest::of(b"tokens"))), b"tick").unwrap();
    world.pull(&record).unwrap();
    world.assert_theirs_is(&record);
}

#[test]
fn an_interrupted_push_leaves_nothing_that_names_it() {
    let world = World::new();
    let record = world.make(&FILES, false);
    let artifact = record.artifact_ref();
    let stopped = world.remote.push(&world.ours, &artifact, PushOptions::default(), &mut |_, _| false);
    assert!(matches!(stopped, Err(RemoteError::Interrupted)));
    assert!(world.remote.list().unwrap().is_empty());
    assert_eq!(world.remote.lookup("tokenize", record.key).unwrap(), None);
    world.push(&record);
    world.pull(&record).unwrap();
    world.assert_theirs_is(&record);
}

#[test]
fn damaged_shared_objects_are_named_and_never_used() {
    type Object = fn(&ActionRecord) -> String;
    type Damage = fn(&Utf8Path);
    let manifest: Object = |record| manifest_path(&record.artifact_ref());
    let blob: Object = |_| blob_path(Digest::of(b"tokens"));
    let other: Damage = |path| overwrite(path, b"tokenz");
    let short: Damage = |path| overwrite(path, b"tok");
    let long: Damage = |path| overwrite(path, b"tokens and more");
    let gone: Damage = |path| fs_err::remove_file(path).unwrap();
    let cases = [
        (blob, other, "has digest"),
        (blob, short, "has 3 bytes instead of 6"),
        (blob, long, "has more than the 6 bytes"),
        (blob, gone, "is missing"),
        (manifest, other, "has digest"),
    ];
    for (object, damage, expected) in cases {
        let world = World::new();
        let record = world.make(&FILES, false);
        world.push(&record);
        damage(&world.shared(&object(&record)));
        let error = world.pull(&record).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RemoteError::Damaged { .. }), "{text}");
        assert!(text.contains(&object(&record)) && text.contains(expected), "{text}");
        world.assert_theirs_is_empty();
        // Pushed again in full, it is whole again.
        let again = PushOptions { again: true, ..PushOptions::default() };
        world.remote.push(&world.ours, &record.artifact_ref(), again, &mut |_, _| true).unwrap();
        world.pull(&record).unwrap();
        world.assert_theirs_is(&record);
    }
}

#[test]
fn what_could_not_be_fetched_is_made_anew() {
    let world = World::new();
    let record = world.make(&FILES, false);
    world.push(&record);
    overwrite(&world.shared(&blob_path(Digest::of(b"tokens"))), b"tokenz");
    let reading = world.theirs.clone().with_mirror(std::sync::Arc::new(
        Remote::open(world.dir.path().join("shared").to_str().unwrap(), &[]).unwrap(),
    ));
    assert_eq!(reading.lookup("tokenize", record.key).unwrap(), Lookup::Remote(record.clone()));
    let error = reading.fetch(&record, &mut |_, _| true).unwrap_err();
    assert!(matches!(&error, FetchError::Failed { why, .. } if why.contains("blobs/")), "{error}");
    assert_eq!(reading.lookup("tokenize", record.key).unwrap(), Lookup::Never);
    // A damaged record counts as none.
    overwrite(&world.shared(&record_path("tokenize", record.key)), b"{");
    let again = Remote::open(world.dir.path().join("shared").to_str().unwrap(), &[]).unwrap();
    assert_eq!(again.find("tokenize", record.key), None);
    assert!(matches!(again.lookup("tokenize", record.key), Err(RemoteError::Damaged { .. })));
}

#[test]
fn a_damaged_file_is_not_shared() {
    let world = World::new();
    let record = world.make(&FILES, false);
    overwrite(&world.ours.object_dir(&record.kind, record.artifact).join("a.parquet"), b"tokenz");
    let error = world
        .remote
        .push(&world.ours, &record.artifact_ref(), PushOptions::default(), &mut |_, _| true)
        .unwrap_err();
    assert!(
        matches!(&error, RemoteError::Store(StoreError::Damaged { path, .. }) if path.ends_with("a.parquet"))
    );
    assert!(world.remote.list().unwrap().is_empty());
    assert!(!world.shared(&blob_path(Digest::of(b"tokens"))).exists());
}

#[test]
fn a_file_that_has_grown_beyond_a_part_is_not_shared() {
    let world = World::new();
    let record = world.make(&FILES, false);
    let grown = vec![7; backend::PART + 10];
    overwrite(&world.ours.object_dir(&record.kind, record.artifact).join("a.parquet"), &grown);
    let error = world
        .remote
        .push(&world.ours, &record.artifact_ref(), PushOptions::default(), &mut |_, _| true)
        .unwrap_err();
    assert!(matches!(&error, RemoteError::Store(StoreError::Damaged { .. })), "{error}");
    assert!(world.remote.list().unwrap().is_empty());
    assert!(!world.shared(&blob_path(Digest::of(b"tokens"))).exists());
}

#[test]
fn what_a_killed_push_left_long_ago_is_cleared_away() {
    let world = World::new();
    let blob = world.shared(&blob_path(Digest::of(b"tokens")));
    fs_err::create_dir_all(blob.parent().unwrap()).unwrap();
    let left = |number: u32| Utf8PathBuf::from(format!("{blob}#{number}"));
    let day = std::time::Duration::from_secs(25 * 60 * 60);
    for (number, age) in [(1, day), (2, std::time::Duration::ZERO)] {
        let file = fs_err::File::create(left(number)).unwrap();
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
    }
    world.push(&world.make(&FILES, false));
    assert!(!left(1).exists(), "nobody writes it any more");
    assert!(left(2).exists(), "another push may be at it");
    assert!(blob.exists());
}

#[test]
fn a_record_cannot_take_the_mark_of_its_artifact_away() {
    let world = World::new();
    let record = world.make(&FILES, true);
    let options = PushOptions { allow_restricted: true, ..PushOptions::default() };
    world.remote.push(&world.ours, &record.artifact_ref(), options, &mut |_, _| true).unwrap();
    let freed = ActionRecord { restricted: false, ..record.clone() };
    overwrite(&world.shared(&record_path("tokenize", record.key)), &freed.to_bytes());
    let error = world.remote.lookup("tokenize", record.key).unwrap_err();
    assert!(error.to_string().contains("says restricted = false"), "{error}");
    let error =
        world.remote.pull(&world.theirs, &record.artifact_ref(), &[freed], &mut |_, _| true).unwrap_err();
    assert!(matches!(error, RemoteError::Damaged { .. }), "{error}");
    world.assert_theirs_is_empty();
}

#[test]
fn a_pull_that_waits_for_another_can_be_stopped() {
    let world = World::new();
    let record = world.make(&FILES, false);
    world.push(&record);
    let _held = world.theirs.lock_action("remote", record.artifact, &mut || {}).unwrap();
    let mut asked = 0;
    let error = world
        .remote
        .pull(&world.theirs, &record.artifact_ref(), &[], &mut |_, _| {
            asked += 1;
            asked < 3
        })
        .unwrap_err();
    assert!(matches!(error, RemoteError::Interrupted), "{error}");
}

#[test]
fn a_folder_is_only_made_to_push_to_and_only_in_one_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(dir.path()).unwrap();
    let (near, far) = (root.join("shared"), root.join("not/mounted"));
    assert!(matches!(Remote::open(near.as_str(), &[]), Err(RemoteError::NoFolder { .. })));
    assert!(matches!(Remote::open_or_make(far.as_str(), &[]), Err(RemoteError::Url { .. })));
    assert!(!near.exists() && !root.join("not").exists());
    assert!(Remote::open_or_make(near.as_str(), &[]).is_ok() && Remote::open(near.as_str(), &[]).is_ok());
}

#[test]
fn a_manifest_that_leads_elsewhere_is_refused() {
    let world = World::new();
    // The paths of a manifest are checked as they are read: this one's digest is right, its path is not.
    let bytes = ArtifactManifest::new("token-shards", 1, false, Default::default()).to_bytes();
    let text = String::from_utf8(bytes).unwrap().replace(
        "\"files\": {}",
        "\"files\": {\"../x\": {\"blake3\": \"6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85\", \"size\": 3}}",
    );
    let artifact = ArtifactRef::new("token-shards", Digest::of(text.as_bytes()));
    world.remote.backend.write(&manifest_path(&artifact), text.into_bytes()).unwrap();
    let error = world.remote.pull(&world.theirs, &artifact, &[], &mut |_, _| true).unwrap_err();
    assert!(error.to_string().contains("lists a file that"), "{error}");
    world.assert_theirs_is_empty();
}

#[test]
fn urls_that_cannot_be_used_are_refused_without_their_passwords() {
    for url in [
        "ftp://user:secret@host/x",
        "s3://",
        "memory:///x",
        "http://host/x",
        "az://user:secret@container/x",
        "https://account.blob.core.windows.net/container?sig=secret",
        "s3://bucket/x?key=secret",
    ] {
        let text = Remote::open(url, &[]).unwrap_err().to_string();
        assert!(text.contains("hint: expected such as s3://") && !text.contains("secret"), "{text}");
    }
}

#[test]
fn a_shared_store_that_cannot_be_reached_stops_nothing() {
    let options = [
        ("aws_endpoint", "http://127.0.0.1:1"),
        ("aws_allow_http", "true"),
        ("aws_access_key_id", "a"),
        ("aws_secret_access_key", "b"),
        ("aws_region", "us-east-1"),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let remote = Remote::open("s3://bucket/cache", &options).unwrap();
    assert_eq!(remote.find("tokenize", Digest::of(b"key")), None);
    assert!(remote.lost.load(Ordering::Relaxed), "it is not asked again");
    assert!(
        remote
            .lookup("tokenize", Digest::of(b"key"))
            .unwrap_err()
            .to_string()
            .contains("s3://bucket/cache/v1/")
    );
}

//! What lookup, verify and quarantine say about damage.

use super::*;
use crate::manifest::MANIFEST_FILE;

fn corrupt_detail(store: &Store) -> String {
    match store.lookup("preprocess", key("k")).unwrap() {
        Lookup::OutputCorrupt { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_changed_size_is_seen_by_lookup() {
    let store = TestStore::new();
    let record = publish(&store, key("k"), &FILES);
    let file = store.object_dir("notes", record.artifact).join("splits/dev.csv");
    tamper(&file, b"1\n2\n3\n");
    assert_eq!(corrupt_detail(&store), format!("{file} has 6 bytes instead of 4"));
    fs_err::remove_file(&file).unwrap();
    assert_eq!(corrupt_detail(&store), format!("{file} is missing"));
    fs_err::os::unix::fs::symlink("/dev/null", &file).unwrap();
    assert_eq!(corrupt_detail(&store), format!("{file} is not a regular file"));
}

#[test]
fn a_flipped_byte_is_seen_by_verify_only() {
    let store = TestStore::new();
    let good = publish_text(&store, "untouched");
    let record = publish(&store, key("k"), &FILES);
    let artifact = record.artifact_ref();
    tamper(&store.object_dir_of(&artifact).join("splits/dev.csv"), b"1\n3\n");
    assert!(matches!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Hit(_)));

    let mut progress = Vec::new();
    let report = store.verify(None, &mut |done, total| progress.push((done, total))).unwrap();
    let bytes = FILES.iter().map(|(_, content)| content.len() as u64).sum::<u64>() + 9;
    assert_eq!((report.checked, report.bytes), (2, bytes));
    assert_eq!(progress.first(), Some(&(0, bytes)));
    assert_eq!(progress.last(), Some(&(bytes, bytes)));
    assert_eq!(report.problems.len(), 1);
    assert_eq!(
        (&report.problems[0].artifact, report.problems[0].file.as_str()),
        (&artifact, "splits/dev.csv")
    );
    let expected = format!("has digest {} instead of {}", key("1\n3\n"), key("1\n2\n"));
    assert_eq!(report.problems[0].what, expected);

    assert_eq!(store.verify(Some(&good), &mut |_, _| {}).unwrap().problems, []);
    assert_eq!(store.verify(Some(&artifact), &mut |_, _| {}).unwrap().problems, report.problems);
}

#[test]
fn a_damaged_manifest_is_seen_by_both() {
    let store = TestStore::new();
    let record = publish(&store, key("k"), &FILES);
    let path = store.object_dir("notes", record.artifact).join(MANIFEST_FILE);
    let text = fs_err::read_to_string(&path).unwrap();
    tamper(&path, text.replace("\"schema\": 1", "\"schema\": 2").as_bytes());
    assert!(corrupt_detail(&store).contains("not that of its folder"));
    let report = store.verify(None, &mut |_, _| {}).unwrap();
    assert_eq!((report.problems.len(), report.problems[0].file.as_str()), (1, MANIFEST_FILE));
    assert!(matches!(store.manifest("notes", record.artifact), Err(StoreError::Damaged { .. })));
    assert_eq!(store.list().unwrap(), []);
    fs_err::remove_file(&path).unwrap();
    assert!(corrupt_detail(&store).contains("artifact.json is missing"));
}

#[test]
fn quarantine_turns_damage_into_a_miss() {
    let store = TestStore::new();
    let record = publish(&store, key("k"), &FILES);
    let place = store.quarantine(&record.artifact_ref()).unwrap();
    assert!(place.join("labels.json").exists());
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::OutputMissing(record.clone()));
    assert_eq!(store.action("preprocess", key("k")).unwrap(), Some(record.clone()));
    assert!(matches!(store.quarantine(&record.artifact_ref()), Err(StoreError::Missing { .. })));
    assert!(matches!(
        store.verify(Some(&record.artifact_ref()), &mut |_, _| {}),
        Err(StoreError::Missing { .. })
    ));
}

#[test]
fn damaged_records_count_as_never_and_foreign_ones_as_of_another_format() {
    let store = TestStore::new();
    publish(&store, key("k"), &FILES);
    publish(&store, key("other"), &FILES);
    let path = store.record_path("preprocess", key("k"));
    let text = fs_err::read_to_string(&path).unwrap();
    for damage in ["", "{", "null", &text[..text.len() - 10]] {
        fs_err::write(&path, damage).unwrap();
        assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Never, "{damage}");
        assert_eq!(store.action("preprocess", key("k")).unwrap(), None);
        assert_eq!(store.actions_of_stage("preprocess").unwrap().len(), 1);
    }
    // Another key's record under this key's name.
    fs_err::copy(store.record_path("preprocess", key("other")), &path).unwrap();
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Never);
    fs_err::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::BadFormat { found: 2 });
    assert_eq!(store.lookup("preprocess", key("unknown")).unwrap(), Lookup::Never);
}

#[test]
fn verify_reports_pins_of_missing_artifacts() {
    let store = TestStore::new();
    let artifact = publish_text(&store, "x");
    store.pin("best", "notes", artifact.digest).unwrap();
    store.quarantine(&artifact).unwrap();
    let report = store.verify(None, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].what, "is pinned as `best` but missing");
}

#[test]
fn what_is_missing_or_of_another_format_is_a_problem_but_not_damaged() {
    let store = TestStore::new();
    let (pinned, damaged) = (publish_text(&store, "x"), publish_text(&store, "y"));
    store.pin("best", "notes", pinned.digest).unwrap();
    store.quarantine(&pinned).unwrap();
    let manifest = store.object_dir_of(&damaged).join(MANIFEST_FILE);
    let newer = fs_err::read_to_string(&manifest).unwrap().replace("\"format\": 1", "\"format\": 2");
    let folder = store.object_dir("notes", key(&newer));
    fs_err::create_dir_all(&folder).unwrap();
    fs_err::write(folder.join(MANIFEST_FILE), &newer).unwrap();
    tamper(&manifest, b"{}");

    let report = store.verify(None, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems.len(), 3);
    assert!(report.problems.iter().any(|problem| problem.what == "has format 2, of another version"));
    assert_eq!(report.damaged().into_iter().collect::<Vec<_>>(), [&damaged]);
}

//! What is collected and what stays.

use super::child::{spawn, wait_until_ready};
use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn in_days(days: u32) -> SystemTime {
    SystemTime::now() + DAY * days
}

#[test]
fn roots_stay_and_the_rest_goes() {
    let store = TestStore::new();
    let [kept, pinned, leased, garbage, more] =
        ["kept", "pinned", "leased", "garbage", "more garbage"].map(|text| publish_text(&store, text));
    store.pin("p", "notes", pinned.digest).unwrap();
    let lease = store.lease(&lease_of(&leased)).unwrap();
    let options = GcOptions { keep: vec![kept.clone()], ..collect_everything() };

    let dry = store.gc(&GcOptions { dry_run: true, ..options.clone() }).unwrap();
    assert_eq!(store.list().unwrap().len(), 5, "a dry run must not remove anything");
    assert_eq!((dry.removed["notes"].count, dry.kept.count), (2, 3));
    assert!(dry.removed["notes"].bytes > "garbagemore garbage".len() as u64);

    let report = store.gc(&options).unwrap();
    assert_eq!(report, GcReport { dry_run: false, ..dry });
    for (artifact, stays) in
        [(&kept, true), (&pinned, true), (&leased, true), (&garbage, false), (&more, false)]
    {
        assert_eq!(store.object_dir_of(artifact).exists(), stays, "{artifact}");
    }
    store.assert_sound();

    drop(lease);
    store.unpin("p").unwrap();
    assert_eq!(store.gc(&options).unwrap().removed["notes"].count, 2);
    assert_eq!(store.list().unwrap().len(), 1);
    store.assert_tidy();
}

#[test]
fn the_grace_period_counts_from_publishing() {
    let store = TestStore::new();
    publish_text(&store, "x");
    let options = GcOptions { grace: DAY * 7, ..collect_everything() };
    assert_eq!(store.gc(&GcOptions { now: in_days(6), ..options.clone() }).unwrap().kept.count, 1);
    // A clock that runs behind the file system's removes nothing.
    let past = SystemTime::now() - DAY;
    assert_eq!(
        store.gc(&GcOptions { now: past, grace: Duration::ZERO, ..options.clone() }).unwrap().kept.count,
        1
    );
    assert_eq!(store.gc(&GcOptions { now: in_days(8), ..options }).unwrap().kept.count, 0);
}

#[test]
fn a_lease_of_another_process_holds_until_it_dies() {
    let store = TestStore::new();
    let artifact = publish_text(&store, "x");
    let mut child = spawn("lease", &store);
    wait_until_ready(&mut child);
    assert_eq!(store.gc(&collect_everything()).unwrap().kept.count, 1);
    let error = store.remove(&artifact).unwrap_err();
    assert!(error.to_string().contains(&format!("in use by process {}", child.id())), "{error}");

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(store.names("leases").len(), 1);
    assert_eq!(store.gc(&collect_everything()).unwrap().removed["notes"].count, 1);
    store.assert_tidy();
}

#[test]
fn a_lease_is_all_or_nothing() {
    let store = TestStore::new();
    let artifact = publish_text(&store, "x");
    let absent = ("notes".to_owned(), key("absent"));
    let error = store.lease(&[lease_of(&artifact)[0].clone(), absent]).unwrap_err();
    assert!(
        matches!(&error, StoreError::Missing { artifact } if artifact.digest == key("absent")),
        "{error}"
    );
    assert_eq!(store.names("leases"), Vec::<String>::new());
    assert!(store.remove(&artifact).is_ok());
}

#[test]
fn nothing_goes_while_a_live_lease_cannot_be_read() {
    let store = TestStore::new();
    publish_text(&store, "x");
    let _lease = store.lease(&[]).unwrap();
    let file = store.root().join("leases").join(&store.names("leases")[0]);
    for (content, expected) in
        [("{", "cannot be read"), (r#"{"format":2,"process":1,"artifacts":[]}"#, "format 2")]
    {
        fs_err::write(&file, content).unwrap();
        let error = store.gc(&collect_everything()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(store.list().unwrap().len(), 1);
    }
}

#[test]
fn records_of_collected_artifacts_say_so_and_go_after_half_a_year() {
    let store = TestStore::new();
    let record = publish(&store, key("k"), &FILES);
    let report = store.gc(&GcOptions { now: in_days(10), ..collect_everything() }).unwrap();
    assert_eq!((report.removed["notes"].count, report.records), (1, 0));
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::OutputMissing(record.clone()));

    publish_text(&store, "still here");
    let options = GcOptions { grace: DAY * 1000, now: in_days(181), ..collect_everything() };
    assert_eq!(store.gc(&GcOptions { now: in_days(179), ..options.clone() }).unwrap().records, 0);
    assert_eq!(store.gc(&GcOptions { dry_run: true, ..options.clone() }).unwrap().records, 1);
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::OutputMissing(record));
    assert_eq!(store.gc(&options).unwrap().records, 1);
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Never);
    assert!(matches!(store.lookup("preprocess", key("still here")).unwrap(), Lookup::Hit(_)));
}

#[test]
fn old_scratch_goes_unless_its_action_runs() {
    let store = TestStore::new();
    for name in ["running", "interrupted"] {
        let dir = store.work_dir("finetune", key(name)).unwrap();
        fs_err::write(dir.join("checkpoint"), b"12345").unwrap();
    }
    let lock = store.lock_action("finetune", key("running"), &mut || {}).unwrap();
    let options = GcOptions { grace: DAY * 7, now: in_days(6), ..collect_everything() };
    assert_eq!(store.gc(&options).unwrap().work, Tally::default());
    let later = GcOptions { now: in_days(8), ..options };
    assert_eq!(store.gc(&GcOptions { dry_run: true, ..later.clone() }).unwrap().work.count, 1);
    let report = store.gc(&later).unwrap();
    assert_eq!(report.work, Tally { count: 1, bytes: 5 });
    assert!(store.work_path("finetune", key("running")).exists());
    assert!(!store.work_path("finetune", key("interrupted")).exists());
    drop(lock);
    assert_eq!(store.gc(&later).unwrap().work.count, 1);
    store.assert_tidy();
}

#[test]
fn scratch_is_as_young_as_its_newest_file() {
    let store = TestStore::new();
    let dir = store.work_dir("finetune", key("k")).unwrap();
    let old = SystemTime::now() - DAY * 30;
    fs_err::create_dir(dir.join("deep")).unwrap();
    fs_err::write(dir.join("deep/checkpoint"), b"1").unwrap();
    for path in [dir.join("deep"), dir.clone()] {
        fs_err::File::open(path).unwrap().set_modified(old).unwrap();
    }
    let options = GcOptions { grace: DAY * 7, ..collect_everything() };
    assert_eq!(store.gc(&options).unwrap().work.count, 0);
    fs_err::File::open(dir.join("deep/checkpoint")).unwrap().set_modified(old).unwrap();
    assert_eq!(store.gc(&options).unwrap().work.count, 1);
}

#[test]
fn quarantine_is_kept_for_the_grace_period() {
    let store = TestStore::new();
    let artifact = publish_text(&store, "x");
    let long_ago = SystemTime::now() - DAY * 100;
    fs_err::File::open(store.object_dir_of(&artifact)).unwrap().set_modified(long_ago).unwrap();
    let place = store.quarantine(&artifact).unwrap();
    let options = GcOptions { grace: DAY * 7, ..collect_everything() };
    assert_eq!(store.gc(&GcOptions { now: in_days(6), ..options.clone() }).unwrap().temporary.count, 0);
    assert!(place.exists());
    assert_eq!(store.gc(&GcOptions { now: in_days(8), ..options }).unwrap().temporary.count, 1);
    store.assert_tidy();
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let store = TestStore::new();
    let stranger = store.root().join("tmp/notes.txt");
    fs_err::write(&stranger, b"mine").unwrap();
    fs_err::create_dir_all(store.root().join("objects/notes/not-a-digest")).unwrap();
    fs_err::create_dir_all(store.root().join("work/finetune/mine")).unwrap();
    store.gc(&GcOptions { now: in_days(400), ..collect_everything() }).unwrap();
    assert!(stranger.exists());
    assert!(store.root().join("objects/notes/not-a-digest").exists());
    assert!(store.root().join("work/finetune/mine").exists());
}

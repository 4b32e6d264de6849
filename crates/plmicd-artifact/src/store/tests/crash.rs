//! Killing publishers: at each step of the protocol, and at any time.

use std::os::unix::process::ExitStatusExt;

use super::super::publish::PublishStep;
use super::child::{STEPS, spawn, wait_until_ready};
use super::*;

/// Lets a process die at a step of publishing `FILES` under key `k`.
fn die_at(store: &Store, step: PublishStep) {
    let output = spawn(&format!("{step:?}"), store).wait_with_output().unwrap();
    assert!(output.status.signal().is_some(), "{step:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_kill_at_any_step_leaves_a_valid_store_and_the_same_action_then_succeeds() {
    for step in STEPS {
        let store = TestStore::new();
        if step == PublishStep::DamagedMovedAway {
            let record = publish(&store, key("other"), &FILES);
            tamper(&store.object_dir("notes", record.artifact).join("labels.json"), b"[]");
        }
        die_at(&store, step);

        // As left by the kill: nothing half-made is visible, and the record never comes before the object.
        let reopened = Store::open(store.root()).unwrap();
        store.assert_sound();
        let visible = reopened.objects().unwrap().len();
        assert_eq!(visible, usize::from(step >= PublishStep::ObjectVisible), "{step:?}");
        match reopened.lookup("preprocess", key("k")).unwrap() {
            Lookup::Hit(_) => assert_eq!(step, PublishStep::RecordVisible),
            Lookup::Never => assert!(step < PublishStep::RecordVisible, "{step:?}"),
            other => panic!("{step:?}: {other:?}"),
        }

        // The same action again.
        let record = publish(&store, key("k"), &FILES);
        assert_eq!(reopened.lookup("preprocess", key("k")).unwrap(), Lookup::Hit(record.clone()));
        store.assert_sound();

        // What the dead process left goes with the next collection.
        let keep = vec![record.artifact_ref()];
        let report = store.gc(&GcOptions { keep, ..collect_everything() }).unwrap();
        assert_eq!(report.removed.len(), 0, "{step:?}");
        store.assert_tidy();
        store.assert_sound();
    }
}

#[test]
fn a_kill_at_any_time_leaves_a_valid_store() {
    let store = TestStore::new();
    for round in 0..12 {
        let mut child = spawn("publish-endlessly", &store);
        std::thread::sleep(Duration::from_millis(20 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        store.assert_sound();
        for record in store.actions_of_stage("preprocess").unwrap() {
            assert_eq!(store.lookup("preprocess", record.key).unwrap(), Lookup::Hit(record));
        }
    }
    assert!(!store.list().unwrap().is_empty(), "the publishers were killed before they published anything");
    let kept =
        store.gc(&GcOptions { grace: Duration::from_secs(3600), ..collect_everything() }).unwrap().kept;
    assert_eq!(kept.count as usize, store.list().unwrap().len());
    // Quarantine would mean that a publisher found an object of a killed one damaged.
    store.assert_tidy();
}

#[test]
fn only_what_dead_processes_left_is_swept() {
    let store = TestStore::new();
    publish_text(&store, "x");
    let mut children: Vec<_> = ["stage", "write", "lock", "lease"].map(|role| spawn(role, &store)).into();
    children.iter_mut().for_each(wait_until_ready);
    let passing = || ["tmp", "locks", "leases"].map(|folder| store.names(folder));
    let before = passing();
    assert_eq!(before.each_ref().map(Vec::len), [3, 1, 1], "{before:?}");

    let report = store.gc(&collect_everything()).unwrap();
    assert_eq!(passing(), before);
    assert_eq!((report.temporary.count, report.locks, report.removed.len()), (0, 0, 0));

    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let dry = store.gc(&GcOptions { dry_run: true, ..collect_everything() }).unwrap();
    assert_eq!(passing(), before);
    let report = store.gc(&collect_everything()).unwrap();
    assert_eq!(report, GcReport { dry_run: false, ..dry });
    assert_eq!((report.temporary.count, report.locks), (2, 2));
    assert_eq!(report.removed["notes"].count, 1);
    store.assert_tidy();
}

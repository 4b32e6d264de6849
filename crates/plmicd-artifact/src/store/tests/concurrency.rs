//! Several publishers, waiters and collectors at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::child::{FOUND_IT_DONE, RAN, spawn, wait_until_ready};
use super::*;

#[test]
fn threads_that_publish_the_same_content_share_one_object() {
    let store = TestStore::new();
    let records: Vec<ActionRecord> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| publish(&store, key("k"), &FILES))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(records.iter().all(|record| *record == records[0]));
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Hit(records[0].clone()));
    store.assert_tidy();
    store.assert_sound();
}

#[test]
fn threads_that_publish_different_content_under_one_key_leave_one_of_them() {
    let store = TestStore::new();
    thread::scope(|scope| {
        for content in ["a", "b", "c", "d"] {
            let store = &store;
            scope.spawn(move || publish(store, key("k"), &[("text", content)]));
        }
    });
    assert_eq!(store.list().unwrap().len(), 4);
    assert!(matches!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Hit(_)));
    store.assert_tidy();
    store.assert_sound();
}

#[test]
fn processes_that_publish_the_same_content_share_one_object() {
    let store = TestStore::new();
    let children: Vec<_> = (0..4).map(|_| spawn("publish-race", &store)).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(RAN), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(store.actions_of_stage("preprocess").unwrap().len(), 20);
    store.assert_tidy();
    store.assert_sound();
}

#[test]
fn the_action_lock_lets_one_process_work_and_the_others_find_it_done() {
    let store = TestStore::new();
    let held = store.lock_action("preprocess", key("k"), &mut || {}).unwrap();
    let children: Vec<_> = (0..4).map(|_| spawn("act", &store)).collect();
    thread::sleep(Duration::from_millis(50));
    drop(held);
    let mut codes: Vec<_> =
        children.into_iter().map(|child| child.wait_with_output().unwrap().status.code().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [RAN, FOUND_IT_DONE, FOUND_IT_DONE, FOUND_IT_DONE]);
    store.assert_tidy();
}

#[test]
fn a_waiter_is_told_once_and_goes_on_when_the_holder_dies() {
    let store = TestStore::new();
    let mut child = spawn("lock", &store);
    wait_until_ready(&mut child);
    let mut waits = 0;
    let given_up = store.lock_action_until("preprocess", key("k"), &mut || waits += 1, &|| true).unwrap();
    assert!(given_up.is_none() && waits == 1);
    assert!(store.try_lock_action("preprocess", key("k")).unwrap().is_none());
    assert!(store.try_lock_action("preprocess", key("another")).unwrap().is_some());
    let mut told = 0;
    let lock = store.lock_action("preprocess", key("k"), &mut || {
        told += 1;
        child.kill().unwrap();
    });
    assert!(lock.is_ok());
    assert_eq!(told, 1);
    child.wait().unwrap();
    drop(lock);
    store.assert_tidy();
}

#[test]
fn a_lock_excludes_even_though_its_file_comes_and_goes() {
    let store = TestStore::new();
    let (inside, entered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let _lock = store.lock_action("preprocess", key("k"), &mut || {}).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    entered.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                }
            });
        }
    });
    assert_eq!(entered.into_inner(), 400);
    store.assert_tidy();
}

/// The most hostile collector there is: everything unleased goes at once, again and again.
#[test]
fn what_is_leased_stays_whole_beside_publishers_and_collectors() {
    let store = TestStore::new();
    let (done, leased, collected) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let collectors: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        let report = store.gc(&collect_everything()).unwrap();
                        let count: u64 = report.removed.values().map(|tally| tally.count).sum();
                        collected.fetch_add(count as usize, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let users: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..60 {
                        let artifact = publish_text(&store, &format!("content {}", round % 4));
                        match store.lease(&lease_of(&artifact)) {
                            Ok(_lease) => {
                                leased.fetch_add(1, Ordering::SeqCst);
                                let report = store.verify(Some(&artifact), &mut |_, _| {}).unwrap();
                                assert_eq!(report.problems, []);
                                thread::sleep(Duration::from_micros(200));
                                assert!(store.manifest("notes", artifact.digest).is_ok());
                            }
                            Err(StoreError::Missing { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        let users: Vec<_> = users.into_iter().map(|user| user.join()).collect();
        done.store(true, Ordering::SeqCst);
        collectors.into_iter().for_each(|collector| collector.join().unwrap());
        users.into_iter().for_each(|user| user.unwrap());
    });
    assert!(leased.into_inner() > 0 && collected.into_inner() > 0);
    store.assert_sound();
    store.gc(&collect_everything()).unwrap();
    assert_eq!(store.list().unwrap(), []);
    store.assert_tidy();
}

/// The one dangerous moment: a collector has looked for leases and not yet moved the object away.
#[test]
fn a_lease_pin_or_publisher_waits_for_a_collector_at_work_on_its_object() {
    type Use = fn(&Store, &ArtifactRef) -> Result<(), StoreError>;
    let uses: [(Use, bool); 3] = [
        (|store, artifact| store.lease(&lease_of(artifact)).map(drop), false),
        (|store, artifact| store.pin("p", "notes", artifact.digest), false),
        (|store, _| publish_text_result(store, "x").map(drop), true),
    ];
    for (use_it, can_succeed) in uses {
        let store = TestStore::new();
        let artifact = publish_text(&store, "x");
        let collector = store.lock_object(&artifact).unwrap();
        thread::scope(|scope| {
            let user = scope.spawn(|| use_it(&store, &artifact));
            thread::sleep(Duration::from_millis(50));
            assert!(!user.is_finished());
            store.move_to_trash(&artifact).unwrap().unwrap();
            drop(collector);
            match user.join().unwrap() {
                Ok(()) => assert!(can_succeed),
                Err(StoreError::Missing { .. }) => assert!(!can_succeed),
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(store.objects().unwrap().len(), usize::from(can_succeed));
        assert_eq!(store.pins().unwrap(), []);
    }
}

#[test]
fn an_object_that_somebody_is_just_publishing_or_leasing_is_not_collected() {
    let store = TestStore::new();
    let artifact = publish_text(&store, "x");
    let held = store.lock_object(&artifact).unwrap();
    assert_eq!(store.gc(&collect_everything()).unwrap().kept.count, 1);
    drop(held);
    assert_eq!(store.gc(&collect_everything()).unwrap().kept.count, 0);
}

//! Listing, prefixes, pins, links for people.

use super::*;

#[test]
fn listings_tell_kind_size_files_and_restriction() {
    let store = TestStore::new();
    let notes = publish(&store, key("k"), &FILES);
    let staging = store.staging().unwrap();
    fill(&staging, &[("model.safetensors", "weights")]);
    let model = PendingAction {
        stage: "finetune".to_owned(),
        kind: "model".to_owned(),
        restricted: true,
        ..pending(key("k"))
    };
    let model = store.publish(staging, model).unwrap();
    assert!(model.restricted);

    let listed = store.list().unwrap();
    let facts: Vec<_> = listed
        .iter()
        .map(|summary| {
            (summary.kind.as_str(), summary.digest, summary.size, summary.files, summary.restricted)
        })
        .collect();
    let notes_size = FILES.iter().map(|(_, content)| content.len() as u64).sum();
    let expected = [("model", model.artifact, 7, 1, true), ("notes", notes.artifact, notes_size, 3, false)];
    assert_eq!(facts, expected);
    let age = SystemTime::now().duration_since(listed[0].modified).unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
}

/// Two artifacts whose digests share the first six characters, and one that does not.
fn colliding(store: &Store) -> (Digest, Digest) {
    // Objects are found by the names of their folders, so names that collide are all it takes.
    let text = key("x").to_string();
    let last = if text.ends_with('0') { '1' } else { '0' };
    let sibling: Digest = format!("{}{last}", &text[..63]).parse().unwrap();
    for digest in [key("x"), sibling] {
        fs_err::create_dir_all(store.object_dir("notes", digest)).unwrap();
    }
    (key("x").min(sibling), key("x").max(sibling))
}

#[test]
fn prefixes_resolve_when_unique() {
    let store = TestStore::new();
    let artifact = publish_text(&store, "x");
    let text = artifact.digest.to_string();
    for prefix in
        [&text[..6], &text[..12], &text, &text[..20].to_uppercase(), &format!("notes/{}", &text[..8])]
    {
        assert_eq!(store.resolve(prefix).unwrap(), artifact, "{prefix}");
    }
    assert!(matches!(store.resolve(&text[..5]), Err(StoreError::TooShort { .. })));
    assert!(matches!(store.resolve(""), Err(StoreError::TooShort { .. })));
    let other = if text.starts_with('0') { "111111" } else { "000000" };
    for absent in
        [other, "best", "model/000000", "../../etc", &format!("model/{}", &text[..8]), &format!("{text}0")]
    {
        assert!(matches!(store.resolve(absent), Err(StoreError::NotFound { .. })), "{absent}");
    }
}

#[test]
fn ambiguous_prefixes_list_all_candidates() {
    let store = TestStore::new();
    let (first, second) = colliding(&store);
    let prefix = &first.to_string()[..6];
    match store.resolve(prefix).unwrap_err() {
        error @ StoreError::Ambiguous { .. } => {
            let text = error.to_string();
            assert!(text.contains(&format!("\n  notes/{first}\n  notes/{second}")), "{text}");
        }
        error => panic!("{error}"),
    }
    assert_eq!(store.resolve(&second.to_string()).unwrap().digest, second);
}

#[test]
fn pins_name_artifacts_and_keep_them() {
    let store = TestStore::new();
    let (a, b) = (publish_text(&store, "a"), publish_text(&store, "b"));
    store.pin("best", "notes", a.digest).unwrap();
    store.pin("paper-1.0", "notes", a.digest).unwrap();
    assert_eq!(store.resolve("best").unwrap(), a);
    store.pin("best", "notes", b.digest).unwrap();
    let pins: Vec<_> = store.pins().unwrap().into_iter().map(|pin| (pin.name, pin.artifact)).collect();
    assert_eq!(pins, [("best".to_owned(), b.clone()), ("paper-1.0".to_owned(), a.clone())]);

    let error = store.remove(&a).unwrap_err();
    assert!(error.to_string().contains("pinned as `paper-1.0`"), "{error}");
    assert!(store.unpin("paper-1.0").unwrap());
    assert!(!store.unpin("paper-1.0").unwrap());
    assert!(store.remove(&a).unwrap() > 0);
    assert!(matches!(store.remove(&a), Err(StoreError::Missing { .. })));
    assert_eq!(store.resolve("best").unwrap(), b);
    store.assert_tidy();
}

#[test]
fn bad_pins_are_refused() {
    let store = TestStore::new();
    let artifact = publish_text(&store, "x");
    for name in ["../store", "", "a/b", ".hidden", "abcdef123"] {
        let error = store.pin(name, "notes", artifact.digest).unwrap_err();
        assert!(matches!(error, StoreError::BadName { .. }), "{name}: {error}");
        assert!(matches!(store.unpin(name), Err(StoreError::BadName { .. })), "{name}");
    }
    assert!(matches!(store.pin("absent", "notes", key("?")), Err(StoreError::Missing { .. })));
    assert_eq!(store.pins().unwrap(), []);
    fs_err::write(store.root().join("pins/bad.json"), b"{").unwrap();
    let error = store.pins().unwrap_err().to_string();
    assert!(error.contains("pins/bad.json") && error.contains("unpin"), "{error}");
}

#[test]
fn latest_points_at_the_newest() {
    let store = TestStore::new();
    let (a, b) = (publish_text(&store, "a"), publish_text(&store, "b"));
    let link = store.root().join("latest/demo/preprocess[seed=1]");
    for artifact in [&a, &b] {
        store.set_latest("demo", "preprocess[seed=1]", "notes", artifact.digest).unwrap();
        let target = fs_err::canonicalize(&link).unwrap();
        assert_eq!(target, fs_err::canonicalize(store.object_dir_of(artifact)).unwrap());
    }
    assert!(fs_err::read_link(&link).unwrap().is_relative());
    for (pipeline, node) in [("..", "x"), ("demo", "../x"), ("demo", "")] {
        let error = store.set_latest(pipeline, node, "notes", a.digest).unwrap_err();
        assert!(matches!(error, StoreError::BadName { .. }), "{error}");
    }
    store.remove(&b).unwrap();
    store.gc(&collect_everything()).unwrap();
    assert!(fs_err::symlink_metadata(&link).is_err(), "a link to nowhere should go");
    store.assert_tidy();
}

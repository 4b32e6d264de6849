//! Opening folders that are stores, may become stores, or are something else.

use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::child;
use super::*;

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = utf8(dir.path());
    (dir, path)
}

#[test]
fn an_absent_or_empty_folder_becomes_a_store() {
    let (_guard, dir) = folder();
    let root = dir.join("deep/store");
    let store = Store::open(&root).unwrap();
    assert_eq!(fs_err::read_to_string(root.join("store.json")).unwrap(), "{\n  \"format\": 1\n}\n");
    for name in
        ["", "objects", "actions", "work", "tmp", "locks", "leases", "pins", "sources", "runs", "latest"]
    {
        assert_eq!(mode(&root.join(name)), 0o700, "{name}");
    }
    assert_eq!(store.runs_dir(), root.join("runs"));
    assert_eq!(Store::open(&root).unwrap().root(), store.root());

    // A checkout's folder: explained, ignored by git, readable by all.
    let checkout = dir.join("artifacts");
    fs_err::create_dir(&checkout).unwrap();
    fs_err::write(checkout.join("README.md"), b"# Artifacts").unwrap();
    fsops::set_mode(&checkout, 0o755).unwrap();
    Store::open(&checkout).unwrap();
    assert_eq!(mode(&checkout), 0o700);
    assert!(checkout.join("README.md").exists());
}

#[test]
fn a_folder_with_other_things_is_refused_and_left_alone() {
    let (_guard, dir) = folder();
    fs_err::write(dir.join("thesis.tex"), b"...").unwrap();
    let error = Store::open(&dir).unwrap_err();
    assert!(matches!(&error, StoreError::NotAStore { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(fsops::entries(&dir).unwrap().len(), 1);

    let file = dir.join("thesis.tex");
    let error = Store::open(&file).unwrap_err();
    assert!(matches!(&error, StoreError::NotAFolder { root } if *root == file), "{error}");
    assert!(error.to_string().contains("is a file, not a folder"), "{error}");
}

#[test]
fn what_is_only_looked_into_is_neither_made_nor_written_to() {
    let (_guard, dir) = folder();
    let absent = dir.join("absent");
    assert!(matches!(Store::open_to_read(&absent), Err(StoreError::NoStore { .. })));
    assert!(matches!(Store::open_to_read(&dir), Err(StoreError::NoStore { .. })));
    assert!(fsops::entries(&dir).unwrap().is_empty());
    let root = dir.join("store");
    Store::open(&root).unwrap();
    fs_err::remove_dir(root.join("tmp")).unwrap();
    let store = Store::open_to_read(&root).unwrap();
    assert_eq!((store.pins().unwrap(), store.list().unwrap().len()), (vec![], 0));
    assert!(!root.join("tmp").exists());
}

#[test]
fn a_store_of_another_format_is_refused() {
    let (_guard, dir) = folder();
    fs_err::write(dir.join("store.json"), b"{\"format\": 2}").unwrap();
    let error = Store::open(&dir).unwrap_err();
    assert!(matches!(error, StoreError::UnknownFormat { found: 2, supported: 1, .. }), "{error}");
    fs_err::write(dir.join("store.json"), b"{\"fromat\": 1}").unwrap();
    assert!(matches!(Store::open(&dir), Err(StoreError::Damaged { .. })));
    assert_eq!(fsops::entries(&dir).unwrap().len(), 1);
}

#[test]
fn a_store_whose_creation_was_cut_short_opens() {
    let (_guard, dir) = folder();
    fs_err::write(dir.join(".store.json.1-0-ab"), b"{\"for").unwrap();
    Store::open(&dir).unwrap();
    fs_err::remove_dir(dir.join("pins")).unwrap();
    let store = Store::open(&dir).unwrap();
    assert_eq!(store.pins().unwrap(), []);
}

#[test]
fn many_processes_may_create_it_at_once() {
    let (_guard, dir) = folder();
    let root = dir.join("store");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| Store::open(&root).unwrap());
        }
    });
    let store = Store::open(&root).unwrap();
    assert_eq!(fsops::entries(&root).unwrap().len(), 11);
    publish_text(&store, "x");
}

/// A user without the right to write, as which this test binary is run again where the tests run as root.
const NOBODY: u32 = 65534;

#[test]
fn a_store_that_cannot_be_written_to_is_refused_with_advice() {
    let (_guard, dir) = folder();
    let root = dir.join("store");
    Store::open(&root).unwrap();
    let exe = dir.join("test-binary");
    fs_err::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    fsops::set_mode(&exe, 0o755).unwrap();
    fsops::set_mode(&dir, 0o755).unwrap();
    // A test beside this one that starts a process hands it the copy, open for writing, until that process is its own.
    let open_as_other = |command: &mut Command| loop {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output.unwrap(),
        }
    };
    let mut command = child::command(exe.as_std_path(), "open", &root);
    if chown(&root, Some(NOBODY), None).is_ok() {
        for name in fsops::entries(&root).unwrap().into_keys() {
            chown(root.join(name), Some(NOBODY), None).unwrap();
        }
        command.uid(NOBODY);
    }
    let output = open_as_other(&mut command);
    assert_eq!(output.status.code(), Some(child::RAN), "{}", String::from_utf8_lossy(&output.stderr));

    fsops::set_mode(&root.join("tmp"), 0o500).unwrap();
    let output = open_as_other(&mut command);
    fsops::set_mode(&root.join("tmp"), 0o700).unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!("opening the artifact store {root}")), "{text}");
    assert!(text.contains("hint: check the owner and the permissions"), "{text}");
}

/// A small file system of its own, unmounted when dropped.
struct Mount(Utf8PathBuf);

impl Mount {
    /// `None` where the tests may not mount.
    fn new(dir: &Utf8Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", dir.as_str()]).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(dir.to_owned()))
    }

    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro", self.0.as_str()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").args(["-l", self.0.as_str()]).status();
        assert!(status.unwrap().success());
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn a_full_disk_and_a_read_only_one_are_told_apart_and_leave_nothing_half_done() {
    let (_guard, dir) = folder();
    let Some(mount) = Mount::new(&dir) else {
        eprintln!("skipped: mounting a small file system needs more rights");
        return;
    };
    let store = Store::open(&dir).unwrap();
    let intact = publish(&store, key("small"), &FILES);

    // The output fits, its record does not.
    let staging = store.staging().unwrap();
    fs_err::write(staging.path().join("half"), vec![0; 600 << 10]).unwrap();
    let mut huge = pending(key("huge"));
    huge.fingerprint = json!("x".repeat(600 << 10));
    let error = store.publish(staging, huge).unwrap_err().to_string();
    assert!(error.contains("No space left") && error.contains("hint: the disk is full"), "{error}");
    assert!(error.contains(dir.as_str()), "{error}");
    assert_eq!(store.lookup("preprocess", key("huge")).unwrap(), Lookup::Never);
    assert_eq!(fsops::entries(&dir.join("tmp")).unwrap().len(), 0);
    assert_eq!(store.verify(None, &mut |_, _| {}).unwrap().problems, []);

    mount.make_read_only();
    let error = Store::open(&dir).unwrap_err().to_string();
    assert!(error.contains("hint: the file system is read-only"), "{error}");
    // One that was opened before can still be read.
    assert_eq!(store.lookup("preprocess", key("small")).unwrap(), Lookup::Hit(intact));
    drop(mount);
}

/// `/proc` admits no new entries, whoever asks.
#[test]
fn a_root_that_cannot_be_created_is_named() {
    let error = Store::open(Utf8Path::new("/proc/plmicd-store")).unwrap_err().to_string();
    assert!(error.contains("/proc/plmicd-store"), "{error}");
}

//! The second process of tests that need one: this test binary, told by the environment what to do.

use std::process::{Child, Command, Stdio};

use super::super::locks::LockedFile;
use super::super::publish::PublishStep;
use super::*;

const ROLE: &str = "PLMICD_TEST_ROLE";
const STORE: &str = "PLMICD_TEST_STORE";

/// Exit codes of the `act` role.
pub(super) const RAN: i32 = 40;
pub(super) const FOUND_IT_DONE: i32 = 41;

pub(super) const STEPS: [PublishStep; 7] = [
    PublishStep::Started,
    PublishStep::FilesSealed,
    PublishStep::ManifestWritten,
    PublishStep::ObjectLocked,
    PublishStep::DamagedMovedAway,
    PublishStep::ObjectVisible,
    PublishStep::RecordVisible,
];

/// The command that runs `role` on `store`.
pub(super) fn command(exe: &std::path::Path, role: &str, store: &Utf8Path) -> Command {
    let mut command = Command::new(exe);
    command
        .args(["--exact", "--ignored", "--nocapture", "store::tests::child::second_process"])
        .env(ROLE, role)
        .env(STORE, store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(super) fn spawn(role: &str, store: &Store) -> Child {
    command(&std::env::current_exe().unwrap(), role, store.root()).spawn().unwrap()
}

/// Waits until the child has said that it got where it was told to go.
pub(super) fn wait_until_ready(child: &mut Child) {
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("READY\n") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut output, &mut line).unwrap(), 0, "the child ended early");
    }
}

#[allow(clippy::print_stdout)]
fn ready_then_wait() {
    println!("\nREADY");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
#[ignore = "the second process of other tests"]
#[allow(clippy::exit)]
fn second_process() {
    let role = std::env::var(ROLE).expect("run by other tests only");
    let root = Utf8PathBuf::from(std::env::var(STORE).unwrap());
    if role == "open" {
        match Store::open(&root) {
            Ok(_) => std::process::exit(RAN),
            Err(error) => panic!("{error}"),
        }
    }
    let store = Store::open(&root).unwrap();
    match role.as_str() {
        "lease" => {
            let artifacts: Vec<_> = store.objects().unwrap().iter().flat_map(lease_of).collect();
            let _lease = store.lease(&artifacts).unwrap();
            ready_then_wait();
        }
        "stage" => {
            let staging = store.staging().unwrap();
            fill(&staging, &FILES);
            ready_then_wait();
        }
        "lock" => {
            let _lock = store.lock_action("preprocess", key("k"), &mut || {}).unwrap();
            ready_then_wait();
        }
        "write" => {
            let mut file = LockedFile::create(&store.temporary("write")).unwrap();
            file.write_synced(b"{\"half\":").unwrap();
            ready_then_wait();
        }
        "act" => {
            let lock = store.lock_action("preprocess", key("k"), &mut || {}).unwrap();
            let done = matches!(store.lookup("preprocess", key("k")).unwrap(), Lookup::Hit(_));
            if !done {
                publish(&store, key("k"), &FILES);
            }
            drop(lock);
            std::process::exit(if done { FOUND_IT_DONE } else { RAN });
        }
        "publish-race" => {
            for round in 0..20 {
                publish(&store, key(&format!("round {round}")), &FILES);
            }
            std::process::exit(RAN);
        }
        "publish-endlessly" => {
            for round in 0_u64.. {
                let text = format!("content {}", round % 7);
                publish(&store, key(&text), &[("a", &text), ("b/c", &text.repeat(1000))]);
            }
        }
        _ => {
            let die_at = STEPS.iter().find(|step| format!("{step:?}") == role).expect("a role");
            let staging = store.staging().unwrap();
            fill(&staging, &FILES);
            let observer = &mut |step: PublishStep| {
                if step == *die_at {
                    std::process::abort();
                }
            };
            store.publish_observed(staging, pending(key("k")), observer).unwrap();
        }
    }
}

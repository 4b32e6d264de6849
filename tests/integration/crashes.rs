//! Killed half-way, damaged on disk, nowhere to write.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::world::{TINY, World};

/// A run killed with SIGKILL in the middle of a training stage goes on from its last checkpoint, and ends with the
/// same weights, byte for byte, as one that was left alone.
fn check_killed(stage: &str, before: &str, epochs: (&str, &str)) {
    let pipeline = TINY
        .replace("device = \"cpu\"", "device = \"cpu\"\nthreads = 1\ncheckpoint_seconds = 0")
        .replace(epochs.0, epochs.1);
    let world = World::new();
    world.write("tiny.toml", &pipeline);
    world.ok(&["run", "tiny.toml", "--until", before]);
    let kills = kill_during(&world, stage, 3);
    assert!(kills > 0, "the training was over before it could be killed");
    world.ok(&["status", "tiny.toml"]).prints(&["to run (resumes)"]);
    world.ok(&["run", "tiny.toml", "--until", stage]);

    let untouched = World::new();
    untouched.write("tiny.toml", &pipeline);
    untouched.ok(&["run", "tiny.toml", "--until", stage]);
    assert_eq!(world.digest("tiny.toml", stage), untouched.digest("tiny.toml", stage));
    world.ok(&["artifact", "verify"]);
}

#[test]
fn a_killed_fine_tuning_resumes_and_ends_with_the_same_weights() {
    check_killed("finetune", "pretrain", ("epochs = 3", "epochs = 12"));
}

#[test]
fn a_killed_pretraining_resumes_and_ends_with_the_same_weights() {
    check_killed("pretrain", "tokenize", ("epochs = 2", "epochs = 20"));
}

/// A disk on which no checkpoint has room any more: the old one stays, training goes on, and ends with the same weights.
#[test]
fn a_full_disk_keeps_the_old_checkpoint() {
    let pipeline = TINY
        .replace("device = \"cpu\"", "device = \"cpu\"\nthreads = 1\ncheckpoint_seconds = 0")
        .replace("epochs = 3", "epochs = 12");
    let world = World::new();
    world.write("tiny.toml", &pipeline);
    world.ok(&["run", "tiny.toml", "--until", "pretrain"]);
    let work = world.path("artifacts/work/finetune");
    let mut child = world
        .command(&["run", "tiny.toml", "--only", "finetune"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let deadline = Instant::now() + Duration::from_secs(120);
    let state = loop {
        if let Some(state) = whole_checkpoint(&work) {
            break state;
        }
        assert!(Instant::now() < deadline, "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(2));
    };
    child.kill().expect("killed before the training was over");
    child.wait().expect("gone");
    let before = std::fs::read(&state).expect("read");
    // A file of a third of the state's size has room, as that of the model has; the state itself, with the moments of
    // AdamW, has not. Writing it fails half-way, as on a full disk.
    let limit = before.len() * 2 / 3 / 512;
    let shell = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
    let program = env!("CARGO_BIN_EXE_plmicd");
    let output = std::process::Command::new("sh")
        .args(["-c", &shell, program, "run", "tiny.toml", "--only", "finetune"])
        .current_dir(world.path(""))
        .env_remove("PLMICD_STORE")
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not written") && said.contains("stays"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");

    let untouched = World::new();
    untouched.write("tiny.toml", &pipeline);
    untouched.ok(&["run", "tiny.toml", "--until", "finetune"]);
    assert_eq!(world.digest("tiny.toml", "finetune"), untouched.digest("tiny.toml", "finetune"));
    world.ok(&["artifact", "verify"]);
}

/// The state file of a checkpoint that is not still being written.
fn whole_checkpoint(folder: &std::path::Path) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() && entry.path().extension().is_some_and(|end| end == "partial") => None,
        Ok(kind) if kind.is_dir() => whole_checkpoint(&entry.path()),
        _ => (entry.file_name() == "state.safetensors").then(|| entry.path()),
    })
}

/// Starts the stage again and again and kills it as soon as it has written a new checkpoint; how often it did.
fn kill_during(world: &World, stage: &str, times: usize) -> usize {
    let arguments = ["run", "tiny.toml", "--only", stage];
    let mut kills = 0;
    let mut seen = None;
    for _ in 0..times {
        let mut child =
            world.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let newest = newest_file(&world.path(&format!("artifacts/work/{stage}")));
            if newest.is_some() && newest != seen {
                seen = newest;
                child.kill().expect("killed");
                kills += 1;
                break;
            }
            if child.try_wait().expect("waited").is_some() || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        child.wait().expect("gone");
    }
    kills
}

fn newest_file(folder: &std::path::Path) -> Option<std::time::SystemTime> {
    let mut newest = None;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => newest = newest.max(found.modified().ok()),
                Err(_) => {}
            }
        }
    }
    newest
}

/// SIGTERM to `plmicd run`: the stage saves its state, the exit code says that the same command goes on.
#[test]
fn a_stopped_run_says_so_and_goes_on() {
    let world = World::new();
    let pipeline = TINY.replace("device = \"cpu\"", "device = \"cpu\"\ncheckpoint_seconds = 0");
    world.write("tiny.toml", &pipeline.replace("epochs = 3", "epochs = 400"));
    world.ok(&["run", "tiny.toml", "--until", "tokenize"]);
    let mut child = world
        .command(&["run", "tiny.toml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let deadline = Instant::now() + Duration::from_secs(120);
    while newest_file(&world.path("artifacts/work/finetune")).is_none() {
        assert!(Instant::now() < deadline, "no checkpoint was written");
        assert!(child.try_wait().expect("waited").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    world.ok(&["status", "tiny.toml"]).prints(&["to run (resumes)"]);
    let last = world.ok(&["show", "--message-format", "json"]).json();
    assert_eq!(last["nodes"]["finetune"]["outcome"], "interrupted");
    assert_eq!(last["nodes"]["report"]["outcome"], "not_run");
}

#[test]
fn a_damaged_artifact_is_found_set_aside_and_made_again() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    let digest = world.digest("tiny.toml", "preprocess");
    let file = world.path(&format!("artifacts/objects/notes/{digest}/labels.json"));
    let mut bytes = std::fs::read(&file).expect("read");
    bytes[20] ^= 1;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("made writable");
    std::fs::write(&file, bytes).expect("damaged");

    let found = world.fails(4, &["artifact", "verify"]);
    found.prints(&["labels.json"]).says(&["--quarantine"]);
    world.fails(4, &["artifact", "verify", "--quarantine"]);
    assert_eq!(world.planned("run", &["tiny.toml"]), ["preprocess"]);
    world.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    assert_eq!(world.digest("tiny.toml", "preprocess"), digest, "the same bytes again");
}

#[test]
fn only_what_is_there_and_damaged_is_moved_aside() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    let (raw, notes) = (world.digest("tiny.toml", "synth"), world.digest("tiny.toml", "preprocess"));
    world.ok(&["artifact", "pin", &raw, "raw"]);
    let kinds = std::fs::read_dir(world.path("artifacts/objects")).expect("kinds");
    let places = kinds.map(|kind| kind.expect("a kind").path().join(&raw));
    let place = places.into_iter().find(|place| place.is_dir()).expect("the pinned artifact");
    std::fs::rename(&place, world.path("elsewhere")).expect("moved away");
    let folder = world.path(&format!("artifacts/objects/notes/{notes}"));
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("made writable");
    std::fs::write(folder.join("more.txt"), "not of the artifact").expect("damaged");

    let found = world.fails(4, &["artifact", "verify", "--quarantine"]);
    found.prints(&["is pinned as `raw` but missing", "more.txt: does not belong", "moved aside: notes "]);
    assert_eq!(found.stdout.matches("moved aside").count(), 1, "{}", found.stdout);
    assert!(!folder.exists());
    let left = world.fails(4, &["artifact", "verify"]);
    assert!(!left.stderr.contains("--quarantine"), "nothing to move: {}", left.stderr);
}

#[test]
fn nothing_is_collected_while_the_record_of_a_run_cannot_be_read() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["run", "tiny.toml", "--until", "synth"]);
    let record = format!("artifacts/runs/{}/run.json", world.runs()[0]);
    let whole = std::fs::read_to_string(world.path(&record)).expect("a record");
    world.write(&record, &whole[..whole.len() / 2]);
    let refused = world.fails(1, &["artifact", "gc", "--grace", "0"]);
    refused.says(&[&record, "hint: to collect without what this run made, move artifacts/runs/"]);
    assert_eq!(world.planned("hit", &["tiny.toml"]), ["synth"]);
    std::fs::rename(world.path(&record).parent().expect("a folder"), world.path("aside")).expect("moved");
    world.ok(&["artifact", "gc", "--grace", "0"]);
    assert!(world.planned("hit", &["tiny.toml"]).is_empty());
}

#[test]
fn runs_that_did_not_end_well_push_no_good_one_out() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["run", "tiny.toml", "--until", "synth"]);
    world.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    let [first, second] = world.runs().try_into().expect("two runs");
    let record = |run: &str| {
        let text = std::fs::read_to_string(world.path(&format!("artifacts/runs/{run}/run.json")));
        serde_json::from_str::<serde_json::Value>(&text.expect("a record")).expect("JSON")
    };
    // The newer run, as if it had failed after its stages; others came to nothing.
    let mut failed = record(&second);
    failed["nodes"]["vocabulary"] = failed["nodes"]["preprocess"].clone();
    failed["nodes"]["vocabulary"]["outcome"] = "failed".into();
    failed["nodes"]["vocabulary"]["artifact"] = serde_json::Value::Null;
    world.write(&format!("artifacts/runs/{second}/run.json"), &failed.to_string());
    let nothing = |finished: bool, outcome: &str| {
        let mut record = record(&first);
        record["nodes"]["synth"]["outcome"] = outcome.into();
        record["nodes"]["synth"]["artifact"] = serde_json::Value::Null;
        if !finished {
            record["finished"] = serde_json::Value::Null;
        }
        record.to_string()
    };
    world.write("artifacts/runs/20990101-000001/run.json", &nothing(true, "failed"));
    world.write("artifacts/runs/20990101-000002/run.json", &nothing(true, "interrupted"));
    world.write("artifacts/runs/20990101-000003/run.json", &nothing(false, "not_run"));
    let gc = |keep: &str| world.ok(&["artifact", "gc", "--grace", "0", "--keep-runs", keep]);
    gc("1");
    assert_eq!(world.planned("hit", &["tiny.toml"]), ["synth", "preprocess"]);
    // What did not end well is given up with the next run that does, and all is where nothing is to be kept.
    let well = record(&first);
    world.write("artifacts/runs/20990101-000004/run.json", &well.to_string());
    gc("1");
    assert_eq!(world.planned("hit", &["tiny.toml"]), ["synth"]);
    gc("0");
    assert!(world.planned("hit", &["tiny.toml"]).is_empty());
}

#[test]
fn a_store_in_a_strange_folder_is_refused() {
    let world = World::new();
    world.write("holiday/photo.jpg", "not a store");
    world.fails(1, &["artifact", "gc", "--store", "holiday"]).says(&["holiday", "is not an artifact store"]);
    // What only looks says so too, and makes none where there is none.
    for root in ["holiday", "absent"] {
        world.fails(2, &["artifact", "ls", "--store", root]).says(&["there is no artifact store", root]);
    }
    assert!(!world.path("absent").exists());
    assert_eq!(std::fs::read_dir(world.path("holiday")).expect("there").count(), 1, "nothing was added");
}

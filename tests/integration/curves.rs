//! Curves for TensorBoard, as a run leaves them. `tests/tensorboard/check` reads them with TensorBoard itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::world::{TINY, World};

/// The event file of a node, cut into records.
fn records(world: &World, run: &str, node: &str) -> Vec<Vec<u8>> {
    let folder = world.path(&format!("artifacts/runs/{run}/tensorboard/{node}"));
    let files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    let [file] = files.as_slice() else { panic!("one file: {files:?}") };
    assert_eq!(fs::metadata(file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777, 0o700);
    let bytes = fs::read(file).expect("readable");
    let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("a length")) as usize;
        found.push(rest[12..12 + length].to_vec());
        rest = &rest[16 + length..];
    }
    found
}

fn hold(records: &[Vec<u8>], text: &str) -> usize {
    records.iter().filter(|record| record.windows(text.len()).any(|part| part == text.as_bytes())).count()
}

#[test]
fn every_run_leaves_curves_and_settings() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["run", "tiny.toml", "--until", "evaluate"]);
    let run = &world.runs()[0];
    let events =
        fs::read_to_string(world.path(&format!("artifacts/runs/{run}/events.jsonl"))).expect("events");
    let updates = events
        .lines()
        .filter(|line| line.contains("\"node\":\"finetune\"") && line.contains("\"learning_rate\":"))
        .count();
    let finetune = records(&world, run, "finetune");
    assert!(updates > 3);
    assert_eq!(hold(&finetune, "learning_rate"), updates + 1, "each update, and the settings");
    assert_eq!(hold(&finetune, "dev_micro_f1"), 3, "each epoch");
    for setting in ["optimizer.learning_rate", "pretrain.sequence_length", "_hparams_/session_end_info"] {
        assert_eq!(hold(&finetune, setting), 1, "{setting}");
    }
    assert_eq!(hold(&records(&world, run, "evaluate"), "test_micro_f1"), 1);
    assert!(hold(&records(&world, run, "pretrain"), "gradient_norm") > 0);
}

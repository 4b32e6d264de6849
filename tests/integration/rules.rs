//! Rules of the house, checked by machine. `ARCHITECTURE.md` says why they are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::world::{World, repository};

/// What each crate may depend on, within the workspace.
const EDGES: &[(&str, &[&str])] = &[
    ("artifact", &[]),
    ("pipeline", &["artifact"]),
    ("data", &["artifact"]),
    ("metrics", &[]),
    ("torch", &[]),
    ("nn", &["torch"]),
    ("train", &["torch", "nn"]),
    ("synth", STAGE),
    ("preprocess", STAGE),
    ("tokenize", STAGE),
    ("embed", STAGE),
    ("threshold", STAGE),
    ("evaluate", STAGE),
    ("report", STAGE),
    ("pretrain", TORCH_STAGE),
    ("finetune", TORCH_STAGE),
    ("predict", TORCH_STAGE),
];
const STAGE: &[&str] = &["pipeline", "data", "metrics", "artifact"];
const TORCH_STAGE: &[&str] = &["pipeline", "data", "metrics", "artifact", "nn", "train", "torch"];

#[test]
fn crates_depend_only_on_what_they_may_know() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let allowed: BTreeMap<String, BTreeSet<String>> = EDGES
        .iter()
        .map(|(name, to)| (format!("plmicd-{name}"), to.iter().map(|to| format!("plmicd-{to}")).collect()))
        .collect();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        if name == "plmicd" {
            continue;
        }
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the list of crates"));
        seen.insert(name.to_owned());
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("a name");
            let for_tests = dependency["kind"] == "dev";
            assert!(
                !to.starts_with("plmicd") || allowed.contains(to) || for_tests,
                "{name} must not know {to}"
            );
            let uses_torch = [
                "plmicd-torch",
                "plmicd-nn",
                "plmicd-train",
                "plmicd-pretrain",
                "plmicd-finetune",
                "plmicd-predict",
            ];
            assert!(to != "tch" || uses_torch.contains(&name), "{name} must not use tch");
        }
    }
    assert_eq!(seen, allowed.keys().cloned().collect(), "the list of crates is complete");
}

/// Source files of the workspace, without generated ones.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repository().join("crates"), repository().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn files_stay_short_enough_to_read_at_a_sitting() {
    for path in sources() {
        let lines = std::fs::read_to_string(&path).expect("UTF-8").lines().count();
        assert!(lines <= 700, "{} has {lines} lines", path.display());
    }
}

#[test]
fn only_the_torch_crate_has_unsafe_code_and_libraries_do_not_print_or_ask_around() {
    let forbidden =
        ["println!(", "eprintln!(", "std::env::var", "env::var(", "process::exit", "current_dir()"];
    for path in sources() {
        let place = path.strip_prefix(repository()).expect("inside").to_string_lossy().into_owned();
        let library = place.starts_with("crates/plmicd-") && place.contains("/src/");
        if !library {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        assert!(
            place.starts_with("crates/plmicd-torch/") || !code.contains("unsafe "),
            "{place} has unsafe code"
        );
        let in_tests = Path::new(&place).components().any(|part| part.as_os_str() == "tests");
        for word in forbidden {
            assert!(in_tests || !code.contains(word), "{place} has `{word}`");
        }
    }
}

#[test]
fn every_pipeline_file_is_without_mistakes() {
    let world = World::new();
    let mut count = 0;
    let folders =
        ["pipelines", "pipelines/sweeps", "pipelines/sweeps/demo"].map(|name| repository().join(name));
    for entry in folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder")) {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "toml") {
            world.ok(&["config", "check", path.to_str().expect("UTF-8")]);
            count += 1;
        }
    }
    assert!(count >= 5, "{count} pipelines were checked");
}

#[test]
fn the_makefile_has_a_target_for_every_stage() {
    let makefile = std::fs::read_to_string(repository().join("Makefile")).expect("a Makefile");
    let world = World::new();
    let stages = world.ok(&["config", "schema"]).json();
    for stage in stages.as_object().expect("stages").keys().filter(|name| *name != "synth") {
        let rule = makefile.lines().any(|line| line.starts_with(&format!("{stage}: build ## ")));
        assert!(rule, "`make {stage}` is missing");
    }
    for verb in ["demo", "all", "plan", "status", "explain", "gc", "verify", "doctor", "test", "lint", "help"]
    {
        assert!(
            makefile.lines().any(|line| line.starts_with(&format!("{verb}:"))),
            "`make {verb}` is missing"
        );
    }
}

#[test]
fn the_manual_names_every_setting() {
    let stages = World::new().ok(&["config", "schema"]).json();
    for (stage, description) in stages.as_object().expect("stages") {
        let path = repository().join(format!("docs/reference/{stage}.md"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
        let settings = description["config"]["properties"].as_object();
        for setting in settings.into_iter().flatten().map(|(name, _)| name) {
            assert!(
                text.contains(&format!("`{setting}`")),
                "docs/reference/{stage}.md does not name `{setting}`"
            );
        }
    }
}

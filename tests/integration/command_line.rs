//! What users type and what they are told.

use crate::world::{Ran, TINY, World, repository};

#[test]
fn a_slip_in_a_pipeline_file_is_shown_before_anything_runs() {
    let world = World::new();
    world.write("slip.toml", &TINY.replace("segment_length", "segement_length"));
    let ran = world.fails(2, &["run", "slip.toml"]);
    insta::assert_snapshot!(ran.stderr, @r"
    error: `segement_length` is not a setting of `finetune`
      --> slip.toml:29:1
       |
    29 | segement_length = 32
       | ^^^^^^^^^^^^^^^ unknown setting
       |
       = help: did you mean `segment_length`?
    ");
    assert!(!world.path("artifacts/objects").exists(), "nothing was run");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.fails(2, &["run", "tiny.toml", "--until", "finetunes"]).says(&["did you mean `finetune`?"]);
    world.fails(2, &["run", "none.toml"]).says(&["no pipeline file at none.toml"]);
    world.fails(2, &["run", "tiny.toml", "--set", "stages.finetune.config.epochs"]).says(&["path=value"]);
    for wrong in ["abc", "-3", "1.5"] {
        let setting = format!("stages.finetune.config.epochs={wrong}");
        world
            .fails(2, &["plan", "tiny.toml", "--set", &setting])
            .says(&[wrong, "expected a whole number from 0 on"]);
    }
    world
        .fails(2, &["run", "tiny.toml", "--only", "synth", "--force", "tokenise"])
        .says(&["did you mean `tokenize`?"]);
    world
        .fails(3, &["run", "tiny.toml", "--only", "synth", "--expect", "another"])
        .says(&["the pipeline file or a source has changed since this run began"]);
    // A child tells its parent.
    let child = ["run", "tiny.toml", "--only", "synth", "--supervised", "--message-format", "json"];
    let changed = [&child[..], &["--expect", "another"]].concat();
    world.fails(3, &changed).prints(&["\"failed\"", "has changed since this run began"]);
    let broken = [&child[..], &["--set", "stages.synth.config.admissions=none"]].concat();
    world.fails(2, &broken).prints(&["\"failed\"", "admissions"]);
    world.fails(2, &["explain", "tiny.toml", "--node", "tokenise"]).says(&["did you mean `tokenize`?"]);
    world.fails(2, &["plan", "tiny.toml", "--set", "runtime.threads=5000"]).says(&["expected at most 1024"]);
    world
        .fails(2, &["synth", "--out", "x", "--threads", "5000"])
        .says(&["expected a whole number from 0 to 1024"]);
    world.fails(2, &["no-such-command"]);
    world.fails(2, &["synth", "--out", "x", "--codes", "0"]).says(&["--codes"]);
}

#[test]
fn more_gpus_than_the_caller_may_use_are_refused_before_anything_runs() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    let run = |visible: &str| {
        let mut command = world.command(&["run", "tiny.toml", "--dry-run", "--resources", "gpu=2"]);
        Ran::from(command.env("CUDA_VISIBLE_DEVICES", visible).output().expect("starts"))
    };
    assert_eq!(run("2, GPU-5").code, 0);
    let refused = run("5");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    refused.says(&["--resources", "gpu=2, but CUDA_VISIBLE_DEVICES=`5` leaves 1 to use"]);
}

#[test]
fn a_pin_that_is_not_there_cannot_be_removed() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["run", "tiny.toml", "--until", "synth"]);
    let said = world.fails(2, &["artifact", "unpin", "nosuch"]).stderr;
    assert_eq!(said, "error: no pin `nosuch`\n");
    world.ok(&["artifact", "pin", &world.digest("tiny.toml", "synth"), "paper"]);
    world.fails(2, &["artifact", "unpin", "papre"]).says(&["no pin `papre`", "did you mean `paper`?"]);
    world.fails(2, &["artifact", "unpin", "nosuch"]).says(&["the pins are: paper"]);
    world.ok(&["artifact", "unpin", "paper"]).says(&["removed the pin paper"]);
}

#[test]
fn a_missing_source_says_what_was_expected_and_where_to_get_it() {
    let world = World::new();
    let file = repository().join("pipelines/codiesp.toml");
    let file = file.to_str().expect("UTF-8");
    world.fails(2, &["run", file]).says(&["CODIESP_DIR", "is not set", "Zenodo"]);
    let mut command = world.command(&["run", file]);
    let output = command.env("CODIESP_DIR", "nowhere").output().expect("starts");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("there is no folder nowhere"), "{text}");
}

#[test]
fn a_stage_alone_needs_what_it_reads() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.fails(3, &["run", "tiny.toml", "--only", "tokenize"]).says(&["has to run first", "without --only"]);
}

#[test]
fn doctor_tells_what_was_found() {
    let world = World::new();
    let ran = world.ok(&["doctor"]);
    ran.prints(&["libtorch", "2.11.0", "bf16", "threads", "store", "disk"]);
}

#[test]
fn settings_are_shown_with_who_set_them() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["config", "check", "tiny.toml"]).says(&["10 stages, no mistakes found"]);
    let shown = world.ok(&["config", "show", "tiny.toml", "--set", "stages.finetune.config.epochs=7"]);
    let line = |name: &str| shown.stdout.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("epochs = 7").ends_with("# --set stages.finetune.config.epochs=7"), "{}", shown.stdout);
    assert!(line("segment_length = 32").ends_with("# tiny.toml:29"), "{}", shown.stdout);
    assert!(line("batch_size = 8").ends_with("# default"), "{}", shown.stdout);
    let schema = world.ok(&["config", "schema", "finetune"]).json();
    assert!(schema["properties"]["segment_length"]["description"].is_string());
    let plan = world.ok(&["plan", "tiny.toml", "--format", "dot"]);
    plan.prints(&["digraph \"tiny\"", "\"tokenize\" -> \"finetune\" [label=\"shards\"]"]);
}

#[test]
fn the_demo_is_built_in() {
    let world = World::new();
    world.ok(&["plan"]).prints(&["synth", "finetune", "report", "never run"]);
    world.ok(&["run", "--dry-run"]).prints(&["synth"]);
}

#[test]
fn results_go_to_stdout_and_can_be_cut_off() {
    let world = World::new();
    let ran = world.ok(&["completions", "bash"]);
    assert!(ran.stdout.contains("plmicd") && ran.stderr.is_empty());
    world.ok(&["man"]).prints(&["plmicd"]);
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let world = World::new();
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("skipped: no /dev/full here");
        return;
    };
    let output = world.command(&["config", "schema"]).stdout(full).output().expect("starts");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the results could not be written to stdout"), "{text}");
}

#[test]
fn json_is_one_document_however_a_run_ends() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    let plan = world.ok(&["plan", "tiny.toml", "--message-format", "json"]);
    serde_json::from_str::<serde_json::Value>(&plan.stdout).expect("the plan as JSON");
    let nothing_left = "stages.preprocess.config.min_code_frequency=1000000";
    let arguments =
        ["run", "tiny.toml", "--until", "preprocess", "--message-format", "json", "--set", nothing_left];
    let ran = world.fails(3, &arguments);
    let record: serde_json::Value = serde_json::from_str(&ran.stdout).expect("the record as JSON");
    assert_eq!(record["nodes"]["preprocess"]["outcome"], "failed");
    let error = record["nodes"]["preprocess"]["error"].as_str().expect("a text");
    assert!(error.contains("no note is left"), "{error}");
}

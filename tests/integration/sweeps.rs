//! Sweeps as their users run them: on this machine, and as jobs of a scheduler.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::world::{TINY, World, repository};

/// Two lengths, two seeds; everything up to the tokens is shared.
const SWEEP: &str = r#"schema = 1
name = "lengths"
extends = "tiny.toml"
[stages.finetune.config]
epochs = 1
[sweep]
mode = "grid"
seeds = [1, 2]
[sweep.axes.length.t64]
stages.finetune.config.max_length = 64
[sweep.axes.length.t128]
stages.finetune.config.max_length = 128
[sweep.collect.table]
stage = "sweep-report"
inputs.evaluations = "evaluate"
config.metrics = ["micro_f1", "precision_at_5"]
config.baseline = "t64"
"#;

fn world() -> World {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.write("sweep.toml", SWEEP);
    world
}

/// Node to digest of what is cached.
fn digests(world: &World) -> Vec<(String, String)> {
    let plan = world.ok(&["plan", "sweep.toml", "--format", "json"]).json();
    let nodes = plan["nodes"].as_array().expect("nodes");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    nodes.iter().map(|node| (text(&node["node"]), text(&node["artifact"]["digest"]))).collect()
}

#[test]
fn a_sweep_shares_what_its_cells_have_in_common() {
    let world = world();
    world.ok(&["plan", "sweep.toml"]).says(&["4 cells of 2 variants: 26 nodes", "would be 40"]);
    let options = ["--jobs", "2", "--resources", "cpu=2"];
    world.ok(&[&["run", "sweep.toml"][..], &options].concat()).says(&["ran 26 stages"]);
    world.ok(&["run", "sweep.toml"]).says(&["all 26 stages cached"]);
    // The table: t64 beside t128, two seeds each, and the reports of all four.
    let csv = world.ok(&["show", "last:table", "--format", "csv"]).stdout;
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 5, "{csv}");
    assert_eq!(rows[1][..3], ["t128", "micro_f1", "2"]);
    assert!(rows[1][4].parse::<f64>().is_ok() && rows[1][5].parse::<f64>().is_ok(), "deviation and p: {csv}");
    assert_eq!((rows[3][0], rows[3][5]), ("t64", ""), "the baseline is not compared with itself");
    let first = &world.runs()[0];
    let page = fs::read_to_string(world.path(&format!("artifacts/runs/{first}/table.html"))).expect("a page");
    for cell in ["t64+s1", "t64+s2", "t128+s1", "t128+s2"] {
        let link = format!("report@{cell}.html");
        assert!(page.contains(&format!("href=\"{link}\"")), "{link}");
        assert!(world.path(&format!("artifacts/runs/{first}/{link}")).is_file());
    }
    // One more seed: only what it changes is left.
    world
        .ok(&["plan", "sweep.toml", "--set", "sweep.seeds=[1,2,3]"])
        .says(&["25 of 36 cached", "one after the other, from past runs"]);
}

#[test]
fn a_table_of_the_paper_is_one_command() {
    let world = World::new();
    let file = repository().join("pipelines/sweeps/demo/table-9.toml");
    let file = file.to_str().expect("UTF-8");
    // The same sweep on few short notes, with one seed.
    let small = [
        "sweep.seeds=[1]",
        "runtime.device=\"cpu\"",
        "stages.synth.config.admissions=60",
        "stages.synth.config.codes=12",
        "stages.synth.config.mean_words=60",
        "stages.synth.config.max_words=120",
        "stages.vocabulary.config.size=400",
        "stages.pretrain.config.epochs=1",
        "stages.finetune.config.epochs=1",
        "stages.evaluate.config.resamples=0",
    ];
    let sets: Vec<&str> = small.iter().flat_map(|value| ["--set", value]).collect();
    let run = ["run", file, "--jobs", "2", "--until", "sweep-report"];
    world.ok(&[&run[..], &sets].concat()).prints(&["1,024 tokens, segments of 128", "report: "]);
    let csv = world.ok(&["show", "last", "--format", "csv"]).stdout;
    assert_eq!(csv.lines().count(), 1 + 5 * 4, "{csv}");
    for variant in ["base", "len256", "len512", "seg32", "seg64"] {
        assert!(csv.contains(&format!("\n{variant},micro_f1,1,0.")), "{variant}: {csv}");
    }
}

/// Stands in for Slurm: each task runs at once, one after the other.
const FAKE_SBATCH: &str = r#"#!/bin/bash
script="${@: -1}"
last=$(sed -n 's/^#SBATCH --array=0-//p' "$script")
job=$(( $(cat "$STATE/count" 2>/dev/null || echo 0) + 1 ))
echo $job > "$STATE/count"
for task in $(seq 0 "$last"); do
    SLURM_ARRAY_JOB_ID=$job SLURM_ARRAY_TASK_ID=$task SLURM_SUBMIT_DIR=$PWD bash "$script" >> "$STATE/log" 2>&1
    echo "$? $*" >> "$STATE/tasks"
done
echo $job
"#;

#[test]
fn a_submitted_sweep_gives_what_a_local_run_gives() {
    let local = world();
    local.ok(&["run", "sweep.toml"]);

    let world = world();
    world.write("bin/sbatch", FAKE_SBATCH);
    fs::set_permissions(world.path("bin/sbatch"), fs::Permissions::from_mode(0o755)).expect("executable");
    let plan = ["plan", "sweep.toml", "--format", "slurm", "--out", "jobs"];
    world.ok(&plan).prints(&["sh jobs/submit.sh"]);
    let finetune = fs::read_to_string(world.path("jobs/06-finetune.nodes")).expect("a list of nodes");
    assert_eq!(finetune, "finetune@t64+s1\nfinetune@t64+s2\nfinetune@t128+s1\nfinetune@t128+s2\n");
    let submit = || {
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = std::process::Command::new("sh");
        command.arg("jobs/submit.sh").arg("--partition=any").current_dir(world.path(""));
        command.env("PATH", path).env("STATE", world.path("")).env("PLMICD_LOG", "");
        let output = command.output().expect("sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    submit();
    let tasks = fs::read_to_string(world.path("tasks")).expect("tasks");
    assert_eq!(tasks.lines().count(), 26, "{tasks}");
    assert!(tasks.lines().all(|line| line.starts_with("0 --parsable")), "{tasks}");
    assert!(tasks.contains("--dependency=afterany:4:5 --partition=any 06-finetune.sbatch"), "{tasks}");
    assert_eq!(digests(&world), digests(&local));

    // The same scripts again do nothing twice; a new plan has nothing left.
    submit();
    assert_eq!(digests(&world), digests(&local));
    world.ok(&plan).says(&["nothing to submit"]);
    let forced = [&plan[..], &["--force", "finetune@t64+s1"]].concat();
    world.ok(&forced);
    let script = fs::read_to_string(world.path("jobs/01-finetune.sbatch")).expect("a script");
    assert!(script.contains("--force finetune@t64+s1 --only"), "{script}");
}

//! A whole pipeline, then the changes that users make to it.

use std::os::unix::fs::PermissionsExt;

use crate::world::{TINY, World};

/// From notes to a report; then reruns. One test, since the pipeline takes a while.
#[test]
fn a_pipeline_runs_once_and_then_only_what_a_change_touches() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    let first = world.ok(&["run", "tiny.toml"]);
    first.says(&["ran 10 stages"]).prints(&["Micro F1", "report: artifacts/runs/", "/report.html"]);

    let report =
        std::fs::read_to_string(world.path("artifacts/latest/tiny/report/report.html")).expect("a report");
    assert!(report.contains("<html") && report.contains("default-src 'none'"), "a self-contained page");
    let run = world.runs().pop().expect("a run");
    let page =
        std::fs::read_to_string(world.path(&format!("artifacts/runs/{run}/report.html"))).expect("a page");
    for part in ["plmicd run tiny.toml", "tiny.toml:16", &world.digest("tiny.toml", "synth")] {
        assert!(page.contains(part) && !report.contains(part), "only the run's copy tells {part}");
    }
    assert_eq!(mode(&world, &format!("artifacts/runs/{run}/report.html")), 0o600);
    world.ok(&["show", "--format", "csv"]).prints(&["metric,dev_model,", "\nmicro_f1,"]);
    world.ok(&["show", "last:report", "--format", "latex"]).prints(&["\\begin{tabular}", "Micro F1 & "]);
    world.ok(&["show", "--format", "md"]).prints(&["| Micro F1 | "]);
    assert_eq!(mode(&world, "artifacts"), 0o700);
    let model = world.digest("tiny.toml", "finetune");
    assert_eq!(mode(&world, &format!("artifacts/objects/model/{model}/model.safetensors")), 0o400);

    let again = world.ok(&["run", "tiny.toml"]);
    again.says(&["all 10 stages cached, nothing to do"]);
    again.prints(&[&format!("report: artifacts/runs/{run}/report.html")]);
    let newest = world.runs().pop().expect("a run");
    assert!(newest != run && !world.path(&format!("artifacts/runs/{newest}/report.html")).exists());
    world.ok(&["artifact", "verify"]).prints(&["all as recorded"]);

    let objective = "stages.threshold.config.objective=macro_f1";
    assert_eq!(world.planned("run", &["tiny.toml", "--set", objective]), ["threshold"]);
    assert_eq!(world.planned("pending", &["tiny.toml", "--set", objective]), ["evaluate", "report"]);
    world.ok(&["explain", "tiny.toml", "--set", objective]).prints(&[
        "threshold would run:",
        "objective: \"micro_f1\" -> \"macro_f1\" (--set stages.threshold.config.objective=macro_f1)",
        "finetune is cached",
    ]);
    world.ok(&["run", "tiny.toml", "--set", objective]).says(&["7 cached"]);
    let compared = world.ok(&["compare", &run, "last", "--trials", "199"]);
    compared.prints(&["metric", "micro_f1", "precision_at_8"]).says(&["199 trials"]);
    world
        .fails(2, &["compare", &run, "last:threshold"])
        .says(&["no stage `threshold` yielded an artifact of kind evaluation"]);

    world.write("tiny.toml", &TINY.replace("size = 400", "size = 300"));
    assert_eq!(world.planned("hit", &["tiny.toml"]), ["synth", "preprocess"]);
    world.ok(&["explain", "tiny.toml", "--node", "vocabulary"]).prints(&["size: 400 -> 300 (tiny.toml:16)"]);

    world.write("tiny.toml", TINY);
    assert_eq!(world.planned("hit", &["tiny.toml"]).len(), 10, "the first results are still there");
    world.ok(&["runs"]).prints(&["tiny", "ok"]);
    world.ok(&["show"]).prints(&["pipeline  tiny", "threshold"]);
    world.ok(&["status", "tiny.toml"]).prints(&["finetune", "cached"]);
    world.ok(&["logs", "last", "threshold"]).prints(&["started", "dev value", "done: thresholds"]);
    let latest = || std::fs::read_link(world.path("artifacts/latest/tiny/threshold")).expect("a link");
    let other = latest();
    world.ok(&["run", "tiny.toml"]);
    assert!(latest() != other, "the links show what the last run used, cached or not");
    world.ok(&["artifact", "show", &model[..12]]).prints(&["made by     finetune", "model.safetensors"]);
    world.ok(&["artifact", "gc", "--grace", "0", "--keep-runs", "9"]).prints(&["freed"]);
    assert_eq!(world.planned("hit", &["tiny.toml"]).len(), 10, "what recent runs made stays");
}

fn mode(world: &World, path: &str) -> u32 {
    std::fs::metadata(world.path(path)).expect("there").permissions().mode() & 0o777
}

/// Outputs of the stages that do not compute in floating point, on the tiny corpus.
const GOLDEN: [(&str, &str); 4] = [
    ("synth", "01cae6861eb7"),
    ("preprocess", "7716880eb085"),
    ("vocabulary", "e2514748ef72"),
    ("tokenize", "e9bea2aeb35c"),
];

#[test]
fn two_stores_get_the_same_bytes_and_those_of_the_stage_versions() {
    let data_stages = ["--until", "tokenize"];
    let digests: Vec<Vec<String>> = ["1", "2"]
        .iter()
        .map(|threads| {
            let world = World::new();
            world.write(
                "tiny.toml",
                &TINY.replace("device = \"cpu\"", &format!("device = \"cpu\"\nthreads = {threads}")),
            );
            let mut arguments = vec!["run", "tiny.toml"];
            arguments.extend(data_stages);
            world.ok(&arguments);
            GOLDEN.map(|(node, _)| world.digest("tiny.toml", node)).to_vec()
        })
        .collect();
    assert_eq!(digests[0], digests[1], "whatever the number of threads");
    for ((stage, golden), digest) in GOLDEN.iter().zip(&digests[0]) {
        assert!(
            digest.starts_with(golden),
            "the output of `{stage}` changed to {}: if that is meant, raise its VERSION and write the new digest here",
            &digest[..12]
        );
    }
}

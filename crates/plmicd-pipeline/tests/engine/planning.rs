//! Keys, reasons, early cutoff, restricted data, interrupts.

use plmicd_pipeline::Interrupt;
use plmicd_pipeline::fingerprint::Reason;
use plmicd_pipeline::plan::Decision;
use plmicd_pipeline::run_node::NodeError;
use plmicd_pipeline::run_record::{NodeRecord, Outcome, RunFolder, RunRecord};
use serde_json::json;

use crate::toy::{FILE, World, parse};

#[test]
fn a_second_run_does_nothing_and_a_change_reruns_what_it_touches() {
    let world = World::new();
    let pipeline = parse(FILE, &[]).expect("valid");
    assert_eq!(world.run_all(&pipeline), ["numbers", "total", "scale"]);
    assert_eq!(world.output(&pipeline, "scale", "scaled.txt"), "100");
    assert!(world.plan(&pipeline, &[]).all_hits());
    assert!(world.run_all(&pipeline).is_empty());

    let changed = parse(FILE, &["stages.scale.config.factor=2"]).expect("valid");
    assert_eq!(world.run_all(&changed), ["scale"]);
    // Both variants are in the store now.
    assert!(world.plan(&pipeline, &[]).all_hits());
}

#[test]
fn the_same_content_from_another_key_cuts_off_what_follows() {
    let world = World::new();
    world.run_all(&parse(FILE, &[]).expect("valid"));
    let falling = parse(FILE, &["stages.numbers.config.range.order=falling"]).expect("valid");
    // `total` reads other bytes, but writes the same: `scale` need not run.
    assert_eq!(world.run_all(&falling), ["numbers", "total"]);
}

#[test]
fn names_layout_and_defaults_do_not_enter_the_key() {
    let world = World::new();
    world.run_all(&parse(FILE, &[]).expect("valid"));
    let renamed = FILE
        .replace("name = \"toy\"", "name = \"other\"")
        .replace("[stages.numbers]", "[stages.first]\nstage = \"numbers\"\nruntime = { threads = 2 }")
        .replace("{ count = 4 }", "{ count = 4, fail = false, range = { lowest = 1 } }")
        .replace("numbers = \"numbers\"", "numbers = \"first\"");
    assert!(world.run_all(&parse(&renamed, &[]).expect("valid")).is_empty());
}

#[test]
fn reasons_name_the_setting_and_where_it_was_set() {
    let world = World::new();
    let pipeline = parse(FILE, &[]).expect("valid");
    world.run_all(&pipeline);
    record_run(&world, &pipeline);

    let changed =
        parse(&FILE.replace("count = 4", "count = 5"), &["stages.scale.config.factor=3"]).expect("valid");
    let plan = world.plan(&changed, &[]);
    let reasons = |node: &str| match &plan.get(node).expect("planned").decision {
        Decision::Run(reasons) | Decision::Pending(reasons) => reasons.clone(),
        other => panic!("{other:?}"),
    };
    let place = Some("toy.toml:4".to_owned());
    assert_eq!(
        reasons("numbers"),
        [Reason::Config { path: "count".to_owned(), old: json!(4), new: json!(5), place }]
    );
    assert_eq!(reasons("total"), [Reason::Upstream { node: "numbers".to_owned() }]);

    for node in ["numbers", "total"] {
        world.run(&changed, node, &Interrupt::default()).expect("runs");
    }
    let plan = world.plan(&changed, &[]);
    let Decision::Run(reasons) = &plan.get("scale").expect("planned").decision else { panic!("a hit") };
    assert!(matches!(&reasons[0], Reason::Config { path, place: Some(place), .. }
        if path == "factor" && place == "--set stages.scale.config.factor=3"));
    assert!(matches!(&reasons[1], Reason::Input { name, old: Some(_), new: Some(_) } if name == "total"));
}

/// Writes the record that `plmicd run` would write, so that the planner knows what ran last.
fn record_run(world: &World, pipeline: &plmicd_pipeline::pipeline::Pipeline) {
    let started = jiff::Timestamp::from_second(1_700_000_000).expect("a time");
    let mut record = RunRecord {
        format: 1,
        id: String::new(),
        pipeline: pipeline.name.clone(),
        file: None,
        only: None,
        overrides: Vec::new(),
        program: "test".to_owned(),
        started: started.to_string(),
        finished: None,
        resolved: pipeline.resolved(),
        nodes: Default::default(),
    };
    for planned in world.plan(pipeline, &[]).nodes {
        let node = NodeRecord {
            stage: planned.stage.clone(),
            key: planned.key,
            reasons: Vec::new(),
            outcome: Outcome::Cached,
            artifact: None,
            seconds: 0.0,
            error: None,
        };
        record.nodes.insert(planned.node.clone(), node);
    }
    let first = RunFolder::create(&world.store, record.clone(), started).expect("a run");
    let second = RunFolder::create(&world.store, record, started).expect("another in the same second");
    assert_ne!(first.record.id, second.record.id);
}

#[test]
fn force_runs_one_node_again() {
    let world = World::new();
    let pipeline = parse(FILE, &[]).expect("valid");
    world.run_all(&pipeline);
    let plan = world.plan(&pipeline, &["total"]);
    assert!(
        matches!(&plan.get("total").expect("planned").decision, Decision::Run(r) if *r == [Reason::Forced])
    );
    assert!(matches!(&plan.get("scale").expect("planned").decision, Decision::Pending(_)));
}

#[test]
fn a_damaged_output_is_made_again() {
    let world = World::new();
    let pipeline = parse(FILE, &[]).expect("valid");
    world.run_all(&pipeline);
    let plan = world.plan(&pipeline, &[]);
    let Decision::Hit(record) = &plan.get("total").expect("planned").decision else { panic!("no hit") };
    let file = world.store.object_dir(&record.kind, record.artifact).join("total.txt");
    let mut permissions = fs_err::metadata(&file).expect("metadata").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs_err::set_permissions(&file, permissions).expect("writable");
    fs_err::write(&file, "longer than it was").expect("damaged");
    let plan = world.plan(&pipeline, &[]);
    assert!(matches!(&plan.get("total").expect("planned").decision,
        Decision::Run(reasons) if matches!(reasons[0], Reason::OutputCorrupt { .. })));
    assert_eq!(world.run_all(&pipeline), ["total"]);
    assert_eq!(world.output(&pipeline, "scale", "scaled.txt"), "100");
}

#[test]
fn failures_and_interrupts_publish_nothing() {
    let world = World::new();
    let failing = parse(FILE, &["stages.numbers.config.fail=true"]).expect("valid");
    let error = world.run(&failing, "numbers", &Interrupt::default()).expect_err("fails");
    assert_eq!(error.to_string(), "numbers.txt:2: expected better numbers");

    let pipeline = parse(FILE, &[]).expect("valid");
    let stop = Interrupt::default();
    stop.raise();
    assert!(matches!(world.run(&pipeline, "numbers", &stop), Err(NodeError::Interrupted)));
    assert!(world.store.list().expect("listed").is_empty());
    let missing = world.run(&pipeline, "scale", &Interrupt::default()).expect_err("cannot run alone");
    assert!(missing.to_string().contains("`total` has to run first"), "{missing}");
}

const WITH_SOURCE: &str = r#"schema = 1
name = "toy"
[sources.seed]
kind = "seed"
path = "SEED"
[stages.numbers]
inputs = { seed = "sources.seed" }
[stages.total]
inputs = { numbers = "numbers" }
"#;

#[test]
fn what_derives_from_a_restricted_source_is_restricted() {
    let world = World::new();
    let seeds = camino::Utf8PathBuf::try_from(world.folder.path().join("seeds")).expect("UTF-8");
    let text = WITH_SOURCE.replace("SEED", seeds.as_str());
    let pipeline = parse(&text, &[]).expect("valid");
    let plan = world.plan(&pipeline, &[]);
    assert!(matches!(&plan.get("numbers").expect("planned").decision,
        Decision::Blocked(why) if why.contains("a folder with seed.txt")));

    fs_err::create_dir(&seeds).expect("a folder");
    fs_err::write(seeds.join("seed.txt"), "1").expect("a file");
    assert_eq!(world.run_all(&pipeline), ["numbers", "total"]);
    assert!(world.store.list().expect("listed").iter().all(|artifact| artifact.restricted));
    // Another content: other keys.
    fs_err::write(seeds.join("seed.txt"), "22").expect("a file");
    assert_eq!(world.run_all(&pipeline), ["numbers"]);
}

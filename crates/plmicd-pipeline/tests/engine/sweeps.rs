//! Sweeps: which cells, what is shared, what is complained about.

use plmicd_pipeline::Interrupt;
use plmicd_pipeline::pipeline::Pipeline;
use plmicd_pipeline::plan::{Decision, Selection, plan};
use plmicd_pipeline::source::Sources;

use crate::toy::{FILE, World, parse};

const ABLATION: &str = r#"
[sweep]
mode = "ablation"
[sweep.axes.factor.double]
stages.scale.config.factor = 2
[sweep.axes.factor.triple]
stages.scale.config.factor = 3
[sweep.axes.order.falling]
stages.numbers.config.range.order = "falling"
[sweep.collect.table]
inputs.rows = "scale"
"#;

fn sweep(text: &str, overrides: &[&str]) -> Pipeline {
    parse(&format!("{FILE}{text}"), overrides).unwrap_or_else(|problems| panic!("{problems}"))
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.nodes.iter().map(|node| node.name.as_str()).collect()
}

fn cells(pipeline: &Pipeline) -> Vec<String> {
    pipeline.sweep.iter().flat_map(|sweep| &sweep.cells).map(|cell| cell.cell.name()).collect()
}

#[test]
fn an_ablation_changes_one_thing_at_a_time_and_shares_the_rest() {
    let pipeline = sweep(ABLATION, &[]);
    assert_eq!(cells(&pipeline), ["base", "double", "triple", "falling"]);
    // `numbers` and `total` are multiplied by the one axis that changes them, `scale` by both.
    assert_eq!(
        names(&pipeline),
        [
            "numbers@base",
            "total@base",
            "scale@base",
            "scale@double",
            "scale@triple",
            "numbers@falling",
            "total@falling",
            "scale@falling",
            "table",
        ]
    );
    let world = World::new();
    let ran = world.run_all(&pipeline);
    // Falling numbers have the same sum: `scale@falling` is cut off.
    assert!(!ran.contains(&"scale@falling".to_owned()) && ran.len() == 8, "{ran:?}");
    assert_eq!(world.output(&pipeline, "table", "table.txt"), "base 100\ndouble 20\nfalling 100\ntriple 30");
    assert!(world.run_all(&pipeline).is_empty());
    // The base alone is in the store by now, under the same keys.
    assert!(world.run_all(&parse(FILE, &[]).expect("valid")).is_empty());
}

#[test]
fn a_grid_with_seeds_takes_every_combination() {
    let text = r#"
[sweep]
mode = "grid"
seeds = [1, 2]
seed_paths = ["stages.numbers.config.range.lowest"]
exclude = [{ factor = "triple", count = "few" }]
[sweep.axes.factor.double]
stages.scale.config.factor = 2
[sweep.axes.factor.triple]
stages.scale.config.factor = 3
[sweep.axes.count.few]
stages.numbers.config.count = 2
[sweep.axes.count.many]
stages.numbers.config.count = 9
"#;
    let pipeline = sweep(text, &[]);
    let expected = [
        "double+few+s1",
        "double+few+s2",
        "double+many+s1",
        "double+many+s2",
        "triple+many+s1",
        "triple+many+s2",
    ];
    assert_eq!(cells(&pipeline), expected);
    let of = |stage: &str| -> Vec<&str> {
        names(&pipeline).into_iter().filter(|name| name.starts_with(stage)).collect()
    };
    // What has few numbers is doubled in every cell: the name says all that its cells have in common.
    let expected = ["numbers@double+few+s1", "numbers@double+few+s2", "numbers@many+s1", "numbers@many+s2"];
    assert_eq!(of("numbers"), expected);
    assert_eq!(of("scale").len(), 6);
    let node = pipeline.node("numbers@many+s2").expect("a node");
    assert_eq!(node.config.full["range"]["lowest"], 2);
    assert_eq!(node.config.full["count"], 9);

    // `--set` lies over the variants, and the sweep itself can be set.
    let set = sweep(text, &["sweep.seeds=[7]", "stages.numbers.config.count=5"]);
    assert_eq!(names(&set), ["numbers", "total", "scale@double", "scale@triple+many"]);
    assert_eq!(set.node("numbers").expect("a node").config.full["range"]["lowest"], 7);
}

#[test]
fn a_list_holds_what_is_included() {
    let text = ABLATION
        .replace("\"ablation\"", "\"list\"\ninclude = [{ factor = \"triple\", order = \"falling\" }, {}]");
    let pipeline = sweep(&text, &[]);
    assert_eq!(cells(&pipeline), ["triple+falling", "base"]);
}

#[test]
fn a_name_of_the_file_stands_for_all_its_nodes() {
    let world = World::new();
    let pipeline = sweep(ABLATION, &[]);
    world.run_all(&pipeline);
    let sources = Sources::new(&pipeline, &world.store, &world.registry, &|_, _, _| {});
    let selection = Selection { until: Some("scale".to_owned()), force: ["scale".to_owned()].into() };
    let plan = plan(&pipeline, &selection, &world.store, &world.registry, &sources).expect("a plan");
    assert_eq!(plan.nodes.len(), 8);
    let forced = plan.nodes.iter().filter(|node| matches!(node.decision, Decision::Run(_)));
    assert_eq!(forced.count(), 4);
    // One node of a sweep runs alone, as a scheduler of a cluster runs it.
    assert!(world.run(&pipeline, "scale@double", &Interrupt::default()).expect("cached"));
}

#[test]
fn reasons_and_places_point_into_the_variant() {
    let pipeline = sweep(ABLATION, &[]);
    let line = FILE.lines().count() + 5;
    assert_eq!(pipeline.config_place("scale@double", "factor"), Some(format!("toy.toml:{line}")));
    assert_eq!(pipeline.config_place("scale@base", "factor"), Some("toy.toml:9".to_owned()));
}

#[test]
fn what_is_collected_runs_as_the_file_says() {
    let file = format!("{FILE}[runtime]\nlog_seconds = 5\nneeds = {{ cpu = 2, memory = 4 }}\n");
    let own = "[sweep.collect.table]\nruntime.needs.memory = 9";
    let variant = "stages.scale.config.factor = 2\nruntime.log_seconds = 7";
    let text =
        ABLATION.replace("[sweep.collect.table]", own).replace("stages.scale.config.factor = 2", variant);
    let pipeline = parse(&format!("{file}{text}"), &["runtime.threads=3"]).unwrap_or_else(|e| panic!("{e}"));
    let runtime = &pipeline.node("table").expect("a node").runtime;
    assert_eq!((runtime.log_seconds, runtime.threads), (5, 3));
    assert_eq!((runtime.needs.cpu, runtime.needs.memory), (2, 9));
}

#[test]
fn a_name_that_the_store_cannot_hold_is_refused_before_anything_runs() {
    let sweep_of = |letters: usize| {
        let name = |letter: &str| letter.repeat(letters);
        format!(
            "[sweep]\nmode = \"grid\"\n[sweep.axes.factor.{}]\nstages.scale.config.factor = 2\n\
             [sweep.axes.factor.short]\n[sweep.axes.count.{}]\nstages.numbers.config.count = 2\n\
             [sweep.axes.count.few]\n",
            name("a"),
            name("b"),
        )
    };
    // `scale@`, two variants and a `+`.
    let longest = sweep(&sweep_of(96), &[]);
    assert!(names(&longest).iter().any(|name| name.len() == 199));
    let wrong = refuse(&sweep_of(97));
    assert!(wrong.contains("has 201 bytes; at most 200 are possible"), "{wrong}");
}

#[test]
fn a_variant_can_add_stages_and_take_wires_away() {
    let text = r#"
[sources.seed]
kind = "seed"
path = { env = "SEED_DIR" }
[sweep]
mode = "ablation"
[sweep.axes.more.again]
stages.first.stage = "numbers"
stages.first_total = { stage = "total", inputs = { numbers = "first" } }
stages.first_scale = { stage = "scale", inputs = { total = "first_total" } }
stages.numbers.inputs = { again = "first_scale", seed = false }
"#;
    let file = FILE.replace("config = { count = 4 }", "inputs = { seed = \"sources.seed\" }");
    let pipeline = parse(&format!("{file}{text}"), &[]).unwrap_or_else(|problems| panic!("{problems}"));
    let node = pipeline.node("numbers@again").expect("a node");
    assert_eq!(node.inputs.keys().collect::<Vec<_>>(), ["again"]);
    assert_eq!(node.upstream().collect::<Vec<_>>(), ["first_scale"]);
}

/// What a faulty sweep is refused with.
fn refuse(text: &str) -> String {
    parse(&format!("{FILE}{text}"), &[]).expect_err("refused").to_string()
}

#[test]
fn mistakes_are_shown_where_they_were_made_before_anything_runs() {
    let with = |change: (&str, &str)| refuse(&ABLATION.replace(change.0, change.1));
    let wrong = with(("factor = 2", "factr = 2"));
    assert!(wrong.contains("did you mean `factor`?") && wrong.contains("toy.toml:14"), "{wrong}");
    let wrong = with(("stages.scale.config.factor = 3", "stages.scael.config.factor = 3"));
    assert!(wrong.contains("no stage is called `scael`"), "{wrong}");
    let wrong = with(("stages.scale.config.factor = 3", "stage.scale.config.factor = 3"));
    assert!(wrong.contains("`stage` is not what a variant can change"), "{wrong}");
    let wrong = with(("\"ablation\"", "\"all\""));
    assert!(wrong.contains("`mode` is \"ablation\", \"grid\" or \"list\""), "{wrong}");
    let wrong = with(("mode =", "seeds = [1, 1]\nmode ="));
    assert!(wrong.contains("names a seed twice"), "{wrong}");
    let wrong = with(("mode =", "seeds = [1]\nmode ="));
    assert!(wrong.contains("there is no `stages.finetune`"), "{wrong}");
    let wrong = with(("mode =", "include = [{ factor = \"duoble\" }]\nmode ="));
    assert!(wrong.contains("did you mean `double`?"), "{wrong}");
    let wrong = with(("axes.order.falling", "axes.order.double"));
    assert!(wrong.contains("another axis has a variant `double` already"), "{wrong}");
    let wrong = with(("inputs.rows = \"scale\"", "inputs.rows = \"total\""));
    assert!(wrong.contains("takes scaled, but `total` is of kind total"), "{wrong}");
    let wrong = with(("[sweep.collect.table]\n", "[sweep.collect.table]\nstage = \"tabel\"\n"));
    assert!(wrong.contains("did you mean `table`?"), "{wrong}");
    for name in ["\"../table\"", "\"\"", "Table"] {
        let wrong =
            with(("[sweep.collect.table]\n", &format!("[sweep.collect.{name}]\nstage = \"table\"\n")));
        assert!(wrong.contains("a name is made of a-z, 0-9, `-` and `_`"), "{name}: {wrong}");
    }

    // A mistake of the base is shown once, not once a cell.
    let base = FILE.replace("factor = 10", "factr = 10");
    let wrong = parse(&format!("{base}{ABLATION}"), &[]).expect_err("refused").to_string();
    assert_eq!(wrong.matches("`factr` is not a setting").count(), 1, "{wrong}");
}

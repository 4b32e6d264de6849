//! Presets: a layer below the file whose name decides nothing.

use plmicd_pipeline::pipeline::Pipeline;
use serde_json::json;

use crate::toy::{FILE, World, parse, registry};

fn with(config: &str) -> String {
    FILE.replace("config = { count = 4 }", config)
}

fn key(world: &World, pipeline: &Pipeline) -> String {
    format!("{:?}", world.plan(pipeline, &[]).get("numbers").expect("planned").key.expect("known"))
}

#[test]
fn a_preset_lies_between_the_defaults_and_the_file() {
    let text = with("config = { preset = \"many\", range = { lowest = 5 } }");
    let pipeline = parse(&text, &[]).expect("valid");
    let node = pipeline.node("numbers").expect("a node");
    assert_eq!(
        node.config.full,
        json!({"count": 9, "fail": false, "range": {"lowest": 5, "order": "falling"}})
    );
    assert_eq!(node.preset.as_deref(), Some("many"));
    assert_eq!(pipeline.resolved()["stages"]["numbers"]["preset"], "many");
    let place = |path| pipeline.config_place("numbers", path);
    assert_eq!(place("count").as_deref(), Some("preset many"));
    assert_eq!(place("range.order").as_deref(), Some("preset many"));
    assert_eq!(place("range.lowest").as_deref(), Some("toy.toml:4"));
    assert_eq!(place("preset").as_deref(), Some("toy.toml:4"));
    assert_eq!(place("fail"), None);

    // What the file and the command line say stands over it; the command line may also choose it.
    let over = parse(&text, &["stages.numbers.config.count=2", "stages.numbers.config.range.order=rising"]);
    let full = &over.expect("valid").node("numbers").expect("a node").config.full.clone();
    assert_eq!((&full["count"], &full["range"]["order"]), (&json!(2), &json!("rising")));
    let chosen = parse(FILE, &["stages.numbers.config.preset=many"]).expect("valid");
    let full = &chosen.node("numbers").expect("a node").config.full;
    assert_eq!((&full["count"], &full["range"]["order"]), (&json!(4), &json!("falling")));
    let none = parse(&text, &["stages.numbers.config.preset=false"]).expect("valid");
    let node = none.node("numbers").expect("a node");
    assert_eq!((&node.config.full["count"], &node.preset), (&json!(3), &None));
}

#[test]
fn only_the_values_decide_the_key() {
    let world = World::new();
    let key = |config: &str| key(&world, &parse(&with(config), &[]).expect("valid"));
    let plain = key("config = {}");
    assert_eq!(key("config = { preset = \"plain\" }"), plain);
    assert_eq!(key("config = { preset = false }"), plain);
    let spelled = key("config = { count = 9, range = { order = \"falling\" } }");
    assert_eq!(key("config = { preset = \"many\" }"), spelled);
    assert_eq!(key("config = { preset = \"plain\", count = 9, range.order = \"falling\" }"), spelled);
    assert_ne!(spelled, plain);
}

#[test]
fn mistakes_about_presets_are_shown_at_their_place() {
    let complaint = |config: &str| parse(&with(config), &[]).expect_err("a mistake").to_string();
    let text = complaint("config = { preset = \"mayn\" }");
    assert!(text.contains("stage `numbers` has no preset `mayn`") && text.contains("did you mean `many`?"));
    assert!(text.contains("toy.toml:4:21"), "{text}");
    assert!(complaint("config = { preset = 3 }").contains("`preset` is the name of a preset in quotes"));
    // A value of the preset that does not fit is shown in the preset.
    let text = complaint("config = { preset = \"none\" }");
    assert!(text.contains("must be at least 1") && text.contains("preset none:2"), "{text}");
    let other = parse(&FILE.replace("factor = 10", "preset = \"many\""), &[]).expect_err("a mistake");
    assert!(other.to_string().contains("`preset` is not a setting of `scale`"), "{other}");
}

#[test]
fn a_variant_of_a_sweep_may_choose_its_own() {
    let text = format!(
        "{}\n[sweep]\nmode = \"ablation\"\n[sweep.axes.size.many]\nstages.numbers.config.preset = \"many\"\n",
        with("config = { preset = \"plain\" }")
    );
    let pipeline = parse(&text, &[]).expect("valid");
    let counts: Vec<&serde_json::Value> =
        pipeline.named("numbers").into_iter().map(|node| &node.config.full["count"]).collect();
    assert!(counts.contains(&&json!(9)) && counts.contains(&&json!(3)), "{counts:?}");
}

#[test]
fn the_schema_lists_them() {
    let registry = registry();
    let schema = registry.find_stage("numbers").expect("a stage").config_schema();
    assert_eq!(schema["properties"]["preset"]["enum"], json!(["many", "plain", "none", false]));
    let schema = registry.find_stage("scale").expect("a stage").config_schema();
    assert!(schema["properties"].get("preset").is_none());
}

//! Mistakes in pipeline files: each is shown at its line, with what was probably meant.

use crate::toy::{FILE, parse};

/// The complaint about `FILE` after replacing `from` by `to`.
#[track_caller]
fn complaint(from: &str, to: &str) -> String {
    assert!(FILE.contains(from), "nothing to replace");
    parse(&FILE.replace(from, to), &[]).expect_err("a mistake").to_string()
}

#[track_caller]
fn shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn slips_are_shown_with_line_caret_and_the_nearest_name() {
    shows(
        &complaint("count = 4", "cuont = 4"),
        &["`cuont` is not a setting of `numbers`", "toy.toml:4:12", "^^^^^", "did you mean `count`?"],
    );
    shows(
        &complaint("[stages.scale]", "[stages.scael]"),
        &["no stage is called `scael`", "did you mean `scale`?"],
    );
    shows(
        &complaint("total = \"total\"", "totals = \"total\""),
        &["stage `scale` has no input `totals`", "did you mean `total`?", "needs the input `total`"],
    );
    shows(
        &complaint("numbers = \"numbers\"", "numbers = \"number\""),
        &["no stage of this pipeline is called `number`", "did you mean `numbers`?", "toy.toml:6"],
    );
    shows(
        &complaint("name = \"toy\"", "name = \"toy\"\nstagse = 1"),
        &["`stagse` is not a key", "did you mean `stages`?"],
    );
}

#[test]
fn wrong_types_and_values_are_shown_where_they_stand() {
    shows(
        &complaint("count = 4", "count = \"four\""),
        &["`count` of `numbers`", "toy.toml:4:20", "invalid type"],
    );
    shows(&complaint("count = 4", "count = 0"), &["must be at least 1", "toy.toml:4:20"]);
    shows(
        &complaint("count = 4", "range = { order = \"fallign\" }"),
        &["unknown variant `fallign`", "did you mean `falling`?", "toy.toml:4"],
    );
    shows(&complaint("count = 4", "range = { lowst = 1 }"), &["`range.lowst`", "did you mean `lowest`?"]);
    shows(&complaint("schema = 1", "schema = 2"), &["this version reads `schema = 1`", "toy.toml:1"]);
    shows(&complaint("count = 4", "count = "), &["toy.toml:4"]);
    shows(
        &complaint("[stages.numbers]\n", "[stages.numbers]\nruntime = { thraeds = 1 }\n"),
        &["`thraeds` is not a setting", "did you mean `threads`?"],
    );
}

#[test]
fn a_mistake_in_the_common_runtime_is_reported_once_where_it_stands() {
    let text = complaint("[stages.numbers]", "[runtime]\nthraeds = 1\n[stages.numbers]");
    shows(&text, &["`thraeds` is not a setting of `runtime`", "toy.toml:4:1", "did you mean `threads`?"]);
    assert_eq!(text.matches("error:").count(), 1, "{text}");
}

#[test]
fn wires_must_fit_and_not_go_round() {
    shows(
        &complaint("total = \"total\"", "total = \"numbers\""),
        &["takes total, but `numbers` is of kind numbers", "toy.toml:8"],
    );
    shows(
        &complaint("config = { count = 4 }", "inputs = { again = \"scale\" }"),
        &["these stages wait for one another: numbers, total, scale", "toy.toml:3"],
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = FILE.replace("count = 4", "count = 0").replace("factor = 10", "factor = \"x\"");
    let problems = parse(&text, &[]).expect_err("mistakes");
    assert_eq!(problems.0.len(), 2, "{problems}");
}

#[test]
fn overrides_are_checked_like_the_file() {
    let error = parse(FILE, &["stages.numbres.config.count=1"]).expect_err("a slip").to_string();
    shows(&error, &["no stage `numbres`", "did you mean `numbers`?", "stages.numbres.config.count=1"]);
    let error = parse(FILE, &["stages.numbers.config.cuont=1"]).expect_err("a slip").to_string();
    shows(&error, &["`cuont` is not a setting", "did you mean `count`?"]);
    let error = parse(FILE, &["schema=2"]).expect_err("another format").to_string();
    shows(&error, &["this version reads `schema = 1`", "--set:1"]);
    let error = parse(FILE, &["stages.numbers.config.count=99999999999999999999"])
        .expect_err("too large")
        .to_string();
    shows(&error, &["an integer out of range", "--set:1:29"]);
    let pipeline = parse(FILE, &["stages.numbers.config.count=9"]).expect("valid");
    assert_eq!(pipeline.node("numbers").expect("there").config.full["count"], 9);
    assert_eq!(
        pipeline.config_place("numbers", "count").expect("set"),
        "--set stages.numbers.config.count=9"
    );
    assert_eq!(pipeline.config_place("numbers", "fail"), None);
}

#[test]
fn paths_are_relative_to_the_file_or_come_from_the_environment() {
    let parsed = |path: &str| {
        let source = format!("[sources.seed]\nkind = \"seed\"\npath = {path}\n[stages.numbers]");
        parse(&FILE.replace("[stages.numbers]", &source), &[])
    };
    let with = |path: &str| parsed(path).expect("valid").sources["seed"].path.clone();
    shows(&parsed("\"\"").expect_err("names no folder").to_string(), &["the path is empty"]);
    assert_eq!(with("\"x/y\"").expect("known"), "./x/y");
    assert_eq!(with("{ env = \"SEED_DIR\" }").expect("known"), "seeds");
    assert_eq!(with("{ env = \"NO_SUCH\" }").expect_err("unset").0, "NO_SUCH");
    assert_eq!(with("{ env = \"NO_SUCH\", default = \"z\" }").expect("known"), "./z");
}

#[test]
fn what_needs_a_stage_that_this_build_lacks_is_left_out() {
    let text = FILE.replace("[stages.total]", "[stages.total]\nstage = \"elsewhere\"");
    let from = plmicd_pipeline::file::PipelineText::Embedded { name: "toy.toml".to_owned(), text };
    let load = |registry| plmicd_pipeline::file::load(&from, &[], &registry, &Default::default());
    let pipeline = load(crate::toy::registry().absent("elsewhere")).expect("valid");
    let names: Vec<&str> = pipeline.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["numbers"]);
    assert_eq!(pipeline.left_out, ["total", "scale"]);
    shows(
        &load(crate::toy::registry()).expect_err("unknown").to_string(),
        &["no stage is called `elsewhere`"],
    );
}

#[test]
fn a_file_can_extend_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| camino::Utf8PathBuf::try_from(folder.path().join(name)).expect("UTF-8");
    fs_err::write(path("base.toml"), FILE).expect("written");
    let child =
        "schema = 1\nname = \"child\"\nextends = \"base.toml\"\n[stages.scale]\nconfig = { factor = 7 }\n";
    fs_err::write(path("child.toml"), child).expect("written");
    fs_err::write(path("circle.toml"), child.replace("base.toml", "circle.toml")).expect("written");
    let load = |name: &str| {
        let from = plmicd_pipeline::file::PipelineText::File(path(name));
        plmicd_pipeline::file::load(&from, &[], &crate::toy::registry(), &Default::default())
    };
    let pipeline = load("child.toml").expect("valid");
    assert_eq!((pipeline.name.as_str(), pipeline.nodes.len()), ("child", 3));
    assert_eq!(pipeline.node("scale").expect("there").config.full["factor"], 7);
    assert!(pipeline.config_place("numbers", "count").expect("set").ends_with("base.toml:4"));
    shows(&load("circle.toml").expect_err("a circle").to_string(), &["goes round in a circle"]);
    shows(&load("none.toml").expect_err("absent").to_string(), &["no pipeline file at"]);
}

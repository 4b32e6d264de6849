//! Three stages small enough to see through: `numbers` writes numbers, `scale` multiplies them, `total` adds
//! them up.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Store;
use plmicd_pipeline::diagnostic::Diagnostics;
use plmicd_pipeline::file::{PipelineText, load};
use plmicd_pipeline::pipeline::Pipeline;
use plmicd_pipeline::plan::{Decision, Plan, Selection, plan};
use plmicd_pipeline::run_node::{NodeError, Provenance, run_node};
use plmicd_pipeline::source::Sources;
use plmicd_pipeline::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NumbersConfig {
    pub count: u64,
    pub fail: bool,
    pub range: Range,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Range {
    pub lowest: i64,
    pub order: Order,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    #[default]
    Rising,
    Falling,
}

impl Default for Range {
    fn default() -> Self {
        Self { lowest: 1, order: Order::Rising }
    }
}

impl Default for NumbersConfig {
    fn default() -> Self {
        Self { count: 3, fail: false, range: Range::default() }
    }
}

pub struct Numbers;

impl Stage for Numbers {
    type Config = NumbersConfig;
    const NAME: &'static str = "numbers";
    const VERSION: u32 = 1;
    const OUTPUT: &'static str = "numbers";
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Numbers";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] =
            &[InputSpec::optional("seed", &["seed"]), InputSpec::optional("again", &["scaled"])];
        INPUTS
    }

    fn check(config: &NumbersConfig, _wired: &[&str]) -> Vec<ConfigIssue> {
        if config.count == 0 { vec![ConfigIssue::new("count", "must be at least 1")] } else { Vec::new() }
    }

    fn presets() -> &'static [Preset] {
        const PRESETS: &[Preset] = &[
            Preset {
                name: "many",
                summary: "Nine, falling",
                settings: "count = 9\nrange = { order = \"falling\" }",
            },
            Preset { name: "plain", summary: "The defaults", settings: "count = 3" },
            Preset { name: "none", summary: "No numbers", settings: "\ncount = 0" },
        ];
        PRESETS
    }

    fn run(config: &NumbersConfig, context: &StageContext<'_>) -> Result<(), StageError> {
        let last = config.range.lowest + config.count as i64;
        let mut numbers: Vec<i64> = (config.range.lowest..last).collect();
        if matches!(config.range.order, Order::Falling) {
            numbers.reverse();
        }
        write(context, "numbers.txt", &numbers)?;
        if config.fail {
            return Err(BadInput::new("numbers.txt", "expected better numbers").line(2).into());
        }
        context.check_interrupt()
    }
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TotalConfig {}

/// The sum does not depend on the order: where only that changes, what reads the total is cut off.
pub struct Total;

impl Stage for Total {
    type Config = TotalConfig;
    const NAME: &'static str = "total";
    const VERSION: u32 = 1;
    const OUTPUT: &'static str = "total";
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Their sum";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[InputSpec::required("numbers", &["numbers"])];
        INPUTS
    }

    fn run(_config: &TotalConfig, context: &StageContext<'_>) -> Result<(), StageError> {
        let numbers = read(context, "numbers", "numbers.txt")?;
        write(context, "total.txt", &[numbers.iter().sum()])
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleConfig {
    pub factor: i64,
}

impl Default for ScaleConfig {
    fn default() -> Self {
        Self { factor: 1 }
    }
}

pub struct Scale;

impl Stage for Scale {
    type Config = ScaleConfig;
    const NAME: &'static str = "scale";
    const VERSION: u32 = 1;
    const OUTPUT: &'static str = "scaled";
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "A multiple of the sum";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[InputSpec::required("total", &["total"])];
        INPUTS
    }

    fn run(config: &ScaleConfig, context: &StageContext<'_>) -> Result<(), StageError> {
        let total = read(context, "total", "total.txt")?;
        write(context, "scaled.txt", &[total[0] * config.factor])
    }
}

/// What a sweep collects: a line per member.
pub struct Table;

impl Stage for Table {
    type Config = TotalConfig;
    const NAME: &'static str = "table";
    const VERSION: u32 = 1;
    const OUTPUT: &'static str = "table";
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "A line per member";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[InputSpec::many("rows", &["scaled"])];
        INPUTS
    }

    fn run(_config: &TotalConfig, context: &StageContext<'_>) -> Result<(), StageError> {
        let mut lines = Vec::new();
        for (name, input) in context.inputs_of("rows") {
            lines.push(format!("{name} {}", fs_err::read_to_string(input.file("scaled.txt"))?));
        }
        Ok(fs_err::write(context.output_dir().join("table.txt"), lines.join("\n"))?)
    }
}

fn write(context: &StageContext<'_>, name: &str, numbers: &[i64]) -> Result<(), StageError> {
    let text: Vec<String> = numbers.iter().map(i64::to_string).collect();
    Ok(fs_err::write(context.output_dir().join(name), text.join("\n"))?)
}

fn read(context: &StageContext<'_>, input: &str, name: &str) -> Result<Vec<i64>, StageError> {
    let text = fs_err::read_to_string(context.input(input)?.file(name))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

fn seed_files(dir: &Utf8Path) -> Result<Vec<(String, Utf8PathBuf)>, BadInput> {
    let path = dir.join("seed.txt");
    if path.is_file() { Ok(vec![("seed.txt".to_owned(), path)]) } else { Err(BadInput::new(path, "missing")) }
}

pub fn registry() -> Registry {
    Registry::default().stage::<Numbers>().stage::<Total>().stage::<Scale>().stage::<Table>().source(
        SourceKind { name: "seed", restricted: true, help: "a folder with seed.txt", files: seed_files },
    )
}

pub const FILE: &str = r#"schema = 1
name = "toy"
[stages.numbers]
config = { count = 4 }
[stages.total]
inputs = { numbers = "numbers" }
[stages.scale]
inputs = { total = "total" }
config = { factor = 10 }
"#;

pub fn parse(text: &str, overrides: &[&str]) -> Result<Pipeline, Diagnostics> {
    let from = PipelineText::Embedded { name: "toy.toml".to_owned(), text: text.to_owned() };
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    let variables = BTreeMap::from([("SEED_DIR".to_owned(), "seeds".to_owned())]);
    load(&from, &overrides, &registry(), &variables)
}

/// A store in a temporary folder and what one does with it.
pub struct World {
    pub store: Store,
    pub registry: Registry,
    pub folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = Utf8PathBuf::try_from(folder.path().join("store")).expect("UTF-8");
        Self { store: Store::open(&root).expect("a store"), registry: registry(), folder }
    }

    pub fn plan(&self, pipeline: &Pipeline, force: &[&str]) -> Plan {
        let sources = Sources::new(pipeline, &self.store, &self.registry, &|_, _, _| {});
        let force = force.iter().map(|name| (*name).to_owned()).collect();
        let selection = Selection { until: None, force };
        plan(pipeline, &selection, &self.store, &self.registry, &sources).expect("a plan")
    }

    /// Runs one node here; whether it was there already.
    pub fn run(&self, pipeline: &Pipeline, node: &str, interrupt: &Interrupt) -> Result<bool, NodeError> {
        let sources = Sources::new(pipeline, &self.store, &self.registry, &|_, _, _| {});
        let plan = self.plan(pipeline, &[]);
        let planned = plan.get(node).expect("planned");
        let provenance = Provenance::default();
        run_node(
            pipeline,
            planned,
            &self.store,
            &self.registry,
            &sources,
            &NoEvents,
            interrupt,
            &provenance,
            None,
        )
        .map(|(_, cached)| cached)
    }

    /// Runs what has to run; the names of the nodes that ran.
    pub fn run_all(&self, pipeline: &Pipeline) -> Vec<String> {
        let nodes: Vec<String> = pipeline.nodes.iter().map(|node| node.name.clone()).collect();
        nodes
            .into_iter()
            .filter(|node| !self.run(pipeline, node, &Interrupt::default()).expect("runs"))
            .collect()
    }

    /// The text of a file of a node's output.
    pub fn output(&self, pipeline: &Pipeline, node: &str, file: &str) -> String {
        match &self.plan(pipeline, &[]).get(node).expect("planned").decision {
            Decision::Hit(record) => {
                let dir = self.store.object_dir(&record.kind, record.artifact);
                fs_err::read_to_string(dir.join(file)).expect("the file")
            }
            other => panic!("{node} has no output: {other:?}"),
        }
    }
}

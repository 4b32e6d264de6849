//! Laying the resolved pipelines of all cells over one another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::Utf8PathBuf;
use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::file::{config_problem, merge_values};
use crate::pipeline::{Node, Pipeline, Wire};
use crate::preset;
use crate::registry::{AnyStage, Registry};
use crate::stage::Runtime;
use crate::sweep::spec::Spec;
use crate::sweep::{Cell, Sweep, SweepCell};
use crate::tree::{Entry, Tree};

/// Bytes of the longest name of a node: the store makes links and logs of it.
const LONGEST_NAME: usize = 200;

/// One node or source of the expanded pipeline: where it first occurs, and in which cells it is the same.
struct Shared {
    file_name: String,
    cells: BTreeSet<usize>,
    name: String,
}

/// The numbers of a cell's sources or nodes, by their names in the file.
type Numbers<'p> = BTreeMap<&'p str, usize>;

/// Things that are the same in several cells, by what makes them the same.
#[derive(Default)]
struct Pool {
    found: Vec<Shared>,
    by_signature: BTreeMap<String, usize>,
}

impl Pool {
    /// The number of this thing, and whether it is new.
    fn add(&mut self, file_name: &str, signature: &Value, cell: usize) -> usize {
        let signature = format!("{file_name} {signature}");
        let next = self.found.len();
        let at = *self.by_signature.entry(signature).or_insert(next);
        if at == next {
            let file_name = file_name.to_owned();
            self.found.push(Shared { file_name, cells: BTreeSet::new(), name: String::new() });
        }
        self.found[at].cells.insert(cell);
        at
    }

    /// Names everything: as in the file where it is the same in all cells that have it, else with the choices that
    /// its cells have in common, and no others.
    fn name(&mut self, cells: &[Cell]) {
        let mut used = BTreeSet::new();
        for at in 0..self.found.len() {
            let file_name = self.found[at].file_name.clone();
            let alone = self.found.iter().filter(|shared| shared.file_name == file_name).count() == 1;
            let label = if alone { String::new() } else { label(&self.found[at].cells, cells) };
            let first = self.found[at].cells.first().map(|cell| cells[*cell].name()).unwrap_or_default();
            let candidates = [label, first.clone()].into_iter();
            let numbered = (2..).map(|number| format!("{first}~{number}"));
            let name = candidates
                .chain(numbered)
                .map(
                    |label| if label.is_empty() { file_name.clone() } else { format!("{file_name}@{label}") },
                )
                .find(|name| !used.contains(name))
                .unwrap_or_default();
            used.insert(name.clone());
            self.found[at].name = name;
        }
    }
}

/// The choices that some cells share and that set them apart from others.
fn label(own: &BTreeSet<usize>, cells: &[Cell]) -> String {
    let axes: BTreeSet<&str> =
        cells.iter().flat_map(|cell| cell.choices.iter().map(|(axis, _)| axis.as_str())).collect();
    let choice = |cell: &Cell, axis: &str| {
        cell.choices.iter().find(|(name, _)| name == axis).map(|(_, variant)| variant.clone())
    };
    let mut parts: Vec<(usize, String)> = Vec::new();
    for axis in axes {
        let mut values: Vec<Option<String>> = own.iter().map(|cell| choice(&cells[*cell], axis)).collect();
        values.dedup();
        if let [Some(variant)] = values.as_slice()
            && !cells.iter().all(|cell| choice(cell, axis).as_ref() == Some(variant))
        {
            let place = cells
                .iter()
                .find_map(|cell| cell.choices.iter().position(|(name, _)| name == axis))
                .unwrap_or_default();
            parts.push((place, variant.clone()));
        }
    }
    parts.sort();
    let mut names: Vec<String> = parts.into_iter().map(|(_, variant)| variant).collect();
    if names.is_empty() && own.iter().any(|cell| cells[*cell].choices.is_empty()) {
        names.push("base".to_owned());
    }
    let mut seeds: Vec<Option<i64>> = own.iter().map(|cell| cells[*cell].seed).collect();
    seeds.dedup();
    if let [Some(seed)] = seeds.as_slice()
        && cells.iter().any(|cell| cell.seed != Some(*seed))
    {
        names.push(format!("s{seed}"));
    }
    names.join("+")
}

/// One pipeline with the nodes of all cells; `pipelines[i]` is that of `cells[i]`. `runtime` is that of the file, for
/// what reads from all of them.
pub(crate) fn expand(
    spec: &Spec,
    cells: Vec<Cell>,
    pipelines: Vec<Pipeline>,
    runtime: &Value,
    registry: &Registry,
    file: Option<Utf8PathBuf>,
) -> Result<Pipeline, Diagnostics> {
    let (mut sources, mut nodes) = (Pool::default(), Pool::default());
    let mut of_cell: Vec<(Numbers<'_>, Numbers<'_>)> = Vec::new();
    for (index, pipeline) in pipelines.iter().enumerate() {
        let mut own_sources = BTreeMap::new();
        for (name, source) in &pipeline.sources {
            let path =
                source.path.as_ref().map_or_else(|missing| format!("${}", missing.0), ToString::to_string);
            let signature = json!([source.kind, path, source.restricted]);
            own_sources.insert(name.as_str(), sources.add(name, &signature, index));
        }
        let mut own_nodes: BTreeMap<&str, usize> = BTreeMap::new();
        // Every node comes after what it reads from.
        for node in &pipeline.nodes {
            let inputs: BTreeMap<&str, String> = node
                .inputs
                .iter()
                .map(|(slot, wire)| {
                    let from = match wire {
                        Wire::Source(name) => format!("source {:?}", own_sources.get(name.as_str())),
                        Wire::Node(name) => format!("node {:?}", own_nodes.get(name.as_str())),
                    };
                    (slot.as_str(), from)
                })
                .collect();
            let signature = json!([node.stage, node.config.hashed, inputs]);
            own_nodes.insert(node.name.as_str(), nodes.add(&node.name, &signature, index));
        }
        of_cell.push((own_sources, own_nodes));
    }
    sources.name(&cells);
    nodes.name(&cells);

    let mut expanded = Pipeline {
        name: pipelines.first().map(|pipeline| pipeline.name.clone()).unwrap_or_default(),
        file,
        sources: BTreeMap::new(),
        nodes: Vec::new(),
        left_out: pipelines.first().map(|pipeline| pipeline.left_out.clone()).unwrap_or_default(),
        sweep: None,
    };
    let mut done = BTreeSet::new();
    let mut sweep = Sweep { cells: Vec::new() };
    for ((pipeline, cell), (own_sources, own_nodes)) in pipelines.iter().zip(cells).zip(&of_cell) {
        for (name, source) in &pipeline.sources {
            let name = &sources.found[own_sources[name.as_str()]].name;
            let mut source = source.clone();
            source.name.clone_from(name);
            expanded.sources.insert(name.clone(), source);
        }
        let renamed = |wire: &Wire| match wire {
            Wire::Source(name) => Wire::Source(sources.found[own_sources[name.as_str()]].name.clone()),
            Wire::Node(name) => Wire::Node(nodes.found[own_nodes[name.as_str()]].name.clone()),
        };
        for node in &pipeline.nodes {
            let at = own_nodes[node.name.as_str()];
            if done.insert(at) {
                let inputs = node.inputs.iter().map(|(slot, wire)| (slot.clone(), renamed(wire))).collect();
                let name = nodes.found[at].name.clone();
                expanded.nodes.push(Node { name, inputs, ..node.clone() });
            }
        }
        let names = own_nodes.iter().map(|(name, at)| ((*name).to_owned(), nodes.found[*at].name.clone()));
        sweep.cells.push(SweepCell { cell, nodes: names.collect() });
    }
    let mut problems = Vec::new();
    problems.extend(too_long(&expanded, spec));
    for entry in &spec.collect {
        match collector(entry, &sweep, &expanded, runtime, registry) {
            Ok(Some(node)) => expanded.nodes.push(node),
            Ok(None) => expanded.left_out.push(entry.key.clone()),
            Err(problem) => problems.extend(problem),
        }
    }
    expanded.sweep = Some(sweep);
    if problems.is_empty() { Ok(expanded) } else { Err(Diagnostics(problems)) }
}

/// A complaint about the longest name, where it is too long.
fn too_long(expanded: &Pipeline, spec: &Spec) -> Option<Diagnostic> {
    let longest = expanded.nodes.iter().map(|node| node.name.as_str()).max_by_key(|name| name.len())?;
    let bytes = longest.len();
    let message = format!("the name `{longest}` has {bytes} bytes; at most {LONGEST_NAME} are possible");
    let problem = Diagnostic::at(message, &spec.origin).hint("give variants shorter names");
    (bytes > LONGEST_NAME).then_some(problem)
}

/// The node of `[sweep.collect.NAME]`: its inputs are wired to the named node of every cell. `None` where this build
/// lacks what it reads from.
fn collector(
    entry: &Entry,
    sweep: &Sweep,
    expanded: &Pipeline,
    runtime: &Value,
    registry: &Registry,
) -> Result<Option<Node>, Vec<Diagnostic>> {
    let problem = |message: String, origin| vec![Diagnostic::at(message, origin)];
    for key in entry.tree.entries().unwrap_or_default() {
        if !["stage", "inputs", "config", "runtime"].contains(&key.key.as_str()) {
            return Err(problem(format!("`{}` is not a key of a stage", key.key), &key.key_origin));
        }
    }
    if expanded.nodes.iter().any(|node| node.file_name == entry.key) {
        return Err(problem(format!("the pipeline has a stage `{}` already", entry.key), &entry.key_origin));
    }
    let stage_name = match entry.tree.get("stage").map(Tree::to_value) {
        Some(Value::String(name)) => name,
        _ => entry.key.clone(),
    };
    let Some(stage) = registry.find_stage(&stage_name) else {
        let names = registry.stages().map(AnyStage::name);
        let problem = Diagnostic::at(format!("no stage is called `{stage_name}`"), &entry.key_origin);
        return Err(vec![problem.did_you_mean(&stage_name, names)]);
    };
    let mut inputs = BTreeMap::new();
    let wires = entry.tree.get("inputs").and_then(Tree::entries).unwrap_or_default();
    for wire in wires {
        let Some(slot) = stage.inputs().iter().find(|slot| slot.name == wire.key && slot.many) else {
            let message = format!("stage `{stage_name}` has no input `{}` that takes many", wire.key);
            return Err(problem(message, &wire.key_origin));
        };
        let Value::String(from) = wire.tree.to_value() else {
            return Err(problem("expected the name of a stage in quotes".to_owned(), &wire.tree.origin));
        };
        if expanded.left_out.contains(&from) {
            return Ok(None);
        }
        let kind = expanded
            .nodes
            .iter()
            .find(|node| node.file_name == from)
            .and_then(|node| registry.find_stage(&node.stage))
            .map(AnyStage::output);
        match kind {
            None => {
                let names: BTreeSet<&str> =
                    expanded.nodes.iter().map(|node| node.file_name.as_str()).collect();
                let message = format!("no stage of this pipeline is called `{from}`");
                let problem = Diagnostic::at(message, &wire.tree.origin);
                return Err(vec![problem.did_you_mean(&from, names.into_iter())]);
            }
            Some(kind) if !slot.kinds.contains(&kind) => {
                let takes = slot.kinds.join(" or ");
                let message = format!(
                    "input `{}` of stage `{stage_name}` takes {takes}, but `{from}` is of kind {kind}",
                    wire.key
                );
                return Err(problem(message, &wire.tree.origin));
            }
            Some(_) => {}
        }
        for cell in &sweep.cells {
            if let Some(node) = cell.nodes.get(&from) {
                inputs.insert(slot.member(&cell.cell.name()), Wire::Node(node.clone()));
            }
        }
    }
    let missing =
        stage.inputs().iter().find(|slot| slot.required && !wires.iter().any(|wire| wire.key == slot.name));
    if let Some(slot) = missing {
        let message = format!("stage `{stage_name}` needs the input `{}`", slot.name);
        return Err(problem(message, &entry.key_origin));
    }
    // The members as well: a stage may name them in its config.
    let wired: Vec<&str> =
        wires.iter().map(|wire| wire.key.as_str()).chain(inputs.keys().map(String::as_str)).collect();
    let mut own = entry.tree.clone();
    preset::expand(stage, &mut own).map_err(|problem| vec![*problem])?;
    let (settings, preset) = preset::settings(stage, &own);
    let config = stage.check(&settings, &wired).map_err(|issues| {
        issues.iter().map(|issue| config_problem(&own, &entry.key, issue, "config")).collect::<Vec<_>>()
    })?;
    let mut runtime = runtime.clone();
    if let Some(own) = own.get("runtime") {
        merge_values(&mut runtime, own.to_value());
    }
    let runtime: Runtime = serde_json::from_value(runtime)
        .map_err(|error| problem(format!("`runtime` of `{}`: {error}", entry.key), &entry.key_origin))?;
    let tree = Arc::new(Tree::table(vec![("stages", Tree::table(vec![(&entry.key, own)]))]));
    Ok(Some(Node {
        name: entry.key.clone(),
        file_name: entry.key.clone(),
        stage: stage_name,
        inputs,
        config,
        preset,
        runtime,
        tree,
    }))
}

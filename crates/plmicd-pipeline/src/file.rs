//! Reading pipeline files: layers, checks, and complaints that point at the line at fault.
//!
//! Layers, later over earlier: stage defaults, the preset, the `extends` chain, the file, `--set path=value`.
//! There is no interpolation and there are no expressions. The environment enters at one place only: the path
//! of a source, `path = { env = "MIMIC3_DIR" }`.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::pipeline::{MissingVariable, Node, Pipeline, PipelineSource, Wire};
use crate::preset;
use crate::registry::{AnyStage, Registry};
use crate::stage::{ConfigIssue, Runtime};
use crate::sweep::{self, Spec};
use crate::tree::{Entry, Source, Tree};

/// The `schema = 1` that this version reads.
const SCHEMA: i64 = 1;
const TOP_KEYS: [&str; 7] = ["schema", "name", "extends", "runtime", "sources", "stages", "sweep"];
const SOURCE_KEYS: [&str; 3] = ["kind", "path", "restricted"];
const STAGE_KEYS: [&str; 4] = ["stage", "inputs", "config", "runtime"];
/// Longer `extends` chains are taken for a circle.
const MAX_EXTENDS: usize = 16;

/// Where a pipeline comes from.
#[derive(Clone, Debug)]
pub enum PipelineText {
    /// A file.
    File(Utf8PathBuf),
    /// A text inside the program, with the name to show for it.
    Embedded {
        /// Shown in errors.
        name: String,
        /// TOML.
        text: String,
    },
}

/// Reads, layers and checks a pipeline. `variables` is what the environment holds: the library never reads it.
pub fn load(
    from: &PipelineText,
    overrides: &[String],
    registry: &Registry,
    variables: &BTreeMap<String, String>,
) -> Result<Pipeline, Diagnostics> {
    let mut tree = read_layers(from)?;
    let mut upper = Vec::new();
    for argument in overrides {
        let mut layer = Tree::from_override(argument)?;
        if let Some(sweep) = layer.remove("sweep") {
            // The sweep itself may be changed, such as `--set sweep.seeds=[1]`.
            tree.merge(Tree::table(vec![("sweep", sweep.tree)]));
        } else {
            upper.push(layer);
        }
    }
    let file = match from {
        PipelineText::File(path) => Some(path.clone()),
        PipelineText::Embedded { .. } => None,
    };
    match tree.remove("sweep") {
        None => resolve(tree, &upper, registry, variables, file),
        Some(sweep) => load_sweep(&tree, &sweep, &upper, registry, variables, file),
    }
}

/// One pipeline: `--set` over the file, then all checks.
fn resolve(
    mut tree: Tree,
    upper: &[Tree],
    registry: &Registry,
    variables: &BTreeMap<String, String>,
    file: Option<Utf8PathBuf>,
) -> Result<Pipeline, Diagnostics> {
    for layer in upper {
        check_override(&tree, layer)?;
        tree.merge(layer.clone());
    }
    check_schema(&tree)?;
    let problems = preset::expand_all(&mut tree, registry);
    let tree = Arc::new(tree);
    Resolver { registry, variables, tree: &tree, problems }.resolve(file)
}

/// Every cell of a sweep as a pipeline of its own, then all of them as one.
fn load_sweep(
    base: &Tree,
    sweep: &Entry,
    upper: &[Tree],
    registry: &Registry,
    variables: &BTreeMap<String, String>,
    file: Option<Utf8PathBuf>,
) -> Result<Pipeline, Diagnostics> {
    let spec = Spec::read(sweep)?;
    let cells = sweep::cells(&spec)?;
    let mut pipelines = Vec::with_capacity(cells.len());
    let mut problems: Vec<Diagnostic> = Vec::new();
    for cell in &cells {
        let tree = sweep::tree_of(base, &spec, cell)?;
        match resolve(tree, upper, registry, variables, file.clone()) {
            Ok(pipeline) => pipelines.push(pipeline),
            Err(Diagnostics(found)) => {
                // A mistake of the base is one of every cell.
                let fresh = |problem: &Diagnostic| problems.iter().all(|known| !known.is_same(problem));
                let found: Vec<Diagnostic> = found.into_iter().filter(fresh).collect();
                problems.extend(found);
            }
        }
    }
    if !problems.is_empty() {
        return Err(Diagnostics(problems));
    }
    // What reads from every cell runs as the file says, whatever a variant changes.
    let mut tree = base.clone();
    upper.iter().for_each(|layer| tree.merge(layer.clone()));
    let runtime = tree.get("runtime").map_or_else(|| Value::Object(Default::default()), Tree::to_value);
    sweep::expand(&spec, cells, pipelines, &runtime, registry, file)
}

fn read_layers(from: &PipelineText) -> Result<Tree, Diagnostics> {
    let mut source = match from {
        PipelineText::File(path) => read_source(path, None)?,
        PipelineText::Embedded { name, text } => {
            Source { name: name.clone(), text: text.clone(), base: Some(Utf8PathBuf::from(".")) }
        }
    };
    let mut chain: Vec<Tree> = Vec::new();
    loop {
        let base = source.base.clone().unwrap_or_default();
        let tree = Tree::parse(Arc::new(source))?;
        check_schema(&tree)?;
        let Some(extends) = tree.entry("extends") else {
            chain.push(tree);
            break;
        };
        let Value::String(name) = extends.tree.to_value() else {
            return Err(
                Diagnostic::at("`extends` is the path of one pipeline file", &extends.tree.origin).into()
            );
        };
        if chain.len() >= MAX_EXTENDS {
            return Err(Diagnostic::at("`extends` goes round in a circle", &extends.tree.origin).into());
        }
        let origin = extends.tree.origin.clone();
        chain.push(tree);
        source = read_source(&base.join(name), Some(&origin))?;
    }
    let mut layers = chain.into_iter().rev();
    let Some(mut tree) = layers.next() else { return Err(Diagnostic::new("no pipeline").into()) };
    for layer in layers {
        tree.merge(layer);
    }
    Ok(tree)
}

fn read_source(path: &Utf8Path, named_at: Option<&crate::tree::Origin>) -> Result<Source, Diagnostics> {
    let text = fs_err::read_to_string(path).map_err(|error| {
        let message = if error.kind() == std::io::ErrorKind::NotFound {
            format!("no pipeline file at {path}")
        } else {
            error.to_string()
        };
        match named_at {
            Some(origin) => Diagnostic::at(message, origin),
            None => Diagnostic::new(message),
        }
    })?;
    let base = path.parent().map(Utf8Path::to_path_buf);
    Ok(Source { name: path.to_string(), text, base: Some(base.unwrap_or_default()) })
}

fn check_schema(tree: &Tree) -> Result<(), Diagnostics> {
    match tree.get("schema") {
        None => Err(Diagnostic::at("`schema = 1` is missing", &tree.origin).into()),
        Some(schema) if schema.to_value() == SCHEMA => Ok(()),
        Some(schema) => Err(Diagnostic::at("this version reads `schema = 1`", &schema.origin).into()),
    }
}

/// `--set` may not invent a source or a stage: a slip there would otherwise be an error about what is missing.
fn check_override(tree: &Tree, upper: &Tree) -> Result<(), Diagnostics> {
    for section in ["sources", "stages"] {
        let Some(entries) = upper.get(section).and_then(Tree::entries) else { continue };
        for entry in entries {
            let known = tree.get(section).and_then(Tree::entries).unwrap_or_default();
            if !known.iter().any(|e| e.key == entry.key) {
                let what = section.trim_end_matches('s');
                return Err(Diagnostic::at(
                    format!("the pipeline has no {what} `{}`", entry.key),
                    &entry.key_origin,
                )
                .did_you_mean(&entry.key, known.iter().map(|e| e.key.as_str()))
                .into());
            }
        }
    }
    Ok(())
}

struct Resolver<'a> {
    registry: &'a Registry,
    variables: &'a BTreeMap<String, String>,
    tree: &'a Arc<Tree>,
    problems: Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn resolve(mut self, file: Option<Utf8PathBuf>) -> Result<Pipeline, Diagnostics> {
        let tree = self.tree;
        self.unknown_keys(tree, &TOP_KEYS, "a pipeline file");
        let name = self.name(tree);
        let mut runtime = Value::Object(Default::default());
        if let Some(own) = tree.get("runtime")
            && self.runtime(tree, "runtime", &own.to_value()).is_some()
        {
            runtime = own.to_value();
        }
        let sources: BTreeMap<String, PipelineSource> = self
            .table(tree, "sources")
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), self.source(entry)?)))
            .collect();
        let entries = self.table(tree, "stages");
        if entries.is_empty() && self.problems.is_empty() {
            self.problems.push(Diagnostic::at("a pipeline needs at least one `[stages.…]`", &tree.origin));
        }
        let left_out = self.left_out(entries);
        let nodes: Vec<Node> = entries
            .iter()
            .filter(|entry| !left_out.contains(&entry.key))
            .filter_map(|entry| self.node(entry, entries, &runtime))
            .collect();
        if self.problems.is_empty() {
            self.check_kinds(&nodes, &sources);
        }
        let nodes = if self.problems.is_empty() { self.order(nodes, entries) } else { nodes };
        if self.problems.is_empty() {
            Ok(Pipeline { name, file, sources, nodes, left_out, sweep: None })
        } else {
            Err(Diagnostics(self.problems))
        }
    }

    fn name(&mut self, tree: &Tree) -> String {
        match tree.get("name") {
            Some(name) => match name.to_value() {
                Value::String(text) if is_name(&text) => text,
                _ => {
                    self.problems
                        .push(Diagnostic::at("`name` is made of a-z, 0-9, `-` and `_`", &name.origin));
                    String::new()
                }
            },
            None => {
                self.problems.push(Diagnostic::at("`name = \"…\"` is missing", &tree.origin));
                String::new()
            }
        }
    }

    /// The entries of a section, each checked to be a table with a proper name.
    fn table<'t>(&mut self, tree: &'t Tree, section: &str) -> &'t [Entry] {
        let Some(section_tree) = tree.get(section) else { return &[] };
        let Some(entries) = section_tree.entries() else {
            self.problems
                .push(Diagnostic::at(format!("`{section}` is a table of tables"), &section_tree.origin));
            return &[];
        };
        for entry in entries {
            if !is_name(&entry.key) {
                self.problems
                    .push(Diagnostic::at("a name is made of a-z, 0-9, `-` and `_`", &entry.key_origin));
            }
            if entry.tree.entries().is_none() {
                self.problems.push(Diagnostic::at(
                    format!("`{section}.{}` is a table", entry.key),
                    &entry.tree.origin,
                ));
            }
        }
        entries
    }

    fn unknown_keys(&mut self, tree: &Tree, known: &[&str], place: &str) {
        for entry in tree.entries().unwrap_or_default() {
            if !known.contains(&entry.key.as_str()) {
                let message = format!("`{}` is not a key of {place}", entry.key);
                self.problems.push(
                    Diagnostic::at(message, &entry.key_origin)
                        .did_you_mean(&entry.key, known.iter().copied()),
                );
            }
        }
    }

    fn source(&mut self, entry: &Entry) -> Option<PipelineSource> {
        entry.tree.entries()?;
        self.unknown_keys(&entry.tree, &SOURCE_KEYS, "a source");
        let kind_tree = self.required(&entry.tree, entry, "kind")?;
        let kind = self.string(kind_tree)?;
        let Some(known) = self.registry.find_source(&kind) else {
            let names = self.registry.sources().iter().map(|k| k.name);
            let message = format!("no kind of source is called `{kind}`");
            self.problems.push(Diagnostic::at(message, &kind_tree.origin).did_you_mean(&kind, names));
            return None;
        };
        let path_tree = self.required(&entry.tree, entry, "path")?;
        let path = self.path(path_tree)?;
        let restricted = match entry.tree.get("restricted") {
            None => known.restricted,
            Some(tree) => match tree.to_value() {
                Value::Bool(flag) => flag,
                _ => {
                    self.problems.push(Diagnostic::at("`restricted` is true or false", &tree.origin));
                    return None;
                }
            },
        };
        Some(PipelineSource { name: entry.key.clone(), kind, path, restricted })
    }

    /// A path: relative to the file that names it, or to the working directory where it comes from the
    /// environment or from `--set`.
    fn path(&mut self, tree: &Tree) -> Option<Result<Utf8PathBuf, MissingVariable>> {
        if let Some(env) = tree.get("env") {
            self.unknown_keys(tree, &["env", "default"], "a path from the environment");
            let variable = self.string(env)?;
            return match (self.variables.get(&variable), tree.get("default")) {
                (Some(value), _) if !value.is_empty() => Some(Ok(Utf8PathBuf::from(value))),
                (_, Some(default)) => self.path(default),
                _ => Some(Err(MissingVariable(variable))),
            };
        }
        let text = self.string(tree)?;
        if text.is_empty() {
            self.problems.push(Diagnostic::at("the path is empty", &tree.origin));
            return None;
        }
        let base = tree.origin.source.base.clone();
        Some(Ok(base.map_or_else(|| Utf8PathBuf::from(&text), |base| base.join(&text))))
    }

    fn required<'t>(&mut self, tree: &'t Tree, entry: &Entry, key: &str) -> Option<&'t Tree> {
        let found = tree.get(key);
        if found.is_none() {
            self.problems.push(Diagnostic::at(format!("`{}` has no `{key}`", entry.key), &entry.key_origin));
        }
        found
    }

    fn string(&mut self, tree: &Tree) -> Option<String> {
        match tree.to_value() {
            Value::String(text) => Some(text),
            _ => {
                self.problems.push(Diagnostic::at("expected a text in quotes", &tree.origin));
                None
            }
        }
    }

    fn node(&mut self, entry: &Entry, all: &[Entry], runtime: &Value) -> Option<Node> {
        entry.tree.entries()?;
        self.unknown_keys(&entry.tree, &STAGE_KEYS, "a stage");
        let (stage_name, origin) = match entry.tree.get("stage") {
            Some(tree) => (self.string(tree)?, &tree.origin),
            None => (entry.key.clone(), &entry.key_origin),
        };
        let Some(stage) = self.registry.find_stage(&stage_name) else {
            let names = self.registry.stages().map(AnyStage::name);
            let message = format!("no stage is called `{stage_name}`");
            self.problems.push(Diagnostic::at(message, origin).did_you_mean(&stage_name, names));
            return None;
        };
        let inputs = self.inputs(entry, stage, all);
        let wired: Vec<&str> = inputs.keys().map(String::as_str).collect();
        let (config, preset) = preset::settings(stage, &entry.tree);
        let config = match stage.check(&config, &wired) {
            Ok(config) => Some(config),
            Err(issues) => {
                for issue in issues {
                    self.problems.push(config_problem(&entry.tree, &entry.key, &issue, "config"));
                }
                None
            }
        };
        let mut settings = runtime.clone();
        if let Some(own) = entry.tree.get("runtime") {
            merge_values(&mut settings, own.to_value());
        }
        let runtime = self.runtime(&entry.tree, &entry.key, &settings);
        Some(Node {
            name: entry.key.clone(),
            file_name: entry.key.clone(),
            stage: stage_name,
            inputs,
            config: config?,
            preset,
            runtime: runtime?,
            tree: Arc::clone(self.tree),
        })
    }

    /// Nodes whose stage this build lacks, and all that read from them, directly or not.
    fn left_out(&self, entries: &[Entry]) -> Vec<String> {
        let text = |tree: Option<&Tree>| match tree.map(Tree::to_value) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let mut out: Vec<String> = Vec::new();
        loop {
            let next = entries.iter().find(|entry| {
                let stage = text(entry.tree.get("stage")).unwrap_or_else(|| entry.key.clone());
                let wires = entry.tree.get("inputs").and_then(Tree::entries).unwrap_or_default();
                let reads =
                    wires.iter().any(|wire| text(Some(&wire.tree)).is_some_and(|from| out.contains(&from)));
                !out.contains(&entry.key) && (self.registry.is_absent(&stage) || reads)
            });
            match next {
                Some(entry) => out.push(entry.key.clone()),
                None => return out,
            }
        }
    }

    /// The machine settings of `holder`, which `name` stands for in complaints.
    fn runtime(&mut self, holder: &Tree, name: &str, settings: &Value) -> Option<Runtime> {
        match serde_path_to_error::deserialize::<_, Runtime>(settings) {
            Ok(runtime) => Some(runtime),
            Err(error) => {
                let message = crate::registry::plain(&error.inner().to_string());
                let issue = ConfigIssue::new(error.path().to_string(), message);
                self.problems.push(config_problem(holder, name, &issue, "runtime"));
                None
            }
        }
    }

    fn inputs(&mut self, entry: &Entry, stage: &dyn AnyStage, all: &[Entry]) -> BTreeMap<String, Wire> {
        let mut wires = BTreeMap::new();
        let inputs = entry.tree.get("inputs");
        for wire in inputs.and_then(Tree::entries).unwrap_or_default() {
            if !stage.inputs().iter().any(|slot| slot.name == wire.key) {
                let message = format!("stage `{}` has no input `{}`", stage.name(), wire.key);
                let names = stage.inputs().iter().map(|slot| slot.name);
                self.problems.push(Diagnostic::at(message, &wire.key_origin).did_you_mean(&wire.key, names));
                continue;
            }
            if wire.tree.to_value() == Value::Bool(false) {
                // How a variant takes away a wire of its base.
                continue;
            }
            match wire.tree.entries() {
                Some(members) if stage.inputs().iter().any(|slot| slot.name == wire.key && slot.many) => {
                    for member in members {
                        if let Some(target) = self.wire(&member.tree, all) {
                            wires.insert(format!("{}/{}", wire.key, member.key), target);
                        }
                    }
                }
                _ => {
                    if let Some(target) = self.wire(&wire.tree, all) {
                        wires.insert(wire.key.clone(), target);
                    }
                }
            }
        }
        for slot in stage.inputs().iter().filter(|slot| slot.required) {
            let named = inputs
                .and_then(|tree| tree.get(slot.name))
                .is_some_and(|wire| wire.to_value() != Value::Bool(false));
            if !named {
                let origin = inputs.map_or(&entry.key_origin, |tree| &tree.origin);
                let message = format!(
                    "stage `{}` needs the input `{}` (kind {})",
                    stage.name(),
                    slot.name,
                    slot.kinds.join(" or ")
                );
                let hint = format!("write inputs = {{ {} = \"…\" }}", slot.name);
                self.problems.push(Diagnostic::at(message, origin).hint(hint));
            }
        }
        wires
    }

    /// What one wire leads to.
    fn wire(&mut self, tree: &Tree, all: &[Entry]) -> Option<Wire> {
        let text = self.string(tree)?;
        if let Some(source) = text.strip_prefix("sources.") {
            return Some(Wire::Source(source.to_owned()));
        }
        if all.iter().any(|entry| entry.key == text) {
            return Some(Wire::Node(text));
        }
        let message = format!("no stage of this pipeline is called `{text}`");
        let names = all.iter().map(|entry| entry.key.as_str());
        self.problems.push(Diagnostic::at(message, &tree.origin).did_you_mean(&text, names));
        None
    }

    fn check_kinds(&mut self, nodes: &[Node], sources: &BTreeMap<String, PipelineSource>) {
        for node in nodes {
            let Some(stage) = self.registry.find_stage(&node.stage) else { continue };
            for (slot_name, wire) in &node.inputs {
                let path = slot_name.replace('/', ".");
                let origin = self.tree.locate(&format!("stages.{}.inputs.{path}", node.name)).0;
                let kind = match wire {
                    Wire::Source(name) => match sources.get(name) {
                        Some(source) => source.kind.as_str(),
                        None => {
                            let message = format!("no source of this pipeline is called `{name}`");
                            let names = sources.keys().map(String::as_str);
                            self.problems.push(Diagnostic::at(message, origin).did_you_mean(name, names));
                            continue;
                        }
                    },
                    Wire::Node(name) => {
                        let upstream = nodes.iter().find(|n| &n.name == name);
                        match upstream.and_then(|n| self.registry.find_stage(&n.stage)) {
                            Some(stage) => stage.output(),
                            None => continue,
                        }
                    }
                };
                let Some(slot) = stage
                    .inputs()
                    .iter()
                    .find(|slot| slot.name == slot_name.split('/').next().unwrap_or_default())
                else {
                    continue;
                };
                if !slot.kinds.contains(&kind) {
                    let message = format!(
                        "input `{slot_name}` of stage `{}` takes {}, but `{wire}` is of kind {kind}",
                        stage.name(),
                        slot.kinds.join(" or "),
                    );
                    self.problems.push(Diagnostic::at(message, origin));
                }
            }
        }
    }

    /// Nodes in running order; what the file writes first comes first where there is a choice.
    fn order(&mut self, nodes: Vec<Node>, entries: &[Entry]) -> Vec<Node> {
        let mut waiting = nodes;
        let mut ordered: Vec<Node> = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let ready = waiting
                .iter()
                .position(|node| node.upstream().all(|up| ordered.iter().any(|done| done.name == up)));
            match ready {
                Some(at) => ordered.push(waiting.remove(at)),
                None => {
                    let names: Vec<&str> = waiting.iter().map(|node| node.name.as_str()).collect();
                    let message = format!("these stages wait for one another: {}", names.join(", "));
                    let origin = entries.iter().find(|e| e.key == names[0]).map(|e| &e.key_origin);
                    self.problems.push(match origin {
                        Some(origin) => Diagnostic::at(message, origin),
                        None => Diagnostic::new(message),
                    });
                    break;
                }
            }
        }
        ordered
    }
}

/// A complaint of a config type, placed at the value (or the key, where the key is what is wrong).
pub(crate) fn config_problem(tree: &Tree, node: &str, issue: &ConfigIssue, section: &str) -> Diagnostic {
    let unknown = issue.message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    if let Some((field, rest)) = unknown {
        let parent = issue.path.strip_suffix(field).unwrap_or(&issue.path).trim_end_matches('.');
        let full = if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") };
        let table = tree.get(section).and_then(|t| {
            parent.split('.').filter(|key| !key.is_empty()).try_fold(t, |here, key| here.get(key))
        });
        let origin = table.and_then(|t| t.entry(field)).map(|e| &e.key_origin).unwrap_or(&tree.origin);
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return Diagnostic::at(format!("`{full}` is not a setting of `{node}`"), origin)
            .label("unknown setting")
            .did_you_mean(field, known.into_iter());
    }
    let (origin, found) = match tree.get(section) {
        Some(config) => config.locate(&issue.path),
        None => (&tree.origin, false),
    };
    let message = match issue.path.as_str() {
        "" => format!("`{node}`: {}", issue.message),
        path => format!("`{path}` of `{node}`: {}", issue.message),
    };
    let diagnostic = Diagnostic::at(message, origin);
    if let Some((got, rest)) =
        issue.message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once('`'))
    {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return diagnostic.did_you_mean(got, known.into_iter());
    }
    if found || issue.path.is_empty() { diagnostic } else { diagnostic.label("its value is the default") }
}

pub(crate) fn merge_values(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge_values(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

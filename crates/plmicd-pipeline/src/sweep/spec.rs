//! `[sweep]` of a pipeline file, checked.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::tree::{Entry, Origin, Tree};

const SWEEP_KEYS: [&str; 7] = ["mode", "axes", "seeds", "seed_paths", "include", "exclude", "collect"];
/// What a variant may change.
const VARIANT_KEYS: [&str; 3] = ["stages", "sources", "runtime"];
/// Where seeds go unless the file says otherwise.
const SEED_PATH: &str = "stages.finetune.config.seed";

/// How axes make cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The base, and each variant of each axis alone.
    Ablation,
    /// Every combination of one variant of each axis.
    Grid,
    /// The combinations under `include`, and no others.
    List,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// In the order of the file.
    pub variants: Vec<Variant>,
}

/// A named set of changes.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Unique among the variants of all axes.
    pub name: String,
    /// The changes, laid over the base.
    pub changes: Tree,
}

/// Axis to variant; axes left out stay at the base.
pub type Combination = BTreeMap<String, String>;

/// A sweep as written.
#[derive(Clone, Debug)]
pub struct Spec {
    /// How axes make cells.
    pub mode: Mode,
    /// In the order of the file.
    pub axes: Vec<Axis>,
    /// Replicates; empty for one run per cell with the seed of the base.
    pub seeds: Vec<i64>,
    /// The settings that a seed is written to.
    pub seed_paths: Vec<String>,
    /// Further cells.
    pub include: Vec<Combination>,
    /// Patterns of cells to leave out.
    pub exclude: Vec<Combination>,
    /// Stages that read from every cell.
    pub collect: Vec<Entry>,
    /// Where the sweep is written.
    pub origin: Origin,
}

impl Spec {
    /// Reads the `[sweep]` table of a file.
    pub fn read(sweep: &Entry) -> Result<Spec, Diagnostics> {
        let mut reader = Reader { problems: Vec::new() };
        let spec = reader.spec(sweep);
        if reader.problems.is_empty() { Ok(spec) } else { Err(Diagnostics(reader.problems)) }
    }

    /// The axis of this name.
    pub fn axis(&self, name: &str) -> Option<&Axis> {
        self.axes.iter().find(|axis| axis.name == name)
    }
}

struct Reader {
    problems: Vec<Diagnostic>,
}

impl Reader {
    fn problem(&mut self, message: impl Into<String>, origin: &Origin) {
        self.problems.push(Diagnostic::at(message, origin));
    }

    fn spec(&mut self, sweep: &Entry) -> Spec {
        let tree = &sweep.tree;
        for entry in tree.entries().unwrap_or_default() {
            if !SWEEP_KEYS.contains(&entry.key.as_str()) {
                let message = format!("`{}` is not a key of a sweep", entry.key);
                let problem = Diagnostic::at(message, &entry.key_origin);
                self.problems.push(problem.did_you_mean(&entry.key, SWEEP_KEYS.into_iter()));
            }
        }
        let axes = self.axes(tree);
        let mode = self.mode(tree, &sweep.key_origin);
        let include = self.combinations(tree, "include", &axes);
        let exclude = self.combinations(tree, "exclude", &axes);
        if mode == Mode::List && include.is_empty() {
            self.problem(
                "a sweep in mode \"list\" runs what `include` lists, and that is nothing",
                &tree.origin,
            );
        }
        if mode != Mode::List && axes.is_empty() && include.is_empty() {
            self.problem("a sweep needs at least one `[sweep.axes.AXIS.VARIANT]`", &tree.origin);
        }
        Spec {
            mode,
            axes,
            seeds: self.seeds(tree),
            seed_paths: self.seed_paths(tree),
            include,
            exclude,
            collect: self.collect(tree),
            origin: tree.origin.clone(),
        }
    }

    fn mode(&mut self, tree: &Tree, origin: &Origin) -> Mode {
        let Some(mode) = tree.get("mode") else {
            self.problem("a sweep needs `mode = \"ablation\"`, `\"grid\"` or `\"list\"`", origin);
            return Mode::Ablation;
        };
        match mode.to_value().as_str() {
            Some("ablation") => Mode::Ablation,
            Some("grid") => Mode::Grid,
            Some("list") => Mode::List,
            _ => {
                self.problem("`mode` is \"ablation\", \"grid\" or \"list\"", &mode.origin);
                Mode::Ablation
            }
        }
    }

    fn axes(&mut self, tree: &Tree) -> Vec<Axis> {
        let mut axes: Vec<Axis> = Vec::new();
        let Some(table) = tree.get("axes") else { return axes };
        for entry in self.tables(table, "axes") {
            let mut variants: Vec<Variant> = Vec::new();
            for variant in self.tables(&entry.tree, &entry.key) {
                self.changes(variant);
                if axes.iter().flat_map(|axis| &axis.variants).any(|other| other.name == variant.key) {
                    let message = format!("another axis has a variant `{}` already", variant.key);
                    self.problem(message, &variant.key_origin);
                }
                variants.push(Variant { name: variant.key.clone(), changes: variant.tree.clone() });
            }
            if variants.is_empty() {
                self.problem(format!("axis `{}` has no variant", entry.key), &entry.key_origin);
            }
            axes.push(Axis { name: entry.key.clone(), variants });
        }
        axes
    }

    fn collect(&mut self, tree: &Tree) -> Vec<Entry> {
        let Some(table) = tree.get("collect") else { return Vec::new() };
        let Some(entries) = table.entries() else {
            self.problem("`collect` is a table of tables", &table.origin);
            return Vec::new();
        };
        for entry in entries {
            // Unlike a variant, a stage may well be called `base` or `s1`.
            if !crate::file::is_name(&entry.key) {
                self.problem("a name is made of a-z, 0-9, `-` and `_`", &entry.key_origin);
            } else if entry.tree.entries().is_none() {
                self.problem(format!("`{}` is a table", entry.key), &entry.tree.origin);
            }
        }
        entries.to_vec()
    }

    /// The entries of a table of tables with proper names.
    fn tables<'t>(&mut self, table: &'t Tree, name: &str) -> Vec<&'t Entry> {
        let Some(entries) = table.entries() else {
            self.problem(format!("`{name}` is a table of tables"), &table.origin);
            return Vec::new();
        };
        let mut proper = Vec::new();
        for entry in entries {
            if !crate::file::is_name(&entry.key) {
                self.problem("a name is made of a-z, 0-9, `-` and `_`", &entry.key_origin);
            } else if entry.key == "base" {
                self.problem("`base` stands for the file without changes", &entry.key_origin);
            } else if entry.key.strip_prefix('s').is_some_and(|rest| rest.parse::<u64>().is_ok()) {
                self.problem("names such as `s1` stand for seeds", &entry.key_origin);
            } else if entry.tree.entries().is_none() {
                self.problem(format!("`{}` is a table", entry.key), &entry.tree.origin);
            } else {
                proper.push(entry);
            }
        }
        proper
    }

    fn changes(&mut self, variant: &Entry) {
        for entry in variant.tree.entries().unwrap_or_default() {
            if !VARIANT_KEYS.contains(&entry.key.as_str()) {
                let message = format!("`{}` is not what a variant can change", entry.key);
                let problem = Diagnostic::at(message, &entry.key_origin)
                    .hint("write, for example, stages.finetune.config.epochs = 3");
                self.problems.push(problem);
            }
        }
    }

    fn seeds(&mut self, tree: &Tree) -> Vec<i64> {
        let Some(seeds) = tree.get("seeds") else { return Vec::new() };
        let list: Option<Vec<i64>> = match seeds.to_value() {
            Value::Array(items) => items.iter().map(|item| item.as_i64().filter(|seed| *seed >= 0)).collect(),
            _ => None,
        };
        let Some(list) = list else {
            self.problem("`seeds` is a list of whole numbers from 0 on", &seeds.origin);
            return Vec::new();
        };
        if (1..list.len()).any(|at| list[..at].contains(&list[at])) {
            self.problem("`seeds` names a seed twice", &seeds.origin);
        }
        list
    }

    fn seed_paths(&mut self, tree: &Tree) -> Vec<String> {
        let Some(paths) = tree.get("seed_paths") else { return vec![SEED_PATH.to_owned()] };
        let list: Option<Vec<String>> = match paths.to_value() {
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        match list {
            Some(list) if list.iter().all(|path| path.starts_with("stages.")) => list,
            _ => {
                let message = format!("`seed_paths` is a list of settings such as \"{SEED_PATH}\"");
                self.problem(message, &paths.origin);
                Vec::new()
            }
        }
    }

    fn combinations(&mut self, tree: &Tree, key: &str, axes: &[Axis]) -> Vec<Combination> {
        let Some(list) = tree.get(key) else { return Vec::new() };
        let expected = || format!("`{key}` is a list of choices such as {{ attention = \"caml\" }}");
        let Value::Array(items) = list.to_value() else {
            self.problem(expected(), &list.origin);
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items {
            let combination: Option<Combination> = item.as_object().and_then(|table| {
                table
                    .iter()
                    .map(|(axis, variant)| Some((axis.clone(), variant.as_str()?.to_owned())))
                    .collect()
            });
            let Some(combination) = combination else {
                self.problem(expected(), &list.origin);
                continue;
            };
            for (axis, variant) in &combination {
                match axes.iter().find(|known| known.name == *axis) {
                    None => {
                        let problem =
                            Diagnostic::at(format!("`{key}`: no axis is called `{axis}`"), &list.origin);
                        self.problems.push(problem.did_you_mean(axis, axes.iter().map(|a| a.name.as_str())));
                    }
                    Some(known) if known.variants.iter().all(|v| v.name != *variant) => {
                        let message = format!("`{key}`: axis `{axis}` has no variant `{variant}`");
                        let names = known.variants.iter().map(|v| v.name.as_str());
                        self.problems
                            .push(Diagnostic::at(message, &list.origin).did_you_mean(variant, names));
                    }
                    Some(_) => {}
                }
            }
            found.push(combination);
        }
        found
    }
}

//! A pipeline after all layers and checks: sources and nodes, in an order in which they can run.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8PathBuf;
use serde_json::Value;

use crate::registry::CheckedConfig;
use crate::stage::Runtime;
use crate::sweep::Sweep;
use crate::tree::Tree;

/// What an input slot is wired to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    /// `sources.NAME`
    Source(String),
    /// Another node.
    Node(String),
}

/// Data from outside the store.
#[derive(Clone, Debug)]
pub struct PipelineSource {
    /// Name in the file.
    pub name: String,
    /// One of the registry's source kinds.
    pub kind: String,
    /// Its folder; `None` where the environment variable that names it is not set.
    pub path: Result<Utf8PathBuf, MissingVariable>,
    /// Whether it is under a use agreement.
    pub restricted: bool,
}

/// An environment variable that a source's path needs and that is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingVariable(pub String);

/// One stage with its config and wires.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name: that of the file, in a sweep with the choices it depends on (`finetune@caml+s1`).
    pub name: String,
    /// Name in the file (`[stages.NAME]`).
    pub file_name: String,
    /// Name of the stage it runs.
    pub stage: String,
    /// Slot to wire.
    pub inputs: BTreeMap<String, Wire>,
    /// Checked config.
    pub config: CheckedConfig,
    /// The preset that was chosen; its settings are in the config.
    pub preset: Option<String>,
    /// Machine settings.
    pub runtime: Runtime,
    /// All layers merged, with the origin of every value.
    pub tree: Arc<Tree>,
}

impl Node {
    /// The nodes it reads from.
    pub fn upstream(&self) -> impl Iterator<Item = &str> {
        self.inputs.values().filter_map(|wire| match wire {
            Wire::Node(name) => Some(name.as_str()),
            Wire::Source(_) => None,
        })
    }
}

/// A resolved pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name; never part of a key.
    pub name: String,
    /// The file it came from, as given; `None` for the embedded one.
    pub file: Option<Utf8PathBuf>,
    /// Data from outside.
    pub sources: BTreeMap<String, PipelineSource>,
    /// Nodes, each after all it reads from.
    pub nodes: Vec<Node>,
    /// Nodes of the file whose stage this build lacks, and those that read from them.
    pub left_out: Vec<String>,
    /// The cells, where the file is a sweep.
    pub sweep: Option<Sweep>,
}

impl Pipeline {
    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Where a value of a node's config was set: `file:line`, `--set …`, or `None` for a default.
    pub fn config_place(&self, node: &str, path: &str) -> Option<String> {
        let node = self.node(node)?;
        let (origin, found) = node.tree.locate(&format!("stages.{}.config.{path}", node.file_name));
        found.then(|| origin.place())
    }

    /// The nodes that a name stands for: the node itself, or in a sweep all that come from this one of the file.
    pub fn named(&self, name: &str) -> Vec<&Node> {
        match self.node(name) {
            Some(node) => vec![node],
            None => self.nodes.iter().filter(|node| node.file_name == name).collect(),
        }
    }

    /// The named nodes and everything they read from, directly or not, in running order.
    pub fn with_upstream(&self, name: &str) -> Vec<&Node> {
        let mut wanted: Vec<&str> = self.named(name).into_iter().map(|node| node.name.as_str()).collect();
        let mut chosen: Vec<&Node> = Vec::new();
        // Reverse running order: every reader comes before what it reads.
        for node in self.nodes.iter().rev() {
            if wanted.contains(&node.name.as_str()) {
                wanted.extend(node.upstream());
                chosen.push(node);
            }
        }
        chosen.reverse();
        chosen
    }

    /// Everything that was resolved, as one JSON value (run records, `config show --format json`): of a stage's `config`,
    /// `settings` are the fields that differ from the defaults.
    pub fn resolved(&self) -> Value {
        let sources: serde_json::Map<String, Value> = self
            .sources
            .iter()
            .map(|(name, source)| {
                let path = source.path.as_ref().map_or_else(|v| format!("${}", v.0), |p| p.to_string());
                let value =
                    serde_json::json!({"kind": source.kind, "path": path, "restricted": source.restricted});
                (name.clone(), value)
            })
            .collect();
        let nodes: serde_json::Map<String, Value> = self
            .nodes
            .iter()
            .map(|node| {
                let inputs: serde_json::Map<String, Value> = node
                    .inputs
                    .iter()
                    .map(|(slot, wire)| (slot.clone(), Value::String(wire.to_string())))
                    .collect();
                let mut value = serde_json::json!({
                    "stage": node.stage, "inputs": inputs, "config": node.config.full,
                    "settings": node.config.hashed, "runtime": node.runtime,
                });
                if let Some(preset) = &node.preset {
                    value["preset"] = Value::String(preset.clone());
                }
                (node.name.clone(), value)
            })
            .collect();
        serde_json::json!({"name": self.name, "sources": sources, "stages": nodes})
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wire::Source(name) => write!(f, "sources.{name}"),
            Wire::Node(name) => f.write_str(name),
        }
    }
}

//! Deciding what has to run. The dry run and the real run ask the same function.

use std::collections::{BTreeMap, BTreeSet};

use plmicd_artifact::{ActionRecord, Digest, Lookup, Store, StoreError};
use serde_json::Value;

use crate::fingerprint::{FINGERPRINT_FORMAT, Fingerprint, Reason, difference};
use crate::history::History;
use crate::pipeline::{Node, Pipeline, Wire};
use crate::registry::Registry;
use crate::source::{SourceError, Sources};
use crate::stage::Input;

/// What is to be done about one node.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Its output is in the store.
    Hit(Box<ActionRecord>),
    /// The store's mirror has its output: it is fetched where something needs it.
    Remote(Box<ActionRecord>),
    /// It has to run.
    Run(Vec<Reason>),
    /// What it reads from has to run first; whether it must run too depends on what that yields.
    Pending(Vec<Reason>),
    /// It cannot run: a source is missing.
    Blocked(String),
}

/// One node of a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Node name.
    pub node: String,
    /// Stage name.
    pub stage: String,
    /// Stage key, where every input is known.
    pub key: Option<Digest>,
    /// What the key is made of.
    pub fingerprint: Option<Fingerprint>,
    /// Inputs by slot, where known.
    pub inputs: BTreeMap<String, Input>,
    /// The decision.
    pub decision: Decision,
}

/// A plan: nodes in running order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The nodes asked for.
    pub nodes: Vec<Planned>,
}

impl Plan {
    /// The node of this name.
    pub fn get(&self, node: &str) -> Option<&Planned> {
        self.nodes.iter().find(|planned| planned.node == node)
    }

    /// The nodes whose outputs are to be fetched from the store's mirror now: those that a node which can run reads
    /// from, and those that no other node of the plan reads.
    pub fn to_fetch<'p>(&'p self, pipeline: &Pipeline) -> Vec<(&'p Planned, &'p ActionRecord)> {
        let remote: Vec<(&Planned, &ActionRecord)> = self
            .nodes
            .iter()
            .filter_map(|planned| match &planned.decision {
                Decision::Remote(record) => Some((planned, record.as_ref())),
                _ => None,
            })
            .collect();
        if remote.is_empty() {
            return remote;
        }
        let decisions: BTreeMap<&str, &Decision> =
            self.nodes.iter().map(|planned| (planned.node.as_str(), &planned.decision)).collect();
        let (mut read, mut needed) = (BTreeSet::new(), BTreeSet::new());
        for node in &pipeline.nodes {
            let Some(decision) = decisions.get(node.name.as_str()) else { continue };
            read.extend(node.upstream());
            if matches!(decision, Decision::Run(_)) {
                needed.extend(node.upstream());
            }
        }
        let wanted = |name: &str| needed.contains(name) || !read.contains(name);
        remote.into_iter().filter(|(planned, _)| wanted(&planned.node)).collect()
    }

    /// Whether nothing has to run.
    pub fn all_hits(&self) -> bool {
        self.nodes.iter().all(|planned| matches!(planned.decision, Decision::Hit(_)))
    }
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A node that does not exist.
    #[error("the pipeline has no stage `{name}`\nhint: {hint}")]
    UnknownNode {
        /// As asked for.
        name: String,
        /// The nearest names.
        hint: String,
    },
    /// A stage that this build does not have.
    #[error("this build has no stage `{0}`")]
    UnknownStage(String),
}

/// Which nodes to plan.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Plan up to and with this node; `None` for all.
    pub until: Option<String>,
    /// Nodes that run even where their output is there.
    pub force: BTreeSet<String>,
}

impl Selection {
    /// The names of the nodes that run even where their output is there: in a sweep, one name of the file stands
    /// for all nodes that come from it.
    pub fn forced(&self, pipeline: &Pipeline) -> BTreeSet<String> {
        self.force.iter().flat_map(|name| pipeline.named(name)).map(|node| node.name.clone()).collect()
    }
}

/// Decides hit, run or pending for every selected node.
pub fn plan(
    pipeline: &Pipeline,
    selection: &Selection,
    store: &Store,
    registry: &Registry,
    sources: &Sources<'_>,
) -> Result<Plan, PlanError> {
    for name in selection.until.iter().chain(&selection.force) {
        require_node(pipeline, name)?;
    }
    let forced = selection.forced(pipeline);
    let past = History::new(&pipeline.name);
    let chosen: Vec<&Node> = match &selection.until {
        Some(until) => pipeline.with_upstream(until),
        None => pipeline.nodes.iter().collect(),
    };
    let mut planned = Plan::default();
    for node in chosen {
        let entry = plan_node(
            pipeline,
            node,
            forced.contains(&node.name),
            &planned,
            &past,
            store,
            registry,
            sources,
        )?;
        planned.nodes.push(entry);
    }
    Ok(planned)
}

/// An error that names the nearest node, if there is none of this name.
pub fn require_node<'p>(pipeline: &'p Pipeline, name: &str) -> Result<&'p Node, PlanError> {
    pipeline.named(name).first().copied().ok_or_else(|| {
        let names: Vec<&str> = pipeline.nodes.iter().map(|node| node.name.as_str()).collect();
        let hint = match crate::diagnostic::nearest(name, &names) {
            Some(best) => format!("did you mean `{best}`?"),
            None => format!("its stages are: {}", names.join(", ")),
        };
        PlanError::UnknownNode { name: name.to_owned(), hint }
    })
}

fn plan_node(
    pipeline: &Pipeline,
    node: &Node,
    forced: bool,
    before: &Plan,
    past: &History,
    store: &Store,
    registry: &Registry,
    sources: &Sources<'_>,
) -> Result<Planned, PlanError> {
    let stage =
        registry.find_stage(&node.stage).ok_or_else(|| PlanError::UnknownStage(node.stage.clone()))?;
    let mut inputs = BTreeMap::new();
    let mut waiting = Vec::new();
    let mut blocked = None;
    for (slot, wire) in &node.inputs {
        match wire {
            Wire::Source(name) => match sources.input(name) {
                Ok(input) => {
                    inputs.insert(slot.clone(), input);
                }
                Err(SourceError::Store(error)) => return Err(error.into()),
                Err(error) => blocked = Some(error.to_string()),
            },
            Wire::Node(name) => match before.get(name).map(|planned| &planned.decision) {
                Some(Decision::Hit(record) | Decision::Remote(record)) => {
                    inputs.insert(slot.clone(), stored_input(store, record));
                }
                Some(Decision::Blocked(_)) => {
                    blocked.get_or_insert_with(|| format!("it reads from `{name}`, which cannot run"));
                }
                _ => waiting.push(Reason::Upstream { node: name.clone() }),
            },
        }
    }
    let entry = |key, fingerprint, inputs, decision| Planned {
        node: node.name.clone(),
        stage: node.stage.clone(),
        key,
        fingerprint,
        inputs,
        decision,
    };
    if let Some(why) = blocked {
        return Ok(entry(None, None, inputs, Decision::Blocked(why)));
    }
    if !waiting.is_empty() {
        waiting.dedup();
        return Ok(entry(None, None, inputs, Decision::Pending(waiting)));
    }
    let fingerprint = Fingerprint {
        format: FINGERPRINT_FORMAT,
        stage: node.stage.clone(),
        version: stage.version(),
        config: node.config.hashed.clone(),
        inputs: inputs.iter().map(|(slot, input)| (slot.clone(), input.digest)).collect(),
        environment: BTreeMap::new(),
    };
    let key = fingerprint.key();
    let decision = match store.lookup(&node.stage, key)? {
        _ if forced => Decision::Run(vec![Reason::Forced]),
        Lookup::Hit(record) => Decision::Hit(Box::new(record)),
        Lookup::Remote(record) => Decision::Remote(Box::new(record)),
        Lookup::OutputMissing(_) => Decision::Run(vec![Reason::OutputMissing]),
        Lookup::OutputCorrupt { detail, .. } => Decision::Run(vec![Reason::OutputCorrupt { detail }]),
        Lookup::BadFormat { found } => {
            Decision::Run(vec![Reason::FormatVersion { old: found, new: plmicd_artifact::RECORD_FORMAT }])
        }
        Lookup::Never => Decision::Run(why_new(pipeline, node, &fingerprint, past, store)?),
    };
    Ok(entry(Some(key), Some(fingerprint), inputs, decision))
}

/// The output of a node as another's input.
pub fn stored_input(store: &Store, record: &ActionRecord) -> Input {
    Input {
        kind: record.kind.clone(),
        digest: record.artifact,
        dir: store.object_dir(&record.kind, record.artifact),
        restricted: record.restricted,
    }
}

/// What changed since the last run of this node that is on record.
fn why_new(
    pipeline: &Pipeline,
    node: &Node,
    fingerprint: &Fingerprint,
    past: &History,
    store: &Store,
) -> Result<Vec<Reason>, StoreError> {
    let Some((stage, key)) = past.last_key(store, &node.name) else {
        return Ok(vec![Reason::NeverRun]);
    };
    let Some(record) = store.action(&stage, key)? else { return Ok(vec![Reason::NeverRun]) };
    let Ok(old) = serde_json::from_value::<Fingerprint>(record.fingerprint.clone()) else {
        return Ok(vec![Reason::FormatVersion { old: record.format, new: plmicd_artifact::RECORD_FORMAT }]);
    };
    let old_full = record.provenance.get("config").cloned().unwrap_or(Value::Null);
    let place = |path: &str| pipeline.config_place(&node.name, path);
    let mut reasons = difference(&old, &old_full, fingerprint, &node.config.full, &place);
    if reasons.is_empty() {
        // The key differs although nothing that is recorded does: its record was removed by hand.
        reasons.push(Reason::NeverRun);
    }
    Ok(reasons)
}

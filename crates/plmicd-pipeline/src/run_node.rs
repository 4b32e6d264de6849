//! Running one node in this process: lock, run, publish.
//!
//! Two processes that want the same key may both come here: the lock only prevents double work; correctness
//! rests on publishing by rename.

use std::collections::BTreeMap;
use std::time::Instant;

use plmicd_artifact::{
    ActionLock, ActionRecord, Digest, FetchError, Lookup, PendingAction, Staging, Store, StoreError,
};
use serde_json::{Value, json};

use crate::event::{Event, EventSink};
use crate::pipeline::{Node, Pipeline, Wire};
use crate::plan::{Decision, Planned};
use crate::ranks::Ranks;
use crate::registry::{AnyStage, Registry};
use crate::source::{SourceError, Sources};
use crate::stage::{Interrupt, StageContext, StageError};

/// Why a node did not yield its output.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It was asked to stop.
    #[error("interrupted; the same command resumes it")]
    Interrupted,
    /// What it reads from has not run.
    #[error("`{node}` cannot run alone: {upstream} has to run first\nhint: run it without --only")]
    UpstreamMissing {
        /// The node.
        node: String,
        /// What it waits for.
        upstream: String,
    },
    /// A source is missing.
    #[error("{0}")]
    Blocked(String),
    /// The stage failed.
    #[error(transparent)]
    Stage(StageError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A source failed or changed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A source's files changed while the stage read them.
    #[error("the files of source `{0}` changed while `{1}` was reading them; its output was thrown away")]
    SourceChanged(String, String),
}

/// Facts about this process that are recorded beside the result but never hashed.
#[derive(Clone, Debug, Default)]
pub struct Provenance(pub BTreeMap<String, Value>);

/// Joins in a planned node that the first of several processes runs and publishes: the same computation, nothing kept.
pub fn join_node(
    pipeline: &Pipeline,
    planned: &Planned,
    store: &Store,
    registry: &Registry,
    events: &dyn EventSink,
    interrupt: &Interrupt,
    ranks: &Ranks,
) -> Result<(), NodeError> {
    match &planned.decision {
        // The first process finds the same.
        Decision::Hit(_) | Decision::Remote(_) => return Ok(()),
        Decision::Run(_) => {}
        other => return Err(not_ready(&planned.node, other)),
    }
    let (Some(node), Some(key)) = (pipeline.node(&planned.node), planned.key) else {
        return Err(NodeError::Blocked(format!("`{}` is not planned", planned.node)));
    };
    let stage = stage_of(node, registry)?;
    let staging = store.staging()?;
    run_stage(stage, node, key, planned, store, &staging, events, interrupt, Some(ranks))
}

fn stage_of<'a>(node: &Node, registry: &'a Registry) -> Result<&'a dyn AnyStage, NodeError> {
    let missing = || NodeError::Blocked(format!("this build has no stage `{}`", node.stage));
    registry.find_stage(&node.stage).ok_or_else(missing)
}

/// Runs a node's stage into the staging folder, alone or with the processes of `ranks`.
fn run_stage(
    stage: &dyn AnyStage,
    node: &Node,
    key: Digest,
    planned: &Planned,
    store: &Store,
    staging: &Staging,
    events: &dyn EventSink,
    interrupt: &Interrupt,
    ranks: Option<&Ranks>,
) -> Result<(), NodeError> {
    let context = StageContext::new(
        planned.inputs.clone(),
        staging.path(),
        store.work_dir(&node.stage, key)?,
        node.runtime.clone(),
        events,
        interrupt.clone(),
    )
    .with_ranks(ranks.cloned());
    match stage.run(&node.config.full, &context) {
        Ok(()) => Ok(()),
        Err(StageError::Interrupted) => Err(NodeError::Interrupted),
        Err(error) => Err(NodeError::Stage(error)),
    }
}

/// Why a node cannot run now.
fn not_ready(node: &str, decision: &Decision) -> NodeError {
    match decision {
        Decision::Blocked(why) => NodeError::Blocked(why.clone()),
        Decision::Pending(reasons) | Decision::Run(reasons) => {
            let names: Vec<String> = reasons
                .iter()
                .filter_map(|reason| match reason {
                    crate::fingerprint::Reason::Upstream { node } => Some(format!("`{node}`")),
                    _ => None,
                })
                .collect();
            NodeError::UpstreamMissing { node: node.to_owned(), upstream: names.join(" and ") }
        }
        Decision::Hit(_) | Decision::Remote(_) => NodeError::Blocked(format!("`{node}` has nothing to do")),
    }
}

/// Runs a planned node here, as the first of several processes where `ranks` are given, and publishes its output. Returns the record and whether it was there already.
pub fn run_node(
    pipeline: &Pipeline,
    planned: &Planned,
    store: &Store,
    registry: &Registry,
    sources: &Sources<'_>,
    events: &dyn EventSink,
    interrupt: &Interrupt,
    provenance: &Provenance,
    ranks: Option<&Ranks>,
) -> Result<(ActionRecord, bool), NodeError> {
    let node_name = &planned.node;
    let forced = match &planned.decision {
        Decision::Hit(record) => return finish(pipeline, planned, store, events, *record.clone(), true),
        Decision::Run(reasons) => reasons.contains(&crate::fingerprint::Reason::Forced),
        // Whoever plans fetches first: see `fetch`.
        Decision::Remote(record) => {
            return Err(StoreError::Missing { artifact: record.artifact_ref() }.into());
        }
        other => return Err(not_ready(node_name, other)),
    };
    let (Some(node), Some(key), Some(fingerprint)) =
        (pipeline.node(node_name), planned.key, planned.fingerprint.as_ref())
    else {
        return Err(NodeError::Blocked(format!("`{node_name}` is not planned")));
    };
    let stage = stage_of(node, registry)?;
    let stored: Vec<(String, Digest)> = node
        .inputs
        .iter()
        .filter(|(_, wire)| matches!(wire, Wire::Node(_)))
        .filter_map(|(slot, _)| planned.inputs.get(slot).map(|input| (input.kind.clone(), input.digest)))
        .collect();
    let _lease = store.lease(&stored)?;
    let waiting = &mut || events.send(Event::Waiting);
    let lock = store.lock_action_until(&node.stage, key, waiting, &|| interrupt.is_raised())?;
    let _lock: ActionLock = lock.ok_or(NodeError::Interrupted)?;
    if !forced && let Lookup::Hit(record) = store.lookup(&node.stage, key)? {
        // Another process made it while this one waited.
        return finish(pipeline, planned, store, events, record, true);
    }
    events.send(Event::Started { key });
    let started = Instant::now();
    let staging = store.staging()?;
    run_stage(stage, node, key, planned, store, &staging, events, interrupt, ranks)?;
    check_sources_unchanged(node, planned, sources)?;
    let record = store.publish(
        staging,
        PendingAction {
            stage: node.stage.clone(),
            key,
            kind: stage.output().to_owned(),
            schema: stage.schema_version(),
            restricted: planned.inputs.values().any(|input| input.restricted),
            fingerprint: fingerprint.to_value(),
            provenance: provenance_of(node, planned, provenance, started.elapsed().as_secs_f64()),
        },
    )?;
    store.remove_work_dir(&node.stage, key)?;
    finish(pipeline, planned, store, events, record, false)
}

/// Fetches the output of a planned node from the store's mirror. `false` where that failed, which is told in a warning:
/// planned again, the node has to run.
pub fn fetch(
    record: &ActionRecord,
    store: &Store,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<bool, NodeError> {
    let mut progress = |done: u64, total: u64| {
        events.send(Event::Progress {
            phase: "fetching from the shared store".to_owned(),
            done,
            total: Some(total),
            unit: "bytes".to_owned(),
        });
        !interrupt.is_raised()
    };
    match store.fetch(record, &mut progress) {
        Ok(()) => Ok(true),
        Err(FetchError::Interrupted) => Err(NodeError::Interrupted),
        Err(FetchError::Store(error)) => Err(error.into()),
        Err(error @ FetchError::Failed { .. }) => {
            events.send(Event::Warning { message: format!("{error}\nit is made here instead") });
            Ok(false)
        }
    }
}

fn finish(
    pipeline: &Pipeline,
    planned: &Planned,
    store: &Store,
    events: &dyn EventSink,
    record: ActionRecord,
    cached: bool,
) -> Result<(ActionRecord, bool), NodeError> {
    store.set_latest(&pipeline.name, &planned.node, &record.kind, record.artifact)?;
    let bytes = store.manifest(&record.kind, record.artifact)?.total_size();
    events.send(Event::Finished { kind: record.kind.clone(), artifact: record.artifact, bytes, cached });
    Ok((record, cached))
}

fn check_sources_unchanged(node: &Node, planned: &Planned, sources: &Sources<'_>) -> Result<(), NodeError> {
    for (slot, wire) in &node.inputs {
        let Wire::Source(name) = wire else { continue };
        let now = sources.read(name)?;
        if planned.inputs.get(slot).is_none_or(|before| before.digest != now.digest) {
            return Err(NodeError::SourceChanged(name.clone(), node.name.clone()));
        }
    }
    Ok(())
}

fn provenance_of(node: &Node, planned: &Planned, base: &Provenance, seconds: f64) -> Value {
    let inputs: serde_json::Map<String, Value> = planned
        .inputs
        .iter()
        .map(|(slot, input)| {
            let from = node.inputs.get(slot).map(ToString::to_string);
            (slot.clone(), json!({"kind": input.kind, "digest": input.digest, "from": from}))
        })
        .collect();
    let mut facts: serde_json::Map<String, Value> = base.0.clone().into_iter().collect();
    facts.insert("config".to_owned(), node.config.full.clone());
    facts.insert("inputs".to_owned(), Value::Object(inputs));
    facts.insert("runtime".to_owned(), json!(node.runtime));
    facts.insert("seconds".to_owned(), json!((seconds * 1000.0).round() / 1000.0));
    Value::Object(facts)
}

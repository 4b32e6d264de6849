//! What past runs tell: with which key a node last yielded an output, and how long stages take.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use plmicd_artifact::{Digest, Store};

use crate::pipeline::Node;
use crate::run_record::{self, Outcome};

/// How many runs to look back.
const LOOK_BACK: usize = 500;

/// The past of one pipeline. The records of runs are read at the first question, and once.
pub struct History {
    pipeline: String,
    facts: OnceCell<Facts>,
}

#[derive(Default)]
struct Facts {
    last_keys: BTreeMap<String, (String, Digest)>,
    /// By node of this pipeline, then by its name in the file, then by stage: other pipelines' may be of another size.
    by_node: BTreeMap<String, Seconds>,
    by_file_name: BTreeMap<String, Seconds>,
    by_stage: BTreeMap<String, Seconds>,
}

/// A mean, as it grows.
#[derive(Clone, Copy, Default)]
struct Seconds {
    sum: f64,
    count: u32,
}

impl Seconds {
    fn add(&mut self, seconds: f64) {
        self.sum += seconds;
        self.count += 1;
    }

    fn mean(self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

impl History {
    /// Of the pipeline of this name.
    pub fn new(pipeline: &str) -> Self {
        Self { pipeline: pipeline.to_owned(), facts: OnceCell::new() }
    }

    /// Stage and key with which a node last yielded an output.
    pub fn last_key(&self, store: &Store, node: &str) -> Option<(String, Digest)> {
        self.facts(store).last_keys.get(node).cloned()
    }

    /// The seconds that a node may take: its own mean where it has run, else that of its siblings in a sweep, else
    /// that of its stage in this pipeline.
    pub fn seconds(&self, store: &Store, node: &Node) -> Option<f64> {
        let facts = self.facts(store);
        let known = facts
            .by_node
            .get(&node.name)
            .or_else(|| facts.by_file_name.get(&node.file_name))
            .or_else(|| facts.by_stage.get(&node.stage));
        known.map(|seconds| seconds.mean())
    }

    fn facts(&self, store: &Store) -> &Facts {
        self.facts.get_or_init(|| self.read(store))
    }

    fn read(&self, store: &Store) -> Facts {
        let mut facts = Facts::default();
        for id in run_record::list(store).unwrap_or_default().iter().rev().take(LOOK_BACK) {
            // A record of an older layout is no reason to fail: it only cannot explain.
            let Ok(record) = run_record::read(store, id) else { continue };
            let own = record.pipeline == self.pipeline;
            for (name, node) in record.nodes {
                if node.outcome == Outcome::Done {
                    let file_name = name.split('@').next().unwrap_or(&name).to_owned();
                    if own {
                        facts.by_stage.entry(node.stage.clone()).or_default().add(node.seconds);
                        facts.by_file_name.entry(file_name).or_default().add(node.seconds);
                        facts.by_node.entry(name.clone()).or_default().add(node.seconds);
                    }
                }
                if own && let (Outcome::Cached | Outcome::Done, Some(key)) = (node.outcome, node.key) {
                    facts.last_keys.entry(name).or_insert((node.stage, key));
                }
            }
        }
        facts
    }
}

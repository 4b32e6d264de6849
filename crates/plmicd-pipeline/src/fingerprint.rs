//! What a stage key is made of, and the difference between two of them as typed reasons.

use std::collections::BTreeMap;

use plmicd_artifact::{Digest, canonical_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the fingerprint's own layout. Raising it invalidates every key.
pub const FINGERPRINT_FORMAT: u32 = 1;

/// Everything that decides a stage's output. Names, threads, paths, device and time are not in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// [`FINGERPRINT_FORMAT`].
    pub format: u32,
    /// Stage name.
    pub stage: String,
    /// Stage version.
    pub version: u32,
    /// The settings that differ from the stage's defaults.
    pub config: Value,
    /// Input slot to content digest.
    pub inputs: BTreeMap<String, Digest>,
    /// Declared facts about the surroundings; empty unless a stage declares some.
    pub environment: BTreeMap<String, String>,
}

impl Fingerprint {
    /// As stored beside the result.
    pub fn to_value(&self) -> Value {
        serde_json::json!({
            "format": self.format, "stage": self.stage, "version": self.version, "config": self.config,
            "inputs": self.inputs, "environment": self.environment,
        })
    }

    /// The stage key: BLAKE3 of the canonical JSON.
    pub fn key(&self) -> Digest {
        Digest::of(canonical_json(&self.to_value()).as_bytes())
    }
}

/// Why a node has to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// No run of this node in this pipeline is on record.
    NeverRun,
    /// `--force`.
    Forced,
    /// It ran, but its output is gone.
    OutputMissing,
    /// Its output is damaged.
    OutputCorrupt {
        /// Which file, and how.
        detail: String,
    },
    /// The stage's output has changed since.
    StageVersion {
        /// Version of the last run.
        old: u32,
        /// Version now.
        new: u32,
    },
    /// Another stage runs under this name than last time.
    Stage {
        /// Stage of the last run.
        old: String,
        /// Stage now.
        new: String,
    },
    /// A setting changed.
    Config {
        /// Dotted path below `config`.
        path: String,
        /// Value at the last run.
        old: Value,
        /// Value now.
        new: Value,
        /// `file:line` or `--set …`; `None` where the new value is the default.
        place: Option<String>,
    },
    /// A setting that the last run did not have.
    ConfigAdded {
        /// Dotted path.
        path: String,
        /// Value now.
        new: Value,
        /// Where it is set.
        place: Option<String>,
    },
    /// A setting that exists no more.
    ConfigRemoved {
        /// Dotted path.
        path: String,
        /// Value at the last run.
        old: Value,
    },
    /// An input's content changed, or it was wired (`old` is `None`) or unwired (`new` is `None`).
    Input {
        /// Slot.
        name: String,
        /// Digest at the last run.
        old: Option<Digest>,
        /// Digest now.
        new: Option<Digest>,
    },
    /// A declared fact about the surroundings changed.
    Environment {
        /// Its name.
        name: String,
        /// Value at the last run.
        old: Option<String>,
        /// Value now.
        new: Option<String>,
    },
    /// The layout of fingerprints or records changed with the program.
    FormatVersion {
        /// Layout of the last run.
        old: u32,
        /// Layout now.
        new: u32,
    },
    /// Something it reads from has to run first; what that yields decides.
    Upstream {
        /// The node it waits for.
        node: String,
    },
}

/// What changed between a recorded run and now. `old_full` and `new_full` are the configs with all defaults.
pub fn difference(
    old: &Fingerprint,
    old_full: &Value,
    new: &Fingerprint,
    new_full: &Value,
    place: &dyn Fn(&str) -> Option<String>,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if old.format != new.format {
        reasons.push(Reason::FormatVersion { old: old.format, new: new.format });
    }
    if old.stage != new.stage {
        // Configs of different stages have nothing to compare.
        reasons.push(Reason::Stage { old: old.stage.clone(), new: new.stage.clone() });
        return reasons;
    }
    if old.version != new.version {
        reasons.push(Reason::StageVersion { old: old.version, new: new.version });
    }
    config_difference("", old_full, new_full, place, &mut reasons);
    for (name, old, new) in both(&old.inputs, &new.inputs) {
        if old != new {
            reasons.push(Reason::Input { name: name.clone(), old: old.copied(), new: new.copied() });
        }
    }
    for (name, old, new) in both(&old.environment, &new.environment) {
        if old != new {
            reasons.push(Reason::Environment { name: name.clone(), old: old.cloned(), new: new.cloned() });
        }
    }
    reasons
}

type Pair<'m, K, V> = (&'m K, Option<&'m V>, Option<&'m V>);

fn both<'m, K: Ord, V>(old: &'m BTreeMap<K, V>, new: &'m BTreeMap<K, V>) -> Vec<Pair<'m, K, V>> {
    let mut keys: Vec<&K> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|key| (key, old.get(key), new.get(key))).collect()
}

fn config_difference(
    path: &str,
    old: &Value,
    new: &Value,
    place: &dyn Fn(&str) -> Option<String>,
    reasons: &mut Vec<Reason>,
) {
    if old == new {
        return;
    }
    let (Value::Object(old_map), Value::Object(new_map)) = (old, new) else {
        let place = place(path);
        reasons.push(Reason::Config { path: path.to_owned(), old: old.clone(), new: new.clone(), place });
        return;
    };
    let mut keys: Vec<&String> = old_map.keys().chain(new_map.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (old_map.get(key), new_map.get(key)) {
            (Some(old), Some(new)) => config_difference(&below, old, new, place, reasons),
            (Some(old), None) => reasons.push(Reason::ConfigRemoved { path: below, old: old.clone() }),
            (None, Some(new)) => {
                let place = place(&below);
                // A field that came with a newer program at its default did not change the key.
                if place.is_some() {
                    reasons.push(Reason::ConfigAdded { path: below, new: new.clone(), place });
                }
            }
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fingerprint(config: Value) -> Fingerprint {
        Fingerprint {
            format: FINGERPRINT_FORMAT,
            stage: "threshold".to_owned(),
            version: 1,
            config,
            inputs: BTreeMap::from([("scores".to_owned(), Digest::of(b"scores"))]),
            environment: BTreeMap::new(),
        }
    }

    #[test]
    fn the_key_is_the_digest_of_the_documented_text() {
        let fingerprint = fingerprint(json!({"objective": "macro_f1"}));
        let text = canonical_json(&fingerprint.to_value());
        assert_eq!(fingerprint.key(), Digest::of(text.as_bytes()));
        let mut other = fingerprint.clone();
        other.inputs.insert("scores".to_owned(), Digest::of(b"other"));
        assert_ne!(fingerprint.key(), other.key());
    }

    #[test]
    fn differences_name_the_path_and_the_place() {
        let old = fingerprint(json!({}));
        let mut new = fingerprint(json!({"a": {"b": 2}}));
        new.version = 2;
        let reasons =
            difference(&old, &json!({"a": {"b": 1}, "gone": 1}), &new, &json!({"a": {"b": 2}}), &|path| {
                Some(format!("demo.toml:{}", path.len()))
            });
        assert_eq!(
            reasons,
            vec![
                Reason::StageVersion { old: 1, new: 2 },
                Reason::Config {
                    path: "a.b".to_owned(),
                    old: json!(1),
                    new: json!(2),
                    place: Some("demo.toml:3".to_owned())
                },
                Reason::ConfigRemoved { path: "gone".to_owned(), old: json!(1) },
            ]
        );
    }
}

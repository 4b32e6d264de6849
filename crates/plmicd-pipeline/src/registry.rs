//! Which stages and source kinds exist. The binary fills it; the engine knows no concrete stage.

use std::marker::PhantomData;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value};

use crate::preset::{self, Preset};
use crate::stage::{BadInput, ConfigIssue, InputSpec, Stage, StageContext, StageError};

/// Files of a source: the name below its folder, and the path.
pub type SourceFiles = Vec<(String, Utf8PathBuf)>;

/// A kind of source: data that enters a pipeline from outside the store.
#[derive(Clone, Copy, Debug)]
pub struct SourceKind {
    /// Name in pipeline files (`kind = "mimic3"`), and the artifact kind that input slots name.
    pub name: &'static str,
    /// Whether it is under a use agreement unless the pipeline file says otherwise.
    pub restricted: bool,
    /// What lies in the folder and where to get it: shown when it is missing.
    pub help: &'static str,
    /// The files that count, checked for presence. Their content is the digest.
    pub files: fn(&Utf8Path) -> Result<SourceFiles, BadInput>,
}

/// A config that passed all checks.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedConfig {
    /// Every field, defaults filled in.
    pub full: Value,
    /// The fields that differ from the stage's defaults: what is hashed, so that a field added later at its
    /// default does not change old keys.
    pub hashed: Value,
}

/// A stage without its types.
pub trait AnyStage: Send + Sync {
    /// Name in pipeline files and in the store.
    fn name(&self) -> &'static str;
    /// Version of its output.
    fn version(&self) -> u32;
    /// Kind of its output.
    fn output(&self) -> &'static str;
    /// Schema version of its output.
    fn schema_version(&self) -> u32;
    /// One line for help texts.
    fn summary(&self) -> &'static str;
    /// Whether several processes can share its work.
    fn is_parallel(&self) -> bool;
    /// Its input slots.
    fn inputs(&self) -> &'static [InputSpec];
    /// JSON Schema of its config, the choice of a preset included.
    fn config_schema(&self) -> Value;
    /// Its presets.
    fn presets(&self) -> &'static [Preset];
    /// Types, ranges and combinations.
    fn check(&self, config: &Value, wired: &[&str]) -> Result<CheckedConfig, Vec<ConfigIssue>>;
    /// Makes the artifact. `config` has passed `check`.
    fn run(&self, config: &Value, context: &StageContext<'_>) -> Result<(), StageError>;
}

struct Erased<S>(PhantomData<fn() -> S>);

impl<S: Stage> AnyStage for Erased<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn version(&self) -> u32 {
        S::VERSION
    }

    fn output(&self) -> &'static str {
        S::OUTPUT
    }

    fn schema_version(&self) -> u32 {
        S::SCHEMA
    }

    fn summary(&self) -> &'static str {
        S::SUMMARY
    }

    fn is_parallel(&self) -> bool {
        S::PARALLEL
    }

    fn inputs(&self) -> &'static [InputSpec] {
        S::inputs()
    }

    fn config_schema(&self) -> Value {
        let mut schema = schemars::schema_for!(S::Config).to_value();
        preset::describe(&mut schema, S::presets());
        schema
    }

    fn presets(&self) -> &'static [Preset] {
        S::presets()
    }

    fn check(&self, config: &Value, wired: &[&str]) -> Result<CheckedConfig, Vec<ConfigIssue>> {
        let typed = parse::<S::Config>(config).map_err(|issue| vec![issue])?;
        let issues = S::check(&typed, wired);
        if !issues.is_empty() {
            return Err(issues);
        }
        let full = to_value(&typed)?;
        let hashed = without_defaults(&full, &to_value(&S::Config::default())?);
        Ok(CheckedConfig { full, hashed })
    }

    fn run(&self, config: &Value, context: &StageContext<'_>) -> Result<(), StageError> {
        let typed = parse::<S::Config>(config)
            .map_err(|issue| StageError::failed(format!("config {}: {}", issue.path, issue.message)))?;
        S::run(&typed, context)
    }
}

fn to_value<T: serde::Serialize>(config: &T) -> Result<Value, Vec<ConfigIssue>> {
    serde_json::to_value(config).map_err(|error| vec![ConfigIssue::new("", error.to_string())])
}

fn parse<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T, ConfigIssue> {
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        ConfigIssue::new(path, plain(&error.into_inner().to_string()))
    })
}

/// A complaint about a value without the names of types of the program.
pub(crate) fn plain(message: &str) -> String {
    const WORDS: [(&str, &[&str]); 3] = [
        ("a whole number from 0 on", &["usize", "u64", "u32", "u16", "u8"]),
        ("a whole number", &["isize", "i64", "i32"]),
        ("a number", &["f64", "f32"]),
    ];
    let Some((found, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let words = WORDS.iter().find(|(_, types)| types.contains(&expected));
    words.map_or_else(|| message.to_owned(), |(words, _)| format!("{found}expected {words}"))
}

/// `full` less what equals `default` at the same place. Injective for a given default, since `full` always
/// holds every field: a missing field means "the default".
fn without_defaults(full: &Value, default: &Value) -> Value {
    match (full, default) {
        (Value::Object(full), Value::Object(default)) => {
            let mut kept = Map::new();
            for (key, value) in full {
                match default.get(key) {
                    Some(same) if same == value => {}
                    Some(other) => {
                        kept.insert(key.clone(), without_defaults(value, other));
                    }
                    None => {
                        kept.insert(key.clone(), value.clone());
                    }
                }
            }
            Value::Object(kept)
        }
        _ => full.clone(),
    }
}

/// The stages and source kinds that pipeline files may name.
#[derive(Default)]
pub struct Registry {
    stages: Vec<Box<dyn AnyStage>>,
    sources: Vec<SourceKind>,
    absent: Vec<&'static str>,
}

impl Registry {
    /// With one more stage.
    pub fn stage<S: Stage>(mut self) -> Self {
        self.stages.push(Box::new(Erased::<S>(PhantomData)));
        self
    }

    /// With one more kind of source.
    pub fn source(mut self, kind: SourceKind) -> Self {
        self.sources.push(kind);
        self
    }

    /// With the name of a stage that other builds have and this one lacks: pipeline files may name it, and what
    /// needs it is left out.
    pub fn absent(mut self, name: &'static str) -> Self {
        self.absent.push(name);
        self
    }

    /// Whether this build lacks a stage that others have.
    pub fn is_absent(&self, name: &str) -> bool {
        self.absent.contains(&name)
    }

    /// All stages, in the order of registration (that of the pipeline).
    pub fn stages(&self) -> impl Iterator<Item = &dyn AnyStage> {
        self.stages.iter().map(AsRef::as_ref)
    }

    /// The stage of this name.
    pub fn find_stage(&self, name: &str) -> Option<&dyn AnyStage> {
        self.stages().find(|stage| stage.name() == name)
    }

    /// All source kinds.
    pub fn sources(&self) -> &[SourceKind] {
        &self.sources
    }

    /// The source kind of this name.
    pub fn find_source(&self, name: &str) -> Option<&SourceKind> {
        self.sources.iter().find(|kind| kind.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::without_defaults;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_hashed() {
        let default = json!({"a": 1, "o": {"x": 1, "y": null}, "l": [1]});
        assert_eq!(without_defaults(&default, &default), json!({}));
        let full = json!({"a": 1, "o": {"x": 2, "y": null}, "l": [1, 2]});
        assert_eq!(without_defaults(&full, &default), json!({"o": {"x": 2}, "l": [1, 2]}));
    }
}

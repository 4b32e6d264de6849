//! Presets: named sets of a stage's settings, a layer between its defaults and the pipeline file.
//!
//! `preset = "NAME"` in a stage's `config` lays the preset's settings under those that the file writes beside it. What
//! is hashed are the settings that come out: the name decides nothing, and a preset that spells out the defaults
//! gives the same key as none.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::registry::{AnyStage, Registry};
use crate::tree::{Source, Tree};

/// The key under `config` that chooses one.
pub const KEY: &str = "preset";

/// A named set of settings.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What `preset = "…"` says.
    pub name: &'static str,
    /// One line for help texts and the schema.
    pub summary: &'static str,
    /// The settings as a pipeline file would write them below `config`: TOML.
    pub settings: &'static str,
}

impl Preset {
    /// The settings, each with the preset as its place.
    ///
    /// # Errors
    /// The preset is no TOML: a mistake in the program.
    pub(crate) fn tree(&self) -> Result<Tree, Box<Diagnostic>> {
        Tree::parse(Arc::new(Source {
            name: format!("{KEY} {}", self.name),
            text: self.settings.to_owned(),
            base: None,
        }))
    }

    /// The settings as one value.
    ///
    /// # Errors
    /// The preset is no TOML: a mistake in the program.
    pub fn values(&self) -> Result<Value, Box<Diagnostic>> {
        Ok(self.tree()?.to_value())
    }
}

/// Lays the chosen preset of every stage of a pipeline file under the settings beside it.
pub(crate) fn expand_all(tree: &mut Tree, registry: &Registry) -> Vec<Diagnostic> {
    let Some(stages) = tree.get_mut("stages").and_then(Tree::entries_mut) else { return Vec::new() };
    let mut problems = Vec::new();
    for entry in stages {
        let name = match entry.tree.get("stage").map(Tree::to_value) {
            Some(Value::String(name)) => name,
            _ => entry.key.clone(),
        };
        // A stage that is not known is complained of elsewhere.
        if let Some(stage) = registry.find_stage(&name)
            && let Err(problem) = expand(stage, &mut entry.tree)
        {
            problems.push(*problem);
        }
    }
    problems
}

/// Lays the preset that `config.preset` of a stage's table names under its `config`. `preset = false` chooses none:
/// how a variant takes away that of its base.
pub(crate) fn expand(stage: &dyn AnyStage, holder: &mut Tree) -> Result<(), Box<Diagnostic>> {
    let presets = stage.presets();
    let Some(config) = holder.get_mut("config") else { return Ok(()) };
    let Some(chosen) = config.get(KEY) else { return Ok(()) };
    let name = match chosen.to_value() {
        // A stage without presets has no such setting, which the check of its config says.
        _ if presets.is_empty() => return Ok(()),
        Value::Bool(false) => return Ok(()),
        Value::String(name) => name,
        _ => {
            let message = format!("`{KEY}` is the name of a preset in quotes, or false for none");
            return Err(Box::new(Diagnostic::at(message, &chosen.origin)));
        }
    };
    let Some(preset) = presets.iter().find(|preset| preset.name == name) else {
        let message = format!("stage `{}` has no preset `{name}`", stage.name());
        let names = presets.iter().map(|preset| preset.name);
        return Err(Box::new(Diagnostic::at(message, &chosen.origin).did_you_mean(&name, names)));
    };
    let mut layers = preset.tree()?;
    layers.origin = config.origin.clone();
    layers.merge(config.clone());
    *config = layers;
    Ok(())
}

/// The settings of a stage's table once presets are expanded, without the preset's name, and the name.
pub(crate) fn settings(stage: &dyn AnyStage, holder: &Tree) -> (Value, Option<String>) {
    let mut settings = holder.get("config").map_or_else(|| json!({}), Tree::to_value);
    let chosen = match &mut settings {
        Value::Object(fields) if !stage.presets().is_empty() => fields.remove(KEY),
        _ => None,
    };
    let name = match chosen {
        Some(Value::String(name)) => Some(name),
        _ => None,
    };
    (settings, name)
}

/// Adds the choice of a preset to the JSON Schema of a config.
pub(crate) fn describe(schema: &mut Value, presets: &[Preset]) {
    if presets.is_empty() {
        return;
    }
    let lines: Vec<String> =
        presets.iter().map(|preset| format!("`{}`: {}.", preset.name, preset.summary)).collect();
    let names: Vec<Value> =
        presets.iter().map(|preset| json!(preset.name)).chain(std::iter::once(json!(false))).collect();
    let description =
        format!("A named set of settings, laid under those written beside it. {}", lines.join(" "));
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(KEY.to_owned(), json!({"description": description, "enum": names}));
    }
}

//! `plmicd config check|show|schema`.

use plmicd_pipeline::pipeline::Pipeline;
use plmicd_pipeline::preset;
use serde_json::{Value, json};

use crate::cli::ConfigCommand;
use crate::commands::World;
use crate::failure::Failure;

/// Checks, shows or describes settings.
pub fn config(world: &World<'_>, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => {
            let pipeline = world.pipeline(args)?;
            world.terminal.say(&format!(
                "{}: {} stages, no mistakes found",
                pipeline.name,
                pipeline.nodes.len()
            ));
            Ok(())
        }
        ConfigCommand::Show(args) => {
            let pipeline = world.pipeline(args)?;
            if world.terminal.json {
                world.terminal.print_json(&pipeline.resolved());
            } else {
                world.terminal.print(&show(&pipeline));
            }
            Ok(())
        }
        ConfigCommand::Schema { stage } => schema(world, stage.as_deref()),
    }
}

/// Every setting as TOML, with a comment that says who set it.
fn show(pipeline: &Pipeline) -> String {
    let mut lines = vec![format!("name = \"{}\"", pipeline.name)];
    for source in pipeline.sources.values() {
        lines.push(format!("\n[sources.{}]", source.name));
        lines.push(format!("kind = \"{}\"", source.kind));
        lines.push(match &source.path {
            Ok(path) => format!("path = {}", Value::from(path.as_str())),
            Err(missing) => format!("# path: the environment variable {} is not set", missing.0),
        });
        lines.push(format!("restricted = {}", source.restricted));
    }
    for node in &pipeline.nodes {
        lines.push(format!("\n[stages.{}]", node.name));
        if node.stage != node.name {
            lines.push(format!("stage = \"{}\"", node.stage));
        }
        let wires: Vec<String> =
            node.inputs.iter().map(|(slot, wire)| format!("{slot} = \"{wire}\"")).collect();
        lines.push(format!("inputs = {{ {} }}", wires.join(", ")));
        lines.push(format!("[stages.{}.config]", node.name));
        if let Some(preset) = &node.preset {
            let place = pipeline.config_place(&node.name, preset::KEY).unwrap_or_default();
            lines.push(format!("{:<44} # {place}", format!("{} = \"{preset}\"", preset::KEY)));
        }
        flatten("", &node.config.full, &mut |path, value| {
            let place = pipeline.config_place(&node.name, path).unwrap_or_else(|| "default".to_owned());
            let setting =
                if value.is_null() { format!("# {path} unset") } else { format!("{path} = {value}") };
            lines.push(format!("{setting:<44} # {place}"));
        });
    }
    lines.join("\n")
}

/// Visits every leaf of a config: its dotted path and its value.
pub fn flatten(path: &str, value: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&below, value, visit);
            }
        }
        leaf => visit(path, leaf),
    }
}

fn schema(world: &World<'_>, stage: Option<&str>) -> Result<(), Failure> {
    let known: Vec<&str> = world.registry.stages().map(|s| s.name()).collect();
    match stage {
        Some(name) => match world.registry.find_stage(name) {
            Some(stage) => world.terminal.print_json(&stage.config_schema()),
            None => {
                return Err(Failure::usage(format!(
                    "no stage is called `{name}`\nhint: {}",
                    known.join(", ")
                )));
            }
        },
        None => {
            let stages: serde_json::Map<String, Value> = world
                .registry
                .stages()
                .map(|stage| {
                    let inputs: Vec<Value> = stage
                        .inputs()
                        .iter()
                        .map(
                            |slot| json!({"name": slot.name, "kinds": slot.kinds, "required": slot.required}),
                        )
                        .collect();
                    let value = json!({
                        "summary": stage.summary(), "version": stage.version(), "inputs": inputs,
                        "output": stage.output(), "config": stage.config_schema(),
                    });
                    (stage.name().to_owned(), value)
                })
                .collect();
            world.terminal.print_json(&stages);
        }
    }
    Ok(())
}

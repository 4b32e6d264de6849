use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use camino::Utf8Path;
use tch::Tensor;

use crate::{ModelType, NamedParameter, NnError};

/// How the tensors of a file met the parameters of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Parameters the file does not hold; they keep their fresh values.
    pub missing: Vec<String>,
    /// Tensors of the file, by their names there, that the model has no use for.
    pub unexpected: Vec<String>,
    /// Tensors of another shape than the parameter of their name.
    pub mismatched: Vec<Mismatch>,
}

/// A tensor whose shape is not the parameter's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub name: String,
    pub expected: Vec<i64>,
    pub found: Vec<i64>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mismatched: Vec<String> = self
            .mismatched
            .iter()
            .map(|wrong| format!("{} is {:?}, expected {:?}", wrong.name, wrong.found, wrong.expected))
            .collect();
        let parts =
            [("missing", &self.missing), ("of another shape", &mismatched), ("not used", &self.unexpected)];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| listed(what, names))
            .collect();
        out.write_str(&if parts.is_empty() { "every tensor found".to_owned() } else { parts.join("; ") })
    }
}

fn listed(what: &str, names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    format!("{} {what}: {}{more}", names.len(), names[..names.len().min(SHOWN)].join(", "))
}

/// Which parameters a file must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The encoder's; label attention starts fresh.
    Encoder,
    /// All of them.
    Everything,
}

/// Copies the tensors of `file` into the parameters of their names. Fails if one that is `wanted` is missing or of
/// another shape.
pub(crate) fn fill(
    parameters: &[NamedParameter],
    tensors: BTreeMap<String, Tensor>,
    model_type: ModelType,
    wanted: Wanted,
    file: &Utf8Path,
) -> Result<LoadReport, NnError> {
    let mut report = LoadReport::default();
    let mut found: BTreeMap<String, (String, Tensor)> = BTreeMap::new();
    for (name, tensor) in tensors {
        let known = published_name(&name, model_type);
        if let Some((first, _)) = found.get(&known) {
            return Err(NnError::file(file, format!("holds both {first} and {name}, two names of {known}")));
        }
        found.insert(known, (name, tensor));
    }
    let mut fatal = BTreeSet::new();
    for parameter in parameters {
        if wanted == Wanted::Encoder && parameter.is_head {
            continue;
        }
        match found.remove(&parameter.name) {
            None => {
                // Many encoders are published without the pooler that few models read.
                if wanted == Wanted::Everything || !parameter.name.contains(".pooler.") {
                    fatal.insert(parameter.name.clone());
                }
                report.missing.push(parameter.name.clone());
            }
            Some((_, tensor)) if tensor.size() != parameter.tensor.size() => {
                fatal.insert(parameter.name.clone());
                report.mismatched.push(Mismatch {
                    name: parameter.name.clone(),
                    expected: parameter.tensor.size(),
                    found: tensor.size(),
                });
            }
            Some((_, tensor)) => tch::no_grad(|| parameter.tensor.shallow_clone().f_copy_(&tensor))?,
        }
    }
    report.unexpected = found.into_values().map(|(name, _)| name).collect();
    report.unexpected.sort();
    if fatal.is_empty() {
        return Ok(report);
    }
    Err(NnError::file(
        file,
        format!("does not fit a {model_type} model as its config.json describes it: {report}"),
    ))
}

/// A tensor's name in the published layout: older checkpoints call LayerNorm's tensors `gamma` and `beta`, and
/// checkpoints of the bare encoder lack its prefix.
pub(crate) fn published_name(name: &str, model_type: ModelType) -> String {
    let name = match name.strip_suffix(".gamma") {
        Some(stem) => format!("{stem}.weight"),
        None => match name.strip_suffix(".beta") {
            Some(stem) => format!("{stem}.bias"),
            None => name.to_owned(),
        },
    };
    if ["embeddings.", "encoder.", "pooler."].iter().any(|part| name.starts_with(part)) {
        return format!("{model_type}.{name}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_and_bare_names_are_understood() {
        for (name, expected) in [
            ("embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
            ("bert.encoder.layer.0.output.LayerNorm.beta", "bert.encoder.layer.0.output.LayerNorm.bias"),
            ("encoder.layer.1.output.dense.weight", "bert.encoder.layer.1.output.dense.weight"),
            ("third_linear.bias", "third_linear.bias"),
        ] {
            assert_eq!(published_name(name, ModelType::Bert), expected);
        }
    }
}

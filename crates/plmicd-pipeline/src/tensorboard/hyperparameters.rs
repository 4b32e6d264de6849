//! Which settings are told of a node: all of its own, and of what it reads from those that are not at their defaults.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::wire::Setting;

/// By dotted path; those of nodes before it begin with the node's name in the file. In a sweep, `variant` says which
/// choices the node depends on.
pub(super) fn of_node(resolved: &Value, node: &str) -> BTreeMap<String, Setting> {
    let mut found = BTreeMap::new();
    let stages = &resolved["stages"];
    for before in upstream(stages, node) {
        let name = before.split('@').next().unwrap_or(before);
        flatten(&stages[before]["settings"], name, &mut found);
    }
    flatten(&stages[node]["config"], "", &mut found);
    if let Some((_, choices)) = node.split_once('@') {
        found.insert("variant".to_owned(), Setting::Text(choices.to_owned()));
    }
    found
}

/// What a node reads from, directly or not.
fn upstream<'r>(stages: &'r Value, node: &str) -> BTreeSet<&'r str> {
    let wires = |name: &str| stages[name]["inputs"].as_object().into_iter().flatten();
    let mut found = BTreeSet::new();
    let mut ahead: Vec<&str> = wires(node).filter_map(|(_, from)| from.as_str()).collect();
    while let Some(name) = ahead.pop() {
        if !name.starts_with("sources.") && found.insert(name) {
            ahead.extend(wires(name).filter_map(|(_, from)| from.as_str()));
        }
    }
    found
}

fn flatten(value: &Value, path: &str, found: &mut BTreeMap<String, Setting>) {
    let setting = match value {
        Value::Null => return,
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(field, &path, found);
            }
            return;
        }
        Value::Bool(on) => Setting::Switch(*on),
        Value::Number(number) => Setting::Number(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Setting::Text(text.clone()),
        Value::Array(_) => Setting::Text(value.to_string()),
    };
    found.insert(path.to_owned(), setting);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn own_settings_and_those_before_that_were_changed() {
        let resolved = json!({"stages": {
            "tokenize": {"inputs": {"notes": "sources.raw"}, "config": {"threads": 1}, "settings": {}},
            "pretrain@long": {"inputs": {"shards": "tokenize"}, "config": {"epochs": 3, "seed": 1}, "settings": {"epochs": 3}},
            "finetune@long+s1": {
                "inputs": {"encoder": "pretrain@long", "shards": "tokenize"},
                "config": {"optimizer": {"rate": 0.5}, "masked": true, "name": "x", "none": null, "list": [1, 2]},
                "settings": {},
            },
        }});
        let text = |text: &str| Setting::Text(text.to_owned());
        let expected = [
            ("list", text("[1,2]")),
            ("masked", Setting::Switch(true)),
            ("name", text("x")),
            ("optimizer.rate", Setting::Number(0.5)),
            ("pretrain.epochs", Setting::Number(3.0)),
            ("variant", text("long+s1")),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(of_node(&resolved, "finetune@long+s1"), expected);
    }
}

//! Reads the notation of `data/templates.txt`.

use std::collections::BTreeMap;

use super::{Grammar, Node, Rule, Slot, Wording};
use crate::error::SynthError;

const FILE: &str = "templates.txt";

impl Grammar {
    /// Reads the built-in grammar. Every rule the program uses must be there, and every name must be known.
    pub(crate) fn load() -> Result<Self, SynthError> {
        Self::parse(include_str!("../../data/templates.txt"))
    }

    fn parse(text: &str) -> Result<Self, SynthError> {
        let bad = |line: usize, message: String| SynthError::Data { file: FILE, line, message };
        let mut names: Vec<String> = Rule::ALL.iter().map(|rule| rule.name().to_owned()).collect();
        let mut bodies: BTreeMap<usize, Vec<(usize, &str)>> = BTreeMap::new();
        let mut current = None;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.is_empty() || line.starts_with("# ") {
                continue;
            }
            if let Some(name) = rule_header(line) {
                let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
                    names.push(name.to_owned());
                    names.len() - 1
                });
                if bodies.insert(place, Vec::new()).is_some() {
                    return Err(bad(number, format!("rule [{name}] occurs twice")));
                }
                current = Some(place);
                continue;
            }
            let body = current.and_then(|place| bodies.get_mut(&place));
            body.ok_or_else(|| bad(number, "expected a [rule] above the first wording".to_owned()))?
                .push((number, line));
        }
        let mut rules = Vec::with_capacity(names.len());
        for (place, name) in names.iter().enumerate() {
            let lines = bodies.get(&place).filter(|lines| !lines.is_empty());
            let lines = lines.ok_or_else(|| bad(0, format!("rule [{name}] has no wording")))?;
            let wordings: Result<Vec<Wording>, SynthError> = lines
                .iter()
                .map(|(number, line)| parse_text(line, &names).map_err(|message| bad(*number, message)))
                .collect();
            rules.push(wordings?);
        }
        Ok(Self { rules, names })
    }

    /// Compiles a wording of another data file, which may use all rules and slots.
    pub(crate) fn compile(&self, text: &str) -> Result<Wording, String> {
        parse_text(text, &self.names)
    }
}

/// The name in a line such as `[hpi.acute]`; lines that only start with a bracket are wordings.
fn rule_header(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_')).then_some(name)
}

/// Parses one wording; `rules` are the names a `{name}` may refer to.
fn parse_text(text: &str, rules: &[String]) -> Result<Wording, String> {
    let mut nodes = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        if rest.as_bytes()[open] == b'}' {
            return Err("a closing brace without an opening one".to_owned());
        }
        if open > 0 {
            nodes.push(Node::Text(rest[..open].into()));
        }
        let inside = &rest[open + 1..];
        let close = matching_brace(inside).ok_or("a brace is not closed")?;
        nodes.push(parse_braces(&inside[..close], rules)?);
        rest = &inside[close + 1..];
    }
    if !rest.is_empty() {
        nodes.push(Node::Text(rest.into()));
    }
    Ok(nodes)
}

/// Where the brace that was opened just before `text` is closed.
fn matching_brace(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(index),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn parse_braces(inside: &str, rules: &[String]) -> Result<Node, String> {
    let choices = split_choices(inside);
    if choices.len() > 1 {
        let parsed: Result<Vec<Wording>, String> =
            choices.iter().map(|choice| parse_text(choice, rules)).collect();
        return Ok(Node::Any(parsed?));
    }
    if let Some((low, high)) = inside.split_once("..") {
        let (high, tenths) = match high.strip_suffix("/10") {
            Some(high) => (high, true),
            None => (high, false),
        };
        return match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if low <= high => Ok(Node::Number { low, high, tenths }),
            _ => Err(format!("expected a range such as 3..9 or 32..41/10, found {inside}")),
        };
    }
    if let Some(slot) = Slot::named(inside) {
        return Ok(Node::Slot(slot));
    }
    match rules.iter().position(|rule| rule == inside) {
        Some(place) => Ok(Node::Rule(place as u16)),
        None => Err(format!("no slot or rule is called {inside}")),
    }
}

/// Splits at the bars that are not inside further braces.
fn split_choices(text: &str) -> Vec<&str> {
    let mut choices = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b'|' if depth == 0 => {
                choices.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    choices.push(&text[start..]);
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_choices_ranges_and_slots() {
        let rules = vec!["team".to_owned()];
        let wording = parse_text("a {b|{team} {3..9}|} {32..41/10}{he}", &rules).unwrap();
        let text = |t: &str| Node::Text(t.into());
        assert_eq!(
            wording,
            vec![
                text("a "),
                Node::Any(vec![
                    vec![text("b")],
                    vec![Node::Rule(0), text(" "), Node::Number { low: 3, high: 9, tenths: false }],
                    vec![],
                ]),
                text(" "),
                Node::Number { low: 32, high: 41, tenths: true },
                Node::Slot(Slot::He),
            ]
        );
    }

    #[test]
    fn mistakes_are_reported_with_their_line() {
        for (text, expected) in [
            ("[person]\nno rule called {nobody}\n", "templates.txt:2: no slot or rule is called nobody"),
            ("[person]\n{3..x}\n", "expected a range"),
            ("[person]\nopen {he\n", "a brace is not closed"),
            ("stray\n", "templates.txt:1: expected a [rule]"),
            ("[person]\nfine\n", "has no wording"),
        ] {
            // The first mistake found is reported: put the wording where every rule of the program has one.
            let all: String = Rule::ALL.iter().map(|r| format!("[{}]\nfine\n", r.name())).collect();
            let text = if expected.contains("no wording") { text.to_owned() } else { format!("{text}{all}") };
            let error = Grammar::parse(&text).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

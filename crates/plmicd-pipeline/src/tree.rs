//! Configuration values that remember where they were written.
//!
//! Every value of a pipeline file keeps its origin through all layers (extends chain, file, `--set`), so that
//! an error about it can show the file, the line and a caret, and `config show` can tell who set it.

use std::ops::Range;
use std::sync::Arc;

use camino::Utf8PathBuf;
use serde_json::{Number, Value};
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;

/// A text that values come from: a pipeline file, or one `--set` argument.
#[derive(Debug)]
pub struct Source {
    /// How it is shown: a path, or `--set`.
    pub name: String,
    /// Its whole text.
    pub text: String,
    /// What a relative path written in it is relative to; `None` for the working directory.
    pub base: Option<Utf8PathBuf>,
}

/// Where a value was written.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The text.
    pub source: Arc<Source>,
    /// Byte range in it.
    pub span: Range<usize>,
}

impl Origin {
    /// 1-based line of the start.
    pub fn line(&self) -> usize {
        let end = self.span.start.min(self.source.text.len());
        self.source.text[..end].bytes().filter(|&b| b == b'\n').count() + 1
    }

    /// `file:line`, the `--set` argument, or `preset NAME`.
    pub fn place(&self) -> String {
        if self.source.base.is_none() && self.source.name == "--set" {
            return format!("--set {}", self.source.text);
        }
        if self.source.base.is_none() && self.source.name.starts_with(crate::preset::KEY) {
            // The program's own text: its name says it all.
            return self.source.name.clone();
        }
        format!("{}:{}", self.source.name, self.line())
    }
}

/// A key of a table with the place of the key itself.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_origin: Origin,
    /// What it holds.
    pub tree: Tree,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The value.
    pub node: Node,
    /// Its place.
    pub origin: Origin,
}

/// A table, or anything else as one JSON value.
#[derive(Clone, Debug)]
pub enum Node {
    /// Keys in the order of writing.
    Table(Vec<Entry>),
    /// A scalar or an array.
    Leaf(Value),
}

impl Tree {
    /// Parses a TOML text.
    pub fn parse(source: Arc<Source>) -> Result<Self, Box<Diagnostic>> {
        let table = match DeTable::parse(&source.text) {
            Ok(table) => table,
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let origin = Origin { source: Arc::clone(&source), span };
                return Err(Box::new(Diagnostic::at(error.message().to_owned(), &origin)));
            }
        };
        let span = table.span();
        from_table(table.get_ref(), span, &source)
    }

    /// The tree of one `path=value` argument: a chain of tables down to the value.
    pub fn from_override(argument: &str) -> Result<Self, Box<Diagnostic>> {
        let source = Arc::new(Source { name: "--set".to_owned(), text: argument.to_owned(), base: None });
        let whole = Origin { source: Arc::clone(&source), span: 0..argument.len() };
        let Some((path, text)) = argument.split_once('=') else {
            return Err(Box::new(Diagnostic::at(
                "expected `path=value`, such as `stages.finetune.config.epochs=3`",
                &whole,
            )));
        };
        let offset = path.len() + 1;
        let origin = |span: Range<usize>| Origin { source: Arc::clone(&source), span };
        let value = override_value(text.trim())
            .map_err(|message| Box::new(Diagnostic::at(message, &origin(offset..argument.len()))))?;
        let mut tree = Tree { node: Node::Leaf(value), origin: origin(offset..argument.len()) };
        let mut end = path.len();
        for key in path.rsplit('.') {
            let start = end - key.len();
            if key.trim().is_empty() {
                return Err(Box::new(Diagnostic::at("an empty name in the path", &whole)));
            }
            let entry = Entry { key: key.trim().to_owned(), key_origin: origin(start..end), tree };
            tree = Tree { node: Node::Table(vec![entry]), origin: origin(0..argument.len()) };
            end = start.saturating_sub(1);
        }
        Ok(tree)
    }

    /// A chain of tables down to `value`, all of it written at `origin`.
    pub(crate) fn made(path: &str, value: Value, origin: &Origin) -> Tree {
        let leaf = Tree { node: Node::Leaf(value), origin: origin.clone() };
        path.rsplit('.').fold(leaf, |tree, key| {
            let entry = Entry { key: key.to_owned(), key_origin: origin.clone(), tree };
            Tree { node: Node::Table(vec![entry]), origin: origin.clone() }
        })
    }

    /// A table with these entries, each of them standing for its own place.
    pub(crate) fn table(entries: Vec<(&str, Tree)>) -> Tree {
        let entries: Vec<Entry> = entries
            .into_iter()
            .map(|(key, tree)| Entry { key: key.to_owned(), key_origin: tree.origin.clone(), tree })
            .collect();
        let origin = entries.first().map_or_else(
            || Origin {
                source: Arc::new(Source { name: String::new(), text: String::new(), base: None }),
                span: 0..0,
            },
            |entry| entry.key_origin.clone(),
        );
        Tree { node: Node::Table(entries), origin }
    }

    /// Takes an entry out of a table.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        match &mut self.node {
            Node::Table(entries) => {
                let at = entries.iter().position(|entry| entry.key == key)?;
                Some(entries.remove(at))
            }
            Node::Leaf(_) => None,
        }
    }

    /// The entries of a table, or `None`.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.node {
            Node::Table(entries) => Some(entries),
            Node::Leaf(_) => None,
        }
    }

    /// The entries of a table, or `None`.
    pub(crate) fn entries_mut(&mut self) -> Option<&mut [Entry]> {
        match &mut self.node {
            Node::Table(entries) => Some(entries),
            Node::Leaf(_) => None,
        }
    }

    /// The entry of a table with this key.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Tree> {
        self.entries_mut()?.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.tree)
    }

    /// The entry of a table with this key.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        self.entry(key).map(|entry| &entry.tree)
    }

    /// The entry of a table with this key, with the place of the key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key == key)
    }

    /// Walks down a dotted path; stops at the deepest existing value and says whether all of it was found.
    pub fn locate(&self, path: &str) -> (&Origin, bool) {
        let mut here = self;
        let mut origin = &self.origin;
        for key in path.split('.').filter(|key| !key.is_empty()) {
            match here.entry(key) {
                Some(entry) => {
                    here = &entry.tree;
                    origin =
                        if matches!(here.node, Node::Table(_)) { &entry.key_origin } else { &here.origin };
                }
                // What is inside a list has no place of its own.
                None => return (origin, !matches!(here.node, Node::Table(_))),
            }
        }
        (origin, true)
    }

    /// Lays `upper` over this tree: tables merge key by key, everything else is replaced.
    pub fn merge(&mut self, upper: Tree) {
        match (&mut self.node, upper.node) {
            (Node::Table(below), Node::Table(above)) => {
                for entry in above {
                    match below.iter_mut().find(|e| e.key == entry.key) {
                        Some(existing) => {
                            existing.key_origin = entry.key_origin;
                            existing.tree.merge(entry.tree);
                        }
                        None => below.push(entry),
                    }
                }
            }
            (below, above) => {
                *below = above;
                self.origin = upper.origin;
            }
        }
    }

    /// The plain JSON value.
    pub fn to_value(&self) -> Value {
        match &self.node {
            Node::Leaf(value) => value.clone(),
            Node::Table(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.tree.to_value())).collect())
            }
        }
    }
}

/// What stands right of `=` in `--set`: a TOML value where it parses as one, else the text itself
/// (so that `--set stages.threshold.config.objective=macro_f1` needs no quotes).
///
/// # Errors
/// A number that TOML has and settings have not: infinity, not-a-number, an integer beyond 64 bits.
fn override_value(text: &str) -> Result<Value, String> {
    match DeValue::parse(text) {
        Ok(value) => match (value.get_ref(), leaf(value.get_ref())) {
            (DeValue::Integer(_) | DeValue::Float(_), leaf) => leaf,
            // A date may well be the name of a folder.
            (_, leaf) => Ok(leaf.unwrap_or_else(|_| Value::String(text.to_owned()))),
        },
        Err(_) => Ok(Value::String(text.to_owned())),
    }
}

fn from_table(
    table: &DeTable<'_>,
    span: Range<usize>,
    source: &Arc<Source>,
) -> Result<Tree, Box<Diagnostic>> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let key_origin = Origin { source: Arc::clone(source), span: key.span() };
        let tree = match value.get_ref() {
            DeValue::Table(inner) => from_table(inner, value.span(), source)?,
            other => {
                let origin = Origin { source: Arc::clone(source), span: value.span() };
                let value = leaf(other).map_err(|message| Box::new(Diagnostic::at(message, &origin)))?;
                Tree { node: Node::Leaf(value), origin }
            }
        };
        entries.push(Entry { key: key.get_ref().to_string(), key_origin, tree });
    }
    Ok(Tree { node: Node::Table(entries), origin: Origin { source: Arc::clone(source), span } })
}

fn leaf(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(integer) => {
            let digits: String = integer.as_str().chars().filter(|c| *c != '_').collect();
            let parsed = i64::from_str_radix(&digits, integer.radix());
            Value::Number(parsed.map_err(|_| "an integer out of range".to_owned())?.into())
        }
        DeValue::Float(float) => {
            let digits: String = float.as_str().chars().filter(|c| *c != '_').collect();
            let parsed: f64 = digits.parse().map_err(|_| "a number out of range".to_owned())?;
            Value::Number(Number::from_f64(parsed).ok_or("expected a finite number")?)
        }
        DeValue::Datetime(_) => return Err("a date is not a value of any setting".to_owned()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| leaf(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), leaf(value.get_ref())?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Tree {
        let source = Source { name: "a.toml".to_owned(), text: text.to_owned(), base: None };
        Tree::parse(Arc::new(source)).expect("valid")
    }

    #[test]
    fn layers_merge_by_key_and_keep_their_origin() {
        let mut tree = parse("a = 1\n[t]\nx = 1\ny = [1, 2]\n");
        tree.merge(Tree::from_override("t.x=5").expect("valid"));
        assert_eq!(tree.to_value(), serde_json::json!({"a": 1, "t": {"x": 5, "y": [1, 2]}}));
        assert_eq!(tree.locate("t.x").0.place(), "--set t.x=5");
        assert_eq!(tree.locate("t.y").0.place(), "a.toml:4");
        assert_eq!(tree.locate("t.zz"), (tree.locate("t").0, false));
    }

    impl PartialEq for Origin {
        fn eq(&self, other: &Self) -> bool {
            self.place() == other.place() && self.span == other.span
        }
    }

    #[test]
    fn overrides_take_toml_values_or_plain_words() {
        for (text, value) in [
            ("a.b=3", serde_json::json!(3)),
            ("a.b=3e-5", serde_json::json!(3e-5)),
            ("a.b=true", serde_json::json!(true)),
            ("a.b=[5, 8]", serde_json::json!([5, 8])),
            ("a.b=macro_f1", serde_json::json!("macro_f1")),
            ("a.b=\"x y\"", serde_json::json!("x y")),
            ("a.b=../data", serde_json::json!("../data")),
            ("a.b=2026-01-31", serde_json::json!("2026-01-31")),
        ] {
            let tree = Tree::from_override(text).expect("valid");
            assert_eq!(tree.to_value()["a"]["b"], value, "{text}");
        }
        for text in ["a.b=nan", "a.b=-inf", "a.b=99999999999999999999"] {
            let problem = Tree::from_override(text).expect_err(text);
            assert_eq!(problem.origin.as_ref().map(|origin| origin.span.start), Some(4), "{text}");
        }
        assert!(Tree::from_override("a.b").is_err());
        assert!(Tree::from_override("a..b=1").is_err());
    }
}

//! Which cells a sweep has, and the changes of each.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::sweep::spec::{Combination, Mode, Spec};
use crate::tree::Tree;

/// More cells than this are taken for a slip.
const MAX_CELLS: usize = 10_000;

/// One choice of variants with one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// (axis, variant) in the order of the axes; an axis at its base is left out.
    pub choices: Vec<(String, String)>,
    /// The seed, where the sweep has several.
    pub seed: Option<i64>,
}

impl Cell {
    /// The variants joined by `+`; `base` without any.
    pub fn variant(&self) -> String {
        let names: Vec<&str> = self.choices.iter().map(|(_, variant)| variant.as_str()).collect();
        if names.is_empty() { "base".to_owned() } else { names.join("+") }
    }

    /// The variants and the seed: `caml+s2`.
    pub fn name(&self) -> String {
        match self.seed {
            Some(seed) => format!("{}+s{seed}", self.variant()),
            None => self.variant(),
        }
    }
}

/// Every cell, in order: variants as written, the seeds of each together.
pub(crate) fn cells(spec: &Spec) -> Result<Vec<Cell>, Diagnostics> {
    let mut combinations: Vec<Combination> = match spec.mode {
        Mode::List => Vec::new(),
        Mode::Ablation => ablation(spec),
        Mode::Grid => grid(spec)?,
    };
    combinations.retain(|found| !spec.exclude.iter().any(|pattern| matches(found, pattern)));
    // What is asked for by name stays, whatever was excluded by pattern.
    for wanted in &spec.include {
        if !combinations.contains(wanted) {
            combinations.push(wanted.clone());
        }
    }
    if combinations.is_empty() {
        return Err(Diagnostic::at("`exclude` leaves nothing of the sweep", &spec.origin).into());
    }
    let seeds: Vec<Option<i64>> =
        if spec.seeds.is_empty() { vec![None] } else { spec.seeds.iter().copied().map(Some).collect() };
    let cell = |found: &Combination, seed| Cell {
        choices: spec
            .axes
            .iter()
            .filter_map(|axis| Some((axis.name.clone(), found.get(&axis.name)?.clone())))
            .collect(),
        seed,
    };
    Ok(combinations.iter().flat_map(|found| seeds.iter().map(|seed| cell(found, *seed))).collect())
}

fn ablation(spec: &Spec) -> Vec<Combination> {
    let alone = spec.axes.iter().flat_map(|axis| {
        axis.variants.iter().map(|variant| Combination::from([(axis.name.clone(), variant.name.clone())]))
    });
    std::iter::once(Combination::new()).chain(alone).collect()
}

fn grid(spec: &Spec) -> Result<Vec<Combination>, Diagnostics> {
    let size = spec.axes.iter().try_fold(1_usize, |size, axis| size.checked_mul(axis.variants.len()));
    if size.is_none_or(|size| size > MAX_CELLS) {
        let message = format!("the grid has more than {MAX_CELLS} combinations");
        return Err(Diagnostic::at(message, &spec.origin).into());
    }
    let start = vec![Combination::new()];
    Ok(spec.axes.iter().fold(start, |found, axis| {
        let extend = |combination: &Combination, variant: &str| {
            let mut longer = combination.clone();
            longer.insert(axis.name.clone(), variant.to_owned());
            longer
        };
        found.iter().flat_map(|c| axis.variants.iter().map(move |v| extend(c, &v.name))).collect()
    }))
}

fn matches(combination: &Combination, pattern: &Combination) -> bool {
    pattern.iter().all(|(axis, variant)| combination.get(axis) == Some(variant))
}

/// The base with the changes of a cell laid over it.
pub(crate) fn tree_of(base: &Tree, spec: &Spec, cell: &Cell) -> Result<Tree, Diagnostics> {
    let mut tree = base.clone();
    for (axis, name) in &cell.choices {
        let axis = spec.axis(axis);
        let variant = axis.and_then(|axis| axis.variants.iter().find(|variant| variant.name == *name));
        if let Some(variant) = variant {
            tree.merge(variant.changes.clone());
        }
    }
    if let Some(seed) = cell.seed {
        for path in &spec.seed_paths {
            let stage: String = path.split('.').take(2).collect::<Vec<_>>().join(".");
            if !tree.locate(&stage).1 {
                let message = format!("`seed_paths` names {path}, but there is no `{stage}`");
                return Err(Diagnostic::at(message, &spec.origin).into());
            }
            tree.merge(Tree::made(path, serde_json::json!(seed), &spec.origin));
        }
    }
    Ok(tree)
}

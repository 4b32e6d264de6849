//! Sweeps: many variants of one pipeline as one pipeline.
//!
//! ```toml
//! extends = "../demo.toml"
//! [sweep]
//! mode = "ablation"                    # or "grid", "list"
//! seeds = [1, 2, 3]
//! [sweep.axes.attention.caml]          # axis `attention`, variant `caml`
//! stages.finetune.config.attention = "caml"
//! [sweep.collect.table]                # a stage that reads from every cell
//! stage = "sweep-report"
//! inputs.evaluation = "evaluate"
//! ```
//!
//! A *cell* is one choice of variants with one seed. Every cell is resolved and checked as a pipeline of its own;
//! then the cells are laid over one another: a node (its stage, config and all it reads from) that is the same in
//! several cells is one node. So everything upstream of a difference is shared, and planning, running, explaining
//! and resuming a sweep is that of any pipeline.

mod cells;
mod expand;
mod spec;

pub use cells::Cell;
pub(crate) use cells::{cells, tree_of};
pub(crate) use expand::expand;
pub(crate) use spec::Spec;

use std::collections::BTreeMap;

/// What is kept of a sweep in its expanded pipeline.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Every cell, in the order of the file.
    pub cells: Vec<SweepCell>,
}

/// A cell and its nodes.
#[derive(Clone, Debug)]
pub struct SweepCell {
    /// The choice that it stands for.
    pub cell: Cell,
    /// Name in the file to name in the expanded pipeline.
    pub nodes: BTreeMap<String, String>,
}

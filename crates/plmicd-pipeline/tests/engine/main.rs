//! The engine on toy stages: files, keys, plans and single nodes.

mod files;
mod planning;
mod presets;
mod sweeps;
mod toy;

//! The pipeline engine: stages, fingerprints, pipeline files, planner and executor.
//!
//! | to find | look in |
//! |---|---|
//! | what a stage is and sees | [`stage`], [`event`], [`registry`] |
//! | how a pipeline file becomes a [`pipeline::Pipeline`] | [`file`], [`tree`], [`preset`], [`diagnostic`] |
//! | what a key is made of, and why a node runs | [`fingerprint`], [`plan`], [`source`] |
//! | running: one node, a whole pipeline | [`run_node`], [`execute`], [`resources`] |
//! | a plan as jobs of a cluster | [`cluster`] |
//! | many variants as one pipeline | [`sweep`] |
//! | what is kept of a run | [`run_record`], [`history`], [`tensorboard`] |

pub mod cluster;
pub mod diagnostic;
pub mod event;
pub mod execute;
pub mod file;
pub mod fingerprint;
pub mod history;
pub mod pipeline;
pub mod plan;
pub mod preset;
pub mod ranks;
pub mod registry;
pub mod resources;
pub mod run_node;
pub mod run_record;
pub mod source;
pub mod stage;
pub mod sweep;
pub mod tensorboard;
pub mod tree;

pub use event::{Event, EventRecord, EventSink, NoEvents};
pub use preset::Preset;
pub use ranks::Ranks;
pub use registry::{Registry, SourceKind};
pub use stage::{
    Auto, BadInput, ConfigIssue, Input, InputSpec, Interrupt, Memory, Runtime, Stage, StageContext,
    StageError,
};

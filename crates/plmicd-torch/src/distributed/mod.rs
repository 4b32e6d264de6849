//! Several processes on one computation, over PyTorch's own c10d: a key-value store in which they meet, and a group that
//! sums tensors over all of them. Gloo on the CPU, NCCL on GPUs.
//!
//! Needs the feature `distributed`; without it [`Store::open`] says so.

#[cfg(not(feature = "distributed"))]
mod absent;
#[cfg(feature = "distributed")]
mod present;

use std::time::Duration;

#[cfg(not(feature = "distributed"))]
pub use self::absent::{Group, Store};
#[cfg(feature = "distributed")]
pub use self::present::{Group, Store};

/// Whether this build can do it.
pub const AVAILABLE: bool = cfg!(feature = "distributed");

/// Where processes meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// Name or address of the host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether this process keeps the store; otherwise it connects to the one that does.
    pub is_host: bool,
    /// How long to wait for the store, and for a value in it.
    pub timeout: Duration,
}

/// A process's place in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Keeps the group's keys in the store apart from those of others.
    pub prefix: String,
    /// From 0.
    pub rank: usize,
    /// Processes in the group.
    pub size: usize,
    /// How long to wait for the others.
    pub timeout: Duration,
    /// Network interface to be reached at; the one that the host's name stands for where absent.
    pub interface: Option<String>,
    /// All processes are on this host.
    pub is_local: bool,
}

//! Several processes on one stage: who this one is, and where they meet.
//!
//! Launchers (torchrun, Slurm's srun) start the same command several times. The first process, rank 0, runs the pipeline as
//! always; the others only join it in stages that can share their work ([`crate::Stage::PARALLEL`]).

use std::time::Duration;

/// This process among those that run a stage together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// Its number, from 0. The first one publishes what the stage makes.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Its number on this machine.
    pub local_rank: usize,
    /// The number of its GPU among those that it sees.
    pub gpu: usize,
    /// Processes on this machine.
    pub local_size: usize,
    /// Name or address of the machine where they meet.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Whether this process keeps the store in which they meet.
    pub is_host: bool,
    /// Keeps their keys in that store apart from those of other stages.
    pub prefix: String,
    /// Network interface to be reached at, where it was chosen.
    pub interface: Option<String>,
}

impl Ranks {
    /// Whether this process publishes.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Whether all processes are on this machine.
    pub fn is_local(&self) -> bool {
        self.local_size == self.size
    }

    /// Worker threads of this process: `threads`, or its share of the machine's.
    pub fn threads(&self, threads: usize) -> usize {
        match threads {
            0 => {
                let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
                (cores / self.local_size.max(1)).max(1)
            }
            threads => threads,
        }
    }

    /// How long to wait for the store when it is opened: launchers start processes minutes apart.
    pub const MEETING: Duration = Duration::from_secs(600);
}

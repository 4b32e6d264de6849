//! `plmicd run` as several processes: the first one runs the pipeline as always and tells the others which stages to join.
//!
//! ```text
//! run/N     the N-th stage to be joined: {"node", "force"}
//! N/…       what its processes tell one another
//! over      the exit code of the first process
//! left/R    process R has heard it
//! ```

use std::cell::Cell;
use std::process::Stdio;
use std::time::{Duration, Instant};

use plmicd_torch::TorchError;
use plmicd_torch::distributed::{Meeting, Store};
use serde::{Deserialize, Serialize};

use crate::cli::RunArgs;
use crate::commands::World;
use crate::commands::run::node_command;
use crate::failure::{Failure, chain, exit};
use crate::ranks::Place;

/// Between two looks into the store.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the first process waits for the others to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(30);
/// What a stage's first process has ended means to those that still wait for it.
const ENDED: &str = "ended";

#[derive(Serialize, Deserialize)]
struct Joint {
    node: String,
    force: bool,
}

fn open(place: &Place) -> Result<Store, Failure> {
    let (host, port) = (place.host.clone(), place.port);
    let meeting = Meeting { host, port, is_host: place.is_host(), timeout: plmicd_pipeline::Ranks::MEETING };
    Store::open(&meeting).map_err(|error| {
        Failure::new(exit::INTERNAL, format!("meeting at {}:{}: {}", place.host, place.port, chain(&error)))
    })
}

/// The first process's end.
pub struct Lead {
    place: Place,
    store: Store,
    next: Cell<u64>,
}

impl Lead {
    /// Opens the store where the others come.
    pub fn new(place: Place) -> Result<Self, Failure> {
        let store = open(&place)?;
        Ok(Self { place, store, next: Cell::new(0) })
    }

    /// Calls the others to a stage. Gives its number among those to be joined.
    pub fn call(&self, node: &str, force: bool) -> u64 {
        // Before it is counted: whoever hears that a stage has ended does not join it.
        self.release();
        let number = self.next.get();
        self.next.set(number + 1);
        let joint = Joint { node: node.to_owned(), force };
        if let Ok(text) = serde_json::to_vec(&joint) {
            // Where that fails the stage itself finds that nobody comes, and says so.
            let _ = self.store.set(&self.place.key(&format!("run/{number}")), &text);
        }
        number
    }

    /// Whoever still waits in the stage called last need not: it has ended, since stages are run one at a time.
    fn release(&self) {
        if let Some(last) = self.next.get().checked_sub(1) {
            let _ = self.store.set(&self.place.key(&format!("{last}/{ENDED}")), b"");
        }
    }

    /// Tells the others that it is over, and waits for them to have heard, since the store goes with this process.
    pub fn end(self, code: u8) {
        self.release();
        let _ = self.store.set(&self.place.key("over"), code.to_string().as_bytes());
        let started = Instant::now();
        let has_left = |rank: usize| self.store.has(&self.place.key(&format!("left/{rank}"))).unwrap_or(true);
        while started.elapsed() < FAREWELL && !(1..self.place.size).all(has_left) {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Joins the first process in its stages until it is over.
pub fn follow(world: &World<'_>, args: &RunArgs, place: &Place) -> Result<(), Failure> {
    let store = open(place)?;
    let lost = |error: TorchError| {
        Failure::new(
            exit::STAGE,
            format!("process {}: the first process has gone: {}", place.rank, chain(&error)),
        )
    };
    let leave = || drop(store.set(&place.key(&format!("left/{}", place.rank)), b""));
    for number in 0u64.. {
        let call = place.key(&format!("run/{number}"));
        while !store.has(&call).map_err(lost)? {
            if store.has(&place.key("over")).map_err(lost)? {
                let code = store.get(&place.key("over")).map_err(lost)?;
                leave();
                return match String::from_utf8_lossy(&code).parse() {
                    Ok(0) => Ok(()),
                    Ok(code) => Err(Failure::silent(code)),
                    Err(_) => Err(Failure::silent(exit::INTERNAL)),
                };
            }
            if world.interrupt.is_raised() {
                leave();
                return Err(Failure::silent(exit::INTERRUPTED));
            }
            std::thread::sleep(PAUSE);
        }
        let text = store.get(&call).map_err(lost)?;
        let joint: Joint = serde_json::from_slice(&text)
            .map_err(|error| Failure::new(exit::INTERNAL, format!("the first process's call: {error}")))?;
        let code = join(world, args, place, &joint, number)?;
        if code != 0 && code != i32::from(exit::INTERRUPTED) {
            leave();
            return Err(Failure::silent(exit::STAGE));
        }
    }
    Ok(())
}

/// Runs a stage's process of this rank.
fn join(
    world: &World<'_>,
    args: &RunArgs,
    place: &Place,
    joint: &Joint,
    number: u64,
) -> Result<i32, Failure> {
    world.terminal.say(&format!("process {} of {} joins `{}`", place.rank, place.size, joint.node));
    let mut command = node_command(world, args, &joint.node, joint.force);
    command.args(["--group", &number.to_string()]);
    // Its errors go where this process's go: the launcher keeps them apart.
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take();
    loop {
        if world.interrupt.is_raised() {
            // Asks it to stop.
            stdin = None;
        }
        if let Some(status) = child.try_wait()? {
            drop(stdin);
            return Ok(status.code().unwrap_or(i32::from(exit::STAGE)));
        }
        std::thread::sleep(PAUSE);
    }
}

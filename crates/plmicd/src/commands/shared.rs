//! The shared store: asking it for what the store lacks, `artifact push` and `artifact pull`.

use plmicd_artifact::Store;

use crate::commands::World;
use crate::failure::Failure;

/// What to push or pull.
#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "this build only says that it cannot"))]
pub enum Wanted<'a> {
    /// By digest or pin.
    Named(&'a [String]),
    /// What a run made or used.
    Run(&'a str),
    /// Everything.
    All,
}

#[cfg(feature = "remote")]
pub use with::{attach, pull, push};
#[cfg(not(feature = "remote"))]
pub use without::{attach, pull, push};

#[cfg(not(feature = "remote"))]
mod without {
    use super::*;

    fn absent<T>() -> Result<T, Failure> {
        Err(Failure::usage(
            "this build has no shared store\nhint: build plmicd with `--features remote`, or leave --remote (PLMICD_REMOTE) out",
        ))
    }

    pub fn attach(_world: &World<'_>, _store: Store, _url: &str) -> Result<Store, Failure> {
        absent()
    }

    pub fn push(
        _world: &World<'_>,
        _store: &Store,
        _wanted: &Wanted<'_>,
        _allow_restricted: bool,
        _again: bool,
    ) -> Result<(), Failure> {
        absent()
    }

    pub fn pull(_world: &World<'_>, _store: &Store, _wanted: &Wanted<'_>) -> Result<(), Failure> {
        absent()
    }
}

#[cfg(feature = "remote")]
mod with {
    use std::sync::Arc;

    use plmicd_artifact::ArtifactRef;
    use plmicd_artifact::remote::{PushOptions, Remote, RemoteError, Transfer};

    use super::*;
    use crate::commands::runs;
    use crate::failure::{chain, exit};
    use crate::ui::progress::Progress;
    use crate::ui::text;

    /// The prefixes of the environment variables that object stores take their settings from.
    const VARIABLES: [&str; 3] = ["aws_", "google_", "azure_"];
    /// Seconds between two lines of a transfer.
    const LOG_SECONDS: u64 = 10;

    /// The settings of object stores that the environment holds.
    fn options() -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
            })
            .filter(|(name, _)| VARIABLES.iter().any(|prefix| name.starts_with(prefix)))
            .collect()
    }

    fn given<'a>(world: &'a World<'_>) -> Result<&'a str, Failure> {
        world.remote().ok_or_else(|| {
            Failure::usage("which shared store?\nhint: name it with --remote URL, or in PLMICD_REMOTE")
        })
    }

    pub fn attach(world: &World<'_>, store: Store, url: &str) -> Result<Store, Failure> {
        match Remote::open(url, &options()) {
            Ok(remote) => Ok(store.with_mirror(Arc::new(remote))),
            Err(error @ RemoteError::NoFolder { .. }) => {
                world.terminal.warn(&format!("going on without the shared store: {error}"));
                Ok(store)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What one artifact could not be moved for, while the others still can be.
    fn is_its_own(error: &RemoteError) -> bool {
        use plmicd_artifact::StoreError;
        matches!(
            error,
            RemoteError::Restricted { .. }
                | RemoteError::Damaged { .. }
                | RemoteError::Missing { .. }
                | RemoteError::Store(StoreError::Damaged { .. } | StoreError::Missing { .. })
        )
    }

    /// Moves each artifact; one that cannot be stops nothing, but the command fails at the end.
    fn each(
        world: &World<'_>,
        artifacts: &[ArtifactRef],
        mut transfer: impl FnMut(
            &ArtifactRef,
            &mut plmicd_artifact::Progress<'_>,
        ) -> Result<Transfer, RemoteError>,
        said: impl FnOnce(usize, Transfer) -> String,
    ) -> Result<(), Failure> {
        let mut failed: Option<Failure> = None;
        let (mut total, mut count) = (Transfer::default(), 0);
        for artifact in artifacts {
            match follow(world, artifact, |progress| transfer(artifact, progress)) {
                Ok(done) => {
                    count += 1;
                    total.files += done.files;
                    total.bytes += done.bytes;
                    total.present += done.present;
                }
                Err(error) if is_its_own(&error) && failed.is_none() => failed = Some(error.into()),
                Err(error) if is_its_own(&error) => world.terminal.say(&chain(&error)),
                Err(error) => return Err(error.into()),
            }
        }
        world.terminal.print(&said(count, total));
        failed.map_or(Ok(()), Err)
    }

    /// Pushes each artifact.
    pub fn push(
        world: &World<'_>,
        store: &Store,
        wanted: &Wanted<'_>,
        allow_restricted: bool,
        again: bool,
    ) -> Result<(), Failure> {
        let remote = Remote::open_or_make(given(world)?, &options())?;
        let artifacts: Vec<ArtifactRef> = match wanted {
            Wanted::All => store.list()?.into_iter().map(|a| ArtifactRef::new(a.kind, a.digest)).collect(),
            Wanted::Named(names) => {
                names.iter().map(|name| store.resolve(name)).collect::<Result<Vec<_>, _>>()?
            }
            Wanted::Run(run) => of_run(store, run)?,
        };
        let options = PushOptions { allow_restricted, again };
        // None may be collected while the others are on their way.
        let kept: Vec<_> =
            artifacts.iter().map(|artifact| (artifact.kind.clone(), artifact.digest)).collect();
        let _lease = store.lease(&kept)?;
        each(
            world,
            &artifacts,
            |artifact, progress| remote.push(store, artifact, options, progress),
            |count, total| {
                format!(
                    "pushed {count} of {} artifacts to {}: {} new files, {}, {} there already",
                    artifacts.len(),
                    remote.url(),
                    total.files,
                    text::bytes(total.bytes),
                    total.present
                )
            },
        )
    }

    /// Pulls each artifact, with the records that lead to it.
    pub fn pull(world: &World<'_>, store: &Store, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let remote = Remote::open(given(world)?, &options())?;
        let there = remote.list()?;
        let artifacts = match wanted {
            Wanted::Named(names) => {
                names.iter().map(|name| named(&remote, &there, name)).collect::<Result<Vec<_>, _>>()?
            }
            Wanted::All | Wanted::Run(_) => there,
        };
        let records = remote.records_of(&artifacts)?;
        each(
            world,
            &artifacts,
            |artifact, progress| remote.pull(store, artifact, &records, progress),
            |count, total| {
                format!(
                    "pulled {count} of {} artifacts from {}: {} new files, {}, {} here already",
                    artifacts.len(),
                    remote.url(),
                    total.files,
                    text::bytes(total.bytes),
                    total.present
                )
            },
        )
    }

    /// The artifact whose digest begins so.
    fn named(remote: &Remote, there: &[ArtifactRef], name: &str) -> Result<ArtifactRef, Failure> {
        let wanted = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        if wanted.len() < 6 {
            return Err(Failure::usage(format!(
                "`{name}` is too short: give at least 6 characters of the digest"
            )));
        }
        let found: Vec<&ArtifactRef> =
            there.iter().filter(|artifact| artifact.digest.to_string().starts_with(&wanted)).collect();
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Failure::usage(format!(
                "{} has no artifact whose digest begins with `{name}`",
                remote.url()
            ))),
            several => {
                let names: Vec<String> = several.iter().map(|artifact| artifact.to_string()).collect();
                Err(Failure::usage(format!("`{name}` is the beginning of\n{}", names.join("\n"))))
            }
        }
    }

    /// What a run made or used and the store still has.
    fn of_run(store: &Store, run: &str) -> Result<Vec<ArtifactRef>, Failure> {
        let record = runs::find(store, run)?;
        let mut found: Vec<ArtifactRef> = record
            .nodes
            .values()
            .filter_map(|node| node.artifact.as_ref())
            .map(|(kind, digest)| ArtifactRef::new(kind.clone(), *digest))
            .filter(|artifact| store.manifest(&artifact.kind, artifact.digest).is_ok())
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Draws a transfer as it goes on.
    fn follow<T>(
        world: &World<'_>,
        artifact: &ArtifactRef,
        transfer: impl FnOnce(&mut plmicd_artifact::Progress<'_>) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        use plmicd_pipeline::execute::RunObserver;
        let name = artifact.short();
        let mut drawn = Progress::new(world.terminal, std::iter::once(name.as_str()), LOG_SECONDS);
        let outcome = transfer(&mut |done, total| {
            drawn.event(&plmicd_pipeline::EventRecord {
                time: String::new(),
                node: name.clone(),
                event: plmicd_pipeline::Event::Progress {
                    phase: "shared store".to_owned(),
                    done,
                    total: Some(total),
                    unit: "bytes".to_owned(),
                },
            });
            !world.interrupt.is_raised()
        });
        drawn.clear(&name);
        outcome
    }

    impl From<RemoteError> for Failure {
        fn from(error: RemoteError) -> Self {
            let code = match &error {
                RemoteError::Url { .. }
                | RemoteError::NoFolder { .. }
                | RemoteError::Restricted { .. }
                | RemoteError::Missing { .. } => exit::USAGE,
                RemoteError::Damaged { .. } => exit::VERIFICATION,
                RemoteError::Interrupted => exit::INTERRUPTED,
                RemoteError::Io { .. } | RemoteError::Store(_) => exit::INTERNAL,
            };
            Self::new(code, chain(&error))
        }
    }
}

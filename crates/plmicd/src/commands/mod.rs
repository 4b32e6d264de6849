//! What each command does.

mod artifact;
mod compare;
mod config;
mod doctor;
#[cfg(feature = "torch")]
mod exchange;
#[cfg(feature = "torch")]
mod group;
mod plan;
#[cfg(feature = "torch")]
mod predict;
mod report_page;
mod run;
mod runs;
mod shared;
mod synth;

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use clap::CommandFactory;
use plmicd_artifact::Store;
use plmicd_pipeline::file::{PipelineText, load};
use plmicd_pipeline::pipeline::Pipeline;
use plmicd_pipeline::{Interrupt, Registry};

use crate::cli::{Cli, Command, PipelineArgs};
use crate::failure::Failure;
use crate::node_process;
use crate::registry::registry;
use crate::ui::Terminal;

/// The pipeline that runs where no file is named.
const DEMO: &str = include_str!("../../../../pipelines/demo.toml");

/// Runs the command.
pub fn dispatch(cli: &Cli, terminal: &Terminal) -> Result<(), Failure> {
    let world = World::new(cli, terminal)?;
    match &cli.command {
        Command::Run(args) => run::run(&world, args),
        Command::Plan(args) => plan::plan(&world, args),
        Command::Status(args) => plan::status(&world, args),
        Command::Explain(args) => plan::explain(&world, args),
        Command::Config(command) => config::config(&world, command),
        Command::Artifact(command) => artifact::artifact(&world, command),
        Command::Runs(args) => runs::list(&world, args),
        Command::Show(args) => runs::show(&world, args),
        Command::Compare(args) => compare::compare(&world, args),
        Command::Logs(args) => runs::logs(&world, args),
        #[cfg(feature = "torch")]
        Command::Predict(args) => predict::predict(&world, args),
        Command::Synth(args) => synth::synth(&world, args),
        #[cfg(feature = "torch")]
        Command::Import(command) => exchange::import(&world, command),
        #[cfg(feature = "torch")]
        Command::Export(command) => exchange::export(&world, command),
        #[cfg(not(feature = "torch"))]
        Command::Import(_) | Command::Export(_) => {
            Err(Failure::usage("this build has no libtorch, which reading and writing models needs"))
        }
        Command::Doctor(args) => doctor::doctor(&world, args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "plmicd", &mut script);
            terminal.print(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            terminal.print(&String::from_utf8_lossy(&page));
            Ok(())
        }
    }
}

/// What every command works with.
pub struct World<'a> {
    /// Where to write.
    pub terminal: &'a Terminal,
    /// Stages and kinds of source.
    pub registry: Registry,
    /// Raised by signals.
    pub interrupt: Interrupt,
    store_root: Utf8PathBuf,
    remote: Option<String>,
}

impl<'a> World<'a> {
    fn new(cli: &Cli, terminal: &'a Terminal) -> Result<Self, Failure> {
        let interrupt = Interrupt::default();
        node_process::watch_signals(&interrupt)?;
        Ok(Self {
            terminal,
            registry: registry(),
            interrupt,
            store_root: cli.global.store.clone(),
            remote: cli.global.remote.clone().filter(|url| !url.is_empty()),
        })
    }

    /// The store, made if absent.
    pub fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.store_root)?)
    }

    /// A store that is there, to look into.
    pub fn store_to_read(&self) -> Result<Store, Failure> {
        Ok(Store::open_to_read(&self.store_root)?)
    }

    /// The store, which asks the shared one, where there is one, for what it lacks.
    pub fn shared_store(&self) -> Result<Store, Failure> {
        let store = self.store()?;
        match &self.remote {
            Some(url) => shared::attach(self, store, url),
            None => Ok(store),
        }
    }

    /// The shared store's URL.
    #[cfg(feature = "remote")]
    pub fn remote(&self) -> Option<&str> {
        self.remote.as_deref()
    }

    /// The arguments that name the shared store to another `plmicd`.
    pub fn remote_words(&self) -> Option<[String; 2]> {
        Some(["--remote".to_owned(), self.remote.clone()?])
    }

    /// The store's folder as given.
    pub fn store_root(&self) -> &Utf8PathBuf {
        &self.store_root
    }

    /// The pipeline of these arguments, checked.
    pub fn pipeline(&self, args: &PipelineArgs) -> Result<Pipeline, Failure> {
        let from = match &args.file {
            Some(file) => PipelineText::File(file.clone()),
            None => PipelineText::Embedded { name: "demo.toml (built in)".to_owned(), text: DEMO.to_owned() },
        };
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let pipeline = load(&from, &args.overrides, &self.registry, &variables)?;
        if !pipeline.left_out.is_empty() {
            let names = pipeline.left_out.join(", ");
            self.terminal.say(&format!("left out, since this build has no libtorch: {names}"));
        }
        Ok(pipeline)
    }
}

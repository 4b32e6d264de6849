//! The command line.

use std::num::NonZeroUsize;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};
use plmicd_pipeline::resources::Capacity;

/// The store of a command that names none.
pub const USUAL_STORE: &str = "artifacts";

/// Automatic ICD coding as PLM-ICD does it: from raw hospital notes to a trained, evaluated model.
#[derive(Debug, Parser)]
#[command(name = "plmicd", version, max_term_width = 100, infer_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The artifact store.
    #[arg(long, global = true, value_name = "DIR", env = "PLMICD_STORE", default_value = USUAL_STORE)]
    pub store: Utf8PathBuf,
    /// A shared store that is asked for what the store lacks: s3://, gs://, az:// or a folder.
    #[arg(long, global = true, value_name = "URL", env = "PLMICD_REMOTE", hide_env_values = true)]
    pub remote: Option<String>,
    /// Colours.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,
    /// Progress: bars on a terminal, plain lines elsewhere.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "HOW")]
    pub progress: ProgressMode,
    /// How results and events are written to stdout.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub message_format: MessageFormat,
    /// Only warnings and errors on stderr.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// More on stderr; twice for debugging.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    #[default]
    Auto,
    Plain,
    Off,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MessageFormat {
    #[default]
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline: whatever is not in the store yet.
    Run(RunArgs),
    /// Show what `run` would do, and why.
    Plan(PlanArgs),
    /// Show the state of every stage of a pipeline.
    Status(PipelineArgs),
    /// Tell why a stage would run, setting by setting.
    Explain(ExplainArgs),
    /// Check, show or describe pipeline files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after the artifact store.
    #[command(subcommand)]
    Artifact(ArtifactCommand),
    /// List past runs.
    Runs(RunsArgs),
    /// Show one run: its stages, times and results.
    Show(ShowArgs),
    /// Tell whether two evaluations differ by more than chance.
    Compare(CompareArgs),
    /// Print the log of a stage of a run.
    Logs(LogsArgs),
    /// Code notes with a trained model: tables, text files, or a text on stdin.
    #[cfg(feature = "torch")]
    Predict(PredictArgs),
    /// Write a synthetic corpus in the shapes of MIMIC-III.
    Synth(SynthArgs),
    /// Take a model that was trained by another program into the store.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Write a model in the form another program loads.
    #[command(subcommand)]
    Export(ExportCommand),
    /// Tell what was found on this machine, and how to mend what is missing.
    Doctor(DoctorArgs),
    /// Print the completion script of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

/// Which pipeline.
#[derive(Clone, Debug, Args)]
pub struct PipelineArgs {
    /// Pipeline file; without one, the built-in demo.
    #[arg(value_name = "FILE")]
    pub file: Option<Utf8PathBuf>,
    /// Change a value of the file: `stages.finetune.config.epochs=3`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub overrides: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Up to and with this stage.
    #[arg(long, value_name = "NODE")]
    pub until: Option<String>,
    /// Run this stage even where its output is in the store.
    #[arg(long, value_name = "NODE")]
    pub force: Vec<String>,
    /// How to print the plan.
    #[arg(long, value_enum, default_value_t)]
    pub format: PlanFormat,
    /// The folder for the scripts of `--format slurm`; made if absent.
    #[arg(long, value_name = "DIR", required_if_eq("format", "slurm"))]
    pub out: Option<Utf8PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    #[default]
    Text,
    Json,
    /// Graphviz.
    Dot,
    /// Scripts that submit it to Slurm.
    Slurm,
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Up to and with this stage.
    #[arg(long, value_name = "NODE")]
    pub until: Option<String>,
    /// This stage alone, in this process; what it reads from must be in the store.
    #[arg(long, value_name = "NODE", conflicts_with = "until")]
    pub only: Option<String>,
    /// Run this stage even where its output is in the store.
    #[arg(long, value_name = "NODE")]
    pub force: Vec<String>,
    /// Show what would run, and why, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Stages at once, where they do not depend on one another.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub jobs: usize,
    /// What they may use together, by the `needs` of each: `cpu=8,gpu=2,memory=64` (GiB).
    #[arg(long, value_name = "AMOUNTS", default_value = "", value_parser = resources)]
    pub resources: Capacity,
    /// Go on with what does not depend on a failed stage; sweeps always do.
    #[arg(long)]
    pub keep_going: bool,
    /// Started by another `plmicd run`: what it has planned to run.
    #[arg(long, hide = true, requires = "only", value_name = "KEY")]
    pub expect: Option<String>,
    /// Started by another `plmicd run`: stop when stdin is closed.
    #[arg(long, hide = true, requires = "only")]
    pub supervised: bool,
    /// Started by one of several `plmicd run`: the number of the stage among those that they run together.
    #[arg(long, hide = true, requires = "supervised", value_name = "N")]
    pub group: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Pipeline file; without one, the built-in demo.
    #[arg(value_name = "FILE")]
    pub file: Option<Utf8PathBuf>,
    /// One stage; without it, all.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Change a value of the file.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub overrides: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a pipeline file without running anything.
    Check(PipelineArgs),
    /// Show every setting with its value and where it was set.
    Show(PipelineArgs),
    /// Print the JSON Schema of a stage's settings, or of all stages.
    Schema {
        /// Stage name.
        stage: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ArtifactCommand {
    /// List artifacts.
    Ls {
        /// Only this kind.
        #[arg(long)]
        kind: Option<String>,
    },
    /// Show an artifact's files and where it came from.
    Show {
        /// Digest (6 or more characters) or pin.
        artifact: String,
    },
    /// Print a file of an artifact.
    Cat {
        /// Digest (6 or more characters) or pin.
        artifact: String,
        /// File name inside.
        file: String,
        /// Print it even though it derives from data under a use agreement.
        #[arg(long)]
        allow_restricted: bool,
    },
    /// Compare two artifacts: settings, inputs and files.
    Diff {
        /// Digest or pin.
        old: String,
        /// Digest or pin.
        new: String,
    },
    /// Read every file again and compare its digest.
    Verify {
        /// Digest or pin; without it, all.
        artifact: Option<String>,
        /// Move damaged artifacts aside, so that they are made again.
        #[arg(long)]
        quarantine: bool,
    },
    /// Keep an artifact from being collected, under a name.
    Pin {
        /// Digest.
        artifact: String,
        /// Name of the pin.
        name: String,
    },
    /// Take a pin away.
    Unpin {
        /// Name of the pin.
        name: String,
    },
    /// Remove one artifact.
    Rm {
        /// Digest.
        artifact: String,
    },
    /// Put artifacts into the shared store (--remote), with the records that lead to them.
    Push {
        /// Digest (6 or more characters) or pin.
        #[arg(required_unless_present_any = ["run", "all"])]
        artifacts: Vec<String>,
        /// All that a run made or used: its id, or `last`.
        #[arg(long, value_name = "RUN", conflicts_with_all = ["artifacts", "all"])]
        run: Option<String>,
        /// Everything in the store.
        #[arg(long, conflicts_with = "artifacts")]
        all: bool,
        /// Share what derives from data under a use agreement, too.
        #[arg(long)]
        allow_restricted: bool,
        /// Also send files that are there already, in case they are damaged.
        #[arg(long)]
        again: bool,
    },
    /// Fetch artifacts from the shared store (--remote). A run does so by itself.
    Pull {
        /// Digest (6 or more characters).
        #[arg(required_unless_present = "all")]
        artifacts: Vec<String>,
        /// Everything there.
        #[arg(long, conflicts_with = "artifacts")]
        all: bool,
    },
    /// Remove what no pin, no recent run and no live process needs.
    Gc {
        /// Runs per pipeline that ended well whose artifacts are kept.
        #[arg(long, default_value_t = 5, value_name = "N")]
        keep_runs: usize,
        /// Hours for which anything new is kept.
        #[arg(long, default_value_t = 24, value_name = "HOURS")]
        grace: u64,
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub struct RunsArgs {
    /// Only runs of this pipeline.
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// At most so many, newest last.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = at_least_one)]
    pub last: usize,
}

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Run id, or `last`; with `--format` also `RUN:STAGE`, where it has several reports.
    #[arg(default_value = "last")]
    pub run: String,
    /// Print the metrics table of the run's report in this form, and nothing else.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<TableFormat>,
}

/// Forms of the metrics table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    /// Markdown, the headline metrics.
    Md,
    /// Comma-separated, all metrics with their intervals.
    Csv,
    /// A `tabular`, percentages.
    Latex,
    /// All metrics with their intervals.
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// A run (its id or `last`, with `:STAGE` where it has several evaluations), or the digest of an evaluation.
    pub first: String,
    /// The other one.
    pub second: String,
    /// The split to compare on: dev or test.
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    pub split: plmicd_data::Split,
    /// Metrics at these k.
    #[arg(long, value_delimiter = ',', default_values_t = [5, 8, 15], value_name = "K")]
    pub k: Vec<usize>,
    /// Trials of the randomisation test.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub trials: u32,
    /// Decides the trials.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// Run id, or `last`.
    pub run: String,
    /// Stage.
    pub node: String,
}

#[cfg(feature = "torch")]
#[derive(Clone, Debug, Args)]
pub struct PredictArgs {
    /// The model: digest, pin or folder.
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Notes: tables .csv, .csv.gz or .parquet (a note a row), texts .txt or .txt.gz (a note a file), `-` for a text on
    /// stdin.
    #[arg(value_name = "FILE", required = true)]
    pub inputs: Vec<Utf8PathBuf>,
    /// File to write, .csv, .parquet or .jsonl; without it, codes go to stdout. Stopped, the same command goes on.
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    pub out: Option<Utf8PathBuf>,
    /// Form of what goes to stdout: text for text files, csv for tables, where not given.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<PredictFormat>,
    /// Codes by these thresholds: digest, pin, folder, or a thresholds.json.
    #[arg(long, value_name = "THRESHOLDS")]
    pub thresholds: Option<String>,
    /// Codes with a score above this one.
    #[arg(long, value_name = "SCORE", conflicts_with = "thresholds")]
    pub threshold: Option<f32>,
    /// The K codes of highest score of every note.
    #[arg(long, value_name = "K", conflicts_with_all = ["thresholds", "threshold"])]
    pub top_k: Option<NonZeroUsize>,
    /// All codes, whatever their scores.
    #[arg(long, conflicts_with_all = ["thresholds", "threshold", "top_k"])]
    pub all: bool,
    /// Column of the id in tables.
    #[arg(long, value_name = "NAME", default_value = "id")]
    pub id_column: String,
    /// Column of the text in tables.
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub text_column: String,
    /// What to do to texts, where the model does not say or in place of it: caml, caml-cased, raw, raw-lower or edin.
    #[arg(long, value_name = "FORM")]
    pub text: Option<String>,
    /// Number format of matrix products: auto takes bf16 where the hardware has it.
    #[arg(long, value_enum, default_value_t)]
    pub precision: PredictPrecision,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Worker threads, at most 1,024; 0 takes every core.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = thread_number)]
    pub threads: usize,
    /// Tokens that go through the model at once, padding included.
    #[arg(long, default_value_t = plmicd_predict::INFERENCE_TOKENS, value_name = "N", value_parser = at_least_one)]
    pub batch_tokens: usize,
    /// Throw away what an earlier command has left unfinished.
    #[arg(long, requires = "out")]
    pub restart: bool,
}

#[cfg(feature = "torch")]
fn resources(text: &str) -> Result<Capacity, String> {
    let capacity = Capacity::parse(text)?;
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        // The command line is read once: what it says may live as long as the program.
        Ok(visible) => capacity.among(visible.leak()),
        Err(_) => Ok(capacity),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number above 0".to_owned()),
    }
}

fn thread_number(text: &str) -> Result<usize, String> {
    let most = plmicd_pipeline::Runtime::MAX_THREADS;
    text.parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("expected a whole number from 0 to {most}"))
}

/// Forms of predicted codes on stdout.
#[cfg(feature = "torch")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PredictFormat {
    /// A code a line, with its description.
    Text,
    /// `id,codes,scores`, a note a line.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

/// Number format of matrix products.
#[cfg(feature = "torch")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PredictPrecision {
    #[default]
    Auto,
    Bf16,
    Fp32,
}

#[derive(Clone, Debug, Args)]
pub struct SynthArgs {
    /// Folder to write to; made if absent. Files in it are never overwritten.
    #[arg(long, value_name = "DIR")]
    pub out: Utf8PathBuf,
    /// Admissions with a discharge summary.
    #[arg(long, value_name = "N")]
    pub admissions: Option<u64>,
    /// Different codes.
    #[arg(long, value_name = "N")]
    pub codes: Option<usize>,
    /// Mean words of a discharge summary.
    #[arg(long, value_name = "N")]
    pub mean_words: Option<u32>,
    /// Words of the longest discharge summary.
    #[arg(long, value_name = "N")]
    pub max_words: Option<u32>,
    /// Seed.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Worker threads, at most 1,024; 0 takes every core.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = thread_number)]
    pub threads: usize,
}

#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Also check the sources of this pipeline.
    #[arg(value_name = "FILE")]
    pub file: Option<Utf8PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ImportCommand {
    /// A checkpoint folder of the published PLM-ICD code, and the list of its codes.
    PlmIcd(ImportArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Folder with config.json and model.safetensors or pytorch_model.bin.
    pub folder: Utf8PathBuf,
    /// The list of codes the model was trained with, a code a line.
    #[arg(long, value_name = "FILE")]
    pub labels: Utf8PathBuf,
    /// Folder of the encoder's tokenizer; without it, the checkpoint's own.
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<Utf8PathBuf>,
    /// Folder of code tables to describe the codes with.
    #[arg(long, value_name = "DIR")]
    pub descriptions: Option<Utf8PathBuf>,
    /// Tokens of a note that are read [3072, or what the folder says].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..))]
    pub max_length: Option<u32>,
    /// Tokens of a segment [128, or what the folder says].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub segment_length: Option<u32>,
    /// Whether label attention sees padding [attend, or what the folder says].
    #[arg(long, value_enum, value_name = "HOW")]
    pub padding: Option<PaddingArg>,
    /// What masks self-attention: -10,000 (published) or the most negative number (modern) [by the version of
    /// Transformers that wrote the folder].
    #[arg(long, value_enum, value_name = "WHICH")]
    pub mask_constant: Option<MaskConstantArg>,
    /// Name of the pin that keeps the model from being collected [plm-icd- and the beginning of its digest].
    #[arg(long, value_name = "NAME")]
    pub pin: Option<String>,
    /// The model was not trained on data under a use agreement. Without this it counts as restricted.
    #[arg(long)]
    pub unrestricted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PaddingArg {
    Attend,
    Mask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MaskConstantArg {
    Published,
    Modern,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ExportCommand {
    /// A folder in Hugging Face layout that the published PLM-ICD code loads unchanged.
    Hf(ExportArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Digest (6 or more characters) or pin of a model.
    pub artifact: String,
    /// Folder to write; must not exist.
    pub folder: Utf8PathBuf,
    /// Write it even though it derives from data under a use agreement.
    #[arg(long)]
    pub allow_restricted: bool,
}

//! A folder with a store in which to run the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// A tiny pipeline: every stage of the demo, on few short notes and a very small encoder.
pub const TINY: &str = r#"schema = 1
name = "tiny"
[runtime]
device = "cpu"
[stages.synth.config]
admissions = 60
codes = 12
codes_per_admission = 20.0
mean_words = 60
max_words = 120
[stages.preprocess]
inputs = { raw = "synth" }
config = { splits = "caml" }
[stages.vocabulary]
inputs = { notes = "preprocess" }
config = { size = 400 }
[stages.tokenize]
inputs = { notes = "preprocess", tokenizer = "vocabulary" }
[stages.pretrain]
inputs = { shards = "tokenize" }
[stages.pretrain.config]
sequence_length = 32
epochs = 2
encoder = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 32 }
[stages.finetune]
inputs = { shards = "tokenize", encoder = "pretrain" }
[stages.finetune.config]
max_length = 128
segment_length = 32
epochs = 3
optimizer = { learning_rate = 1e-3 }
[stages.predict]
inputs = { model = "finetune", shards = "tokenize" }
[stages.threshold]
inputs = { scores = "predict" }
[stages.evaluate]
inputs = { scores = "predict", thresholds = "threshold", shards = "tokenize" }
[stages.report]
inputs = { evaluation = "evaluate", thresholds = "threshold", model = "finetune", notes = "preprocess", shards = "tokenize" }
"#;

/// A temporary folder to work in.
pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    /// The program, to be run in the folder, without what this machine's environment might add.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plmicd"));
        command.current_dir(self.folder.path()).args(arguments);
        for variable in
            ["LD_LIBRARY_PATH", "PLMICD_STORE", "PLMICD_LOG", "MIMIC3_DIR", "CODIESP_DIR", "WORLD_SIZE"]
        {
            command.env_remove(variable);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().expect("the program starts"))
    }

    /// Runs and expects success.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}\nstdout:\n{}\nstderr:\n{}", ran.stdout, ran.stderr);
        ran
    }

    /// Runs and expects this exit code.
    #[track_caller]
    pub fn fails(&self, code: i32, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}\nstdout:\n{}\nstderr:\n{}", ran.stdout, ran.stderr);
        ran
    }

    /// Names of the nodes of `plan` with this decision.
    #[track_caller]
    pub fn planned(&self, decision: &str, arguments: &[&str]) -> Vec<String> {
        let mut all = vec!["plan"];
        all.extend(arguments);
        all.extend(["--format", "json"]);
        let plan = self.ok(&all).json();
        let nodes = plan["nodes"].as_array().expect("nodes");
        nodes
            .iter()
            .filter(|node| node["decision"] == decision)
            .map(|node| node["node"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// The ids of all runs, oldest first.
    pub fn runs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("artifacts/runs")).expect("runs");
        let mut ids: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        ids.sort();
        ids
    }

    /// The digest of a node's output.
    #[track_caller]
    pub fn digest(&self, file: &str, node: &str) -> String {
        let plan = self.ok(&["plan", file, "--format", "json"]).json();
        let nodes = plan["nodes"].as_array().expect("nodes");
        let found = nodes.iter().find(|n| n["node"] == node).expect("the node");
        found["artifact"]["digest"].as_str().unwrap_or_else(|| panic!("{node} has no output")).to_owned()
    }
}

/// What a run of the program gave.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }

    /// Checks that stderr holds every part.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not in:\n{}", self.stderr);
        }
        self
    }

    /// Checks that stdout holds every part.
    #[track_caller]
    pub fn prints(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stdout.contains(part), "`{part}` is not in:\n{}", self.stdout);
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

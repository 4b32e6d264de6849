//! Plans as jobs of a cluster's scheduler.
//!
//! Slurm: nodes of the same depth that need the same of a machine are one array job, and wait for those they read
//! from. A task runs `plmicd run FILE --only NODE`: where its output is in the store already, or another task is just
//! making it, nothing is done twice, so the same plan may be submitted again at any time. Before its time is up a
//! task is signalled, saves its state, ends with exit code 75 and puts itself back into the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::execute::EXIT_INTERRUPTED;
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Plan};
use crate::resources::Needs;

/// Seconds between the signal and the end of a task's time.
const SIGNAL_AHEAD: u32 = 120;

/// What the scripts call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The program and its arguments as far as a task's node, whose place `--only` marks.
    pub words: Vec<String>,
    /// The folder of the scripts, where the logs go as well.
    pub dir: String,
    /// The folder that relative paths among the words are relative to.
    pub working_dir: String,
}

/// An array job.
struct Group<'p> {
    depth: usize,
    stage: &'p str,
    needs: Needs,
    nodes: Vec<&'p str>,
    /// Numbers of the groups that it reads from.
    after: BTreeSet<usize>,
}

impl Group<'_> {
    fn file(&self, number: usize) -> String {
        format!("{:02}-{}", number + 1, self.stage)
    }
}

/// The files of a submission by name: `submit.sh`, and per array job a script and its list of nodes. Empty where
/// nothing has to run.
pub fn slurm(pipeline: &Pipeline, plan: &Plan, call: &Call) -> BTreeMap<String, String> {
    let groups = groups(pipeline, plan);
    let mut files = BTreeMap::new();
    if groups.is_empty() {
        return files;
    }
    let mut submit = format!(
        "#!/bin/sh\n\
         # Submits {} to Slurm; options of sbatch (a partition, an account) may follow the name of this script.\n\
         set -eu\n\
         cd {}\n",
        pipeline.name,
        quote(&call.dir)
    );
    for (number, group) in groups.iter().enumerate() {
        let file = group.file(number);
        let after: Vec<String> = group.after.iter().map(|number| format!("$job{}", number + 1)).collect();
        // A failed task must not hold up the cells that do not need it: each task looks for its inputs itself.
        let wait = match after.as_slice() {
            [] => String::new(),
            after => format!(" --dependency=afterany:{}", after.join(":")),
        };
        let job = number + 1;
        let _ = writeln!(submit, "job{job}=$(sbatch --parsable{wait} \"$@\" {file}.sbatch)");
        let _ = writeln!(submit, "echo \"{file}: job $job{job}, {} tasks\"", group.nodes.len());
        files.insert(format!("{file}.nodes"), format!("{}\n", group.nodes.join("\n")));
        files.insert(format!("{file}.sbatch"), script(pipeline, group, &file, call));
    }
    files.insert("submit.sh".to_owned(), submit);
    files
}

fn groups<'p>(pipeline: &'p Pipeline, plan: &Plan) -> Vec<Group<'p>> {
    let waiting: BTreeSet<&str> = plan
        .nodes
        .iter()
        .filter(|node| matches!(node.decision, Decision::Run(_) | Decision::Pending(_)))
        .map(|node| node.node.as_str())
        .collect();
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: Vec<Group<'p>> = Vec::new();
    // Every node comes after what it reads from.
    for node in pipeline.nodes.iter().filter(|node| waiting.contains(node.name.as_str())) {
        let depth = node.upstream().filter_map(|up| depths.get(up)).map(|depth| depth + 1).max().unwrap_or(0);
        depths.insert(&node.name, depth);
        let needs = node.runtime.needs;
        let same = |group: &&mut Group<'_>| {
            group.depth == depth && group.stage == node.stage && group.needs == needs
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.nodes.push(&node.name),
            None => groups.push(Group {
                depth,
                stage: &node.stage,
                needs,
                nodes: vec![&node.name],
                after: BTreeSet::new(),
            }),
        }
    }
    groups.sort_by_key(|group| group.depth);
    let number_of = |name: &str| groups.iter().position(|group| group.nodes.contains(&name));
    let after: Vec<BTreeSet<usize>> = groups
        .iter()
        .map(|group| {
            let nodes = group.nodes.iter().filter_map(|name| pipeline.node(name));
            nodes.flat_map(|node| node.upstream()).filter_map(number_of).collect()
        })
        .collect();
    for (group, after) in groups.iter_mut().zip(after) {
        group.after = after;
    }
    groups
}

fn script(pipeline: &Pipeline, group: &Group<'_>, file: &str, call: &Call) -> String {
    let mut options = vec![
        format!("--job-name={}-{}", pipeline.name, group.stage),
        format!("--array=0-{}", group.nodes.len() - 1),
        "--output=%x-%A_%a.log".to_owned(),
        "--open-mode=append".to_owned(),
        "--requeue".to_owned(),
        format!("--signal=B:USR1@{SIGNAL_AHEAD}"),
    ];
    let needs = group.needs;
    if needs.cpu > 0 {
        options.push(format!("--cpus-per-task={}", needs.cpu));
    }
    if needs.memory > 0 {
        options.push(format!("--mem={}G", needs.memory));
    }
    if needs.gpu > 0 {
        options.push(format!("--gres=gpu:{}", needs.gpu));
    }
    if needs.minutes > 0 {
        options.push(format!("--time={}", needs.minutes));
    }
    let options: String = options.iter().map(|option| format!("#SBATCH {option}\n")).collect();
    let words: Vec<String> = call.words.iter().map(|word| quote(word)).collect();
    format!(
        "#!/bin/bash\n\
         {options}\
         # One task runs one node; which one stands in {file}.nodes.\n\
         set -u\n\
         node=$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" {nodes})\n\
         cd {workdir}\n\
         # Slurm's USR1 (see --signal) asks this shell alone; its TERM, when a job is cancelled, reaches the program by itself.\n\
         asked=0\n\
         trap 'asked=1; kill -USR1 $! 2>/dev/null' USR1\n\
         trap : TERM\n\
         {call} --only \"$node\" &\n\
         child=$!\n\
         # A signal ends `wait` before the child has ended.\n\
         while :; do wait $child; status=$?; kill -0 $child 2>/dev/null || break; done\n\
         if [ $status -eq {EXIT_INTERRUPTED} ] && [ $asked -eq 1 ]; then\n\
         \x20   echo \"$node was stopped; it goes back into the queue\"\n\
         \x20   scontrol requeue \"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}\"\n\
         fi\n\
         exit $status\n",
        nodes = quote(&format!("{}/{file}.nodes", call.dir)),
        workdir = quote(&call.working_dir),
        call = words.join(" "),
    )
}

/// A word for the shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

//! Training with several processes on this machine: the same result as with one, and what happens when one dies.

#[cfg(not(feature = "distributed"))]
#[test]
fn several_processes_train_as_one() {
    eprintln!("skipped: built without the feature `distributed` (it needs the headers of Gloo: libgloo-dev)");
}

#[cfg(feature = "distributed")]
mod together {
    use std::path::Path;
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::Value;

    use crate::world::{Ran, TINY, World};

    /// A port that was free a moment ago.
    fn free_port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    }

    /// Starts the same command as so many processes.
    fn start(world: &World, size: usize, arguments: &[&str]) -> Vec<Child> {
        let port = free_port().to_string();
        let start = |rank: usize| {
            world
                .command(arguments)
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", &port)
                .env("WORLD_SIZE", size.to_string())
                .env("RANK", rank.to_string())
                .env("LOCAL_RANK", rank.to_string())
                .env("LOCAL_WORLD_SIZE", size.to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("starts")
        };
        (0..size).map(start).collect()
    }

    fn end(children: Vec<Child>) -> Vec<Ran> {
        children.into_iter().map(|child| Ran::from(child.wait_with_output().expect("ends"))).collect()
    }

    #[track_caller]
    fn all_well(world: &World, size: usize, arguments: &[&str]) -> Vec<Ran> {
        let ended = end(start(world, size, arguments));
        for (rank, ran) in ended.iter().enumerate() {
            assert_eq!(ran.code, 0, "rank {rank}\n{}", ran.stderr);
        }
        ended
    }

    fn pipeline(finetune: &str) -> String {
        TINY.replace("device = \"cpu\"", "device = \"cpu\"\nthreads = 1\npeer_timeout_seconds = 60")
            .replace("epochs = 3\n", &format!("epochs = 3\n{finetune}\n"))
    }

    fn world(finetune: &str) -> World {
        let world = World::new();
        world.write("tiny.toml", &pipeline(finetune));
        world.ok(&["run", "tiny.toml", "--until", "pretrain"]);
        world
    }

    fn training(world: &World) -> Value {
        let path = world.path("artifacts/latest/tiny/finetune/training.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("a model")).expect("JSON")
    }

    /// Losses by step, and dev losses by epoch.
    fn losses(training: &Value) -> Vec<f64> {
        let steps = training["steps"].as_array().expect("steps").iter().map(|step| &step["loss"]);
        let epochs = training["epochs"].as_array().expect("epochs").iter().map(|epoch| &epoch["dev_loss"]);
        steps.chain(epochs).map(|loss| loss.as_f64().expect("a number")).collect()
    }

    #[track_caller]
    fn assert_close(one: &Value, other: &Value) {
        let (one, other) = (losses(one), losses(other));
        assert_eq!(one.len(), other.len());
        for (at, (a, b)) in one.iter().zip(&other).enumerate() {
            assert!((a - b).abs() <= 1e-5 * a.abs(), "loss {at}: {a} and {b}");
        }
    }

    /// Whole micro-batches are dealt out, so even dropout is the same; two and three processes.
    #[test]
    fn several_processes_train_as_one() {
        let settings = "batch_size = 4\naccumulation = 3";
        let alone = world(settings);
        alone.ok(&["run", "tiny.toml", "--until", "finetune"]);
        for size in [2, 3] {
            let together = world(settings);
            let ended = all_well(&together, size, &["run", "tiny.toml", "--until", "finetune"]);
            ended[1].says(&[&format!("process 1 of {size} joins `finetune`")]);
            assert_close(&training(&alone), &training(&together));
            together.ok(&["artifact", "verify"]);
        }
    }

    /// One micro-batch an update is divided between the processes: without dropout the same but for rounding.
    #[test]
    fn a_micro_batch_is_divided() {
        let settings = "batch_size = 8\ndropout = 0.0";
        let alone = world(settings);
        alone.ok(&["run", "tiny.toml", "--until", "finetune"]);
        let together = world(settings);
        all_well(&together, 2, &["run", "tiny.toml", "--until", "finetune"]);
        assert_close(&training(&alone), &training(&together));
        // The stage alone, as a cluster calls it, gives the same bytes again.
        let digest = together.digest("tiny.toml", "finetune");
        let again = world(settings);
        all_well(&again, 2, &["run", "tiny.toml", "--only", "finetune"]);
        assert_eq!(again.digest("tiny.toml", "finetune"), digest);
    }

    #[test]
    fn a_whole_pipeline_runs_and_then_has_nothing_to_do() {
        let world = World::new();
        world.write("tiny.toml", &pipeline(""));
        let ended = all_well(&world, 2, &["run", "tiny.toml"]);
        ended[1].says(&["joins `pretrain`", "joins `finetune`"]);
        assert!(world.planned("run", &["tiny.toml"]).is_empty());
        let ended = all_well(&world, 2, &["run", "tiny.toml"]);
        ended[0].says(&["nothing to do"]);
        assert!(!ended[1].stderr.contains("joins"));
    }

    /// A process is killed: the other one says so and leaves a checkpoint, from which the same command ends with the same
    /// weights as an undisturbed one.
    #[test]
    fn a_process_that_dies_ends_the_run_and_it_goes_on() {
        let settings = "batch_size = 2\naccumulation = 2";
        let slow = |world: &World| {
            let text = pipeline(settings)
                .replace("epochs = 3\n", "epochs = 25\n")
                .replace("threads = 1", "threads = 1\ncheckpoint_seconds = 0");
            world.write("tiny.toml", &text);
            world.ok(&["run", "tiny.toml", "--until", "pretrain"]);
        };
        let disturbed = World::new();
        slow(&disturbed);
        for victim in [1, 0] {
            let mut children = start(&disturbed, 2, &["run", "tiny.toml", "--only", "finetune"]);
            let work = disturbed.path("artifacts/work/finetune");
            let before = checkpoints(&work);
            let deadline = Instant::now() + Duration::from_secs(60);
            while checkpoints(&work) <= before + 2 && Instant::now() < deadline {
                assert!(children[victim].try_wait().expect("waited").is_none(), "it ended by itself");
                std::thread::sleep(Duration::from_millis(5));
            }
            children[victim].kill().expect("killed");
            let ended = end(children);
            let survivor = &ended[1 - victim];
            assert_eq!(survivor.code, 3, "{}", survivor.stderr);
            survivor.says(&["the same command goes on from the last checkpoint"]);
        }
        disturbed.ok(&["status", "tiny.toml"]).prints(&["to run (resumes)"]);
        all_well(&disturbed, 2, &["run", "tiny.toml", "--until", "finetune"]);
        let untouched = World::new();
        slow(&untouched);
        all_well(&untouched, 2, &["run", "tiny.toml", "--until", "finetune"]);
        assert_eq!(disturbed.digest("tiny.toml", "finetune"), untouched.digest("tiny.toml", "finetune"));
    }

    /// The number of the newest whole checkpoint, 0 where there is none.
    fn checkpoints(work: &Path) -> u64 {
        let folders = std::fs::read_dir(work).into_iter().flatten().flatten();
        let names = folders.flat_map(|key| {
            std::fs::read_dir(key.path().join("checkpoints")).into_iter().flatten().flatten()
        });
        let numbers = names
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("checkpoint-")?.parse::<u64>().ok());
        numbers.max().unwrap_or(0)
    }

    /// Asked to stop, all save and stop, and the same command goes on.
    #[test]
    fn processes_that_are_asked_to_stop_do_so_together() {
        let world = World::new();
        world.write("tiny.toml", &pipeline("batch_size = 2").replace("epochs = 3\n", "epochs = 400\n"));
        world.ok(&["run", "tiny.toml", "--until", "pretrain"]);
        let children = start(&world, 2, &["run", "tiny.toml"]);
        let log = world.path("artifacts/work/finetune");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !log.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(1500));
        for child in &children {
            let pid = child.id().to_string();
            assert!(
                std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("runs").success()
            );
        }
        for ran in end(children) {
            assert_eq!(ran.code, 75, "{}", ran.stderr);
        }
        world.ok(&["status", "tiny.toml"]).prints(&["to run (resumes)"]);
    }

    #[test]
    fn wrong_surroundings_are_refused() {
        let world = World::new();
        world.write("tiny.toml", TINY);
        let ran =
            Ran::from(world.command(&["run", "tiny.toml"]).env("WORLD_SIZE", "2").output().expect("runs"));
        assert_eq!(ran.code, 2);
        ran.says(&["RANK is not set"]);
        let ran = Ran::from(
            world
                .command(&["run", "tiny.toml", "--jobs", "2"])
                .envs([
                    ("WORLD_SIZE", "2"),
                    ("RANK", "0"),
                    ("MASTER_ADDR", "localhost"),
                    ("MASTER_PORT", "1"),
                ])
                .output()
                .expect("runs"),
        );
        assert_eq!(ran.code, 2);
        ran.says(&["--jobs"]);
    }
}

//! Two stores that share over a folder. `tests/remote/run` does the same over S3.

use std::fs;
use std::path::PathBuf;

use crate::world::{TINY, World};

const REMOTE: [&str; 2] = ["--remote", "shared"];

/// The arguments with the shared store, in a local store of this name.
fn at<'a>(store: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--store", store], &REMOTE].concat()
}

/// All files below a folder.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(path)) } else { found.push(path) }
    }
    found
}

fn kinds(world: &World, store: &str) -> Vec<String> {
    let listing = world.ok(&["artifact", "ls", "--store", store, "--message-format", "json"]).json();
    let kinds = listing.as_array().expect("a list").iter();
    kinds.map(|artifact| artifact["kind"].as_str().expect("a kind").to_owned()).collect()
}

#[test]
fn a_run_takes_what_another_one_has_shared() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["run", "tiny.toml", "--store", "ours"]);
    world.ok(&at("ours", &["artifact", "push", "--run", "last"])).prints(&["pushed 10 of 10 artifacts"]);

    // Elsewhere: the report alone is fetched, since nothing else is needed.
    world.ok(&at("theirs", &["plan", "tiny.toml"])).says(&["0 of 10 cached, 10 in the shared store"]);
    world.ok(&at("theirs", &["run", "tiny.toml"])).says(&["all 10 stages cached"]);
    assert_eq!(kinds(&world, "theirs"), ["report"]);
    // Without the shared store it is a hit only where it is: what lies before it is unknown here.
    let digest = |store| {
        let plan = world.ok(&at(store, &["plan", "tiny.toml", "--format", "json"])).json();
        let nodes = plan["nodes"].as_array().expect("nodes").clone();
        nodes.into_iter().map(|node| node["artifact"]["digest"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(digest("ours"), digest("theirs"));

    // A change: what the changed stage reads is fetched, and no more.
    let change = ["--set", "stages.threshold.config.objective=macro_f1", "--until", "threshold"];
    world.ok(&at("theirs", &[&["run", "tiny.toml"][..], &change].concat())).says(&["ran 1 stage"]);
    assert_eq!(kinds(&world, "theirs"), ["report", "scores", "thresholds"]);
    // So does one stage alone, as a cluster runs it.
    world.ok(&at("third", &["run", "tiny.toml", "--only", "threshold", "--set", change[1]]));
    assert_eq!(kinds(&world, "third"), ["scores", "thresholds"]);
    for store in ["theirs", "third"] {
        world.ok(&["artifact", "verify", "--store", store]);
    }
}

#[test]
fn damage_in_the_shared_store_is_named_and_made_good() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    let until = ["--until", "tokenize"];
    world.ok(&[&["run", "tiny.toml", "--store", "ours"][..], &until].concat());
    world.ok(&at("ours", &["artifact", "push", "--all"]));
    for blob in files(world.path("shared/v1/blobs")) {
        let mut bytes = fs::read(&blob).expect("a blob");
        bytes[0] ^= 1;
        fs::write(&blob, bytes).expect("written");
    }
    let ran = world.ok(&at("theirs", &[&["run", "tiny.toml"][..], &until].concat()));
    ran.says(&["has digest", "blobs/", "it is made here instead", "ran 4 stages"]);
    assert_eq!(kinds(&world, "theirs"), kinds(&world, "ours"));
    world.fails(4, &at("third", &["artifact", "pull", "--all"])).says(&["blobs/", "push --again"]);
    world.ok(&at("ours", &["artifact", "push", "--all", "--again"]));
    world.ok(&at("third", &["artifact", "pull", "--all"]));
    world.ok(&["artifact", "verify", "--store", "third"]).prints(&["4 artifacts"]);
}

//! Models that go out in the published code's layout and come back.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::world::{TINY, World};

/// Size and digest of a file of an artifact.
fn file(world: &World, artifact: &str, name: &str) -> Value {
    let shown = world.ok(&["artifact", "show", artifact, "--message-format", "json"]).json();
    let files = shown["files"].as_array().expect("files");
    files.iter().find(|file| file["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
}

#[test]
fn a_model_comes_back_from_the_published_layout_and_scores_alike() {
    let world = World::new();
    world.write("tiny.toml", TINY);
    world.ok(&["run", "tiny.toml", "--until", "predict"]);
    let model = world.digest("tiny.toml", "finetune");
    let scores = world.digest("tiny.toml", "predict");

    world.ok(&["export", "hf", &model[..12], "out/published"]).says(&["wrote out/published"]);
    let mode = std::fs::metadata(world.path("out/published")).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for name in ["config.json", "pytorch_model.bin", "model.safetensors", "tokenizer.json", "ALL_CODES.txt"] {
        let path = world.path(&format!("out/published/{name}"));
        let mode = std::fs::metadata(&path).unwrap_or_else(|_| panic!("no {name}")).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    world.fails(2, &["export", "hf", &model[..12], "out/published"]).says(&["exists already"]);
    world
        .fails(2, &["export", "hf", &scores[..12], "out/scores"])
        .says(&["of kind scores; expected a model"]);

    let import = ["import", "plm-icd", "out/published", "--labels", "out/published/ALL_CODES.txt"];
    let with = |more: &[&'static str]| -> Vec<&'static str> { import.iter().chain(more).copied().collect() };
    let imported = world.ok(&with(&["--unrestricted", "--pin", "theirs", "--message-format", "json"]));
    imported.says(&["tokens in segments of 32, padding mask", "every tensor found"]);
    let imported = imported.json();
    assert_eq!(imported["restricted"], false);
    assert_ne!(
        imported["digest"],
        model.as_str(),
        "the labels have another order, and no history comes along"
    );
    world.ok(&["artifact", "ls", "--kind", "model"]).prints(&["theirs"]);
    world.ok(&["artifact", "show", "theirs"]).prints(&["made by     import-plm-icd", "input checkpoint"]);
    world.ok(&with(&["--unrestricted", "--pin", "theirs"])).says(&["imported before"]);

    // Out and in once more is the same model.
    world.ok(&["export", "hf", "theirs", "again"]);
    let list = "again/ALL_CODES.txt";
    let again =
        ["import", "plm-icd", "again", "--labels", list, "--unrestricted", "--message-format", "json"];
    assert_eq!(world.ok(&again).json()["digest"], imported["digest"]);

    // It scores the notes as the model it came from.
    let folder = imported["folder"].as_str().expect("a folder");
    let predict = "[stages.predict]\ninputs = { model = \"finetune\", shards = \"tokenize\" }";
    let theirs = format!(
        "[sources.theirs]\nkind = \"model\"\npath = \"{folder}\"\nrestricted = false\n\
         [stages.predict]\ninputs = {{ model = \"sources.theirs\", shards = \"tokenize\" }}"
    );
    assert!(TINY.contains(predict));
    world.write("theirs.toml", &TINY.replace(predict, &theirs));
    world.ok(&["run", "theirs.toml", "--until", "report"]);
    let other = world.digest("theirs.toml", "predict");
    for name in ["test.parquet", "dev.parquet"] {
        assert_eq!(file(&world, &other, name), file(&world, &scores, name), "{name}");
    }

    // Without a word to the contrary it counts as restricted, and does not leave again by accident.
    let guarded = world.ok(&with(&["--message-format", "json"])).json();
    assert_eq!(guarded["restricted"], true);
    let digest = guarded["digest"].as_str().expect("a digest");
    assert_ne!(guarded["digest"], imported["digest"]);
    world.fails(2, &["export", "hf", digest, "leak"]).says(&["under a use agreement", "--allow-restricted"]);
    assert!(!world.path("leak").exists());
    world.ok(&["export", "hf", digest, "agreed", "--allow-restricted"]);
}

#[test]
fn what_is_wrong_with_a_checkpoint_is_said_before_anything_is_stored() {
    let world = World::new();
    world.write("codes.txt", "401.9\n428.0\n");
    let import = |folder: &'static str, list: &'static str| ["import", "plm-icd", folder, "--labels", list];
    world.fails(2, &import("absent", "codes.txt")).says(&["absent/config.json: missing"]);
    world.write("bare/config.json", r#"{"model_type": "bert"}"#);
    world
        .fails(2, &import("bare", "codes.txt"))
        .says(&["missing: expected model.safetensors or pytorch_model.bin"]);
    world.write("bare/pytorch_model.bin", "not a checkpoint");
    world.fails(2, &import("bare", "none.txt")).says(&["none.txt: no such file; expected the list of codes"]);
    world.fails(2, &import("bare", "codes.txt")).says(&["missing: expected tokenizer.json, or vocab.txt"]);
    world.write("bare/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n");
    world.write("bare/config.json", r#"{"model_type": "t5", "vocab_size": 5}"#);
    world.fails(2, &import("bare", "codes.txt")).says(&["config.json: model_type \"t5\" is not supported"]);
    world.write(
        "bare/config.json",
        r#"{"model_type": "bert", "vocab_size": 5, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "model_mode": "cls-max-of-something"}"#,
    );
    world.fails(2, &import("bare", "codes.txt")).says(&["model_mode is \"cls-max-of-something\"; expected"]);
    world.write(
        "bare/config.json",
        r#"{"model_type": "bert", "vocab_size": 5, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "model_mode": "laat"}"#,
    );
    world
        .fails(2, &import("bare", "codes.txt"))
        .says(&["pytorch_model.bin: is in neither of the layouts PyTorch writes"]);
    world.write("codes.txt", "code,count\n");
    world.fails(2, &import("bare", "codes.txt")).says(&["codes.txt:1: expected one code a line"]);
    let stored = world.ok(&["artifact", "ls", "--message-format", "json"]).json();
    assert_eq!(stored, serde_json::json!([]), "nothing was stored");
}

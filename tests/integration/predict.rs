//! `plmicd predict`: the same scores as the pipeline's, whatever the file; stopped and gone on with; wrong input.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use plmicd_data::{Scores, Split};
use serde_json::Value;

use crate::world::{Ran, World};

const PIPELINE: &str = r#"schema = 1
name = "own"
[runtime]
device = "cpu"
threads = 1
[sources.notes]
kind = "table"
path = "notes"
[stages.preprocess]
inputs = { raw = "sources.notes" }
config = { text = "raw-lower", deidentified = "drop" }
[stages.vocabulary]
inputs = { notes = "preprocess" }
config = { size = 300 }
[stages.tokenize]
inputs = { notes = "preprocess", tokenizer = "vocabulary" }
[stages.finetune]
inputs = { shards = "tokenize" }
[stages.finetune.config]
max_length = 48
segment_length = 16
epochs = 2
encoder = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 32 }
optimizer = { learning_rate = 1e-3 }
[stages.predict]
inputs = { model = "finetune", shards = "tokenize" }
config = { precision = "fp32" }
[stages.threshold]
inputs = { scores = "predict" }
"#;

const WORDS: [&str; 12] = [
    "Chest",
    "pain,",
    "fever",
    "no",
    "cough",
    "\"acute\"",
    "renal",
    "failure;",
    "[**Hospital 1**]",
    "Diabetes",
    "since",
    "2001",
];

/// A note in CSV.
fn row(number: usize) -> (String, String) {
    let words = (0..8 + number * 7 % 60).map(|at| WORDS[(number * 5 + at * (1 + number % 3)) % WORDS.len()]);
    let text = words.collect::<Vec<_>>().join(if number.is_multiple_of(4) { "\n" } else { " " });
    (format!("n{number}"), format!("\"{}\"", text.replace('"', "\"\"")))
}

/// A store with a model, and `notes/notes.csv` that it was made from.
fn trained() -> World {
    let world = World::new();
    let mut table = "id,text,codes,split\n".to_owned();
    for number in 0..48 {
        let (id, text) = row(number);
        let codes = ["I10", "I10;N17.9", "E11.9", "E11.9;I10;J18.9"][number % 4];
        let split = ["train", "train", "dev", "test"][number / 2 % 4];
        table.push_str(&format!("{id},{text},{codes},{split}\n"));
    }
    world.write("notes/notes.csv", &table);
    world.write("own.toml", PIPELINE);
    world.ok(&["run", "own.toml"]);
    world
}

const MODEL: &str = "artifacts/latest/own/finetune";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The scores of a line by code.
fn scores(line: &Value) -> BTreeMap<String, f64> {
    let codes = line["codes"].as_array().expect("codes").iter();
    codes
        .map(|code| {
            (code["code"].as_str().expect("text").to_owned(), code["score"].as_f64().expect("a score"))
        })
        .collect()
}

#[test]
fn scores_are_the_pipelines_and_every_form_says_the_same() {
    let world = trained();
    let all = world.ok(&[
        "predict",
        "--model",
        MODEL,
        "notes/notes.csv",
        "--all",
        "--format",
        "jsonl",
        "--precision",
        "fp32",
    ]);
    all.says(&["48 notes in", "tokens/s"]);
    let lines = lines(&all.stdout);
    assert_eq!(lines.len(), 48);
    let by_id: BTreeMap<&str, &Value> =
        lines.iter().map(|line| (line["id"].as_str().expect("an id"), line)).collect();
    let labels = ["E11.9", "I10", "J18.9", "N17.9"];
    let mut compared = 0;
    for split in [Split::Dev, Split::Test] {
        let path = world.path("artifacts/latest/own/predict").join(Scores::file_name(split));
        let stored = Scores::read(camino::Utf8Path::from_path(&path).expect("UTF-8")).expect("scores");
        for (id, row) in stored.note_ids.iter().zip(stored.scores.chunks(labels.len())) {
            let ours = scores(by_id[id.as_str()]);
            for (label, score) in labels.iter().zip(row) {
                assert!((ours[*label] - f64::from(*score)).abs() < 1e-6, "{id} {label}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 24 * 4);

    // Thresholds from the store, by digest; the model by digest; to files of each form.
    let digest = world.digest("own.toml", "finetune");
    let thresholds = world.digest("own.toml", "threshold");
    let base = [
        "predict",
        "--model",
        &digest[..12],
        "--thresholds",
        &thresholds[..12],
        "notes/notes.csv",
        "--precision",
        "fp32",
    ];
    let with = |more: &[&str]| -> Ran {
        let arguments: Vec<&str> = base.iter().chain(more).copied().collect();
        world.ok(&arguments)
    };
    let stdout = with(&[]).stdout;
    assert_eq!(stdout.lines().next(), Some("id,codes,scores"));
    assert_eq!(stdout.lines().count(), 49);
    for name in ["codes.csv", "codes.jsonl", "codes.parquet"] {
        with(&["--out", name]);
        let mode = std::fs::metadata(world.path(name)).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name} is for its owner alone");
        for left in [".partial", ".partial.json", ".new"] {
            assert!(!world.path(&format!("{name}{left}")).exists());
        }
    }
    assert_eq!(std::fs::read_to_string(world.path("codes.csv")).expect("read"), stdout);
    let json = self::lines(&std::fs::read_to_string(world.path("codes.jsonl")).expect("read"));
    for (line, row) in json.iter().zip(stdout.lines().skip(1)) {
        let codes: Vec<&str> = line["codes"]
            .as_array()
            .expect("codes")
            .iter()
            .map(|code| code["code"].as_str().expect("text"))
            .collect();
        assert!(
            row.starts_with(&format!("{},{},", line["id"].as_str().expect("an id"), codes.join(";"))),
            "{row}"
        );
    }
    // Written again as Parquet, read as predictions of another program, they are the same codes.
    world
        .fails(2, &["predict", "--model", MODEL, "notes/notes.csv", "--out", "codes.csv"])
        .says(&["there already"]);
    let top = world.ok(&["predict", "--model", MODEL, "notes/notes.csv", "--top-k", "2"]).stdout;
    assert!(top.lines().skip(1).all(|row| row.matches(';').count() == 2), "{top}");
}

#[test]
fn texts_come_from_files_and_from_stdin() {
    let world = trained();
    world.write("one.txt", "Chest pain, fever [**Hospital 1**]");
    world.write("two.txt", "Chest pain, fever ");
    let both = world.ok(&["predict", "--model", MODEL, "one.txt", "two.txt", "--all", "--format", "jsonl"]);
    let lines = lines(&both.stdout);
    assert_eq!((&lines[0]["id"], &lines[1]["id"]), (&Value::from("one"), &Value::from("two")));
    // Marks of de-identification are dropped, as they were in training: the model's folder says so.
    assert_eq!(scores(&lines[0]), scores(&lines[1]));
    let text = world.ok(&["predict", "--model", MODEL, "one.txt", "--top-k", "3"]).stdout;
    assert_eq!(text.lines().count(), 3);

    let mut child = world
        .command(&["predict", "--model", MODEL, "-", "--top-k", "3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    child.stdin.take().expect("piped").write_all(b"Chest pain, fever").expect("written");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
}

#[test]
fn strange_notes_are_coded_and_counted_and_wrong_files_refused() {
    let world = trained();
    let long = "fever ".repeat(60_000);
    let mut table = b"id,text\nempty,\"  \"\nlatin,caf\xe9 \x93fever\x94\n".to_vec();
    table.extend(format!("long,{long}\n").into_bytes());
    std::fs::write(world.path("strange.csv"), table).expect("written");
    let ran = world.ok(&["predict", "--model", MODEL, "strange.csv", "--top-k", "2", "--format", "jsonl"]);
    ran.says(&["cut to 46 tokens: 1 note\n", "without codes: 1 note\n", "Windows-1252: 3 bytes in 1 note\n"]);
    let lines = lines(&ran.stdout);
    let codes: Vec<usize> = lines.iter().map(|line| line["codes"].as_array().expect("codes").len()).collect();
    assert_eq!(codes, [0, 2, 2]);
    assert_eq!(lines[0]["empty"], true);

    world.write("columns.csv", "id,note\n1,secret words\n");
    let code = |file: &str| ["predict".to_owned(), "--model".into(), MODEL.into(), file.into()];
    let fails = |exit: i32, file: &str, parts: &[&str]| {
        let arguments = code(file);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = world.fails(exit, &arguments);
        ran.says(parts);
        assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    };
    fails(3, "columns.csv", &["columns.csv:1, column text: no such column; found: id, note"]);
    world.write("ids.csv", "id,text\n1,secret\n,secret\n");
    fails(3, "ids.csv", &["ids.csv:3, column id: is empty"]);
    world.write("open.csv", "id,text\n1,\"secret\n");
    fails(3, "open.csv", &["open.csv:2: a quote opened"]);
    world.write("notes.docx", "secret");
    fails(3, "notes.docx", &["notes.docx: expected a file with one of the endings"]);
    fails(2, "absent.csv", &["absent.csv"]);
    world
        .fails(2, &["predict", "--model", "artifacts/latest/own/predict", "notes/notes.csv"])
        .says(&["is of kind scores, expected model"]);
    world
        .fails(2, &["predict", "--model", MODEL, "notes/notes.csv", "--threshold", "1.5"])
        .says(&["not between 0 and 1"]);
    // A model that does not say what form its texts had.
    let folder = world.path("model");
    std::fs::create_dir(&folder).expect("made");
    for entry in std::fs::read_dir(world.path(MODEL)).expect("a model").flatten() {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("copied");
    }
    std::fs::remove_file(folder.join("text.json")).expect("removed");
    world.fails(2, &["predict", "--model", "model", "strange.csv"]).says(&["--text caml"]);
    world.ok(&["predict", "--model", "model", "strange.csv", "--text", "raw-lower"]);
}

#[test]
fn killed_and_started_again_it_writes_the_same_file() {
    let world = trained();
    let mut table = "id,text\n".to_owned();
    for number in 0..4500 {
        let (id, text) = row(number);
        table.push_str(&format!("{id},{text}\n"));
    }
    world.write("many.csv", &table);
    let base = ["predict", "--model", MODEL, "many.csv", "--top-k", "3", "--threads", "1"];
    let whole: Vec<&str> = base.iter().chain(&["--out", "whole.csv"]).copied().collect();
    world.ok(&whole).says(&["whole.csv: 4,500 notes"]);
    let parts: Vec<&str> = base.iter().chain(&["--out", "parts.csv"]).copied().collect();
    let mut kills = 0;
    for count in [1000, 2000] {
        let mut child =
            world.command(&parts).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let deadline = Instant::now() + Duration::from_secs(120);
        while done(&world) < count && Instant::now() < deadline && child.try_wait().expect("waited").is_none()
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        kills += usize::from(child.try_wait().expect("waited").is_none());
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    assert!(kills > 0, "it was over before it could be killed");
    // What was written after the last window that counts is cut off.
    let mut partial =
        std::fs::OpenOptions::new().append(true).open(world.path("parts.csv.partial")).expect("there");
    partial.write_all(b"{\"id\":\"half").expect("written");
    world
        .fails(2, &["predict", "--model", MODEL, "many.csv", "--top-k", "4", "--out", "parts.csv"])
        .says(&["--restart"]);
    // Nor with what cannot be told to be the same job.
    world.fails(2, &["predict", "--model", MODEL, "-", "--out", "parts.csv"]).says(&["--restart"]);
    world.ok(&parts).says(&["going on after"]);
    let read = |name| std::fs::read_to_string(world.path(name)).expect("read");
    assert!(read("parts.csv") == read("whole.csv"), "the files differ");
}

#[test]
fn a_row_may_be_mended_and_what_is_coded_may_not_change() {
    let world = trained();
    let table = |first: usize, id_of_last: &str| {
        let rows = (0..599).map(|number| {
            let (id, text) = row(if number == 0 { first } else { number });
            format!("{id},{text}\n")
        });
        format!("id,text\n{}{id_of_last},{}\n", rows.collect::<String>(), row(600).1)
    };
    world.write("many.csv", &table(0, ""));
    let arguments = |out| ["predict", "--model", MODEL, "many.csv", "--top-k", "3", "--out", out];
    world.fails(3, &arguments("parts.csv")).says(&["many.csv:", "expected the note's id"]);
    // Another note where one is coded already.
    world.write("many.csv", &table(700, "last"));
    world.fails(3, &arguments("parts.csv")).says(&["the first 512 notes are no longer those", "--restart"]);
    world.write("many.csv", &table(0, "last"));
    world.ok(&arguments("parts.csv")).says(&["going on after 512 notes"]);
    world.ok(&arguments("whole.csv"));
    let read = |name| std::fs::read_to_string(world.path(name)).expect("read");
    assert!(read("parts.csv") == read("whole.csv"), "the files differ");
    // What is wrong with a later table shows before the first is coded.
    world.write("other.csv", "id,note\n1,fever\n");
    let several = ["predict", "--model", MODEL, "many.csv", "other.csv", "--out", "none.csv"];
    world.fails(3, &several).says(&["other.csv:1", "column text"]);
    assert!(!world.path("none.csv.partial").exists());
    world.fails(2, &["predict", "--model", MODEL, "many.csv", "--top-k", "0"]);
}

#[test]
fn notes_of_one_id_are_told_apart_or_counted() {
    let world = trained();
    let (_, text) = row(1);
    world.write("a/n.txt", &text);
    world.write("b/n.TXT", &text);
    world.fails(2, &["predict", "--model", MODEL, "a/n.txt", "b/n.TXT"]).says(&["would have the same id, n"]);
    world.write("twice.csv", &format!("id,text\n7,{text}\n8,{text}\n7,{text}\n"));
    world
        .ok(&["predict", "--model", MODEL, "twice.csv", "--format", "jsonl"])
        .says(&["with the id of an earlier note: 1 note\n"]);
    world.fails(2, &["predict", "--model", MODEL, "none.csv"]).says(&["none.csv: No such file"]);
    let thresholds = MODEL.replace("finetune", "threshold");
    world
        .fails(2, &["predict", "--model", &thresholds, "a/n.txt"])
        .says(&["of kind thresholds, expected model"]);
    world
        .fails(2, &["predict", "--model", MODEL, "a/n.txt", "--out", "no/x.csv"])
        .says(&["there is no folder no"]);
}

#[test]
fn a_process_that_dies_leaves_no_notes_behind() {
    let world = trained();
    let mut child = world
        .command(&["predict", "--model", MODEL, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let limits = format!("/proc/{}/limits", child.id());
    let core = || {
        let text = std::fs::read_to_string(&limits).expect("it waits for its input");
        let line = text.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
        line["Max core file size".len()..].split_whitespace().next().expect("a limit").to_owned()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !["0", "1"].contains(&core().as_str()) {
        assert!(Instant::now() < deadline, "cores of {} bytes", core());
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(child.stdin.take());
    child.wait().expect("gone");
}

/// Notes that `parts.csv.partial.json` counts.
fn done(world: &World) -> u64 {
    let text = std::fs::read_to_string(world.path("parts.csv.partial.json")).unwrap_or_default();
    serde_json::from_str::<Value>(&text).ok().and_then(|found| found["counts"]["notes"].as_u64()).unwrap_or(0)
}

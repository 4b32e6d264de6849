//! Times the stage `preprocess` on tables in MIMIC-III's form beside the same work done plainly on one thread, and shows
//! its peak memory: `make bench-preprocess`, or `cargo run --release -p plmicd-preprocess --example bench_preprocess TABLES
//! [THREADS]`.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use plmicd_data::{CodeSystem, NoteReader, NoteWriter, kind};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext};
use plmicd_preprocess::{Preprocess, PreprocessConfig, Splits, TextCleaning, format_code};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let tables = Utf8PathBuf::from(arguments.next().expect("the folder of the tables"));
    let threads = arguments.next().map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        |text| text.parse().expect("a number of threads"),
    );
    let bytes = fs_err::metadata(tables.join("NOTEEVENTS.csv")).expect("NOTEEVENTS.csv").len() as f64;
    let dir = tempfile::tempdir().expect("a folder");
    let out = Utf8PathBuf::try_from(dir.path().join("out")).expect("UTF-8");
    let work = Utf8PathBuf::try_from(dir.path().join("work")).expect("UTF-8");
    fs_err::create_dir_all(&out).expect("a folder");

    // Read once, so that both find the tables in the cache of the disk as far as they fit.
    for name in ["NOTEEVENTS.csv", "DIAGNOSES_ICD.csv", "PROCEDURES_ICD.csv"] {
        let mut file = fs_err::File::open(tables.join(name)).expect("a table");
        std::io::copy(&mut file, &mut std::io::sink()).expect("read");
    }
    // The stage first: the peak is the process's.
    let start = Instant::now();
    stage(&tables, threads, &out, &work);
    let of_stage = start.elapsed().as_secs_f64();
    let peak = peak_memory();
    let notes = NoteReader::open(out.join(NoteWriter::FILE)).expect("notes").num_notes();

    let start = Instant::now();
    let (plain_notes, words) = plainly(&tables);
    let plain = start.elapsed().as_secs_f64();

    println!(
        "NOTEEVENTS of {:.0} MB; {notes} notes by the stage, {plain_notes} plainly, {words} words",
        bytes / 1e6
    );
    let line = |name: &str, seconds: f64| {
        println!(
            "{name:24} {seconds:8.1} s  {:7.0} MB/s  {:8.0} notes/s",
            bytes / 1e6 / seconds,
            notes as f64 / seconds
        );
    };
    line("plainly, 1 thread", plain);
    line(&format!("stage, {threads} threads"), of_stage);
    println!("ratio                    {:8.1}", plain / of_stage);
    println!("peak memory of the stage {:8.0} MB", peak / 1e6);
}

/// What the pipeline runs: every table, cleaning, joining, splitting, writing and statistics.
fn stage(tables: &Utf8Path, threads: usize, out: &Utf8Path, work: &Utf8Path) {
    let raw = Input {
        kind: kind::MIMIC3.to_owned(),
        digest: Digest::of(b"benchmark"),
        dir: tables.to_owned(),
        restricted: false,
    };
    let runtime = Runtime { threads, ..Runtime::default() };
    let inputs = BTreeMap::from([("raw".to_owned(), raw)]);
    let context = StageContext::new(inputs, out, work, runtime, &NoEvents, Interrupt::default());
    let config = PreprocessConfig { splits: Splits::Random, ..PreprocessConfig::default() };
    Preprocess::run(&config, &context).expect("preprocessed");
}

/// Rows one after the other, every text in memory: the notes of admissions with codes, and their words.
fn plainly(tables: &Utf8Path) -> (usize, usize) {
    let mut codes: HashMap<String, Vec<String>> = HashMap::new();
    for (name, system) in
        [("DIAGNOSES_ICD", CodeSystem::Icd9Diagnosis), ("PROCEDURES_ICD", CodeSystem::Icd9Procedure)]
    {
        let mut reader = csv::Reader::from_path(tables.join(format!("{name}.csv"))).expect("a table");
        for row in reader.byte_records() {
            let row = row.expect("a row");
            let text = |at: usize| String::from_utf8_lossy(&row[at]).into_owned();
            if !row[4].is_empty() {
                codes.entry(text(2)).or_default().push(format_code(&text(4), system));
            }
        }
    }
    let mut notes: HashMap<String, String> = HashMap::new();
    let mut reader = csv::Reader::from_path(tables.join("NOTEEVENTS.csv")).expect("a table");
    for row in reader.byte_records() {
        let row = row.expect("a row");
        if &row[6] != b"Discharge summary" || row[2].is_empty() {
            continue;
        }
        let text = TextCleaning::Caml.apply(&String::from_utf8_lossy(&row[10]));
        let note = notes.entry(String::from_utf8_lossy(&row[2]).into_owned()).or_default();
        if !note.is_empty() {
            note.push(' ');
        }
        note.push_str(&text);
    }
    notes.retain(|admission, text| codes.contains_key(admission) && !text.trim().is_empty());
    let words = notes.values().map(|text| text.split_whitespace().count()).sum();
    (notes.len(), words)
}

/// Peak resident memory of this process in bytes; 0 where the system does not tell.
fn peak_memory() -> f64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

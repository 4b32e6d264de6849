//! Times the stage `tokenize` beside a plain loop over the same library, and shows its peak memory: `make
//! bench-tokenize`, or `cargo run --release -p plmicd-tokenize --example bench_tokenize NOTES TOKENIZER [THREADS]` with
//! the folders of a `notes` artifact and of a tokenizer.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use plmicd_data::{NoteReader, NoteWriter, ShardReader, Split};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext};
use plmicd_tokenize::{Tokenize, TokenizeConfig};
use tokenizers::Tokenizer;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [notes, tokenizer, rest @ ..] = arguments.as_slice() else {
        panic!(
            "expected the folders of a notes artifact and of a tokenizer, and perhaps a number of threads"
        );
    };
    let threads = rest.first().map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        |text| text.parse().expect("a number of threads"),
    );
    let dir = tempfile::tempdir().expect("a folder");
    let out = Utf8PathBuf::try_from(dir.path().join("out")).expect("UTF-8");
    let work = Utf8PathBuf::try_from(dir.path().join("work")).expect("UTF-8");
    fs_err::create_dir_all(&out).expect("a folder");

    // The stage first: the peak is the process's.
    let start = Instant::now();
    stage(Utf8Path::new(notes), Utf8Path::new(tokenizer), threads, &out, &work);
    let of_stage = start.elapsed().as_secs_f64();
    let peak = peak_memory();
    let (tokens, checksum) = of_shards(&out);

    let start = Instant::now();
    let (plain_tokens, plain_checksum, bytes) = plain_loop(Utf8Path::new(notes), &out);
    let of_loop = start.elapsed().as_secs_f64();
    assert_eq!((tokens, checksum), (plain_tokens, plain_checksum), "the same ids");

    let rate = |seconds: f64| tokens as f64 / seconds / 1e6;
    println!("{:.0} MB of text, {tokens} tokens; the ids are the same", bytes as f64 / 1e6);
    println!("plain loop, 1 thread      {of_loop:8.1} s  {:7.2} million tokens/s", rate(of_loop));
    println!("stage, {threads:2} threads         {of_stage:8.1} s  {:7.2} million tokens/s", rate(of_stage));
    println!("ratio                     {:8.1}", of_loop / of_stage);
    println!("peak memory of the stage  {:8.0} MB", peak / 1e6);
}

/// What the pipeline runs: reading, encoding, writing shards and statistics.
fn stage(notes: &Utf8Path, tokenizer: &Utf8Path, threads: usize, out: &Utf8Path, work: &Utf8Path) {
    let input = |kind: &str, dir: &Utf8Path| Input {
        kind: kind.to_owned(),
        digest: Digest::of(b"benchmark"),
        dir: dir.to_owned(),
        restricted: false,
    };
    let inputs = BTreeMap::from([
        ("notes".to_owned(), input("notes", notes)),
        ("tokenizer".to_owned(), input("tokenizer", tokenizer)),
    ]);
    let runtime = Runtime { threads, ..Runtime::default() };
    let context = StageContext::new(inputs, out, work, runtime, &NoEvents, Interrupt::default());
    Tokenize::run(&TokenizeConfig::default(), &context).expect("tokenized");
}

/// What a script would do: one note after the other through the library, with the tokenizer the stage wrote. Gives
/// the number of tokens, a checksum of the ids and the bytes of text.
fn plain_loop(notes: &Utf8Path, tokenizer: &Utf8Path) -> (u64, u64, u64) {
    let tokenizer = Tokenizer::from_file(tokenizer.join("tokenizer.json").as_str()).expect("a tokenizer");
    let (mut tokens, mut checksum, mut bytes) = (0, 0u64, 0);
    for note in NoteReader::open(notes.join(NoteWriter::FILE)).expect("notes") {
        let note = note.expect("a note");
        bytes += note.text.len() as u64;
        let encoding = tokenizer.encode_fast(note.text.as_str(), false).expect("encoded");
        tokens += encoding.get_ids().len() as u64;
        checksum = checksum.wrapping_add(sum(&note.note_id, encoding.get_ids().iter().map(|id| *id as i32)));
    }
    (tokens, checksum, bytes)
}

fn of_shards(shards: &Utf8Path) -> (u64, u64) {
    let (mut tokens, mut checksum) = (0, 0u64);
    for split in Split::ALL {
        let Ok(reader) = ShardReader::open(shards, split) else { continue };
        for note in reader {
            let note = note.expect("a note");
            tokens += note.tokens.len() as u64;
            checksum = checksum.wrapping_add(sum(&note.note_id, note.tokens.iter().copied()));
        }
    }
    (tokens, checksum)
}

/// Depends on the note and on the order of its ids, not on the order of the notes.
fn sum(note: &str, ids: impl Iterator<Item = i32>) -> u64 {
    let start = note.bytes().fold(17, |sum: u64, byte| sum.wrapping_mul(1_000_003).wrapping_add(byte.into()));
    ids.fold(start, |sum, id| sum.wrapping_mul(1_000_003).wrapping_add(id as u64))
}

/// Peak resident memory of this process in bytes; 0 where the system does not tell.
fn peak_memory() -> f64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

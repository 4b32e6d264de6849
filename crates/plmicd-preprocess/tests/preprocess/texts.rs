//! The stage `corpus`: texts without codes.

use std::collections::BTreeMap;
use std::io::Write;

use camino::{Utf8Path, Utf8PathBuf};
use flate2::write::GzEncoder;
use plmicd_data::{CorpusStats, LabelSpace, Note, NoteReader, Split};
use plmicd_pipeline::{Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};
use plmicd_preprocess::source_files::{notes_files, text_files};
use plmicd_preprocess::{CorpusConfig, FoundText, TableColumns, TextCleaning, TextCorpus, read_texts};

use crate::support::input;

fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
    for (name, bytes) in files {
        let path = root.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, bytes).unwrap();
    }
    (dir, root)
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn run(
    kind: &str,
    raw: &Utf8Path,
    config: &CorpusConfig,
) -> Result<(Vec<Note>, LabelSpace, CorpusStats), StageError> {
    let (_dir, root) = folder(&[]);
    let out = root.join("out");
    fs_err::create_dir_all(&out).unwrap();
    let inputs = [("raw".to_owned(), input(kind, raw))].into();
    let runtime = Runtime { threads: 2, ..Runtime::default() };
    let work = root.join("work");
    let context = StageContext::new(inputs, &out, &work, runtime, &NoEvents, Interrupt::default());
    TextCorpus::run(config, &context)?;
    assert_eq!(notes_files(&out).unwrap().len(), 4, "what it writes is a source of notes");
    Ok((
        NoteReader::open(out.join("notes.parquet")).unwrap().map(Result::unwrap).collect(),
        LabelSpace::read(&out.join("labels.json")).unwrap(),
        CorpusStats::read(&out.join("stats.json")).unwrap(),
    ))
}

fn raw() -> CorpusConfig {
    CorpusConfig { text: TextCleaning::Raw, dev_fraction: 0.0, ..CorpusConfig::default() }
}

#[test]
fn every_text_file_is_a_note() {
    let packed = gz("Packed text");
    let (_dir, root) = folder(&[
        ("b.txt", b"\xef\xbb\xbfSecond caf\xe9"),
        ("a/deep/x.txt", b"First 120"),
        ("c.txt.gz", &packed),
        ("empty.txt", b" \n"),
        ("README.md", b"no text"),
    ]);
    let names: Vec<String> = text_files(&root).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a/deep/x.txt", "b.txt", "c.txt.gz", "empty.txt"]);
    let (notes, labels, stats) = run("text", &root, &raw()).unwrap();
    let texts: Vec<(&str, &str)> =
        notes.iter().map(|note| (note.note_id.as_str(), note.text.as_str())).collect();
    assert_eq!(texts, [("a/deep/x.txt", "First 120"), ("b.txt", "Second café"), ("c.txt.gz", "Packed text")]);
    assert!(
        labels.is_empty() && notes.iter().all(|note| note.split == Split::Train && note.codes.is_empty())
    );
    let counts: Vec<(u64, &str)> = stats.exclusions.iter().map(|e| (e.count, e.reason.as_str())).collect();
    assert_eq!(
        counts,
        [(1, "empty after cleaning"), (1, "mended: not UTF-8, read as Windows-1252")],
        "nothing is dropped or changed without a count"
    );
    let (notes, ..) = run("text", &root, &CorpusConfig { dev_fraction: 0.4, ..raw() }).unwrap();
    assert_eq!(notes.iter().filter(|note| note.split == Split::Dev).count(), 1);
}

#[test]
fn a_table_needs_no_codes() {
    let (_dir, root) = folder(&[("notes.csv", b"id,report\n1,\"two\nlines\"\n2,one\n")]);
    let config = CorpusConfig { text_column: "report".to_owned(), ..raw() };
    let (notes, ..) = run("table", &root, &config).unwrap();
    assert_eq!(notes.len(), 2);
    let error = run("table", &root, &raw()).unwrap_err().to_string();
    assert!(error.contains("notes.csv") && error.contains("text"), "{error}");
}

#[test]
fn no_text_is_an_error() {
    let (_dir, root) = folder(&[("README.md", b"x")]);
    let error = text_files(&root).unwrap_err().to_string();
    assert!(error.contains("expected files .txt"), "{error}");
    let (_dir, root) = folder(&[("a.txt", b" ")]);
    let error = run("text", &root, &raw()).unwrap_err().to_string();
    assert!(error.contains("1 row empty after cleaning"), "{error}");
    let (_dir, root) = folder(&[("a.txt.gz", &gz("some text that is cut off")[..12])]);
    let error = run("text", &root, &raw()).unwrap_err().to_string();
    assert!(error.contains("a.txt.gz") && error.contains("gzip"), "{error}");
    assert!(notes_files(&root).unwrap_err().to_string().contains("notes.parquet"));
}

fn found(path: &Utf8Path) -> Result<Vec<(String, String, u64)>, String> {
    let runtime = Runtime::default();
    let context = StageContext::new(BTreeMap::new(), "", "", runtime, &NoEvents, Interrupt::default());
    let mut texts = Vec::new();
    let mut take = |text: FoundText| {
        texts.push((text.id, text.text, text.mended));
        Ok(())
    };
    read_texts(path, &TableColumns::default(), &context, &mut take).map_err(|error| error.to_string())?;
    Ok(texts)
}

#[test]
fn single_tables_are_read_as_strictly() {
    let (_dir, root) = folder(&[
        ("good.csv", b"id,text\nM\xfcller,caf\xe9\n"),
        ("quote.csv", b"id,text\n1,\"secret\n2,no\" more\n"),
        ("nul.csv", b"id,text\n1,x\n2\0,secret\n"),
        ("cut.txt.gz", &gz("some text that is cut off")[..20]),
        ("appended.txt.gz", &[gz("some text"), b"secret".to_vec()].concat()),
    ]);
    assert_eq!(found(&root.join("good.csv")).unwrap(), [("Müller".to_owned(), "café".to_owned(), 2)]);
    for (name, message) in [
        ("quote.csv", "quote.csv:2, column text: text follows the quote that closes this field in line 3"),
        ("nul.csv", "nul.csv:3, column id: has a control character in it"),
        ("cut.txt.gz", "cut.txt.gz: the gzip stream ends early"),
        ("appended.txt.gz", "appended.txt.gz: other bytes follow the end of the gzip stream"),
        ("gone.txt", "gone.txt: missing"),
    ] {
        let error = found(&root.join(name)).unwrap_err();
        assert!(error.contains(message) && !error.contains("secret"), "{error}");
    }
}

//! Any bytes as a table: reading ends with notes or with a complaint that names the file, never with a panic, and what
//! is not an error loses no row without a count.

#![no_main]

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use libfuzzer_sys::fuzz_target;
use plmicd_artifact::Digest;
use plmicd_data::{CorpusStats, NoteReader, NoteWriter, kind};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};
use plmicd_preprocess::{Preprocess, PreprocessConfig, Splits};

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    let root = Utf8PathBuf::try_from(dir.path().to_owned()).expect("UTF-8");
    let (raw, out, work) = (root.join("raw"), root.join("out"), root.join("work"));
    fs_err::create_dir_all(&raw).expect("a folder");
    fs_err::create_dir_all(&out).expect("a folder");
    // The first byte chooses the source, so that one corpus serves both readers.
    let Some((choice, table)) = bytes.split_first() else { return };
    let source = if choice % 2 == 0 {
        let whole = [b"id,text,codes\n".as_slice(), table].concat();
        fs_err::write(raw.join("notes.csv"), whole).expect("written");
        kind::TABLE
    } else {
        let notes = [b"SUBJECT_ID,HADM_ID,CATEGORY,TEXT\n".as_slice(), table].concat();
        fs_err::write(raw.join("NOTEEVENTS.csv"), notes).expect("written");
        let codes = "ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE\n1,1,1,1,4019\n2,1,2,1,E8490\n";
        fs_err::write(raw.join("DIAGNOSES_ICD.csv"), codes).expect("written");
        fs_err::write(raw.join("PROCEDURES_ICD.csv"), codes.lines().next().expect("a header")).expect("written");
        kind::MIMIC3
    };
    let input =
        Input { kind: source.to_owned(), digest: Digest::of(b"fuzz"), dir: raw.clone(), restricted: false };
    let runtime = Runtime { threads: 1, ..Runtime::default() };
    let inputs = BTreeMap::from([("raw".to_owned(), input)]);
    let context = StageContext::new(inputs, &out, &work, runtime, &NoEvents, Interrupt::default());
    let config = PreprocessConfig { splits: Splits::Random, ..PreprocessConfig::default() };
    match Preprocess::run(&config, &context) {
        Ok(()) => {
            let stats = CorpusStats::read(&out.join(CorpusStats::FILE)).expect("stats");
            let notes = NoteReader::open(out.join(NoteWriter::FILE)).expect("notes").num_notes();
            assert_eq!(stats.splits.values().map(|split| split.notes).sum::<u64>(), notes);
            assert!(notes > 0);
        }
        Err(StageError::BadInput(bad)) => assert!(bad.file.starts_with(&raw), "{bad}"),
        // Every row was left out, and the message says why.
        Err(error) => assert!(error.to_string().contains("left out") || error.to_string().contains("code"), "{error}"),
    }
});

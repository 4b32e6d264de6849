//! Faults of a `mimic3` source: where, what was expected, and never a word of a note.

use std::collections::BTreeMap;

use camino::Utf8Path;
use plmicd_pipeline::{Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};
use plmicd_preprocess::{Preprocess, PreprocessConfig};

use crate::support::{copy, data, error, input};

const HEAD: &str = "ROW_ID,SUBJECT_ID,HADM_ID,CATEGORY,TEXT\n";

fn fault(damage: impl FnOnce(&Utf8Path)) -> String {
    let (_dir, root) = copy("mimic3");
    damage(&root);
    let message = error("mimic3", &root, &PreprocessConfig::default());
    for secret in ["secret", "aspirin", "sepsis"] {
        assert!(!message.contains(secret), "{message}");
    }
    message
}

fn notes(rows: &str) -> String {
    fault(|root| fs_err::write(root.join("NOTEEVENTS.csv"), format!("{HEAD}{rows}")).unwrap())
}

#[test]
fn missing_files_say_what_and_where_from() {
    for name in ["NOTEEVENTS", "DIAGNOSES_ICD", "PROCEDURES_ICD"] {
        let message = fault(|root| fs_err::remove_file(root.join(format!("{name}.csv"))).unwrap());
        assert!(message.contains(&format!("expected {name}.csv or {name}.csv.gz")), "{message}");
        assert!(message.contains("PhysioNet"), "{message}");
    }
    let message = fault(|root| fs_err::remove_dir_all(root.join("splits")).unwrap());
    assert!(
        message.contains("splits/train_full_hadm_ids.csv: this list of admission ids is missing"),
        "{message}"
    );
}

#[test]
fn headers_are_checked_before_rows_are_read() {
    // A fault in the first large table would be met first, were its rows read before the other header.
    let message = fault(|root| {
        fs_err::write(root.join("NOTEEVENTS.csv"), format!("{HEAD}broken\n")).unwrap();
        fs_err::write(root.join("PROCEDURES_ICD.csv"), "SUBJECT_ID,HADM_ID,SEQ_NUM,CODE\n").unwrap();
    });
    assert!(
        message.contains("PROCEDURES_ICD.csv:1, column ICD9_CODE: no such column; found: SUBJECT_ID, HADM_ID, SEQ_NUM, CODE"),
        "{message}"
    );
}

#[test]
fn rows_are_located() {
    let message = notes("1,1,2,Radiology,\"two\nlines\"\n2,1,2,Discharge summary\n");
    assert!(message.contains("NOTEEVENTS.csv:4: 4 fields, expected 5"), "{message}");
    let message = notes("1,1,2,Discharge summary,\"secret text\nthat never ends\n2,1,3,Radiology,x\n");
    assert!(message.contains("NOTEEVENTS.csv:2: a quote opened in this row is never closed"), "{message}");
    let message = notes("1,1,secret,Discharge summary,x\n");
    assert!(message.contains("NOTEEVENTS.csv:2, column HADM_ID: not a number"), "{message}");
    let message = notes("1,,2,Discharge summary,x\n");
    assert!(message.contains("NOTEEVENTS.csv:2, column SUBJECT_ID: is empty"), "{message}");
    let message = notes("1,1,1001,Discharge summary,x\n2,2,1001,Discharge summary,y\n");
    assert!(message.contains("admission 1001 has notes of two subjects, 1 and 2"), "{message}");
}

#[test]
fn a_truncated_gzip_is_named() {
    let message = fault(|root| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &fs_err::read(root.join("NOTEEVENTS.csv")).unwrap()).unwrap();
        let bytes = encoder.finish().unwrap();
        fs_err::write(root.join("NOTEEVENTS.csv.gz"), &bytes[..bytes.len() - 9]).unwrap();
        fs_err::remove_file(root.join("NOTEEVENTS.csv")).unwrap();
    });
    assert!(message.contains("NOTEEVENTS.csv.gz") && message.contains("truncated"), "{message}");
}

#[test]
fn lists_of_other_tables_are_noticed() {
    let message = fault(|root| {
        for (id, split) in ["train", "dev", "test"].into_iter().enumerate() {
            fs_err::write(root.join(format!("splits/{split}_full_hadm_ids.csv")), format!("{id}\n")).unwrap();
        }
    });
    assert!(message.contains("none of the listed admissions has a discharge summary"), "{message}");
    let message = fault(|root| fs_err::write(root.join("splits/dev_full_hadm_ids.csv"), "\n").unwrap());
    assert!(message.contains("dev_full_hadm_ids.csv: this list is empty"), "{message}");
}

#[test]
fn a_table_without_a_header_is_not_shown() {
    let row = "7,1,1001,Discharge summary,secret text\n";
    let message = fault(|root| fs_err::write(root.join("NOTEEVENTS.csv"), row).unwrap());
    assert!(
        message.contains("this line (5 fields between delimiters) does not look like a header"),
        "{message}"
    );
}

#[test]
fn a_table_without_discharge_summaries_says_what_it_has() {
    let message = notes("1,1,1001,Radiology,x\n2,1,1001,DISCHARGE SUMMARY,x\n");
    assert!(message.contains("NOTEEVENTS.csv, column CATEGORY: no discharge summary to read"), "{message}");
    assert!(message.contains("2 rows of NOTEEVENTS of another category"), "{message}");
}

#[test]
fn an_interrupt_stops_the_stage() {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(dir.path()).unwrap();
    let interrupt = Interrupt::default();
    interrupt.raise();
    let inputs = BTreeMap::from([("raw".to_owned(), input("mimic3", &data("mimic3")))]);
    let context =
        StageContext::new(inputs, root, root.join("work"), Runtime::default(), &NoEvents, interrupt);
    let error = Preprocess::run(&PreprocessConfig::default(), &context).unwrap_err();
    assert!(matches!(error, StageError::Interrupted), "{error}");
}

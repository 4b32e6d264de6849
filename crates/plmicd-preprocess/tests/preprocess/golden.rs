//! Text cleaning and code formats against what the published implementations gave.

use std::path::{Path, PathBuf};

use plmicd_data::CodeSystem;
use plmicd_preprocess::{Cohort, Compat, PreprocessConfig, TextCleaning, caml_code, caml_float, format_code};
use serde_json::Value;

use crate::support::run;

fn golden(file: &str) -> Option<Value> {
    let path: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/preprocess").join(file);
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    }
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

#[test]
fn cleaning_equals_caml_and_edin() {
    let Some(golden) = golden("text_preprocess.json") else { return };
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let (name, text) = (&case["name"], case["text"].as_str().unwrap());
        assert_eq!(TextCleaning::Caml.apply(text), case["caml"].as_str().unwrap(), "{name}, caml");
        assert_eq!(TextCleaning::Edin.apply(text), case["edin2023"].as_str().unwrap(), "{name}, edin");
        assert_eq!(TextCleaning::Raw.apply(text), text);
    }
}

#[test]
fn codes_equal_the_corrected_studies() {
    let Some(golden) = golden("code_format.json") else { return };
    // ICD-10 diagnoses follow Edin et al. 2024 (`I10` without a dot), which expects undotted input.
    for (list, system, expected) in [
        ("icd9_diagnosis", CodeSystem::Icd9Diagnosis, "edin2023_icd9"),
        ("icd9_procedure", CodeSystem::Icd9Procedure, "edin2023_icd9"),
        ("icd10_diagnosis", CodeSystem::Icd10CmDiagnosis, "edin2024"),
        ("icd10_procedure", CodeSystem::Icd10PcsProcedure, "edin2023_icd10"),
    ] {
        for case in golden[list].as_array().unwrap() {
            let input = case["input"].as_str().unwrap();
            if system == CodeSystem::Icd10CmDiagnosis && input.contains('.') {
                continue;
            }
            assert_eq!(format_code(input, system), case[expected].as_str().unwrap(), "{list} {input:?}");
        }
    }
}

/// The folder of the published pipeline's end-to-end case.
fn end_to_end() -> Option<PathBuf> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/preprocess/caml_e2e");
    if !from.exists() {
        eprintln!("skipped: {} is not here", from.display());
        return None;
    }
    Some(from)
}

/// Its inputs as a source.
fn published_tables(from: &Path) -> (tempfile::TempDir, camino::Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = camino::Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
    fs_err::create_dir(root.join("splits")).unwrap();
    for name in ["NOTEEVENTS", "DIAGNOSES_ICD", "PROCEDURES_ICD"] {
        fs_err::copy(from.join(format!("input_{name}.csv")), root.join(format!("{name}.csv"))).unwrap();
    }
    for split in ["train", "dev", "test"] {
        for list in [format!("{split}_full_hadm_ids.csv"), format!("{split}_50_hadm_ids.csv")] {
            fs_err::copy(from.join(format!("input_{list}")), root.join("splits").join(&list)).unwrap();
        }
    }
    (dir, root)
}

/// Every file of CAML's scripts, byte for byte; the order of rows of equal length and of labels inside a table of
/// frequent codes are free there.
#[test]
fn camls_files_equal_those_of_its_scripts() {
    let Some(from) = end_to_end() else { return };
    let (_dir, root) = published_tables(&from);
    let caml = PreprocessConfig { compat: Compat::Caml, caml_files: true, ..PreprocessConfig::default() };
    let outcome = run("mimic3", &root, None, 2, &caml).unwrap();
    let ours = |name: &str| fs_err::read_to_string(outcome.out.join("caml").join(name)).unwrap();
    let theirs = |name: &str| fs_err::read_to_string(from.join(name)).unwrap();
    for (name, expected) in [
        ("ALL_CODES.csv", "expected_2_ALL_CODES.csv"),
        ("disch_full.csv", "expected_5_disch_full_sorted.csv"),
        ("ALL_CODES_filtered.csv", "expected_4_ALL_CODES_filtered_sorted.csv"),
        ("notes_labeled.csv", "expected_6_notes_labeled.csv"),
        ("disch_train_split.csv", "expected_7_disch_train_split.csv"),
        ("disch_dev_split.csv", "expected_7_disch_dev_split.csv"),
        ("disch_test_split.csv", "expected_7_disch_test_split.csv"),
        ("vocab.csv", "expected_8_vocab.csv"),
        ("train_full.csv", "expected_9_train_full.csv"),
        ("dev_full.csv", "expected_9_dev_full.csv"),
        ("test_full.csv", "expected_9_test_full.csv"),
    ] {
        assert_eq!(ours(name), theirs(expected), "{name}");
    }
    // Before sorting the table is the same rows in the order of the file, texts in quotes.
    let mut unsorted: Vec<csv::StringRecord> =
        csv::Reader::from_path(from.join("expected_1_disch_full_unsorted.csv"))
            .unwrap()
            .records()
            .map(Result::unwrap)
            .collect();
    unsorted.sort_by_key(|row| (row[0].parse::<u64>().unwrap(), row[1].parse::<u64>().unwrap()));
    let rows: Vec<String> = unsorted.iter().map(|row| row.iter().collect::<Vec<_>>().join(",")).collect();
    assert_eq!(ours("disch_full.csv").lines().skip(1).collect::<Vec<_>>(), rows);
    let labels = golden("caml_e2e/expected_12_label_space_sorted.json").unwrap();
    assert_eq!(
        outcome.codes(),
        labels.as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect::<Vec<_>>()
    );
    assert_eq!(outcome.note("200002").codes, ["038.9", "995.92", "038.9", "17.", "99.10", "38.93"]);

    // The three most frequent codes, on the lists of admissions for them.
    for split in ["train", "dev", "test"] {
        let lists = root.join("splits");
        fs_err::rename(
            lists.join(format!("{split}_50_hadm_ids.csv")),
            lists.join(format!("{split}_3_hadm_ids.csv")),
        )
        .unwrap();
    }
    let top = PreprocessConfig { cohort: Cohort::Top, top_codes: 3, ..caml };
    let outcome = run("mimic3", &root, None, 2, &top).unwrap();
    let ours = |name: &str| fs_err::read_to_string(outcome.out.join("caml").join(name)).unwrap();
    let wanted = golden("caml_e2e/expected_10_top_codes.json").unwrap();
    let wanted: Vec<&str> = wanted["top_3"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(ours("TOP_3_CODES.csv").lines().collect::<Vec<_>>(), wanted);
    assert_eq!(outcome.codes(), {
        let mut sorted = wanted.clone();
        sorted.sort_unstable();
        sorted
    });
    for split in ["train", "dev", "test"] {
        let expected = golden(&format!("caml_e2e/expected_11_{split}_top3_rows.json")).unwrap();
        let mut expected: Vec<Vec<String>> = expected
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                let labels: Vec<&str> = row["LABELS_set_sorted"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|l| l.as_str().unwrap())
                    .collect();
                let length = text("TEXT").split_whitespace().count().to_string();
                vec![text("SUBJECT_ID"), text("HADM_ID"), text("TEXT"), labels.join(";"), length]
            })
            .collect();
        expected.sort_by_key(|row| row[4].parse::<usize>().unwrap());
        let rows: Vec<Vec<String>> = ours(&format!("{split}_3.csv"))
            .lines()
            .skip(1)
            .map(|line| line.split(',').map(str::to_owned).collect())
            .collect();
        assert_eq!(rows, expected, "{split}");
    }
}

/// Tables without a letter in any code, with missing codes and ranks, with texts that are no texts: what pandas makes of
/// them (`scripts/caml_tables.py` has made the expected ones).
#[test]
fn camls_files_equal_what_pandas_makes_of_odd_tables() {
    for case in ["numbers", "letters"] {
        let root = crate::support::data("caml").join(case);
        let caml = PreprocessConfig { compat: Compat::Caml, caml_files: true, ..PreprocessConfig::default() };
        let outcome = run("mimic3", &root.join("in"), None, 2, &caml).unwrap();
        let mut names = 0;
        for entry in fs_err::read_dir(root.join("out")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let ours = fs_err::read_to_string(outcome.out.join("caml").join(name)).unwrap();
            assert_eq!(ours, fs_err::read_to_string(&path).unwrap(), "{case}: {name}");
            names += 1;
        }
        assert_eq!(names, 15);
    }
}

/// What reading a block of numbers does to codes.
#[test]
fn blocks_of_numbers_turn_codes_into_floats() {
    let Some(golden) = golden("caml_float_chunk.json") else { return };
    let map = golden["map"].as_object().unwrap();
    assert_eq!(golden["chunk_rows"], 131_072);
    for (before, after) in map {
        assert_eq!(caml_float(before), after.as_str().unwrap());
    }
}

/// CAML's own formatting, accidents included.
#[test]
fn codes_equal_camls() {
    let Some(golden) = golden("code_format.json") else { return };
    for (list, procedure) in [("icd9_diagnosis", false), ("icd9_procedure", true)] {
        for case in golden[list].as_array().unwrap() {
            let input = case["input"].as_str().unwrap();
            assert_eq!(caml_code(input, procedure), case["caml"].as_str().unwrap(), "{list} {input:?}");
        }
    }
}

/// The inputs of the published pipeline's end-to-end case. Texts and joins are the same; codes are read as text and
/// without repetition here, where the published scripts lose zeros and keep duplicates.
#[test]
fn texts_and_joins_equal_the_published_pipeline() {
    let Some(from) = end_to_end() else { return };
    let (_dir, root) = published_tables(&from);
    let root = root.as_path();
    let outcome = run("mimic3", root, None, 2, &PreprocessConfig::default()).unwrap();

    let mut expected = csv::Reader::from_path(from.join("expected_6_notes_labeled.csv")).unwrap();
    let mut rows = expected.records().map(Result::unwrap).filter(|row| !row[2].is_empty());
    for note in &outcome.notes {
        let row = rows.next().unwrap();
        assert_eq!((note.subject_id.as_str(), note.note_id.as_str()), (&row[0], &row[1]));
        assert_eq!(note.text, row[2]);
    }
    assert!(rows.next().is_none());
    assert_eq!(outcome.note("200002").codes, ["038.9", "995.92", "00.17", "99.10", "38.93"]);
    assert_eq!(outcome.note("200005").codes, ["401.9", "250.00", "V58.61"]);
    assert_eq!(outcome.note("200006").codes, ["585.6", "39.95"]);
    assert_eq!(outcome.note("200003").codes, ["E881.0", "808.0", "E849", "03.31"]);
}

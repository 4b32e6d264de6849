//! Joins, order, codes, splits and counts of a `mimic3` source.

use std::collections::BTreeSet;
use std::io::Write;

use plmicd_data::{CodeSystem, Split};
use plmicd_pipeline::Stage;
use plmicd_preprocess::{CodeKinds, Cohort, Compat, Preprocess, PreprocessConfig, Splits, TextCleaning};

use crate::support::{Outcome, copy, data, error, run};

fn corpus(config: &PreprocessConfig) -> Outcome {
    run("mimic3", &data("mimic3"), None, 2, config).unwrap()
}

#[test]
fn notes_are_joined_cleaned_and_sorted() {
    let outcome = corpus(&PreprocessConfig::default());
    let rows: Vec<(&str, &str, Split, &str, Vec<&str>)> = outcome
        .notes
        .iter()
        .map(|n| {
            let codes = n.codes.iter().map(String::as_str).collect();
            (n.note_id.as_str(), n.subject_id.as_str(), n.split, n.text.as_str(), codes)
        })
        .collect();
    assert_eq!(
        rows,
        [
            (
                "1001",
                "11",
                Split::Train,
                "chest pain at rest aspirin 81mg daily hospital1 ___",
                vec!["786.50", "401.9", "88.56"]
            ),
            (
                "1002",
                "11",
                Split::Train,
                "diabetes type and hypertension both stable",
                vec!["250.00", "401.9"]
            ),
            (
                "1003",
                "12",
                Split::Train,
                "addendum the repeat culture stayed negative stop vancomycin mg fever and sepsis wbc 3k follow up in days",
                vec!["038.9", "995.92", "00.17", "38.93"]
            ),
            (
                "1004",
                "13",
                Split::Dev,
                "fall from a ladder café visit after hip fracture",
                vec!["E881.0", "808.0", "V15.88"]
            ),
        ]
    );
}

#[test]
fn labels_sort_by_bytes_and_carry_descriptions() {
    let outcome = corpus(&PreprocessConfig::default());
    assert_eq!(
        outcome.codes(),
        [
            "00.17", "038.9", "250.00", "38.93", "401.9", "786.50", "808.0", "88.56", "995.92", "E881.0",
            "V15.88"
        ]
    );
    let label = |code: &str| &outcome.labels.labels()[outcome.labels.index_of(code).unwrap()];
    assert_eq!(label("401.9").description.as_deref(), Some("Unspecified essential hypertension"));
    assert_eq!(
        label("038.9").description.as_deref(),
        Some("Septicemia NOS"),
        "the short title where the long is empty"
    );
    assert_eq!(label("808.0").description_of.as_deref(), Some("808"), "the nearest ancestor, marked");
    assert_eq!(label("88.56").description, None);
    assert_eq!(label("00.17").system, CodeSystem::Icd9Procedure);
    assert_eq!(outcome.stats.labels_without_description, 4);
    assert_eq!(outcome.stats.labels_described_by_relative, 1);
}

#[test]
fn nothing_is_left_out_without_a_count() {
    let outcome = corpus(&PreprocessConfig::default());
    for (reason, count) in [
        ("of NOTEEVENTS of another category than Discharge summary", 2),
        ("of discharge summaries without an admission", 1),
        ("of discharge summaries that are empty after cleaning", 1),
        ("mended: not UTF-8, read as Windows-1252", 1),
        ("of the code tables without a code", 1),
        ("repeating a code of the same admission", 1),
        ("with codes but without a discharge summary", 2),
        ("in a split list but without a discharge summary", 3),
        ("in no split list", 1),
        ("without a code", 1),
    ] {
        assert_eq!(outcome.excluded(reason), count, "{reason}");
        assert!(outcome.log.iter().any(|line| line.contains(reason)), "{reason} is reported");
    }
    assert_eq!(outcome.stats.exclusions.len(), 10);
    let train = &outcome.stats.splits[&Split::Train];
    assert_eq!((train.notes, train.subjects, train.labels_present), (3, 2, 8));
    assert_eq!((train.words.min, train.words.max, train.codes.total), (6, 18, 9));
    assert_eq!(outcome.stats.splits[&Split::Test].notes, 0);
}

#[test]
fn codes_can_be_filtered_by_kind_and_frequency() {
    let procedures = PreprocessConfig { codes: CodeKinds::Procedures, ..PreprocessConfig::default() };
    let outcome = corpus(&procedures);
    assert_eq!(outcome.codes(), ["00.17", "38.93", "88.56"]);
    assert_eq!(outcome.notes.len(), 2);
    let top = PreprocessConfig { cohort: Cohort::Top, top_codes: 1, ..PreprocessConfig::default() };
    let outcome = corpus(&top);
    assert_eq!(outcome.codes(), ["401.9"]);
    assert_eq!(outcome.notes.iter().map(|n| n.note_id.as_str()).collect::<Vec<_>>(), ["1001", "1002"]);
    let frequent = PreprocessConfig { min_code_frequency: 2, ..PreprocessConfig::default() };
    assert_eq!(corpus(&frequent).codes(), ["401.9"]);
}

#[test]
fn random_splits_need_no_lists_and_keep_patients_together() {
    let (_dir, root) = copy("mimic3");
    fs_err::remove_dir_all(root.join("splits")).unwrap();
    let config = PreprocessConfig {
        splits: Splits::Random,
        dev_fraction: 0.2,
        test_fraction: 0.2,
        seed: 3,
        ..PreprocessConfig::default()
    };
    let outcome = run("mimic3", &root, None, 2, &config).unwrap();
    assert_eq!(outcome.notes.len(), 5, "1009 is in no list, which no longer matters");
    assert_eq!(outcome.note("1001").split, outcome.note("1002").split);
    let splits: BTreeSet<Split> = outcome.notes.iter().map(|note| note.split).collect();
    assert_eq!(splits.len(), 3);
}

#[test]
fn raw_text_stays_as_it_is() {
    let config = PreprocessConfig { text: TextCleaning::Raw, ..PreprocessConfig::default() };
    let outcome = corpus(&config);
    assert_eq!(
        outcome.note("1003").text,
        "Addendum:\nThe \"repeat\" culture stayed negative; stop vancomycin 500 mg. Fever and sepsis. WBC 12.3K.\n\nFollow-up in 7 days."
    );
}

#[test]
fn leaking_lists_are_told() {
    let (_dir, root) = copy("mimic3");
    fs_err::write(root.join("splits/train_full_hadm_ids.csv"), "1001\n").unwrap();
    fs_err::write(root.join("splits/dev_full_hadm_ids.csv"), "1002\n").unwrap();
    let outcome = run("mimic3", &root, None, 2, &PreprocessConfig::default()).unwrap();
    assert!(
        outcome.log.iter().any(|line| line.contains("the splits leak: 1 subject has")),
        "{:?}",
        outcome.log
    );
}

#[test]
fn rows_that_a_table_has_twice_count_once() {
    let (_dir, root) = copy("mimic3");
    let path = root.join("NOTEEVENTS.csv");
    let mut table = fs_err::read(&path).unwrap();
    let again = table.split(|&b| b == b'\n').find(|line| line.starts_with(b"5,")).unwrap().to_vec();
    let other = [b"12".as_slice(), &again[1..]].concat();
    table.extend([&again[..], b"\n", &other[..], b"\n"].concat());
    fs_err::write(&path, table).unwrap();
    let outcome = run("mimic3", &root, None, 2, &PreprocessConfig::default()).unwrap();
    assert_eq!(outcome.excluded("of discharge summaries that repeat an earlier row"), 1);
    let text = "diabetes type and hypertension both stable";
    assert_eq!(outcome.note("1002").text, format!("{text} {text}"), "another row may say the same");
    let caml = PreprocessConfig { compat: Compat::Caml, ..PreprocessConfig::default() };
    let outcome = run("mimic3", &root, None, 2, &caml).unwrap();
    assert_eq!(outcome.note("1002").text, format!("{text} {text} {text}"), "CAML's scripts read all rows");
}

#[test]
fn lists_of_the_admissions_with_the_50_codes() {
    let (_dir, root) = copy("mimic3");
    let config = PreprocessConfig { splits: Splits::Caml50, ..PreprocessConfig::default() };
    let message = run("mimic3", &root, None, 2, &config).unwrap_err().to_string();
    assert!(
        message.contains("splits/train_50_hadm_ids.csv: this list of admission ids is missing"),
        "{message}"
    );
    for (split, id) in [("train", 1001), ("dev", 1002), ("test", 1003)] {
        fs_err::write(root.join(format!("splits/{split}_50_hadm_ids.csv")), format!("{id}\n")).unwrap();
    }
    let outcome = run("mimic3", &root, None, 2, &config).unwrap();
    let splits: Vec<(&str, Split)> = outcome.notes.iter().map(|n| (n.note_id.as_str(), n.split)).collect();
    assert_eq!(splits, [("1001", Split::Train), ("1002", Split::Dev), ("1003", Split::Test)]);
}

#[test]
fn a_split_without_notes_is_told() {
    let (_dir, root) = copy("mimic3");
    let told = |root: &camino::Utf8Path| {
        let log = run("mimic3", root, None, 2, &PreprocessConfig::default()).unwrap().log;
        log.iter().any(|line| line.contains("no note is in the dev split"))
    };
    assert!(!told(&root), "the list names a note");
    fs_err::write(root.join("splits/dev_full_hadm_ids.csv"), "999999\n").unwrap();
    assert!(told(&root), "the list names none");
}

#[test]
fn gzip_and_lower_case_headers_give_the_same_bytes_on_any_number_of_threads() {
    let expected = corpus(&PreprocessConfig::default()).digest;
    let (_dir, root) = copy("mimic3");
    let plain = root.join("NOTEEVENTS.csv");
    let mut bytes = fs_err::read(&plain).unwrap();
    let end = bytes.iter().position(|&b| b == b'\n').unwrap();
    bytes[..end].make_ascii_lowercase();
    let mut encoder = flate2::write::GzEncoder::new(
        fs_err::File::create(root.join("noteevents.csv.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap();
    fs_err::remove_file(plain).unwrap();
    for threads in [1, 3] {
        let outcome = run("mimic3", &root, None, threads, &PreprocessConfig::default()).unwrap();
        assert_eq!(outcome.digest, expected);
    }
}

#[test]
fn an_addendum_without_words_is_white_space_to_edins_rule() {
    let (_dir, root) = copy("mimic3");
    let rows = "1,11,1001,Discharge summary,Creatinine 2\n2,11,1001,Discharge summary,...\n\
                3,11,1002,Discharge summary,...\n4,11,1002,Discharge summary,\n";
    let table = format!("ROW_ID,SUBJECT_ID,HADM_ID,CATEGORY,TEXT\n{rows}");
    fs_err::write(root.join("NOTEEVENTS.csv"), table).unwrap();
    let config = PreprocessConfig { splits: Splits::Random, ..PreprocessConfig::default() };
    let edin = PreprocessConfig { text: TextCleaning::Edin, ..config };
    let outcome = run("mimic3", &root, None, 1, &edin).unwrap();
    // The number is not at the end of the joined text.
    assert_eq!(outcome.note("1001").text, "creatinine");
    assert_eq!(outcome.notes.len(), 1);
    assert_eq!(outcome.excluded("of discharge summaries that are empty after cleaning"), 2);
}

#[test]
fn text_after_a_closing_quote_is_an_error_unless_pandas_is_repeated() {
    // The admission, the text and the category of the second row would be part of the first one's text.
    let rows =
        "1,1,1001,Discharge summary,\"chest pain secret\n2,3,1003,Discharge summary,no\" more secret\n";
    let (_dir, root) = copy("mimic3");
    let table = format!("ROW_ID,SUBJECT_ID,HADM_ID,CATEGORY,TEXT\n{rows}");
    fs_err::write(root.join("NOTEEVENTS.csv"), table).unwrap();
    let message = error("mimic3", &root, &PreprocessConfig::default());
    let place = "NOTEEVENTS.csv:2, column TEXT: text follows the quote that closes this field in line 3";
    assert!(message.contains(place) && !message.contains("secret"), "{message}");
    fs_err::write(root.join("PROCEDURES_ICD.csv"), "SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE\n1,1001,1,17\n")
        .unwrap();
    let caml =
        PreprocessConfig { compat: Compat::Caml, splits: Splits::Random, ..PreprocessConfig::default() };
    let outcome = run("mimic3", &root, None, 1, &caml).unwrap();
    assert!(outcome.note("1001").text.ends_with("no more secret"));
    let warning = "NOTEEVENTS.csv: text after the closing quote of 1 field, first in line 2";
    assert!(outcome.log.iter().any(|line| line.starts_with(warning)), "{:?}", outcome.log);
}

/// If this fails, the stage's output has changed: raise `Preprocess::VERSION` and put the new digest here.
#[test]
fn the_version_stands_for_these_bytes() {
    let digest = corpus(&PreprocessConfig::default()).digest;
    assert_eq!((Preprocess::VERSION, digest.as_str()), (7, GOLDEN));
}

const GOLDEN: &str = "c9f0da02cde93761e7d03399cbccbe0d145535143936755f237237458c08c640";

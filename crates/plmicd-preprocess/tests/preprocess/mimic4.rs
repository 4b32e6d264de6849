//! A `mimic4` source: editions of the ICD, modules' folders, repeated texts, stratified splits, levels, leaks.

use camino::Utf8Path;
use plmicd_data::{CodeSystem, Split};
use plmicd_preprocess::source_files::mimic4_files;
use plmicd_preprocess::{CodeLevel, Deidentified, IcdVersion, PreprocessConfig, Splits, TextCleaning};

use crate::support::{data, error, run};

const HEADER: &str = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text";

/// Forty subjects with an admission each under ICD-10, one more with ICD-9, and what has to be left out.
fn corpus() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    };
    let mut notes = format!("{HEADER}\n");
    let mut diagnoses = "subject_id,hadm_id,seq_num,icd_code,icd_version\n".to_owned();
    let mut procedures = "subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version\n".to_owned();
    for i in 1..=40 {
        notes += &format!("n{i},{i},{},DS,1,t,t,\"Mr. ___ has\nHTN, dose {i} mg\"\n", 1000 + i);
        diagnoses += &format!("{i},{},2,I10    ,10\n{i},{},1,E119,10\n", 1000 + i, 1000 + i);
        if i % 2 == 0 {
            procedures += &format!("{i},{},1,d,0TJB8ZZ,10\n", 1000 + i);
        }
    }
    notes += "n1b,1,1001,DS,1,t,t,\"Mr. ___ has\nHTN, dose 1 mg\"\nn1c,1,1001,AD,2,t,t,Addendum\n";
    notes += "n41,41,2041,DS,1,t,t,Old note\nn42,42,,DS,1,t,t,no admission\nn43,43,2043,DS,1,t,t,---\n";
    diagnoses += "41,2041,1,4019,9\n44,2044,1,I10,10\n1,1001,3,I10,10\n";
    write("note/discharge.csv", notes);
    write("hosp/diagnoses_icd.csv", diagnoses);
    write("hosp/procedures_icd.csv", procedures);
    write(
        "hosp/d_icd_diagnoses.csv",
        "icd_code,icd_version,long_title\n4019,9,Hypertension NOS\nI10,10,Essential hypertension\n"
            .to_owned(),
    );
    dir
}

fn stratified() -> PreprocessConfig {
    PreprocessConfig { splits: Splits::Stratified, ..PreprocessConfig::default() }
}

#[test]
fn the_edition_asked_for_is_read_and_the_rest_counted() {
    let dir = corpus();
    let root = Utf8Path::from_path(dir.path()).unwrap();
    let files: Vec<String> = mimic4_files(root).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        files,
        [
            "hosp/diagnoses_icd.csv",
            "hosp/procedures_icd.csv",
            "note/discharge.csv",
            "hosp/d_icd_diagnoses.csv"
        ]
    );
    let ten = run("mimic4", root, None, 2, &stratified()).unwrap();
    assert_eq!(ten.codes(), ["0TJB8ZZ", "E11.9", "I10"]);
    assert_eq!(ten.notes.len(), 40);
    assert_eq!(ten.note("1001").text, "mr ___ has htn dose mg addendum");
    assert_eq!(ten.note("1002").codes, ["E11.9", "I10", "0TJB8ZZ"], "by rank, procedures last");
    assert_eq!(ten.labels.labels()[2].description.as_deref(), Some("Essential hypertension"));
    assert_eq!(ten.labels.labels()[0].system, CodeSystem::Icd10PcsProcedure);
    for (reason, count) in [
        ("repeating a text of the same admission", 1),
        ("of the code tables of the other ICD version", 1),
        ("of discharge summaries without an admission", 1),
        ("of discharge summaries that are empty after cleaning", 1),
        ("repeating a code of the same admission", 1),
        ("with codes but without a discharge summary", 1),
        ("without a code", 1),
    ] {
        assert_eq!(ten.excluded(reason), count, "{reason}");
    }
    assert_eq!(ten.stats.leaking_subjects, 0);
    let in_split = |split| ten.notes.iter().filter(|note| note.split == split).count();
    assert_eq!([Split::Train, Split::Dev, Split::Test].map(in_split), [30, 4, 6]);
    let again = run("mimic4", root, None, 1, &stratified()).unwrap();
    assert_eq!(again.digest, ten.digest);

    let nine = PreprocessConfig { icd_version: IcdVersion::Icd9, ..stratified() };
    let nine = run("mimic4", root, None, 2, &nine).unwrap();
    assert_eq!(nine.codes(), ["401.9"]);
    assert_eq!(nine.labels.labels()[0].description.as_deref(), Some("Hypertension NOS"));
}

#[test]
fn lists_beside_the_tables_are_its_splits() {
    let dir = corpus();
    let root = Utf8Path::from_path(dir.path()).unwrap();
    fs_err::create_dir(root.join("splits")).unwrap();
    for (split, ids) in [("train", "1001\n1002\n9999\n"), ("dev", "1003\n"), ("test", "1004\n")] {
        fs_err::write(root.join(format!("splits/{split}_full_hadm_ids.csv")), ids).unwrap();
    }
    assert!(mimic4_files(root).unwrap().iter().any(|(name, _)| name == "splits/dev_full_hadm_ids.csv"));
    let outcome = run("mimic4", root, None, 2, &PreprocessConfig::default()).unwrap();
    assert_eq!(outcome.notes.len(), 4);
    assert_eq!(outcome.note("1003").split, Split::Dev);
    assert_eq!(outcome.excluded("in a split list but without a discharge summary"), 1);
    assert_eq!(outcome.excluded("in no split list"), 37);
    fs_err::remove_file(root.join("splits/test_full_hadm_ids.csv")).unwrap();
    let message = error("mimic4", root, &PreprocessConfig::default());
    assert!(message.contains("test_full_hadm_ids.csv: this list of admission ids is missing"), "{message}");
}

#[test]
fn levels_and_texts_are_options() {
    let dir = corpus();
    let root = Utf8Path::from_path(dir.path()).unwrap();
    let config = PreprocessConfig {
        code_level: CodeLevel::Category,
        text: TextCleaning::CamlCased,
        deidentified: Deidentified::Replace,
        ..stratified()
    };
    let category = run("mimic4", root, None, 2, &config).unwrap();
    assert_eq!(category.codes(), ["0TJ", "E11", "I10"]);
    assert_eq!(category.note("1002").text, "Mr deid has HTN dose mg");
    let config = PreprocessConfig {
        code_level: CodeLevel::Chapter,
        text: TextCleaning::RawLower,
        deidentified: Deidentified::Drop,
        ..stratified()
    };
    let chapter = run("mimic4", root, None, 2, &config).unwrap();
    assert_eq!(chapter.codes(), ["0", "E00-E89", "I00-I99"]);
    assert_eq!(chapter.labels.labels()[2].description.as_deref(), Some("Diseases of the circulatory system"));
    assert_eq!(chapter.note("1002").text, "mr.   has\nhtn, dose 2 mg");
}

#[test]
fn faults_are_located() {
    let dir = corpus();
    let root = Utf8Path::from_path(dir.path()).unwrap();
    let message = error("mimic4", root, &PreprocessConfig::default());
    assert!(message.contains("no splits of its own") && message.contains("stratified"), "{message}");
    let codes = root.join("hosp/diagnoses_icd.csv");
    let head = "subject_id,hadm_id,seq_num,icd_code,icd_version\n";
    for (rows, expected) in [
        ("1,1001,1,I10,\n", "diagnoses_icd.csv:2, column icd_version: expected 9 or 10"),
        ("1,1001,1,I10,10\n1,x,1,I10,10\n", "diagnoses_icd.csv:3, column hadm_id: not a number"),
        ("1,1001,1\n", "diagnoses_icd.csv:2: 3 fields, expected 5"),
    ] {
        fs_err::write(&codes, format!("{head}{rows}")).unwrap();
        let message = error("mimic4", root, &stratified());
        assert!(message.contains(expected), "{message}");
    }
    fs_err::write(&codes, "subject_id,hadm_id,seq_num,icd_code\n").unwrap();
    let message = error("mimic4", root, &stratified());
    assert!(message.contains("diagnoses_icd.csv:1, column icd_version: no such column"), "{message}");
    fs_err::remove_file(root.join("note/discharge.csv")).unwrap();
    assert!(mimic4_files(root).unwrap_err().to_string().contains("its folder note"));
}

#[test]
fn a_given_split_that_leaks_is_told_in_the_log_and_in_the_counts() {
    let (_dir, root) = crate::support::copy("mimic3");
    for (split, ids) in [("train", "1001\n1003\n"), ("dev", "1002\n"), ("test", "1004\n")] {
        fs_err::write(root.join(format!("splits/{split}_full_hadm_ids.csv")), ids).unwrap();
    }
    let leaking = run("mimic3", &root, None, 2, &PreprocessConfig::default()).unwrap();
    assert_eq!(leaking.stats.leaking_subjects, 1, "subject 11 has 1001 and 1002");
    assert!(
        leaking.log.iter().any(|line| line.contains("the splits leak: 1 subject has")),
        "{:?}",
        leaking.log
    );
    let sound = run("mimic3", &data("mimic3"), None, 2, &PreprocessConfig::default()).unwrap();
    assert_eq!(sound.stats.leaking_subjects, 0);
}

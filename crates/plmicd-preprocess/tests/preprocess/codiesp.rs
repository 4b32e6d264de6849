//! A `codiesp` source.

use plmicd_data::{CodeSystem, Split};
use plmicd_preprocess::{CodeKinds, Language, PreprocessConfig, Splits, TextCleaning};

use crate::support::{copy, data, error, run};

#[test]
fn official_layout() {
    let tables = data("tables");
    let outcome = run("codiesp", &data("codiesp"), Some(&tables), 2, &PreprocessConfig::default()).unwrap();
    let rows: Vec<(&str, Split, Vec<&str>)> = outcome
        .notes
        .iter()
        .map(|n| (n.note_id.as_str(), n.split, n.codes.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(
        rows,
        [
            ("S001", Split::Train, vec!["K44.9", "N80.9", "0TJB8ZZ"]),
            ("S002", Split::Train, vec!["N80"]),
            ("S003", Split::Dev, vec!["K44.9", "L81.3"]),
            ("S004", Split::Test, vec!["C67.9", "0TJB8ZZ", "0TJ"]),
        ]
    );
    assert_eq!(outcome.note("S003").text, "café au lait spots hernia", "no byte order mark");
    assert_eq!(outcome.excluded("repeating a code of the same document"), 1);
    assert_eq!(outcome.excluded("with codes but without a text"), 1);
    assert_eq!(outcome.excluded("without a code"), 1);
    let label = |code: &str| &outcome.labels.labels()[outcome.labels.index_of(code).unwrap()];
    assert_eq!(
        label("K44.9").description.as_deref(),
        Some("Diaphragmatic hernia without obstruction or gangrene")
    );
    assert_eq!(
        label("N80").description_of.as_deref(),
        Some("N80.9"),
        "no first word in common: the unspecified one"
    );
    assert_eq!(label("0TJB8ZZ").description_of.as_deref(), Some("0TJ"));
    assert_eq!(label("0TJB8ZZ").system, CodeSystem::Icd10PcsProcedure);
    assert_eq!(label("L81.3").description, None);
}

#[test]
fn language_kinds_and_random_splits() {
    let config = PreprocessConfig {
        language: Language::Es,
        codes: CodeKinds::Procedures,
        splits: Splits::Random,
        dev_fraction: 0.0,
        test_fraction: 0.5,
        text: TextCleaning::Raw,
        ..PreprocessConfig::default()
    };
    let outcome = run("codiesp", &data("codiesp"), None, 1, &config).unwrap();
    assert_eq!(outcome.codes(), ["0TJ", "0TJB8ZZ"]);
    assert_eq!(outcome.note("S001").text, "Texto en español.\n");
    assert_eq!(outcome.notes.iter().filter(|n| n.split == Split::Test).count(), 1);
    assert_eq!(outcome.notes.len(), 2);
}

#[test]
fn bytes_that_are_not_utf8_are_mended_and_counted() {
    let (_dir, root) = copy("codiesp");
    fs_err::write(root.join("dev/text_files_en/S003.txt"), b"\xef\xbb\xbfcaf\xe9 au lait \x96 spots")
        .unwrap();
    let outcome = run("codiesp", &root, None, 1, &PreprocessConfig::default()).unwrap();
    assert_eq!(outcome.note("S003").text, "café au lait spots");
    assert_eq!(outcome.excluded("mended: not UTF-8, read as Windows-1252"), 2);
    assert!(outcome.log.iter().any(|line| line.ends_with(": 2 bytes in 1 text")), "{:?}", outcome.log);
}

#[test]
fn faults_are_located() {
    let config = PreprocessConfig::default();
    let (_dir, root) = copy("codiesp");
    fs_err::write(root.join("dev/devP.tsv"), "S003\t0tj\nS003 0tk\n").unwrap();
    assert!(error("codiesp", &root, &config).contains("devP.tsv:2: expected two fields"));
    fs_err::write(root.join("dev/devP.tsv"), "S003\t\n").unwrap();
    assert!(error("codiesp", &root, &config).contains("devP.tsv:1: an empty field"));
    fs_err::write(root.join("dev/devP.tsv"), b"\nS003\t\xff\n").unwrap();
    assert!(error("codiesp", &root, &config).contains("devP.tsv:2: not UTF-8"));
    fs_err::write(root.join("dev/devP.tsv"), "").unwrap();
    fs_err::write(root.join("dev/text_files_en/S001.txt"), "again").unwrap();
    assert!(error("codiesp", &root, &config).contains("S001.txt: this document is also in train"));
    fs_err::remove_file(root.join("dev/text_files_en/S001.txt")).unwrap();
    fs_err::remove_file(root.join("test/testD.tsv")).unwrap();
    let message = error("codiesp", &root, &config);
    assert!(
        message.contains("testD.tsv: this file of codes is missing") && message.contains("Zenodo"),
        "{message}"
    );
    fs_err::remove_dir_all(root.join("train")).unwrap();
    assert!(
        error("codiesp", &root, &config).contains("train/text_files_en: this folder of texts is missing")
    );
    let caml = PreprocessConfig { splits: Splits::Caml, ..config };
    assert!(error("codiesp", &root, &caml).contains("is for mimic3 sources"));
}

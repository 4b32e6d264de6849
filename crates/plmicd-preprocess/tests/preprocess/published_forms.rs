//! Sources in published forms: MIMIC-II's summaries, CAML's own tables, lists of labels.

use camino::Utf8PathBuf;
use plmicd_data::Split;
use plmicd_preprocess::{Cohort, Compat, PreprocessConfig, Splits};

use crate::support::{copy, error, run, run_with_labels};

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
    for (name, text) in files {
        fs_err::write(root.join(name), text).unwrap();
    }
    (dir, root)
}

const HEADER: &str = "subject_id|hadm_id|charttime|category|title|icd9_codes|text\n";

/// Ten kept rows and two without content; the second kept one is test.
fn summaries() -> (tempfile::TempDir, Utf8PathBuf) {
    let mut text = HEADER.to_owned();
    text.push_str(
        "1|11|2999|D|t|\"428.0,401.9,428.0\"|\"Admission Date: [**2999-1-1**][NEWLINE]Chest pain 12.3K\"\n",
    );
    text.push_str("2|12|2999|D|t|V58.61|Admission Date: [**2999-1-1**] Sex: M\n");
    text.push_str("3|13|2999|D|t|4019|second, \"quoted\" note\n");
    for i in 4..12 {
        text.push_str(&format!("{i}|1{i}|2999|D|t|401.9|Note number {i} of some\n"));
    }
    text.push_str("99|199|2999|D|t|401.9|  \n");
    let (dir, root) = folder(&[("MIMIC_RAW_DSUMS", &text), ("testing_indices.data", "1\n")]);
    fs_err::write(root.join("training_indices.data"), "0\n2\n3\n4\n5\n6\n7\n8\n").unwrap();
    (dir, root)
}

#[test]
fn mimic2_is_read_as_camls_scripts_do() {
    let (_dir, root) = summaries();
    let outcome = run("mimic2", &root, None, 2, &PreprocessConfig::default()).unwrap();
    let note = outcome.note("11");
    assert_eq!(
        note.text, "admission date chest pain 3k",
        "dates go with their brackets only where all is cleaned"
    );
    assert_eq!(note.codes, ["428.0", "401.9"]);
    assert_eq!(outcome.note("13").split, Split::Test);
    assert_eq!(outcome.note("13").codes, ["401.9"]);
    assert_eq!(outcome.excluded("of MIMIC_RAW_DSUMS without content"), 2);
    assert_eq!(outcome.excluded("of MIMIC_RAW_DSUMS in no split list"), 1);
    assert_eq!(outcome.excluded("repeating a code of the same note"), 1);
    let random = PreprocessConfig { splits: Splits::Random, ..PreprocessConfig::default() };
    assert_eq!(run("mimic2", &root, None, 1, &random).unwrap().notes.len(), 10);

    fs_err::write(root.join("training_indices.data"), "0\nx\n").unwrap();
    let wrong = error("mimic2", &root, &PreprocessConfig::default());
    assert!(wrong.contains("training_indices.data:2"), "{wrong}");
    fs_err::remove_file(root.join("testing_indices.data")).unwrap();
    fs_err::write(root.join("training_indices.data"), "0\n").unwrap();
    let wrong = error("mimic2", &root, &PreprocessConfig::default());
    assert!(wrong.contains("testing_indices.data"), "{wrong}");
    for (text, expected) in [
        ("a|b\n", "expected 7"),
        ("1|2|3|4|5|6|7\n", "line of headers"),
        (&format!("{HEADER}1|2|3\n"), "DSUMS:2"),
    ] {
        fs_err::write(root.join("MIMIC_RAW_DSUMS"), text).unwrap();
        let wrong = error("mimic2", &root, &random);
        assert!(wrong.contains("MIMIC_RAW_DSUMS") && wrong.contains(expected), "{wrong}");
    }
}

#[test]
fn camls_tables_come_back_as_they_went() {
    let (_dir, root) = copy("mimic3");
    let caml = PreprocessConfig { compat: Compat::Caml, caml_files: true, ..PreprocessConfig::default() };
    let first = run("mimic3", &root, None, 2, &caml).unwrap();
    let again = PreprocessConfig { compat: Compat::Caml, ..PreprocessConfig::default() };
    let second = run("caml-csv", &first.out.join("caml"), None, 2, &again).unwrap();
    assert_eq!(first.codes(), second.codes());
    assert_eq!(first.notes.len(), second.notes.len());
    for note in &first.notes {
        let other = second.note(&note.note_id);
        assert_eq!(
            (&note.subject_id, note.split, &note.codes),
            (&other.subject_id, other.split, &other.codes)
        );
        assert_eq!(note.text.trim(), other.text.trim());
    }
    // As PLM-ICD's script wants them: other names, no ids, frequent codes only.
    let table = "text,label\none two,401.9;V58.61\n\"three, four\",33.1;401.9;401.9\n";
    let (_dir, root) = folder(&[("train_50.csv", table), ("test_50.csv", "text,label\nfive six,401.9\n")]);
    let outcome = run("caml-csv", &root, None, 1, &PreprocessConfig::default()).unwrap();
    assert_eq!(outcome.codes(), ["33.1", "401.9", "V58.61"]);
    assert_eq!(outcome.note("train-2").codes, ["33.1", "401.9"]);
    assert_eq!(outcome.excluded("repeating a code of the same note"), 1);
    fs_err::write(root.join("train_8.csv"), table).unwrap();
    let wrong = error("caml-csv", &root, &PreprocessConfig::default());
    assert!(wrong.contains("50 and of 8"), "{wrong}");
    let (_dir, root) = folder(&[("train_full.csv", "TEXT,CODES\nx,1\n"), ("test_full.csv", "TEXT,LABELS\n")]);
    let wrong = error("caml-csv", &root, &PreprocessConfig::default());
    assert!(wrong.contains("train_full.csv") && wrong.contains("LABELS"), "{wrong}");
}

#[test]
fn a_list_decides_the_labels() {
    let table = "id,text,codes,split\n1,a b,401.9;486,train\n2,c d,V58.61,train\n3,e f,486,test\n";
    let (_dir, root) = folder(&[("notes.csv", table)]);
    let (_list, list) = folder(&[("labels.txt", "V58.61\n401.9\n\n99.99\n")]);
    let outcome = run_with_labels("table", &root, &list, &PreprocessConfig::default()).unwrap();
    assert_eq!(outcome.codes(), ["401.9", "99.99", "V58.61"], "the whole list, sorted");
    assert_eq!(outcome.notes.iter().map(|note| note.note_id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(outcome.note("1").codes, ["401.9"]);
    assert_eq!(outcome.excluded("not in the list of labels"), 1);
    assert_eq!(outcome.excluded("without any of the listed codes"), 1);
    assert!(outcome.log.iter().any(|line| line.contains("1 of 3 listed codes are on no note")));

    let (_list, list) = folder(&[("labels.csv", "code,description\n")]);
    let wrong = run_with_labels("table", &root, &list, &PreprocessConfig::default()).unwrap_err().to_string();
    assert!(wrong.contains("labels.csv") && wrong.contains("without a header"), "{wrong}");
    let (_list, list) = folder(&[("a.txt", "1\n"), ("b.txt", "1\n")]);
    let wrong = run_with_labels("table", &root, &list, &PreprocessConfig::default()).unwrap_err().to_string();
    assert!(wrong.contains("2 files"), "{wrong}");
}

#[test]
fn coverage_of_test_codes_by_train_is_counted() {
    let table = "id,text,codes,split\n1,a b,401.9;486,train\n2,c d,401.9;V58.61,test\n3,e f,486,test\n";
    let (_dir, root) = folder(&[("notes.csv", table)]);
    let outcome = run("table", &root, None, 1, &PreprocessConfig::default()).unwrap();
    let test = &outcome.stats.splits[&Split::Test];
    assert_eq!((test.labels_present, test.labels_seen_in_train), (3, 2));
    assert_eq!((test.codes.total, test.codes_seen_in_train), (3, 2));
}

#[test]
fn what_compat_excludes_is_refused() {
    let (_dir, root) = copy("mimic3");
    let path = root.join("PROCEDURES_ICD.csv");
    let text = fs_err::read_to_string(&path).unwrap();
    let caml = PreprocessConfig { compat: Compat::Caml, ..PreprocessConfig::default() };
    fs_err::write(&path, format!("{text}9,1,1,1,\"3x\"\n")).unwrap();
    let wrong = error("mimic3", &root, &caml);
    assert!(wrong.contains("PROCEDURES_ICD.csv") && wrong.contains("ICD9_CODE"), "{wrong}");
    let top = PreprocessConfig { cohort: Cohort::Top, top_codes: 2, ..caml };
    fs_err::write(&path, text).unwrap();
    assert_eq!(run("mimic3", &root, None, 1, &top).unwrap().labels.len(), 2);
}

//! The corpus as others read it: with a CSV reader, file by file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use camino::Utf8Path;
use plmicd_pipeline::Stage as _;
use plmicd_synth::{CorpusSummary, Synth, SynthConfig, SynthError, generate};

const FILES: [&str; 8] = [
    "NOTEEVENTS.csv",
    "DIAGNOSES_ICD.csv",
    "PROCEDURES_ICD.csv",
    "D_ICD_DIAGNOSES.csv",
    "D_ICD_PROCEDURES.csv",
    "splits/train_full_hadm_ids.csv",
    "splits/dev_full_hadm_ids.csv",
    "splits/test_full_hadm_ids.csv",
];

/// A corpus in a folder of its own.
struct Corpus {
    folder: tempfile::TempDir,
    summary: CorpusSummary,
}

impl Corpus {
    fn make(config: &SynthConfig, threads: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let summary = generate(config, path, threads, &mut |_, _| ControlFlow::Continue(())).unwrap();
        Self { folder, summary }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    /// One digest for all files.
    fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for name in FILES {
            hasher.update(name.as_bytes()).update(&self.bytes(name));
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Header and rows of a table.
    fn table(&self, name: &str) -> (Vec<String>, Vec<csv::StringRecord>) {
        let mut reader = csv::Reader::from_path(self.folder.path().join(name)).unwrap();
        let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
        (header, reader.records().map(Result::unwrap).collect())
    }

    fn list(&self, split: &str) -> BTreeSet<String> {
        let text = String::from_utf8(self.bytes(&format!("splits/{split}_full_hadm_ids.csv"))).unwrap();
        let ids: Vec<String> = text.lines().map(str::to_owned).collect();
        let unique: BTreeSet<String> = ids.iter().cloned().collect();
        assert_eq!(ids.len(), unique.len());
        unique
    }
}

fn tiny() -> SynthConfig {
    SynthConfig { admissions: 40, codes: 60, mean_words: 120, max_words: 600, ..SynthConfig::default() }
}

/// Enough admissions with short notes that every rare shape occurs.
fn broad() -> SynthConfig {
    SynthConfig { admissions: 2_500, mean_words: 100, max_words: 1_000, ..SynthConfig::default() }
}

#[test]
fn bytes_do_not_depend_on_threads_but_on_every_seed() {
    let config = SynthConfig { admissions: 700, ..tiny() };
    let (one, four) = (Corpus::make(&config, 1), Corpus::make(&config, 4));
    for name in FILES {
        assert!(one.bytes(name) == four.bytes(name), "{name} differs between 1 and 4 threads");
    }
    assert_eq!(one.summary, four.summary);
    let other = Corpus::make(&SynthConfig { seed: 2, ..config }, 2);
    for name in ["NOTEEVENTS.csv", "DIAGNOSES_ICD.csv", "splits/train_full_hadm_ids.csv"] {
        assert!(one.bytes(name) != other.bytes(name), "{name} is the same under another seed");
    }
}

#[test]
fn golden_digest() {
    let expected = "cb7aa23fb298a237240721d0f465e83906296517839adb4c0de76c446c6a3a43";
    let version = 1;
    let found = Corpus::make(&tiny(), 2).digest();
    assert!(
        found == expected && Synth::VERSION == version,
        "the corpus of a fixed configuration changed: {found}. If that is intended, raise Synth::VERSION \
         (stored artifacts would otherwise be taken for current) and put the new digest and version into this test"
    );
}

#[test]
fn tables_have_the_columns_of_mimic() {
    let corpus = Corpus::make(&tiny(), 2);
    let expected: [(&str, &[&str]); 5] = [
        (
            "NOTEEVENTS.csv",
            &[
                "ROW_ID",
                "SUBJECT_ID",
                "HADM_ID",
                "CHARTDATE",
                "CHARTTIME",
                "STORETIME",
                "CATEGORY",
                "DESCRIPTION",
                "CGID",
                "ISERROR",
                "TEXT",
            ],
        ),
        ("DIAGNOSES_ICD.csv", &["ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"]),
        ("PROCEDURES_ICD.csv", &["ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"]),
        ("D_ICD_DIAGNOSES.csv", &["ROW_ID", "ICD9_CODE", "SHORT_TITLE", "LONG_TITLE"]),
        ("D_ICD_PROCEDURES.csv", &["ROW_ID", "ICD9_CODE", "SHORT_TITLE", "LONG_TITLE"]),
    ];
    for (name, columns) in expected {
        let (header, rows) = corpus.table(name);
        assert_eq!(header, columns, "{name}");
        for (place, row) in rows.iter().enumerate() {
            assert_eq!(row[0], (place + 1).to_string(), "{name}: ROW_ID counts the rows");
        }
    }
    assert_eq!(corpus.table("NOTEEVENTS.csv").1.len() as u64, corpus.summary.note_rows);
    assert_eq!(corpus.table("DIAGNOSES_ICD.csv").1.len() as u64, corpus.summary.diagnosis_rows);
    assert_eq!(corpus.table("PROCEDURES_ICD.csv").1.len() as u64, corpus.summary.procedure_rows);
}

#[test]
fn a_csv_writer_gives_the_same_bytes_back() {
    let corpus = Corpus::make(&SynthConfig { admissions: 200, ..tiny() }, 2);
    let (_, rows) = corpus.table("NOTEEVENTS.csv");
    // MIMIC's quoting: numbers and empty cells bare, every other cell quoted. So quotes, commas and newlines
    // inside notes must survive a reader and a writer that know nothing of how they were made.
    let mut out =
        b"\"ROW_ID\",\"SUBJECT_ID\",\"HADM_ID\",\"CHARTDATE\",\"CHARTTIME\",\"STORETIME\",\"CATEGORY\",\
        \"DESCRIPTION\",\"CGID\",\"ISERROR\",\"TEXT\"\n"
            .to_vec();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            if column > 0 {
                out.push(b',');
            }
            if [0, 1, 2, 8].contains(&column) || cell.is_empty() {
                out.extend(cell.as_bytes());
                continue;
            }
            let mut writer =
                csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
            writer.write_record([cell]).unwrap();
            out.extend(writer.into_inner().unwrap().strip_suffix(b"\n").unwrap());
        }
        out.push(b'\n');
    }
    assert!(out == corpus.bytes("NOTEEVENTS.csv"));
    assert!(rows.iter().any(|row| row[10].contains('"')), "some note holds quotes");
    assert!(rows.iter().all(|row| row[10].contains('\n')), "notes have several lines");
}

#[test]
fn every_shape_of_note_rows_occurs() {
    let corpus = Corpus::make(&broad(), 2);
    let (_, rows) = corpus.table("NOTEEVENTS.csv");
    let mut categories: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *categories.entry(&row[6]).or_default() += 1);
    let names: Vec<&str> = categories.keys().copied().collect();
    let expected = [
        "Discharge summary",
        "ECG",
        "Echo",
        "Nursing",
        "Nursing/other",
        "Physician ",
        "Radiology",
        "Respiratory ",
    ];
    assert_eq!(names, expected, "two of MIMIC's categories end in a blank");

    let summaries: Vec<(usize, &csv::StringRecord)> =
        rows.iter().enumerate().filter(|(_, row)| &row[6] == "Discharge summary").collect();
    for (_, row) in &summaries {
        assert!(!row[2].is_empty() && row[4].is_empty() && row[5].is_empty());
        assert!(row[8].is_empty() && row[9].is_empty());
        assert!(row[10].contains("[**"), "de-identification brackets");
    }
    let others: Vec<&csv::StringRecord> = rows.iter().filter(|row| &row[6] != "Discharge summary").collect();
    let orphans = others.iter().filter(|row| row[2].is_empty()).count();
    assert!(
        (0.05..0.15).contains(&(orphans as f64 / others.len() as f64)),
        "{orphans} rows without admission"
    );
    assert!(others.iter().any(|row| &row[9] == "1"), "a caregiver marked an error");
    assert!(others.iter().any(|row| !row[4].is_empty() && !row[5].is_empty() && !row[8].is_empty()));
    assert!(others.iter().any(|row| row[4].is_empty()));

    let places = |description: &str| -> BTreeMap<&str, Vec<usize>> {
        let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, row) in summaries.iter().filter(|(_, row)| &row[7] == description) {
            places.entry(&row[2]).or_default().push(*place);
        }
        places
    };
    let (reports, addenda) = (places("Report"), places("Addendum"));
    assert_eq!(reports.values().chain(addenda.values()).map(Vec::len).sum::<usize>(), summaries.len());
    assert!(reports.values().any(|found| found.len() == 2), "two reports of an admission");
    let distance = |hadm: &str| addenda[hadm][0] as i64 - reports[hadm][0] as i64;
    let distances: Vec<i64> = addenda.keys().map(|hadm| distance(hadm)).collect();
    for (what, found) in [
        ("before its report", distances.iter().any(|d| *d < 0)),
        ("behind its report", distances.contains(&1)),
        ("far behind its report", distances.iter().any(|d| *d > 20)),
    ] {
        assert!(found, "an addendum {what}");
    }
    let share = addenda.len() as f64 / reports.len() as f64;
    assert!((0.07..0.13).contains(&share), "addendum_rate is 0.1, found {share}");
}

#[test]
fn every_shape_of_code_rows_occurs() {
    let corpus = Corpus::make(&broad(), 2);
    let (_, notes) = corpus.table("NOTEEVENTS.csv");
    let noted: BTreeSet<&str> =
        notes.iter().filter(|row| &row[6] == "Discharge summary").map(|row| &row[2]).collect();
    let mut coded = BTreeSet::new();
    let mut codes_of: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (system, name) in [("DIAGNOSES", "diagnoses"), ("PROCEDURES", "procedures")] {
        let (_, rows) = corpus.table(&format!("{system}_ICD.csv"));
        let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
        let (mut duplicates, mut empty) = (0, 0);
        for row in &rows {
            coded.insert(row[2].to_owned());
            if row[4].is_empty() {
                assert!(row[3].is_empty());
                empty += 1;
                continue;
            }
            codes_of.entry(name).or_default().insert(row[4].to_owned());
            sequences.entry(row[2].to_owned()).or_default().push(row[3].parse().unwrap());
            duplicates += usize::from(!seen.insert((row[2].to_owned(), row[4].to_owned())));
        }
        assert!(sequences.values().all(|s| s.iter().copied().eq(1..=s.len() as u64)), "{system}: SEQ_NUM");
        assert!(duplicates > 0, "{system}: a code twice in an admission");
        assert_eq!(empty > 0, system == "DIAGNOSES", "{system}: rows without a code");
        // Every code is quoted, so that leading zeros survive readers that guess types.
        assert!(rows.iter().all(|row| !row[4].contains('.')));
        let (_, dictionary) = corpus.table(&format!("D_ICD_{system}.csv"));
        let described: BTreeSet<String> = dictionary.iter().map(|row| row[1].to_owned()).collect();
        assert_eq!(described.len(), dictionary.len());
        assert!(dictionary.iter().all(|row| !row[2].is_empty() && !row[3].is_empty()));
        let missing = codes_of[name].difference(&described).count();
        assert!((1..20).contains(&missing), "{system}: {missing} codes in use are not in the dictionary");
    }
    assert!(noted.iter().any(|hadm| !coded.contains(*hadm)), "an admission with a note but no codes");
    assert!(coded.iter().any(|hadm| !noted.contains(hadm.as_str())), "an admission with codes but no note");
    let (diagnoses, procedures) = (&codes_of["diagnoses"], &codes_of["procedures"]);
    assert!(procedures.contains("0066") && procedures.contains("0331"), "leading zeros");
    assert!(diagnoses.intersection(procedures).count() >= 3, "codes that differ only by their dots");
    assert!(diagnoses.iter().any(|c| c.starts_with('V')) && diagnoses.iter().any(|c| c.starts_with('E')));
    assert!(diagnoses.len() + procedures.len() >= 500);
}

#[test]
fn splits_cover_the_noted_admissions_and_keep_subjects_apart() {
    let config = broad();
    let corpus = Corpus::make(&config, 2);
    let (_, rows) = corpus.table("NOTEEVENTS.csv");
    let summaries = rows.iter().filter(|row| &row[6] == "Discharge summary");
    let subject_of: BTreeMap<&str, &str> = summaries.map(|row| (&row[2], &row[1])).collect();
    let lists = ["train", "dev", "test"].map(|split| corpus.list(split));
    assert_eq!(corpus.summary.split_admissions, lists.each_ref().map(|list| list.len() as u64));
    let listed: BTreeSet<&str> = lists.iter().flatten().map(String::as_str).collect();
    assert_eq!(lists.iter().map(BTreeSet::len).sum::<usize>(), listed.len(), "an admission is in one list");
    assert_eq!(listed, subject_of.keys().copied().collect(), "the lists hold the admissions with a summary");
    let subjects = lists
        .each_ref()
        .map(|list| -> BTreeSet<&str> { list.iter().map(|hadm| subject_of[hadm.as_str()]).collect() });
    assert!(subjects[0].is_disjoint(&subjects[1]));
    assert!(subjects[0].is_disjoint(&subjects[2]) && subjects[1].is_disjoint(&subjects[2]));
    let all = subjects.iter().map(BTreeSet::len).sum::<usize>();
    assert!(all < listed.len(), "some subjects have several admissions");
    let share = subjects[2].len() as f64 / all as f64;
    assert!((share - config.test_fraction).abs() < 0.02, "{share} of the subjects are in the test list");
}

#[test]
fn lengths_follow_the_settings() {
    let config = SynthConfig { admissions: 400, other_notes_per_admission: 0.0, ..SynthConfig::default() };
    let corpus = Corpus::make(&config, 2);
    let (_, rows) = corpus.table("NOTEEVENTS.csv");
    let mut words_of: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| &row[7] == "Report") {
        let words = words_of.entry(&row[2]).or_default();
        *words = (*words).max(row[10].split_ascii_whitespace().count());
        let widest = row[10].lines().map(str::len).max().unwrap();
        assert!(widest <= 90, "lines are wrapped: {widest}");
    }
    let mut words: Vec<usize> = words_of.into_values().collect();
    words.sort_unstable();
    let mean = words.iter().sum::<usize>() as f64 / words.len() as f64;
    assert!((1_350.0..1_650.0).contains(&mean), "mean of {mean} words");
    assert!(words[words.len() / 2] < mean as usize, "the tail is on the long side");
    assert!(*words.last().unwrap() > 4_000 && *words.last().unwrap() <= 8_000);
}

#[test]
fn stopping_or_failing_leaves_nothing_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path()).unwrap();
    let mut calls = 0;
    let stopped = generate(&tiny(), path, 1, &mut |done, total| {
        assert!(done <= total);
        calls += 1;
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(SynthError::Stopped)));
    let left: Vec<_> = std::fs::read_dir(path).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    let mine = path.join("DIAGNOSES_ICD.csv");
    std::fs::write(&mine, "mine").unwrap();
    let refused = generate(&tiny(), path, 1, &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(SynthError::Exists { path }) if path == mine));
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine");
    assert!(!path.join("NOTEEVENTS.csv").exists());

    let wrong = SynthConfig { codes: 0, ..tiny() };
    let error = generate(&wrong, path, 1, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "codes: expected 1 to 1043, got 0");
}

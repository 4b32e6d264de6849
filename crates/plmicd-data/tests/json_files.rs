//! JSON and CSV files, labels and codes.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use plmicd_data::{
    CodeResult, CodeSystem, CurvePoint, DecisionRule, Evaluation, FrequentCodes, IcdCode, Label, LabelSpace,
    Split, SplitEvaluation, Summary, Thresholds, TrainingHistory, read_per_code, write_per_code,
};
use proptest::prelude::*;

fn temp() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    (dir, path)
}

fn label(code: &str) -> Label {
    Label {
        code: code.to_owned(),
        system: CodeSystem::Icd9Diagnosis,
        description: None,
        description_of: None,
    }
}

#[test]
fn labels_come_back_in_order() {
    let (_guard, dir) = temp();
    let path = dir.join(LabelSpace::FILE);
    let mut labels = vec![label("V45.81"), label("428.0"), label("038.9")];
    labels[1].description = Some("Congestive heart failure, \"unspecified\"".to_owned());
    labels[2].description = Some("Septicemia".to_owned());
    labels[2].description_of = Some("038".to_owned());
    let space = LabelSpace::new(labels).unwrap();
    space.write(&path).unwrap();
    let read = LabelSpace::read(&path).unwrap();
    assert_eq!(read, space);
    assert_eq!(read.index_of("038.9"), Some(2));
    assert_eq!(read.index_of("038"), None);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\n  \"schema\": 1,\n  \"labels\": [") && text.ends_with("}\n"), "{text}");
}

#[test]
fn a_label_space_has_each_code_once() {
    let message = LabelSpace::new(vec![label("1"), label("2"), label("1")]).unwrap_err().to_string();
    assert_eq!(message, "label 2: code `1` is also that of label 0");
    assert!(LabelSpace::new(vec![label("")]).is_err());
}

#[test]
fn the_first_difference_of_label_spaces_is_found() {
    let space = |codes: &[&str]| LabelSpace::new(codes.iter().map(|code| label(code)).collect()).unwrap();
    assert_eq!(space(&["1", "2"]).first_difference(&space(&["1", "2"])), None);
    assert_eq!(space(&["1", "2"]).first_difference(&space(&["1", "3"])), Some(1));
    assert_eq!(space(&["1", "2"]).first_difference(&space(&["1"])), Some(1));
}

#[test]
fn versions_and_syntax_are_checked() {
    let (_guard, dir) = temp();
    let path = dir.join("labels.json");
    for (text, expected) in [
        ("{\"schema\": 9, \"labels\": []}", "schema 9; this version reads schema 1"),
        ("{\"labels\": []}", "no field `schema`"),
        ("{\"schema\": 1,\n \"labels\": [{}]}", "labels.json:2:"),
        ("{\"schema\": 1,", "labels.json:1:"),
    ] {
        std::fs::write(&path, text).unwrap();
        let message = LabelSpace::read(&path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn results_come_back_exactly() {
    let (_guard, dir) = temp();
    let metrics = BTreeMap::from([("micro_f1".to_owned(), 0.1 + 0.2), ("auc".to_owned(), 1.0 / 3.0)]);
    let evaluation = Evaluation {
        threshold: 0.4545454680919647,
        objective: "micro_f1".to_owned(),
        splits: BTreeMap::from([(
            Split::Test,
            SplitEvaluation {
                notes: 3,
                labels: 2,
                labels_present: 1,
                metrics: metrics.clone(),
                metrics_at_half: metrics,
                ..SplitEvaluation::default()
            },
        )]),
        baseline: Some(FrequentCodes { codes: 8, dev_micro_f1: 0.25 }),
        ..Evaluation::default()
    };
    let path = dir.join(Evaluation::FILE);
    evaluation.write(&path).unwrap();
    assert_eq!(Evaluation::read(&path).unwrap(), evaluation);

    let path = dir.join(Thresholds::FILE);
    let point = CurvePoint { threshold: 0.3, micro_f1: 0.5, macro_f1: None };
    let mut thresholds = Thresholds {
        objective: "fixed".to_owned(),
        threshold: 0.3,
        dev_value: 0.5,
        curve: vec![point],
        ..Thresholds::default()
    };
    thresholds.write(&path).unwrap();
    assert_eq!(Thresholds::read(&path).unwrap(), thresholds);
    thresholds.threshold = 1.5;
    thresholds.write(&path).unwrap();
    assert!(Thresholds::read(&path).unwrap_err().to_string().contains("1.5 is not between 0 and 1"));
    thresholds = Thresholds { rule: DecisionRule::PerCode, threshold: 0.5, ..thresholds };
    thresholds.write(&path).unwrap();
    assert!(Thresholds::read(&path).unwrap_err().to_string().contains("rule per_code needs `per_label`"));
    thresholds.per_label = Some(vec![0.5, -0.25]);
    thresholds.write(&path).unwrap();
    assert!(Thresholds::read(&path).unwrap_err().to_string().contains("-0.25 of label 1"));

    let path = dir.join(TrainingHistory::FILE);
    let history = TrainingHistory { seed: u64::MAX, best_epoch: 3, ..TrainingHistory::default() };
    history.write(&path).unwrap();
    assert_eq!(TrainingHistory::read(&path).unwrap(), history);
}

#[test]
fn the_per_code_table_comes_back() {
    let (_guard, dir) = temp();
    let path = dir.join(Evaluation::PER_CODE_FILE);
    let row = CodeResult {
        code: "428.0".to_owned(),
        system: CodeSystem::Icd9Diagnosis,
        description: "Heart failure, \"congestive\"\nunspecified".to_owned(),
        train_count: None,
        positives: 7,
        predicted: 3,
        true_positives: 2,
        precision: 2.0 / 3.0,
        recall: 2.0 / 7.0,
        f1: 0.4,
        auc: Some(0.9),
        average_precision: None,
    };
    let rows = vec![row.clone(), CodeResult { auc: None, train_count: Some(4), ..row }];
    write_per_code(&path, &rows).unwrap();
    assert_eq!(read_per_code(&path).unwrap(), rows);
    let header = std::fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(
        header,
        "code,system,description,train_count,positives,predicted,true_positives,precision,recall,f1,auc,average_precision"
    );
    std::fs::write(&path, format!("{header}\n1,other,,,x,0,0,0,0,0,\n")).unwrap();
    let message = read_per_code(&path).unwrap_err().to_string();
    assert!(message.contains("line 2") && message.contains(path.as_str()), "{message}");
}

#[test]
fn summaries_use_nearest_rank() {
    let summary = Summary::of((1..=20).rev().collect());
    assert_eq!(summary, Summary { total: 210, min: 1, median: 10, mean: 10.5, p95: 19, max: 20 });
    assert_eq!(Summary::of(vec![3]), Summary { total: 3, min: 3, median: 3, mean: 3.0, p95: 3, max: 3 });
    assert_eq!(Summary::of(vec![]), Summary::default());
}

#[test]
fn codes_get_the_dot_of_their_system() {
    for (system, text, dotted, category) in [
        (CodeSystem::Icd9Diagnosis, "4280", "428.0", "428"),
        (CodeSystem::Icd9Diagnosis, "v4581", "V45.81", "V45"),
        (CodeSystem::Icd9Diagnosis, "E8497", "E849.7", "E849"),
        (CodeSystem::Icd9Diagnosis, "E849", "E849", "E849"),
        (CodeSystem::Icd9Diagnosis, " 042 ", "042", "042"),
        (CodeSystem::Icd9Procedure, "3893", "38.93", "38"),
        (CodeSystem::Icd9Procedure, "66", "66", "66"),
        (CodeSystem::Icd10CmDiagnosis, "i50.9", "I50.9", "I50"),
        (CodeSystem::Icd10CmDiagnosis, "S72001A", "S72.001A", "S72"),
        (CodeSystem::Icd10CmDiagnosis, "R69", "R69", "R69"),
        (CodeSystem::Icd10PcsProcedure, "bw03zzz", "BW03ZZZ", "BW0"),
    ] {
        let code = IcdCode::parse(system, text).unwrap();
        assert_eq!((code.dotted().as_str(), code.category()), (dotted, category));
    }
}

#[test]
fn what_is_no_code_is_refused() {
    for (system, text) in [
        (CodeSystem::Icd9Diagnosis, ""),
        (CodeSystem::Icd9Diagnosis, "42"),
        (CodeSystem::Icd9Diagnosis, "42.80"),
        (CodeSystem::Icd9Diagnosis, "428."),
        (CodeSystem::Icd9Diagnosis, "E84"),
        (CodeSystem::Icd9Diagnosis, "428000"),
        (CodeSystem::Icd9Diagnosis, "4 28"),
        (CodeSystem::Icd9Procedure, "389.3"),
        (CodeSystem::Icd9Procedure, "V12"),
        (CodeSystem::Icd10CmDiagnosis, "I5"),
        (CodeSystem::Icd10CmDiagnosis, "I.5.0"),
        (CodeSystem::Icd10PcsProcedure, "02100Z99"),
    ] {
        assert!(IcdCode::parse(system, text).is_err(), "{system} `{text}`");
    }
}

proptest! {
    #[test]
    fn dotting_and_parsing_are_inverse(text in "[0-9V][0-9]{2,4}|E[0-9]{3,4}") {
        let code = IcdCode::parse(CodeSystem::Icd9Diagnosis, &text).unwrap();
        prop_assert_eq!(code.compact(), &text);
        prop_assert_eq!(IcdCode::parse(CodeSystem::Icd9Diagnosis, &code.dotted()).unwrap(), code);
    }
}

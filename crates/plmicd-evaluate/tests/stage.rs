//! The stage on small score files.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{
    CodeSystem, DecisionRule, Evaluation, FrequencyBin, Label, LabelSpace, NoteOutcomes, ScoreWriter,
    ShardWriter, Split, Thresholds, TokenizedNote, kind, read_per_code,
};
use plmicd_evaluate::{Evaluate, EvaluateConfig};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};

fn labels(codes: &[(&str, CodeSystem)]) -> LabelSpace {
    let label = |(code, system): &(&str, CodeSystem)| Label {
        code: (*code).to_owned(),
        system: *system,
        description: Some(format!("description of {code}")),
        description_of: None,
    };
    LabelSpace::new(codes.iter().map(label).collect()).unwrap()
}

const CODES: &[(&str, CodeSystem)] = &[
    ("428.0", CodeSystem::Icd9Diagnosis),
    ("250.00", CodeSystem::Icd9Diagnosis),
    ("38.93", CodeSystem::Icd9Procedure),
];
const DEV: &[(&[f32], &[i32])] = &[(&[0.9, 0.2, 0.1], &[0]), (&[0.8, 0.1, 0.6], &[0, 2])];
const TEST: &[(&[f32], &[i32])] =
    &[(&[0.9, 0.4, 0.1], &[0, 1]), (&[0.2, 0.1, 0.7], &[2]), (&[0.6, 0.1, 0.1], &[])];
/// Of the test set at 0.5: three predicted, two of them rightly, three true.
const TEST_MICRO_F1: f64 = 4.0 / 6.0;

/// Inputs in a temporary directory.
struct Inputs {
    _guard: tempfile::TempDir,
    dir: Utf8PathBuf,
    with_shards: bool,
}

impl Inputs {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        for name in ["scores", "thresholds", "shards", "out"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        let inputs = Self { _guard: guard, dir, with_shards: true };
        labels(CODES).write(&inputs.path("scores/labels.json")).unwrap();
        labels(CODES).write(&inputs.path("shards/labels.json")).unwrap();
        write_scores(&inputs.path("scores/dev.parquet"), DEV);
        write_scores(&inputs.path("scores/test.parquet"), TEST);
        inputs.write_threshold(0.5, 1.0);
        inputs.write_train(&[&[0], &[0], &[0, 2], &[2], &[1]]);
        inputs
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        self.dir.join(name)
    }

    fn write_threshold(&self, threshold: f64, dev_value: f64) {
        let thresholds = Thresholds {
            objective: "micro_f1".to_owned(),
            threshold,
            dev_value,
            rule_dev_micro_f1: dev_value,
            ..Thresholds::default()
        };
        thresholds.write(&self.path("thresholds/thresholds.json")).unwrap();
    }

    fn write_train(&self, rows: &[&[i32]]) {
        let mut writer = ShardWriter::create(self.path("shards"), Split::Train, 2).unwrap();
        for (index, labels) in rows.iter().enumerate() {
            let note = TokenizedNote {
                note_id: index.to_string(),
                tokens: vec![1],
                labels: labels.to_vec(),
                words: 1,
            };
            writer.write(&note).unwrap();
        }
        writer.finish().unwrap();
    }

    fn run(&self, config: &EvaluateConfig) -> Result<Evaluation, StageError> {
        let input = |name: &str, kind: &str| {
            let digest = "0".repeat(64).parse().unwrap();
            (
                name.to_owned(),
                Input { kind: kind.to_owned(), digest, dir: self.path(name), restricted: false },
            )
        };
        let mut inputs =
            BTreeMap::from([input("scores", kind::SCORES), input("thresholds", kind::THRESHOLDS)]);
        if self.with_shards {
            inputs.extend([input("shards", kind::TOKEN_SHARDS)]);
        }
        let out = self.path("out");
        let runtime = Runtime { threads: 2, ..Runtime::default() };
        let context = StageContext::new(inputs, &out, &out, runtime, &NoEvents, Interrupt::default());
        Evaluate::run(config, &context)?;
        Ok(Evaluation::read(&out.join(Evaluation::FILE)).unwrap())
    }

    /// The error of a run, with its causes.
    fn complaint(&self) -> String {
        let error = self.run(&EvaluateConfig::default()).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

fn write_scores(path: &Utf8Path, rows: &[(&[f32], &[i32])]) {
    let mut writer = ScoreWriter::create(path, rows[0].0.len()).unwrap();
    for (index, (scores, truth)) in rows.iter().enumerate() {
        writer.write(&format!("n{index}"), scores, truth).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn metrics_of_each_split_and_code() {
    let inputs = Inputs::new();
    let evaluation = inputs.run(&EvaluateConfig { k: vec![1, 2], ..EvaluateConfig::default() }).unwrap();
    assert_eq!(evaluation.splits.keys().copied().collect::<Vec<_>>(), [Split::Dev, Split::Test]);
    let test = &evaluation.splits[&Split::Test];
    assert_eq!((test.notes, test.labels, test.labels_present), (3, 3, 3));
    assert!((test.metrics["micro_f1"] - TEST_MICRO_F1).abs() < 1e-12);
    assert_eq!(test.metrics_at_half["micro_f1"], test.metrics["micro_f1"]);
    assert!(!test.metrics_at_half.contains_key("micro_auc"), "AUC does not depend on the threshold");
    // Diagnoses: 2 predicted, 1 right, 2 true; the procedure is right.
    assert_eq!((test.metrics["micro_f1_diagnoses"], test.metrics["micro_f1_procedures"]), (0.5, 1.0));
    assert!((test.metrics["precision_at_1"] - 2.0 / 3.0).abs() < 1e-12);

    let codes = read_per_code(&inputs.path("out/per_code.csv")).unwrap();
    assert_eq!(codes.iter().map(|row| row.code.as_str()).collect::<Vec<_>>(), ["428.0", "250.00", "38.93"]);
    let first = &codes[0];
    assert_eq!(
        (first.train_count, first.positives, first.predicted, first.true_positives),
        (Some(3), 1, 2, 1)
    );
    assert_eq!((first.precision, first.recall, first.auc), (0.5, 1.0, Some(1.0)));
    assert_eq!(first.description, "description of 428.0");
    assert_eq!(first.average_precision, Some(1.0));
}

#[test]
fn parts_levels_intervals_and_outcomes() {
    let inputs = Inputs::new();
    let evaluation = inputs.run(&EvaluateConfig { k: vec![1], ..EvaluateConfig::default() }).unwrap();
    let test = &evaluation.splits[&Split::Test];
    assert_eq!((evaluation.rule, evaluation.resamples), (DecisionRule::Global, 1000));
    // Train has 428.0 three times, 38.93 twice and 250.00 once: all in the bin of 1 to 5.
    let names: Vec<String> = test.frequency_bins.iter().map(FrequencyBin::name).collect();
    assert_eq!(names, ["unseen", "1-5", "6-10", "11-50", "51-100", "over 100"]);
    let (unseen, rare) = (&test.frequency_bins[0], &test.frequency_bins[1]);
    assert!(unseen.labels == 0 && unseen.metrics.is_empty());
    assert_eq!((rare.labels, rare.labels_present, rare.positives), (3, 3, 3));
    assert_eq!(rare.metrics["micro_f1"], test.metrics["micro_f1"]);
    assert_eq!(rare.metrics["macro_auc"], test.metrics["macro_auc"]);
    // No two codes share a chapter or a category: the levels would say the same again.
    assert!(test.levels.is_empty());
    assert_eq!(test.systems["procedures"]["micro_f1"], 1.0);
    let chapters: Vec<_> =
        test.chapters.iter().map(|part| (part.chapter.as_str(), part.labels, part.positives)).collect();
    assert_eq!(chapters, [("240-279", 1, 1), ("390-459", 1, 1), ("35-39", 1, 1)]);
    assert_eq!(test.chapters[1].title, "Diseases of the circulatory system");
    assert_eq!(test.chapters[1].metrics["micro_f1"], 2.0 / 3.0);
    let pairs: u64 = test.calibration.bins.iter().map(|bin| bin.pairs).sum();
    assert!(pairs == 9 && test.calibration.brier > 0.0);
    assert_eq!(test.precision_recall.last().map(|point| point.recall), Some(1.0));
    let interval = test.intervals["micro_f1"];
    assert!(interval.low <= test.metrics["micro_f1"] && test.metrics["micro_f1"] <= interval.high);
    assert!(test.tie_bounds.is_empty());
    let outcomes = NoteOutcomes::read(&inputs.path("out/test_notes.parquet")).unwrap();
    assert_eq!(outcomes.predicted, [vec![0], vec![2], vec![0]]);
    assert_eq!(outcomes.ranks, [vec![1, 2], vec![1], vec![]]);

    let none = inputs.run(&EvaluateConfig { resamples: 0, ..EvaluateConfig::default() }).unwrap();
    assert!(none.splits[&Split::Test].intervals.is_empty());
}

#[test]
fn any_rule_is_evaluated() {
    let inputs = Inputs::new();
    let with = |thresholds: Thresholds| {
        thresholds.write(&inputs.path("thresholds/thresholds.json")).unwrap();
        inputs.run(&EvaluateConfig { splits: vec![Split::Test], ..EvaluateConfig::default() })
    };
    let rule = |rule| Thresholds { rule, threshold: 0.5, ..Thresholds::default() };
    // One code a note: 428.0, 38.93, 428.0; two of them right of three.
    let top = with(Thresholds { k: Some(1), ..rule(DecisionRule::TopK) }).unwrap();
    assert!((top.splits[&Split::Test].metrics["micro_f1"] - 4.0 / 6.0).abs() < 1e-12);
    // 250.00 from 0.3 on is one more that is right.
    let own = vec![0.5, 0.3, 0.5];
    let per_code = with(Thresholds { per_label: Some(own), ..rule(DecisionRule::PerCode) }).unwrap();
    assert!((per_code.splits[&Split::Test].metrics["micro_f1"] - 6.0 / 7.0).abs() < 1e-12);
    // The scores add up to 1.4, 1.0 and 0.8.
    let count = with(rule(DecisionRule::ExpectedCount)).unwrap();
    assert!((count.splits[&Split::Test].metrics["micro_f1"] - 4.0 / 6.0).abs() < 1e-12);
    let short = with(Thresholds { per_label: Some(vec![0.5]), ..rule(DecisionRule::PerCode) }).unwrap_err();
    assert!(short.to_string().contains("thresholds of 1 labels for scores of 3"), "{short}");
}

#[test]
fn the_baseline_predicts_the_frequent_codes() {
    let inputs = Inputs::new();
    let evaluation = inputs.run(&EvaluateConfig { k: vec![1, 2], ..EvaluateConfig::default() }).unwrap();
    // Train frequency: 428.0 three times, 38.93 twice. On dev one code: 2 hits of 2, 3 true: 0.8; two: 6/7.
    let baseline = evaluation.baseline.unwrap();
    assert_eq!(baseline.codes, 2);
    assert!((baseline.dev_micro_f1 - 6.0 / 7.0).abs() < 1e-12);
    let metrics = evaluation.splits[&Split::Test].baseline_frequent_codes.as_ref().unwrap();
    // Six predicted, two right, three true.
    assert!((metrics["micro_f1"] - 4.0 / 9.0).abs() < 1e-12);
    assert!((metrics["precision_at_1"] - 1.0 / 3.0).abs() < 1e-12);
    let dev = &evaluation.splits[&Split::Dev].baseline_frequent_codes.as_ref().unwrap();
    assert_eq!(dev["micro_f1"], baseline.dev_micro_f1);
}

#[test]
fn without_shards_there_is_no_baseline_and_test_alone_needs_no_dev() {
    let mut inputs = Inputs::new();
    inputs.with_shards = false;
    std::fs::remove_file(inputs.path("scores/dev.parquet")).unwrap();
    let config = EvaluateConfig { splits: vec![Split::Test], ..EvaluateConfig::default() };
    let evaluation = inputs.run(&config).unwrap();
    assert!(evaluation.baseline.is_none() && evaluation.splits.len() == 1);
    assert!(evaluation.splits[&Split::Test].baseline_frequent_codes.is_none());
    assert_eq!(read_per_code(&inputs.path("out/per_code.csv")).unwrap()[0].train_count, None);
}

#[test]
fn without_dev_scores_there_is_no_baseline_though_there_are_shards() {
    let inputs = Inputs::new();
    std::fs::remove_file(inputs.path("scores/dev.parquet")).unwrap();
    let config = EvaluateConfig { splits: vec![Split::Test], ..EvaluateConfig::default() };
    let evaluation = inputs.run(&config).unwrap();
    assert!(evaluation.baseline.is_none());
    let test = &evaluation.splits[&Split::Test];
    assert!(test.baseline_frequent_codes.is_none());
    assert!(!test.frequency_bins.is_empty(), "train counts need no dev");
    assert!(inputs.complaint().contains("dev was not scored, but `splits` names it"));
}

#[test]
fn the_baseline_of_test_alone_is_still_chosen_on_dev() {
    let inputs = Inputs::new();
    let config = EvaluateConfig { splits: vec![Split::Test], ..EvaluateConfig::default() };
    let evaluation = inputs.run(&config).unwrap();
    assert_eq!(evaluation.splits.keys().copied().collect::<Vec<_>>(), [Split::Test]);
    assert_eq!(evaluation.baseline.unwrap().codes, 2);
    assert!(evaluation.splits[&Split::Test].baseline_frequent_codes.is_some());
}

#[test]
fn inputs_that_do_not_belong_together_are_refused() {
    let inputs = Inputs::new();
    let mut other = CODES.to_vec();
    other[1].0 = "401.9";
    labels(&other).write(&inputs.path("shards/labels.json")).unwrap();
    let message = inputs.complaint();
    assert!(message.contains("label 1 is `250.00`") && message.contains("it is `401.9`"), "{message}");

    labels(&CODES[..2]).write(&inputs.path("shards/labels.json")).unwrap();
    let message = inputs.complaint();
    assert!(message.contains("label 2") && message.contains("missing (it has 2 labels)"), "{message}");

    let inputs = Inputs::new();
    inputs.write_threshold(0.5, 0.75);
    let message = inputs.complaint();
    assert!(message.contains("should give micro_f1 = 0.75 on dev"), "{message}");

    let inputs = Inputs::new();
    write_scores(&inputs.path("scores/test.parquet"), &[(&[0.5, 0.5], &[])]);
    let message = inputs.complaint();
    assert!(
        message.contains("test.parquet, column scores: scores of 2 labels, but labels.json lists 3"),
        "{message}"
    );

    let inputs = Inputs::new();
    inputs.write_train(&[&[0], &[7]]);
    let message = inputs.complaint();
    assert!(message.contains("note 1 has label id 7, expected ids below 3"), "{message}");

    let inputs = Inputs::new();
    std::fs::remove_file(inputs.path("scores/test.parquet")).unwrap();
    let message = inputs.complaint();
    assert!(message.contains("test.parquet") && message.contains("`splits` names it"), "{message}");
}

#[test]
fn levels_that_join_codes_are_told() {
    let inputs = Inputs::new();
    let mut other = CODES.to_vec();
    other[1].0 = "428.1";
    for folder in ["scores", "shards"] {
        labels(&other).write(&inputs.path(&format!("{folder}/labels.json"))).unwrap();
    }
    let evaluation = inputs.run(&EvaluateConfig::default()).unwrap();
    let levels = &evaluation.splits[&Split::Test].levels;
    assert_eq!((levels["chapter"]["groups"], levels["category"]["groups"]), (2.0, 2.0));
    // The first note has 428.0 and 428.1 and is given 428.0: of the categories nothing is missed.
    assert_eq!(levels["category"]["micro_recall"], 1.0);

    let plain = [("A", CodeSystem::Other), ("A.1", CodeSystem::Other), ("A.2", CodeSystem::Other)];
    for folder in ["scores", "shards"] {
        labels(&plain).write(&inputs.path(&format!("{folder}/labels.json"))).unwrap();
    }
    assert!(inputs.run(&EvaluateConfig::default()).unwrap().splits[&Split::Test].levels.is_empty());
}

#[test]
fn tied_scores_bound_what_their_order_decides() {
    let inputs = Inputs::new();
    // A list of codes without scores: what is listed scores 1.
    write_scores(&inputs.path("scores/test.parquet"), &[(&[1.0, 1.0, 0.0], &[1]), (&[0.0, 0.0, 1.0], &[2])]);
    let config = EvaluateConfig { k: vec![1, 2], splits: vec![Split::Test], ..EvaluateConfig::default() };
    let test = inputs.run(&config).unwrap().splits.remove(&Split::Test).unwrap();
    for (name, bounds) in [
        ("precision_at_1", [0.5, 1.0]),
        ("recall_at_1", [0.5, 1.0]),
        ("r_precision", [0.5, 1.0]),
        ("mean_average_precision", [0.75, 1.0]),
        ("mean_average_precision_edin", [1.0, 1.0]),
    ] {
        let found = test.tie_bounds.get(name).copied().unwrap_or([test.metrics[name]; 2]);
        assert_eq!(found, bounds, "{name}");
    }
    assert!(!test.tie_bounds.contains_key("precision_at_2"), "whichever comes first, both are among the two");
}

#[test]
fn settings_are_checked() {
    let paths = |config: EvaluateConfig| -> Vec<String> {
        Evaluate::check(&config, &[]).into_iter().map(|issue| issue.path).collect()
    };
    let splits = |splits: &[Split]| EvaluateConfig { splits: splits.to_vec(), ..EvaluateConfig::default() };
    assert!(paths(EvaluateConfig::default()).is_empty());
    assert_eq!(paths(EvaluateConfig { k: vec![5, 0], ..EvaluateConfig::default() }), ["k"]);
    assert_eq!(paths(EvaluateConfig { k: vec![5, 5], ..EvaluateConfig::default() }), ["k"]);
    assert_eq!(paths(splits(&[])), ["splits"]);
    assert_eq!(paths(splits(&[Split::Train])), ["splits"]);
    assert_eq!(paths(splits(&[Split::Test, Split::Test])), ["splits"]);
}

//! The stage on small score files.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{
    CodeSystem, DecisionRule, Label, LabelSpace, ScoreWriter, ShardWriter, Split, Thresholds, TokenizedNote,
    kind,
};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};
use plmicd_threshold::{Objective, Threshold, ThresholdConfig};

fn write_labels(dir: &Utf8Path, labels: usize) {
    let label = |index| Label {
        code: format!("{index:03}"),
        system: CodeSystem::Icd9Diagnosis,
        description: None,
        description_of: None,
    };
    LabelSpace::new((0..labels).map(label).collect()).unwrap().write(&dir.join(LabelSpace::FILE)).unwrap();
}

/// Scores of notes and their true labels, and as many labels.
fn write_scores(dir: &Utf8Path, labels: usize, rows: &[(&[f32], &[i32])]) {
    write_labels(dir, labels);
    let mut writer = ScoreWriter::create(dir.join("dev.parquet"), rows[0].0.len()).unwrap();
    for (index, (scores, truth)) in rows.iter().enumerate() {
        writer.write(&format!("n{index}"), scores, truth).unwrap();
    }
    writer.finish().unwrap();
}

fn run(config: &ThresholdConfig, scores: &Utf8Path, out: &Utf8Path) -> Result<Thresholds, StageError> {
    run_with(config, scores, None, out)
}

fn run_with(
    config: &ThresholdConfig,
    scores: &Utf8Path,
    shards: Option<&Utf8Path>,
    out: &Utf8Path,
) -> Result<Thresholds, StageError> {
    let input = |kind: &str, dir: &Utf8Path| Input {
        kind: kind.into(),
        digest: "0".repeat(64).parse().unwrap(),
        dir: dir.to_owned(),
        restricted: false,
    };
    let runtime = Runtime { threads: 2, ..Runtime::default() };
    let mut inputs = BTreeMap::from([("scores".to_owned(), input(kind::SCORES, scores))]);
    if let Some(shards) = shards {
        inputs.insert("shards".to_owned(), input(kind::TOKEN_SHARDS, shards));
    }
    Threshold::run(config, &StageContext::new(inputs, out, out, runtime, &NoEvents, Interrupt::default()))?;
    Ok(Thresholds::read(&out.join(Thresholds::FILE)).unwrap())
}

fn temp() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    (dir, path)
}

const ROWS: &[(&[f32], &[i32])] =
    &[(&[0.8, 0.7, 0.1], &[0]), (&[0.6, 0.2, 0.05], &[0]), (&[0.0, 0.1, 0.3], &[2])];

#[test]
fn each_objective_gives_its_threshold() {
    let (_guard, dir) = temp();
    write_scores(&dir, 3, ROWS);
    let choose = |objective, fixed| {
        run(&ThresholdConfig { objective, fixed, ..ThresholdConfig::default() }, &dir, &dir).unwrap()
    };

    let micro = choose(Objective::MicroF1, 0.5);
    assert_eq!((micro.objective.as_str(), micro.threshold), ("micro_f1", 0.25));
    assert!((micro.dev_value - 6.0 / 7.0).abs() < 1e-12);
    let chosen =
        micro.curve.iter().find(|point| point.threshold == 0.25).expect("the choice is on the curve");
    assert_eq!(chosen.micro_f1, micro.dev_value);
    assert!(micro.curve.iter().all(|point| point.micro_f1 <= micro.dev_value));

    let mean = choose(Objective::MacroF1, 0.5);
    assert_eq!((mean.objective.as_str(), mean.threshold), ("macro_f1", 0.25));
    assert!((mean.dev_value - 2.0 / 3.0).abs() < 1e-12);

    let fixed = choose(Objective::Fixed, 0.65);
    assert_eq!((fixed.objective.as_str(), fixed.threshold, fixed.dev_value), ("fixed", 0.65, 0.4));
}

/// Scores as of a model of middling quality: true pairs higher on average, spread wide.
fn drawn(seed: u64, notes: usize) -> Vec<(Vec<f32>, Vec<i32>)> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..notes)
        .map(|_| {
            let truth: Vec<i32> = (0..20).filter(|_| uniform() < 0.2).collect();
            let score = |label: i32, a: f32, b: f32| match truth.contains(&label) {
                true => 0.25 + 0.375 * (a + b),
                false => 0.375 * (a + b),
            };
            let scores = (0..20).map(|label| score(label, uniform(), uniform())).collect();
            (scores, truth)
        })
        .collect()
}

#[test]
fn the_bagged_threshold_depends_less_on_which_notes_the_dev_notes_are() {
    let (_guard, dir) = temp();
    let spread = |objective| {
        let chosen: Vec<f64> = (0..40)
            .map(|seed| {
                let notes = drawn(seed, 30);
                let rows: Vec<(&[f32], &[i32])> =
                    notes.iter().map(|(scores, truth)| (scores.as_slice(), truth.as_slice())).collect();
                write_scores(&dir, 20, &rows);
                let config = ThresholdConfig { objective, resamples: 200, ..ThresholdConfig::default() };
                let found = run(&config, &dir, &dir).unwrap();
                let stability = found.stability.unwrap().threshold;
                assert!((stability.low..=stability.high).contains(&found.threshold));
                assert_eq!(found.dev_value, found.rule_dev_micro_f1);
                assert!(found.curve.iter().any(|point| point.threshold == found.threshold));
                found.threshold
            })
            .collect();
        let mean = chosen.iter().sum::<f64>() / chosen.len() as f64;
        (chosen.iter().map(|threshold| (threshold - mean).powi(2)).sum::<f64>() / chosen.len() as f64).sqrt()
    };
    let (best, bagged) = (spread(Objective::MicroF1), spread(Objective::BaggedMicroF1));
    assert!(bagged < 0.85 * best, "standard deviations: {bagged} bagged, {best} otherwise");
    let without = ThresholdConfig { objective: Objective::BaggedMicroF1, resamples: 0, ..Default::default() };
    assert_eq!(Threshold::check(&without, &["scores"])[0].path, "resamples");
}

#[test]
fn each_rule_stores_what_it_needs() {
    let (_guard, dir) = temp();
    write_scores(&dir, 3, ROWS);
    let choose = |rule, change: fn(&mut ThresholdConfig)| {
        let mut config = ThresholdConfig { rule, ..ThresholdConfig::default() };
        change(&mut config);
        assert!(Threshold::check(&config, &["scores"]).is_empty());
        run(&config, &dir, &dir).unwrap()
    };
    // Label 0 is best between 0.6 and 0.0, label 2 between 0.3 and 0.1; label 1 never occurs.
    let per_code = choose(DecisionRule::PerCode, |c| (c.min_support, c.shrinkage) = (1, 0.0));
    assert_eq!(per_code.per_label, Some(vec![0.3, 0.25, 0.2]));
    assert!((per_code.rule_dev_micro_f1 - 6.0 / 7.0).abs() < 1e-12);
    let top = choose(DecisionRule::TopK, |_| ());
    assert_eq!((top.k, top.per_label.as_ref()), (Some(1), None));
    assert_eq!(top.rule_dev_micro_f1, 1.0);
    assert_eq!(choose(DecisionRule::TopK, |c| c.k = Some(2)).k, Some(2));
    let count = choose(DecisionRule::ExpectedCount, |_| ());
    // The notes' scores add up to 1.6, 0.85 and 0.4: two codes, one and none.
    assert!((count.rule_dev_micro_f1 - 4.0 / 6.0).abs() < 1e-12, "{count:?}");

    let global = choose(DecisionRule::Global, |_| ());
    assert_eq!(global.rule_dev_micro_f1, global.dev_value);
    assert_eq!(global.grids["plm_icd"].threshold, 0.2);
    assert!(global.grids["edin"].dev_micro_f1 <= global.dev_value);
    let stability = global.stability.expect("resampled");
    assert!(stability.threshold.low <= stability.threshold.high && stability.resamples == 1000);
    assert!(choose(DecisionRule::Global, |c| c.resamples = 0).stability.is_none());
}

/// Token shards with notes of these labels in train.
fn write_train(dir: &Utf8Path, labels: usize, rows: &[&[i32]]) {
    std::fs::create_dir(dir).unwrap();
    write_labels(dir, labels);
    let mut writer = ShardWriter::create(dir, Split::Train, 2).unwrap();
    for (index, labels) in rows.iter().enumerate() {
        let (note_id, labels) = (index.to_string(), labels.to_vec());
        writer.write(&TokenizedNote { note_id, tokens: vec![1], labels, words: 1 }).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn codes_without_training_notes_have_a_threshold_of_their_own() {
    let (_guard, dir) = temp();
    // Label 3 was never seen: its scores are low, but ranked well.
    let rows: &[(&[f32], &[i32])] = &[
        (&[0.8, 0.25, 0.1, 0.0625], &[0, 3]),
        (&[0.7, 0.625, 0.2, 0.001], &[0, 1]),
        (&[0.1, 0.9, 0.25, 0.03125], &[1, 3]),
        (&[0.2, 0.1, 0.8, 0.0078125], &[2]),
    ];
    write_scores(&dir, 4, rows);
    let config = ThresholdConfig { rule: DecisionRule::UnseenApart, ..ThresholdConfig::default() };
    assert!(Threshold::check(&config, &["scores", "shards"]).is_empty());
    assert_eq!(Threshold::check(&config, &["scores"])[0].path, "rule");
    // A layer above can choose another rule, but not take the input away.
    assert!(Threshold::check(&ThresholdConfig::default(), &["scores", "shards"]).is_empty());

    write_train(&dir.join("shards"), 4, &[&[0, 1], &[0, 2], &[1]]);
    let found = run_with(&config, &dir, Some(&dir.join("shards")), &dir).unwrap();
    assert_eq!(found.threshold, 0.4375);
    assert_eq!(found.per_label, Some(vec![0.4375, 0.4375, 0.4375, 0.01953125]));
    assert!((found.dev_value - 10.0 / 12.0).abs() < 1e-12);
    assert_eq!(found.rule_dev_micro_f1, 1.0);

    write_train(&dir.join("all"), 4, &[&[0, 1, 2, 3]]);
    let found = run_with(&config, &dir, Some(&dir.join("all")), &dir).unwrap();
    assert_eq!(found.per_label, Some(vec![0.4375; 4]));
    assert_eq!(found.rule_dev_micro_f1, found.dev_value);

    write_train(&dir.join("other"), 3, &[&[0]]);
    let error = run_with(&config, &dir, Some(&dir.join("other")), &dir).unwrap_err();
    let chain =
        format!("{error} {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
    assert!(chain.contains("label 3") && chain.contains("missing (it has 3 labels)"), "{chain}");
}

#[test]
fn a_fixed_threshold_needs_no_dev_scores() {
    let (_guard, dir) = temp();
    let config = ThresholdConfig { objective: Objective::Fixed, ..ThresholdConfig::default() };
    assert_eq!(run(&config, &dir, &dir).unwrap().threshold, 0.5);
    let message = run(&ThresholdConfig::default(), &dir, &dir).unwrap_err();
    assert!(message.to_string().contains("there are no dev scores to choose by"), "{message}");
}

#[test]
fn the_same_scores_give_the_same_bytes() {
    let (_guard, dir) = temp();
    write_scores(&dir, 3, ROWS);
    let bytes = || {
        run(&ThresholdConfig::default(), &dir, &dir).unwrap();
        std::fs::read(dir.join(Thresholds::FILE)).unwrap()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn scores_that_decide_nothing_are_refused() {
    let (_guard, dir) = temp();
    write_scores(&dir, 2, &[(&[0.8, 0.7], &[])]);
    let message = run(&ThresholdConfig::default(), &dir, &dir).unwrap_err().to_string();
    assert!(message.contains("dev.parquet, column labels: none of its 1 notes"), "{message}");
    write_scores(&dir, 3, &[(&[0.8, 0.7], &[1])]);
    let message = run(&ThresholdConfig::default(), &dir, &dir).unwrap_err().to_string();
    assert!(message.contains("scores of 2 labels") && message.contains("lists 3"), "{message}");
    assert!(!dir.join(Thresholds::FILE).exists());
}

#[test]
fn settings_without_effect_are_reported() {
    let issues = |objective, fixed| -> Vec<String> {
        let issues = Threshold::check(
            &ThresholdConfig { objective, fixed, ..ThresholdConfig::default() },
            &["scores"],
        );
        issues.into_iter().map(|issue| issue.path).collect()
    };
    assert!(issues(Objective::MicroF1, 0.5).is_empty());
    assert!(issues(Objective::Fixed, 0.2).is_empty());
    assert_eq!(issues(Objective::MicroF1, 0.2), ["fixed"]);
    assert_eq!(issues(Objective::Fixed, 1.0), ["fixed"]);
    assert_eq!(issues(Objective::Fixed, f64::NAN), ["fixed"]);
    let config =
        ThresholdConfig { k: Some(0), min_support: 0, shrinkage: -1.0, ..ThresholdConfig::default() };
    let paths: Vec<String> = Threshold::check(&config, &[]).into_iter().map(|issue| issue.path).collect();
    assert_eq!(paths, ["min_support", "shrinkage", "min_support", "shrinkage", "k", "k"]);
}

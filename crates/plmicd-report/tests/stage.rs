//! The stage on small artifacts: what the page holds, and what it must never hold.

#![allow(clippy::print_stderr)] // a skipped test says why

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use plmicd_data::{
    Calibration, CodeResult, CodeSystem, CorpusStats, CurvePoint, EpochRecord, Evaluation, Exclusion,
    FrequencyBin, FrequentCodes, Interval, PrecisionRecallPoint, ReliabilityBin, Split, SplitEvaluation,
    SplitStats, StepRecord, Summary, Thresholds, TokenSplitStats, TokenStats, TrainingHistory, kind,
    write_per_code,
};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};
use plmicd_report::{Report, ReportConfig};

const ATTACK: &str = "<script>alert(1)</script> & \"quotes\" <img src=x onerror=alert(2)> {{ 7 * 7 }} | pipe";

fn metrics(value: f64) -> BTreeMap<String, f64> {
    let names = ["micro_f1", "macro_f1_caml", "macro_f1_all_labels", "macro_f1_present_labels", "micro_auc"];
    let at = ["precision_at_5", "precision_at_8", "precision_at_15", "precision_at_8_edin"];
    let mut metrics: BTreeMap<String, f64> =
        names.iter().chain(&at).map(|name| ((*name).to_owned(), value)).collect();
    metrics.insert("micro_average_precision".to_owned(), 0.7);
    metrics.extend([("micro_precision".to_owned(), 0.8), ("micro_recall".to_owned(), 0.6)]);
    metrics
}

fn code(index: usize, positives: u64) -> CodeResult {
    let f1 = index as f64 / 40.0;
    CodeResult {
        code: format!("{:03}.{}", index, index % 10),
        system: CodeSystem::Icd9Diagnosis,
        description: if index == 39 {
            ATTACK.to_owned()
        } else {
            format!("Condition number {index} of the list")
        },
        train_count: Some(positives * 5),
        positives,
        predicted: positives + 7777,
        true_positives: positives / 3,
        precision: f1,
        recall: f1,
        f1,
        auc: Some(0.5 + f1 / 2.0),
        average_precision: Some(f1),
    }
}

/// All inputs in a temporary directory.
struct Inputs {
    _guard: tempfile::TempDir,
    dir: Utf8PathBuf,
    restricted: bool,
}

impl Inputs {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        for name in ["evaluation", "thresholds", "model", "notes", "shards", "out"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        let inputs = Self { _guard: guard, dir, restricted: false };
        inputs.write_results();
        inputs.write_training();
        inputs.write_stats();
        inputs
    }

    fn write_results(&self) {
        let split = |value, baseline: Option<f64>| SplitEvaluation {
            notes: 200,
            labels: 40,
            labels_present: 39,
            metrics: metrics(value),
            metrics_at_half: metrics(value / 2.0),
            baseline_frequent_codes: baseline.map(metrics),
            intervals: BTreeMap::from([(
                "micro_f1".to_owned(),
                Interval { low: 0.64, high: 0.67, standard_error: 0.01 },
            )]),
            frequency_bins: (0..6)
                .map(|bin| FrequencyBin {
                    at_least: [0, 1, 6, 11, 51, 101][bin],
                    at_most: [Some(0), Some(5), Some(10), Some(50), Some(100), None][bin],
                    labels: 70,
                    labels_present: 5,
                    positives: 8 * (1 + bin as u64),
                    metrics: metrics(value),
                })
                .collect(),
            levels: BTreeMap::from([("chapter".to_owned(), metrics(0.9))]),
            calibration: Calibration {
                expected_calibration_error: 0.02,
                brier: 0.01,
                bins: (0..15)
                    .map(|bin| ReliabilityBin {
                        pairs: 100,
                        mean_score: f64::from(bin) / 15.0,
                        share_true: f64::from(bin) / 16.0,
                    })
                    .collect(),
            },
            precision_recall: (1..=100)
                .map(|at| PrecisionRecallPoint {
                    score: 1.0 - f64::from(at) / 100.0,
                    precision: 1.0 - (f64::from(at) / 110.0).powi(3),
                    recall: f64::from(at) / 100.0,
                })
                .collect(),
            ..SplitEvaluation::default()
        };
        let evaluation = Evaluation {
            threshold: 0.37,
            objective: "micro_f1".to_owned(),
            resamples: 1000,
            splits: BTreeMap::from([
                (Split::Dev, split(0.6789, None)),
                (Split::Test, split(0.6543, Some(0.2468))),
            ]),
            baseline: Some(FrequentCodes { codes: 12, dev_micro_f1: 0.2501 }),
            ..Evaluation::default()
        };
        evaluation.write(&self.dir.join("evaluation").join(Evaluation::FILE)).unwrap();
        let codes: Vec<_> =
            (0..40).map(|index| code(index, if index < 4 { 5 } else { 12 + index as u64 })).collect();
        write_per_code(&self.dir.join("evaluation").join(Evaluation::PER_CODE_FILE), &codes).unwrap();
        let curve = (0..100).map(|index| {
            let threshold = f64::from(index) / 100.0;
            let micro_f1 = 0.68 - (threshold - 0.37).powi(2);
            CurvePoint { threshold, micro_f1, macro_f1: Some(micro_f1 / 2.0) }
        });
        let thresholds = Thresholds {
            objective: "micro_f1".to_owned(),
            threshold: 0.37,
            dev_value: 0.68,
            curve: curve.collect(),
            ..Thresholds::default()
        };
        thresholds.write(&self.dir.join("thresholds").join(Thresholds::FILE)).unwrap();
    }

    fn write_training(&self) {
        let epochs = (1..=12u32).map(|epoch| {
            let share = f64::from(epoch) / 12.0;
            EpochRecord {
                epoch,
                step: u64::from(epoch) * 300,
                train_loss: 0.3 / f64::from(epoch),
                dev_loss: Some(0.35 / f64::from(epoch)),
                dev: BTreeMap::from([
                    ("micro_f1".to_owned(), 0.68 * share.sqrt()),
                    ("precision_at_8".to_owned(), 0.8 * share.sqrt()),
                    ("threshold".to_owned(), 0.4),
                    (ATTACK.to_owned(), 0.1),
                ]),
            }
        });
        let steps = (1..=180u64).map(|index| StepRecord {
            step: index * 20,
            loss: 0.7 / (1.0 + index as f64 / 8.0) + 0.01 * ((index * 7) % 5) as f64 / 5.0,
            learning_rate: 5e-5,
        });
        let training = TrainingHistory {
            seed: 1,
            epochs: epochs.collect(),
            midway: Vec::new(),
            steps: steps.collect(),
            best_epoch: 11,
            stopped_early: true,
            total_steps: 3600,
            parameters: 123_456_789,
        };
        training.write(&self.dir.join("model").join(TrainingHistory::FILE)).unwrap();
    }

    fn write_stats(&self) {
        let summary = |scale: u64| Summary {
            total: 1000 * scale,
            min: 3,
            median: 10 * scale,
            mean: 11.25 * scale as f64,
            p95: 30 * scale,
            max: 97_531,
        };
        let split = |notes| SplitStats {
            notes,
            subjects: notes - 1,
            words: summary(100),
            codes: summary(1),
            labels_present: 35,
            labels_seen_in_train: 34,
            codes_seen_in_train: 80,
        };
        let corpus = CorpusStats {
            source: "mimic3".to_owned(),
            splits: BTreeMap::from([
                (Split::Train, split(4800)),
                (Split::Dev, split(200)),
                (Split::Test, split(7)),
            ]),
            labels: 40,
            labels_by_system: BTreeMap::from([
                (CodeSystem::Icd9Diagnosis, 30),
                (CodeSystem::Icd9Procedure, 10),
            ]),
            labels_without_description: 2,
            labels_described_by_relative: 1,
            published: Vec::new(),
            leaking_subjects: 0,
            exclusions: vec![Exclusion { reason: ATTACK.to_owned(), count: 8, unit: "rows".to_owned() }],
        };
        corpus.write(&self.dir.join("notes").join(CorpusStats::FILE)).unwrap();
        let split = |notes| TokenSplitStats {
            notes,
            words: summary(100),
            tokens: summary(130),
            labels: summary(1),
            unknown_tokens: 4,
            unknown_rate: 0.0,
            fragmentation: 1.3,
            share_beyond: BTreeMap::from([(512, 0.9), (3072, 0.04)]),
        };
        let tokens = TokenStats {
            vocab_size: 30_522,
            splits: BTreeMap::from([
                (Split::Train, split(4800)),
                (Split::Dev, split(200)),
                (Split::Test, split(7)),
            ]),
        };
        tokens.write(&self.dir.join("shards").join(TokenStats::FILE)).unwrap();
    }

    fn run_with(&self, config: &ReportConfig, names: &[&str]) -> Result<(), StageError> {
        let input = |name: &&str| {
            let kind = if *name == "shards" { kind::TOKEN_SHARDS } else { name };
            let digest = blake3_of(name).parse().unwrap();
            let input = Input {
                kind: kind.to_owned(),
                digest,
                dir: self.dir.join(name),
                restricted: self.restricted,
            };
            ((*name).to_owned(), input)
        };
        let out = self.dir.join("out");
        let inputs = names.iter().map(input).collect();
        let runtime = Runtime::default();
        Report::run(config, &StageContext::new(inputs, &out, &out, runtime, &NoEvents, Interrupt::default()))
    }

    fn run(&self) -> String {
        let config = ReportConfig { title: format!("Demo {ATTACK}"), ..ReportConfig::default() };
        self.run_with(&config, &["evaluation", "thresholds", "model", "notes", "shards"]).unwrap();
        self.read("report.html")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join("out").join(name)).unwrap()
    }
}

/// Some digest, different for each name.
fn blake3_of(name: &str) -> String {
    format!("{:064x}", name.bytes().fold(0u128, |hash, byte| hash * 257 + u128::from(byte)))
}

/// The specifications of the page's figures.
fn figures(page: &str) -> Vec<serde_json::Value> {
    page.split("<script type=\"application/json\"")
        .skip(1)
        .map(|rest| {
            let text = &rest[rest.find('>').unwrap() + 1..rest.find("</script>").unwrap()];
            serde_json::from_str(text).unwrap()
        })
        .collect()
}

/// The page without the plotting library, which is nobody's to check here.
fn without_library(page: &str) -> String {
    let start = page.find("<script>").unwrap();
    let end = start + page[start..].find("</script>").unwrap();
    assert!(end - start > 1_000_000);
    format!("{}{}", &page[..start], &page[end..])
}

#[test]
fn a_published_result_stands_beside_ours() {
    let inputs = Inputs::new();
    let config =
        ReportConfig { published: Some("plm-icd/mimic3-full".to_owned()), ..ReportConfig::default() };
    assert!(Report::check(&config, &[]).is_empty());
    inputs.run_with(&config, &["evaluation", "thresholds"]).unwrap();
    let page = inputs.read("report.html");
    assert!(page.contains("Beside PLM-ICD, MIMIC-III full") && page.contains("Huang et al. 2022"));
    assert!(page.contains("<td>0.598</td><td>+0.0563</td>"), "0.6543 beside 0.598");
    let unknown = ReportConfig { published: Some("plm-icd/mimic9".to_owned()), ..ReportConfig::default() };
    let issues = Report::check(&unknown, &[]);
    assert!(issues[0].path == "published" && issues[0].message.contains("plm-icd/mimic3-full"));
}

#[test]
fn tables_are_there_for_papers_and_spreadsheets() {
    let inputs = Inputs::new();
    inputs.run();
    let csv = inputs.read("report.csv");
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("metric,dev_model,dev_model_low,dev_model_high,test_model,"));
    assert!(csv.contains("\nmicro_f1,0.6789,0.64,0.67,0.6543,0.64,0.67,0.2468,,\n"), "{csv}");
    let latex = inputs.read("report.tex");
    assert!(latex.contains("Micro F1 & 67.9 & 65.4 & 24.7 \\\\\n"), "{latex}");
    assert!(latex.contains("\\begin{tabular}{lrrr}") && latex.contains("\\{\\{ 7"), "{latex}");
}

/// Opens the page in a browser without a screen: its scripts must run through, and every figure must be drawn.
#[test]
fn the_figures_are_drawn_without_script_errors() {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let asked = std::process::Command::new(name).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    });
    let Some(browser) = found else {
        eprintln!("skipped: no Chromium is installed");
        return;
    };
    let inputs = Inputs::new();
    inputs.run();
    let page = inputs.dir.join("out/report.html");
    let output = std::process::Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"])
        .args(["--virtual-time-budget=20000", "--dump-dom", "--window-size=1200,900"])
        .arg(format!("--user-data-dir={}", inputs.dir.join("profile")))
        .arg(format!("file://{page}"))
        .output()
        .unwrap();
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let errors: Vec<&str> = log.lines().filter(|line| line.contains(":CONSOLE")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(dom.contains("data-figures=\"7\""), "the scripts did not run through");
    assert_eq!(dom.matches("class=\"plot js-plotly-plot\"").count(), 7, "not every figure was drawn");
}

#[test]
fn the_page_holds_the_results() {
    let inputs = Inputs::new();
    let page = inputs.run();
    for part in [
        "0.6543",
        "0.6789",
        "0.2468",
        "chosen: F1 0.680 at 0.370",
        "kept: epoch 11",
        "123,456,789",
        "stopped early",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    assert!(
        page.contains(&blake3_of("model")) && page.contains("30,522") && page.contains("Condition number 38")
    );
    // Loss, learning rate, dev metrics, threshold, precision over recall, frequency, calibration.
    assert_eq!(figures(&page).len(), 7);
    for part in
        ["[0.6400, 0.6700]", "0.640 to 0.670", "average precision 0.700", "over 100", "Brier score 0.0100"]
    {
        assert!(page.contains(part), "no {part}");
    }
    // Of 36 codes with enough notes, the 15 best and the 15 worst; none of those with 5 notes.
    assert!(page.contains("004.4") && page.contains("039.9") && !page.contains("003.3"));
    assert!(page.contains("40 of 40 codes occur in test; 0 of these"));
}

#[test]
fn markup_in_data_is_harmless() {
    let inputs = Inputs::new();
    let page = inputs.run();
    assert!(page.contains("&lt;script&gt;alert(1)"));
    for part in ["<script>alert", "<img", "49 | pipe"] {
        assert!(!page.contains(part), "{part} came through");
    }
    // Every script element is one of ours: a specification each, the library, and what draws.
    assert_eq!(page.matches("<script").count(), figures(&page).len() + 2);
    let markdown = inputs.read("report.md");
    assert!(!markdown.contains("<script") && !markdown.contains("} | pipe"), "{markdown}");
}

#[test]
fn the_page_loads_nothing() {
    // The library names addresses that it would use for maps; the page's policy lets it connect to nothing.
    let page = without_library(&Inputs::new().run());
    for part in ["http://", "https://", "src=\"", "@import", "url(", "<link"] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_report_on_restricted_data_shows_no_small_count() {
    let mut inputs = Inputs::new();
    let open = inputs.run();
    assert!(open.contains("97,531") && open.contains("<td>7</td>") && open.contains("<td>8</td>"));
    assert!(open.contains("Precision</th>") && !open.contains("Restricted"));
    inputs.restricted = true;
    let closed = inputs.run();
    assert!(closed.contains("Restricted") && closed.contains("&lt;10"));
    for part in ["<td>7</td>", "<td>8</td>", "97,531", "Precision</th>", "Predicted</th>"] {
        assert!(!closed.contains(part), "{part}");
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let inputs = Inputs::new();
    let first = inputs.run();
    assert_eq!(first, inputs.run());
}

#[test]
fn optional_inputs_may_be_absent() {
    let inputs = Inputs::new();
    inputs.run_with(&ReportConfig::default(), &["evaluation", "thresholds"]).unwrap();
    let page = inputs.read("report.html");
    assert_eq!(figures(&page).len(), 4);
    assert!(!page.contains("Data set") && !page.contains("Seed"));
}

#[test]
fn the_headline_is_there_for_programs_and_terminals() {
    let inputs = Inputs::new();
    inputs.run();
    let json: serde_json::Value = serde_json::from_str(&inputs.read("headline.json")).unwrap();
    assert_eq!(json["schema"], 2);
    assert_eq!(json["rows"][0]["intervals"][1], serde_json::json!([0.64, 0.67]));
    assert_eq!(json["columns"][2]["of"], "frequent_codes");
    assert_eq!(json["rows"][0]["name"], "micro_f1");
    assert_eq!(json["rows"][0]["values"], serde_json::json!([0.6789, 0.6543, 0.2468]));
    let names: Vec<_> =
        json["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    let at: Vec<_> = names.iter().filter(|name| name.starts_with("precision")).collect();
    assert_eq!(at, [&"precision_at_5", &"precision_at_8", &"precision_at_15"]);
    let text = inputs.read("headline.txt");
    assert!(text.starts_with("metric"), "{text}");
    let line = text.lines().find(|line| line.starts_with("Micro F1")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["Micro", "F1", "0.6789", "0.6543", "0.2468"]);
    assert!(inputs.read("report.md").contains("| Micro F1 | 0.6789 | 0.6543 | 0.2468 |"));
}

#[test]
fn thresholds_of_another_evaluation_are_refused() {
    let inputs = Inputs::new();
    let path = inputs.dir.join("thresholds").join(Thresholds::FILE);
    let thresholds = Thresholds { threshold: 0.4, ..Thresholds::read(&path).unwrap() };
    thresholds.write(&path).unwrap();
    let error = inputs.run_with(&ReportConfig::default(), &["evaluation", "thresholds"]).unwrap_err();
    assert!(error.to_string().contains("threshold 0.4, but the metrics were computed at 0.37"), "{error}");
    assert!(!inputs.dir.join("out/report.html").exists());
}

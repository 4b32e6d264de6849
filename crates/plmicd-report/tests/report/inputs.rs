//! Small artifacts to report on.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use plmicd_data::{
    Calibration, ChapterPart, CodeResult, CodeSystem, CorpusStats, CurvePoint, EpochRecord, Evaluation,
    Exclusion, FrequencyBin, FrequentCodes, Interval, PrecisionRecallPoint, ReliabilityBin, Split,
    SplitEvaluation, SplitStats, StepRecord, Summary, Thresholds, TokenSplitStats, TokenStats,
    TrainingHistory, kind, write_per_code,
};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};
use plmicd_report::{Report, ReportConfig};

pub const ATTACK: &str =
    "<script>alert(1)</script> & \"quotes\" <img src=x onerror=alert(2)> {{ 7 * 7 }} | pipe";

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
pub struct Inputs {
    _guard: tempfile::TempDir,
    pub dir: Utf8PathBuf,
    pub restricted: bool,
}

impl Inputs {
    pub fn new() -> Self {
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
            chapters: [("390-459", 120), ("460-519", 7)]
                .map(|(chapter, positives)| ChapterPart {
                    system: CodeSystem::Icd9Diagnosis,
                    chapter: chapter.to_owned(),
                    title: format!("Diseases {chapter}"),
                    labels: 30,
                    labels_present: 20,
                    positives,
                    metrics: metrics(value),
                })
                .to_vec(),
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
            precision: None,
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
                (Split::Test, split(6)),
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
                (Split::Test, split(6)),
            ]),
        };
        tokens.write(&self.dir.join("shards").join(TokenStats::FILE)).unwrap();
    }

    pub fn run_with(&self, config: &ReportConfig, names: &[&str]) -> Result<(), StageError> {
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

    pub fn run(&self) -> String {
        let config = ReportConfig { title: format!("Demo {ATTACK}"), ..ReportConfig::default() };
        self.run_with(&config, &["evaluation", "thresholds", "model", "notes", "shards"]).unwrap();
        self.read("report.html")
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join("out").join(name)).unwrap()
    }
}

/// Some digest, different for each name.
pub fn blake3_of(name: &str) -> String {
    format!("{:064x}", name.bytes().fold(0u128, |hash, byte| hash * 257 + u128::from(byte)))
}

//! Stage `evaluate`: metrics of the scores under the decision rule, per split and per code; and stage `import-scores`,
//! which brings other people's predictions there.

mod agreement;
mod baseline;
mod breakdown;
mod config;
pub mod external;
mod split;

use std::collections::BTreeMap;

use plmicd_data::{
    DataError, DecisionRule, Evaluation, LabelSpace, NoteOutcomes, Scores, Split, Thresholds, kind,
    train_label_counts, write_per_code,
};
use plmicd_metrics::{Rule, Truth};
use plmicd_pipeline::{BadInput, ConfigIssue, InputSpec, Stage, StageContext, StageError};

pub use config::EvaluateConfig;
pub use external::{ImportScores, ImportScoresConfig};

/// The stage.
#[derive(Clone, Copy, Debug)]
pub struct Evaluate;

impl Stage for Evaluate {
    type Config = EvaluateConfig;

    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 5;
    const OUTPUT: &'static str = kind::EVALUATION;
    const SCHEMA: u32 = Evaluation::SCHEMA;
    const SUMMARY: &'static str = "compute metrics from scores and thresholds";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[
            InputSpec::required("scores", &[kind::SCORES]),
            InputSpec::required("thresholds", &[kind::THRESHOLDS]),
            InputSpec::optional("shards", &[kind::TOKEN_SHARDS]),
        ];
        INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(context.runtime().thread_count())
            .build()
            .map_err(|error| StageError::because("starting worker threads", error))?;
        pool.install(|| evaluate(config, context))
    }
}

fn evaluate(config: &EvaluateConfig, context: &StageContext<'_>) -> Result<(), StageError> {
    let input = context.input("scores")?;
    let labels = LabelSpace::read(&input.file(LabelSpace::FILE)).map_err(reading)?;
    let thresholds_path = context.input("thresholds")?.file(Thresholds::FILE);
    let thresholds = Thresholds::read(&thresholds_path).map_err(reading)?;
    agreement::check_per_label(&thresholds_path, &thresholds, &labels)?;
    let rule = rule_of(&thresholds);
    let train_counts = match context.optional_input("shards") {
        Some(shards) => {
            let counted =
                train_label_counts(&shards.dir, &labels, &input.file(LabelSpace::FILE), |done, total| {
                    context.progress("counting train labels", done, Some(total), "notes");
                    !context.interrupted()
                });
            Some(counted.map_err(reading)?.ok_or(StageError::Interrupted)?)
        }
        None => None,
    };

    let out = context.output_dir();
    let mut evaluation = Evaluation {
        threshold: thresholds.threshold,
        objective: thresholds.objective.clone(),
        rule: thresholds.rule,
        resamples: config.resamples,
        splits: BTreeMap::new(),
        baseline: None,
    };
    let mut frequent = None;
    // The per-code table is that of the last split evaluated: test, where it is among them.
    let mut per_code = Vec::new();
    // The baseline is chosen on dev, whether dev is reported or not.
    let needed = |split| config.splits.contains(&split) || (split == Split::Dev && train_counts.is_some());
    for split in Split::ALL.into_iter().filter(|split| needed(*split)) {
        context.check_interrupt()?;
        let path = input.file(&Scores::file_name(split));
        if !path.exists() {
            if config.splits.contains(&split) {
                let message = format!("missing: {split} was not scored, but `splits` names it");
                let hint = "take it out of `splits`, or score it";
                return Err(BadInput::new(path, message).hint(hint).into());
            }
            context.note(format!(
                "no baseline of frequent codes: how many there are is chosen on {split}, which was not scored"
            ));
            continue;
        }
        context.progress(&format!("evaluating {split}"), 0, None, "notes");
        let scores = Scores::read(&path).map_err(reading)?;
        agreement::check_width(&path, &scores, &labels)?;
        let truth = Truth::new(scores.num_labels, &scores.truth)
            .map_err(|error| StageError::because(format!("checking {path}"), error))?;
        if split == Split::Dev
            && let Some(counts) = &train_counts
        {
            let choice = baseline::FrequentCodesModel::choose(counts, &truth);
            evaluation.baseline = Some(choice.summary());
            frequent = Some(choice);
        }
        if !config.splits.contains(&split) {
            continue;
        }
        let found = split::evaluate(&split::Task {
            scores: &scores,
            truth: &truth,
            labels: &labels,
            train_counts: train_counts.as_deref(),
            frequent: frequent.as_ref(),
            rule: &rule,
            config,
        })
        .map_err(|error| StageError::because(format!("evaluating {path}"), error))?;
        if split == Split::Dev {
            agreement::check_threshold(&thresholds_path, &thresholds, &path, &found.evaluation)?;
        }
        report_progress(context, split, &found.evaluation.metrics);
        found.outcomes.write(&out.join(NoteOutcomes::file_name(split))).map_err(writing)?;
        evaluation.splits.insert(split, found.evaluation);
        per_code = found.codes;
    }

    labels.write(&out.join(LabelSpace::FILE)).map_err(writing)?;
    evaluation.write(&out.join(Evaluation::FILE)).map_err(writing)?;
    write_per_code(&out.join(Evaluation::PER_CODE_FILE), &per_code).map_err(writing)
}

/// The rule that a thresholds file stands for.
pub fn rule_of(thresholds: &Thresholds) -> Rule {
    let threshold = thresholds.threshold as f32;
    match thresholds.rule {
        DecisionRule::Global => Rule::Global(threshold),
        DecisionRule::ExpectedCount => Rule::ExpectedCount,
        // The file was checked to hold what its rule needs.
        DecisionRule::PerCode | DecisionRule::UnseenApart => {
            Rule::PerLabel(thresholds.per_label.iter().flatten().map(|threshold| *threshold as f32).collect())
        }
        DecisionRule::TopK => {
            Rule::TopK(thresholds.k.and_then(|k| usize::try_from(k).ok()).unwrap_or(usize::MAX))
        }
    }
}

/// The metrics that are reported as figures of the run.
const HEADLINE: [&str; 7] = [
    "micro_f1",
    "macro_f1_caml",
    "micro_auc",
    "macro_auc",
    "precision_at_5",
    "precision_at_8",
    "precision_at_15",
];

fn report_progress(context: &StageContext<'_>, split: Split, metrics: &BTreeMap<String, f64>) {
    let shown = [("micro F1", "micro_f1"), ("macro F1 (CAML)", "macro_f1_caml"), ("micro AUC", "micro_auc")];
    let shown: Vec<String> = shown
        .iter()
        .filter_map(|(title, name)| Some(format!("{title} {:.4}", metrics.get(*name)?)))
        .collect();
    context.note(format!("{split}: {}", shown.join(", ")));
    // Beside the settings of the training in a run's TensorBoard.
    let values: Vec<(String, f64)> =
        HEADLINE.iter().filter_map(|name| Some((format!("{split}_{name}"), *metrics.get(*name)?))).collect();
    let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    context.metrics(0, &values);
}

fn reading(error: DataError) -> StageError {
    StageError::because("reading what is to be evaluated", error)
}

fn writing(error: DataError) -> StageError {
    StageError::because("writing the metrics", error)
}

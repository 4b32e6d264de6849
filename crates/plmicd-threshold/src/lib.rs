//! Stage `threshold`: the decision rule that is best on the dev split.

mod config;

use std::collections::BTreeMap;

use camino::Utf8Path;
use plmicd_data::{
    CurvePoint, DataError, DecisionRule, GridChoice, Interval, LabelSpace, Scores, Split, Stability,
    Thresholds, kind, train_label_counts,
};
use plmicd_metrics::rules;
use plmicd_metrics::threshold::micro_f1_at;
use plmicd_metrics::{
    BestThreshold, Rule, Scored, Truth, best_macro_f1, best_micro_f1, curve, curve_thresholds,
};
use plmicd_pipeline::{BadInput, ConfigIssue, InputSpec, Stage, StageContext, StageError};

pub use config::{Objective, ThresholdConfig};

/// The largest `k` that is tried for rule `top_k`: no note has more codes.
const LARGEST_K: usize = 200;

/// The stage.
#[derive(Clone, Copy, Debug)]
pub struct Threshold;

impl Stage for Threshold {
    type Config = ThresholdConfig;

    const NAME: &'static str = "threshold";
    const VERSION: u32 = 3;
    const OUTPUT: &'static str = kind::THRESHOLDS;
    const SCHEMA: u32 = Thresholds::SCHEMA;
    const SUMMARY: &'static str = "choose the decision rule on the dev scores";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[
            InputSpec::required("scores", &[kind::SCORES]),
            InputSpec::optional("shards", &[kind::TOKEN_SHARDS]),
        ];
        INPUTS
    }

    fn check(config: &Self::Config, wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues(wired.contains(&"shards"))
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let input = context.input("scores")?;
        let path = input.file(&Scores::file_name(Split::Dev));
        if !path.is_file() {
            if config.objective == Objective::Fixed && config.rule == DecisionRule::Global {
                context.note("no dev scores: the fixed threshold is taken as it is");
                return write(context, &without_dev(config));
            }
            let hint = "objective = \"fixed\" takes a threshold as given; rule = \"global\" goes with it";
            return Err(BadInput::new(&path, "there are no dev scores to choose by").hint(hint).into());
        }
        context.progress("reading dev scores", 0, None, "notes");
        let scores = Scores::read(&path).map_err(reading)?;
        let labels_path = input.file(LabelSpace::FILE);
        let labels = LabelSpace::read(&labels_path).map_err(reading)?;
        if labels.len() != scores.num_labels {
            let message =
                format!("scores of {} labels, but {labels_path} lists {}", scores.num_labels, labels.len());
            return Err(BadInput::new(&path, message).column("scores").into());
        }
        let truth = Truth::new(scores.num_labels, &scores.truth).map_err(misfit)?;
        if truth.positives() == 0 {
            let message = format!(
                "none of its {} notes has a label: no threshold is better than another",
                truth.num_notes()
            );
            return Err(BadInput::new(&path, message).column("labels").into());
        }
        let unseen = match (config.rule, context.optional_input("shards")) {
            (DecisionRule::UnseenApart, Some(shards)) => {
                Some(unseen(&shards.dir, &labels, &labels_path, context)?)
            }
            _ => None,
        };
        context.check_interrupt()?;
        context.progress("searching the threshold", 0, None, "scores");
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(context.runtime().thread_count())
            .build()
            .map_err(|error| StageError::because("starting worker threads", error))?;
        let thresholds =
            pool.install(|| choose(config, &scores, &truth, unseen.as_deref().unwrap_or_default()))?;
        context.note(format!(
            "threshold {} for {}: dev value {:.4} on {} notes",
            thresholds.threshold,
            thresholds.objective,
            thresholds.dev_value,
            truth.num_notes()
        ));
        if config.rule != DecisionRule::Global {
            let rule = config.rule.as_str();
            context.note(format!("rule {rule}: dev micro F1 {:.4}", thresholds.rule_dev_micro_f1));
        }
        if let (Some(unseen), Some(per_label)) = (&unseen, &thresholds.per_label) {
            let count = unseen.iter().filter(|unseen| **unseen).count();
            let own = unseen.iter().position(|unseen| *unseen).map(|at| per_label[at]);
            let words = own.map_or_else(String::new, |own| format!(": threshold {own}"));
            context.note(format!("{count} of {} labels have no training note{words}", labels.len()));
        }
        write(context, &thresholds)
    }
}

/// Which labels have no training note.
fn unseen(
    shards: &Utf8Path,
    labels: &LabelSpace,
    labels_path: &Utf8Path,
    context: &StageContext<'_>,
) -> Result<Vec<bool>, StageError> {
    let counts = train_label_counts(shards, labels, labels_path, |done, total| {
        context.progress("counting train labels", done, Some(total), "notes");
        !context.interrupted()
    });
    let counts =
        counts.map_err(|error| StageError::because("counting the labels of the train notes", error))?;
    Ok(counts.ok_or(StageError::Interrupted)?.into_iter().map(|count| count == 0).collect())
}

fn write(context: &StageContext<'_>, thresholds: &Thresholds) -> Result<(), StageError> {
    let path = context.output_dir().join(Thresholds::FILE);
    thresholds.write(&path).map_err(|error| StageError::because("writing the threshold", error))
}

/// A fixed threshold needs no dev split: other people's predictions often have none.
fn without_dev(config: &ThresholdConfig) -> Thresholds {
    Thresholds {
        objective: config.objective.as_str().to_owned(),
        threshold: shortest(config.fixed as f32),
        ..Thresholds::default()
    }
}

/// `unseen` marks the labels without training notes, where the rule asks for them.
fn choose(
    config: &ThresholdConfig,
    scores: &Scores,
    truth: &Truth,
    unseen: &[bool],
) -> Result<Thresholds, StageError> {
    let scored = Scored::new(&scores.scores, truth).map_err(misfit)?;
    let BestThreshold { threshold, value } = match config.objective {
        Objective::MicroF1 => best_micro_f1(&scored),
        Objective::BaggedMicroF1 => bagged(config, &scored),
        Objective::MacroF1 => best_macro_f1(&scored),
        Objective::InstanceF1 => rules::best_instance_f1(&scored),
        Objective::Fixed => {
            let threshold = config.fixed as f32;
            BestThreshold { threshold, value: micro_f1_at(&scored, threshold) }
        }
    };
    let drawn = curve_thresholds(&scored, threshold);
    let points = curve(&scored, &drawn);
    let rule = rule_of(config, &scored, threshold, unseen);
    let per_label = match &rule {
        Rule::PerLabel(thresholds) => Some(thresholds.iter().copied().map(shortest).collect()),
        _ => None,
    };
    let k = match &rule {
        Rule::TopK(k) => Some(*k as u64),
        _ => None,
    };
    Ok(Thresholds {
        rule: config.rule,
        objective: config.objective.as_str().to_owned(),
        threshold: shortest(threshold),
        dev_value: value,
        rule_dev_micro_f1: rules::micro_f1_of(&scored, &rule),
        per_label,
        k,
        grids: grids(&scored),
        stability: stability(config, &scored, &drawn),
        curve: points
            .into_iter()
            .map(|point| CurvePoint {
                threshold: shortest(point.threshold),
                micro_f1: point.micro_f1,
                macro_f1: Some(point.macro_f1_all_labels),
            })
            .collect(),
    })
}

/// The mean of the choices over bootstrap samples; the exact choice where there is nothing to sample.
fn bagged(config: &ThresholdConfig, scored: &Scored<'_>) -> BestThreshold {
    let best = best_micro_f1(scored);
    let candidates = curve_thresholds(scored, best.threshold);
    match resampled(config, scored, &candidates) {
        Some(found) => {
            let threshold = found.mean_threshold as f32;
            BestThreshold { threshold, value: micro_f1_at(scored, threshold) }
        }
        None => best,
    }
}

fn resampled(config: &ThresholdConfig, scored: &Scored<'_>, thresholds: &[f32]) -> Option<rules::Stability> {
    let resamples = usize::try_from(config.resamples).unwrap_or(usize::MAX);
    rules::stability(scored, thresholds, resamples, config.seed)
}

fn rule_of(config: &ThresholdConfig, scored: &Scored<'_>, threshold: f32, unseen: &[bool]) -> Rule {
    match config.rule {
        DecisionRule::Global => Rule::Global(threshold),
        DecisionRule::PerCode => Rule::PerLabel(rules::per_label_thresholds(
            scored,
            threshold,
            config.min_support,
            config.shrinkage,
        )),
        DecisionRule::UnseenApart => {
            let own = rules::best_threshold_apart(scored, unseen, threshold).threshold;
            Rule::PerLabel(unseen.iter().map(|unseen| if *unseen { own } else { threshold }).collect())
        }
        DecisionRule::TopK => Rule::TopK(match config.k {
            Some(k) => usize::try_from(k).unwrap_or(usize::MAX),
            // There is a true pair, so there is a best k.
            None => rules::best_top_k(scored, LARGEST_K).map_or(1, |(k, _)| k),
        }),
        DecisionRule::ExpectedCount => Rule::ExpectedCount,
    }
}

fn grids(scored: &Scored<'_>) -> BTreeMap<String, GridChoice> {
    [("plm_icd", rules::plm_icd_grid()), ("edin", rules::edin_grid())]
        .into_iter()
        .filter_map(|(name, grid)| {
            let best = rules::best_of_grid(scored, &grid)?;
            let choice = GridChoice { threshold: shortest(best.threshold), dev_micro_f1: best.value };
            Some((name.to_owned(), choice))
        })
        .collect()
}

fn stability(config: &ThresholdConfig, scored: &Scored<'_>, thresholds: &[f32]) -> Option<Stability> {
    let found = resampled(config, scored, thresholds)?;
    let interval =
        |i: plmicd_metrics::Interval| Interval { low: i.low, high: i.high, standard_error: i.standard_error };
    Some(Stability {
        resamples: config.resamples,
        threshold: interval(found.threshold),
        micro_f1: interval(found.value),
    })
}

/// The shortest decimal number that is this `f32` when read as one: 0.3, not 0.30000001192092896.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

fn reading(error: DataError) -> StageError {
    StageError::because("reading the scores", error)
}

fn misfit(error: plmicd_metrics::MetricsError) -> StageError {
    StageError::because("checking the dev scores", error)
}

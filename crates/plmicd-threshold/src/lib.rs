//! Stage `threshold`: the decision threshold that is best on the dev split.

use plmicd_data::{CurvePoint, DataError, LabelSpace, Scores, Split, Thresholds, kind};
use plmicd_metrics::threshold::micro_f1_at;
use plmicd_metrics::{BestThreshold, Scored, Truth, best_macro_f1, best_micro_f1, curve, curve_thresholds};
use plmicd_pipeline::{BadInput, ConfigIssue, InputSpec, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the threshold is chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The highest micro F1 on dev, found exactly among all distinct scores.
    #[default]
    MicroF1,
    /// The highest mean of the labels' F1 on dev, found exactly.
    MacroF1,
    /// The value of `fixed`, whatever the scores.
    Fixed,
}

impl Objective {
    /// Name in `thresholds.json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MicroF1 => "micro_f1",
            Self::MacroF1 => "macro_f1",
            Self::Fixed => "fixed",
        }
    }
}

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConfig {
    /// What the threshold is chosen for: `micro_f1`, `macro_f1` (mean of the labels' F1) or `fixed`.
    pub objective: Objective,
    /// The threshold itself, from 0 to below 1, with `objective = "fixed"`; not used otherwise.
    pub fixed: f64,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        Self { objective: Objective::MicroF1, fixed: 0.5 }
    }
}

/// The stage.
#[derive(Clone, Copy, Debug)]
pub struct Threshold;

impl Stage for Threshold {
    type Config = ThresholdConfig;

    const NAME: &'static str = "threshold";
    const VERSION: u32 = 1;
    const OUTPUT: &'static str = kind::THRESHOLDS;
    const SCHEMA: u32 = Thresholds::SCHEMA;
    const SUMMARY: &'static str = "choose the decision threshold on the dev scores";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[InputSpec::required("scores", &[kind::SCORES])];
        INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if !(0.0..1.0).contains(&config.fixed) {
            issues.push(ConfigIssue::new("fixed", "expected a number from 0 to below 1"));
        }
        if config.objective != Objective::Fixed && config.fixed != Self::Config::default().fixed {
            let message = "has no effect unless objective = \"fixed\"; set that, or leave it out";
            issues.push(ConfigIssue::new("fixed", message));
        }
        issues
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let input = context.input("scores")?;
        let path = input.file(&Scores::file_name(Split::Dev));
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
        context.check_interrupt()?;
        context.progress("searching the threshold", 0, None, "scores");
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(context.runtime().thread_count())
            .build()
            .map_err(|error| StageError::because("starting worker threads", error))?;
        let thresholds = pool.install(|| choose(config, &scores, &truth))?;
        context.note(format!(
            "threshold {} for {}: dev value {:.4} on {} notes",
            thresholds.threshold,
            thresholds.objective,
            thresholds.dev_value,
            truth.num_notes()
        ));
        let path = context.output_dir().join(Thresholds::FILE);
        thresholds.write(&path).map_err(|error| StageError::because("writing the threshold", error))
    }
}

fn choose(config: &ThresholdConfig, scores: &Scores, truth: &Truth) -> Result<Thresholds, StageError> {
    let scored = Scored::new(&scores.scores, truth).map_err(misfit)?;
    let BestThreshold { threshold, value } = match config.objective {
        Objective::MicroF1 => best_micro_f1(&scored),
        Objective::MacroF1 => best_macro_f1(&scored),
        Objective::Fixed => {
            let threshold = config.fixed as f32;
            BestThreshold { threshold, value: micro_f1_at(&scored, threshold) }
        }
    };
    let points = curve(&scored, &curve_thresholds(&scored, threshold));
    Ok(Thresholds {
        objective: config.objective.as_str().to_owned(),
        threshold: shortest(threshold),
        dev_value: value,
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

//! The figures: training loss, dev metrics by epoch, F1 over the threshold.

use plmicd_data::{Thresholds, TrainingHistory};
use serde::Serialize;

use crate::chart::{Chart, Mark, Scale, Series};
use crate::headline::metric_title;

/// A figure of the page.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub svg: String,
    pub caption: String,
}

/// Losses that span more than this factor are drawn on a logarithmic axis.
const LOG_FROM: f64 = 20.0;
/// Lines in the figure of dev metrics, at most.
const DEV_LINES: usize = 3;

/// All figures that the inputs allow.
pub(crate) fn figures(training: Option<&TrainingHistory>, thresholds: &Thresholds) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(training) = training {
        figures.extend(loss(training));
        figures.extend(dev_metrics(training));
    }
    figures.extend(threshold(thresholds));
    figures
}

fn loss(training: &TrainingHistory) -> Option<Figure> {
    let mut train: Vec<(f64, f64)> =
        training.steps.iter().map(|record| (record.step as f64, record.loss)).collect();
    if train.is_empty() {
        train = training.epochs.iter().map(|epoch| (epoch.step as f64, epoch.train_loss)).collect();
    }
    let dev = training.epochs.iter().filter_map(|epoch| Some((epoch.step as f64, epoch.dev_loss?)));
    let mut series = vec![Series::line("train", train), Series::dotted("dev, by epoch", dev.collect())];
    series.retain(|series| !series.points.is_empty());
    let losses = || series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let (lowest, highest) = (losses().reduce(f64::min)?, losses().reduce(f64::max)?);
    let logarithmic = lowest > 0.0 && highest / lowest > LOG_FROM;
    let chart = Chart {
        title: "Loss",
        x_label: "optimizer step",
        y_label: "loss",
        x_scale: Scale::Linear,
        y_scale: if logarithmic { Scale::Log } else { Scale::LinearFromZero },
        series,
        marks: Vec::new(),
    };
    let axis = if logarithmic { " Logarithmic axis." } else { "" };
    Some(Figure { svg: chart.svg(), caption: format!("Mean binary cross-entropy.{axis}") })
}

fn dev_metrics(training: &TrainingHistory) -> Option<Figure> {
    // Micro F1 chooses the epoch as a rule; after it, the rest in the order of their names.
    let mut names: Vec<&String> = training.epochs.iter().flat_map(|epoch| epoch.dev.keys()).collect();
    names.sort_by_key(|name| (name.as_str() != "micro_f1", name.as_str()));
    names.dedup();
    let is_share = |name: &&String| {
        training.epochs.iter().all(|epoch| epoch.dev.get(*name).is_none_or(|v| (0.0..=1.0).contains(v)))
    };
    let series: Vec<Series> = names
        .into_iter()
        .filter(|name| *name != "threshold" && *name != "loss" && is_share(name))
        .take(DEV_LINES)
        .map(|name| {
            let points = training
                .epochs
                .iter()
                .filter_map(|epoch| Some((f64::from(epoch.epoch), *epoch.dev.get(name)?)));
            Series::dotted(metric_title(name), points.collect())
        })
        .collect();
    let best = series.first()?.points.iter().find(|point| point.0 == f64::from(training.best_epoch)).copied();
    let marks = best.map(|(x, y)| Mark { x, y, label: format!("kept: epoch {}", training.best_epoch) });
    let chart = Chart {
        title: "Dev metrics",
        x_label: "epoch",
        y_label: "dev value",
        x_scale: Scale::Linear,
        y_scale: Scale::LinearFromZero,
        series,
        marks: marks.into_iter().collect(),
    };
    let stopped = if training.stopped_early { " Training stopped early." } else { "" };
    let caption =
        format!("After each epoch; the weights of epoch {} were kept.{stopped}", training.best_epoch);
    Some(Figure { svg: chart.svg(), caption })
}

fn threshold(thresholds: &Thresholds) -> Option<Figure> {
    let micro: Vec<_> = thresholds.curve.iter().map(|point| (point.threshold, point.micro_f1)).collect();
    let mean: Vec<_> =
        thresholds.curve.iter().filter_map(|point| Some((point.threshold, point.macro_f1?))).collect();
    let by_mean = thresholds.objective == "macro_f1";
    let chosen = if by_mean { &mean } else { &micro };
    let mark = chosen.iter().find(|point| point.0 == thresholds.threshold).map(|&(x, y)| Mark {
        x,
        y,
        label: format!("F1 {y:.3} at {x:.3}"),
    });
    let mut series =
        vec![Series::line("Micro F1", micro), Series::line("Macro F1, mean over all codes", mean)];
    series.retain(|series| !series.points.is_empty());
    series.first()?;
    let chart = Chart {
        title: "Choice of the threshold",
        x_label: "decision threshold",
        y_label: "dev F1",
        x_scale: Scale::Unit,
        y_scale: Scale::LinearFromZero,
        series,
        marks: mark.into_iter().collect(),
    };
    let why = match thresholds.objective.as_str() {
        "micro_f1" => "It maximises micro F1 on dev.",
        "macro_f1" => "It maximises the mean of the codes' F1 on dev.",
        _ => "It was given.",
    };
    Some(Figure { svg: chart.svg(), caption: format!("Threshold {:.4}. {why}", thresholds.threshold) })
}

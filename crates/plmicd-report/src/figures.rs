//! The figures as specifications for Plotly, each with its numbers as a table for those who cannot see it.

use plmicd_data::{SplitEvaluation, Thresholds, TrainingHistory};
use plmicd_pipeline::StageError;
use serde::Serialize;
use serde_json::{Value, json};

use crate::data_set::{Row, Table};
use crate::headline::metric_title;
use crate::privacy::{Privacy, thousands};
use crate::sources::Sources;

/// A figure of the page.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// Unique on the page.
    pub id: &'static str,
    pub title: String,
    pub caption: String,
    /// `{"data": [...], "layout": {...}}`, safe inside a script element.
    pub spec: String,
    pub table: Table,
}

/// Losses that span more than this factor are drawn on a logarithmic axis.
const LOG_FROM: f64 = 20.0;
/// Lines in the figure of dev metrics, at most.
const DEV_LINES: usize = 3;
/// Rows of a figure's table, at most: the shape, not every point.
const TABLE_ROWS: usize = 12;

/// The Plotly library as it stands in the page.
pub(crate) fn library() -> Result<&'static str, StageError> {
    static SOURCES: std::sync::LazyLock<String> = std::sync::LazyLock::new(plotly::Plot::offline_js_sources);
    // The crate gives several libraries, each in a script element; the first is Plotly.
    let start = SOURCES.find('>').map(|at| at + 1);
    let script = start.and_then(|start| {
        let end = SOURCES[start..].find("</script>")?;
        SOURCES.get(start..start + end)
    });
    script.ok_or_else(|| StageError::failed("the plotting library is not where it is expected"))
}

/// All figures that the inputs allow; `split` is the last one evaluated, by its name.
pub(crate) fn figures(sources: &Sources, split: Option<(&str, &SplitEvaluation)>) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(training) = &sources.training {
        figures.extend(loss(training));
        figures.extend(learning_rate(training));
        figures.extend(dev_metrics(training));
    }
    figures.extend(threshold(&sources.thresholds));
    if let Some((title, result)) = split {
        let privacy = sources.privacy;
        let positives = sources.per_code.iter().map(|row| row.positives).sum();
        figures.extend(precision_recall(title, result, positives, privacy));
        figures.extend(frequency(title, result, privacy));
        figures.extend(calibration(title, result, privacy));
    }
    figures
}

/// A named line or set of points.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    mode: &'static str,
    dash: &'static str,
    /// Of single points.
    symbol: &'static str,
}

impl Series {
    fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, mode: "lines", dash: "solid", symbol: "" }
    }

    fn dotted(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, mode: "lines+markers", dash: "solid", symbol: "" }
    }

    fn mark(name: impl Into<String>, point: (f64, f64)) -> Self {
        Self { name: name.into(), points: vec![point], mode: "markers", dash: "solid", symbol: "diamond" }
    }

    fn with_symbol(self, symbol: &'static str) -> Self {
        Self { symbol, ..self }
    }

    fn trace(&self) -> Value {
        let marker = if self.mode == "markers" {
            json!({"size": 11, "symbol": self.symbol})
        } else {
            json!({"size": 6})
        };
        json!({
            "type": "scatter", "name": escaped(&self.name), "mode": self.mode,
            "x": self.points.iter().map(|point| point.0).collect::<Vec<_>>(),
            "y": self.points.iter().map(|point| point.1).collect::<Vec<_>>(),
            "line": {"dash": self.dash, "width": 2}, "marker": marker,
        })
    }
}

/// A figure of lines, with a table of evenly chosen points.
fn lines(
    id: &'static str,
    title: &str,
    caption: String,
    axes: (&str, &str),
    y_axis: Value,
    series: &[Series],
) -> Option<Figure> {
    let longest = series.iter().max_by_key(|series| series.points.len()).filter(|s| !s.points.is_empty())?;
    let mut layout = json!({"xaxis": {"title": {"text": axes.0}}, "yaxis": {"title": {"text": axes.1}}});
    if let (Some(own), Some(more)) = (layout["yaxis"].as_object_mut(), y_axis.as_object()) {
        own.extend(more.clone());
    }
    if axes.0 == "epoch" {
        // Whole epochs only, about ten of them.
        layout["xaxis"]["dtick"] = json!(longest.points.len().div_ceil(10));
    }
    let data: Vec<Value> = series.iter().map(Series::trace).collect();
    let step = longest.points.len().div_ceil(TABLE_ROWS).max(1);
    let last = longest.points.len() - 1;
    let chosen = (0..longest.points.len()).filter(|at| at % step == 0 || *at == last);
    let rows = chosen.map(|at| {
        let x = longest.points[at].0;
        let value = |series: &Series| {
            let point = series.points.iter().find(|point| point.0 == x);
            point.map_or_else(|| "–".to_owned(), |point| number(point.1))
        };
        Row { title: number(x), cells: series.iter().map(value).collect() }
    });
    Some(Figure {
        id,
        title: title.to_owned(),
        caption,
        spec: spec(&data, &layout),
        table: Table {
            caption: format!("{title}: points by {}", axes.0),
            columns: series.iter().map(|series| series.name.clone()).collect(),
            rows: rows.collect(),
        },
    })
}

/// JSON that cannot end the script element it stands in.
pub(crate) fn spec(data: &[Value], layout: &Value) -> String {
    json!({"data": data, "layout": layout}).to_string().replace('<', "\\u003c").replace('>', "\\u003e")
}

/// Plotly reads a few tags in names: none of them comes from data.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn number(value: f64) -> String {
    match value {
        value if value.fract() == 0.0 && value.abs() >= 1.0 => format!("{value:.0}"),
        value if value != 0.0 && value.abs() < 1e-3 => format!("{value:.2e}"),
        value => format!("{value:.4}"),
    }
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
    let (axis, note) = if logarithmic {
        (json!({"type": "log", "dtick": "D2", "tickformat": "~g"}), " Logarithmic axis.")
    } else {
        (json!({"rangemode": "tozero"}), "")
    };
    let caption = format!("Mean loss over notes and codes.{note}");
    lines("loss", "Loss", caption, ("optimizer step", "loss"), axis, &series)
}

fn learning_rate(training: &TrainingHistory) -> Option<Figure> {
    let points = training.steps.iter().map(|record| (record.step as f64, record.learning_rate)).collect();
    let series = [Series::line("learning rate", points)];
    let axis = json!({"rangemode": "tozero", "exponentformat": "power"});
    let caption = "Of the encoder, with its warm-up and decay.".to_owned();
    lines("learning-rate", "Learning rate", caption, ("optimizer step", "learning rate"), axis, &series)
}

fn dev_metrics(training: &TrainingHistory) -> Option<Figure> {
    // Micro F1 chooses the epoch as a rule; after it, the rest in the order of their names.
    let mut names: Vec<&String> = training.epochs.iter().flat_map(|epoch| epoch.dev.keys()).collect();
    names.sort_by_key(|name| (name.as_str() != "micro_f1", name.as_str()));
    names.dedup();
    let is_share = |name: &&String| {
        training.epochs.iter().all(|epoch| epoch.dev.get(*name).is_none_or(|v| (0.0..=1.0).contains(v)))
    };
    let mut series: Vec<Series> = names
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
    series.extend(best.map(|point| Series::mark(format!("kept: epoch {}", training.best_epoch), point)));
    let stopped = if training.stopped_early { " Training stopped early." } else { "" };
    let caption =
        format!("After each epoch; the weights of epoch {} were kept.{stopped}", training.best_epoch);
    let axis = json!({"rangemode": "tozero"});
    lines("dev-metrics", "Dev metrics", caption, ("epoch", "dev value"), axis, &series)
}

fn threshold(thresholds: &Thresholds) -> Option<Figure> {
    let micro: Vec<_> = thresholds.curve.iter().map(|point| (point.threshold, point.micro_f1)).collect();
    let mean: Vec<_> =
        thresholds.curve.iter().filter_map(|point| Some((point.threshold, point.macro_f1?))).collect();
    let by_mean = thresholds.objective == "macro_f1";
    let curve = if by_mean { &mean } else { &micro };
    let chosen = curve.iter().find(|point| point.0 == thresholds.threshold).copied();
    let mut series =
        vec![Series::line("Micro F1", micro), Series::line("Macro F1, mean over all codes", mean)];
    series.retain(|series| !series.points.is_empty());
    if let Some((x, y)) = chosen {
        series.push(Series::mark(format!("chosen: F1 {y:.3} at {x:.3}"), (x, y)));
    }
    for (name, title, symbol) in
        [("plm_icd", "PLM-ICD's grid", "square-open"), ("edin", "Edin's grid", "circle-open")]
    {
        if let Some(choice) = thresholds.grids.get(name) {
            let point = (choice.threshold, choice.dev_micro_f1);
            series.push(Series::mark(title, point).with_symbol(symbol));
        }
    }
    let why = match thresholds.objective.as_str() {
        "micro_f1" => "It maximises micro F1 on dev.",
        "bagged_micro_f1" => "It is the mean of those that maximise micro F1 on samples of the dev notes.",
        "macro_f1" => "It maximises the mean of the codes' F1 on dev.",
        "instance_f1" => "It maximises instance F1 on dev.",
        _ => "It was given.",
    };
    // What was given does not move with the notes.
    let searched = thresholds.stability.as_ref().filter(|_| thresholds.objective != "fixed");
    let stable = searched.map_or_else(String::new, |stability| {
        format!(
            " On other notes of the same kind the one that maximises micro F1 would lie between {:.3} and {:.3} (95 %).",
            stability.threshold.low, stability.threshold.high
        )
    });
    let caption = format!("Threshold {:.4}. {why}{stable}", thresholds.threshold);
    let axis = json!({"rangemode": "tozero"});
    lines("threshold", "Choice of the threshold", caption, ("decision threshold", "dev F1"), axis, &series)
}

fn precision_recall(
    split: &str,
    result: &SplitEvaluation,
    positives: u64,
    privacy: Privacy,
) -> Option<Figure> {
    // The first points stand for a few pairs of notes and codes.
    let shown = |recall: f64| privacy.shows((recall * positives as f64).round() as u64);
    let points = result.precision_recall.iter().filter(|point| shown(point.recall));
    let points = points.map(|point| (privacy.share(point.recall), privacy.share(point.precision))).collect();
    let mut series = vec![Series::line("all codes", points)];
    if let (Some(recall), Some(precision)) =
        (result.metrics.get("micro_recall"), result.metrics.get("micro_precision"))
    {
        series.push(Series::mark("as decided", (privacy.share(*recall), privacy.share(*precision))));
    }
    let area = result.metrics.get("micro_average_precision").copied().unwrap_or(0.0);
    let caption = format!("Over all pairs of notes and codes of {split}; average precision {area:.3}.");
    let axis = json!({"range": [0, 1.02]});
    let title = "Precision over recall";
    lines("precision-recall", title, caption, ("recall", "precision"), axis, &series)
}

/// F1 of codes by how often training saw them, as bars.
fn frequency(split: &str, result: &SplitEvaluation, privacy: Privacy) -> Option<Figure> {
    let shown: Vec<_> = result
        .frequency_bins
        .iter()
        .filter(|bin| bin.labels_present > 0 && privacy.shows(bin.positives))
        .collect();
    if shown.is_empty() {
        return None;
    }
    let names: Vec<String> = shown.iter().map(|bin| bin.name()).collect();
    let bars = |title: &str, metric: &str| {
        let values: Vec<f64> =
            shown.iter().map(|bin| bin.metrics.get(metric).copied().unwrap_or(0.0)).collect();
        json!({"type": "bar", "name": title, "x": names, "y": values})
    };
    let data = [bars("Micro F1", "micro_f1"), bars("Macro F1, codes present", "macro_f1_present_labels")];
    let layout = json!({
        "barmode": "group", "xaxis": {"title": {"text": "train notes of the code"}, "type": "category"},
        "yaxis": {"title": {"text": "F1"}, "range": [0, 1]},
    });
    let cell = |bin: &plmicd_data::FrequencyBin, metric: &str| {
        bin.metrics.get(metric).map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
    };
    let rows = shown.iter().map(|bin| Row {
        title: bin.name(),
        cells: vec![
            thousands(bin.labels),
            thousands(bin.labels_present),
            privacy.count(bin.positives),
            cell(bin, "micro_f1"),
            cell(bin, "macro_f1_present_labels"),
            cell(bin, "macro_auc"),
        ],
    });
    let columns = ["Codes", "Present", "Pairs", "Micro F1", "Macro F1, present", "Macro AUC"];
    Some(Figure {
        id: "frequency",
        title: "F1 by frequency in train".to_owned(),
        caption: format!("Codes of {split} by the number of train notes that have them."),
        spec: spec(&data, &layout),
        table: Table {
            caption: "Codes by their train notes".to_owned(),
            columns: columns.map(str::to_owned).to_vec(),
            rows: rows.collect(),
        },
    })
}

fn calibration(split: &str, result: &SplitEvaluation, privacy: Privacy) -> Option<Figure> {
    let bins = result.calibration.bins.iter().filter(|bin| bin.pairs > 0 && privacy.shows(bin.pairs));
    let points: Vec<(f64, f64)> =
        bins.map(|bin| (privacy.share(bin.mean_score), privacy.share(bin.share_true))).collect();
    if points.is_empty() {
        return None;
    }
    let ideal = Series {
        name: "ideal".to_owned(),
        points: vec![(0.0, 0.0), (1.0, 1.0)],
        mode: "lines",
        dash: "dot",
        symbol: "",
    };
    let series = [Series::dotted("share that is true", points), ideal];
    let caption = format!(
        "Pairs of {split} by score: expected calibration error {:.4}, Brier score {:.4}.",
        result.calibration.expected_calibration_error, result.calibration.brier
    );
    let axis = json!({"range": [0, 1.02]});
    lines("calibration", "Calibration", caption, ("mean score", "share that is true"), axis, &series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_the_plotting_library() {
        let library = library().expect("embedded");
        assert!(library.len() > 1_000_000 && library[..400].contains("plotly.js"));
        assert!(!library.contains("</script"));
    }

    #[test]
    fn no_name_leaves_its_script_element() {
        let name = "</script><script>alert(1)</script>";
        let spec = spec(&[Series::line(name, vec![(0.0, 1.0)]).trace()], &json!({}));
        assert!(!spec.contains('<') && !spec.contains('>'), "{spec}");
    }
}

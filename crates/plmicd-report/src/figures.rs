//! The figures as specifications for Plotly, each with its numbers as a table for those who cannot see it.

use plmicd_data::{CodeResult, DecisionRule, FrequencyBin, SplitEvaluation, Thresholds, TrainingHistory};
use plmicd_pipeline::StageError;
use serde::Serialize;
use serde_json::{Value, json};

use crate::codes::shown_pairs;
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

/// All figures that the inputs allow; `split` is the last one evaluated, by its name; `told` are the codes of which the page
/// tells how many notes have them.
pub(crate) fn figures(
    sources: &Sources,
    split: Option<(&str, &SplitEvaluation)>,
    told: &[&CodeResult],
) -> Vec<Figure> {
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
        figures.extend(frequency(title, result, privacy, &sources.per_code, told));
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

    /// A line to compare with, which has no numbers of its own.
    fn guide(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { dash: "dot", ..Self::line(name, points) }
    }

    fn is_guide(&self) -> bool {
        self.dash == "dot"
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

/// A figure of lines, with a table of chosen points. `own` are settings of the axes, x and y.
fn lines(
    id: &'static str,
    title: &str,
    caption: String,
    axes: (&str, &str),
    own: [Value; 2],
    series: &[Series],
) -> Option<Figure> {
    let longest = series.iter().max_by_key(|series| series.points.len()).filter(|s| !s.points.is_empty())?;
    let mut layout = json!({"xaxis": {"title": {"text": axes.0}}, "yaxis": {"title": {"text": axes.1}}});
    for (axis, own) in ["xaxis", "yaxis"].into_iter().zip(own) {
        if let (Some(axis), Value::Object(own)) = (layout[axis].as_object_mut(), own) {
            axis.extend(own);
        }
    }
    if axes.0 == "epoch" {
        // Whole epochs only, about ten of them.
        layout["xaxis"]["dtick"] = json!(longest.points.len().div_ceil(10));
    }
    let data: Vec<Value> = series.iter().map(Series::trace).collect();
    Some(Figure {
        id,
        title: title.to_owned(),
        caption,
        spec: spec(&data, &layout),
        table: table_of(format!("{title}: points by {}", axes.0), series),
    })
}

/// The numbers of a figure of lines: every point of short series, of long ones evenly chosen points.
fn table_of(caption: String, series: &[Series]) -> Table {
    let series: Vec<&Series> = series.iter().filter(|series| !series.is_guide()).collect();
    let chosen = |series: &&Series| -> Vec<f64> {
        let count = series.points.len();
        let step = count.div_ceil(TABLE_ROWS).max(1);
        let at = (0..count).filter(|at| at % step == 0 || at + 1 == count);
        at.map(|at| series.points[at].0).collect()
    };
    // Long series share their points as a rule: those of the longest stand for all of them.
    let longest = series.iter().max_by_key(|series| series.points.len());
    let short = series.iter().filter(|series| series.points.len() <= TABLE_ROWS);
    let mut places: Vec<f64> = longest.into_iter().chain(short).flat_map(chosen).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let row = |x: f64| {
        let value = |series: &&Series| {
            let point = series.points.iter().find(|point| point.0 == x);
            point.map_or_else(|| "–".to_owned(), |point| number(point.1))
        };
        Row { title: number(x), cells: series.iter().map(value).collect() }
    };
    Table {
        caption,
        columns: series.iter().map(|series| series.name.clone()).collect(),
        rows: places.into_iter().map(row).collect(),
    }
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
    lines("loss", "Loss", caption, ("optimizer step", "loss"), [json!({}), axis], &series)
}

fn learning_rate(training: &TrainingHistory) -> Option<Figure> {
    let points = training.steps.iter().map(|record| (record.step as f64, record.learning_rate)).collect();
    let series = [Series::line("learning rate", points)];
    let axis = json!({"rangemode": "tozero", "exponentformat": "power"});
    let rates = || training.steps.iter().map(|record| record.learning_rate);
    let (lowest, highest) = (rates().reduce(f64::min)?, rates().reduce(f64::max)?);
    let caption = if lowest == highest {
        format!("The same at every step: {}.", number(highest))
    } else {
        format!("By optimizer step; the highest is {}.", number(highest))
    };
    let axes = ("optimizer step", "learning rate");
    lines("learning-rate", "Learning rate", caption, axes, [json!({}), axis], &series)
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
    lines("dev-metrics", "Dev metrics", caption, ("epoch", "dev value"), [json!({}), axis], &series)
}

fn threshold(thresholds: &Thresholds) -> Option<Figure> {
    let part = match thresholds.rule {
        // No threshold decides anything.
        DecisionRule::TopK | DecisionRule::ExpectedCount => return None,
        DecisionRule::Global => "",
        DecisionRule::PerCode => {
            " This is the common part alone: thresholds of single codes are drawn towards it."
        }
        DecisionRule::UnseenApart => {
            " This is the part of the codes with training notes alone: those without have a threshold of their own."
        }
    };
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
    let caption = format!("Threshold {:.4}. {why}{stable}{part}", thresholds.threshold);
    let axis = json!({"rangemode": "tozero"});
    let axes = ("decision threshold", "dev F1");
    lines("threshold", "Choice of the threshold", caption, axes, [json!({}), axis], &series)
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
    // Both from 0 to 1: how far the curve reaches is what it tells.
    let axis = || json!({"range": [0, 1.02]});
    let title = "Precision over recall";
    lines("precision-recall", title, caption, ("recall", "precision"), [axis(), axis()], &series)
}

/// F1 of codes by how often training saw them, as bars.
fn frequency(
    split: &str,
    result: &SplitEvaluation,
    privacy: Privacy,
    rows: &[CodeResult],
    told: &[&CodeResult],
) -> Option<Figure> {
    let bins = &result.frequency_bins;
    let totals: Vec<u64> = bins.iter().map(|bin| bin.positives).collect();
    let of = |row: &CodeResult| {
        let count = row.train_count?;
        bins.iter().position(|bin| count >= bin.at_least && bin.at_most.is_none_or(|most| count <= most))
    };
    let shows_pairs = shown_pairs(privacy, rows, told, &totals, of);
    let shown: Vec<(&FrequencyBin, bool)> = bins
        .iter()
        .zip(shows_pairs)
        .filter(|(bin, _)| bin.labels_present > 0 && privacy.shows(bin.positives))
        .collect();
    if shown.is_empty() {
        return None;
    }
    let names: Vec<String> = shown.iter().map(|(bin, _)| bin.name()).collect();
    let bars = |title: &str, metric: &str| {
        let value = |bin: &FrequencyBin| privacy.f1(bin.metrics.get(metric).copied().unwrap_or(0.0));
        let values: Vec<f64> = shown.iter().map(|(bin, _)| value(bin)).collect();
        json!({"type": "bar", "name": title, "x": names, "y": values})
    };
    let data = [bars("Micro F1", "micro_f1"), bars("Macro F1, codes present", "macro_f1_present_labels")];
    let layout = json!({
        "barmode": "group", "xaxis": {"title": {"text": "train notes of the code"}, "type": "category"},
        "yaxis": {"title": {"text": "F1"}, "range": [0, 1]},
    });
    let cell = |bin: &FrequencyBin, metric: &str| {
        bin.metrics.get(metric).map_or_else(|| "–".to_owned(), |value| privacy.f1_text(*value, 4))
    };
    let rows = shown.iter().map(|(bin, shows_pairs)| Row {
        title: bin.name(),
        cells: vec![
            thousands(bin.labels),
            thousands(bin.labels_present),
            if *shows_pairs { thousands(bin.positives) } else { "–".to_owned() },
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
    let ideal = Series::guide("ideal", vec![(0.0, 0.0), (1.0, 1.0)]);
    let series = [Series::dotted("share that is true", points), ideal];
    let caption = format!(
        "Pairs of {split} by score: expected calibration error {:.4}, Brier score {:.4}.",
        result.calibration.expected_calibration_error, result.calibration.brier
    );
    let axis = json!({"range": [0, 1.02]});
    let axes = ("mean score", "share that is true");
    lines("calibration", "Calibration", caption, axes, [json!({}), axis], &series)
}

#[cfg(test)]
mod tests {
    use plmicd_data::{CurvePoint, PrecisionRecallPoint, StepRecord};

    use super::*;

    #[test]
    fn the_library_is_the_plotting_library() {
        let library = library().expect("embedded");
        assert!(library.len() > 1_000_000 && library[..400].contains("plotly.js"));
        assert!(!library.contains("</script"));
    }

    fn thresholds(rule: DecisionRule) -> Thresholds {
        let point = |threshold| CurvePoint { threshold, micro_f1: 0.5, macro_f1: None };
        let curve = vec![point(0.2), point(0.4)];
        Thresholds { rule, threshold: 0.4, objective: "micro_f1".to_owned(), curve, ..Thresholds::default() }
    }

    #[test]
    fn a_threshold_that_decides_nothing_has_no_figure() {
        let figure = |rule| threshold(&thresholds(rule));
        assert!(figure(DecisionRule::TopK).is_none() && figure(DecisionRule::ExpectedCount).is_none());
        let caption = |rule| figure(rule).unwrap().caption;
        assert!(!caption(DecisionRule::Global).contains("part"));
        assert!(caption(DecisionRule::PerCode).contains("the common part alone"));
        assert!(caption(DecisionRule::UnseenApart).contains("codes with training notes alone"));
    }

    #[test]
    fn the_table_holds_every_point_of_short_series() {
        let long: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), 1.0)).collect();
        let short = vec![(33.5, 0.5), (98.0, 0.25)];
        let series = [
            Series::line("long", long),
            Series::mark("chosen", (33.5, 0.5)),
            Series::dotted("short", short),
            Series::guide("ideal", vec![(0.0, 0.0), (1.0, 1.0)]),
        ];
        let table = table_of(String::new(), &series);
        assert_eq!(table.columns, ["long", "chosen", "short"]);
        let rows = |title: &str| &table.rows.iter().find(|row| row.title == title).unwrap().cells;
        assert_eq!(rows("33.5000")[..], ["–", "0.5000", "0.5000"]);
        assert_eq!(rows("98")[..], ["1", "–", "0.2500"]);
        assert_eq!(
            table.rows.len(),
            14,
            "12 evenly chosen, one of them the last of all, and the two of the others"
        );
        assert!(table.rows.iter().any(|row| row.title == "99"));
    }

    #[test]
    fn the_caption_of_the_learning_rate_says_what_is_drawn() {
        let with = |rates: &[f64]| {
            let step =
                |(at, rate): (usize, &f64)| StepRecord { step: at as u64, loss: 1.0, learning_rate: *rate };
            let steps = rates.iter().enumerate().map(step).collect();
            learning_rate(&TrainingHistory { steps, ..history() }).map(|figure| figure.caption)
        };
        assert_eq!(with(&[5e-5, 5e-5]).unwrap(), "The same at every step: 5.00e-5.");
        assert_eq!(with(&[0.0, 5e-5, 1e-5]).unwrap(), "By optimizer step; the highest is 5.00e-5.");
        assert_eq!(with(&[]), None);
    }

    fn history() -> TrainingHistory {
        TrainingHistory {
            seed: 1,
            precision: None,
            epochs: Vec::new(),
            midway: Vec::new(),
            steps: Vec::new(),
            best_epoch: 1,
            stopped_early: false,
            total_steps: 3,
            parameters: 1,
        }
    }

    #[test]
    fn bins_of_restricted_data_have_rounded_values_and_no_telling_pairs() {
        let bin = |at_least, at_most, positives| FrequencyBin {
            at_least,
            at_most,
            labels: 3,
            labels_present: 3,
            positives,
            metrics: [("micro_f1".to_owned(), 0.123_456)].into(),
        };
        let result = SplitEvaluation {
            frequency_bins: vec![bin(1, Some(50), 49), bin(51, Some(100), 50), bin(101, None, 99)],
            ..SplitEvaluation::default()
        };
        let code = |positives: u64, train| CodeResult {
            code: positives.to_string(),
            system: plmicd_data::CodeSystem::Icd9Diagnosis,
            description: String::new(),
            train_count: Some(train),
            positives,
            predicted: 1,
            true_positives: 1,
            precision: 0.0,
            recall: 0.0,
            f1: 0.0,
            auc: None,
            average_precision: None,
        };
        let rows = [code(40, 20), code(9, 20), code(50, 60), code(99, 300)];
        let cells = |restricted| -> Vec<String> {
            let figure =
                frequency("test", &result, Privacy { restricted }, &rows, &[&rows[0], &rows[2]]).unwrap();
            assert_eq!(figure.spec.contains("0.123456"), !restricted);
            figure.table.rows.iter().map(|row| format!("{} {}", row.cells[2], row.cells[3])).collect()
        };
        assert_eq!(cells(false), ["49 0.1235", "50 0.1235", "99 0.1235"]);
        // 49 without the 40 told are 9, and so they would be of all pairs without the other bins'.
        assert_eq!(cells(true), ["– 0.12", "50 0.12", "– 0.12"]);
    }

    #[test]
    fn precision_over_recall_is_drawn_over_all_of_it() {
        let point = |recall| PrecisionRecallPoint { score: 0.5, precision: 0.9, recall };
        let result =
            SplitEvaluation { precision_recall: vec![point(0.3), point(0.4)], ..SplitEvaluation::default() };
        let figure = precision_recall("test", &result, 1000, Privacy { restricted: false }).unwrap();
        let spec: Value = serde_json::from_str(&figure.spec).unwrap();
        assert_eq!(spec["layout"]["xaxis"]["range"], json!([0, 1.02]));
    }

    #[test]
    fn no_name_leaves_its_script_element() {
        let name = "</script><script>alert(1)</script>";
        let spec = spec(&[Series::line(name, vec![(0.0, 1.0)]).trace()], &json!({}));
        assert!(!spec.contains('<') && !spec.contains('>'), "{spec}");
    }
}

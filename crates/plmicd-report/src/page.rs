//! The HTML page. Everything the template inserts is escaped, but for the style sheet, the scripts and the figures'
//! specifications, which are made here (the specifications escape their own text).

use std::collections::BTreeMap;

use minijinja::{Environment, Value, context};
use plmicd_data::SplitEvaluation;
use plmicd_pipeline::StageError;

use crate::code_figure;
use crate::codes::{self, Codes};
use crate::config::ReportConfig;
use crate::data_set::{self, Row, Table};
use crate::figures::{Figure, figures, library};
use crate::headline::{Headline, show, shows_metric, split_title};
use crate::privacy::thousands;
use crate::published;
use crate::results;
use crate::sources::Sources;

/// The templates. The names decide the escaping: `.html` escapes.
const TEMPLATES: [(&str, &str); 5] = [
    ("report.html", include_str!("../templates/report.html")),
    ("sweep.html", include_str!("../templates/sweep.html")),
    ("parts.html", include_str!("../templates/parts.html")),
    ("head.html", include_str!("../templates/head.html")),
    ("foot.html", include_str!("../templates/foot.html")),
];

/// Fills a template with what it shows, style, library and script added.
pub(crate) fn fill(template: &str, shown: Value) -> Result<String, StageError> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).map_err(broken)?;
    }
    let own = context! {
        style => Value::from_safe_string(include_str!("../templates/style.css").to_owned()),
        library => Value::from_safe_string(library()?.to_owned()),
        script => Value::from_safe_string(include_str!("../templates/figures.js").to_owned()),
    };
    let template = environment.get_template(template).map_err(broken)?;
    template.render(context! { ..shown, ..own }).map_err(broken)
}

/// A figure as the templates take it.
pub(crate) fn figure(figure: Figure) -> Value {
    context! {
        id => figure.id, title => figure.title, caption => figure.caption, table => figure.table,
        spec => Value::from_safe_string(figure.spec),
    }
}

/// Makes the page.
pub(crate) fn render(
    config: &ReportConfig,
    sources: &Sources,
    headline: &Headline,
) -> Result<String, StageError> {
    let last = sources.evaluation.splits.last_key_value();
    let named = last.map(|(split, result)| (split.as_str(), result));
    let told = codes::told(config, sources.privacy, &sources.per_code);
    let figures = figures(sources, named, &told);
    let figures: Vec<Value> = figures.into_iter().map(figure).collect();
    let code_figure = last.and_then(|(split, _)| {
        code_figure::figure(config, split.as_str(), sources.privacy, &sources.per_code)
    });
    let published = config.published.as_deref().and_then(published::find).map(|row| {
        context! { title => row.title, source => row.source, table => published::table(row, headline) }
    });
    let data_set = data_set::tables(sources.privacy, sources.corpus.as_ref(), sources.tokens.as_ref());
    let chapters = named.and_then(|(split, result)| {
        codes::chapters(split, result, sources.privacy, &sources.per_code, &told)
    });
    let mut contents = vec![("results", "Results"), ("curves", "Curves"), ("codes", "Codes")];
    if !data_set.is_empty() {
        contents.push(("data", "Data set"));
    }
    contents.push(("inputs", "Made from"));
    fill(
        "report.html",
        context! {
            title => headline.title,
            restricted => sources.privacy.restricted,
            facts => results::facts(sources),
            contents,
            split => last.map(|(split, _)| split_title(*split)),
            tiles => results::tiles(headline),
            metrics => results::metrics(headline),
            all_metrics => results::all_metrics(headline),
            at_half => at_half(sources),
            baseline => sources.evaluation.baseline,
            figures,
            published,
            parts => last.map_or_else(Vec::new, |(_, result)| parts(result)),
            ties => results::has_ties(headline),
            resamples => thousands(sources.evaluation.resamples),
            data_set,
            codes => Codes::of(config, sources.privacy, &sources.per_code),
            code_figure => code_figure.map(figure),
            chapters,
            training => training(sources),
            inputs => sources.inputs,
        },
    )
}

/// The last split by kind of code and by level.
fn parts(result: &SplitEvaluation) -> Vec<Table> {
    let names = [
        "micro_f1",
        "micro_precision",
        "micro_recall",
        "macro_f1_caml",
        "macro_f1_all_labels",
        "macro_f1_present_labels",
    ];
    let table = |caption: &str, parts: &BTreeMap<String, BTreeMap<String, f64>>| Table {
        caption: caption.to_owned(),
        columns: parts.keys().map(|name| name.replace('_', " ")).collect(),
        rows: names
            .iter()
            .map(|name| Row {
                title: crate::headline::metric_title(name),
                cells: parts.values().map(|part| show(name, part.get(*name).copied())).collect(),
            })
            .collect(),
    };
    let has = |level: &str| result.levels.contains_key(level);
    let levels = match (has("category"), has("chapter")) {
        (true, false) => "At the level of categories",
        (false, true) => "At the level of chapters",
        _ => "At the level of categories and chapters",
    };
    let tables = [("Diagnoses and procedures", &result.systems), (levels, &result.levels)];
    let tables = tables.into_iter().filter(|(_, parts)| !parts.is_empty());
    tables.map(|(caption, parts)| table(caption, parts)).collect()
}

/// The metrics that depend on the threshold, at 0.5.
fn at_half(sources: &Sources) -> Table {
    let names = ["micro_f1", "micro_precision", "micro_recall", "macro_f1_caml", "macro_f1_all_labels"];
    let splits = &sources.evaluation.splits;
    let cell = |name: &str, result: &SplitEvaluation| {
        let metrics = &result.metrics_at_half;
        let shown = shows_metric(sources.privacy, name, metrics, result);
        show(name, metrics.get(name).copied().filter(|_| shown))
    };
    let row = |name: &&str| Row {
        title: crate::headline::metric_title(name),
        cells: splits.values().map(|result| cell(name, result)).collect(),
    };
    Table {
        caption: "At a threshold of 0.5".to_owned(),
        columns: splits.keys().map(|split| split_title(*split).to_owned()).collect(),
        rows: names.iter().map(row).collect(),
    }
}

/// Facts of the training run.
fn training(sources: &Sources) -> Option<Table> {
    let training = sources.training.as_ref()?;
    let ended = if training.stopped_early { " (stopped early)" } else { "" };
    let facts = [
        ("Trained parameters", thousands(training.parameters)),
        ("Epochs", format!("{}{ended}", training.epochs.len())),
        ("Epoch kept", training.best_epoch.to_string()),
        ("Optimizer steps", thousands(training.total_steps)),
        ("Seed", training.seed.to_string()),
    ];
    let rows = facts.map(|(title, cell)| Row { title: title.to_owned(), cells: vec![cell] });
    Some(Table { caption: "Training".to_owned(), columns: vec!["Value".to_owned()], rows: rows.into() })
}

fn broken(error: minijinja::Error) -> StageError {
    StageError::because("rendering the report", error)
}

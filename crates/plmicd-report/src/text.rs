//! The metrics table as Markdown, CSV, LaTeX and plain text.

use plmicd_data::DecisionRule;

use crate::headline::{Headline, HeadlineRow};
use crate::results::rule;

/// A Markdown table.
pub(crate) fn markdown(headline: &Headline) -> String {
    let titles: Vec<String> = headline.columns.iter().map(|column| markdown_cell(&column.title)).collect();
    let mut text = format!("# {}\n\n", markdown_cell(&headline.title));
    text.push_str(&format!("{}\n\n", decision(headline)));
    text.push_str(&format!("| Metric | {} |\n|---|{}\n", titles.join(" | "), "---:|".repeat(titles.len())));
    for row in &headline.rows {
        text.push_str(&format!("| {} | {} |\n", markdown_cell(&row.title), values(row).join(" | ")));
    }
    if headline.rows.iter().any(has_ties) {
        text.push_str(&format!("\n{TIES}\n"));
    }
    text
}

/// What two numbers in a cell mean.
const TIES: &str = "Two values: the lowest and the highest that the order of equal scores allows.";

fn has_ties(row: &HeadlineRow) -> bool {
    row.tie_bounds.iter().any(Option::is_some)
}

/// How scores became decisions, as a sentence.
fn decision(headline: &Headline) -> String {
    let threshold = format!("{} ({})", headline.threshold, markdown_cell(&headline.objective));
    match headline.rule {
        DecisionRule::Global => format!("Decision threshold: {threshold}."),
        DecisionRule::PerCode => {
            format!("Decision thresholds: one for each code, drawn towards {threshold}.")
        }
        DecisionRule::UnseenApart => {
            format!("Decision threshold: {threshold}; another one for codes without training notes.")
        }
        DecisionRule::TopK | DecisionRule::ExpectedCount => {
            format!("Predicted: {}.", rule(headline.rule, headline.k))
        }
    }
}

/// A table of aligned columns.
pub(crate) fn plain(headline: &Headline) -> String {
    let mut lines = vec![vec!["metric".to_owned()]];
    lines[0].extend(headline.columns.iter().map(|column| column.title.to_lowercase()));
    for row in &headline.rows {
        lines.push([vec![row.title.clone()], values(row)].concat());
    }
    let mut text = aligned(&lines);
    if headline.rows.iter().any(has_ties) {
        text.push_str(&format!("{TIES}\n"));
    }
    text
}

/// Lines of cells as columns: the first to the left, the others to the right.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut out = format!("{:<width$}", line[0], width = widths[0]);
        for (value, width) in line.iter().zip(&widths).skip(1) {
            out.push_str(&format!("  {value:>width$}"));
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

/// Comma-separated: a line a metric, with the bounds of its interval and those that ties set it where they decide it; full
/// precision, empty where undefined.
pub(crate) fn csv(headline: &Headline) -> String {
    let mut text = "metric".to_owned();
    for column in &headline.columns {
        let name = format!("{} {}", column.split, column.of).replace(' ', "_");
        text.push_str(&format!(",{name},{name}_low,{name}_high,{name}_ties_low,{name}_ties_high"));
    }
    text.push('\n');
    for row in &headline.all_rows {
        text.push_str(&row.name);
        for ((value, interval), ties) in row.values.iter().zip(&row.intervals).zip(&row.tie_bounds) {
            let ends = |bounds: &Option<[f64; 2]>| [0, 1].map(|end| bounds.map(|bounds| bounds[end]));
            for value in std::iter::once(*value).chain(ends(interval)).chain(ends(ties)) {
                text.push(',');
                text.push_str(&value.map_or_else(String::new, |value| value.to_string()));
            }
        }
        text.push('\n');
    }
    text
}

/// A `tabular` for a paper: percentages with one decimal, as the field prints them.
pub(crate) fn latex(headline: &Headline) -> String {
    let columns: Vec<String> = headline.columns.iter().map(|column| latex_cell(&column.title)).collect();
    let mut text = format!("% {}\n", latex_cell(&headline.title));
    text.push_str(&format!("\\begin{{tabular}}{{l{}}}\n\\hline\n", "r".repeat(columns.len())));
    text.push_str(&format!("Metric (\\%) & {} \\\\\n\\hline\n", columns.join(" & ")));
    for row in &headline.rows {
        let value = |value: &Option<f64>| match value {
            Some(value) if row.name.ends_with("_labels") && *value >= 2.0 => format!("{value:.0}"),
            Some(value) => format!("{:.1}", 100.0 * value),
            None => "--".to_owned(),
        };
        let cell = |(value_of, ties): (&Option<f64>, &Option<[f64; 2]>)| match ties {
            Some([low, high]) => format!("{}--{}", value(&Some(*low)), value(&Some(*high))),
            None => value(value_of),
        };
        let cells: Vec<String> = row.values.iter().zip(&row.tie_bounds).map(cell).collect();
        text.push_str(&format!("{} & {} \\\\\n", latex_cell(&row.title), cells.join(" & ")));
    }
    text.push_str("\\hline\n\\end{tabular}\n");
    if headline.rows.iter().any(has_ties) {
        text.push_str(&format!("% {}\n", latex_cell(TIES)));
    }
    text
}

/// Text that LaTeX prints as it is.
pub(crate) fn latex_cell(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', letter]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '\n' | '\r' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

fn values(row: &HeadlineRow) -> Vec<String> {
    (0..row.values.len()).map(|at| row.shown(at)).collect()
}

/// Text that cannot break out of a table cell or become markup.
pub(crate) fn markdown_cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' => out.extend(['\\', letter]),
            other => out.push(other),
        }
    }
    out
}

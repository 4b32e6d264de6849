//! The metrics table as Markdown and as plain text.

use crate::headline::{Headline, HeadlineRow, show};

/// A Markdown table.
pub(crate) fn markdown(headline: &Headline) -> String {
    let titles: Vec<String> = headline.columns.iter().map(|column| cell(&column.title)).collect();
    let mut text = format!("# {}\n\n", cell(&headline.title));
    text.push_str(&format!(
        "Decision threshold: {} ({}).\n\n",
        headline.threshold,
        cell(&headline.objective)
    ));
    text.push_str(&format!("| Metric | {} |\n|---|{}\n", titles.join(" | "), "---:|".repeat(titles.len())));
    for row in &headline.rows {
        text.push_str(&format!("| {} | {} |\n", cell(&row.title), values(row).join(" | ")));
    }
    text
}

/// A table of aligned columns.
pub(crate) fn plain(headline: &Headline) -> String {
    let mut lines = vec![vec!["metric".to_owned()]];
    lines[0].extend(headline.columns.iter().map(|column| column.title.to_lowercase()));
    for row in &headline.rows {
        lines.push([vec![row.title.clone()], values(row)].concat());
    }
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut out = format!("{:<width$}", line[0], width = widths[0]);
        for (value, width) in line.iter().zip(&widths).skip(1) {
            out.push_str(&format!("  {value:>width$}"));
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

fn values(row: &HeadlineRow) -> Vec<String> {
    row.values.iter().map(|value| show(&row.name, *value)).collect()
}

/// Text that cannot break out of a table cell or become markup.
fn cell(text: &str) -> String {
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

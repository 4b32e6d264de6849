//! Every code as a point: how good it is over how often training saw it.

use plmicd_data::CodeResult;
use serde_json::json;

use crate::config::ReportConfig;
use crate::data_set::{Row, Table};
use crate::figures::{Figure, escaped, spec};
use crate::privacy::Privacy;

/// Points drawn, at most: the most frequent codes.
const MOST: usize = 4000;
/// Letters a line of what a point says, at most.
const WIDTH: usize = 60;

/// The codes with enough notes to be listed; nothing with fewer than two of them.
pub(crate) fn figure(
    config: &ReportConfig,
    split: &str,
    privacy: Privacy,
    rows: &[CodeResult],
) -> Option<Figure> {
    let least = privacy.min_positives(config.min_positives);
    let with_train = rows.iter().all(|row| row.train_count.is_some());
    let count = |row: &CodeResult| row.train_count.filter(|_| with_train).unwrap_or(row.positives);
    // A logarithmic axis has no place for 0.
    let shown = |row: &&CodeResult| row.positives >= least && count(row) > 0 && privacy.shows(count(row));
    let mut codes: Vec<&CodeResult> = rows.iter().filter(shown).collect();
    if codes.len() < 2 {
        return None;
    }
    codes.sort_by(|a, b| count(b).cmp(&count(a)).then(a.code.cmp(&b.code)));
    // Of all of them, whatever is drawn.
    let table = bands(&codes);
    let left_out = codes.len().saturating_sub(MOST);
    codes.truncate(MOST);
    let of = if with_train { "train" } else { split };
    let f1 = |row: &&CodeResult| (1000.0 * privacy.f1(row.f1)).round() / 1000.0;
    let text = |row: &&CodeResult| {
        let description = wrapped(&row.description);
        let colon = if description.is_empty() { "" } else { "<br>" };
        format!("<b>{}</b>{colon}{description}", escaped(&row.code))
    };
    let points = json!({
        "type": "scatter", "mode": "markers", "name": "codes",
        "x": codes.iter().map(|row| count(row)).collect::<Vec<_>>(), "y": codes.iter().map(f1).collect::<Vec<_>>(),
        "text": codes.iter().map(text).collect::<Vec<_>>(), "marker": {"size": 8, "opacity": 0.65},
        "hovertemplate": format!("%{{text}}<br>F1 %{{y}}, %{{x:,}} {} notes<extra></extra>", escaped(of)),
    });
    let layout = json!({
        "xaxis": {"title": {"text": format!("{of} notes of the code")}, "type": "log", "dtick": "D2", "tickformat": ","},
        "yaxis": {"title": {"text": "F1"}, "range": [-0.04, 1.04]}, "showlegend": false,
    });
    let more = match left_out {
        0 => String::new(),
        n => format!(" The {n} rarest are not drawn."),
    };
    Some(Figure {
        id: "code-f1",
        title: "F1 of each code".to_owned(),
        caption: format!(
            "Codes that at least {least} notes of {split} have; point at one to see which it is.{more}"
        ),
        spec: spec(&[points], &layout),
        table,
    })
}

/// How many of these codes lie in each quarter of F1.
fn bands(codes: &[&CodeResult]) -> Table {
    const BANDS: [(&str, f64); 5] = [
        ("0", 0.0),
        ("above 0 to 0.25", 0.25),
        ("above 0.25 to 0.5", 0.5),
        ("above 0.5 to 0.75", 0.75),
        ("above 0.75", 1.0),
    ];
    let mut lower = f64::NEG_INFINITY;
    let rows = BANDS.iter().map(|(title, upper)| {
        let inside = codes.iter().filter(|row| row.f1 > lower && row.f1 <= *upper).count();
        lower = *upper;
        let share = 100.0 * inside as f64 / codes.len() as f64;
        Row { title: (*title).to_owned(), cells: vec![inside.to_string(), format!("{share:.1} %")] }
    });
    Table {
        caption: "Codes by F1".to_owned(),
        columns: vec!["Codes".to_owned(), "Share".to_owned()],
        rows: rows.collect(),
    }
}

/// Escaped text with line breaks between words.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("<br>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use plmicd_data::CodeSystem;

    fn code(name: &str, train: u64, positives: u64, f1: f64) -> CodeResult {
        CodeResult {
            code: name.to_owned(),
            system: CodeSystem::Icd9Diagnosis,
            description: "a <b> & c".to_owned(),
            train_count: Some(train),
            positives,
            predicted: 1,
            true_positives: 1,
            precision: f1,
            recall: f1,
            f1,
            auc: None,
            average_precision: None,
        }
    }

    #[test]
    fn restricted_data_show_frequent_codes_and_rounded_values_only() {
        let rows = [
            code("A", 500, 40, 0.123_456),
            code("B", 12, 12, 0.5),
            code("C", 9, 30, 0.9),
            code("D", 40, 9, 0.9),
        ];
        let config = ReportConfig { min_positives: 1, ..ReportConfig::default() };
        let names = |figure: &Figure| -> Vec<char> {
            "ABCD"
                .chars()
                .filter(|name| figure.spec.contains(&format!("u003cb\\u003e{name}\\u003c")))
                .collect()
        };
        let open = figure(&config, "test", Privacy { restricted: false }, &rows).unwrap();
        assert!(names(&open).len() == 4 && open.spec.contains("0.123") && !open.spec.contains("0.1234"));
        assert!(
            open.spec.contains("a &lt;b&gt; &amp; c") || open.spec.contains("&lt;b&gt;"),
            "{}",
            open.spec
        );
        let closed = figure(&config, "test", Privacy { restricted: true }, &rows).unwrap();
        assert_eq!(names(&closed), ['A', 'B']);
        assert!(closed.spec.contains("0.12") && !closed.spec.contains("0.123"));
        assert!(figure(&config, "test", Privacy { restricted: true }, &rows[2..]).is_none());
    }

    #[test]
    fn every_code_is_in_one_band() {
        let rows: Vec<CodeResult> =
            [0.0, 0.25, 0.251, 0.5, 0.75, 1.0].iter().map(|f1| code("A", 10, 10, *f1)).collect();
        let table = bands(&rows.iter().collect::<Vec<_>>());
        let counts: Vec<&str> = table.rows.iter().map(|row| row.cells[0].as_str()).collect();
        assert_eq!(counts, ["1", "1", "2", "1", "1"]);
    }

    #[test]
    fn the_table_is_of_all_codes_and_the_figure_of_the_most_frequent() {
        let rows: Vec<CodeResult> = (0..MOST as u64 + 500)
            .map(|at| code(&at.to_string(), 10 + at, 10, if at < 500 { 0.0 } else { 0.6 }))
            .collect();
        let figure = figure(&ReportConfig::default(), "test", Privacy { restricted: false }, &rows).unwrap();
        assert!(figure.caption.contains("The 500 rarest are not drawn"), "{}", figure.caption);
        let counts: Vec<&str> = figure.table.rows.iter().map(|row| row.cells[0].as_str()).collect();
        assert_eq!(counts, ["500", "0", "0", "4000", "0"]);
    }

    #[test]
    fn long_descriptions_are_wrapped() {
        let text = "word ".repeat(30);
        let longest = wrapped(&text).split("<br>").map(str::len).max();
        assert!(longest.is_some_and(|length| length <= WIDTH));
    }
}

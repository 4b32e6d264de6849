//! Tables of the data set: notes, words, codes, tokens of each split, and what was left out.

use std::collections::BTreeSet;

use plmicd_data::{CorpusStats, Exclusion, Split, SplitStats, Summary, TokenSplitStats, TokenStats};
use serde::Serialize;

use crate::headline::split_title;
use crate::privacy::{Privacy, thousands};

/// A table with a heading column.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub caption: String,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

/// A row of a [`Table`].
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub title: String,
    pub cells: Vec<String>,
}

/// All tables that the inputs allow.
pub(crate) fn tables(
    privacy: Privacy,
    corpus: Option<&CorpusStats>,
    tokens: Option<&TokenStats>,
) -> Vec<Table> {
    let mut tables = Vec::new();
    if let Some(corpus) = corpus {
        tables.push(notes(privacy, corpus));
        if !corpus.labels_by_system.is_empty() {
            tables.push(labels(corpus));
        }
        if !corpus.exclusions.is_empty() {
            tables.push(exclusions(privacy, corpus));
        }
    }
    tables.extend(tokens.map(|tokens| token_table(privacy, tokens)));
    tables
}

fn notes(privacy: Privacy, corpus: &CorpusStats) -> Table {
    let splits: Vec<_> = corpus.splits.iter().collect();
    let row = |title: &str, cell: &dyn Fn(&SplitStats) -> String| Row {
        title: title.to_owned(),
        cells: splits.iter().map(|(_, stats)| cell(stats)).collect(),
    };
    let mut rows = vec![
        row("Notes", &|stats| privacy.count(stats.notes)),
        row("Patients", &|stats| privacy.count(stats.subjects)),
        row("Codes that occur", &|stats| thousands(stats.labels_present)),
        row("of these also in train", &|stats| thousands(stats.labels_seen_in_train)),
    ];
    rows.extend(spread(
        "Words per note",
        privacy,
        splits.iter().map(|(_, stats)| (stats.notes, stats.words)),
    ));
    rows.extend(spread(
        "Codes per note",
        privacy,
        splits.iter().map(|(_, stats)| (stats.notes, stats.codes)),
    ));
    Table { caption: "Notes".to_owned(), columns: split_titles(corpus.splits.keys()), rows }
}

fn token_table(privacy: Privacy, tokens: &TokenStats) -> Table {
    let splits: Vec<_> = tokens.splits.values().collect();
    let mut rows = vec![Row {
        title: "Notes".to_owned(),
        cells: splits.iter().map(|stats| privacy.count(stats.notes)).collect(),
    }];
    rows.extend(spread("Tokens per note", privacy, splits.iter().map(|stats| (stats.notes, stats.tokens))));
    rows.push(Row {
        title: "Tokens per word".to_owned(),
        cells: splits.iter().map(|stats| format!("{:.2}", stats.fragmentation)).collect(),
    });
    rows.extend(beyond(privacy, &splits));
    rows.push(Row {
        title: "Unknown tokens".to_owned(),
        cells: splits.iter().map(|stats| privacy.count(stats.unknown_tokens)).collect(),
    });
    Table {
        caption: format!("Tokens (vocabulary of {})", thousands(tokens.vocab_size)),
        columns: split_titles(tokens.splits.keys()),
        rows,
    }
}

/// Shares of notes longer than the lengths at which models cut.
fn beyond(privacy: Privacy, splits: &[&TokenSplitStats]) -> Vec<Row> {
    let lengths: BTreeSet<u64> = splits.iter().flat_map(|stats| stats.share_beyond.keys().copied()).collect();
    let cell = |stats: &TokenSplitStats, length: u64| match stats.share_beyond.get(&length) {
        // The share of a handful of notes, or of all but these, is their number in another form.
        Some(share) if privacy.shows_part(stats.notes, *share) => {
            format!("{:.1} %", 100.0 * share)
        }
        _ => "–".to_owned(),
    };
    let row = |length| Row {
        title: format!("Notes beyond {} tokens", thousands(length)),
        cells: splits.iter().map(|stats| cell(stats, length)).collect(),
    };
    lengths.into_iter().map(row).collect()
}

/// Median, mean and 95th percentile; the largest too where single notes may be shown. Of each split its number of notes
/// and the summary.
fn spread(what: &str, privacy: Privacy, summaries: impl Iterator<Item = (u64, Summary)>) -> Vec<Row> {
    let summaries: Vec<(u64, Summary)> = summaries.collect();
    let row = |which: &str, cell: &dyn Fn(u64, &Summary) -> String| Row {
        title: format!("{what}, {which}"),
        cells: summaries.iter().map(|(notes, summary)| cell(*notes, summary)).collect(),
    };
    let shown = |notes: u64, share: f64, value: String| {
        if privacy.shows_share(notes, share) { value } else { "–".to_owned() }
    };
    let mut rows = vec![
        row("median", &|notes, summary| shown(notes, 0.5, thousands(summary.median))),
        row("mean", &|notes, summary| shown(notes, 1.0, format!("{:.1}", summary.mean))),
        row("95th percentile", &|notes, summary| shown(notes, 0.05, thousands(summary.p95))),
    ];
    if !privacy.restricted {
        rows.push(row("largest", &|_, summary| thousands(summary.max)));
    }
    rows
}

fn labels(corpus: &CorpusStats) -> Table {
    let mut rows: Vec<Row> = corpus
        .labels_by_system
        .iter()
        .map(|(system, count)| Row { title: system.title().to_owned(), cells: vec![thousands(*count)] })
        .collect();
    rows.push(Row { title: "All".to_owned(), cells: vec![thousands(corpus.labels)] });
    rows.push(Row {
        title: "Without description".to_owned(),
        cells: vec![thousands(corpus.labels_without_description)],
    });
    Table { caption: "Label space".to_owned(), columns: vec!["Codes".to_owned()], rows }
}

fn exclusions(privacy: Privacy, corpus: &CorpusStats) -> Table {
    let row = |exclusion: &Exclusion| Row {
        title: exclusion.reason.clone(),
        cells: vec![privacy.count(exclusion.count), exclusion.unit.clone()],
    };
    Table {
        caption: "Left out".to_owned(),
        columns: vec!["How many".to_owned(), "Of what".to_owned()],
        rows: corpus.exclusions.iter().map(row).collect(),
    }
}

fn split_titles<'a>(splits: impl Iterator<Item = &'a Split>) -> Vec<String> {
    splits.map(|split| split_title(*split).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn shares_of_few_notes_are_hidden_from_either_side() {
        let shares = BTreeMap::from([(128, 0.97), (512, 0.5), (3072, 0.03)]);
        let stats = TokenSplitStats { notes: 200, share_beyond: shares, ..TokenSplitStats::default() };
        let cells = |restricted| -> Vec<String> {
            beyond(Privacy { restricted }, &[&stats]).into_iter().flat_map(|row| row.cells).collect()
        };
        assert_eq!(cells(true), ["–", "50.0 %", "–"]);
        assert_eq!(cells(false), ["97.0 %", "50.0 %", "3.0 %"]);
    }
}

//! The best and the worst codes, and the chapters.

use std::cmp::Reverse;

use plmicd_data::{ChapterPart, CodeResult, SplitEvaluation};
use serde::Serialize;

use crate::config::ReportConfig;
use crate::privacy::{Privacy, thousands};

/// A table of codes or chapters; F1 stands before the columns.
#[derive(Debug, Serialize)]
pub(crate) struct CodeTable {
    pub caption: String,
    /// What a row is.
    pub of: &'static str,
    pub measure: &'static str,
    pub columns: Vec<&'static str>,
    pub rows: Vec<CodeRow>,
}

/// A code or chapter with its cells.
#[derive(Debug, Serialize)]
pub(crate) struct CodeRow {
    pub code: String,
    pub description: String,
    /// F1 with three decimals; the page also draws it.
    pub f1: String,
    pub cells: Vec<String>,
}

/// What is shown of codes.
#[derive(Debug, Serialize)]
pub(crate) struct Codes {
    /// Best and worst; empty where no code has enough notes.
    pub tables: Vec<CodeTable>,
    /// Codes with enough notes.
    pub listed: usize,
    /// Codes in all.
    pub all: usize,
    pub min_positives: u64,
    /// Codes true for at least one note that are never predicted.
    pub never_predicted: usize,
    /// Codes true for at least one note.
    pub present: usize,
}

impl Codes {
    pub fn of(config: &ReportConfig, privacy: Privacy, rows: &[CodeResult]) -> Self {
        let min_positives = privacy.min_positives(config.min_positives);
        let mut listed: Vec<&CodeResult> = rows.iter().filter(|row| row.positives >= min_positives).collect();
        // With few codes, none is among both.
        let shown = config.codes.min(listed.len().div_ceil(2));
        listed.sort_by(|a, b| {
            b.f1.total_cmp(&a.f1).then(b.positives.cmp(&a.positives)).then(a.code.cmp(&b.code))
        });
        let best = listed[..shown].to_vec();
        let mut rest = listed[shown..].to_vec();
        rest.sort_by(|a, b| {
            // A frequent code that is missed weighs more than a rare one.
            a.f1.total_cmp(&b.f1)
                .then(Reverse(a.positives).cmp(&Reverse(b.positives)))
                .then(a.code.cmp(&b.code))
        });
        rest.truncate(shown);
        let tables = [("Best", best), ("Worst", rest)];
        let tables = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
        let present: Vec<_> = rows.iter().filter(|row| row.positives > 0).collect();
        Self {
            tables: tables.map(|(which, rows)| table(which, privacy, &rows)).collect(),
            listed: listed.len(),
            all: rows.len(),
            min_positives,
            never_predicted: present.iter().filter(|row| row.predicted == 0).count(),
            present: present.len(),
        }
    }
}

fn table(which: &str, privacy: Privacy, rows: &[&CodeResult]) -> CodeTable {
    let number = |value: f64| format!("{value:.3}");
    let row = |row: &&CodeResult| {
        let area = row.auc.map_or_else(|| "–".to_owned(), number);
        let train = row.train_count.map_or_else(|| "–".to_owned(), |count| privacy.count(count));
        let mut cells = vec![area];
        // On restricted data, precision and recall would give the number of hits away.
        if !privacy.restricted {
            cells.extend([number(row.precision), number(row.recall), privacy.count(row.predicted)]);
        }
        cells.extend([privacy.count(row.positives), train]);
        CodeRow { code: row.code.clone(), description: row.description.clone(), f1: number(row.f1), cells }
    };
    let mut columns = vec!["AUC"];
    if !privacy.restricted {
        columns.extend(["Precision", "Recall", "Predicted"]);
    }
    columns.extend(["Notes", "Train notes"]);
    CodeTable {
        caption: format!("{which} codes by F1"),
        of: "Code",
        measure: "F1",
        columns,
        rows: rows.iter().map(row).collect(),
    }
}

/// The chapters that occur; nothing where there is none. On restricted data those of few pairs are left out.
pub(crate) fn chapters(split: &str, result: &SplitEvaluation, privacy: Privacy) -> Option<CodeTable> {
    let shown = result.chapters.iter().filter(|part| part.positives > 0 && privacy.shows(part.positives));
    let row = |part: &ChapterPart| {
        let value = |name: &str| part.metrics.get(name).map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"));
        CodeRow {
            code: part.chapter.clone(),
            description: part.title.clone(),
            f1: value("micro_f1"),
            cells: vec![
                value("macro_f1_present_labels"),
                thousands(part.labels_present),
                privacy.count(part.positives),
            ],
        }
    };
    let rows: Vec<CodeRow> = shown.map(row).collect();
    (!rows.is_empty()).then(|| CodeTable {
        caption: format!("Chapters, {split}; macro F1 over codes present"),
        of: "Chapter",
        measure: "Micro F1",
        columns: vec!["Macro F1", "Codes present", "Pairs"],
        rows,
    })
}

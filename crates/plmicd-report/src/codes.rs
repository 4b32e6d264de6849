//! The best and the worst codes, and the chapters.

use std::cmp::Reverse;

use plmicd_data::{ChapterPart, CodeResult, IcdCode, SplitEvaluation};
use serde::Serialize;

use crate::config::ReportConfig;
use crate::privacy::{Privacy, Sum, thousands};

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
    /// F1 with three decimals, on restricted data with two; the page also draws it.
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
        let [best, worst] = best_and_worst(config, privacy, rows);
        let tables = [("Best", best), ("Worst", worst)];
        let tables = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
        let present: Vec<_> = rows.iter().filter(|row| row.positives > 0).collect();
        Self {
            tables: tables.map(|(which, rows)| table(which, privacy, &rows)).collect(),
            listed: rows.iter().filter(|row| row.positives >= min_positives).count(),
            all: rows.len(),
            min_positives,
            never_predicted: present.iter().filter(|row| row.predicted == 0).count(),
            present: present.len(),
        }
    }
}

/// The codes of both tables.
fn best_and_worst<'a>(
    config: &ReportConfig,
    privacy: Privacy,
    rows: &'a [CodeResult],
) -> [Vec<&'a CodeResult>; 2] {
    let min_positives = privacy.min_positives(config.min_positives);
    let mut listed: Vec<&CodeResult> = rows.iter().filter(|row| row.positives >= min_positives).collect();
    // With few codes, none is among both.
    let shown = config.codes.min(listed.len().div_ceil(2));
    listed
        .sort_by(|a, b| b.f1.total_cmp(&a.f1).then(b.positives.cmp(&a.positives)).then(a.code.cmp(&b.code)));
    let mut worst = listed.split_off(shown);
    worst.sort_by(|a, b| {
        // A frequent code that is missed weighs more than a rare one.
        a.f1.total_cmp(&b.f1).then(Reverse(a.positives).cmp(&Reverse(b.positives))).then(a.code.cmp(&b.code))
    });
    worst.truncate(shown);
    [listed, worst]
}

/// The codes of which the page tells how many notes have them: those of the tables; where the counts in train are not known,
/// every code of the figure.
pub(crate) fn told<'a>(
    config: &ReportConfig,
    privacy: Privacy,
    rows: &'a [CodeResult],
) -> Vec<&'a CodeResult> {
    if rows.iter().all(|row| row.train_count.is_some()) {
        return best_and_worst(config, privacy, rows).concat();
    }
    let least = privacy.min_positives(config.min_positives);
    rows.iter().filter(|row| row.positives >= least).collect()
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
        let f1 = privacy.f1_text(row.f1, 3);
        CodeRow { code: row.code.clone(), description: row.description.clone(), f1, cells }
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

/// The chapters that occur; nothing where there is none. On restricted data those of few pairs are left out, and the
/// pairs of those of which little would be left without the codes that are `told`.
pub(crate) fn chapters(
    split: &str,
    result: &SplitEvaluation,
    privacy: Privacy,
    rows: &[CodeResult],
    told: &[&CodeResult],
) -> Option<CodeTable> {
    let of = |row: &CodeResult| {
        let code = IcdCode::parse(row.system, &row.code).ok()?;
        let (range, _) = code.chapter()?;
        result.chapters.iter().position(|part| part.system == row.system && part.chapter == range)
    };
    let totals: Vec<u64> = result.chapters.iter().map(|part| part.positives).collect();
    let shown = shown_pairs(privacy, rows, told, &totals, of);
    let row = |(part, shown): (&ChapterPart, &bool)| {
        let value = |name: &str| {
            part.metrics.get(name).map_or_else(|| "–".to_owned(), |value| privacy.f1_text(*value, 3))
        };
        CodeRow {
            code: part.chapter.clone(),
            description: part.title.clone(),
            f1: value("micro_f1"),
            cells: vec![
                value("macro_f1_present_labels"),
                thousands(part.labels_present),
                if *shown { thousands(part.positives) } else { "–".to_owned() },
            ],
        }
    };
    let listed = result.chapters.iter().zip(&shown);
    let listed = listed.filter(|(part, _)| part.positives > 0 && privacy.shows(part.positives));
    let rows: Vec<CodeRow> = listed.map(row).collect();
    (!rows.is_empty()).then(|| CodeTable {
        caption: format!("Chapters, {split}; macro F1 over codes present"),
        of: "Chapter",
        measure: "Micro F1",
        columns: vec!["Macro F1", "Codes present", "Pairs"],
        rows,
    })
}

/// Of which groups of codes the pairs may be shown; `of` says to which group a code belongs.
pub(crate) fn shown_pairs(
    privacy: Privacy,
    rows: &[CodeResult],
    told: &[&CodeResult],
    totals: &[u64],
    of: impl Fn(&CodeResult) -> Option<usize>,
) -> Vec<bool> {
    let mut sums: Vec<Sum> = totals.iter().map(|total| Sum { total: *total, told: 0 }).collect();
    let mut others = Sum::default();
    for row in rows.iter().filter(|row| of(row).is_none()) {
        others.total += row.positives;
    }
    for row in told {
        of(row).map_or(&mut others, |at| &mut sums[at]).told += row.positives;
    }
    privacy.shown_sums(&sums, others)
}

#[cfg(test)]
mod tests {
    use plmicd_data::CodeSystem;

    use super::*;

    fn code(name: &str, positives: u64, train_count: Option<u64>) -> CodeResult {
        CodeResult {
            code: name.to_owned(),
            system: CodeSystem::Icd9Diagnosis,
            description: String::new(),
            train_count,
            positives,
            predicted: 1,
            true_positives: 1,
            precision: 0.0,
            recall: 0.0,
            f1: 0.123_456,
            auc: None,
            average_precision: None,
        }
    }

    #[test]
    fn restricted_tables_do_not_tell_what_is_not_listed() {
        let part = |chapter: &str, positives| ChapterPart {
            system: CodeSystem::Icd9Diagnosis,
            chapter: chapter.to_owned(),
            title: String::new(),
            labels: 2,
            labels_present: 2,
            positives,
            metrics: [("micro_f1".to_owned(), 0.123_456)].into(),
        };
        let result = SplitEvaluation {
            chapters: vec![part("240-279", 49), part("390-459", 50), part("460-519", 70)],
            ..SplitEvaluation::default()
        };
        // Of the first chapter 9 pairs are of a code that is not listed.
        let rows = [("250.00", 40), ("250.01", 9), ("428.0", 50), ("486", 70)]
            .map(|(name, positives)| code(name, positives, Some(99)));
        let config = ReportConfig::default();
        let table = |restricted| {
            let privacy = Privacy { restricted };
            let told = told(&config, privacy, &rows);
            chapters("test", &result, privacy, &rows, &told).unwrap()
        };
        let cells = |table: &CodeTable| -> Vec<String> {
            table.rows.iter().map(|row| format!("{} {}", row.f1, row.cells[2])).collect()
        };
        assert_eq!(cells(&table(false)), ["0.123 49", "0.123 50", "0.123 70"]);
        // Nothing else is left to be hidden behind: all other codes are told.
        assert_eq!(cells(&table(true)), ["0.12 –", "0.12 50", "0.12 70"]);
        let listed = Codes::of(&config, Privacy { restricted: true }, &rows);
        assert!(listed.tables.iter().flat_map(|table| &table.rows).all(|row| row.f1 == "0.12"));
        let listed = Codes::of(&config, Privacy { restricted: false }, &rows);
        assert!(listed.tables[0].rows.iter().all(|row| row.f1 == "0.123"));
    }

    #[test]
    fn without_train_counts_the_figure_tells_every_code() {
        let rows: Vec<CodeResult> = (0..9).map(|at| code(&at.to_string(), 8 + at, None)).collect();
        let config = ReportConfig { codes: 1, ..ReportConfig::default() };
        let told = |rows: &[CodeResult]| told(&config, Privacy { restricted: true }, rows).len();
        assert_eq!(told(&rows), 7);
        let known: Vec<CodeResult> =
            rows.iter().map(|row| CodeResult { train_count: Some(50), ..row.clone() }).collect();
        assert_eq!(told(&known), 2);
    }
}

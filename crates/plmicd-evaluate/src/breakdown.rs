//! The same metrics over parts: diagnoses and procedures, frequent and rare codes, chapters; and at coarser levels.

use std::collections::BTreeMap;

use plmicd_data::{ChapterPart, CodeSystem, FrequencyBin, IcdCode, Label, LabelSpace};
use plmicd_metrics::summary::{of_counts, of_decisions};
use plmicd_metrics::{LabelCounts, Predictions, Truth, mean_and_deviation};

/// Fewest and most train notes of each bin.
const BINS: [(u64, Option<u64>); 6] =
    [(0, Some(0)), (1, Some(5)), (6, Some(10)), (11, Some(50)), (51, Some(100)), (101, None)];

/// Metrics over the labels of the diagnosis and of the procedure systems, where the label space has both.
pub(crate) fn by_system(
    counts: &LabelCounts,
    labels: &LabelSpace,
) -> BTreeMap<String, BTreeMap<String, f64>> {
    let labels = labels.labels();
    let diagnoses = counts.subset(|label| labels[label].system.is_diagnosis());
    let procedures = counts.subset(|label| labels[label].system.is_procedure());
    if diagnoses.positives.is_empty() || procedures.positives.is_empty() {
        return BTreeMap::new();
    }
    [("diagnoses", diagnoses), ("procedures", procedures)]
        .into_iter()
        .map(|(name, counts)| (name.to_owned(), of_counts(&counts)))
        .collect()
}

/// Metrics over the labels of each bin of train counts. The areas say how well codes without any train note are
/// told apart, whatever the threshold (zero-shot).
pub(crate) fn by_frequency(
    counts: &LabelCounts,
    train: &[u64],
    areas: &[Option<f64>],
    precisions: &[Option<f64>],
) -> Vec<FrequencyBin> {
    BINS.into_iter()
        .map(|(at_least, at_most)| {
            let inside =
                |label: usize| train[label] >= at_least && at_most.is_none_or(|most| train[label] <= most);
            let part = counts.subset(inside);
            let mut metrics = if part.positives.is_empty() { BTreeMap::new() } else { of_counts(&part) };
            for (name, values) in [("macro_auc", areas), ("macro_average_precision", precisions)] {
                let defined: Vec<f64> = (0..train.len())
                    .filter(|label| inside(*label))
                    .filter_map(|label| values[label])
                    .collect();
                metrics.extend(mean_and_deviation(&defined).map(|(mean, _)| (name.to_owned(), mean)));
            }
            FrequencyBin {
                at_least,
                at_most,
                labels: part.positives.len() as u64,
                labels_present: part.positives.iter().filter(|count| **count > 0).count() as u64,
                positives: part.positives.iter().sum(),
                metrics,
            }
        })
        .collect()
}

/// Metrics over the labels of each chapter, in the order of systems and ranges. Labels outside every chapter are left
/// out.
pub(crate) fn by_chapter(counts: &LabelCounts, labels: &LabelSpace) -> Vec<ChapterPart> {
    let mut members: BTreeMap<(CodeSystem, String), (&'static str, Vec<usize>)> = BTreeMap::new();
    for (index, label) in labels.labels().iter().enumerate() {
        let code = IcdCode::parse(label.system, &label.code).ok();
        if let Some((range, title)) = code.and_then(|code| code.chapter()) {
            members.entry((label.system, range)).or_insert_with(|| (title, Vec::new())).1.push(index);
        }
    }
    members
        .into_iter()
        .map(|((system, chapter), (title, inside))| {
            // The labels of a chapter are in ascending order.
            let part = counts.subset(|label| inside.binary_search(&label).is_ok());
            ChapterPart {
                system,
                chapter,
                title: title.to_owned(),
                labels: part.positives.len() as u64,
                labels_present: part.positives.iter().filter(|count| **count > 0).count() as u64,
                positives: part.positives.iter().sum(),
                metrics: of_counts(&part),
            }
        })
        .collect()
}

/// Metrics at the level of categories (what stands before the dot) and of chapters. A code that does not have its
/// system's form, or is of no ICD system, stands for itself. A level at which every code does says nothing new and is
/// left out.
pub(crate) fn by_level(
    predictions: &Predictions,
    truth: &Truth,
    labels: &LabelSpace,
) -> BTreeMap<String, BTreeMap<String, f64>> {
    let levels: [(&str, GroupOf); 2] = [
        ("category", |code| (code.system() != CodeSystem::Other).then(|| code.category().to_owned())),
        ("chapter", |code| code.chapter().map(|(range, _)| range)),
    ];
    levels
        .into_iter()
        .map(|(name, group)| (name, groups(labels.labels(), group)))
        .filter(|(_, (_, groups))| *groups < labels.len())
        .map(|(name, (group_of, groups))| {
            let truth = truth.grouped(&group_of, groups);
            let mut metrics = of_decisions(&predictions.grouped(&group_of, groups), &truth);
            metrics.insert("groups".to_owned(), groups as f64);
            (name.to_owned(), metrics)
        })
        .collect()
}

/// Names the group that a code belongs to, if it has one.
type GroupOf = fn(&IcdCode) -> Option<String>;

/// The group of each label and how many there are, numbered in the order of their first label.
fn groups(labels: &[Label], group: GroupOf) -> (Vec<u32>, usize) {
    let mut numbers = BTreeMap::new();
    let group_of = labels
        .iter()
        .map(|label| {
            let of_code = IcdCode::parse(label.system, &label.code).ok().and_then(|code| group(&code));
            let name = of_code.unwrap_or_else(|| label.code.clone());
            let next = numbers.len() as u32;
            *numbers.entry((label.system, name)).or_insert(next)
        })
        .collect();
    (group_of, numbers.len())
}

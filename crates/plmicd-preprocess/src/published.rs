//! What published studies count on the same data, beside what is found: differences are reported, not hidden.

use plmicd_data::{CorpusStats, PublishedCount, Split, kind};

use crate::config::{CodeKinds, CodeLevel, Cohort, Compat, IcdVersion, PreprocessConfig, Splits};

/// The published counts that apply to a cohort; `list`: how many labels are given as a list.
fn known(config: &PreprocessConfig, list: Option<usize>, source: &str) -> Vec<(&'static str, u64)> {
    let given = matches!(config.splits, Splits::Published | Splits::Caml);
    let everything = config.codes == CodeKinds::All && config.code_level == CodeLevel::Full;
    let (caml, rare) = (config.compat == Compat::Caml, config.min_code_frequency == 1);
    let top_50 = config.cohort == Cohort::Top && config.top_codes == 50;
    match source {
        _ if !everything => Vec::new(),
        // The 50 codes of CAML on its admissions, codes read as text (Edin et al. 2023).
        kind::MIMIC3 if list == Some(50) && config.splits == Splits::Caml50 && !caml => {
            vec![("train notes", 8066), ("dev notes", 1573), ("test notes", 1729), ("labels", 50)]
        }
        _ if list.is_some() => Vec::new(),
        // Mullenbach et al. 2018; as counted by Edin et al. 2023 and by runs of both ways of reading.
        kind::MIMIC3 if given && rare && config.cohort == Cohort::Full => {
            let mut counts = vec![("train notes", 47_719), ("dev notes", 1631), ("test notes", 3372)];
            if caml {
                counts.push(("labels", 8921));
            } else {
                counts.extend([
                    ("labels", 8929),
                    ("train codes", 748_306),
                    ("dev codes", 28_402),
                    ("test codes", 60_666),
                    ("labels in train", 8692),
                    ("labels in dev", 3012),
                    ("labels in test", 4085),
                ]);
            }
            counts
        }
        kind::MIMIC3 if !config.splits.are_made() && caml && top_50 => vec![
            ("train notes", 8066),
            ("dev notes", 1573),
            ("test notes", 1729),
            ("labels", 50),
            ("train codes", 45_919),
            ("dev codes", 9283),
            ("test codes", 10_477),
        ],
        kind::MIMIC3
            if config.splits.are_made()
                && config.cohort == Cohort::Full
                && config.min_code_frequency == 10 =>
        {
            vec![("notes", 52_712), ("labels", 3681)]
        }
        kind::MIMIC2 if given && rare && config.cohort == Cohort::Full => {
            vec![("train notes", 19_392), ("dev notes", 1141), ("test notes", 2282), ("labels", 5031)]
        }
        kind::MIMIC4 if config.cohort == Cohort::Full && config.min_code_frequency == 10 => {
            match config.icd_version {
                IcdVersion::Icd9 => vec![("notes", 209_326)],
                IcdVersion::Icd10 => vec![("notes", 122_279)],
            }
        }
        _ => Vec::new(),
    }
}

/// Published counts beside ours; `list`: how many labels are given as a list, where they are.
pub fn compare(config: &PreprocessConfig, list: Option<usize>, stats: &CorpusStats) -> Vec<PublishedCount> {
    let found = |quantity: &str| -> u64 {
        let of = |name: &str| {
            let split = Split::ALL.into_iter().find(|split| split.as_str() == name);
            split.and_then(|split| stats.splits.get(&split))
        };
        match quantity.split(' ').collect::<Vec<_>>().as_slice() {
            ["labels"] => stats.labels,
            ["notes"] => stats.splits.values().map(|split| split.notes).sum(),
            ["labels", "in", split] => of(split).map_or(0, |split| split.labels_present),
            [split, "notes"] => of(split).map_or(0, |split| split.notes),
            [split, _] => of(split).map_or(0, |split| split.codes.total),
            _ => 0,
        }
    };
    known(config, list, &stats.source)
        .into_iter()
        .map(|(quantity, published)| PublishedCount {
            quantity: quantity.to_owned(),
            published,
            found: found(quantity),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use plmicd_data::{SplitStats, Summary};

    use super::*;

    #[test]
    fn each_quantity_is_looked_up() {
        let split = |notes| SplitStats {
            notes,
            subjects: notes,
            words: Summary::default(),
            codes: Summary::of(vec![notes, 2]),
            labels_present: notes + 1,
            ..SplitStats::default()
        };
        let stats = CorpusStats {
            source: kind::MIMIC3.to_owned(),
            splits: BTreeMap::from([
                (Split::Train, split(7)),
                (Split::Dev, split(5)),
                (Split::Test, split(3)),
            ]),
            labels: 8929,
            ..CorpusStats::default()
        };
        let found: Vec<(String, u64)> = compare(&PreprocessConfig::default(), None, &stats)
            .into_iter()
            .map(|count| (count.quantity, count.found))
            .collect();
        let wanted = [
            ("train notes", 7),
            ("dev notes", 5),
            ("test notes", 3),
            ("labels", 8929),
            ("train codes", 9),
            ("dev codes", 7),
            ("test codes", 5),
            ("labels in train", 8),
            ("labels in dev", 6),
            ("labels in test", 4),
        ];
        assert_eq!(found, wanted.map(|(name, count)| (name.to_owned(), count)));
        let chapters = PreprocessConfig { code_level: CodeLevel::Chapter, ..PreprocessConfig::default() };
        assert!(compare(&chapters, None, &stats).is_empty());
        let clean = PreprocessConfig {
            splits: Splits::Stratified,
            min_code_frequency: 10,
            ..PreprocessConfig::default()
        };
        assert_eq!(compare(&clean, None, &stats).iter().map(|c| c.found).collect::<Vec<_>>(), [15, 8929]);
        let listed = |splits, list| {
            let config = PreprocessConfig { splits, ..PreprocessConfig::default() };
            compare(&config, Some(list), &stats).into_iter().map(|c| c.published).collect::<Vec<_>>()
        };
        assert_eq!(listed(Splits::Caml50, 50), [8066, 1573, 1729, 50]);
        assert!(listed(Splits::Caml50, 49).is_empty() && listed(Splits::Caml, 8929).is_empty());
    }
}
